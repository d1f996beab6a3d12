"""What the components of each slot must be able to do, and what they get to see.

Protocols and bases for datasets, regularizers, metrics, callbacks and report parts (sinks: recording.py), and the
frozen dataclasses that cross the border between them and the engine. Knows nothing of recipes or of the engine itself;
imports torch for type checking only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

from registry.data_facts import DataFacts as DataFacts
from registry.data_facts import FromArgument as FromArgument

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from registry.audited import Audit
    from registry.recording import Recorder

Plain = Any  # bool | int | float | str | None | Tensor, and lists and dicts of them: what a checkpoint may hold


# --------------------------------------------------------------------------------------------------------- datasets
class ImageSource(Protocol):
    """One split of a dataset: labelled images, uint8 (H, W, C) with C = 3 (RGB) or 1, read on request.

    A source may also have `masks(indices)`, the objects' pixels as bool (n, H, W); `remarks()`, sentences for the run's
    log on what was passed over or changed; `decoding`, a text that differs where the same files give other pixels;
    `reduced(index, factor)`, image `index` decoded smaller by `factor(height, width)`, 1, 2, 4 or 8, where it can be;
    `content(index)`, the bytes of its file; `count_of(split)`, how many images a split of the dataset has;
    `left_out`, the places of images that no part may hold; and of images that stand in a table `column(name)`, a text
    per image, and `group`, the column of what belongs together.

    Attributes:
        class_names: one name per class index.
        targets: class index of every image, int64 (N,).
    """

    class_names: Sequence[str]
    targets: np.ndarray

    def image(self, index: int) -> np.ndarray:
        """Return image `index` as uint8 (H, W, C)."""

    def describe(self, index: int) -> str:
        """Name image `index` for a message: a path where there is one, else "image 17 of CIFAR10 train"."""

    def packed(self) -> np.ndarray | None:
        """Return all images as one uint8 array (N, H, W, C) where the source holds them so; None otherwise."""

    def listing(self) -> Sequence[tuple[str, int, int]] | None:
        """Return (name, bytes, stamp) per file, the key of the packed cache; None where `packed` serves.

        A file's stamp is another number once its content may be another (`registry.datasets.source.stamp`).
        """


# ------------------------------------------------------------------------------------------- regularizers and metrics
class Regularizer(Protocol):
    """A penalty on parameters whose gradient is added straight into `.grad`."""

    include: Sequence[str] | None
    exclude: Sequence[str] | None

    def add_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Add d(penalty)/dp to the existing `.grad` of each parameter, in place, without a host sync."""

    def value(self, parameters: Sequence[nn.Parameter]) -> Tensor:
        """Return the penalty as a float32 scalar on the parameters' device."""


