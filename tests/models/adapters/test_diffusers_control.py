"""A ControlNetModel that diffusers wrote, beside its own call of both networks."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cfdiff.errors import UserError
from cfdiff.models.adapters.diffusers_control import load_branch
from cfdiff.models.checkpoint import Model, load_diffusion, load_model
from cfdiff.models.control import Controlled
from cfdiff.store import open_result
from cfdiff.translate.run import translate

diffusers = pytest.importorskip("diffusers")

CPU, SIZE = torch.device("cpu"), 16
TINY = {
    "block_out_channels": (8, 8),
    "norm_num_groups": 4,
    "layers_per_block": 1,
    "attention_head_dim": 4,
    "cross_attention_dim": 6,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
}
UP = {"up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D")}


def randomised(net: torch.nn.Module) -> Any:
    g = torch.Generator().manual_seed(0)
    for p in net.parameters():
        p.data += 0.1 * torch.randn(p.shape, generator=g)
    return net.eval()


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A gray denoiser that reads tokens and its branches: new, and one whose weights matter."""
    root = tmp_path_factory.mktemp("peers")
    torch.manual_seed(0)
    net = randomised(diffusers.UNet2DConditionModel(sample_size=SIZE, in_channels=1, out_channels=1, **TINY, **UP))
    net.save_pretrained(root / "unet")
    diffusers.DDPMScheduler(num_train_timesteps=100, beta_schedule="squaredcos_cap_v2").save_pretrained(root / "unet")
    (root / "unet" / "cfdiff.toml").write_text('tokens = "zeros"\n')
    new = diffusers.ControlNetModel.from_unet(net, conditioning_embedding_out_channels=(16,))
    new.save_pretrained(root / "new")
    branch = randomised(diffusers.ControlNetModel.from_unet(net, conditioning_embedding_out_channels=(16,)))
    branch.save_pretrained(root / "control")
    return SimpleNamespace(root=root, net=net, branch=branch)


def noise(n: int = 2) -> Tensor:
    return torch.randn(n, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def asked(of: Model, folder: Path, x: Tensor, hint: Tensor) -> Tensor:
    net = Controlled(of.net, load_branch(folder, of, CPU).net)
    net.hint = hint
    found: Tensor = net(x, torch.full((len(x),), 9))
    return found


def test_it_adds_what_diffusers_adds_and_a_new_one_nothing_bit_for_bit(peers: SimpleNamespace) -> None:
    of, x = load_diffusion(peers.root / "unet"), noise()
    hint = (noise()[:, :1] > 0.5).float()
    with torch.no_grad():
        text = torch.zeros(2, 1, 6)
        down, middle = peers.branch(x, 9, text, hint.expand(-1, 3, -1, -1), return_dict=False)
        more = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
        want, alone = peers.net(x, 9, text, **more).sample, of.net(x, torch.full((2,), 9))
    torch.testing.assert_close(asked(of, peers.root / "control", x, hint), want, rtol=1e-5, atol=1e-5)
    assert float((want - alone).abs().max()) > 1e-3
    assert torch.equal(asked(of, peers.root / "new", x, hint), alone)


def test_an_edit_keeps_its_identity_and_names_both_models(peers: SimpleNamespace, toy: Any, tmp_path: Path) -> None:
    told = {"diffusion": peers.root / "unet", "guides": "clean", "limit": 2, "steps": 3, "retries": 0}
    told |= {"control": "edges", "control_model": peers.root / "control"}
    translate(toy.settings(tmp_path / "a.h5", scale=0, **told))
    with open_result(tmp_path / "a.h5") as run:
        np.testing.assert_array_equal(run.counterfactual[:], run.source[:])
        assert "+" in run.attrs["models"]["diffusion"]
    translate(toy.settings(tmp_path / "b.h5", scale=300, ratio=None, **told))
    with open_result(tmp_path / "b.h5") as run:
        assert (run.counterfactual[:] != run.source[:]).any()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"in_channels": 4}, "takes 4 channels and 'unet' 1"),
        ({"conditioning_embedding_out_channels": (16, 16)}, "2 times smaller, and 'unet' runs 1 times"),
        (
            {"cross_attention_dim": 10},
            "'other' does not fit 'unet' in down_blocks.1, mid_block .down_blocks.1.*attn2.to_k.weight is 8x10, and in "
            "'unet' 8x6.: give one that was trained beside it",
        ),
        ({"block_out_channels": (8, 16)}, "does not fit 'unet' in down_blocks.1, mid_block .*, and in 'unet' 8x?"),
        ({"layers_per_block": 2}, "does not fit 'unet' in down_blocks.0, down_blocks.1 .*, and in 'unet' not there"),
        ({"num_class_embeds": 3}, "does not fit 'unet' in class_embedding .*, and in 'unet' not there"),
        (
            {"block_out_channels": (8,), "down_block_types": ("CrossAttnDownBlock2D",)},
            "does not fit 'unet' in down_blocks.0, down_blocks.1",
        ),
    ],
)
def test_a_branch_of_another_denoiser_is_refused(
    peers: SimpleNamespace, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    options = {"in_channels": 1, "conditioning_embedding_out_channels": (16,), **TINY, **changes}
    diffusers.ControlNetModel(**options).save_pretrained(tmp_path / "other")
    with pytest.raises(UserError, match=words) as error:
        load_branch(tmp_path / "other", load_diffusion(peers.root / "unet"), CPU)
    assert "size of tensor" not in str(error.value) and "mat1" not in str(error.value), "not what torch says"


def test_what_is_no_branch_or_no_denoiser_for_one_is_refused(peers: SimpleNamespace, toy: Any, tmp_path: Path) -> None:
    of = load_diffusion(peers.root / "unet")
    with pytest.raises(UserError, match="holds a UNet2DConditionModel: give the folder of a ControlNetModel"):
        load_branch(peers.root / "unet", of, CPU)
    with pytest.raises(UserError, match="those are for its UNet2DConditionModel"):
        load_branch(peers.root / "control", load_model(toy.weights / "diffusion.safetensors", "diffusion"), CPU)
    half = tmp_path / "half"
    half.mkdir()
    (half / "config.json").write_bytes((peers.root / "control" / "config.json").read_bytes())
    with pytest.raises(UserError, match="half"):
        load_branch(half, of, CPU)
