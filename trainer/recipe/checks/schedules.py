"""Checking of the learning-rate schedule against the length of the run, phase by phase.

Owns the rules on schedulers, nested ones too. What only shows when a schedule is built and gone through (a rate that
dies out, a constructor that refuses) shows in the trial (trainer/experiment/trial.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TypeGuard

from trainer.recipe.checks.draft import Draft
from trainer.recipe.checks.lengths import LENGTH, Length, Phase, phases, run_length, total_steps
from trainer.recipe.reading.references import LR_FOUND
from trainer.recipe.recipe import Reference, Spec

PLATEAU = "ReduceLROnPlateau"
OWN_RATES = ("OneCycleLR", "CyclicLR")  # say every rate themselves: the optimizer's is overwritten
_SPANS = ("T_max", "T_0", "total_iters", "step_size", "step_size_up", "total_steps", "patience")  # in its own unit
_LISTS = ("milestones",)
_AFTER = ("patience", "step_size", "milestones")  # what happens there happens after so many: at the end nobody sees it
VANISHED = 1e-7  # share of the highest learning rate from which on nothing is learnt

Rule = tuple[Callable[[Draft], None], tuple[str, ...]]


# ------------------------------------------------------------------------------------------------------------- errors
def _one_cycle_ends(draft: Draft) -> None:
    """Refuse a total that is shorter than the run: torch raises at the first step beyond it."""
    for phase, length in _phases(draft):
        spec, total = phase.spec, _own_total(draft, phase.spec)
        if spec.type == "OneCycleLR" and total is not None and total < phase.units:
            name = "total_steps" if "total_steps" in spec.arguments else "epochs"
            counted = "the run" if phase.whole else "its phase"
            text = f"scheduler {spec.type}.{name}: {counted} takes {_words(phase, length)}, got {total:,}"
            draft.report("R053", f"{spec.path}.{name}", text, "leave it out: the engine supplies it")


def _own_total(draft: Draft, spec: Spec) -> int | None:
    """Return the steps that a OneCycleLR is told of; None where the engine supplies them."""
    total, epochs = draft.argument(spec, "total_steps"), draft.argument(spec, "epochs")
    per_epoch = draft.argument(spec, "steps_per_epoch")
    if _is_count(total):
        return total
    return epochs * per_epoch if _is_count(epochs) and _is_count(per_epoch) else None


def _rates_in_order(draft: Draft) -> None:
    for spec in _schedulers(draft):
        base, top = draft.argument(spec, "base_lr"), draft.argument(spec, "max_lr")
        if spec.type == "CyclicLR" and _is_number(base) and _is_number(top) and base >= top:
            text = f"scheduler CyclicLR.base_lr: {base:g} is not below max_lr {top:g}"
            draft.report("R063", f"{spec.path}.base_lr", text, "the rate moves from base_lr up to max_lr")


def _milestones_rise(draft: Draft) -> None:
    for spec in _schedulers(draft):
        ends = draft.argument(spec, "milestones")
        if spec.type != "SequentialLR" or not isinstance(ends, (list, tuple)) or not all(map(_is_count, ends)):
            continue
        if any(later <= earlier for earlier, later in pairwise(ends)):
            text = f"scheduler SequentialLR.milestones: {list(ends)} do not rise"
            draft.report("R063", f"{spec.path}.milestones", text, "each is where the next phase begins")


def _unread(draft: Draft) -> None:
    """Refuse arguments that torch does not look at beside others."""
    for spec in _schedulers(draft):
        given, unread = spec.arguments, []
        if spec.type == "OneCycleLR" and "total_steps" in given:
            unread += [(name, "total_steps says the length") for name in ("epochs", "steps_per_epoch") if name in given]
        if spec.type in OWN_RATES and draft.argument(spec, "cycle_momentum") is False:
            names = [name for name in ("base_momentum", "max_momentum") if name in given]
            unread += [(name, "cycle_momentum is false") for name in names]
        if spec.type == "CyclicLR" and "gamma" in given and draft.argument(spec, "mode") != "exp_range":
            unread.append(("gamma", "only mode: exp_range reads it"))
        for name, why in unread:
            text = f"nothing reads '{name}' of {spec.type}: {why}"
            draft.report("R052", f"{spec.path}.{name}", text, "leave it out")


def _momentum_overwritten(draft: Draft) -> None:
    """Warn of a momentum that a cycle sets anew in every step."""
    cycle = next((spec for spec in _schedulers(draft) if spec.type in OWN_RATES), None)
    said = {"cycle_momentum", "base_momentum", "max_momentum"}  # whoever writes one of them knows
    if cycle is None or said & cycle.arguments.keys() or draft.argument(cycle, "cycle_momentum") is not True:
        return
    optimizer = draft.recipe.optimizer
    groups = [group.arguments for group in optimizer.knobs.get("groups", ())]
    every = [("optimizer", optimizer.arguments), *((f"optimizer.groups.{i}", each) for i, each in enumerate(groups))]
    for path, arguments in every:
        for name in {"momentum", "betas"} & arguments.keys():
            text = f"{cycle.type} moves the momentum, so {path}.{name} is not kept"
            hint = f"{cycle.path}.cycle_momentum: false keeps it, true says that it may"
            draft.report("W066", f"{path}.{name}", text, hint)


def _warmup(draft: Draft) -> None:
    scheduler, epochs = draft.recipe.scheduler, draft.recipe.train.epochs
    for spec in _schedulers(draft):
        if "warmup" in spec.knobs and spec is not scheduler:
            text = f"nothing reads 'warmup' of {spec.type}: the scheduler around it is warmed up"
            draft.report("R052", f"{spec.path}.warmup", text, "set scheduler.warmup")
    warmup = None if scheduler is None else scheduler.knobs.get("warmup")
    if scheduler is None or warmup is None:
        return
    rising = next((spec.type for spec in _schedulers(draft) if spec.type in OWN_RATES), None)
    if rising is not None:
        text = f"scheduler.warmup: {rising} rises by itself"
        draft.report("R052", "scheduler.warmup", text, "leave it out; pct_start and step_size_up say how long it rises")
    elif warmup.epochs >= epochs:
        text = f"scheduler.warmup.epochs: {warmup.epochs} leave nothing of a run of {epochs}"
        draft.report("R053", "scheduler.warmup.epochs", text, "the full rate is only reached after them")


# ----------------------------------------------------------------------------------------------------------- warnings
def _unwatched_plateau(draft: Draft) -> None:
    scheduler = draft.recipe.scheduler
    if scheduler is None or scheduler.type != PLATEAU:
        return
    step = scheduler.knobs.get("step")
    if step is None or step.monitor is None:
        text = f"{PLATEAU} without 'monitor' watches val/loss"
        draft.report("W003", "scheduler", text, "say so: step: {monitor: val/loss}")


def _dead_at_a_plateau(draft: Draft) -> None:
    """Warn of a rate that is gone the first time that it is lowered; the trial cannot see it, no metric is measured."""
    for spec in _schedulers(draft):
        factor, floor = draft.argument(spec, "factor"), draft.argument(spec, "min_lr")
        if spec.type == PLATEAU and _is_number(factor) and factor < VANISHED and floor == 0:
            text = f"scheduler {PLATEAU}.factor: {factor:g} makes the learning rate practically 0 at the first plateau"
            hint = "nothing is learnt from there on: 0.1 takes a tenth, and min_lr says where it ends"
            draft.report("W062", f"{spec.path}.factor", text, hint)


def _beyond_its_time(draft: Draft) -> None:
    for phase, length in _phases(draft):
        spec = phase.spec
        for name in (*_SPANS, *_LISTS):
            value = _told(draft, draft.argument(spec, name))
            counts = value if isinstance(value, list) else [value]
            latest = max(filter(_is_count, counts), default=0)
            if spec.type == PLATEAU and name == "patience" and latest < phase.units:
                continue  # the epoch after its patience is the first it can lower
            if latest > phase.units or (name in _AFTER and latest >= phase.units):
                counted = "lies beyond the run" if phase.whole else "lies beyond its phase"
                text = f"scheduler {spec.type}.{name}: {latest:,} {counted}, which takes {_words(phase, length)}"
                draft.report("W004", f"{spec.path}.{name}", text, f"counted in {length.unit}s")


def _rising_again(draft: Draft) -> None:
    for phase, length in _phases(draft):
        period = _told(draft, phase.spec.arguments.get("T_max"))
        if phase.spec.type == "CosineAnnealingLR" and _is_count(period) and period < phase.units:
            counted = "the run" if phase.whole else "its phase"
            text = f"CosineAnnealingLR rises again after T_max = {period}: {counted} takes {_words(phase, length)}"
            hint = "leave T_max out: the engine supplies the length"
            draft.report("W005", f"{phase.spec.path}.T_max", text, hint)


def _epochs_for_steps(draft: Draft) -> None:
    """Warn of lengths that would make sense in epochs where the scheduler counts steps."""
    epochs = draft.recipe.train.epochs
    for phase, length in _phases(draft):
        if length.unit != "step" or length.steps_per_epoch is None or length.steps_per_epoch <= epochs:
            continue
        for name in ("T_max", "T_0", "step_size", *_LISTS):
            value = _told(draft, phase.spec.arguments.get(name))
            counts = [one for one in (value if isinstance(value, list) else [value]) if _is_count(one)]
            if not counts or phase.spec.type == "SequentialLR":
                continue
            if 1 < max(counts) <= epochs:
                text = f"scheduler {phase.spec.type}.{name}: {max(counts)} steps lie in the first epoch"
                hint = f"an epoch takes {length.steps_per_epoch:,} steps; count in epochs with step: {{each: epoch}}"
                draft.report("W064", f"{phase.spec.path}.{name}", text, hint)


def _growing(draft: Draft) -> None:
    for spec in _schedulers(draft):
        gamma = draft.argument(spec, "gamma")
        if spec.type != "CyclicLR" and _is_number(gamma) and gamma > 1:
            text = f"scheduler {spec.type}.gamma: {gamma:g} raises the learning rate each time"
            draft.report("W063", f"{spec.path}.gamma", text, "a factor below 1 lowers it")


def _floor_above_the_rate(draft: Draft) -> None:
    rate = draft.recipe.optimizer.arguments.get("lr")
    if not _is_number(rate):
        return
    for spec in _schedulers(draft):
        for name in ("min_lr", "eta_min"):
            floor = draft.argument(spec, name)
            if _is_number(floor) and floor >= rate > 0:
                text = f"scheduler {spec.type}.{name}: {floor:g} is not below the optimizer's lr {rate:g}"
                draft.report("W065", f"{spec.path}.{name}", text, "the rate never falls")


def _finder_unread(draft: Draft) -> None:
    if draft.recipe.lr_finder is None:
        return
    readers = [path for path, reference in draft.references() if reference.path == LR_FOUND]
    overwriting = next((spec for spec in _schedulers(draft) if spec.type in OWN_RATES), None)
    if overwriting is not None and readers and all(_is_base_rate(path) for path in readers):
        text = f"{overwriting.type} overwrites the optimizer's lr, so nobody uses what lr_finder finds"
        draft.report("W007", "lr_finder", text, f"write {overwriting.path}.max_lr: ${LR_FOUND}, or leave lr_finder out")
    elif not readers:
        text = "nobody reads the learning rate that lr_finder finds; it only reports"
        draft.report("W007", "lr_finder", text, f"write optimizer.lr: ${LR_FOUND}, or leave lr_finder out")


def _is_base_rate(path: str) -> bool:
    return path == "optimizer.lr"


# ------------------------------------------------------------------------------------------------------------ helpers
def _schedulers(draft: Draft) -> list[Spec]:
    return [spec for spec in draft.specs if spec.slot == "scheduler"]


def _phases(draft: Draft) -> Iterator[tuple[Phase, Length]]:
    """Yield every scheduler with the time it is in force, and the run's length; none where nobody knows it."""
    scheduler, length = draft.recipe.scheduler, run_length(draft)
    if scheduler is None or length is None:
        return
    for phase in phases(scheduler, length.scheduled):
        yield phase, length


