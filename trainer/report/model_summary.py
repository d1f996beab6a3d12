"""The model in a table: layers, output sizes, parameters, multiply-accumulates, from one dry forward of one image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.contracts import Evidence, Paragraph, Section, Table
from registry.reports.layers import unwrapped, visits
from trainer.report.macs import count_macs

if TYPE_CHECKING:
    from torch import Tensor, nn

_MOST_ROWS = 60


def model_section(evidence: Evidence) -> Section:
    """Return the table of the model's parts, two levels deep where that is not too long."""
    network = unwrapped(evidence.model)
    title, key = "Model", "model"
    example = _example(evidence)
    if example is None:
        words = f"{evidence.parameters:,} trained parameters; without an image there is no map size to tell."
        return Section(title, (Paragraph(words),), key)
    seen = {visit.name: visit for visit in visits(network, example)}
    macs = count_macs(network, example)
    names = [name for name in _in_model_order(network) if name in seen]
    shown = [name for name in names if name.count(".") <= 1]
    if len(shown) > _MOST_ROWS:
        shown = [name for name in names if "." not in name]
    rows = []
    for name in shown:
        visit = seen[name]
        parameters = sum(p.numel() for p in network.get_submodule(name).parameters())
        size = "x".join(map(str, visit.output[1:])) if isinstance(visit.output, tuple) else visit.output
        rows.append(
            (name, visit.kind.lstrip("_"), size, f"{parameters:,}" if parameters else "", _millions(macs.get(name, 0)))
        )
    total = sum(p.numel() for p in network.parameters())
    rows.append(("whole model", type(network).__name__.lstrip("_"), "", f"{total:,}", _millions(macs.get("", 0))))
    shape = "x".join(map(str, example.shape[1:]))
    caption = f"Layers for one image of {shape}; MACs in millions. A block's numbers contain those of its parts"
    table = Table(caption, ("layer", "kind", "output", "parameters", "MACs (M)"), tuple(rows), "lllrr")
    facts = {"parameters": float(total), "macs": float(macs.get("", 0))}
    words = f"{total:,} parameters ({4 * total / 2**20:.1f} MiB as float32), {evidence.parameters:,} of them trained; "
    return Section(
        title, (Paragraph(words + f"**{_millions(macs.get('', 0))} million** MACs per image."), table), key, facts
    )


def _example(evidence: Evidence) -> Tensor | None:
    """Return one prepared image, or None where the run has none."""
    try:
        return evidence.images.prepared([0])
    except (IndexError, ValueError):
        return None


def _in_model_order(network: nn.Module) -> list[str]:
    return [name for name, _ in network.named_modules() if name]


def _millions(count: int) -> str:
    if not count:
        return ""
    return f"{count / 1e6:,.2f}" if count < 1e8 else f"{count / 1e6:,.0f}"
