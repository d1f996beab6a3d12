"""The built wheel, installed outside the repository: what is in it, and the first steps of who has nothing else."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = ("registry", "trainer", "recipes", "setup.py", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from a copy: a `build` folder left in a checkout would be packed too."""
    if tuple(map(int, version("setuptools").split(".")[:2])) < (70, 1):
        pytest.skip("setuptools is older than 70.1, which cannot make wheels; pip install -e '.[test]' brings another")
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet"]
    subprocess.run([*build, "--wheel-dir", source / "dist", source], check=True, capture_output=True)
    (made,) = (source / "dist").glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """A virtual environment with the wheel in it; what it depends on is this interpreter's. Returns its `bin`."""
    home = tmp_path_factory.mktemp("elsewhere")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    packages = next(home.glob("lib/python*/site-packages"))
    (packages / "the_others.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    install = [sys.executable, "-m", "pip", "--python", home / "bin" / "python", "install", "--no-deps", "--no-index"]
    subprocess.run([*install, "--quiet", wheel], check=True, capture_output=True, env=clean())
    return home / "bin"


def clean(**more: str) -> dict[str, str]:
    """The environment of somebody who has no checkout."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | more


def ran(installed: Path, *words: str, folder: Path) -> str:
    done = subprocess.run(
        [installed / "recipe-trainer", *words], cwd=folder, capture_output=True, text=True, env=clean(PYTHONWARNINGS="")
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_the_wheel_holds_is_both_packages_with_their_types_and_every_recipe(installed):
    packages = next(installed.parent.glob("lib/python*/site-packages"))
    ours = [path for path in packages.iterdir() if "recipe_trainer" not in path.name and path.suffix != ".pth"]
    assert sorted(path.name for path in ours) == ["registry", "trainer"]
    for package in ours:
        assert (package / "py.typed").exists()
        kept = [path for path in (ROOT / package.name).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        assert [path for path in kept if not (packages / path.relative_to(ROOT)).exists()] == []
    recipes = packages / "trainer" / "cli" / "templates" / "recipes"
    assert sorted(path.name for path in recipes.glob("*.yaml")) == sorted(
        path.name for path in (ROOT / "recipes").glob("*.yaml")
    )


def test_the_installed_program_knows_its_version_and_the_name_it_was_called_by(installed, tmp_path):
    assert ran(installed, "--version", folder=tmp_path) == f"recipe-trainer {version('recipe-trainer')}\n"
    assert "Usage: recipe-trainer new" in ran(installed, "new", "--help", folder=tmp_path)
    listed = ran(installed, "new", folder=tmp_path)
    assert listed.startswith("quickstart ")
    assert listed.endswith("write one: recipe-trainer new quickstart my_recipe.yaml\n")


def test_the_installed_package_has_every_template(installed, tmp_path):
    code = (
        "from trainer.cli.templates import *; "
        "print([*filter(lambda name: not template_text(name), TEMPLATES), *filter(lambda file: not space_text(file), "
        "SPACE_FILES)], FOLDER)"
    )
    shown = subprocess.run(
        [installed / "python", "-c", code], cwd=tmp_path, capture_output=True, text=True, env=clean(), check=True
    ).stdout
    assert shown.startswith("[] ")
    assert str(installed.parent) in shown


@pytest.mark.slow  # it knows no catalogue yet, and makes it
def test_first_steps_in_an_empty_folder(installed, tmp_path):
    written = ran(installed, "new", "quickstart", folder=tmp_path)
    assert written.endswith("quickstart.yaml written; next: recipe-trainer validate quickstart.yaml\n")
    assert "recipe-trainer quickstart.yaml train.epochs=12" in (tmp_path / "quickstart.yaml").read_text()
    assert "optimizer.SGD" in json.loads((tmp_path / "recipe.schema.json").read_text(encoding="utf-8"))["$defs"]
    checked = ran(installed, "validate", "--quick", "quickstart.yaml", folder=tmp_path)
    assert checked == "quickstart.yaml: no problems (text only)\n"
    assert "  SGD " in ran(installed, "list", "optimizer", folder=tmp_path)


@pytest.mark.slow  # a whole run, in a process that knows no catalogue yet
def test_a_run_of_the_installed_program_records_the_command_as_typed_and_no_strangers_commit(installed, tmp_path):
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "somebody else's work"]):
        identity = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", *identity, *words], cwd=installed.parent, check=True)
    ran(installed, "new", "quickstart", folder=tmp_path)
    assert ran(installed, "validate", "quickstart.yaml", folder=tmp_path) == "quickstart.yaml: no problems\n"
    words = ["quickstart.yaml", "--fast", "report=null", "--debug"]
    ran(installed, *words, folder=tmp_path)
    (record,) = tmp_path.glob("runs/*/*/environment.json")
    environment = json.loads(record.read_text(encoding="utf-8"))
    assert environment["command"] == ["recipe-trainer", *words]
    assert environment["git"] == ""
