"""The trials of a sweep as Optuna keeps them, and what we add: which are paused, and where each is run.

Optuna is asked for values and told results. A trial that is being run, or is paused, is RUNNING in its storage; that a
paused one has been judged is a mark of ours, and samplers, which learn from ended trials alone, see it as pruned. Who
works on a trial is said by a lock in its folder (ours, places.py), not by Optuna: it ends with its process.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from registry.catalogue.catalog import Catalogue, catalogue
from registry.errors import RecipeError, StorageError
from trainer.recipe.recipe import Recipe
from trainer.recipe.resolve import flat, flow
from trainer.search.building import built, distribution, sampler_for
from trainer.search.sweep import Sweep

PLACE, PAUSED, SEEDS, SECONDS, ERROR = "place", "paused at epoch", "values by seed", "seconds", "error"
MADE_OF, BEGAN = "made of", "began"
TRIES = 5  # at a storage that another worker is making at the same moment
_RUNG = "completed_rung_"  # begins Optuna's marks of the rungs that successive halving has judged
PAUSING = ("HyperbandPruner", "SuccessiveHalvingPruner")  # whose answer may be another once more trials have come


@dataclass(frozen=True)
class Trial:
    """One trial as it stands.

    Attributes:
        number: from 0.
        id: in the storage.
        state: "running", "paused", "complete", "pruned" or "failed".
        values: the objectives, means over the seeds; () before it is complete, of a pruned one its last.
        texts: what was drawn, as YAML, one per choice.
        by_epoch: what the pruner was told.
        by_seed: the objectives of each seed.
        seconds: training time of all its runs.
        place: of its run folders; "" where not said yet.
        error: why it failed.
    """

    number: int
    id: int
    state: str
    values: tuple[float, ...]
    texts: tuple[str, ...]
    by_epoch: Mapping[int, float]
    by_seed: Mapping[str, Sequence[float]]
    seconds: float
    place: str
    error: str


class _PausedAsPruned(BaseStorage):
    """Another storage, in whose list of trials the paused ones are pruned; `hidden` ones are left out."""

    def __init__(self, inner: BaseStorage) -> None:
        self.inner = inner
        self.hidden: set[int] = set()

    def get_all_trials(self, study_id: int, deepcopy: bool = True, states: Any = None) -> list[FrozenTrial]:
        trials = [self._seen(each) for each in self.inner.get_all_trials(study_id, deepcopy=deepcopy)]
        kept = [each for each in trials if each.number not in self.hidden]
        return kept if states is None else [each for each in kept if each.state in states]

    @staticmethod
    def _seen(trial: FrozenTrial) -> FrozenTrial:
        if trial.state != TrialState.RUNNING or not trial.user_attrs.get(PAUSED):
            return trial
        seen = optuna.trial.create_trial(
            state=TrialState.PRUNED,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs=trial.user_attrs,
            system_attrs=trial.system_attrs,
            intermediate_values=trial.intermediate_values,
        )
        seen.number, seen._trial_id, seen.datetime_start = trial.number, trial._trial_id, trial.datetime_start
        return seen


def _passed_on(name: str) -> Callable[..., Any]:
    def method(self: _PausedAsPruned, *args: Any, **options: Any) -> Any:
        return getattr(self.inner, name)(*args, **options)

    return method


for _name in BaseStorage.__abstractmethods__ - {"get_all_trials"} | {"remove_session", "check_trial_is_updatable"}:
    setattr(_PausedAsPruned, _name, _passed_on(_name))
_PausedAsPruned.__abstractmethods__ = frozenset()


class Study:
    """One sweep's trials.

    Args:
        sweep: what is searched.
        recipe: of its first point.
        root: where runs lie.
        place: names the disk that run folders of these trials lie on.

    Raises:
        RecipeError: the storage holds trials of another sweep of this name, or its driver is not installed.
        StorageError: the storage cannot be reached.
    """

    def __init__(self, sweep: Sweep, recipe: Recipe, root: Path, place: str) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.sweep, self._place = sweep, place
        known = catalogue()
        self._sampler = partial(sampler_for, sweep=sweep, recipe=recipe, known=known)
        self._distributions: dict[str, BaseDistribution] = {
            choice.path: distribution(choice, known) for choice in sweep.choices
        }
        self._storage = _PausedAsPruned(_opened(url_of(sweep, root)))  # type: ignore[abstract]
        self._study = self._made(sweep, recipe, known)
        self._study.stop = lambda: None  # type: ignore[method-assign]  # a grid's sampler asks for it at its end
        self._id = self._study._study_id
        self._agrees(sweep, recipe)

    def _made(self, sweep: Sweep, recipe: Recipe, known: Catalogue) -> optuna.Study:
        pruner = None if sweep.pruner is None else built(sweep.pruner, sweep, recipe, known)
        for attempt in range(TRIES):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    return optuna.create_study(
                        storage=self._storage,
                        study_name=sweep.sweep,
                        sampler=built(sweep.sampler, sweep, recipe, known),
                        pruner=pruner or optuna.pruners.NopPruner(),
                        directions=["maximize" if goal.mode == "max" else "minimize" for goal in sweep.goals],
                        load_if_exists=True,
                    )
                except Exception as error:
                    if attempt + 1 == TRIES:
                        raise _unreachable(sweep, root_cause(error)) from error
            time.sleep(0.2 * (attempt + 1))
        raise AssertionError("unreachable")

    def _agrees(self, sweep: Sweep, recipe: Recipe) -> None:
        """Hold the sweep against the one that the trials were made by; the first to come writes it down."""
        mine, held = made_of(sweep, recipe), self._study.user_attrs.get(MADE_OF)
        if held is None:
            self._study.set_user_attr(MADE_OF, mine)
            self._study.set_user_attr(BEGAN, time.time())
        elif held != mine:
            other = [key for key in sorted({*held, *mine}) if held.get(key) != mine.get(key)]
            raise RecipeError(
                f"{sweep.file}: the trials of '{sweep.sweep}' were made by another sweep: {', '.join(other)} differ",
                "give this one another name under `sweep`, or bring back what the trials were made with",
            )

    # ---------------------------------------------------------------------------------------------------------- looking
    def trials(self) -> list[Trial]:
        """Return all trials, by number; those that came too many are left out."""
        found = self._storage.inner.get_all_trials(self._id, deepcopy=False)
        return [self._trial(each) for each in sorted(found, key=lambda each: each.number)]

    def _trial(self, frozen: FrozenTrial) -> Trial:
        marks = frozen.user_attrs
        paused = frozen.state == TrialState.RUNNING and bool(marks.get(PAUSED))
        states = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
        values = frozen.values if frozen.state in (TrialState.COMPLETE, TrialState.PRUNED) else None
        return Trial(
            frozen.number,
            frozen._trial_id,
            "paused" if paused else states.get(frozen.state, "running"),
            tuple(values or ()),
            tuple(self._text(choice.path, frozen) for choice in self.sweep.choices),
            dict(frozen.intermediate_values),
            dict(marks.get(SEEDS, {})),
            float(marks.get(SECONDS, 0.0)),
            str(marks.get(PLACE, "")),
            str(marks.get(ERROR, "")),
        )

    def _text(self, path: str, frozen: FrozenTrial) -> str:
        if path not in frozen.params:
            return ""
        value = frozen.params[path]
        return value if isinstance(value, str) else flow(value)

    @property
    def began(self) -> float:
        """When the first worker came, in seconds since the epoch."""
        return float(self._study.user_attrs.get(BEGAN, time.time()))

    def note(self, key: str) -> Any:
        """Return what is kept of the whole sweep under a key; None where nothing is."""
        return self._storage.inner.get_study_user_attrs(self._id).get(key)

    def keep(self, key: str, value: Any) -> None:
        """Keep something of the whole sweep."""
        self._study.set_user_attr(key, value)

    # ------------------------------------------------------------------------------------------------- asking, telling
    def ask(self) -> Trial:
        """Begin a trial; only one worker of a place at a time."""
        with self._quiet():
            self._study.sampler = self._sampler(len(self._study.get_trials(deepcopy=False)))
            asked = self._study.ask()
            asked.set_user_attr(PLACE, self._place)
            return self._drawn(asked)

    def complete_draw(self, trial: Trial) -> Trial:
        """Draw what a worker that was killed while it asked has left undrawn."""
        with self._quiet():
            self._study.sampler = self._sampler(trial.number)
            asked = optuna.trial.Trial(self._study, trial.id)
            asked.set_user_attr(PLACE, self._place)
            return self._drawn(asked)

    def _drawn(self, asked: optuna.trial.Trial) -> Trial:
        for path, drawn_from in self._distributions.items():
            asked._suggest(path, drawn_from)
        return self.again(asked.number)

    def again(self, number: int) -> Trial:
        """Return a trial as it stands now."""
        return next(each for each in self.trials() if each.number == number)

    def report(self, trial: Trial, epoch: int, value: float) -> None:
        """Tell the pruner what an epoch reached; a second time after a kill it is the same number."""
        self._storage.set_trial_intermediate_value(trial.id, epoch, value)

    def should_stop(self, trial: Trial) -> bool:
        """Whether the pruner would end the trial where it stands."""
        with self._quiet():
            return self._study.pruner.prune(self._study, self._storage.get_trial(trial.id))

    def promoted(self, trial: Trial) -> bool:
        """Whether a paused trial belongs to the better ones of its rung, now that others have come.

        Optuna's successive halving judges each rung once, since it cannot wait; here its last answer is asked again,
        against the other trials of now.
        """
        frozen = self._storage.get_trial(trial.id)
        rungs = [int(key.removeprefix(_RUNG)) for key in frozen.system_attrs if key.startswith(_RUNG)]
        if not rungs:
            return False
        asked = copy.deepcopy(frozen)
        del asked.system_attrs[f"{_RUNG}{max(rungs)}"]
        self._storage.hidden = {trial.number}
        try:
            with self._quiet():
                return not self._study.pruner.prune(self._study, asked)
        finally:
            self._storage.hidden = set()

    def pause(self, trial: Trial, epoch: int) -> None:
        """Mark a trial as waiting for others."""
        self._storage.set_trial_user_attr(trial.id, PAUSED, epoch)

    def go_on(self, trial: Trial) -> None:
        """Take the mark away."""
        self._storage.set_trial_user_attr(trial.id, PAUSED, 0)

    def take_in(self, trial: Trial, by_seed: Mapping[str, Sequence[float]], seconds: float) -> None:
        """Keep what the seeds have reached so far."""
        self._storage.set_trial_user_attr(trial.id, SEEDS, {key: list(values) for key, values in by_seed.items()})
        self._storage.set_trial_user_attr(trial.id, SECONDS, seconds)

    def complete(self, trial: Trial, values: Sequence[float]) -> None:
        """End a trial with what it reached."""
        self._end(trial, TrialState.COMPLETE, values)

    def prune(self, trial: Trial) -> None:
        """End a trial where it stands."""
        last = trial.by_epoch[max(trial.by_epoch)] if trial.by_epoch else None
        self._end(trial, TrialState.PRUNED, None if last is None or math.isnan(last) else [last])

    def fail(self, trial: Trial, error: str) -> None:
        """End a trial that could not be run to its end."""
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            self._storage.set_trial_user_attr(trial.id, ERROR, error)
        self._end(trial, TrialState.FAIL, None)

    def _end(self, trial: Trial, state: TrialState, values: Sequence[float] | None) -> None:
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError), self._quiet():
            frozen = self._storage.get_trial(trial.id)
            self._study.sampler.after_trial(self._study, frozen, state, values)
            self._storage.set_trial_state_values(trial.id, state, values)

    @contextlib.contextmanager
    def _quiet(self) -> Any:
        """Keep Optuna's warnings to itself, and its list of trials fresh."""
        self._study._thread_local.cached_all_trials = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield

    def importances(self) -> dict[str, float]:
        """Return the share of each choice in what the first objective varied by, the greatest first; {} with too few.

        PED-ANOVA tells which choice decides whether a trial is among the better ones; it needs no other package.
        """
        if len([each for each in self.trials() if each.state == "complete"]) < 4:
            return {}
        with self._quiet():
            try:
                evaluator = optuna.importance.PedAnovaImportanceEvaluator()
                several = len(self.sweep.goals) > 1
                # With a target of ours the evaluator takes the smaller values for the better ones.
                sign = self.sweep.goals[0].sign
                target = (lambda frozen: -sign * frozen.values[0]) if several else None
                return dict(optuna.importance.get_param_importances(self._study, evaluator=evaluator, target=target))
            except (ValueError, RuntimeError):  # all trials alike
                return {}


