"""Every adopted component, made from recipe text and made to act once; used by the tests and by docs/components.md.

`python tests/registry/breadth.py` does so for all and writes docs/components.md.
"""

import os
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from registry.catalogue.catalog import Catalogue, Entry, catalogue
from registry.catalogue.slots import SLOTS
from registry.errors import DataError
from trainer.cli.snippets import snippet
from trainer.experiment.components import build
from trainer.recipe.load import load_recipe
from trainer.recipe.problems import render
from trainer.recipe.recipe import Recipe, Spec

ROOT = Path(__file__).parents[2]
CLASSES = 3

BASE = {
    "version": "version: 1\n",
    "name": "name: breadth\n",
    "data": "data:\n  dataset: Shapes\n",
    "model": "model: SmallCNN\n",
    "optimizer": "optimizer: {type: SGD, lr: 0.1}\n",
    "train": "train:\n  epochs: 1\n",
}
SIZES = {"inception_v3": 299}  # pixels; 224 otherwise, 32 for ours


def recipe_text(entry: Entry, components: Catalogue) -> str:
    """Return a whole recipe that names the component as `describe` shows it."""
    shown = snippet(entry, components)
    if entry.name == "Shapes":  # with fewer images than by default
        shown = "data:\n  dataset: {type: Shapes, train_size: 20, val_size: 20, test_size: 20}\n"
    sections = dict(BASE)
    key = shown.partition(":")[0]
    if key == "data" and "dataset" not in shown:
        shown = BASE["data"] + shown.removeprefix("data:\n")
    if key == "train":
        shown = BASE["train"] + shown.removeprefix("train:\n")
    sections[key] = shown
    return "".join(sections.values())


def spec_of(recipe: Recipe, slot: str) -> Spec:
    """Return the component that `recipe_text` put into a recipe."""
    places: dict[str, Callable[[Recipe], Any]] = {
        "dataset": lambda recipe: recipe.data.dataset,
        "transform": lambda recipe: recipe.data.augment[0],
        "regularizer": lambda recipe: recipe.regularizers[0],
        "metric": lambda recipe: recipe.train.metrics[-1],
        "callback": lambda recipe: recipe.callbacks[0],
        "report": lambda recipe: recipe.report[0],
        "mix": lambda recipe: recipe.train.mix,
    }
    return places.get(slot, lambda recipe: getattr(recipe, slot))(recipe)  # type: ignore[no-any-return]


def checked(entry: Entry, components: Catalogue, folder: Path) -> Spec:
    """Write the recipe, have it checked, and return the component in it."""
    file = folder / "recipe.yaml"
    file.write_text(recipe_text(entry, components), encoding="utf-8")
    loaded = load_recipe(file)
    assert loaded.recipe is not None, render(loaded.problems)
    return spec_of(loaded.recipe, entry.slot)


def act(entry: Entry, spec: Spec, components: Catalogue, folder: Path) -> str:
    """Build the component and make it act; return "run", or why it was built only."""

    def make(**supplied: object) -> Any:
        return build(spec, supplied=supplied, bind=lambda _: 0.1, catalogue=components)

    return _ACTS[entry.slot](entry, make, folder)


Make = Callable[..., Any]


def _model(entry: Entry, make: Make, _: Path) -> str:
    size = 32 if entry.own else SIZES.get(entry.name, 224)
    supplied = {"num_classes": CLASSES, "in_channels": 3, "image_size": size}
    with torch.device("meta"):
        model = make(**supplied)
        outputs = model.train()(torch.zeros(2, 3, size, size))
    assert outputs.shape == (2, CLASSES)
    return "run"


def _dataset(entry: Entry, make: Make, folder: Path) -> str:
    split = next(iter(entry.facts["splits"]))
    if "not_run" in entry.facts:
        return f"no: {entry.facts['not_run']}"
    try:
        source = make(split=split, part=split, download=False)
    except DataError:
        return "in its own tests, on files they write"
    assert source.image(0).dtype.name == "uint8"
    assert len(source.targets) > 0
    return "run"


def _transform(entry: Entry, make: Make, _: Path) -> str:
    import numpy as np

    from registry.transforms.draws import Draws

    transform = make()
    if not entry.target.startswith("albumentations:"):  # batched, whatever the backend
        batch = torch.arange(4 * 32 * 32 * 3).reshape(4, 32, 32, 3).to(torch.uint8)
        assert transform(batch.clone(), Draws(1, 1, torch.arange(4))).shape == batch.shape
        return "run"
    transform.p = 1.0
    getattr(transform, "set_random_seed", lambda _: None)(1)
    channels = 1 if entry.name == "ToRGB" else 3
    image = np.random.default_rng(1).integers(0, 256, (32, 32, channels)).astype(np.uint8)
    changed = transform(image=image)["image"]
    assert changed.ndim == 3
    assert changed.shape[2] == 3
    return "run"


def _loss(_: Entry, make: Make, __: Path) -> str:
    logits = torch.randn(4, CLASSES, requires_grad=True)
    make()(logits, torch.tensor([0, 1, 2, 1])).backward()
    assert logits.grad is not None
    assert logits.grad.abs().sum() > 0
    return "run"


def _regularizer(_: Entry, make: Make, __: Path) -> str:
    parameter = nn.Parameter(torch.ones(3))
    parameter.grad = torch.zeros(3)
    penalty = make()
    penalty.add_gradients([parameter])
    assert parameter.grad.abs().sum() > 0
    assert penalty.value([parameter]) > 0
    return "run"


def _net(entry: Entry) -> nn.Module:
    if entry.name == "Muon":  # upstream takes matrices alone
        return nn.Linear(4, CLASSES, bias=False)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, CLASSES))


