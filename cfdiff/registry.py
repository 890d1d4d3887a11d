"""Everything that comes in kinds, in one place: a name, and where what makes the thing stands.

To add one, write a file and give it a line here; options, `--help` and messages take their choices from these tables.
From outside, `SOLVERS["mine"] = MySolver` does the same. An entry is the thing itself or "module:attribute", which is
imported when it is first asked for, so that `--help` needs no torch. What an entry must be able to do stands beside its
table.
"""

from __future__ import annotations

import importlib
from typing import Any


class Registry(dict[str, Any]):
    """Names and what they stand for; `registry[name]` imports an entry that says where it is."""

    def __init__(self, kind: str, entries: dict[str, Any]) -> None:
        super().__init__(entries)
        self.kind = kind
        self._own = dict(entries)

    def __getitem__(self, name: str) -> Any:
        entry = super().__getitem__(name)
        if not isinstance(entry, str):
            return entry
        module, _, attribute = entry.partition(":")
        return getattr(importlib.import_module(module), attribute)

    def added(self) -> dict[str, Any]:
        """The entries that somebody has put in since: another process must be told of them."""
        return {name: entry for name, entry in self.items() if self._own.get(name) is not entry}


Additions = dict[str, dict[str, Any]]
"""Name of a table -> its new entries."""


def additions() -> Additions:
    """What this process has put into the tables."""
    tables = {name: table for name, table in globals().items() if isinstance(table, Registry)}
    return {name: added for name, table in tables.items() if (added := table.added())}


def add(new: Additions) -> None:
    """Put into the tables what another process has in its own."""
    for name, entries in new.items():
        globals()[name].update(entries)


class OneOf:
    """The annotation of a setting that names an entry of a registry: `Annotated[str, OneOf(SOLVERS)]`.

    With `join`, several names may be given, joined by "+"; `also` are further words that the setting knows; one that
    ends in ":" may have anything after it ("ids:FILE").
    """

    def __init__(self, registry: Registry, join: bool = False, also: tuple[str, ...] = ()) -> None:
        self.registry, self.join, self.also = registry, join, also

    @property
    def choices(self) -> list[str]:
        """All words as of now."""
        return [*self.also, *self.registry]

    def check(self, value: str) -> None:
        """Raise ValueError, which says what there is, for a word that names nothing."""
        if any(word.endswith(":") and value.startswith(word) for word in self.also):
            return
        names = value.split("+") if self.join and value not in self.also else [value]
        if wrong := [name for name in names if name not in self.choices]:
            raise ValueError(f"there is no {self.registry.kind} {wrong[0]!r}: choose of {', '.join(self.choices)}")


