"""A local folder as diffusers saves one, read without diffusers: which files there are, and what they say.

Either the folder of a pipeline (model_index.json, unet/ or transformer/, scheduler/ and perhaps vae/), or that of the
network itself (config.json and weights) with a scheduler_config.json in it or in scheduler/.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from cfdiff.errors import UserError
from cfdiff.files import parse_json, parse_toml

COMPONENTS = ("unet", "transformer")
STEM = "diffusion_pytorch_model"
BESIDE = "cfdiff.toml"
"""What a user says of a folder, beside its config: `classes = [0, 1]`, `nothing = 2`, `tokens = "zeros"`."""


class Beside(BaseModel):
    """The entries of `BESIDE`.

    Attributes:
        classes: the network's own indices of negative and positive.
        nothing: that of the class which means none.
        tokens: "zeros" for a network that was trained with zeros in the place of a text.
        texts: what a network that reads texts calls negative and positive.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    classes: tuple[int, int] | None = None
    nothing: int | None = None
    tokens: str | None = None
    texts: tuple[str, str] | None = None


@dataclass(frozen=True)
class Folder:
    """The folder that the user named, that of its network in it, and the pipeline's index, which may be empty."""

    path: Path
    network: Path
    index: dict[str, Any]

    @property
    def root(self) -> Path:
        """Where scheduler/ and vae/ would be."""
        return self.network.parent if self.index else self.network

    @cached_property
    def config(self) -> dict[str, Any]:
        """The network's config.json."""
        return read_json(self.network / "config.json", self.path)

    @cached_property
    def scheduler(self) -> dict[str, Any]:
        """The scheduler's config."""
        return read_json(self._scheduler_file, self.path)

    @cached_property
    def beside(self) -> Beside:
        """What the user says of the folder; UserError where that cannot be read."""
        path = self._beside_file
        if path is None:
            return Beside()
        try:
            return Beside(**parse_toml(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, ValidationError, TypeError) as error:
            raise UserError(
                f"{BESIDE} in {self.path.name} may say classes = [NEGATIVE, POSITIVE], nothing = INDEX, "
                'tokens = "zeros" and texts = ["NEGATIVE", "POSITIVE"], and cannot be read as that: mend it.'
            ) from error

    @property
    def reads_text(self) -> bool:
        """Whether the pipeline has a text encoder."""
        return bool(self.text_kinds)

    @property
    def text_kinds(self) -> list[Any]:
        """The classes of the pipeline's text encoders."""
        found = [self.index.get(name) for name in ("text_encoder", "text_encoder_2")]
        return [kind[-1] for kind in found if isinstance(kind, list) and _is_there(kind)]

    @property
    def vae(self) -> Path | None:
        """The folder of the pipeline's autoencoder; None where it runs on pixels."""
        folder = next((name for name in ("vae", "vqvae") if _is_there(self.index.get(name))), None)
        return None if folder is None else self.root / folder

    @cached_property
    def weights(self) -> tuple[Path, ...]:
        """The safetensors files of the network.

        Raises:
            UserError: one is missing, or there are only pickles.
        """
        return weight_files(self.network, self.path)

    @cached_property
    def sha256(self) -> str:
        """One hash of all that makes the model: names and bytes of configs, weights and autoencoder."""
        files = [self.network / "config.json", self._scheduler_file, *self.weights]
        files += [path for path in [self._beside_file] if path is not None]
        if self.vae is not None:
            files += [self.vae / "config.json", *weight_files(self.vae, self.path)]
        if self.reads_text and self.beside.tokens != "zeros":
            for part in (self.root / "text_encoder", self.root / "tokenizer"):
                files += sorted(path for path in part.glob("*") if path.suffix in (".json", ".txt", ".safetensors"))
        whole = hashlib.sha256()
        for path in files:
            whole.update(f"{path.relative_to(self.root).as_posix()}\n".encode())
            with open(path, "rb") as file:
                whole.update(hashlib.file_digest(file, "sha256").digest())
        return whole.hexdigest()

    @property
    def _beside_file(self) -> Path | None:
        paths = (self.network / BESIDE, self.root / BESIDE)
        return next((path for path in paths if path.is_file()), None)

    @property
    def _scheduler_file(self) -> Path:
        name = "scheduler_config.json"
        paths = [self.root / "scheduler" / name] + ([] if self.index else [self.network / name])
        found = next((path for path in paths if path.is_file()), None)
        if found is None and self.index:
            raise _half(self.path, f"scheduler/{name}")
        if found is None:
            raise UserError(
                f"{self.path.name} says nothing of the noise that its network was trained on: put the "
                f"{name} of its training into it, or give the folder of the whole pipeline."
            )
        return found


def open_folder(path: Path) -> Folder:
    """The folder of a pipeline or of a network; UserError where it is neither, or half-copied."""
    if (path / "model_index.json").is_file():
        index = read_json(path / "model_index.json", path)
        names = [name for name in COMPONENTS if _is_there(index.get(name))]
        if not names:
            raise UserError(
                f"The pipeline {path.name} holds no {' and no '.join(COMPONENTS)}: give that of a diffusion model."
            )
        return Folder(path, path / names[0], index)
    if not (path / "config.json").is_file():
        raise UserError(
            f"The folder {path.name!r} holds no diffusion model of diffusers, which has a model_index.json or a "
            "config.json: give such a folder, or the .safetensors file of one of ours."
        )
    index_file = path.parent / "model_index.json"
    if path.name in COMPONENTS and index_file.is_file():
        return Folder(path, path, read_json(index_file, path))
    return Folder(path, path, {})


def content_hash(component: Path, where: Path) -> str:
    """sha256 (hex) of the config.json and the weights of a component of the folder `where`, in this order."""
    whole = hashlib.sha256()
    for path in (component / "config.json", *weight_files(component, where)):
        whole.update(path.read_bytes())
    return whole.hexdigest()


def variant_of(files: Sequence[Path]) -> str | None:
    """The word before `.safetensors` of weights, such as fp16, where there are none without one."""
    words = files[0].name.split(".")[1:-1]
    return words[-1] if words else None


def read_json(path: Path, where: Path) -> dict[str, Any]:
    """The object in a file of the folder `where`; UserError where it is missing or no JSON object."""
    try:
        told = parse_json(path.read_text())
    except OSError as error:
        raise _half(where, _within(path, where)) from error
    except ValueError as error:
        raise UserError(f"{_within(path, where)} in {where.name} is no valid JSON: copy the folder again.") from error
    if not isinstance(told, dict):
        raise UserError(f"{_within(path, where)} in {where.name} is no JSON object: copy the folder again.")
    return told


def weight_files(folder: Path, where: Path) -> tuple[Path, ...]:
    """The safetensors files of a network's folder, all shards of it; those without a variant (fp16) first choice.

    Raises:
        UserError: one is missing, or there are only pickles.
    """
    whole = sorted(folder.glob(f"{STEM}*.safetensors"), key=lambda path: (path.name.count("."), path.name))
    indices = sorted(
        folder.glob(f"{STEM}*.safetensors.index*.json"), key=lambda path: (path.name.count("."), path.name)
    )
    single = next((path for path in whole if "-of-" not in path.name), None)
    if single is not None and (not indices or single.name.count(".") < 2):
        return (single,)
    if indices:
        shards = read_json(indices[0], where).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise UserError(f"{_within(indices[0], where)} in {where.name} names no files: copy the folder again.")
        paths = tuple(folder / Path(str(name)).name for name in sorted(set(shards.values())))
        missing = next((path for path in paths if not path.is_file()), None)
        if missing is not None:
            raise _half(where, _within(missing, where))
        return paths
    if any(path.suffix in (".bin", ".pt", ".pth", ".ckpt") for path in folder.iterdir()):
        raise UserError(
            f"The weights in {where.name} are pickled, which can run any code when opened: they are refused; save them "
            "with save_pretrained(FOLDER, safe_serialization=True)."
        )
    raise _half(where, _within(folder / f"{STEM}.safetensors", where))


def _half(where: Path, what: str) -> UserError:
    return UserError(f"The folder {where.name} is not all there, for it lacks {what}: copy it again, whole.")


def _within(path: Path, where: Path) -> str:
    return path.relative_to(where).as_posix() if path.is_relative_to(where) else path.name


def _is_there(entry: Any) -> bool:
    """Whether a model_index.json names a component: ["library", "Class"], where [null, null] is none."""
    return isinstance(entry, list) and len(entry) == 2 and entry[1] is not None
