"""MedMNIST and MedMNIST+ by name (`pathmnist_64`): where their package keeps the files, and what labels mean."""

from __future__ import annotations

import re
from pathlib import Path

from cfdiff.errors import UserError
from cfdiff.files import is_there

_ORGANS: tuple[str, ...] = (
    "bladder",
    "femur-left",
    "femur-right",
    "heart",
    "kidney-left",
    "kidney-right",
    "liver",
    "lung-left",
)
_ORGANS += ("lung-right", "pancreas", "spleen")
CLASSES: dict[str, tuple[str, ...]] = {
    "pathmnist": ("adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle", "normal colon mucosa")
    + ("cancer-associated stroma", "colorectal adenocarcinoma epithelium"),
    "dermamnist": ("actinic keratoses and intraepithelial carcinoma", "basal cell carcinoma")
    + ("benign keratosis-like lesions", "dermatofibroma", "melanoma", "melanocytic nevi", "vascular lesions"),
    "octmnist": ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
    "pneumoniamnist": ("normal", "pneumonia"),
    "retinamnist": ("0", "1", "2", "3", "4"),
    "breastmnist": ("malignant", "normal, benign"),
    "bloodmnist": ("basophil", "eosinophil", "erythroblast")
    + ("immature granulocytes(myelocytes, metamyelocytes and promyelocytes)", "lymphocyte", "monocyte")
    + ("neutrophil", "platelet"),
    "tissuemnist": ("Collecting Duct, Connecting Tubule", "Distal Convoluted Tubule", "Glomerular endothelial cells")
    + ("Interstitial endothelial cells", "Leukocytes", "Podocytes", "Proximal Tubule Segments", "Thick Ascending Limb"),
    "organamnist": _ORGANS,
    "organcmnist": _ORGANS,
    "organsmnist": _ORGANS,
}
"""Set -> the names of its labels 0, 1, ..., as medmnist.INFO has them. In breastmnist 0 is the malignant one."""
SIZES = (28, 64, 128, 224)
NAME = re.compile(rf"({'|'.join(CLASSES)}|chestmnist)(?:_({'|'.join(map(str, SIZES))}))?")


def classes_of(stem: str) -> tuple[str, ...] | None:
    """The names of the labels of a file of that name, without its ending; None where it is none of MedMNIST."""
    found = NAME.fullmatch(stem)
    return None if found is None else CLASSES.get(found[1])


def by_name(spec: str) -> Path | None:
    """The file that `spec` is the name of, in `.medmnist` of the home folder; None where it is no such name.

    Raises:
        UserError: it is one, and the file is not there.
    """
    found = NAME.fullmatch(spec)
    if found is None or is_there(Path(spec)):
        return None
    size = int(found[2] or SIZES[0])
    path = Path.home() / ".medmnist" / f"{found[1]}{'' if size == SIZES[0] else f'_{size}'}.npz"
    if not path.is_file():
        kind = {"organ": "Organ", "octmn": "OCT"}.get(found[1][:5], found[1][:-5].capitalize())
        kind += found[1][5].upper() if kind == "Organ" else ""
        raise UserError(
            f"{spec} is a set of MedMNIST, and there is no {path.name} in .medmnist of your home folder: fetch it with "
            f"medmnist.{kind}MNIST(split='train', size={size}, download=True), or give the .npz itself."
        )
    return path