class Metric(Protocol):
    """A number over all samples of an epoch, gathered on the device without a host sync.

    Attributes:
        mode: "max" when greater is better.
    """

    mode: ClassVar[Literal["min", "max"]]

    def reset(self) -> None:
        """Forget everything."""

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Take in float logits (N, C) and int64 targets (N,)."""

    def compute(self) -> Tensor:
        """Return the value over everything taken in, a scalar on the device."""

    def state(self) -> dict[str, Plain]:
        """Return everything `load` needs to continue."""

    def load(self, state: Mapping[str, Plain]) -> None:
        """Continue from `state`."""


class Mergeable(Metric, Protocol):
    """A metric that can be taken over several processes; a run on one asks for no more than a `Metric`."""

    def merge(self, states: Sequence[Mapping[str, Plain]]) -> None:
        """Take in what the same metric has gathered of other images: their `state()`s, in order.

        Where every entry of the state is a number or tensor that adds up, one
        line does: `self.load(registry.metrics.merging.summed([self.state(), *states]))`. Tensors are left as they are.
        """


# ----------------------------------------------------------------------------------------------------------- callbacks
@dataclass(frozen=True)
class View:
    """What a callback sees of a training, to read only.

    Attributes:
        epoch: current epoch, from 1; 0 before the first.
        epochs: epochs planned.
        step: optimizer steps done.
        steps_per_epoch: optimizer steps per epoch.
        lr: learning rate of the last step, of the first parameter group.
        model: the model being trained.
        row: metrics of the last finished epoch; empty before.
        best: the best epoch's row so far; None before the first.
        recorder: where to send what people should see.
    """

    epoch: int
    epochs: int
    step: int
    steps_per_epoch: int
    lr: float
    model: nn.Module
    row: Mapping[str, float]
    best: Mapping[str, float] | None
    recorder: Recorder


@dataclass(frozen=True)
class Stop:
    """A callback's request to end training after this epoch; no error.

    Attributes:
        reason: shown in the log and the report.
    """

    reason: str


@dataclass(frozen=True)
class Pause:
    """A callback's request to leave training after this epoch, saved, so that a resume goes on exactly; no error.

    Attributes:
        reason: shown in the log.
    """

    reason: str


class Callback:
    """Behaviour during training; every method is an event of the loop, and the base does nothing.

    An event may return `Stop` to end training after the current epoch, or a mapping of scalars to add to the epoch's
    row (from `epoch_finished` only).

    Attributes:
        called: what the recipe calls it by `as`, by which a resume finds its state; "" without.
    """

    called: str = ""

    def run_started(self, view: View) -> None:
        """Before the first step of this process, also when resumed."""

    def epoch_started(self, view: View) -> None:
        """Before an epoch's first batch."""

    def step_finished(self, view: View) -> Stop | None:
        """After an optimizer step. Called at the log interval only, so that a step costs nothing."""

    def measure(self, view: View) -> Mapping[str, float]:  # noqa: ARG002  (the base measures nothing)
        """After validation: scalars to add to the epoch's row."""
        return {}

    def epoch_finished(self, view: View) -> Stop | Pause | None:
        """After the row is recorded."""

    def run_finished(self, view: View) -> None:
        """At the end, also after an error or an interrupt."""

    def still_asks(self) -> Stop | None:
        """After `load`, where a run that was stopped goes on with other callbacks: whether it should stay stopped.

        Asked without a new epoch, so that more patience continues a run and the same patience does not. The base asks
        for nothing: such a run goes on until the next event asks again.
        """

    def state(self) -> dict[str, Plain]:
        """Everything that must survive a resume."""
        return {}

    def load(self, state: Mapping[str, Plain]) -> None:
        """Continue from `state`."""


# ------------------------------------------------------------------------------------------------------- stage results
@dataclass(frozen=True)
class LRFinding:
    """What an LR sweep found.

    Attributes:
        lrs: learning rate that belongs to each loss, per step.
        losses: plain loss at each point (mean cross entropy per sample, no penalties).
        smoothed: zero-phase smooth of `losses`.
        picks: learning rate by rule ("minimum", "steepest", "valley", "minimum_over_10"); None where a rule has none.
        pick: the rule taken.
        lr: the number; None when inconclusive.
        loss: smoothed loss at the curve's point nearest to `lr`; None when inconclusive.
        status: "found", "inconclusive" or "assumed" (`--fast` takes sqrt(start*end)).
        reason: why it is inconclusive and what to try; "" otherwise.
        stopped: "end" or "diverged" or "non-finite".
        seconds: wall time.
    """

    lrs: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    picks: Mapping[str, float | None]
    pick: str
    lr: float | None
    loss: float | None
    status: Literal["found", "inconclusive", "assumed"]
    reason: str
    stopped: Literal["end", "diverged", "non-finite"]
    seconds: float


@dataclass(frozen=True)
class Predictions:
    """A model's answers on a whole split, in dataset order.

    Attributes:
        indices: index of each image in its dataset split, int64 (N,).
        targets: class index, int64 (N,).
        logits: float32 (N, C).
        loss: mean of the recipe's plain loss.
        metrics: metric key -> value, "accuracy" among them.
    """

    indices: np.ndarray
    targets: np.ndarray
    logits: np.ndarray
    loss: float
    metrics: Mapping[str, float]


