"""MLflow and Weights & Biases: the real packages, a local store, offline mode; a resume continues their run."""

import importlib.util
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from registry.callbacks.trackers import Memory, artefacts, require
from registry.errors import RecipeError
from trainer.cli.main import main

RECIPE = """
version: 1
name: tiny
data: {{dataset: {{type: Shapes, train_size: 32, val_size: 16}}, batch_size: 16}}
model: {{type: SmallCNN, width: 4}}
optimizer: {{type: SGD, lr: 0.02}}
train: {{epochs: 3, precision: fp32}}
callbacks: [{callback}]
report: [Curves]
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def trained(callback, *overrides, code=0):
    """Train with a callback; return the run's folder."""
    Path("tiny.yaml").write_text(RECIPE.format(callback=callback))
    assert main(["tiny.yaml", *overrides]) == code
    return max(path for path in Path("runs/tiny").iterdir() if path.is_dir() and not path.is_symlink())


# ------------------------------------------------------------------------------------------------------ what they share
@pytest.mark.parametrize(("callback", "package"), [("MLflow", "mlflow"), ("WandB", "wandb")])
def test_without_its_package_a_tracker_is_refused_before_the_run(callback, package, here, monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == package else find(name, *rest))
    with pytest.raises(RecipeError) as refused:
        require(package, callback)
    assert refused.value.hint == f'install it: pip install "recipe-trainer[{package}]"'
    Path("tiny.yaml").write_text(RECIPE.format(callback=callback))
    assert main(["tiny.yaml"]) == 2
    assert f"callback {callback} needs the package {package}" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_an_epoch_that_was_sent_is_known_after_a_resume(tmp_path):
    memory = Memory(tmp_path, "mlflow")
    assert memory.is_new(1)
    memory.keep(run_id="a", epoch=2)
    again = Memory(tmp_path, "mlflow")
    assert (again.values, again.is_new(2), again.is_new(3)) == ({"run_id": "a", "epoch": 2}, False, True)


def test_pictures_the_report_and_the_recipe_are_sent(tmp_path):
    for name in ("report.html", "resolved.yaml", "log.txt", "figures/loss.png", "gradcam/1.png", "checkpoints/last.pt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    sent = [str(path.relative_to(tmp_path)) for path in artefacts(tmp_path)]
    assert sent == ["report.html", "resolved.yaml", "figures/loss.png", "gradcam/1.png"]


# --------------------------------------------------------------------------------------------------------------- MLflow
@pytest.fixture
def mlflow():
    return pytest.importorskip("mlflow", reason="mlflow is an extra: pip install 'recipe-trainer[mlflow]'")


@pytest.fixture
def store(here):
    """A database of its own: MLflow keeps those that it has opened."""
    return f"sqlite:///{here}/mlflow.db"


def tracked(mlflow, uri, folder):
    """Return the tracker's client and its run for a folder."""
    client = mlflow.MlflowClient(uri)
    return client, client.get_run(json.loads((folder / "mlflow.json").read_text())["run_id"])


def held_against_its_run(mlflow, uri, folder):
    client, run = tracked(mlflow, uri, folder)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    summary = json.loads((folder / "summary.json").read_text())
    for key in ("val/accuracy", "train/loss", "lr"):
        history = client.get_metric_history(run.info.run_id, key)
        assert [(point.step, point.value) for point in history] == [(row["epoch"], row[key]) for row in rows]
    assert run.data.metrics["result/best/val_accuracy"] == summary["best"]["val/accuracy"]
    assert (run.data.params["optimizer.lr"], run.data.params["model.width"]) == ("0.02", "4")
    assert run.info.status == "FINISHED"
    names = {each.path for each in client.list_artifacts(run.info.run_id)}
    assert {"report.html", "resolved.yaml", "figures"} <= names
    return client, run


def test_mlflow_has_config_numbers_figures_and_report(mlflow, store):
    folder = trained(f"{{type: MLflow, tracking_uri: '{store}'}}")
    client, run = held_against_its_run(mlflow, store, folder)
    assert client.get_experiment(run.info.experiment_id).name == "tiny"
    assert run.info.run_name == folder.name


def test_a_resume_continues_the_run_of_mlflow(mlflow, store, monkeypatch):
    from registry.callbacks.mlflow import MLflow

    real = MLflow.epoch

    def stops(self, epoch, row):
        real(self, epoch, row)
        if epoch == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(MLflow, "epoch", stops)
    folder = trained(f"{{type: MLflow, tracking_uri: '{store}'}}", code=143)
    assert tracked(mlflow, store, folder)[1].info.status == "KILLED"
    monkeypatch.setattr(MLflow, "epoch", real)
    assert main(["resume", str(folder), "train.epochs=4"]) == 0
    client, run = held_against_its_run(mlflow, store, folder)
    assert run.data.tags["resumed.train.epochs"] == "4"
    assert len(client.search_runs([run.info.experiment_id])) == 1


def test_a_server_that_is_away_costs_one_line(mlflow, here, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    trained("{type: MLflow, tracking_uri: 'http://127.0.0.1:9'}")
    assert capsys.readouterr().out.count("warning: MLflow is switched off") == 1


@pytest.mark.slow  # starts MLflow's server
def test_mlflow_on_a_server(mlflow, here):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--port",
        str(port),
        "--backend-store-uri",
        "sqlite:///server.db",
    ]
    with (here / "server.log").open("w") as log:
        server = subprocess.Popen([*command, "--workers", "1"], stdout=log, stderr=log, start_new_session=True)
    try:
        _wait_for(f"{uri}/health", server)
        held_against_its_run(mlflow, uri, trained(f"{{type: MLflow, tracking_uri: '{uri}'}}"))
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def _wait_for(url, process):
    for _ in range(600):
        assert process.poll() is None, "the server has ended"
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"{url} does not answer")


