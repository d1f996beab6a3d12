"""Division of a network into layers that never change and a head that learns.

    images -> trunk -> features -> head -> logits

What the trunk makes of an image need be computed only once where nothing that learns has a part in it, nothing in it
is left to chance, and none of its statistics move. Whether that is so is not read off the layers but tried: a forward
pass of a few images is watched, and the head must give the network's own answers from the features alone. The head is
the last calls of modules, where each takes what the one before returned; else the whole network, in which what was
computed already is passed over. Knows nothing of recipes, or of where features are kept (trainer/experiment/features).
"""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainer.engine import rng
from trainer.engine.evaluation import evaluation_mode
from trainer.engine.modules import Kept, answering_by, slots_of

ALIKE = 0.02  # of the greatest value, by which two answers may differ that number formats and batches round apart


class UndividedError(Exception):
    """A network has no such division; the text says why."""


@dataclass(frozen=True)
class Division:
    """Where a network divides.

    Attributes:
        head: gives the logits of features, (n, classes); its modules are the network's own.
        tap: the module whose input, or answer, the features are.
        visit: which of its calls in a forward pass, from 0.
        at_input: the features are what the tap is given; else what it returns.
    """

    head: nn.Module
    tap: nn.Module
    visit: int
    at_input: bool

    def features(self, model: nn.Module, images: Tensor) -> Tensor:
        """Return the features of images (n, C, H, W), in new memory; what follows them is not computed."""
        visits, found = itertools.count(), []

        def take(values: Tensor) -> None:
            if next(visits) == self.visit:
                found.append(values.clone())
                raise _EnoughError

        if self.at_input:
            handle: Any = self.tap.register_forward_pre_hook(lambda _, given: take(given[0]))
        else:
            handle = self.tap.register_forward_hook(lambda _, __, answer: take(answer))
        try:
            model(images)
        except _EnoughError:
            pass
        finally:
            handle.remove()
        return found[0]


class _EnoughError(Exception):
    """Ends a forward pass that is of no more use."""


def divide(model: nn.Module, images: Tensor) -> Division:
    """Find where a network divides.

    Args:
        model: in the mode in which it trains; left as it was found.
        images: a few of the model's inputs, (n, C, H, W), n >= 2.

    Raises:
        UndividedError: it has no such division.
    """
    kept = Kept(slots_of([model], parameters=False)).take()
    try:
        with rng.untouched_randomness():
            found = _found(model, images)
            _require_own_answers(found, model, images)
    finally:
        kept.put_back()
    return found


# ---------------------------------------------------------------------------------------------- watching a forward pass
@dataclass
class Call:
    """One call of a module in a forward pass.

    Attributes:
        module: that was called.
        visit: which of its calls, from 0.
        started: when it began, on a clock of calls and answers.
        given: its input, where that is one tensor and nothing else.
        version: of that tensor, which counts up when something changes it in place.
        settled: whether up to its beginning nothing was drawn and no buffer had moved.
        ended: when it answered.
        answer: what it returned, where that is a tensor.
        answered: its version.
        left_settled: as `settled`, up to its answer.
    """

    module: nn.Module
    visit: int
    started: int
    given: Tensor | None
    version: int
    settled: bool
    ended: float = math.inf
    answer: Tensor | None = None
    answered: int = 0
    left_settled: bool = False


