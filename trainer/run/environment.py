"""What a run ran on: versions, hardware, git commit, command line. Written into environment.json."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = (
    "torch",
    "torchvision",
    "albumentations",
    "numpy",
    "opencv-python-headless",
    "tensorboard",
    "recipe-trainer",
)


def describe_environment(device: torch.device, precision: str, command: Sequence[str]) -> dict[str, Any]:
    """Return versions, hardware and command line as plain values."""
    return {
        "started": datetime.now(timezone.utc).astimezone().isoformat(timespec="seconds"),
        "command": list(command),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "git": commit_of(Path(__file__).resolve()),
        "device": device_name(device),
        "precision": precision,
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "cpu": _cpu_name(),
        "memory_gb": _memory_gb(),
    }


def with_earlier(now: Mapping[str, Any], before: Mapping[str, Any], epochs: int) -> dict[str, Any]:
    """Return the environment of a sitting with those of the earlier ones that have trained, as "earlier".

    Args:
        now: of this sitting.
        before: environment.json of the last one; empty in a new run.
        epochs: that are done. Each of "earlier" says `until_epoch`: the last that it did.
    """
    earlier = list(before.get("earlier", ()))
    if epochs > (earlier[-1]["until_epoch"] if earlier else 0):
        earlier.append({**{key: value for key, value in before.items() if key != "earlier"}, "until_epoch": epochs})
    return {**now, "earlier": earlier} if earlier else dict(now)


def made_on(environment: Mapping[str, Any], epoch: int) -> Mapping[str, Any]:
    """Return what an epoch was trained on, of what `with_earlier` gives."""
    return next((each for each in environment.get("earlier", ()) if epoch <= each["until_epoch"]), environment)


def of_training(environment: Mapping[str, Any], epochs: int) -> dict[str, Any]:
    """Return what a run's last epoch was trained on and, where others were trained elsewhere, on what those were."""
    told = {key: value for key, value in made_on(environment, epochs).items() if key not in ("earlier", "until_epoch")}
    earlier = [each for each in environment.get("earlier", ()) if each["until_epoch"] <= epochs]
    elsewhere = [each for each in earlier if each.get("device") != told.get("device")]
    if elsewhere:
        told["elsewhere"] = [f"{each['device']} up to epoch {each['until_epoch']};" for each in elsewhere]
    return told


def program_facts() -> dict[str, str]:
    """Return the versions that processes of one run must have alike."""
    facts = {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}
    return {**facts, "the program's code": commit_of(Path(__file__).resolve())}


def processes_lines(environment: Mapping[str, Any]) -> list[str]:
    """Return the line that says how many processes there are and how they share the work; none for one alone."""
    about = environment.get("processes")
    if about is None:
        idle = torch.cuda.device_count() if str(environment.get("device", "")).startswith("cuda") else 1
        return [] if idle < 2 else [f"1 of {idle} GPUs is used; all of them by --processes auto"]
    machines = "" if about["machines"] == 1 else f" on {about['machines']} machines"
    return [
        f"{about['count']} processes{machines} by {about['backend']}; each takes {about['share']} images of a batch"
    ]


def device_name(device: torch.device) -> str:
    """Return the device as people know it."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({_cpu_name()}, {torch.get_num_threads()} threads)" if device.type == "cpu" else str(device)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None


def commit_of(file: Path) -> str:
    """Return the commit that a file of code comes from, "-dirty" where its repository has changed since.

    An installed copy may lie in the repository of somebody else's work, which does not track it: that is "".
    """
    return _git(file, "describe", "--always", "--dirty", "--abbrev=12") if _git(file, "ls-files", file.name) else ""


def _git(file: Path, *words: str) -> str:
    command = ["git", *words]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False, cwd=file.parent)
    except (OSError, subprocess.SubprocessError):
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""
