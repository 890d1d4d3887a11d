"""What a model does in a run: the words, in one place."""

from __future__ import annotations

ROLES = ("diffusion", "guide", "checker", "verifier", "judge")
STEERING = ("guide", "checker")
"""The classifiers whose gradients an edit may follow."""
WITNESSES = ("judge", "verifier", "checker")
"""Those that say of a saved image what it is, the most independent first."""
ACCEPTING = ("verifier", "checker")
"""Those that accept an edit or send it up the ladder: the first that there is."""
CLASSIFIERS = ("guide", "checker", "verifier", "judge")
JOINED = "+"
"""Between the hashes of the models of one role, where it has several."""