# -------------------------------------------------------------------------------------------------------------- report
@dataclass(frozen=True)
class Paragraph:
    """Text, plain; `**bold**` and `code` in backticks are rendered, everything else is escaped.

    Words from elsewhere (names, patterns) go through `registry.printing.literal`, here and in tables and captions.
    """

    text: str
    tone: Literal["plain", "note", "warning"] = "plain"


@dataclass(frozen=True)
class Table:
    """Rows under headers.

    Attributes:
        caption: shown above.
        headers: one per column.
        rows: cells, numbers as text already.
        align: one of "l" or "r" per column; "" for left.
        sortable: whether the page offers to sort it; numbers of a column then have one unit.
        order: what each cell is sorted by where its text does not tell (a duration, a name), None for last.
        links: where the first cell of each row leads, relative to the page; "" for nowhere.
        sketches: a small SVG per row, in a column of its own at the end, which Markdown leaves out.
    """

    caption: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    align: str = ""
    sortable: bool = False
    order: tuple[tuple[float | str | None, ...], ...] = ()
    links: tuple[str, ...] = ()
    sketches: tuple[str, ...] = ()


@dataclass(frozen=True)
class Figure:
    """A picture that lies in the run folder.

    Attributes:
        path: relative to the run folder, a PNG.
        alt: what a person who cannot see it should know.
        caption: shown below.
        svg: the same as inline SVG for the page; the PNG remains for Markdown and other uses.
        width: natural width in CSS pixels; None for full width.
    """

    path: str
    alt: str
    caption: str
    svg: str | None = None
    width: int | None = None


@dataclass(frozen=True)
class Gallery:
    """Pictures in a grid, each with its own caption."""

    figures: tuple[Figure, ...]
    caption: str
    columns: int = 5


@dataclass(frozen=True)
class Code:
    """Text to copy, as written."""

    text: str
    language: str = "text"


Fold = Literal["open", "on screen", "always"]


@dataclass(frozen=True)
class Section:
    """A part of the report: a title and blocks, top to bottom; sections among the blocks stand below its heading.

    Attributes:
        title: heading.
        blocks: content.
        key: stable anchor, e.g. "gradcam".
        facts: numbers worth keeping, "mean heat share" -> 3.4; they go into summary.json under `report.<key>`.
        fold: where only the heading shows until a reader opens it: nowhere, on the screen, or on paper as well, which
            leaves it out.
        in_short: whether it stands in the short version, too.
    """

    title: str
    blocks: tuple[Block, ...]
    key: str
    facts: Mapping[str, float] = field(default_factory=dict)
    fold: Fold = "open"
    in_short: bool = False


Block = Paragraph | Table | Figure | Gallery | Code | Section


@runtime_checkable
class Images(Protocol):
    """Images of the split the report explains, by position 0..N-1 in `Predictions`."""

    def raw(self, positions: Sequence[int]) -> list[np.ndarray]:
        """Return the stored images, uint8 (H, W, C), sizes may differ."""

    def shown(self, positions: Sequence[int]) -> list[np.ndarray]:
        """Return the images as the model sees them before normalising, uint8 (H, W, 3), sizes may differ."""

    def prepared(self, positions: Sequence[int]) -> Tensor:
        """Return the model's input, float32 (n, C, H, W), on the model's device.

        Raises:
            DataError: the images make no batch, because the recipe gives them no common size; one alone always does.
        """

    def masks(self, positions: Sequence[int]) -> np.ndarray | None:
        """Return the object masks, bool (n, H, W), where the dataset knows them; None otherwise."""

    def files(self, positions: Sequence[int]) -> list[str]:
        """Return each image's file, printable, below the dataset's folder; "" where it is not a file of its own."""


@dataclass(frozen=True)
class UsedPart:
    """One part of a run's data.

    Attributes:
        name: "train", "val" or "test".
        counts: images per class.
    """

    name: str
    counts: tuple[int, ...]

    @property
    def images(self) -> int:
        """How many images it has."""
        return sum(self.counts)