def watched(model: nn.Module, images: Tensor) -> tuple[list[Call], Tensor]:
    """Run a forward pass; return the calls of modules inside, in the order of their answers, and the answer."""
    clock, visits, open_calls, calls = itertools.count(), Counter[nn.Module](), list[Call](), list[Call]()
    before = _moving(model)

    def began(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        alone = given[0] if len(given) == 1 and not named and isinstance(given[0], Tensor) else None
        version = 0 if alone is None else alone._version
        open_calls.append(Call(module, visits[module], next(clock), alone, version, _moving(model) == before))
        visits[module] += 1

    def ended(_module: nn.Module, _given: tuple[Any, ...], answer: object) -> None:
        call = open_calls.pop()
        call.ended, call.answer = next(clock), answer if isinstance(answer, Tensor) else None
        call.answered = 0 if call.answer is None else call.answer._version
        call.left_settled = _moving(model) == before
        calls.append(call)

    inside = [module for module in model.modules() if module is not model]
    handles = [each.register_forward_pre_hook(began, with_kwargs=True) for each in inside]
    handles += [each.register_forward_hook(ended) for each in inside]
    try:
        answer = model(images)
    finally:
        for handle in handles:
            handle.remove()
    if not isinstance(answer, Tensor):
        raise UndividedError("the network returns something else than a tensor")
    return calls, answer


def _moving(model: nn.Module) -> tuple[object, ...]:
    """Return what changes when something is drawn or a buffer moves."""
    _, words, *_ = np.random.get_state()
    states = [torch.get_rng_state()] + (torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [])
    buffers = tuple((id(buffer), buffer._version) for buffer in model.buffers())
    return (random.getstate(), np.asarray(words).tobytes(), *(state.numpy().tobytes() for state in states), *buffers)


# ---------------------------------------------------------------------------------------------------- finding the place
def _found(model: nn.Module, images: Tensor) -> Division:
    with torch.enable_grad():
        calls, answer = watched(model, images)
    if not answer.requires_grad:
        raise UndividedError("nothing in it learns")
    tail = _tail(calls, answer, answer._version, math.inf)
    if tail is not None:
        first, modules = tail[0], [call.module for call in tail]
        head = modules[0] if len(modules) == 1 else nn.Sequential(*modules)
        return Division(head, first.module, first.visit, at_input=True)
    frozen = [call for call in calls if _is_done(call)]
    if not frozen:
        raise UndividedError("its first layers learn, or leave something to chance")
    last = frozen[-1]
    passed = [call for call in frozen if not any(_lies_in(call, other) for other in frozen)]
    skipped = Counter(call.module for call in passed)
    return Division(_Remainder(model, skipped, last.module, images), last.module, last.visit, at_input=False)


def _tail(calls: Sequence[Call], answer: Tensor, version: int, until: float) -> list[Call] | None:
    """Return the shortest row of calls from frozen features to `answer`, each given what the one before returned.

    What was changed in place in between is no longer what was returned.

    Args:
        calls: of the forward pass, in the order of their answers.
        answer: what the last of them is to return.
        version: of it.
        until: when the last must have ended.
    """
    makers = [call for call in calls if call.answer is answer and call.answered == version and call.ended < until]
    if not makers:
        return None
    innermost = max(makers, key=lambda call: call.started)
    around = [call for call in makers if call is innermost or _lies_in(innermost, call)]
    for call in sorted(around, key=lambda call: call.started, reverse=True):
        if call.given is None:
            continue
        if call.settled and not call.given.requires_grad:
            return [call]
        before = _tail(calls, call.given, call.version, call.started)
        if before is not None:
            return [*before, call]
    return None


def _is_done(call: Call) -> bool:
    """Whether a call's answer is the same in every epoch."""
    return call.left_settled and call.answer is not None and not call.answer.requires_grad


def _lies_in(call: Call, other: Call) -> bool:
    return other.started < call.started and call.ended < other.ended


class _Remainder(nn.Module):
    """A network whose first calls of some modules are passed over, since their outcome is given: the features.

    Args:
        model: the network.
        skipped: how many calls of each module are passed over.
        last: the module whose last call among these returns the features.
        images: of the shape that the network takes.
    """

    def __init__(self, model: nn.Module, skipped: Counter[nn.Module], last: nn.Module, images: Tensor) -> None:
        super().__init__()
        self.model = model
        self._skipped, self._last = tuple(skipped.items()), (last,)  # in tuples: they are no modules of its own
        self._nothing = torch.zeros_like(images[:1])

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits of features."""
        passed = [(module, self._passed(module, count, features)) for module, count in self._skipped]
        with answering_by(passed):
            answer: Tensor = self.model(self._nothing.expand(len(features), -1, -1, -1))
        return answer

    def _passed(self, module: nn.Module, count: int, features: Tensor) -> Callable[..., Any]:
        usual, left = module.forward, itertools.count(count - 1, -1)

        def forward(*given: Any, **named: Any) -> Any:
            more = next(left)
            if more < 0:
                return usual(*given, **named)
            return features if more == 0 and module is self._last[0] else given[0]

        return forward


# --------------------------------------------------------------------------------------------------------------- proofs
def _require_own_answers(found: Division, model: nn.Module, images: Tensor) -> None:
    """Refuse features that depend on the images beside them, or from which other answers follow."""
    with torch.no_grad():
        try:
            whole, part = found.features(model, images), found.features(model, images[:1])
        except ValueError as error:  # BatchNorm has nothing to count over in one image
            raise UndividedError("what it makes of an image depends on the others of a batch") from error
        if not alike(whole[:1], part):
            raise UndividedError("what it makes of an image depends on the others of a batch")
        with evaluation_mode(model):
            features = found.features(model, images)
            try:
                answers = found.head(features)
            except Exception as error:  # a network may do anything with what it passes on beside its layers
                raise UndividedError("its head needs more than what the frozen layers return") from error
            if not alike(answers, model(images)):
                raise UndividedError("its head needs more than what the frozen layers return")


def alike(one: Tensor, other: Tensor) -> bool:
    """Say whether two answers are the same but for rounding."""
    if one.shape != other.shape:
        return False
    largest = float(other.abs().max()) if other.numel() else 0.0
    return bool((one.float() - other.float()).abs().max() <= ALIKE * largest)
