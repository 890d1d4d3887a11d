"""That pairs teach the cause where images teach a confound, and what a training leaves behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cfdiff.errors import UserError
from cfdiff.models.checkpoint import load_model
from cfdiff.supervise.contrast import Contrast, share_of
from cfdiff.supervise.pairs import read_pairs
from cfdiff.supervise.run import supervise
from cfdiff.train.batches import Batches
from cfdiff.train.classifier import train_classifier
from cfdiff.train.data import open_training_data
from cfdiff.train.settings import ClassifierSettings

Make = Callable[..., Any]


def test_pairs_repair_what_images_alone_get_wrong(quick: Make, make_pairs: Make, tmp_path: Path) -> None:
    """In every test image the corner speaks against the cross: whoever follows it is wrong in all of them."""
    plain = supervise(quick(out=tmp_path / "plain"))
    taught = supervise(quick(make_pairs(), out=tmp_path / "taught", pairs_share=0.75, steps=120))
    assert plain.training.val_accuracy > 0.85 and plain.test.accuracy < 0.5
    assert taught.test.accuracy > 0.8 and taught.test.n == 80 and taught.test.over == "groups"
    assert set(taught.test.recalls) == {"healthy", "sick"} and plain.pairs is None
    assert json.loads((tmp_path / "taught" / "test.json").read_text())["test"]["accuracy"] == taught.test.accuracy


@pytest.mark.parametrize("invariance", ["gradient", "features"])
def test_an_invariance_changes_what_is_learned(quick: Make, make_pairs: Make, tmp_path: Path, invariance: str) -> None:
    run = make_pairs(np.arange(40))
    few = {"steps": 4, "eval_every": 4, "noise": 0.1}
    with_it, off, without = (
        load_file(supervise(quick(run, out=tmp_path / str(k), **few, **more)).training.model)
        for k, more in enumerate(
            ({"invariance": invariance}, {"invariance": invariance, "invariance_weight": 0}, {"invariance": "none"})
        )
    )
    assert any(not torch.equal(with_it[k], without[k]) for k in without)
    if invariance == "gradient":  # the features' term also shows the batch norm its varied images
        assert all(torch.allclose(off[k].float(), without[k].float(), atol=1e-3) for k in without)


def test_a_gradient_invariant_classifier_looks_less_outside_the_map(
    quick: Make, make_pairs: Make, world: Path, tmp_path: Path
) -> None:
    """Of pairs that teach no class, so that the term alone makes the difference."""
    run = make_pairs()
    images = torch.from_numpy(dict(np.load(world))["images"][:64].transpose(0, 3, 1, 2) / 127.5 - 1).float()
    shares = []
    for k, more in enumerate(({}, {"invariance": "gradient", "invariance_weight": 3.0})):
        model = load_model(supervise(quick(run, out=tmp_path / str(k), pairs_weight=0, **more)).training.model)
        x = images.clone().requires_grad_()
        logits = model.net(x)
        (slope,) = torch.autograd.grad((logits[:, 1] - logits[:, 0]).sum(), x)
        inside = slope[:, :, 2:14, 2:14].square().sum((1, 2, 3)) / slope.square().sum((1, 2, 3))
        shares.append(1 - float(inside.mean()))
    assert shares[1] < 0.8 * shares[0]


def test_plain_training_is_that_of_train_classifier(quick: Make, world: Path, tmp_path: Path) -> None:
    few = {"steps": 6, "eval_every": 6}
    s = quick(out=tmp_path / "plain", **few)
    other = s.model_dump(include=set(ClassifierSettings.model_fields)) | {"noisy": False, "out": tmp_path / "other"}
    mine, theirs = (
        load_file(supervise(s).training.model),
        load_file(train_classifier(ClassifierSettings(**other)).model),
    )
    assert mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)


def test_a_training_that_goes_on_ends_as_one_that_was_never_stopped(
    quick: Make, make_pairs: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cfdiff.train.loop import Trainer

    run, few = make_pairs(np.arange(40)), {"steps": 8, "eval_every": 4, "invariance": "features"}
    whole = supervise(quick(run, out=tmp_path / "whole", **few)).training.model
    step = Trainer._one_step

    def stops(self: Trainer, loss: Any) -> Any:
        if self.step == 5:
            raise KeyboardInterrupt
        return step(self, loss)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "_one_step", stops)
        supervise(quick(run, out=tmp_path / "parts", **few))
    parts = supervise(quick(run, out=tmp_path / "parts", **few)).training.model
    mine, theirs = load_file(parts), load_file(whole)
    assert all(torch.equal(mine[k], theirs[k]) for k in theirs)
    with pytest.raises(UserError, match="holds a training with other settings"):
        supervise(quick(run, out=tmp_path / "parts", **{**few, "pairs_weight": 2}))
    other = make_pairs(np.arange(30), out="other/run.h5") if (tmp_path / "other").mkdir() is None else run
    with pytest.raises(UserError, match="has changed since"):
        supervise(quick(other, out=tmp_path / "parts", **few))


def test_the_card_says_what_pairs_were_learned_from_and_the_file_is_an_ordinary_one(
    quick: Make, make_pairs: Make, tmp_path: Path
) -> None:
    found = supervise(quick(make_pairs(np.arange(20)), steps=2, eval_every=2))
    model = load_model(found.training.model, "clean-classifier")
    told = model.card.data["pairs"]
    assert told["counts"]["accepted"] == 20 and told["accepted_by"] == ["verifier"]
    assert told["files"][0]["name"] == "run.h5" and told["files"][0]["models"] == {"verifier": "e" * 64}
    assert model.card.data["classes"] == ["healthy", "sick"] and len(model.card.data["groups"]) == 60
    assert str(tmp_path) not in (tmp_path / "out" / "settings.json").read_text()


def test_a_step_has_as_many_images_with_pairs_as_without(quick: Make, make_pairs: Make) -> None:
    for share, cuts in ((0.5, 1), (0.5, 2), (0.3, 4)):
        got = share_of(quick(make_pairs(np.arange(4)), pairs_share=share, batch_size=32), cuts)
        assert got.real + 2 * got.pairs == 32 and got.pairs % cuts == got.real % cuts == 0 < got.pairs
    with pytest.raises(UserError, match="take a larger --batch-size"):
        share_of(quick(make_pairs(np.arange(4)), batch_size=2), 1)


def test_a_pair_is_turned_and_shifted_alike(quick: Make, make_pairs: Make) -> None:
    s = quick(make_pairs(np.arange(40)), augment="dihedral", shift=2, gain=0.1, gamma=0.2, cast=0.2)
    train = open_training_data(s).train
    pairs = read_pairs(s, train)
    batch = Contrast(s, train, pairs, 16, Batches).read(0, 0)
    source, edited = batch.images.split(16)
    inside, same = batch.relevant.split(16)
    changed = (source - edited).abs() > 0.06
    assert torch.equal(inside, same) and changed.flatten(1).any(1).all() and not (changed & ~inside).any()
    assert torch.equal(batch.labels[:16], 1 - batch.labels[16:])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"test_split": "train"}, "is in the split 'train' and among those that are trained on"),
        ({"test_split": "later"}, "later"),
        ({"batch_size": 4, "pairs_share": 0.01}, "take a larger --batch-size"),
        ({"invariance_weight": 2.0}, "--invariance-weight is of --invariance gradient or features"),
        ({"map_grow": 7}, "--map-grow is of --invariance"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(quick: Make, make_pairs: Make, changes: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        supervise(quick(make_pairs(np.arange(4)), **changes))


@pytest.mark.parametrize("changes", [{"pairs_weight": 5.0}, {"invariance": "gradient"}, {"rejected": "source"}])
def test_what_is_asked_of_pairs_is_refused_where_there_are_none(quick: Make, changes: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"--{next(iter(changes)).replace('_', '-')} is of pairs, and --pairs none"):
        supervise(quick("none", **changes))


def test_none_stands_alone(quick: Make) -> None:
    with pytest.raises(ValueError, match="no file can stand beside it"):
        quick(["none", "run.h5"])
    assert quick("none").plain and not quick("run.h5").plain