@dataclass(frozen=True)
class UsedData:
    """What a run learnt from and was measured on.

    Attributes:
        dataset: its name in the recipe.
        place: the folder that the images come from; "" where the dataset has none.
        pixels: colour and size of the stored images, in words.
        parts: as they were used.
        drawn: how validation was chosen and what is held out, a sentence each.
        left_out: files that could not be read and were left out.
    """

    dataset: str
    place: str
    pixels: str
    parts: tuple[UsedPart, ...]
    drawn: tuple[str, ...]
    left_out: tuple[str, ...] = ()

    def part(self, name: str) -> UsedPart | None:
        """Return a part; None where there is none of that name."""
        return next((part for part in self.parts if part.name == name), None)


@dataclass(frozen=True)
class Evidence:
    """Everything a report part may look at. Parts write pictures below `folder` and return what to print.

    Attributes:
        folder: the run folder; figures go to figures/, GradCAM to gradcam/.
        name: the recipe's name.
        description: the recipe's description; "" where it has none.
        recipe: the recipe as given, YAML text.
        resolved: the resolved recipe as nested plain values.
        class_names: one per class index, printable: a folder's name that is no UTF-8 has escapes.
        split: the split that predictions and images are of ("test", "val").
        selected_on: the split whose metric chose the best epoch.
        history: one row per epoch, as in metrics.jsonl.
        best: the best epoch's row; None when no epoch was finished, or none could be the best.
        summary: what summary.json will hold.
        environment: versions, hardware, git, command line.
        finding: the LR finder's result; None where the recipe has no `lr_finder`.
        model: best weights, or the final ones without a `best`, eval mode; parts leave modes, gradients and random
            state as they found them.
        predictions: of the model on `split`; None when no epoch was finished.
        images: the images behind `predictions`.
        train_samples: training images as stored, the first of each class, uint8 (H, W, 3) each, sizes may differ; read
            when they are asked for.
        augmented: k -> the same images after their k-th augmentation draw, before normalising, uint8 (H', W', 3) each.
        warnings: one sentence each: selection on test, idle epochs, gap, ...
        recorder: TensorBoard and other sinks.
        parameters: number of trained parameters.
        counted_in: the dataset's split that `predictions.indices` count in: "train" where `split` was cut off it; ""
            where that is `split` itself.
        data: what the run learnt from and was measured on; None where nothing was trained.
        sample_classes: class index of each of `train_samples`.
        sample_files: file of each of `train_samples`, as `Images.files` gives it.
        defaults: what the language takes for the settings in `resolved` where a recipe leaves them out.
        rates: learning rate of every optimizer step; empty where only the epochs' are known.
        audit: of the pictures; None where none was made.
    """

    folder: Path
    name: str
    description: str
    recipe: str
    resolved: Mapping[str, Any]
    class_names: tuple[str, ...]
    split: str
    selected_on: str
    history: Sequence[Mapping[str, float]]
    best: Mapping[str, float] | None
    summary: Mapping[str, Any]
    environment: Mapping[str, Any]
    finding: LRFinding | None
    model: nn.Module
    predictions: Predictions | None
    images: Images
    train_samples: Sequence[np.ndarray]
    augmented: Callable[[int], Sequence[np.ndarray]]
    warnings: Sequence[str]
    recorder: Recorder
    parameters: int
    counted_in: str = ""
    data: UsedData | None = None
    sample_classes: tuple[int, ...] = ()
    sample_files: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    rates: Sequence[float] = ()
    audit: Audit | None = None

    @property
    def numbering(self) -> str:
        """What the number of an image counts in, as a caption says it."""
        within = self.counted_in or self.split
        return within if within == self.split else f"the dataset's {within}, which {self.split} was cut from"


class ReportPart(Protocol):
    """An entry of `report:`; also run alone by `explain` and the tests."""

    def render(self, evidence: Evidence) -> Section:
        """Write the part's pictures and return what to print."""
