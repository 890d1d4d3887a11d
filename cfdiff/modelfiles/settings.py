"""The settings of `cfdiff models`. No torch here, so that `--help` stays quick.

The flags of guided-diffusion have their names, their defaults and their words, so that a line of its README can be
copied: `--class_cond True`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, NonNegativeInt, PositiveInt, field_validator

from cfdiff.settings import DATA, MODEL, OUTPUT, Settings, Word

PROCESS: dict[str, Any] = {"panel": "Diffusion process"}
IGNORED: dict[str, Any] = {"panel": "Taken and not used"}
READ = "[default: as the checkpoint is]"
Switch = Annotated[bool, Word()]


class AdmSettings(Settings):
    """What both kinds of checkpoints need."""

    checkpoint: Path = Field(description="Checkpoint (.pt) of guided-diffusion or improved-diffusion.")
    out: Path | None = Field(
        None, json_schema_extra=OUTPUT, description="File to write [default: the checkpoint's name, .safetensors]."
    )
    force: bool = Field(False, json_schema_extra=OUTPUT, description="Replace an existing file.")
    half: bool = Field(False, json_schema_extra=OUTPUT, description="Save the weights in float16.")
    negative: str | None = Field(
        None, json_schema_extra=DATA, description="Name of the negative class, so that data with another order is seen."
    )
    positive: str | None = Field(None, json_schema_extra=DATA, description="Name of the positive class.")
    classes: tuple[NonNegativeInt, ...] | None = Field(
        None,
        json_schema_extra=DATA,
        description="The network's own indices of negative and positive (248,250) [default: 0,1 if it has two].",
    )
    image_size: PositiveInt = Field(json_schema_extra=MODEL, description="Height and width of the images.")
    in_channels: PositiveInt | None = Field(None, json_schema_extra=MODEL, description=f"Of the images {READ}.")
    use_new_attention_order: Switch = Field(
        False, json_schema_extra=MODEL, description="Layout of attention heads; does not show in the checkpoint."
    )
    diffusion_steps: PositiveInt = Field(1000, json_schema_extra=PROCESS, description="Noising steps T.")
    noise_schedule: Literal["linear", "cosine"] = Field("linear", json_schema_extra=PROCESS, description="Its betas.")
    rescale_timesteps: Switch | None = Field(
        None,
        json_schema_extra=PROCESS,
        description="Timesteps times 1000 / T; must be given where T is not 1000, as guided-diffusion's default is "
        "False and improved-diffusion's True.",
    )
    timestep_respacing: str = Field(
        "",
        json_schema_extra=PROCESS,
        description="Levels only at these timesteps (250; 10,15,20; ddim25) [default: all; --steps chooses of them].",
    )

    @field_validator("classes")
    @classmethod
    def _two(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and len(value) != 2:
            raise ValueError("two indices are needed, of negative and positive, as 248,250")
        return value


class ImportAdmSettings(AdmSettings):
    """cfdiff models import adm."""

    null_class: NonNegativeInt | None = Field(
        None, json_schema_extra=DATA, description="Its index of the class that means none, where it learned one."
    )
    num_channels: PositiveInt | None = Field(
        None, json_schema_extra=MODEL, description=f"Of the first resolution {READ}."
    )
    num_res_blocks: PositiveInt | None = Field(None, json_schema_extra=MODEL, description=f"A resolution {READ}.")
    channel_mult: str | None = Field(None, json_schema_extra=MODEL, description=f"Of each resolution (1,2,3,4) {READ}.")
    attention_resolutions: str | None = Field(
        None, json_schema_extra=MODEL, description=f"Image sizes with attention (32,16,8) {READ}."
    )
    num_heads: PositiveInt = Field(4, json_schema_extra=MODEL, description="Attention heads; they do not show.")
    num_heads_upsample: int = Field(-1, json_schema_extra=MODEL, description="On the way up; -1 for the same.")
    num_head_channels: int = Field(
        -1, json_schema_extra=MODEL, description="Channels a head, in the place of --num-heads; -1 for none."
    )
    use_scale_shift_norm: Switch | None = Field(None, json_schema_extra=MODEL, description=f"As its name says {READ}.")
    resblock_updown: Switch | None = Field(None, json_schema_extra=MODEL, description=f"As its name says {READ}.")
    class_cond: Switch | None = Field(None, json_schema_extra=MODEL, description=f"As its name says {READ}.")
    learn_sigma: Switch | None = Field(None, json_schema_extra=MODEL, description=f"As its name says {READ}.")
    predict_xstart: Switch = Field(False, json_schema_extra=PROCESS, description="It predicts x0, and not eps.")
    dropout: float = Field(0.0, json_schema_extra=IGNORED, description="Of its training.")
    use_checkpoint: Switch = Field(False, json_schema_extra=IGNORED, description="Of its training.")
    use_fp16: Switch = Field(False, json_schema_extra=IGNORED, description="A run says it with --precision.")
    use_kl: Switch = Field(False, json_schema_extra=IGNORED, description="Of its training.")
    rescale_learned_sigmas: Switch = Field(False, json_schema_extra=IGNORED, description="Of its training.")
    sigma_small: Switch = Field(False, json_schema_extra=IGNORED, description="A run says it with --eta.")


class ImportAdmClassifierSettings(AdmSettings):
    """cfdiff models import adm-classifier."""

    classifier_width: PositiveInt | None = Field(
        None, json_schema_extra=MODEL, description=f"Channels of the first resolution {READ}."
    )
    classifier_depth: PositiveInt = Field(2, json_schema_extra=MODEL, description="Residual blocks a resolution.")
    classifier_attention_resolutions: str | None = Field(
        None, json_schema_extra=MODEL, description=f"Image sizes with attention (32,16,8) {READ}."
    )
    classifier_use_scale_shift_norm: Switch | None = Field(
        None, json_schema_extra=MODEL, description=f"As its name says {READ}."
    )
    classifier_resblock_updown: Switch | None = Field(
        None, json_schema_extra=MODEL, description=f"As its name says {READ}."
    )
    classifier_pool: Literal["attention", "adaptive", "spatial", "spatial_v2"] | None = Field(
        None, json_schema_extra=MODEL, description=f"As its name says {READ}."
    )
    num_head_channels: PositiveInt = Field(64, json_schema_extra=MODEL, description="Channels a head.")
    classifier_use_fp16: Switch = Field(False, json_schema_extra=IGNORED, description="A run says it with --precision.")


class InspectModelSettings(Settings):
    """cfdiff models inspect."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    model: Path = Field(description="Model file of ours, folder of diffusers, or checkpoint of guided-diffusion.")
    json_: bool = Field(False, alias="json", description="Print JSON for a program to read.")
