"""What the differences between trials are worth: candidates held against one another over the same seeds.

Pure functions of numbers. The best of many looks is too good by luck; so the best few are run again by seeds that chose
nothing, and one is called the winner only where the interval of its lead leaves no room for zero.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from registry.printing import metric_text
from trainer.comparison.statistics import LEVEL, of_mean
from trainer.search.study import Trial
from trainer.search.sweep import Goal


def best_first(trials: Sequence[Trial], goals: Sequence[Goal]) -> list[Trial]:
    """Return the complete trials by the first objective, ties to the earlier one."""
    done = [trial for trial in trials if trial.state == "complete"]
    return sorted(done, key=lambda trial: (-goals[0].sign * trial.values[0], trial.number))


def distinct(trials: Sequence[Trial]) -> list[Trial]:
    """Return the first trial of each recipe: a sampler may draw one again, and by itself it is not told apart."""
    first: dict[tuple[str, ...], Trial] = {}
    for trial in trials:
        first.setdefault(trial.texts, trial)
    return list(first.values())


def front(trials: Sequence[Trial], goals: Sequence[Goal]) -> list[Trial]:
    """Return the complete trials that no other is at least as good as in all objectives and better in one."""
    done = best_first(trials, goals)
    signed = [[goal.sign * value for goal, value in zip(goals, trial.values, strict=True)] for trial in done]
    return [trial for trial, own in zip(done, signed, strict=True) if not any(_beats(other, own) for other in signed)]


def _beats(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(a >= b for a, b in zip(one, other, strict=True)) and any(a > b for a, b in zip(one, other, strict=True))


@dataclass(frozen=True)
class Candidate:
    """One of the best few, by fresh seeds.

    Attributes:
        number: of the trial.
        by_seed: seed -> value.
        failed: seeds by which it came to no number.
    """

    number: int
    by_seed: Mapping[int, float]
    failed: tuple[int, ...] = ()

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return statistics.fmean(self.by_seed.values())

    @property
    def deviation(self) -> float | None:
        """Standard deviation over the seeds; None with one."""
        return statistics.stdev(self.by_seed.values()) if len(self.by_seed) > 1 else None


@dataclass(frozen=True)
class Lead:
    """By how much the leader is better than another, over the seeds that both have.

    Attributes:
        over: the other's trial number.
        seeds: how many.
        mean: difference, positive where the leader is better.
        low: of its interval.
        high: of its interval.
    """

    over: int
    seeds: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Verdict:
    """What can be said.

    Attributes:
        candidates: the leader first.
        leads: of the leader over each of the others.
        winner: the leader's number, where every interval is above zero and it failed by no seed.
        failed: trial -> seeds by which it came to no number.
    """

    candidates: tuple[Candidate, ...]
    leads: tuple[Lead, ...]
    winner: int | None
    failed: Mapping[int, tuple[int, ...]]

    @property
    def leader(self) -> Candidate:
        """The one with the best mean."""
        return self.candidates[0]

    def text(self, goal: Goal) -> str:
        """Return the verdict in a few sentences."""
        return " ".join([self._verdict(goal), *self._failures()])

    def _failures(self) -> Iterator[str]:
        for trial, seeds in self.failed.items():
            by = f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
            yield f"Trial {trial} came to no end by {by}: it stands behind those that did."

    def _verdict(self, goal: Goal) -> str:
        leader, seeds = self.leader, min((lead.seeds for lead in self.leads), default=len(self.leader.by_seed))
        count = len(leader.by_seed)
        said = f"{goal.metric} {metric_text(goal.metric, leader.mean)} on average over {count} fresh seeds"
        if self.winner is not None:
            nearest = min(self.leads, key=lambda lead: lead.low)
            return (
                f"Trial {self.winner} is the winner: {said}, ahead of trial {nearest.over} by {_span(nearest, goal)}."
            )
        open_ = [lead for lead in self.leads if lead.low <= 0]
        if not open_:
            return f"Trial {leader.number} has {said}; there is no other to hold it against."
        numbers = " and ".join(f"trial {lead.over}" for lead in open_)
        nearest = min(open_, key=lambda lead: lead.mean)
        return (
            f"No difference that {seeds} seeds can show between trial {leader.number} and {numbers}: "
            f"the first has {said}, ahead of trial {nearest.over} by {_span(nearest, goal)}."
        )


def _span(lead: Lead, goal: Goal) -> str:
    if not lead.seeds:
        return "what no seed that both have can tell"
    if not math.isfinite(lead.low):
        size = f"{100 * lead.mean:.2f} points" if "accuracy" in goal.metric else f"{lead.mean:.4g}"
        return f"{size} (no interval: {'one seed' if lead.seeds < 2 else 'by each seed the same'})"
    if "accuracy" in goal.metric:
        return f"{100 * lead.mean:.2f} points (95 % interval {100 * lead.low:.2f} to {100 * lead.high:.2f})"
    return f"{lead.mean:.4g} (95 % interval {lead.low:.4g} to {lead.high:.4g})"


def judged(candidates: Sequence[Candidate], goal: Goal) -> Verdict | None:
    """Hold candidates against one another; None where none has a value.

    Args:
        candidates: each by the same fresh seeds, as far as its runs have come to an end.
        goal: the objective.
    """
    measured = [each for each in candidates if each.by_seed]
    ranked = sorted(measured, key=lambda each: (bool(each.failed), -goal.sign * each.mean, each.number))
    if not ranked:
        return None
    leader, others = ranked[0], ranked[1:]
    leads = tuple(_lead(leader, other, goal, len(others)) for other in others)  # by Bonferroni they hold together
    wins = bool(leads) and not leader.failed and all(lead.low > 0 for lead in leads)
    failed = {each.number: each.failed for each in candidates if each.failed}
    return Verdict(tuple(ranked), leads, leader.number if wins else None, failed)


def _lead(leader: Candidate, other: Candidate, goal: Goal, comparisons: int) -> Lead:
    shared = sorted(leader.by_seed.keys() & other.by_seed.keys())
    differences = [goal.sign * (leader.by_seed[seed] - other.by_seed[seed]) for seed in shared]
    mean = statistics.fmean(differences) if differences else math.nan
    found = of_mean(differences, 1 - (1 - LEVEL) / comparisons) if len(differences) > 1 else None
    if found is None:  # nothing is known of their spread
        return Lead(other.number, len(shared), mean, -math.inf, math.inf)
    return Lead(other.number, len(shared), mean, found.low, found.high)
