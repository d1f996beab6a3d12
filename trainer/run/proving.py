"""What a finished run can show of its training without repeating any of it: do its files agree with one another?

The chain of digests (trainer/engine/chain.py) is recomputed from metrics.jsonl, and recipe, weights and summary are
held against it. Whoever makes up a whole run can make up its chain too: what cannot be made up is replaying.py's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import yaml

from registry.errors import CheckpointError
from registry.printing import counted
from trainer.engine import checkpoint
from trainer.engine.chain import KEYS, Chain, Link, first_link, next_link, weights_digest
from trainer.engine.keeper import BEST, LAST, SAFETENSORS, epoch_files
from trainer.engine.progress import history_in
from trainer.engine.weights import read_weights
from trainer.run.fixed import learnt_from, recipe_digest
from trainer.run.folder import RunFolder
from trainer.run.predictions import read_answers
from trainer.run.summary import chosen

Outcome = Literal["holds", "broken", "unknown"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: of it, one or two words.
        outcome: "unknown" where the run does not tell.
        text: what was found, a phrase.
    """

    name: str
    outcome: Outcome
    text: str


def prove(folder: RunFolder) -> list[Check]:
    """Hold a run's files against one another; nothing is trained and no code of the run is run.

    Args:
        folder: of the run, finished or not.
    """
    rows, file = folder.read_metrics(), newest(folder)
    try:
        state = checkpoint.read(file)
    except CheckpointError as error:
        lacking = Check("checkpoint", "broken" if file.exists() else "unknown", error.message)
        return [lacking, *_summary(folder, rows, Chain(), {}), *_answers(folder)]
    chain = _chain_of(folder, state, rows)
    if not chain.links:
        return [Check("chain", "unknown", "there is none: the run was made by an earlier version, or has no epoch yet")]
    return [
        _chain(rows, chain, state),
        _recipe(folder, chain),
        *_weights(folder, chain),
        *_summary(folder, rows, chain, state),
        *_answers(folder),
    ]


def newest(folder: RunFolder) -> Path:
    """Return the checkpoint that tells most of a run: the last; the best where that was cleaned away."""
    last, best = folder.checkpoints / LAST, folder.checkpoints / BEST
    return best if best.exists() and not last.exists() else last


def broken(checks: Sequence[Check]) -> list[Check]:
    """Return those that found something wrong."""
    return [check for check in checks if check.outcome == "broken"]


