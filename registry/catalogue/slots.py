"""The one table of slots: what a recipe may name where, what the engine adds, and what is the engine's alone.

Owns no component: each slot names the `Registry` that lists them. `catalog` reads this table; the checker and the
builder learn from it which parameters a user may leave out and which may not be set. Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class SlotRules:
    """What holds for every component of a slot.

    Attributes:
        name: the slot.
        about: what its components are, for `list`.
        registry: "module:NAME" of the Registry that lists them.
        bases: "module:Class", one of which a component derives from, or returns when it is a function.
        supplied: parameters the engine fills where the user did not, with what it fills in.
        engine: parameters that are always the engine's, with the reason shown to who sets one.
        knobs: sub-maps beside the arguments that only the engine reads: name -> the dataclass that types them, by name.
        written: parameters that a recipe always writes, whatever upstream's default -> what to write.
    """

    name: str
    about: str
    registry: str
    bases: tuple[str, ...]
    supplied: Mapping[str, str] = field(default_factory=dict)
    engine: Mapping[str, str] = field(default_factory=dict)
    knobs: Mapping[str, str] = field(default_factory=dict)
    written: Mapping[str, str] = field(default_factory=dict)


_RULES = (
    SlotRules(
        name="model",
        about="networks that turn images (N, C, H, W) into logits (N, classes)",
        registry="registry.catalogue.adopted:MODELS",
        bases=("torch.nn:Module",),
        supplied={
            "num_classes": "the dataset's number of classes",
            "in_channels": "the dataset's channels",
            "image_size": "the size of the prepared images",
        },
        engine={"progress": "downloads are reported by the engine"},
    ),
    SlotRules(
        name="dataset",
        about="labelled images and their splits",
        registry="registry.catalogue.adopted:DATASETS",
        bases=("registry.contracts:ImageSource",),
        engine={
            "split": "data.val and the stages pick the split",
            "train": "data.val and the stages pick the split",
            "download": "data that is missing is downloaded where that is possible",
            "transform": "data.augment, data.eval and data.preprocess say what is done to images",
            "target_transform": "targets are class indices",
            "transforms": "data.augment, data.eval and data.preprocess say what is done to images",
        },
    ),
    SlotRules(
        name="transform",
        about="what is done to an image, uint8 (H, W, C) in",
        registry="registry.catalogue.adopted:TRANSFORMS",
        bases=(
            "albumentations:BasicTransform",
            "albumentations:BaseCompose",
            "registry.transforms.contract:OwnTransform",
        ),
    ),
    SlotRules(
        name="loss",
        about="losses of logits (N, classes) and class indices (N,)",
        registry="registry.losses:LOSSES",
        bases=("torch.nn:Module",),
        engine={"reduction": "the engine needs the mean over the samples"},
    ),
    SlotRules(
        name="regularizer",
        about="penalties on parameters, beside the loss",
        registry="registry.catalogue.adopted:REGULARIZERS",
        bases=("registry.contracts:Regularizer",),
    ),
    SlotRules(
        name="optimizer",
        about="what turns gradients into steps",
        registry="registry.optimizers.upstream:OPTIMIZERS",
        bases=("torch.optim:Optimizer",),
        supplied={
            "fused": "true where the device has the fused kernel",
            "foreach": "by device: false on the CPU, where it is slower",
        },
        engine={"params": "optimizer.groups says which parameters get what"},
        knobs={"groups": "Group"},
        written={"lr": "a number, or $lr_finder.lr"},
    ),
    SlotRules(
        name="scheduler",
        about="what moves the learning rate during training",
        registry="registry.schedulers:SCHEDULERS",
        bases=("torch.optim.lr_scheduler:LRScheduler",),
        supplied={
            "total_steps": "the steps it takes in the whole run",
            "epochs": "the run's epochs",
            "steps_per_epoch": "optimizer steps per epoch",
            "T_max": "the run's length in the unit of step.each",
        },
        engine={
            "optimizer": "the recipe's optimizer",
            "last_epoch": "a resumed run restores the scheduler's own state",
        },
        knobs={"step": "StepOn", "warmup": "Warmup"},
    ),
    SlotRules(
        name="metric",
        about="numbers over all samples of an epoch",
        registry="registry.catalogue.adopted:METRICS",
        bases=("registry.contracts:Metric",),
        supplied={"num_classes": "the dataset's number of classes", "task": "multiclass"},
    ),
    SlotRules(
        name="callback",
        about="behaviour during training, and sinks that record it",
        registry="registry.catalogue.adopted:CALLBACKS",
        bases=("registry.contracts:Callback", "registry.recording:Sink"),
    ),
    SlotRules(
        name="report",
        about="parts of the report",
        registry="registry.catalogue.adopted:REPORTS",
        bases=("registry.contracts:ReportPart",),
    ),
    SlotRules(
        name="mix",
        about="what mixes the images of a training batch",
        registry="registry.mixes:MIXES",
        bases=("registry.mixes:Mixer",),
        supplied={"num_classes": "the dataset's number of classes"},
    ),
)

_SWEEP_RULES = (
    SlotRules(
        name="distribution",
        about="ranges and choices that a sweep draws a value of the recipe from",
        registry="registry.search:DISTRIBUTIONS",
        bases=("optuna.distributions:BaseDistribution",),
    ),
    SlotRules(
        name="sampler",
        about="what draws the next trial of a sweep",
        registry="registry.search:SAMPLERS",
        bases=("optuna.samplers:BaseSampler",),
        supplied={"search_space": "every choice of `search`", "seed": "the recipe's seed"},
    ),
    SlotRules(
        name="pruner",
        about="what ends or pauses a trial of a sweep that promises little",
        registry="registry.search:PRUNERS",
        bases=("optuna.pruners:BasePruner",),
        supplied={"max_resource": "train.epochs of the recipe"},
    ),
)

SLOTS: Mapping[str, SlotRules] = {rules.name: rules for rules in _RULES}  # of recipes
SWEEP_SLOTS: Mapping[str, SlotRules] = {rules.name: rules for rules in _SWEEP_RULES}  # of sweeps, which an extra brings
EVERY_SLOT: Mapping[str, SlotRules] = {**SLOTS, **SWEEP_SLOTS}
