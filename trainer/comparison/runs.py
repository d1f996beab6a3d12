"""What is compared of a run: its recipe with what was left out, what it reached, and which images it saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from registry.errors import CheckpointError, RecipeError
from registry.printing import one_line
from registry.recording import Sink
from registry.reports.scores import is_share_of_images
from trainer.engine import checkpoint
from trainer.recipe.checks.draft import Draft
from trainer.recipe.load import load_recipe
from trainer.recipe.problems import Collector
from trainer.recipe.reading.references import LR_FOUND
from trainer.recipe.resolve import flat
from trainer.run.folder import RunFolder
from trainer.run.listing import KILLED
from trainer.run.locking import is_held
from trainer.run.predictions import Answers, read_answers
from trainer.run.summary import chosen
from trainer.run.verdicts import numbers

Better = Literal["min", "max"]
SECONDS, LR = "seconds", "lr_found"  # numbers of a run beside those of its metrics


@dataclass(frozen=True)
class Images:
    """What a checkpoint tells of a run's data.

    Attributes:
        classes: names, one per class index.
        counts: training images per class; empty where it does not tell.
        prints: digests by part (trainer/data/fingerprint.py); left out are those of parts that the seed chose
            (`data.limit`).
    """

    classes: tuple[str, ...]
    counts: tuple[int, ...]
    prints: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        folder: as it was named.
        recipe: the recipe's name.
        seed: of everything random.
        settings: the recipe's values by dotted path; a learning rate that was found is `$lr_finder.lr`.
        defaults: of the components' parameters that the recipe leaves out, by dotted path.
        metric: the key that chose the best epoch, and in which direction.
        directions: number without its moment, "val_accuracy" -> where it is better.
        epochs: planned.
        history: a row per epoch.
        summary: of summary.json.
        images: None where no checkpoint tells.
        answers: on the split it reports; None where it has kept none.
    """

    folder: Path
    recipe: str
    seed: int
    settings: Mapping[str, Any]
    defaults: Mapping[str, Any]
    metric: tuple[str, Better]
    directions: Mapping[str, Better]
    epochs: int
    history: Sequence[Mapping[str, float]]
    summary: Mapping[str, Any]
    images: Images | None
    answers: Answers | None = None

    @cached_property
    def title(self) -> str:
        """The recipe's folder and the run's: one word names a run from its own folder."""
        whole = self.folder.resolve()
        return one_line(f"{whole.parent.name}/{whole.name}")

    @property
    def fold(self) -> int | None:
        """Which of several parts of the training split it was validated on, from 0; None where there are no folds."""
        return self.settings.get("data.val.fold") or 0 if self.settings.get("data.val.folds") else None

    @property
    def counted(self) -> Mapping[str, float]:
        """How many images it was measured on, by part; empty where it does not say."""
        return {part: count for part, count in (self.summary.get("images") or {}).items() if part != "train"}

    @property
    def fast(self) -> bool:
        """Whether it is a small run of everything."""
        return bool(self.summary.get("fast"))

    @property
    def finished(self) -> bool:
        """Whether it has come to its end and reached something that a mean could be taken over."""
        return not self.state and bool(self.summary.get("best"))

    @property
    def state(self) -> str:
        """How it ended, where it is not complete: "interrupted after 3 of 8 epochs"; "" where it is."""
        status = str(self.summary.get("status", "unknown"))
        done = f" after {len(self.history)} of {self.epochs} epochs"
        return "" if status == "completed" else status + (done if len(self.history) < self.epochs else "")

    @cached_property
    def numbers(self) -> dict[str, float]:
        """What it reached by flat name, "best/val_accuracy" -> 0.93; so far, where it has not come to its end."""
        found = numbers(self.summary if self.finished else {"best": self._best_so_far, "final": self._last})
        seconds = self.summary.get(SECONDS, sum(row.get(SECONDS) or 0.0 for row in self.history))
        found |= {SECONDS: float(seconds)} if seconds else {}
        lr = self.summary.get("lr_finder", {}).get("lr")
        return found | ({LR: float(lr)} if lr is not None else {})

    @property
    def _last(self) -> Mapping[str, float]:
        return self.history[-1] if self.history else {}

    @property
    def _best_so_far(self) -> Mapping[str, float]:
        key, better = self.metric
        return chosen(self.history, key, better) or {}

    def count(self, number: str) -> int | None:
        """Return how many images a number is a share of; None where it is no share of images, or nobody knows."""
        part, _, metric = number.partition("/")[2].partition("_")
        counts = self.summary.get("images") or {}
        return counts.get(part) if is_share_of_images(metric) else None

    def better(self, number: str) -> Better:
        """Return in which direction a number of `numbers` is better; of a metric that declares none, greater."""
        if number in (SECONDS, LR):
            return "min"
        word = number.partition("/")[2]
        return "min" if word == "epoch" else self.directions.get(word, "max")