# ---------------------------------------------------------------------------------------------------------------- W&B
@pytest.fixture
def wandb():
    return pytest.importorskip("wandb", reason="wandb is an extra: pip install 'recipe-trainer[wandb]'")


def offline():
    """Return what the offline runs in the working directory hold: config, rows of numbers, summary, exit codes."""
    from wandb.proto import wandb_internal_pb2

    config, rows, summary, exits = {}, [], {}, []
    for path in sorted(Path("wandb").glob("offline-run-*/*.wandb")):
        for data in _records(path.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            kind = record.WhichOneof("record_type")
            if kind == "run":
                config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
            elif kind == "history":
                keys = {
                    (item.key or "/".join(item.nested_key)): json.loads(item.value_json) for item in record.history.item
                }
                rows.append(keys)
            elif kind == "summary":
                summary |= {_key(item): json.loads(item.value_json) for item in record.summary.update}
            elif kind == "exit":
                exits.append(record.exit.exit_code)
    return config, rows, summary, exits


def _records(data):
    """Yield the records of W&B's file: blocks of 32 KiB, in which each piece has (checksum, length, kind) before it."""
    at, whole = 7, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield whole
            whole = b""


def _key(item):
    return item.key or "/".join(item.nested_key)


def test_wandb_offline_has_config_numbers_and_the_report(wandb, here):
    folder = trained("{type: WandB, mode: offline}")
    config, rows, summary, exits = offline()
    told = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [(row["epoch"], row["val/accuracy"]) for row in rows] == [
        (row["epoch"], row["val/accuracy"]) for row in told
    ]
    assert config["optimizer.lr"] == 0.02
    reached = json.loads((folder / "summary.json").read_text())["best"]["val/accuracy"]
    assert summary["result/best/val_accuracy"] == reached
    assert exits == [0]


def test_a_resume_continues_the_run_of_wandb(wandb, here, monkeypatch):
    from registry.callbacks.wandb import WandB

    real = WandB.epoch

    def stops(self, epoch, row):
        real(self, epoch, row)
        if epoch == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(WandB, "epoch", stops)
    folder = trained("{type: WandB, mode: offline}", code=143)
    monkeypatch.setattr(WandB, "epoch", real)
    assert main(["resume", str(folder)]) == 0
    names = {path.name.rpartition("-")[2] for path in Path("wandb").glob("offline-run-*/")}
    assert names == {json.loads((folder / "wandb.json").read_text())["id"]}
    _, rows, _, exits = offline()
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert exits == [1, 0]
