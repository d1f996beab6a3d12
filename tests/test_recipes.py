"""The shipped recipes are tests: each is checked, and each is run end to end, small, by `--fast`."""

import json
from pathlib import Path

import pytest

from trainer.cli.main import main

ROOT = Path(__file__).parent.parent
RECIPES = sorted((ROOT / "recipes").rglob("*.yaml"))
OWN_DATA = {"cifar100_resnet18", "mnist"}  # not at hand: they run on CIFAR-10 or Shapes in their place


def named(path: Path) -> str:
    return path.stem


@pytest.mark.parametrize("path", RECIPES, ids=named)
def test_a_shipped_recipe_opens_with_what_it_is_and_how_to_run_it(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# yaml-language-server: $schema=../recipe.schema.json"
    head = [line for line in lines if line.startswith("#")]
    assert sum(f"python -m trainer recipes/{path.name}" in line for line in head) >= 1
    assert any("=" in line.partition(path.name)[2] for line in head), "one override is shown"


@pytest.mark.parametrize("path", RECIPES, ids=named)
def test_every_cifar_recipe_says_what_to_expect(path):
    from trainer.recipe.load import load_recipe

    recipe = load_recipe(path).recipe
    assert recipe is not None
    if "cifar" in path.stem:
        assert recipe.expect


def run_small(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> dict[str, object]:
    monkeypatch.chdir(tmp_path)
    assert main([str(path), "--fast", *overrides]) == 0
    (folder,) = (tmp_path / "runs").glob("*/*")
    for name in ("report.html", "report.md", "metrics.jsonl", "resolved.yaml", "environment.json", "log.txt"):
        assert (folder / name).stat().st_size > 0, name
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "completed"
    assert summary["epochs"] == 2
    assert "report_error" not in summary
    return summary


def test_the_quickstart_runs_small_without_data(tmp_path, monkeypatch):
    summary = run_small(ROOT / "recipes" / "quickstart.yaml", tmp_path, monkeypatch)
    assert summary["lr_finder"]["status"] in ("found", "assumed")
    assert summary["report"]["gradcam"]["explained"] == 15


@pytest.mark.slow  # a ResNet18 takes seconds per step
@pytest.mark.parametrize("path", [path for path in RECIPES if "cifar10_" in path.stem], ids=named)
def test_a_cifar10_recipe_runs_small(path, tmp_path, monkeypatch, cifar_root):
    run_small(path, tmp_path, monkeypatch, f"data.dataset.root={cifar_root.resolve()}")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(OWN_DATA))
def test_a_recipe_for_other_data_runs_small_on_shapes(name, tmp_path, monkeypatch):
    run_small(ROOT / "recipes" / f"{name}.yaml", tmp_path, monkeypatch, "data.dataset=Shapes", "expect=null")


def test_own_pictures_run_small(tmp_path, monkeypatch):
    import cv2
    import numpy as np

    random = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 4)):
        for kind, shade in (("dark", 40), ("light", 200)):
            folder = tmp_path / "pictures" / split / kind
            folder.mkdir(parents=True)
            for index in range(count):
                picture = np.clip(random.normal(shade, 20, (40 + index, 48, 3)), 0, 255).astype(np.uint8)
                cv2.imwrite(str(folder / f"{index}.png"), picture)
    template = ROOT / "recipes" / "own_images.yaml"
    overrides = ["data.dataset.root=pictures", "data.batch_size=4", "model=SmallCNN"]
    summary = run_small(template, tmp_path, monkeypatch, *overrides)
    assert summary["selected_on"] == "val"
