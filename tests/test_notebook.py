"""notebooks/s10.ipynb: executed from end to end on the quickstart, and kept without outputs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from trainer.cli.templates import TEMPLATES
from trainer.recipe.load import load_recipe

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "notebooks" / "s10.ipynb"
SHORT = (
    *("train.epochs=2", "data.dataset.train_size=60", "data.dataset.val_size=40", "data.dataset.test_size=40"),
    *("data.batch_size=20", "lr_finder.steps=30", "train.device=cpu", "train.precision=fp32", "expect=null"),
)


def cells(kind: str) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == kind]


def test_it_is_kept_without_outputs_which_would_be_of_another_version_soon() -> None:
    assert [cell["id"] for cell in cells("code") if cell["outputs"] or cell["execution_count"] is not None] == []


def test_the_recipes_that_it_names_are_among_those_that_new_writes() -> None:
    (parameters,) = [
        "".join(cell["source"]) for cell in cells("code") if "parameters" in cell["metadata"].get("tags", [])
    ]
    given: dict[str, Any] = {}
    exec(parameters, given)  # the notebook's own text
    assert given["RECIPE"] == "cifar10_resnet18"
    assert {"cifar10_resnet18", "quickstart", "cifar10_resnet18_fast"} <= TEMPLATES.keys()
    assert load_recipe(ROOT / "recipes" / "quickstart.yaml", SHORT).recipe is not None


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Return the code cells of the notebook as they are after it was run in an empty folder, on a short quickstart."""
    pytest.importorskip("ipykernel", reason="the extra [test] brings the kernel")
    nbclient = pytest.importorskip("nbclient", reason="the extra [test] brings what runs a notebook")
    nbformat = pytest.importorskip("nbformat")
    folder = tmp_path_factory.mktemp("notebook")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            cell.source += f'\nRECIPE, CHANGES = "quickstart", {list(SHORT)}'
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        patch.setenv("JUPYTER_RUNTIME_DIR", str(folder / "jupyter"))
        client = nbclient.NotebookClient(
            notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
        )
        client.execute()
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def said(cell: Any, kind: str) -> list[str]:
    """Return what a cell shows of a kind, "image/png" or "text/html" say."""
    return [output.data[kind] for output in cell.outputs if "data" in output and kind in output.data]


def of(executed: list[Any], words: str) -> Any:
    (cell,) = [cell for cell in executed if words in cell.source]
    return cell


def test_every_cell_but_installation_and_tensorboard_runs_without_an_error_or_a_warning(executed: list[Any]) -> None:
    run = [cell for cell in executed if "skip-execution" not in cell.metadata.get("tags", [])]
    assert len(executed) - len(run) == 2
    assert all(cell.execution_count for cell in run)
    errors = [
        output.text
        for cell in run
        for output in cell.outputs
        if output.get("name") == "stderr" and "IProgress not found" not in output.text  # where ipywidgets lack
    ]
    assert errors == []


def test_the_run_is_shown_as_its_card_and_its_history_as_a_table(executed: list[Any]) -> None:
    (card,) = said(of(executed, "trainer.train("), "text/html")
    assert "<b>quickstart</b>" in card
    assert "in epoch" in card
    (table,) = said(of(executed, "run.history"), "text/html")
    assert table.count("<tr") == 1 + 2  # the head, an epoch each


@pytest.mark.parametrize(
    ("cell", "pictures"), [("lr_finder.png", 3), ("confusion.png", 1), ("gallery.png", 6), ("run.explain", 1)]
)
def test_pictures_are_shown_where_they_are_spoken_of(executed: list[Any], cell: str, pictures: int) -> None:
    assert len(said(of(executed, cell), "image/png")) == pictures


def test_the_network_answers_about_a_picture_and_the_report_is_at_hand(executed: list[Any]) -> None:
    (answer,) = said(of(executed, "run.predict("), "text/plain")
    assert answer.startswith("[[('")
    (link,) = said(of(executed, "FileLink("), "text/html")
    assert "report.html" in link
