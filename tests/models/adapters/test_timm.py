from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from cfdiff.errors import UserError
from cfdiff.models.features import judge_features
from cfdiff.models.foreign import load_classifier
from cfdiff.roles import file_hashes

ARCH, KWARGS = "resnet10t", {"channels": [8, 16, 16, 16], "stem_width": 8}
MODEL = {"arch": ARCH, "kwargs": KWARGS}


def saved(five: Any, path: Path, before: str = "", **told: Any) -> Path:
    save_file({before + key: value.contiguous() for key, value in five.net.state_dict().items()}, path)
    return five.described(path, **{**MODEL, **told})


@pytest.fixture
def hub(five: Any, tmp_path: Path) -> Path:
    """A folder as timm writes it; its own normalisation is ImageNet's, its size that of the architecture."""
    five.net.pretrained_cfg["input_size"] = (3, 32, 32)
    timm.models.save_for_hf(five.net, tmp_path / "hub", safe_serialization=True)
    return five.described(tmp_path / "hub", normalisation=None, channels=None, size=None)


@pytest.mark.parametrize("before", ["", "module.", "model.net."])
def test_a_state_dict_says_what_the_network_says(five: Any, tmp_path: Path, before: str) -> None:
    model = load_classifier(saved(five, tmp_path / "mine.safetensors", before))
    assert five.agrees(model.net) and model.name == "mine"
    model.net.check((32, 32, 3), steers=True)


def test_the_number_of_classes_is_read_off_the_last_layer_and_may_be_said(five: Any, tmp_path: Path) -> None:
    assert five.agrees(load_classifier(saved(five, tmp_path / "mine.safetensors", num_classes=5)).net)
    with pytest.raises(UserError, match="does not fit timm's 'resnet10t' with 4 classes"):
        load_classifier(saved(five, tmp_path / "mine.safetensors", num_classes=4))


def test_a_folder_of_the_hub_says_all_but_classes_and_output(five: Any, hub: Path) -> None:
    model = load_classifier(hub)
    assert five.agrees(model.net)
    told = model.net.description
    assert told.arch == ARCH and told.size == (32, 32) and told.interpolation == "bicubic" and told.num_classes == 5
    (hub / "cfdiff.toml").unlink()
    with pytest.raises(UserError, match=r"nobody says classes and output.*write cfdiff.toml beside it"):
        load_classifier(hub)


def test_a_description_wins_over_the_folder(five: Any, hub: Path) -> None:
    five.described(hub, normalisation="unit", size=24)
    told = load_classifier(hub).net.description
    assert told.normalisation == "unit" and told.size == (24, 24)


def test_a_folder_with_a_part_missing_or_with_a_pickle_alone(five: Any, hub: Path, tmp_path: Path) -> None:
    shutil.copytree(hub, tmp_path / "half")
    (tmp_path / "half" / "model.safetensors").unlink()
    with pytest.raises(UserError, match="safe_serialization=True"):
        load_classifier(tmp_path / "half")
    shutil.copytree(hub, tmp_path / "other")
    (tmp_path / "other" / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(UserError, match="no config of a timm model"):
        load_classifier(tmp_path / "other")
    (tmp_path / "other" / "config.json").unlink()
    with pytest.raises(UserError, match="holds no config.json"):
        load_classifier(tmp_path / "other")


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"arch": None}, "nobody says of which timm model"),
        ({"arch": "resnet10"}, "timm knows no model 'resnet10'"),
        ({"arch": "hf-hub:somebody/model"}, "timm knows no model"),
        ({"arch": "regnetx_002", "num_classes": 5, "kwargs": None}, "does not fit timm's 'regnetx_002'"),
        ({"channels": 1, "normalisation": "unit"}, "is 6x3x3x3 and not 6x1x3x3"),
        ({"kwargs": {**KWARGS, "checkpoint_path": "x.pth"}}, "is refused"),
        ({"kwargs": {"channels": "many"}}, "timm cannot build"),
    ],
)
def test_what_does_not_build_is_said_in_one_sentence(five: Any, tmp_path: Path, told: Any, said: str) -> None:
    with pytest.raises(UserError) as refused:
        load_classifier(saved(five, tmp_path / "mine.safetensors", **told))
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_a_truncated_file_is_damaged_and_not_somebody_elses(five: Any, tmp_path: Path) -> None:
    path = saved(five, tmp_path / "mine.safetensors")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match="truncated or damaged"):
        load_classifier(path)


def test_the_hash_is_of_file_and_description(five: Any, tmp_path: Path) -> None:
    one = load_classifier(saved(five, tmp_path / "mine.safetensors"))
    other = load_classifier(saved(five, tmp_path / "mine.safetensors", classes="1,3"))
    assert one.sha256 != other.sha256 and file_hashes(one.sha256) == file_hashes(other.sha256)


def test_a_judge_of_timm_has_features(five: Any, tmp_path: Path) -> None:
    model = load_classifier(saved(five, tmp_path / "mine.safetensors"))
    features = judge_features(model, torch.device("cpu"))(five.images)
    assert features.shape == (4, 16) and five.agrees(model.net), "the judge itself keeps its last layer"
