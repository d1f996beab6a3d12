"""Cold starts: how long until a check answers, and until the first step of a training."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent
RECIPE = "recipes/cifar10_resnet18.yaml"


def variants() -> dict[str, Callable[[], int]]:
    """Return the commands; a call runs one process to its end."""
    imports = "import torch, torchvision, albumentations"
    quickstart = [
        "recipes/quickstart.yaml",
        "--fast",
        "lr_finder=null",
        "optimizer.lr=0.05",
        "report=[]",
        "callbacks=[]",
    ]
    return {
        "python -c pass": _process(["-c", "pass"]),
        "validate --quick": _process(["-m", "trainer", "validate", "--quick", RECIPE]),
        "validate --quick, no cache": _process(["-m", "trainer", "validate", "--quick", RECIPE], cached=False),
        "bare imports": _process(["-c", imports]),
        "quickstart --fast, no report": _process(["-m", "trainer", *quickstart]),
    }


def _process(arguments: list[str], *, cached: bool = True) -> Callable[[], int]:
    def run() -> int:
        with tempfile.TemporaryDirectory() as folder:
            environment = {**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1", "PYTHONPATH": str(ROOT)}
            if not cached:
                environment["XDG_CACHE_HOME"] = folder
            absolute = [str(ROOT / word) if word.startswith("recipes/") else word for word in arguments]
            subprocess.run([sys.executable, *absolute], cwd=folder, env=environment, check=True, capture_output=True)
        return 1

    return run
