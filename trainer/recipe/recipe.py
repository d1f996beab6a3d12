"""The recipe as the rest of the house sees it: typed, frozen, checked.

The sections below ARE the schema of the language: their annotations, defaults and docstrings are what the checker, the
JSON Schema and `describe` derive from (sections.py). Nothing here reads text (reading/), checks (checks/) or builds
(trainer/experiment).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from registry.catalogue.markers import Bounds, Slot, Text
from registry.printing import snake_case

CROSS_ENTROPY = "cross_entropy"  # measured beside the loss on every part that is not learnt from
NAMED = ("train.metrics", "regularizers", "callbacks", "report")  # lists whose parts are told apart by `Spec.key`
_ENGINE = {"recipe": False}  # marks a field that no recipe sets


@dataclass(frozen=True)
class Origin:
    """Where a value was written.

    Attributes:
        file: path as the user gave it, or "command line".
        line: from 1.
        column: from 1.
    """

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Reference:
    """A whole value that is known only at run time: `$lr_finder.lr`, `$data.mean`, `$run.total_steps`.

    Attributes:
        path: what follows the dollar sign.
    """

    path: str


def default_name(type: str) -> str:
    """Return the name of a component without `as`: its type, of an import path the last part."""
    return type.rpartition(":")[2]


@dataclass(frozen=True)
class Spec:
    """One component as the recipe names it, checked.

    Attributes:
        slot: "model", "optimizer", ...
        type: the registered name.
        name: `as`, else the type.
        arguments: values as written; nested components are `Spec`, run-time values `Reference`.
        knobs: engine-only sub-maps: {"step": StepOn(...)} of a scheduler, {"groups": (Group, ...)} of an optimizer.
        path: where it stands in the recipe, "data.augment.1".
        origin: where it was written.
    """

    slot: str
    type: str
    name: str
    arguments: Mapping[str, Any]
    path: str
    origin: Origin
    knobs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What a metric or penalty is called in metrics.jsonl: its `as` or its type, in snake_case."""
        return snake_case(self.name)

    @property
    def renamed(self) -> bool:
        """Whether `as` gives it another name than its type has."""
        return self.name != default_name(self.type)


@dataclass(frozen=True)
class Fraction:
    """A validation part cut off the training split: a share of it, or one of several folds.

    Attributes:
        fraction: share of the training split; instead of `folds`.
        seed: of the draw.
        stratify: keep the classes' shares.
        group: a column of the dataset's table, as a patient's or a burst's number, or `folder` of an ImageFolder:
            images of one group are never on both sides. Omitted: the dataset's own `group`, if it has one.
        folds: deal the training split out to so many parts; each serves once for validation.
        fold: which of them, from 0; omitted: a run for each, with mean and deviation over all.
    """

    fraction: Annotated[float, Bounds(above=0, below=1)] | None = None
    seed: Annotated[int, Bounds(min=0)] = 0
    stratify: bool = True
    group: str | None = None
    folds: Annotated[int, Bounds(min=2)] | None = None
    fold: Annotated[int, Bounds(min=0)] | None = None

    @property
    def share(self) -> float:
        """The part of the training images that validates."""
        return self.fraction if self.fraction is not None else 1 / (self.folds or 1)

    def count(self, images: int) -> int:
        """Return how many of these images validate; of whole groups about so many."""
        if self.folds is None:
            return round(images * self.share)
        return images // self.folds + ((self.fold or 0) < images % self.folds)


DEFAULT_VAL = Fraction(0.1)  # where neither the recipe nor the dataset has a validation split


@dataclass(frozen=True)
class Resized:
    """Pictures kept smaller, as most recipes need them.

    Attributes:
        side: pixels of the short side; smaller pictures stay as they are.
    """

    side: Annotated[int, Bounds(min=8)]


