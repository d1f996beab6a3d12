"""docs/write-your-own.md: every snippet is written to ops.py, named by the recipe below it, checked, built and used."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from registry.catalogue.plugins import check_base
from registry.catalogue.slots import SLOTS
from trainer.experiment.components import build
from trainer.recipe.load import load_recipe
from trainer.recipe.problems import render
from trainer.recipe.recipe import Recipe, Spec

TEXT = (Path(__file__).parents[2] / "docs" / "write-your-own.md").read_text(encoding="utf-8")
PAIRS = re.findall(r"```python\n(.*?)```\n\n```yaml\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture(params=PAIRS, ids=["transform", "model and loss", "metric, penalty, callback", "report"])
def built(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, object]:
    """Build every component that a snippet's recipe takes from its ops.py, by name."""
    code, recipe = request.param
    (tmp_path / "ops.py").write_text(code, encoding="utf-8")
    (tmp_path / "recipe.yaml").write_text(recipe, encoding="utf-8")
    loaded = load_recipe(tmp_path / "recipe.yaml")
    assert loaded.recipe is not None, render(loaded.problems)
    assert not loaded.problems
    marked = re.findall(r'@component\("(\w+)"\)\n(?:class|def) (\w+)', code)
    found = {}
    for slot, name in marked:
        (spec,) = [spec for spec in specs(loaded.recipe) if (spec.slot, spec.type) == (slot, name)]
        found[name] = build(
            spec, supplied={"num_classes": 3, "in_channels": 3}, bind=lambda _: 0.1, catalogue=loaded.catalogue
        )
    assert found
    return found


def specs(recipe: Recipe) -> list[Spec]:
    lists = (recipe.data.augment, recipe.regularizers, recipe.train.metrics, recipe.callbacks, recipe.report)
    return [recipe.model, recipe.loss, recipe.optimizer, *(spec for one in lists for spec in one)]


def test_every_snippet_of_the_page_is_checked_built_and_used(built: dict[str, object]) -> None:
    for name, component in built.items():
        USES[name](component)


def _scanlines(transform) -> None:
    transform.p = 1.0
    image = np.full((8, 8, 3), 200, np.uint8)
    assert transform(image=image)["image"].min() < 200


def _two_layers(model) -> None:
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 3)
    assert model[0].out_channels == 8


def _focal(loss) -> None:
    logits, targets = torch.randn(5, 3), torch.tensor([0, 1, 2, 1, 0])
    loss.gamma = 0.0
    assert torch.allclose(loss(logits, targets), torch.nn.functional.cross_entropy(logits, targets))


def _confidence(metric) -> None:
    metric.update(torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64))
    assert metric.compute() == 0.5


def _towards_one(penalty) -> None:
    parameter = torch.nn.Parameter(torch.tensor([3.0]))
    parameter.grad = torch.zeros(1)
    penalty.add_gradients([parameter])
    (expected,) = torch.autograd.grad(penalty.strength / 2 * ((parameter - 1) ** 2).sum(), parameter)
    assert torch.allclose(parameter.grad, expected)
    assert penalty.value([parameter]) == pytest.approx(2e-4)


def _stop_at(callback) -> None:
    assert "0.950" in callback.epoch_finished(SimpleNamespace(row={"val/accuracy": 0.95})).reason


def _hardest(part) -> None:
    predictions = SimpleNamespace(logits=np.array([[1.0, 0.0], [1.0, 0.0]]), targets=np.array([0, 1]))
    evidence = SimpleNamespace(class_names=("cat", "dog"), predictions=predictions)
    assert part.render(evidence).blocks[0].text == "**dog** is missed 1 times."


USES = {
    "Scanlines": _scanlines,
    "two_layers": _two_layers,
    "FocalLoss": _focal,
    "Confidence": _confidence,
    "TowardsOne": _towards_one,
    "StopAt": _stop_at,
    "Hardest": _hardest,
}


def test_the_page_names_every_slot() -> None:
    for slot in SLOTS:
        assert f"\n| {slot} |" in TEXT


def test_a_sink_is_a_callback_too() -> None:
    from registry.recording import Sink

    class Mine(Sink):
        pass

    check_base("callback", "ops:Mine", Mine)


def test_the_page_has_no_python_that_is_not_executed() -> None:
    assert TEXT.count("```python") == len(PAIRS)
