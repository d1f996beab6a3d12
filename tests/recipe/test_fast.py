"""`--fast` makes a recipe small, and nothing in it longer than it was."""

from pathlib import Path

import pytest

from trainer.recipe.fast import fast_recipe
from trainer.recipe.load import load_recipe
from trainer.recipe.recipe import Recipe

RECIPE = """\
version: 1
data: {dataset: Shapes}
model: SmallCNN
optimizer: {type: SGD, lr: $lr_finder.lr}
lr_finder: {steps: %d}
train: {epochs: %d}
"""


def recipe_of(folder: Path, epochs: int, steps: int) -> Recipe:
    path = folder / "recipe.yaml"
    path.write_text(RECIPE % (steps, epochs))
    recipe = load_recipe(path).recipe
    assert recipe is not None
    return recipe


@pytest.mark.parametrize(
    ("epochs", "steps", "small"), [(50, 391, (2, 20)), (2, 20, (2, 20)), (1, 100, (1, 20)), (3, 8, (2, 8))]
)
def test_fast_runs_two_epochs_and_twenty_finder_steps_at_most(tmp_path, epochs, steps, small):
    made = fast_recipe(recipe_of(tmp_path, epochs, steps))
    assert made.lr_finder is not None
    assert (made.train.epochs, made.lr_finder.steps) == small