def _optimizer(entry: Entry, make: Make, _: Path) -> str:
    net = _net(entry)
    before = [parameter.detach().clone() for parameter in net.parameters()]
    optimizer = make(params=net.parameters())
    nn.functional.cross_entropy(net(torch.randn(6, 4)), torch.arange(6) % CLASSES).backward()
    optimizer.step()
    assert any(not torch.equal(old, new) for old, new in zip(before, net.parameters(), strict=True))
    return "run"


def _scheduler(entry: Entry, make: Make, _: Path) -> str:
    parameter = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=0.9)
    scheduler = make(optimizer=optimizer, total_steps=20, epochs=4, steps_per_epoch=5, T_max=20)
    rates = []
    for _step in range(12):
        optimizer.step()
        scheduler.step(*([1.0] if entry.name == "ReduceLROnPlateau" else []))
        rates.append(optimizer.param_groups[0]["lr"])
    assert len(set(rates)) > 1
    return "run"


def _metric(_: Entry, make: Make, __: Path) -> str:
    metric, copy = make(num_classes=CLASSES), make(num_classes=CLASSES)
    metric.update(torch.eye(CLASSES), torch.arange(CLASSES))
    copy.load(metric.state())
    assert torch.equal(copy.compute(), metric.compute())
    return "run"


def _mix(_: Entry, make: Make, __: Path) -> str:
    images, targets = torch.rand(6, 3, 8, 8), torch.arange(6) % CLASSES
    mixed, probabilities = make(num_classes=CLASSES)(images, targets, torch.Generator().manual_seed(1))
    assert mixed.shape == images.shape
    assert torch.allclose(probabilities.sum(dim=1), torch.ones(6))
    return "run"


def _callback(entry: Entry, make: Make, _: Path) -> str:
    if find_spec(entry.facts.get("package", "torch")) is None:
        return "in its own tests, where its extra is installed"
    callback = make()
    if "package" in entry.facts:
        return "in its own tests, where its extra is installed"
    if not entry.facts["sink"]:
        callback.load(callback.state())
    return "in the engine's tests"


def _report(_: Entry, make: Make, __: Path) -> str:
    assert callable(make().render)
    return "in the report's tests"


_ACTS: Mapping[str, Callable[[Entry, Make, Path], str]] = {
    "model": _model,
    "dataset": _dataset,
    "transform": _transform,
    "loss": _loss,
    "regularizer": _regularizer,
    "optimizer": _optimizer,
    "scheduler": _scheduler,
    "metric": _metric,
    "mix": _mix,
    "callback": _callback,
    "report": _report,
}


# ------------------------------------------------------------------------------------------------ docs/components.md
HEAD = """# Components

What a recipe may name, generated from the catalogue by `python tests/registry/breadth.py`; `python -m trainer
describe NAME` tells all about one. *Listed* counts names, *built* those made from the recipe text that `describe`
shows, *run* those that then did their work once: a forward pass (on the meta device for large models), a step, an
image, a batch; some in tests of their own, as the last column says. *Refused* ones are listed with the reason, so
that a recipe that names one is answered with it.

"""


def page(outcomes: Mapping[tuple[str, str], str], components: Catalogue) -> str:
    """Return docs/components.md.

    Args:
        outcomes: (slot, name) -> what `act` returned.
        components: the catalogue.
    """
    rows = ["| slot | listed | ours | built | run | refused |", "|---|---|---|---|---|---|"]
    for slot in SLOTS:
        names = components.names(slot)
        ran = Counter(not out.startswith("no") for (kind, _), out in outcomes.items() if kind == slot)
        own = sum(components.entry(slot, name).own for name in names)
        refused = len(components.names(slot, refused=True)) - len(names)
        rows.append(f"| [{slot}](#{slot}) | {len(names)} | {own} | {ran.total()} | {ran[True]} | {refused} |")
    return HEAD + "\n".join(rows) + "\n" + "".join(_slot_page(slot, outcomes, components) for slot in SLOTS)


def _slot_page(slot: str, outcomes: Mapping[tuple[str, str], str], components: Catalogue) -> str:
    rows = [f"\n## {slot}\n", f"{SLOTS[slot].about[0].upper()}{SLOTS[slot].about[1:]}.\n"]
    rows += ["| name | from | what it is | arguments | run |", "|---|---|---|---|---|"]
    for name in components.names(slot):
        entry = components.entry(slot, name)
        arguments = ", ".join(f"`{one}`" for one in entry.settable())
        origin = "ours" if entry.own else entry.origin.partition(" ")[0]
        outcome = outcomes[slot, name]
        said = "yes" if outcome == "run" else outcome
        rows.append(f"| `{name}` | {origin} | {entry.doc.replace('|', '/')} | {arguments} | {said} |")
    refused = [name for name in components.names(slot, refused=True) if name not in components.names(slot)]
    if refused:
        rows.append("\nRefused:\n")
        rows += [f"- `{name}`: {components.entry(slot, name).refused}." for name in refused]
    return "\n".join(rows) + "\n"


def main() -> None:
    """Build and run everything, then write the page."""
    components, outcomes = catalogue(), {}
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for slot in SLOTS:
            for name in components.names(slot):
                entry = components.entry(slot, name)
                outcomes[slot, name] = act(entry, checked(entry, components, Path(folder)), components, Path(folder))
                print(slot, name, outcomes[slot, name], file=sys.stderr)
    (ROOT / "docs" / "components.md").write_text(page(outcomes, components), encoding="utf-8")


if __name__ == "__main__":
    main()