def made_of(sweep: Sweep, recipe: Recipe) -> dict[str, str]:
    """Return what trials of one sweep have in common, by the part of the file that says it, each as a digest."""
    drawn = {choice.path for choice in sweep.choices}
    base = {key: value for key, value in flat(recipe).items() if not _within(key, drawn)}
    parts: dict[str, Any] = {
        "recipe and set": sorted(base.items()),
        "search": [(choice.path, choice.distribution.type, choice.texts or _ends(choice)) for choice in sweep.choices],
        "objective": [(goal.metric, goal.at, goal.mode) for goal in sweep.goals],
        "seeds": sweep.seeds,
    }
    return {key: hashlib.sha256(repr(value).encode()).hexdigest()[:16] for key, value in parts.items()}


def _ends(choice: Any) -> list[tuple[str, Any]]:
    return sorted((key, value) for key, value in choice.distribution.arguments.items())


def _within(key: str, drawn: set[str]) -> bool:
    return any(key == path or key.startswith(f"{path}.") or path.startswith(f"{key}.") for path in drawn)


# ------------------------------------------------------------------------------------------------------------- storage
def url_of(sweep: Sweep, root: Path) -> str:
    """Return where the trials are kept, as Optuna's own tools take it."""
    return sweep.storage or f"sqlite:///{root / sweep.sweep}.db"