def _told(draft: Draft, value: object) -> object:
    """Return a value, or what a run-time reference to the run's length will be, as far as the recipe tells."""
    if not isinstance(value, Reference):
        return value
    total, epochs = total_steps(draft), draft.recipe.train.epochs
    known = {"run.epochs": epochs, "run.total_steps": total, "run.steps_per_epoch": total and total // epochs}
    return known.get(value.path)


def _words(phase: Phase, length: Length) -> str:
    return f"{phase.units:,} {length.unit}{'' if phase.units == 1 else 's'}"


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, (bool, Reference))


RULES: tuple[Rule, ...] = (
    (_one_cycle_ends, ("scheduler", *LENGTH)),
    (_rates_in_order, ("scheduler",)),
    (_milestones_rise, ("scheduler",)),
    (_unread, ("scheduler",)),
    (_warmup, ("scheduler", "train.epochs")),
)
WARNINGS: tuple[Rule, ...] = (
    (_unwatched_plateau, ("scheduler",)),
    (_dead_at_a_plateau, ("scheduler",)),
    (_beyond_its_time, ("scheduler", *LENGTH)),
    (_rising_again, ("scheduler", *LENGTH)),
    (_epochs_for_steps, ("scheduler", *LENGTH)),
    (_growing, ("scheduler",)),
    (_momentum_overwritten, ("scheduler", "optimizer")),
    (_floor_above_the_rate, ("scheduler", "optimizer.lr")),
    (_finder_unread, ("lr_finder", "optimizer.lr", "scheduler")),
)