# Each table names the protocol that its entries fulfil.
SOLVERS = Registry(  # (eta) -> engine.solvers.Solver
    "solver",
    {
        "ddim": "cfdiff.engine.solvers.ddim:Ddim",
        "ddpm": "cfdiff.engine.solvers.ddpm:ddpm",
        "dpm++": "cfdiff.engine.solvers.dpm:dpm_solver_2m",
        "heun": "cfdiff.engine.solvers.heun:heun",
        "unipc": "cfdiff.engine.solvers.unipc:unipc",
    },
)
EDITS = Registry(  # (edit.editor.Editor, edit.strategy.Batch) -> edit.strategy.Strategy
    "way of editing",
    {
        "anchored": "cfdiff.edit.anchored:Anchored",
        "regenerate": "cfdiff.edit.regenerate:Regenerate",
    },
)
GUIDES = Registry(  # edit.guides.GuideKind
    "guide",
    {
        "noisy": "cfdiff.edit.guides:NOISY",
        "clean": "cfdiff.edit.guides:CLEAN",
        "cfg": "cfdiff.edit.guides:CFG",
        "clip": "cfdiff.edit.texts:CLIP",
    },
)
CONTROLS = Registry(  # (images (B, H, W, C), masks (B, H, W) or None) -> (B, H, W) float32 in [0, 1]
    "control image",
    {
        "edges": "cfdiff.data.outlines:edges",
        "outline": "cfdiff.data.outlines:outline",
        "mask": "cfdiff.data.outlines:mask",
    },
)
SPACES = Registry(  # (what a model's card says of its space) -> models.space.Space; one with a file: FileSpace there
    "space",
    {
        "pixel": "cfdiff.models.space:PixelSpace",
        "latent": "cfdiff.models.latent:LatentSpace",
    },
)
# recognises(path) -> bool, load(path, device) -> models.checkpoint.Model, and perhaps card(path), without a network
DENOISERS = Registry(
    "format of diffusion models",
    {
        "cfdiff": "cfdiff.models.checkpoint:OwnDenoisers",
        "diffusers": "cfdiff.models.adapters.diffusers:DiffusersDenoisers",
        "adm": "cfdiff.models.adapters.adm_layout:AdmCheckpoints",
    },
)
NETWORKS = Registry(  # (models.checkpoint.Card) -> torch.nn.Module; its config may say which one, as "network"
    "network",
    {
        "unet": "cfdiff.models.unet:build_unet",
        "timm": "cfdiff.models.classifier:build_timm",
        "autoencoder": "cfdiff.models.autoencoder:build_of_card",
        "adm-unet": "cfdiff.models.adapters.adm:build_unet",
        "adm-encoder": "cfdiff.models.adapters.adm:build_encoder",
        "bag": "cfdiff.models.bag_network:build_of_card",
        "clip": "cfdiff.models.clip:build_of_card",
        "unet-tokens": "cfdiff.models.prompted:build_of_card",
        "control": "cfdiff.models.control:build_of_card",
    },
)
ENCODERS = Registry(  # (what a card's config says of it) -> models.encoders.Encoder
    "condition encoder",
    {
        "attributes": "cfdiff.models.encoders:build_attributes",
        "text": "cfdiff.models.text_encoder:build_text",
    },
)
BAG_MODELS = Registry(  # (width of the embeddings, **kwargs) -> models.bag_poolings.Pooling
    "bag model",
    {
        "abmil": "cfdiff.models.bag_poolings:AbMil",
        "transmil": "cfdiff.models.bag_poolings:TransMil",
        "dsmil": "cfdiff.models.bag_poolings:DsMil",
        "mean": "cfdiff.models.bag_poolings:MeanPooling",
        "max": "cfdiff.models.bag_poolings:MaxPooling",
    },
)
BAG_TARGETS = Registry(  # mil.targets.Target
    "target of bag models",
    {
        "label": "cfdiff.mil.targets:LABEL",
        "fraction": "cfdiff.mil.targets:FRACTION",
        "order": "cfdiff.mil.targets:ORDER",
    },
)
MIXTURE_LOSSES = Registry(  # (answers of bags at several mixes, the target) -> loss: mil.losses.MixtureLoss
    "loss of mixtures",
    {
        "label": "cfdiff.mil.losses:label",
        "rank": "cfdiff.mil.losses:rank",
        "distance": "cfdiff.mil.losses:distance",
        "attention": "cfdiff.mil.losses:attention",
        "embedding": "cfdiff.mil.losses:embedding",
        "direction": "cfdiff.mil.losses:direction",
    },
)
INVARIANCES = Registry(  # supervise.invariance.Invariance
    "invariance",
    {
        "none": "cfdiff.supervise.invariance:nothing",
        "gradient": "cfdiff.supervise.invariance:gradient",
        "features": "cfdiff.supervise.invariance:features",
    },
)
ATTRIBUTIONS = Registry(  # (models.bag_network.BagNetwork, embeddings (n, d)) -> (n,): mil.attribution.Attribution
    "attribution to instances",
    {
        "attention": "cfdiff.mil.attribution:attention",
        "gradient": "cfdiff.mil.attribution:gradient",
        "removal": "cfdiff.mil.attribution:removal",
    },
)
BAG_FOLDERS = Registry(  # mil.layouts.Layout: `recognises(folder)` and `read(folder)`
    "layout of bags",
    {
        "torchmil": "cfdiff.mil.layouts:TORCHMIL",
        "clam": "cfdiff.mil.layouts:CLAM",
        "trident": "cfdiff.mil.layouts:TRIDENT",
        "npz": "cfdiff.mil.layouts:NPZ",
    },
)
CLIPS = (
    Registry(  # recognises(path) -> bool and load(path, device) -> models.checkpoint.Model of a models.clip.ImageText
        "format of image-text models",
        {
            "cfdiff": "cfdiff.models.image_text:OwnClips",
            "transformers": "cfdiff.models.adapters.clip:ClipFolders",
        },
    )
)
INSPECTIONS = Registry(  # recognises(path) -> bool and describe(path) -> modelfiles.description.Description
    "kind of model that can be looked at",
    {
        "cfdiff": "cfdiff.modelfiles.inspect:Own",
        "diffusers": "cfdiff.modelfiles.inspect:Diffusers",
        "adm": "cfdiff.modelfiles.inspect:Adm",
    },
)
CLASSIFIERS = Registry(  # models.foreign.ClassifierFormat: recognises(file), known(file) and load(file, device, steers)
    "format of classifiers",
    {
        "cfdiff": "cfdiff.models.foreign:OwnClassifiers",
        "Python": "cfdiff.models.adapters.given:GivenClassifiers",
        "CLIP": "cfdiff.models.adapters.clip:ClipClassifiers",  # before timm, whose folders have a config.json too
        "timm": "cfdiff.models.adapters.timm:TimmClassifiers",
        "TorchScript": "cfdiff.models.adapters.torchscript:TorchScriptClassifiers",
        "ONNX": "cfdiff.models.adapters.onnx:OnnxClassifiers",
    },
)
OUTPUTS = Registry(  # models.outputs.Output: what the numbers that a classifier gives are
    "output of classifiers",
    {
        "logits": "cfdiff.models.outputs:LOGITS",
        "probabilities": "cfdiff.models.outputs:PROBABILITIES",
        "logit": "cfdiff.models.outputs:LOGIT",
        "probability": "cfdiff.models.outputs:PROBABILITY",
        "multilabel": "cfdiff.models.outputs:LABELS",
        "multilabel-probabilities": "cfdiff.models.outputs:LABEL_PROBABILITIES",
    },
)
POLICIES = Registry(  # bag.plan.Policy
    "policy",
    {
        "uniform": "cfdiff.bag.policies:UNIFORM",
        "confident": "cfdiff.bag.policies:CONFIDENT",
        "borderline": "cfdiff.bag.policies:BORDERLINE",
    },
)
CREWS = Registry(  # (settings, here, elsewhere) -> workers.crew.Crew: who computes the pieces of a run
    "way to share work",
    {
        "here": "cfdiff.workers.here:Here",
        "ray": "cfdiff.workers.cluster:RayCrew",
    },
)
JOINS = Registry(  # (join.settings.JoinSettings, progress) -> summary: what makes a result of the shards of a command
    "command that may be shared by shards",
    {
        "translate": "cfdiff.translate.join:join_translation",
        "bag": "cfdiff.bag.join:join_bags",
    },
)
# data.raw.Format: `recognises(path)` and `read(path, name, fit, unlabelled)`. The names stand in messages and `--help`.
READERS = Registry(
    "layout of images",
    {
        "a folder": "cfdiff.data.readers.folder:FORMAT",
        ".csv": "cfdiff.data.readers.manifest:FORMAT",
        ".npz": "cfdiff.data.readers.npz:FORMAT",
        ".h5": "cfdiff.data.readers.hdf5:FORMAT",
        "PatchCamelyon": "cfdiff.data.readers.pcam:FORMAT",
        "WebDataset's .tar": "cfdiff.data.readers.shards:FORMAT",
        ".dcm, .nii or a slide": "cfdiff.data.readers.single:FORMAT",
    },
)
# data.readers.held.FileKind: files in a folder or a .csv that hold several images, or need more than Pillow.
FILES = Registry(
    "kind of file",
    {
        "NIfTI": "cfdiff.data.readers.nifti:KIND",
        "slide": "cfdiff.data.readers.slide:KIND",
        "DICOM": "cfdiff.data.readers.dicom:KIND",
    },
)
# cfdiff.metrics.pair.Metric: a value for each pair of a source and its counterfactual, which evaluate reports.
METRICS = Registry(
    "metric",
    {
        "mean_abs_difference": "cfdiff.metrics.pair:MEAN_ABS",
        "l2": "cfdiff.metrics.pair:L2",
        "ssim": "cfdiff.metrics.pair:SSIM",
        "changed_share": "cfdiff.metrics.pair:CHANGED_SHARE",
        "changed_regions": "cfdiff.metrics.pair:CHANGED_REGIONS",
        "high_frequency": "cfdiff.metrics.spectrum:HIGH_FREQUENCY",
    },
)
