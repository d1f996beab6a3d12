"""Threads that wait sleep soon, unless the user has chosen how they wait, and it is said before torch is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from registry.threads import WAITING, share_cores

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def before_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)


def test_threads_that_wait_sleep_after_a_thousand_turns() -> None:
    environment = {"HOME": "/root"}
    share_cores(environment)
    assert environment == {"HOME": "/root", "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}


@pytest.mark.parametrize("chosen", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_what_the_user_chose_stays_and_nothing_is_added_to_it(chosen: str) -> None:
    environment = {chosen: "mine"}
    share_cores(environment)
    assert environment == {chosen: "mine"}


def test_nothing_is_said_once_torch_has_read_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", pytest)
    environment: dict[str, str] = {}
    share_cores(environment)
    assert environment == {}


@pytest.mark.parametrize("code", ["import trainer", "from trainer.cli.main import main; main(['--version'])"])
def test_library_and_program_say_it_before_they_import_torch(code: str) -> None:
    said = "print('torch' in sys.modules, os.environ['OMP_WAIT_POLICY'], os.environ['GOMP_SPINCOUNT'])"
    script = f"{code}\nimport os, sys\n{said}"
    environment = {name: value for name, value in os.environ.items() if name not in WAITING}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "False PASSIVE 1000"
