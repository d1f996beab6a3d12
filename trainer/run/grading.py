"""Grading hand-ins: every run in a folder held against the recipe that was given.

Of each: whether its recipe and its data are those that were given, what it reached, whether its files agree
(proving.py), what a replay says (replaying.py), and whether its weights are another's. No code of a hand-in is run: one
that brings plug-ins is not loaded.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from registry.catalogue.catalog import Catalogue
from registry.contracts import Callback, LRFinding
from registry.errors import DataError, UserError
from registry.printing import counted, counted_few
from trainer.data.fingerprint import fingerprint, same
from trainer.engine import checkpoint
from trainer.engine.chain import KEYS
from trainer.engine.interrupts import Interrupted
from trainer.experiment.experiment import Experiment
from trainer.recipe.afterwards import RESOLVED, Free
from trainer.recipe.checks.expect import Verdict, judge
from trainer.recipe.load import Loaded, load_recipe
from trainer.recipe.reading.references import LR_FOUND
from trainer.recipe.recipe import Recipe
from trainer.recipe.resolve import flat
from trainer.run.display import Display
from trainer.run.fixed import learnt_from
from trainer.run.folder import RunFolder
from trainer.run.proving import Check, broken, newest, prove
from trainer.run.replaying import MEASURED, Replay, Replayed
from trainer.run.summary import is_number
from trainer.stages import lr_picks

PAGE, CSV, PART = "grades.html", "grades.csv", "grades.part.csv"  # written beside the hand-ins
PLACES = ("data.dataset.root", "data.dataset.file")  # of the data, on whatever machine
# What may differ from the recipe that was given: words, the seed, places and what changes no number.
IGNORED = (
    "name",
    "description",
    "seed",
    "report.**",
    "answers.**",
    "expect.**",
    *PLACES,
    "data.workers",
    "data.eval_batch_size",
    "train.device",
    "train.checkpoint.**",
)

NEEDED = ("checkpoint", "chain", "answers")  # checks without which nothing is shown
Told = Literal["yes", "no", "unknown"]


@dataclass(frozen=True)
class Grade:
    """What was found of one run.

    Attributes:
        who: first folder below the hand-ins' folder.
        run: its folder, from there.
        problem: why it could not be looked at; "" where it could.
        differs: from the recipe that was given, a phrase per key.
        seed: of the run; None where it is not known.
        same_data: whether it learnt from the data that the recipe names.
        best: accuracy on validation in its best epoch; None where it tells none.
        test: accuracy on test images held out; None where there are none.
        epochs: finished.
        seconds: it trained.
        verdicts: on the expectations of the recipe that was given.
        checks: of its files.
        unfinished: why the run is not the whole training; "" where it is.
        odd: numbers of summary.json that are none.
        unrepeated: why no epoch, or fewer than asked for, could be trained again; "" otherwise.
        replayed: epochs that were trained again.
        twins: others with the same weights after their last epoch.
        copies: of those, the ones most of whose epochs also took the same time: no two trainings do.
    """

    who: str
    run: Path
    problem: str = ""
    differs: tuple[str, ...] = ()
    seed: int | None = None
    same_data: Told = "unknown"
    best: float | None = None
    test: float | None = None
    epochs: int = 0
    seconds: float | None = None
    verdicts: tuple[Verdict, ...] = ()
    checks: tuple[Check, ...] = ()
    unfinished: str = ""
    odd: tuple[str, ...] = ()
    unrepeated: str = ""
    replayed: tuple[Replayed, ...] = ()
    twins: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()
    _end: tuple[str, tuple[float, ...]] = field(default=("", ()), repr=False)  # last weights, and each epoch's seconds

    @property
    def remarks(self) -> list[str]:
        """What a teacher should look at, a phrase each; empty where nothing is wrong."""
        if self.problem:
            return [self.problem]
        missed = [verdict.expectation.text for verdict in self.verdicts if not verdict.ok]
        return [
            *(f"another recipe: {text}" for text in self.differs),
            *(
                {"no": ["other data than the recipe names"], "unknown": ["its data were not compared"]}.get(
                    self.same_data, []
                )
            ),
            *([self.unfinished] if self.unfinished else []),
            *(f"summary.json: {key} is no number" for key in self.odd),
            *(f"missed: {text}" for text in missed),
            *(f"{check.name}: {check.text}" for check in broken(self.checks)),
            *(
                f"{check.name}: {check.text}"
                for check in self.checks
                if check.name in NEEDED and check.outcome == "unknown" and not self._measured(check)
            ),
            *([self.unrepeated] if self.unrepeated else []),
            *(f"{each.what} again: {each.text}" for each in self.replayed if each.verdict == "other"),
            *([f"a copy of {counted_few(self.copies)}"] if self.copies else []),
        ]

    def _measured(self, check: Check) -> bool:
        """Whether a replay has shown what a check could not."""
        again = {each.what: each.verdict for each in self.replayed}
        return check.name == "answers" and again.get(MEASURED) in ("equal", "close")


class Grader:
    """Grades hand-ins against one recipe.

    Args:
        against: the recipe that was given.
        overrides: `key=value`, where its data lie above all; replays take them too.
        replays: epochs of each run to train again.
        seed: draws the same epochs again; None for others each time.
        display: shows what happens.

    Raises:
        RecipeError: the recipe has problems.
    """

    def __init__(
        self, against: Path, overrides: Sequence[str], *, replays: int, seed: int | None, display: Display
    ) -> None:
        loaded = load_recipe(against, overrides)
        self._recipe = loaded.usable()
        self._replays, self._seed, self._display = replays, seed, display
        self._settings = flat(self._recipe)
        self._finds = [key for key, value in self._settings.items() if value == f"${LR_FOUND}"]
        assert loaded.catalogue is not None
        self._may_stop = _may_stop(self._recipe, loaded.catalogue)
        here = {place: self._settings.get(place) for place in PLACES}  # a hand-in's own are places on another machine
        self._overrides = (*overrides, *(f"{key}={json.dumps(place)}" for key, place in here.items() if place))
        self._prints = self._read_data(loaded)

    def _read_data(self, loaded: Loaded) -> Mapping[str, Any] | None:
        """Return the fingerprints of the recipe's data; None where they are not here."""
        assert loaded.catalogue is not None
        try:
            experiment = Experiment.of_images(self._recipe, loaded.catalogue, log=lambda _: None)
        except DataError as error:
            self._display.line(f"warning: the recipe's own data cannot be read, so none are compared: {error.message}")
            return None
        return learnt_from(fingerprint(experiment.data))

    @property
    def recipe(self) -> Recipe:
        """The recipe that was given."""
        return self._recipe

    def grade(self, root: Path, told: Callable[[Grade], None] = lambda _: None) -> list[Grade]:
        """Grade every run below a folder, those who handed in no run among them.

        Args:
            root: a folder with one folder per hand-in.
            told: of each as it is done, before twins are known.

        Raises:
            Interrupted: a signal came while something was repeated.
        """
        grades = []
        for who, run in hand_ins(root):
            missing = "a link, which is not followed" if (root / who).is_symlink() else "no run in it"
            packed = " (unpack what is packed)" if (root / who).is_file() else ""
            grade = Grade(who, Path(), f"{missing}{packed}") if run is None else self._one(who, run)
            grade = replace(grade, run=Path() if run is None else run.relative_to(root))
            grades.append(grade)
            told(grade)
        return with_twins(grades)

    def _one(self, who: str, path: Path) -> Grade:
        try:
            return self._looked_at(Grade(who, path), RunFolder.open(path))
        except UserError as error:
            return Grade(who, path, error.message)
        except Interrupted:
            raise
        except Exception as error:  # a file that was made up may hold anything
            return Grade(who, path, f"its files cannot be read ({type(error).__name__}: {error})")

    def _looked_at(self, grade: Grade, folder: RunFolder) -> Grade:
        folder.refuse_links()
        loaded = load_recipe(folder.resolved, trusted=False)
        if brought := [problem.text for problem in loaded.problems if problem.path == "plugins"]:
            raise UserError(f"it brings plug-ins ({brought[0]}): read them, then `verify` it by itself")
        theirs = loaded.usable()
        rows, summary = folder.read_history(), folder.read_json("summary.json")
        differs, checks = tuple(self._differences(folder, theirs)), tuple(prove(folder))
        fast = ("a --fast run",) if summary.get("fast") else ()
        numbers: dict[str, Any] = {
            "best": _at(summary, "best", "val/accuracy"),
            "test": _at(summary, "test", "best", "accuracy"),
        }
        numbers["seconds"] = _at(summary, "seconds")
        told = {key: value for key, value in numbers.items() if is_number(value)}
        ends = [str(row.get(KEYS[0], "")) for row in folder.read_metrics()]
        grade = replace(
            grade,
            differs=(*fast, *differs),
            seed=theirs.seed,
            same_data=self._same_data(folder),
            best=told.get("best"),
            test=told.get("test"),
            epochs=len(rows),
            seconds=told.get("seconds"),
            odd=tuple(key for key, value in numbers.items() if value is not None and key not in told),
            unfinished=_unfinished(summary, len(rows), self._recipe.train.epochs, self._may_stop),
            verdicts=tuple(judge(self._recipe.expect, rows, summary)) if self._recipe.expect else (),
            checks=checks,
            _end=(ends[-1] if ends else "", tuple(row.get("seconds") or 0.0 for row in rows)),
        )
        if not self._replays or broken(checks) or grade.differs or grade.same_data == "no":
            return grade
        try:
            replay = Replay(folder, self._overrides, self._display)
            drawn = replay.draw(self._replays, self._seed)
            found = [replay.find(self._recipe)] if self._finds else []
            found += [replay.repeat(one) for one in drawn]
            wanted = min(self._replays, len(rows))
            kept = "its checkpoints were not kept (train.checkpoint.keep)"
            fewer = f"only {len(drawn)} of {wanted} epochs could be repeated: {kept}" if len(drawn) < wanted else ""
            return replace(grade, replayed=(*found, replay.measure()), unrepeated=fewer)
        except UserError as error:
            return replace(grade, unrepeated=f"nothing was repeated: {error.message}")

    def _differences(self, folder: RunFolder, recipe: Recipe) -> Iterator[str]:
        """Yield what a run's recipe has otherwise; the rate that a finder found is what was asked for."""
        theirs = flat(recipe)
        finding = folder.read_finding()
        if finding is not None and finding.lr is not None:
            asked = [key for key in self._finds if theirs.get(key) == finding.lr and self._follows(finding)]
            theirs |= dict.fromkeys(asked, f"${LR_FOUND}")
        theirs |= {f"lr_finder.{key}": value for key, value in folder.finder_settings().items()}
        for key in {**self._settings, **theirs}:
            given, found = self._settings.get(key, "not set"), theirs.get(key, "not set")
            if given != found and not any(Free(pattern, "").fits(key) for pattern in IGNORED):
                yield f"{key} is {found}, given was {given}"

    def _follows(self, finding: LRFinding) -> bool:
        """Whether a rate is what the rule that was given takes from the curve that was kept."""
        section = self._recipe.lr_finder
        if section is None or len(finding.losses) < 2 or len(finding.losses) != len(finding.lrs):
            return False
        smoothed = lr_picks.smooth(finding.losses, section.smooth * section.steps)
        return finding.lr == lr_picks.PICKS[section.pick](np.asarray(finding.lrs), smoothed)

    def _same_data(self, folder: RunFolder) -> Told:
        if self._prints is None:
            return "unknown"
        stored = checkpoint.read(newest(folder)).get("data", {})
        return "yes" if all(same(stored.get(part), each) for part, each in self._prints.items()) else "no"


