"""`new slurm`: a script that starts a recipe on the nodes of a job and queues it again when it had to stop."""

import os
import subprocess
from pathlib import Path

import pytest

from trainer.cli.main import main

SCONTROL = """#!/bin/bash
if [ "$1" = show ]; then printf 'node7\\nnode8\\n'; else echo "scontrol $*" >> calls; fi
"""
SRUN = """#!/bin/bash
echo "$*" >> calls
exit $CODE
"""


def submitted(folder: Path, code: int) -> tuple[int, list[str]]:
    """Run the script as Slurm does, with programs of Slurm's names that write down how they are called."""
    for name, text in (("scontrol", SCONTROL), ("srun", SRUN)):
        program = folder / name
        program.write_text(text, encoding="utf-8")
        program.chmod(0o755)
    job = {"SLURM_JOB_NODELIST": "node[7-8]", "SLURM_JOB_ID": "41234", "SLURM_NNODES": "2", "CODE": str(code)}
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", **job}
    done = subprocess.run(["bash", "slurm.sh", "my.yaml", "optimizer.lr=0.1"], cwd=folder, env=environment, check=False)
    return done.returncode, (folder / "calls").read_text().splitlines()


@pytest.fixture
def written(tmp_path, monkeypatch, capsys) -> Path:
    monkeypatch.chdir(tmp_path)
    assert main(["new", "slurm"]) == 0
    assert "sbatch slurm.sh recipe.yaml" in capsys.readouterr().out
    return tmp_path


def test_the_script_starts_the_recipe_once_per_node_and_all_meet_on_the_first(written):
    code, calls = submitted(written, 0)
    options = "--processes auto --machines 2 --rendezvous node7:21234 --wait 600 --max-restarts 3"
    assert (code, calls) == (0, [f"python -m trainer my.yaml optimizer.lr=0.1 {options}"])


def test_a_job_that_was_told_to_stop_is_queued_again_and_one_that_failed_is_not(written):
    code, calls = submitted(written, 143)
    assert (code, calls[-1]) == (143, "scontrol requeue 41234")
    (written / "calls").unlink()
    assert [len(part) for part in submitted(written, 3)[1:]] == [1]


def test_the_script_is_never_written_over(written, capsys):
    assert main(["new", "slurm"]) == 2
    assert "slurm.sh exists" in capsys.readouterr().err
