"""What a run writes down of what it ran on."""

import subprocess
from pathlib import Path

from trainer.run.environment import commit_of, made_on, of_training, with_earlier

ROOT = Path(__file__).parents[2]


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    return subprocess.run(
        ["git", *identity, *words], cwd=folder, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_the_commit_is_the_codes_own_and_says_whether_it_was_changed(tmp_path):
    code = tmp_path / "code.py"
    code.write_text("1")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "-q", "-m", "one")
    commit = git(tmp_path, "rev-parse", "--short=12", "HEAD")
    assert commit_of(code) == commit
    code.write_text("2")
    assert commit_of(code) == f"{commit}-dirty"


def test_an_installed_copy_within_somebodys_repository_has_no_commit(tmp_path):
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "their work")
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv" / "code.py").write_text("1")
    assert commit_of(tmp_path / "venv" / "code.py") == ""
    assert commit_of(Path("/nowhere/code.py")) == ""


def test_an_environment_keeps_those_of_the_sittings_that_trained_before():
    gpu, cpu = {"device": "cuda:0", "cpu": "a"}, {"device": "cpu", "cpu": "b"}
    assert with_earlier(gpu, {}, 0) == gpu
    first = with_earlier(cpu, gpu, 3)
    assert first == {**cpu, "earlier": [{**gpu, "until_epoch": 3}]}
    assert with_earlier(gpu, first, 3)["earlier"] == first["earlier"], "the second has trained nothing"
    third = with_earlier(gpu, first, 5)
    assert [made_on(third, epoch)["device"] for epoch in (1, 3, 4, 5, 6)] == [
        "cuda:0",
        "cuda:0",
        "cpu",
        "cpu",
        "cuda:0",
    ]
    assert of_training(third, 5) == {**cpu, "elsewhere": ["cuda:0 up to epoch 3;"]}
    assert of_training(first, 3) == gpu
    assert of_training(cpu, 9) == cpu
