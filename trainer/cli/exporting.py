"""The command `export`, and `evaluate` of an exported file: what they print."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from registry.printing import one_line
from trainer.cli.console import Console
from trainer.export.exported import load_exported
from trainer.export.exporting import Request
from trainer.export.exporting import export as act
from trainer.export.formats import trust
from trainer.export.measuring import measure, trained_of


def export(request: Request) -> int:
    """Export a run and say what was proved."""
    console = Console()
    with console.bar():
        made = act(request, console.line, console.counting)
    own, of_run = (right / max(1, made.proof.images) for right in (made.proof.right_of_file, made.proof.right_of_run))
    rows = {
        "proof": made.proof.said(),
        "accuracy": f"{own:.4f} on {made.proof.split}; the run's own {of_run:.4f}",
        "file": f"{made.file} ({made.file.stat().st_size / 1e6:.1f} MB)",
        "card": str(made.card),
    }
    console.table(rows)
    return 0


def evaluate(path: Path, overrides: Sequence[str]) -> int:
    """Measure an exported file on all images given that its network has not learnt from, split by split."""
    console = Console()
    if asked_of := trust(path):
        console.line(asked_of)
    file = load_exported(path)
    trained = trained_of(file, overrides)
    with console.bar():
        found = measure(file, trained, console.line, console.counting)
    rows = {"file": str(path)}
    for each in found:
        values = ", ".join(f"{key} {value:.4f}" for key, value in each.values.items())
        rows[each.part.name] = f"{values} ({len(each.part):,} images)"
    said = file.about.json("measured")
    rows["of the run"] = one_line(
        f"{said['split']}: accuracy {said['accuracy']:.4f} ({said['images']:,} images), in fp32, when it was exported"
    )
    console.table(rows)
    return 0
