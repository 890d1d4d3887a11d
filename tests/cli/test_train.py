from __future__ import annotations

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cfdiff.cli.app import main


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of sources: fine (18x18 and 16x16), and with one class only."""
    folder = tmp_path_factory.mktemp("data")
    labels = np.array(["negative", "positive"])[np.arange(40) % 2]
    for name, size in (("odd", 18), ("fine", 16)):
        np.savez(folder / f"{name}.npz", images=np.zeros((40, size, size), dtype=np.uint8), labels=labels)
    split = np.array(["train"] * 20 + ["val"] * 20)
    one = np.where(split == "train", "negative", labels)
    np.savez(folder / "one.npz", images=np.zeros((40, 16, 16), dtype=np.uint8), labels=one, split=split)
    with h5py.File(folder / "nan.h5", "w") as file:
        file["images"] = np.full((40, 16, 16), np.nan, dtype=np.float32)
        file["labels"] = labels.tolist()
    torch.save({"a": torch.zeros(1)}, folder / "pickled.pth")
    save_file({"a": torch.zeros(1)}, folder / "foreign.safetensors")
    (folder / "typo.toml").write_text("step = 3\n")
    (folder / "a-file").touch()
    return folder


def cfdiff(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int | str | None:
    monkeypatch.setattr(sys, "argv", ["cfdiff", *arguments])
    try:
        main()
    except SystemExit as ended:
        return ended.code
    return 0


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("train-diffusion --data odd.npz --mult 1,2,3", "divisible by 8, but the images are 18x18"),
        ("train-diffusion --data fine.npz --out a-file/x", "cannot be written"),
        ("train-diffusion --data fine.npz --config typo.toml", "did you mean steps"),
        ("train-diffusion --data fine.npz --split train", "has no splits"),
        ("train-diffusion --data fine.npz --negative healthy", "healthy"),
        ("train-diffusion --data none.npz", "There is no data at 'none.npz'"),
        ("train-diffusion --data fine.npz --mult 1,x", "mult"),
        ("train-classifier --data one.npz", "has no image of class 'positive'"),
        ("train-classifier --data fine.npz --arch resnet14", "did you mean"),
        ("train-classifier --data fine.npz --arch inception_v3", "cannot take images of 16x16"),
        ("train-classifier --data fine.npz --pretrained pickled.pth", "pickled checkpoint"),
        ("train-classifier --data fine.npz --pretrained foreign.safetensors", "no tensor that fits"),
        ("train-classifier --data fine.npz --kwargs {", "wants a JSON object"),
        ('train-classifier --data fine.npz --kwargs {"checkpoint_path":"x"}', "'checkpoint_path' is refused"),
        ('train-classifier --data fine.npz --kwargs {"pretrained":true}', "--pretrained"),
        ("train-classifier --data fine.npz --arch hf-hub:a/resnet18", "knows no model"),
        ("train-classifier --data fine.npz --device gpu", "this machine has cpu"),
        ("train-classifier --data fine.npz --seed -1", "seed"),
        ("train-diffusion --data nan.h5", "NaN"),
    ],
)
def test_bad_input_is_one_sentence_exit_2_and_nothing_written(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: str, said: str
) -> None:
    monkeypatch.chdir(data)
    before = sorted(data.rglob("*"))
    assert cfdiff(monkeypatch, *line.split()) == 2
    error = capsys.readouterr().err
    assert said in error and error.startswith("Error: ") and error.count("\n") == 1
    assert sorted(data.rglob("*")) == before


def test_help_has_panels_and_needs_no_torch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in [m for m in sys.modules if m.startswith("cfdiff.cli.train")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "torch", None)  # importing it now fails
    for name in ("train-diffusion", "train-classifier"):
        assert cfdiff(monkeypatch, name, "--help") == 0
        text = capsys.readouterr().out
        assert all(f"─ {panel} ─" in text for panel in ("Data", "Model", "Optimisation", "Output", "Run"))


def test_a_judge_has_a_folder_of_its_own(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    labels, splits = np.arange(40) % 2, np.array(["train-guide", "train-judge", "val", "test"])[np.arange(40) // 10]
    named = np.array(["negative", "positive"])[labels]
    np.savez(tmp_path / "cells.npz", images=np.zeros((40, 16, 16), dtype=np.uint8), labels=named, split=splits)
    tiny = '{"channels":[8,8,8,8],"stem_width":8}'
    quick = f"--data cells.npz --arch resnet10t --kwargs {tiny} --steps 1 --batch-size 4 --device cpu"
    for line in ("", "--clean", "--clean --split train-judge"):
        assert cfdiff(monkeypatch, "train-classifier", *quick.split(), *line.split()) == 0
    folders = sorted(p.name for p in (tmp_path / "runs").iterdir())
    assert folders == ["checker-cells.npz", "guide-cells.npz", "judge-cells.npz"]
