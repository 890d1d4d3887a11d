"""What a model does in a run: the words, in one place."""

from __future__ import annotations

ROLES = ("diffusion", "guide", "image_text", "checker", "verifier", "judge")
STEERING = ("guide", "image_text", "checker")
"""The models besides the diffusion model whose gradients an edit may follow."""
WITNESSES = ("judge", "verifier", "checker")
"""Those that say of a saved image what it is, the most independent first."""
ACCEPTING = ("verifier", "checker")
"""Those that accept an edit or send it up the ladder: the first that there is."""
CLASSIFIERS = ("guide", "checker", "verifier", "judge")
JOINED = "+"
"""Between the hashes of the models of one role, where it has several."""
DESCRIBED = ":"
"""Between the sha256 of a file and that of its description, in the hash of a classifier that needs one."""


def file_hashes(sha256: str) -> set[str]:
    """The sha256 of every file in the hash of a role, without those of descriptions: a model is the same however it is
    described."""
    return {part.partition(DESCRIBED)[0] for part in sha256.split(JOINED) if part}


def nth(role: str, k: int) -> str:
    """What a weights folder calls the model k, from 0, of a role: ROLE, ROLE-2, ROLE-3."""
    return role if not k else f"{role}-{k + 1}"


def option(role: str) -> str:
    """The option that names the model of a role."""
    return "--" + role.replace("_", "-")


def in_words(role: str) -> str:
    """A role with its article, for messages."""
    return "an image-text model" if role == "image_text" else f"a {role}"
