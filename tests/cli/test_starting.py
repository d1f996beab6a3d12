"""`new`: a template becomes a recipe of the user's own, and brings what editors complete it from."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.cli.main import main
from trainer.cli.templates import FOLDER, TEMPLATES
from trainer.recipe.schema import schema
from trainer.recipe.schema_text import schema_text

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_is_a_recipe_without_problems_that_speaks_of_itself(template, capsys):
    assert main(["new", template]) == 0
    assert main(["validate", "--quick", f"{template}.yaml"]) == 0
    lines = Path(f"{template}.yaml").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# yaml-language-server: $schema=recipe.schema.json"
    assert any(f"python -m trainer {template}.yaml" in line for line in lines if line.startswith("#"))
    assert not any(folder in line for line in lines for folder in ("recipes/", "../"))
    assert f"{template}.yaml written; next: python -m trainer validate {template}.yaml\n" in capsys.readouterr().out


def test_every_recipe_that_stands_alone_is_a_template_and_so_is_every_file_beside_them():
    alone = [path for path in (ROOT / "recipes").glob("*.yaml") if "\nextends:" not in path.read_text(encoding="utf-8")]
    own = [path.name for path in FOLDER.glob("*.yaml")]
    assert sorted(file for file, _ in TEMPLATES.values()) == sorted([*own, *(f"recipes/{path.name}" for path in alone)])


def test_new_alone_and_its_help_name_every_template(capsys):
    for words in (["new"], ["new", "--help"]):
        assert main(words) == 0
        shown = capsys.readouterr().out.replace(",", " ").replace(".", " ").split()
        assert set(TEMPLATES) <= set(shown)


def test_the_comments_call_the_program_as_it_was_called(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/local/bin/recipe-trainer"])
    assert main(["new", "quickstart", "my shapes.yaml"]) == 0
    text = Path("my shapes.yaml").read_text(encoding="utf-8")
    assert "#   recipe-trainer 'my shapes.yaml' train.epochs=12 " in text
    assert "python -m trainer" not in text


def test_a_name_that_is_no_text_stays_one_line_of_comment():
    name = os.fsdecode(b"caf\xe9\n1.yaml")
    assert main(["new", "quickstart", name]) == 0
    text = Path(name).read_text(encoding="utf-8")
    assert "#   python -m trainer 'caf??1.yaml' train.epochs=12 " in text


def test_the_schema_is_written_beside_the_recipe(capsys):
    Path("recipes").mkdir()
    assert main(["new", "cifar", "recipes/mine.yaml"]) == 0
    assert Path("recipes/recipe.schema.json").read_text(encoding="utf-8") == f"{schema_text(schema())}\n"
    assert "recipes/recipe.schema.json written" in capsys.readouterr().out
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(Path("recipes/recipe.schema.json").read_text("utf-8"))


def test_nothing_is_overwritten(capsys):
    Path("recipe.schema.json").write_text("mine")
    assert main(["new", "quickstart"]) == 0
    assert "recipe.schema.json is there already and left as it is" in capsys.readouterr().out
    assert Path("recipe.schema.json").read_text() == "mine"
    Path("quickstart.yaml").write_text("mine, too")
    assert main(["new", "quickstart"]) == 2
    assert "quickstart.yaml exists\n  name another file: python -m trainer new quickstart other.yaml" in (
        capsys.readouterr().err
    )
    assert Path("quickstart.yaml").read_text() == "mine, too"


@pytest.mark.skipif(os.name == "nt", reason="limits the size of files, as only POSIX does")
def test_what_could_not_be_written_whole_is_not_in_the_way_of_the_next_try():
    command = f"ulimit -f 0; {sys.executable} -m trainer new quickstart"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.returncode, "quickstart.yaml: cannot be written (File too large)" in done.stderr) == (5, True)
    assert not Path("quickstart.yaml").exists()
    assert main(["new", "quickstart"]) == 0


def test_a_folder_that_is_not_there_is_a_matter_of_storage(capsys):
    assert main(["new", "quickstart", "nowhere/a.yaml"]) == 5
    assert "nowhere/a.yaml: cannot be written (No such file or directory)" in capsys.readouterr().err
