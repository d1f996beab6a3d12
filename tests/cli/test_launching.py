"""`--processes`: what is refused before a process is started, and which words the processes are given."""

import pytest

import trainer
from registry.errors import RecipeError
from trainer.cli.main import main
from trainer.cli.options import without_launching


def said(capsys, *words: str) -> str:
    assert main(list(words)) == 2
    return capsys.readouterr().err


def test_the_processes_get_the_command_without_the_options_of_launching():
    words = ["resume", "runs/a", "--processes", "2", "train.epochs=3", "--max-restarts=1", "--rendezvous", "a:1"]
    assert without_launching(words) == ["resume", "runs/a", "train.epochs=3"]


@pytest.mark.parametrize("count", ["0", "-1", "many", "1.5"])
def test_a_number_of_processes_is_a_whole_number(capsys, count):
    assert f"--processes takes a whole number of 1 or more, or auto; got '{count}'" in said(
        capsys, "train", "a.yaml", f"--processes={count}"
    )


def test_one_process_per_gpu_needs_a_gpu(capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert "there is none here" in said(capsys, "train", "a.yaml", "--processes", "auto")


def test_other_options_of_launching_do_nothing_alone_and_are_refused(capsys):
    assert "--machines goes with --processes" in said(capsys, "train", "a.yaml", "--machines", "2")


def test_several_machines_need_a_place_to_meet(capsys):
    words = ["train", "a.yaml", "--processes", "1", "--machines", "2"]
    assert "--machines needs --rendezvous HOST:PORT" in said(capsys, *words)


def test_a_launch_within_a_launch_is_refused(capsys, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert "--processes within a launch" in said(capsys, "train", "a.yaml", "--processes", "2")


def test_a_command_for_one_process_is_refused_in_several(capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert "evaluate runs in one process, and a launcher has started 4" in said(capsys, "evaluate", "runs/a")


def test_half_an_environment_of_a_launcher_is_named(capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert "WORLD_SIZE is 2, but MASTER_ADDR, MASTER_PORT of its environment" in said(capsys, "train", "a.yaml")


def test_training_from_a_script_is_refused_in_several(monkeypatch):
    """Each process would begin a run of its own."""
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(RecipeError, match=r"trainer\.train runs in one process, and a launcher has started 4"):
        trainer.train("a.yaml")