@dataclass(frozen=True)
class Data:
    """What is learnt from.

    Attributes:
        dataset: the images; its splits, class names, mean, std and image size follow from it.
        val: a split's name, or a share of the training split; omitted: the `val` split where there is one, else a
            tenth.
        batch_size: images per micro-batch.
        eval_batch_size: images per batch where nothing is learnt.
        workers: processes that read images where they do not lie in memory; `auto` reads them in threads, one per core
            up to 16.
        decode: `reduced` decodes a JPEG of more than 512 x 512 pixels at 1/2, 1/4 or 1/8 of its size where the first
            transforms shrink what they keep of it by as much: faster, and pixels differ a little. `full` never does.
        store: keep every picture on the disk with its short side shrunk, so that it is decoded once and not every
            epoch. Part of what the recipe means: predict and evaluate shrink, too. `python -m trainer cache` shows what
            is kept.
        drop_last: leave out an epoch's incomplete last batch.
        augment: transforms of training images, in this order, uint8 in and out.
        eval: transforms of all other images (val, test, predict, GradCAM), uint8 in and out.
        preprocess: transforms of every image, also in predict, after `augment` or `eval`; makes float.
        augment_backend: `batched` refuses what has no batched version, `albumentations` uses none, `auto` takes what
            there is.
        limit: use only N training and validation images, drawn by `seed` evenly over the classes.
        fixes: a table of pictures whose labels were decided anew: path, given, suggested, decision, as `audit --labels`
            and a run on pictures of one's own write it.
        on_bad_image: `fail` at an unreadable image, or `skip` it and say so.
        sampler: `balanced` draws every class equally often; omitted: each image once an epoch.
    """

    dataset: Annotated[Spec, Slot("dataset")]
    val: str | Fraction | None = None
    batch_size: Annotated[int, Bounds(min=1)] = 128
    eval_batch_size: Annotated[int, Bounds(min=1)] = 512
    workers: Literal["auto"] | Annotated[int, Bounds(min=0)] = "auto"
    decode: Literal["full", "reduced"] = "full"
    store: Resized | None = None
    drop_last: bool = False
    augment: tuple[Annotated[Spec, Slot("transform")], ...] = ()
    eval: tuple[Annotated[Spec, Slot("transform")], ...] = ()
    preprocess: tuple[Annotated[Spec, Slot("transform")], ...] = ()
    augment_backend: Literal["auto", "batched", "albumentations"] = "auto"
    limit: Annotated[int, Bounds(min=1)] | None = None
    fixes: Annotated[str, Text("path")] | None = None
    on_bad_image: Literal["fail", "skip"] = "fail"
    sampler: Literal["balanced"] | None = None


@dataclass(frozen=True)
class LRFinder:
    """Leslie Smith's learning-rate range test (arXiv 1506.01186), before training.

    Attributes:
        start: first learning rate.
        end: last learning rate.
        steps: optimizer steps of the sweep.
        mode: spacing of the learning rates.
        loss: measured on the `train` batch before its update, or on a `val` subset after it.
        smooth: width (sigma) of the Gaussian smooth as a share of the steps; 0 for none.
        diverge: stop when the smoothed loss exceeds this many times its best.
        pick: the rule that takes the number.
    """

    start: Annotated[float, Bounds(above=0)] = 1e-5
    end: Annotated[float, Bounds(above=0)] = 1.0
    steps: Annotated[int, Bounds(min=6)] = 100
    mode: Literal["exponential", "linear"] = "exponential"
    loss: Literal["train", "val"] = "train"
    smooth: Annotated[float, Bounds(min=0, max=0.5)] = 0.04
    diverge: Annotated[float, Bounds(above=1)] = 4.0
    pick: Literal["minimum", "steepest", "valley", "minimum_over_10"] = "minimum_over_10"


@dataclass(frozen=True)
class Ema:
    """Averaged weights, used wherever the model is evaluated.

    Attributes:
        decay: share of the average kept at an update; the first updates of an `ema` keep less, (1 + n) / (10 + n).
        every: optimizer steps between updates.
        mode: `ema` keeps an average aside; `lookahead` (arXiv 1907.08610) also moves the weights back to it.
    """

    decay: Annotated[float, Bounds(min=0, below=1)]
    every: Annotated[int, Bounds(min=1)] = 1
    mode: Literal["ema", "lookahead"] = "ema"


@dataclass(frozen=True)
class Best:
    """Which epoch is the best.

    Attributes:
        metric: key in metrics.jsonl.
        mode: `max` where greater is better.
    """

    metric: Annotated[str, Text("metric")] = "val/accuracy"
    mode: Literal["min", "max"] = "max"