def hand_ins(root: Path) -> Iterator[tuple[str, Path | None]]:
    """Yield (who, run folder) for every run below a folder, and (who, None) for whoever has none; by name."""
    for each in sorted(root.iterdir()):
        runs = sorted(path.parent for path in each.rglob(RESOLVED)) if each.is_dir() and not each.is_symlink() else []
        yield from ((each.name, run) for run in runs)
        if not runs and each.name not in (PAGE, CSV, PART) and (each.is_dir() or not each.name.startswith(".")):
            yield each.name, None


def with_twins(grades: Sequence[Grade]) -> list[Grade]:
    """Return the grades, each with the others that have the same weights."""
    found = []
    for grade in grades:
        others = [one for one in grades if one is not grade and one._end[0] and one._end[0] == grade._end[0]]
        copies = tuple(_named(one) for one in others if _took_as_long(one._end[1], grade._end[1]))
        found.append(replace(grade, twins=tuple(_named(one) for one in others), copies=copies))
    return found


def _took_as_long(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether most epochs of two trainings took the same time, to the last digit: no two trainings do."""
    same = sum(left == right > 0 for left, right in zip(one, other, strict=False))  # 0: nobody has written it down
    return 2 * same > max(len(one), len(other))


def _at(summary: Mapping[str, Any], *keys: str) -> object:
    """Return what lies below nested keys; None where nothing does."""
    value: Any = summary
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _may_stop(recipe: Recipe, known: Catalogue) -> bool:
    """Whether a recipe has a callback or a limit that can end training before its last epoch."""
    entries = [known.entry("callback", spec.type) for spec in recipe.callbacks]
    stops = (not entry.own or getattr(entry.load(), "still_asks", None) is not Callback.still_asks for entry in entries)
    return recipe.train.max_minutes is not None or any(stops)


def _unfinished(summary: Mapping[str, Any], done: int, asked: int, may_stop: bool) -> str:
    """Say why a run is not the training that was asked for; "" where it is, or a callback or a limit has ended it."""
    if summary.get("status") != "completed":
        return f"not completed ({summary.get('status', 'no summary')}), after {done} of {counted(asked, 'epoch')}"
    if done > asked:
        return f"{counted(done, 'epoch')} where {asked} are asked for"
    ended = done == asked or (may_stop and summary.get("stopped"))
    return "" if ended else f"only {done} of {counted(asked, 'epoch')}"


def _named(grade: Grade) -> str:
    return f"{grade.who} ({grade.run.name})"