def _chain_of(folder: RunFolder, state: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Chain:
    """Return the chain that the last checkpoint holds; where it is gone, that of the rows on recipe and data."""
    if "progress" in state:
        return Chain(state.get("chain"))
    chain = Chain()
    recipe = recipe_digest(folder.resolved.read_text(encoding="utf-8"))
    chain.begin(recipe=recipe, data=learnt_from(state.get("data", {})))
    linked = {int(row["epoch"]): [row.get(key) for key in KEYS] for row in rows}
    chain.links = {epoch: Link(str(weights), str(link)) for epoch, (weights, link) in linked.items() if link}
    return chain


def _chain(rows: Sequence[Mapping[str, Any]], chain: Chain, state: Mapping[str, Any]) -> Check:
    """Recompute every link from metrics.jsonl, and hold the last, and the times, against the checkpoint's own."""
    took = {int(row["epoch"]): row.get("seconds") for row in history_in(state.get("progress") or {"history": []})}
    before, unlinked = first_link(chain.origin), 0
    for row in rows:
        epoch = int(row["epoch"])
        weights, link = (row.get(key) for key in KEYS)
        if epoch not in chain.links and link is None and unlinked == epoch - 1:
            unlinked += 1
            continue
        if link is None:
            return Check("chain", "broken", f"epoch {epoch} has no link, those before it have")
        if next_link(before, str(weights), row) != link:
            return Check("chain", "broken", f"the link of epoch {epoch} does not follow from its numbers and weights")
        if epoch in chain.links and chain.links[epoch].link != link:
            return Check("chain", "broken", f"the checkpoint has another link for epoch {epoch} than metrics.jsonl")
        if took.get(epoch, row.get("seconds")) != row.get("seconds"):
            return Check("chain", "broken", f"the checkpoint has another time for epoch {epoch} than metrics.jsonl")
        before = str(link)
    missing = sorted(chain.links.keys() - {int(row["epoch"]) for row in rows})
    if missing:
        return Check("chain", "broken", f"metrics.jsonl lacks epoch {missing[0]}, which the checkpoint has")
    late = f", the first {unlinked} by a version without links" if unlinked else ""
    length = counted(len(rows), "epoch")
    return Check("chain", "holds", f"{length}, each linked to the one before{late}; ends in {before[:12]}")


def _recipe(folder: RunFolder, chain: Chain) -> Check:
    if recipe_digest(folder.resolved.read_text(encoding="utf-8")) == chain.origin.get("recipe"):
        return Check("recipe", "holds", "resolved.yaml is what the run began with")
    return Check("recipe", "broken", "resolved.yaml is not what the run began with")


def _weights(folder: RunFolder, chain: Chain) -> Iterator[Check]:
    """Hold the weights of each checkpoint against the link of its epoch."""
    found = []
    for path in (folder.checkpoints / LAST, folder.checkpoints / BEST, *epoch_files(folder.checkpoints)):
        if path.exists():
            try:
                found.append(_saved(path.name, checkpoint.read(path), chain))
            except CheckpointError as error:
                found.append(Check("weights", "broken", error.message))
    alone = folder.checkpoints / SAFETENSORS
    if alone.exists() and not broken(found):
        found.append(_given_away(alone, folder.checkpoints / BEST))
    wrong = broken(found)
    if wrong:
        yield from wrong
        return
    held = [check for check in found if check.outcome == "holds"]
    yield Check("weights", "holds" if held else "unknown", f"{len(held)} of {counted(len(found), 'file')} hold them")


def _given_away(path: Path, best: Path) -> Check:
    """Hold the file that is for others against the weights it was written from."""
    try:
        tensors = read_weights(path).tensors
        state = checkpoint.read(best)["model"]
    except CheckpointError as error:
        return Check("weights", "broken" if best.exists() else "unknown", error.message)
    same = tensors.keys() == state.keys() and all(torch.equal(tensors[name], state[name]) for name in state)
    if same:
        return Check("weights", "holds", path.name)
    return Check("weights", "broken", f"{path.name} does not hold the weights of {best.name}")


def _saved(name: str, state: Mapping[str, Any], chain: Chain) -> Check:
    """Hold the weights of one checkpoint, best.pt or a whole state, against the chain."""
    whole = "progress" in state
    if whole and state["progress"]["batch"]:
        return Check("weights", "unknown", f"{name}: was saved within an epoch")
    epoch = int(state["progress"]["epoch"] if whole else state["row"]["epoch"])
    if epoch not in chain.links or (whole and state.get("averaging") is not None):
        return Check("weights", "unknown", f"{name}: the chain does not tell")  # averages are what it speaks of
    digest = weights_digest({key: state[key] for key in ("model", "buffers")})
    if digest == chain.links[epoch].weights:
        return Check("weights", "holds", name)
    return Check("weights", "broken", f"{name} does not hold the weights of epoch {epoch}")


def _summary(
    folder: RunFolder, rows: Sequence[Mapping[str, Any]], chain: Chain, state: Mapping[str, Any]
) -> Iterator[Check]:
    """Hold what summary.json says of epochs against metrics.jsonl, and how it ended against the last checkpoint."""
    summary = folder.read_json("summary.json")
    by_epoch = {int(row["epoch"]): row for row in rows}
    for name in ("best", "final"):
        said = summary.get(name) or {}
        epoch = said.get("epoch", 0)
        row = by_epoch.get(epoch, {}) if epoch in chain.links or not chain.links or not said else {}
        other = [key for key, value in said.items() if key in row and row[key] != value]
        if said and (other or not row):
            what = ", ".join(other) or f"epoch {said.get('epoch')}"
            yield Check("summary", "broken", f"{name}: {what} is not what metrics.jsonl has")
            return
    said = (summary.get("best") or {}).get("epoch")
    best = _best_epoch(folder, rows)
    if said is not None and best is not None and said != best:
        yield Check("summary", "broken", f"best is epoch {said}, by metrics.jsonl it is epoch {best}")
        return
    stopped = state.get("progress", {}).get("stopped")
    if stopped is not None and (summary.get("stopped") or "") != stopped:
        yield Check("summary", "broken", "why training ended is not what the last checkpoint has")
        return
    if summary.get("status") != "completed":
        yield Check("summary", "unknown", f"the run is not completed: {summary.get('status', 'no summary')}")
        return
    yield Check("summary", "holds", "best and final are epochs of metrics.jsonl")


def _best_epoch(folder: RunFolder, rows: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the epoch that the recipe's metric chooses, as the loop does; None where nothing tells."""
    train = yaml.safe_load(folder.resolved.read_text(encoding="utf-8")).get("train") or {}
    metric, mode = (str((train.get("best") or {}).get(key)) for key in ("metric", "mode"))
    best = chosen(rows, metric, mode) if mode in ("min", "max") else None
    return None if best is None else int(best["epoch"])


def _answers(folder: RunFolder) -> Iterator[Check]:
    """Count the answers that were kept against the accuracy that summary.json reports of them."""
    summary, kept = folder.read_json("summary.json"), read_answers(folder.path)
    best, test = summary.get("best") or {}, summary.get("test") or {}
    said = (test.get("best") or test.get("final") or {}).get("accuracy") if test else best.get("val/accuracy")
    if kept is None or not len(kept.targets):
        if said is not None:
            yield Check("answers", "unknown", "no answers were kept (predictions.npz) that its accuracy is counted on")
        return
    right, count = int(kept.right.sum()), len(kept.targets)
    if said is None:
        return
    if not isinstance(said, (int, float)) or not abs(said * count - right) < 0.5:
        text = f"summary.json says accuracy {said}, but {right} of the {count} answers that were kept are right"
        yield Check("answers", "broken", text)
        return
    yield Check("answers", "holds", f"{right} of {count} on {kept.split} are right, as summary.json says")