def read_run(path: Path) -> Run:
    """Read what is compared of the run at `path`.

    Raises:
        CheckpointError: there is no run, or a file of it is damaged.
        RecipeError: its recipe cannot be read any more (a plug-in is gone, say).
    """
    folder = RunFolder.open(path)
    loaded = load_recipe(folder.resolved)
    if loaded.recipe is None:
        raise RecipeError(f"{path}: its recipe cannot be read: {loaded.problems[0].text}")
    assert loaded.catalogue is not None
    draft = Draft(loaded.recipe, loaded.catalogue, Collector())
    recipe, summary = loaded.recipe, folder.read_summary()
    if summary.get("status") == "running" and not is_held(folder.lock_file):
        summary["status"] = KILLED
    drawn = recipe.data.limit is not None or bool(summary.get("fast"))
    return Run(
        folder=path,
        recipe=recipe.name,
        seed=recipe.seed,
        settings=_settings(draft, folder),
        defaults=_defaults(draft),
        metric=(recipe.train.best.metric, recipe.train.best.mode),
        directions=_directions(draft),
        epochs=recipe.train.epochs,
        history=folder.read_history(),
        summary=summary,
        images=_images(folder, ("train", "val", "whole") if drawn else ()),
        answers=read_answers(path),
    )


def _settings(draft: Draft, folder: RunFolder) -> dict[str, Any]:
    """Return the recipe's values without what only records, and what the LR finder was asked and told."""
    recipe = draft.recipe
    settings = {key: value for key, value in flat(recipe).items() if not key.startswith(_sinks(draft))}
    settings |= {} if any(key.startswith("callbacks.") for key in settings) else {"callbacks": []}
    finding, asked = folder.read_finding(), folder.finder_settings()
    if finding is not None and finding.lr is not None and recipe.lr_finder is None:
        found = [key for key, value in settings.items() if isinstance(value, float) and value == finding.lr]
        settings |= dict.fromkeys(found, f"${LR_FOUND}")
    return settings | {f"lr_finder.{key}": value for key, value in asked.items()}


def _sinks(draft: Draft) -> tuple[str, ...]:
    """Return where the callbacks stand that only record."""
    classes = [(spec, draft.entry(spec).load()) for spec in draft.recipe.callbacks]
    return tuple(f"{spec.path}." for spec, found in classes if isinstance(found, type) and issubclass(found, Sink))


def _defaults(draft: Draft) -> dict[str, Any]:
    """Return what components take for the arguments that the recipe leaves out, as far as it is a plain value."""
    found = {}
    for spec in draft.specs:
        for parameter in draft.entry(spec).parameters:
            if parameter.role == "user" and not parameter.required and parameter.default_plain:
                found[f"{spec.path}.{parameter.name}"] = parameter.default
    return found


def _directions(draft: Draft) -> dict[str, Better]:
    best = draft.recipe.train.best
    declared = {**draft.final_directions, best.metric: best.mode}
    modes: dict[str | None, Better] = {"min": "min", "max": "max"}
    return {key.replace("/", "_"): modes[mode] for key, mode in declared.items() if mode in modes}


def _images(folder: RunFolder, drawn: Sequence[str]) -> Images | None:
    """Return what the run's first whole checkpoint tells of its data, `drawn` being the parts that the seed chose."""
    for path in (folder.checkpoints / "best.pt", folder.checkpoints / "last.pt"):
        try:
            state = checkpoint.read(path)
        except CheckpointError:  # said of the run as a whole, where none is left
            continue
        prints = {part: each for part, each in state.get("data", {}).items() if part not in drawn}
        return Images(tuple(state["class_names"]), tuple(state.get("class_counts") or ()), prints)
    return None