def without_password(url: str) -> str:
    """Return a storage's address as it may be shown."""
    scheme, mark, rest = url.partition("://")
    user, at, where = rest.rpartition("@")
    return f"{scheme}{mark}{user.partition(':')[0]}{at}{where}" if at else url


def _opened(url: str) -> BaseStorage:
    try:
        if url.startswith("journal:"):
            path = Path(url.removeprefix("journal:"))
            path.parent.mkdir(parents=True, exist_ok=True)
            return JournalStorage(JournalFileBackend(str(path)))
        if url.startswith("sqlite:///"):
            Path(url.removeprefix("sqlite:///").partition("?")[0]).parent.mkdir(parents=True, exist_ok=True)
        options = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {"pool_pre_ping": True}
        return optuna.storages.get_storage(_rdb(url, options))
    except ImportError as error:
        hint = "for PostgreSQL: pip install psycopg[binary]; or with psycopg2 write postgresql+psycopg2://..."
        raise RecipeError(f"storage {without_password(url)} needs a driver: {error}", hint) from error
    except StorageError:
        raise
    except Exception as error:
        raise StorageError(f"storage {without_password(url)} cannot be opened ({root_cause(error)})") from error


def _rdb(url: str, options: Mapping[str, Any]) -> BaseStorage:
    for attempt in range(TRIES):  # two workers may make its tables at once
        try:
            return optuna.storages.RDBStorage(url, engine_kwargs=dict(options))
        except ImportError:
            raise
        except Exception:
            if attempt + 1 == TRIES:
                raise
        time.sleep(0.2 * (attempt + 1))
    raise AssertionError("unreachable")


def root_cause(error: BaseException) -> str:
    """Return the innermost reason in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split())[:200] or type(error).__name__


def _unreachable(sweep: Sweep, reason: str) -> StorageError:
    where = without_password(sweep.storage or "")
    return StorageError(f"{sweep.file}: the storage {where} cannot be used ({reason})")
