"""Processes: all that differs where a run has more than one, behind one object that the loop calls and never asks.

The base is a run of one process: it does nothing beside what such a run would do without it. `Group` (group.py), which
torch's launcher makes necessary, is several that share every batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from registry.contracts import Metric
from registry.errors import UserError
from trainer.data.batches import Batch
from trainer.data.sharing import Sharing
from trainer.engine.criterion import Criterion, Weight
from trainer.engine.device import choose_device
from trainer.engine.interrupts import Interrupts

if TYPE_CHECKING:
    from trainer.engine.meters import BatchResult

T = TypeVar("T")
Mixer = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
Log = Callable[[str], None]


class Lost(Exception):
    """Another process of the run has ended before its time.

    Args:
        text: what it has said, or what is known of it.
        exit_code: its own.
    """

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code


class OwnState(NamedTuple):
    """What a process goes on from of a checkpoint's states that are one per process.

    Attributes:
        rng: random states.
        meters: states of the meters whose batches it takes over; several, or none, where there were other processes.
    """

    rng: Mapping[str, Any]
    meters: Sequence[Mapping[str, Any]]


class Processes:
    """A run of one process; the base, which shares nothing with anybody.

    Attributes:
        rank: number of this process, from 0.
        count: of processes.
        on_this_machine: of them.
        sharing: how batches are divided; None where this process takes them whole.
        is_first: whether this process writes the run folder, the console and the report: exactly one does.
        again: what a command that continues the run ends with, to have as many.
    """

    rank = 0
    count = 1
    on_this_machine = 1
    sharing: Sharing | None = None
    is_first = True
    again = ""

    # ----------------------------------------------------------------------------------------------------------- a step
    def normed(self, model: nn.Module) -> nn.Module:
        """Return a network whose BatchNorms count over the whole batch."""
        return model

    def carried(self, model: nn.Module, others: Iterable[nn.Module], shape: tuple[int, int, int]) -> nn.Module:  # noqa: ARG002
        """Return what a training step calls in place of `model`, so that gradients are those of the whole batch.

        Args:
            model: the network.
            others: modules with a state of their own that a step may move: the loss, ...
            shape: (channels, height, width) of its input.
        """
        return model

    def prepared(
        self, group: Sequence[Batch], mix: Mixer | None, criterion: Criterion
    ) -> tuple[Sequence[Batch], list[Weight], Weight]:
        """Return the micro-batches of a step as they are learnt from, and what each and all of them count.

        Args:
            group: micro-batches.
            mix: mixes each, over all processes; None for not.
            criterion: tells what a mean over a batch divides by.

        Returns:
            The batches, mixed; the weight of each; and the weight that makes a step of them, see `part_of_step`.
        """
        given = group if mix is None else [Batch(*mix(batch.images, batch.targets), batch.indices) for batch in group]
        weights = [criterion.weight(batch.targets) for batch in given]
        return given, weights, weights[0] if len(weights) == 1 else sum(weights[1:], start=weights[0])

    def in_turn(self, micro_batches: Iterable[T]) -> Iterable[T]:
        """Yield micro-batches for forward and backward pass; after the last one's, gradients are those of the step."""
        return micro_batches

    def settled(self, results: Sequence[BatchResult]) -> list[Tensor]:
        """Return scalars of a step that was computed, not finite where a loss of any process is not.

        Buffers that training moves are those of the whole batch from then on.
        """
        return [result.loss for result in results]

    def counted(self, results: list[BatchResult]) -> list[BatchResult]:
        """Return those of a step's results that count in the numbers of an epoch."""
        return results

    def counts(self, batch: Batch) -> bool:  # noqa: ARG002  (in one process every batch does)
        """Whether a batch has images of this process's own."""
        return True

    # ------------------------------------------------------------------------------------------------------- numbers
    def totals(self, *numbers: float) -> Sequence[float]:
        """Return each number's sum over all processes, which all call this at the same time."""
        return numbers

    def value(self, metric: Metric) -> float:
        """Return a metric over what all processes took in; `metric` itself stays as it is."""
        return float(metric.compute())

    def on_first(self, columns: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return rows of all processes on the first, sorted by the last column; nothing on the others.

        Args:
            columns: tensors (n, ...) on the CPU, the last of unlike whole numbers; none where this process has no row.
        """
        return columns

    # ------------------------------------------------------------------------------------------------------- agreement
    def said_by_first(self, value: T) -> T:
        """Return what the first process has as `value`: a clock's answer, a callback's request."""
        return value

    def every(self, own: T) -> list[T]:
        """Return every process's value, by rank."""
        return [own]

    def made_by_first(self, make: Callable[[], T]) -> T:
        """Return what `make` returns in the first process, which alone calls it."""
        return make()

    def first_on_machine(self, log: Log) -> AbstractContextManager[object]:  # noqa: ARG002
        """Let one process of each machine run the block before the others do, which wait and say so."""
        return nullcontext()

    def require_same(self, facts: Callable[[], Mapping[str, str]], error: type[UserError], hint: str = "") -> None:
        """Refuse to go on where processes have other facts than the first.

        Args:
            facts: returns them by name; not called where there is nobody to compare with.
            error: to raise.
            hint: of it.

        Raises:
            UserError: as `error` says: naming the process and what differs.
        """

    def require_share(self, batch_size: int, place: object) -> None:
        """Refuse batches that leave a process without an image.

        Args:
            batch_size: images of a whole batch.
            place: where the recipe says it.

        Raises:
            RecipeError: there are fewer images than processes.
        """

    def require_mergeable(self, metrics: Mapping[str, Metric]) -> None:
        """Refuse metrics, by key, that cannot be taken over all processes.

        Raises:
            RecipeError: naming the first that cannot.
        """

    def cause(self, error: BaseException) -> BaseException:
        """Return what has ended this process: `error`, or the end of another that it comes of."""
        return error

    # ------------------------------------------------------------------------------------------ hardware and randomness
    def device(self, requested: str, place: object = "") -> torch.device:  # noqa: ARG002
        """Return the device of this process.

        Args:
            requested: as the recipe says.
            place: where the recipe says it, for a message.

        Raises:
            RecipeError: it is not there, or not for this process to choose.
        """
        return choose_device(requested)

    def interrupts(self) -> Interrupts:
        """Return what remembers signals."""
        return Interrupts()

    def draw_apart(self, seed: int) -> None:
        """From now on random draws, of dropout, are this process's own."""

    # ------------------------------------------------------------------------------------------------------ checkpoints
    def every_state(self, own: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        """Return what a checkpoint holds of the other processes' states; {} where there are none."""
        return {}

    def own_state(self, state: Mapping[str, Any]) -> OwnState:
        """Return what this process goes on from of that which each has for itself.

        Args:
            state: a checkpoint, of any number of processes.
        """
        return OwnState(state["rng"], states_in(state, "meter"))

    # ------------------------------------------------------------------------------------------------------------ words
    def described(self, batch_size: int) -> dict[str, Any]:  # noqa: ARG002
        """Return what environment.json says of the processes; {} for one alone."""
        return {}


def states_in(state: Mapping[str, Any], name: str) -> list[Any]:
    """Return a part of the states of all processes that a checkpoint is of, by rank."""
    others = state["processes"]["others"] if "processes" in state else ()
    return [state[name], *(each[name] for each in others)]


ONE = Processes()
