"""Launches: a later start of the same launch finds the run that an earlier one began, and nobody else does."""

from pathlib import Path

import pytest

from trainer.engine.processes import ONE
from trainer.run.launches import FILE, Launch, begun

ELASTIC = {"TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_RESTART_COUNT": "0"}
JOB = {**ELASTIC, "SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "0"}


def run(runs: Path, name: str, launch: Launch) -> Path:
    folder = runs / name
    folder.mkdir(parents=True)
    (folder / FILE).write_text(launch.text(), encoding="utf-8")
    return folder


def test_a_process_that_nobody_would_start_anew_has_no_launch():
    assert Launch.of(ONE, {}) is None


def test_a_job_of_one_process_is_known_from_its_first_start_on(tmp_path):
    """Slurm tells how often it has started a job anew only once it has."""
    folder = run(tmp_path, "20260131-120000", Launch.of(ONE, {"SLURM_JOB_ID": "7"}))
    assert begun(tmp_path, "", Launch.of(ONE, {"SLURM_JOB_ID": "7"})) is None
    assert begun(tmp_path, "", Launch.of(ONE, {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "1"})) == folder


def test_of_two_commands_in_one_job_each_finds_its_own_run(tmp_path):
    again = {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "1"}
    folders = {
        asked: run(tmp_path, name, Launch.of(ONE, {"SLURM_JOB_ID": "7"}, asked=asked))
        for asked, name in (("easy", "20260131-120000"), ("hard", "20260131-120500"))
    }
    assert {asked: begun(tmp_path, "", Launch.of(ONE, again, asked=asked)) for asked in folders} == folders


def test_the_next_start_of_the_same_agents_finds_the_run(tmp_path):
    folder = run(tmp_path, "20260131-120000", Launch.of(ONE, ELASTIC))
    again = Launch.of(ONE, {**ELASTIC, "TORCHELASTIC_RESTART_COUNT": "2"})
    assert begun(tmp_path, "", again) == folder
    assert begun(tmp_path, "", Launch.of(ONE, ELASTIC)) is None  # a first start begins a run of its own


def test_another_launch_of_the_same_id_begins_its_own(tmp_path):
    """With a static rendezvous every launch has the id `none`."""
    first = Launch.of(ONE, ELASTIC)
    run(tmp_path, "20260131-120000", Launch(first.id, "", 0, 0, ("elsewhere 12 345",)))
    assert begun(tmp_path, "", Launch.of(ONE, {**ELASTIC, "TORCHELASTIC_RESTART_COUNT": "1"})) is None


def test_a_job_that_was_queued_again_finds_its_run_whoever_its_agents_are(tmp_path):
    before = Launch.of(ONE, JOB)
    folder = run(tmp_path, "20260131-120000", Launch(before.id, "7", 0, 3, ("elsewhere 12 345",)))
    assert begun(tmp_path, "", Launch.of(ONE, {**JOB, "SLURM_RESTART_COUNT": "1"})) == folder
    assert begun(tmp_path, "", Launch.of(ONE, {**JOB, "SLURM_JOB_ID": "8", "SLURM_RESTART_COUNT": "1"})) is None


def test_each_seed_finds_its_own_run(tmp_path):
    launch, again = Launch.of(ONE, ELASTIC), Launch.of(ONE, {**ELASTIC, "TORCHELASTIC_RESTART_COUNT": "1"})
    folders = {suffix: run(tmp_path, f"20260131-120000{suffix}", launch) for suffix in ("-s1", "-s12")}
    assert {suffix: begun(tmp_path, suffix, again) for suffix in ("-s1", "-s12", "-s3")} == {**folders, "-s3": None}


@pytest.mark.parametrize("text", ["", "[1]", '{"id": "none"}'])
def test_a_damaged_file_is_nobodys(tmp_path, text):
    folder = run(tmp_path, "20260131-120000", Launch.of(ONE, ELASTIC))
    (folder / FILE).write_text(text, encoding="utf-8")
    assert begun(tmp_path, "", Launch.of(ONE, {**ELASTIC, "TORCHELASTIC_RESTART_COUNT": "1"})) is None