@dataclass(frozen=True)
class Checkpoint:
    """When the whole state is written, and how much of it stays.

    Attributes:
        every: epochs between checkpoints.
        minutes: also every so many minutes, in the middle of an epoch.
        steps: also every so many optimizer steps.
        keep: earlier checkpoints that stay beside `last.pt`, as epoch-<n>.pt.
    """

    every: Annotated[int, Bounds(min=1)] = 1
    minutes: Annotated[float, Bounds(above=0)] | None = None
    steps: Annotated[int, Bounds(min=1)] | None = None
    keep: Annotated[int, Bounds(min=0)] = 1


@dataclass(frozen=True)
class Train:
    """How it is learnt.

    Attributes:
        epochs: passes over the training images.
        device: `auto` takes a CUDA GPU where there is one; or "cpu", "cuda", "cuda:1".
        precision: `auto` takes bf16 where the hardware has it, else fp16 on a GPU, else fp32.
        accumulate: micro-batches per optimizer step.
        clip_norm: largest total gradient norm, penalties included.
        ema: averaged weights.
        mix: mixes the images of a batch (MixUp, CutMix).
        compile: run the model through torch.compile.
        deterministic: only deterministic algorithms, on a GPU too.
        metrics: measured on train and val every epoch.
        best: which epoch's weights are kept as the best.
        on_nan: at a loss or gradient that is not finite: `stop`, `skip` the step as if its batch had not been, or
            `restore` the last checkpoint's weights, three times at most. On a GPU the last two wait for every step.
        log_every: optimizer steps between readings of the running numbers.
        checkpoint: when and how many.
        max_minutes: end training after the epoch in which this much time has passed.
        freeze: patterns of parameters that do not learn.
        frozen_statistics: the running mean and variance of norm layers (BatchNorm) whose parameters are all frozen:
            `keep` normalises by them as they are, `update` lets them follow the training images.
        cache_features: `auto` computes what frozen layers make of the images once and keeps it, where no transform and
            no layer changes it from epoch to epoch; `off` computes it in every step.
        sync_norm: on several processes BatchNorm counts over the whole batch, not each process's share; on GPUs only.
        start_from: a run folder, a checkpoint or another program's state dict (.pth, .pt, .safetensors) whose weights
            are loaded first; a head learnt for other classes starts anew.
        tta: test-time augmentation of the final evaluation: `flip` averages over mirrored images, `flip_translate` also
            over images moved by one pixel.
    """

    epochs: Annotated[int, Bounds(min=1)]
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    accumulate: Annotated[int, Bounds(min=1)] = 1
    clip_norm: Annotated[float, Bounds(above=0)] | None = None
    ema: Ema | None = None
    mix: Annotated[Spec, Slot("mix")] | None = None
    compile: bool = False
    deterministic: bool = False
    metrics: tuple[Annotated[Spec, Slot("metric")], ...] = ("Accuracy",)  # type: ignore[assignment]
    best: Best = Best()
    on_nan: Literal["stop", "skip", "restore"] = "stop"
    log_every: Annotated[int, Bounds(min=1)] = 50
    checkpoint: Checkpoint = Checkpoint()
    max_minutes: Annotated[float, Bounds(above=0)] | None = None
    freeze: tuple[Annotated[str, Text("pattern")], ...] = ()
    frozen_statistics: Literal["keep", "update"] = "keep"
    cache_features: Literal["auto", "off"] = "auto"
    sync_norm: bool = False
    start_from: Annotated[str, Text("path")] | None = None
    tta: Literal["none", "flip", "flip_translate"] = "none"


@dataclass(frozen=True)
class Answering:
    """How the trained network answers: in `predict`, in `serve`, in an exported file and on the page.

    Attributes:
        calibrated: divide the logits by the temperature that was fitted on validation, so that of the answers given
            with 80 % about 80 of 100 are right.
        abstain_below: the answer is "not sure" where the likeliest class has a smaller probability.
    """

    calibrated: bool = False
    abstain_below: Annotated[float, Bounds(above=0, max=1)] | None = None


@dataclass(frozen=True)
class StepOn:
    """When a scheduler steps: the engine-only sub-map `scheduler.step`.

    Attributes:
        each: `step` or `epoch`; omitted: `step` for OneCycleLR and CyclicLR, else `epoch`.
        monitor: the metric key handed to ReduceLROnPlateau.
    """

    each: Literal["step", "epoch"] | None = None
    monitor: Annotated[str, Text("metric")] | None = None


