"""docs/own-data.md: every snippet is a right part of a recipe, and the error on it is what a table is answered with."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from registry.datasets.table import Table
from registry.errors import DataError
from trainer.recipe.load import load_recipe
from trainer.recipe.problems import render

PAGE = (Path(__file__).parents[2] / "docs" / "own-data.md").read_text(encoding="utf-8")
WHOLE = """\
version: 1
data: {dataset: CIFAR10}
model: cifar_resnet18
optimizer: {type: SGD, lr: 0.1}
train: {epochs: 3}
"""


@pytest.fixture(autouse=True)
def _inside_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("text", re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
def test_a_snippet_is_a_right_part_of_a_recipe(text: str) -> None:
    Path("whole.yaml").write_text(WHOLE, encoding="utf-8")
    Path("recipe.yaml").write_text(f"extends: whole.yaml\n{text}", encoding="utf-8")
    assert render(load_recipe("recipe.yaml").problems) == ""


def test_a_table_with_the_pages_mistakes_is_answered_as_the_page_says() -> None:
    (said,) = re.findall(r"^```text\nerror: (.*?)\n```$", PAGE, re.MULTILINE | re.DOTALL)
    Path("scans").mkdir()
    lines = ["image,label"]
    for number in range(1, 401):
        lines.append(f"scans/{number:03}.png,{'' if number == 89 else 'ab'[number % 2]}")
        if number not in (16, 17):
            Path(f"scans/{number:03}.png").touch()
    Path("labels.csv").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        Table("labels.csv", part="train", download=False)
    assert str(caught.value) == said
