"""The status of a run: what of its summary stands while it goes on again."""

import json

from trainer.engine.interrupts import Interrupted
from trainer.run.folder import RunFolder
from trainer.run.status import RunStatus

COMPLETED = {
    "status": "completed",
    "metric": "val/accuracy",
    "seed": 3,
    "images": {"val": 9},
    "best": {"epoch": 4, "val/accuracy": 0.25},
    "test": {"best": {"accuracy": 0.27}},
    "seconds": 4.6,
    "epochs": 4,
    "expect": {"lines": []},
    "report": {},
    "stopped": "enough",
}


def test_a_completed_run_that_goes_on_tells_none_of_its_old_numbers(tmp_path):
    folder = RunFolder.create(tmp_path, "tiny", {})
    folder.write_json("summary.json", COMPLETED)
    status = RunStatus(folder, lambda _: None, fast=False, resumed=True)
    assert json.loads((folder.path / "summary.json").read_text()) == COMPLETED, "a refusal leaves it as it was"
    status.accepted(["Odd."])
    stands = {"metric": "val/accuracy", "seed": 3, "images": {"val": 9}, "fast": False, "warnings": ["Odd."]}
    assert folder.read_json("summary.json") == {**stands, "status": "running"}
    status.accepted(["Odd."], "train.epochs set on the command line")
    assert folder.read_json("summary.json")["not_judged"] == "train.epochs set on the command line"
    status.accepted(["Odd."])
    status.ended_by(Interrupted(15))
    assert folder.read_json("summary.json") == {**stands, "status": "interrupted"}