@dataclass(frozen=True)
class Warmup:
    """Linear warm-up of the learning rate before the scheduler begins: the engine-only sub-map `scheduler.warmup`.

    Attributes:
        epochs: until the full rate is reached, step by step; the scheduler counts from there.
        start_factor: share of the rate that the first step uses.
    """

    epochs: Annotated[int, Bounds(min=1)]
    start_factor: Annotated[float, Bounds(above=0, max=1)] = 0.1


@dataclass(frozen=True)
class Group:
    """A parameter group with arguments of its own: an item of `optimizer.groups`. The first that matches wins.

    Attributes:
        match: patterns of parameter names, "layer1.**", or "@bias", "@norm", "@embedding", "@head", in quotes.
        lr_scale: factor on the learning rate, whatever the scheduler makes of it.
        arguments: optimizer arguments that differ in this group (weight_decay, momentum, ...), written beside the
            others.
        origin: where it was written.
    """

    match: tuple[Annotated[str, Text("pattern")], ...]
    lr_scale: Annotated[float, Bounds(min=0)] = 1.0
    arguments: Mapping[str, Any] = field(default_factory=dict, metadata=_ENGINE)
    origin: Origin | None = field(default=None, metadata=_ENGINE)


@dataclass(frozen=True)
class Expectation:
    """One line of `expect:`, e.g. "best val/accuracy": ">= 0.9175".

    Attributes:
        when: "best", "final", "epoch 3" or "lr drop 1 epoch".
        key: metric key; "" for an lr drop.
        low: smallest accepted value; None for no limit.
        high: largest accepted value.
        text: as written.
        origin: where it was written.
    """

    when: str
    key: str
    low: float | None
    high: float | None
    text: str
    origin: Origin


@dataclass(frozen=True)
class Recipe:
    """A whole recipe, checked, references to itself resolved, defaults filled in.

    Attributes:
        version: of the language; 1.
        name: of the run's folder; the file's stem when omitted.
        data: what is learnt from.
        model: the network.
        optimizer: what learns; `lr` is always written.
        train: how it is learnt.
        description: one sentence for the report.
        seed: of everything random.
        seeds: run once per seed, instead of `seed`.
        loss: the plain loss.
        regularizers: penalties beside the loss.
        scheduler: moves the learning rate.
        lr_finder: finds the learning rate first.
        callbacks: behaviour and sinks.
        report: parts of the report.
        answers: how the trained network answers.
        expect: what the run must reach.
        plugins: packages and files whose components may be named.
        text: the recipe file as given.
        file: its path as given.
        overrides: `key=value` of the command line, in order.
        origins: where each leaf was written, by dotted path; supplied and default leaves are missing.
        fast: whether it runs end to end but small (`--fast`).
    """

    version: int
    name: str
    data: Data
    model: Annotated[Spec, Slot("model")]
    optimizer: Annotated[Spec, Slot("optimizer")]
    train: Train
    description: str = ""
    seed: Annotated[int, Bounds(min=0)] = 1
    seeds: tuple[Annotated[int, Bounds(min=0)], ...] | None = None
    loss: Annotated[Spec, Slot("loss")] = "CrossEntropyLoss"  # type: ignore[assignment]
    regularizers: tuple[Annotated[Spec, Slot("regularizer")], ...] = ()
    scheduler: Annotated[Spec, Slot("scheduler")] | None = None
    lr_finder: LRFinder | None = None
    callbacks: tuple[Annotated[Spec, Slot("callback")], ...] = ("TensorBoard",)  # type: ignore[assignment]
    report: tuple[Annotated[Spec, Slot("report")], ...] = (
        "Curves",
        "Misclassified",
        "GradCAM",
        "ConfusionMatrix",
    )  # type: ignore[assignment]
    answers: Answering = Answering()
    expect: tuple[Expectation, ...] = ()
    plugins: tuple[str, ...] = ()
    text: str = field(default="", metadata=_ENGINE)
    file: str = field(default="", metadata=_ENGINE)
    overrides: tuple[str, ...] = field(default=(), metadata=_ENGINE)
    origins: Mapping[str, Origin] = field(default_factory=dict, metadata=_ENGINE)
    fast: bool = field(default=False, metadata=_ENGINE)
