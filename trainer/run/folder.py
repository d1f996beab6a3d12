"""The run folder: runs/<name>/<time>/, never reused, made whole by one rename.

Owns its layout and how its small files are written. Knows nothing of what they mean.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from registry import files
from registry.contracts import LRFinding
from registry.errors import CheckpointError, StorageError
from registry.printing import printable
from trainer.recipe.afterwards import RESOLVED
from trainer.recipe.recipe import LRFinder
from trainer.run.locking import Held, lock
from trainer.run.naming import is_run, located, runs_below
from trainer.run.summary import is_number, sound

GIVEN = "recipe.yaml"  # in a run folder
SETTINGS = "settings"  # in lr_finder.json, beside the result
SUBFOLDERS = ("checkpoints", "figures", "gradcam", "tensorboard")


def _no_place(parent: Path, reason: str) -> StorageError:
    return StorageError(
        f"{parent}: a run folder cannot be made here ({reason})",
        "make the place writable, or start in another folder: runs/ lies in the working directory",
    )


@dataclass(frozen=True)
class RunFolder:
    """Paths and small files of a run.

    Attributes:
        path: the folder.
    """

    path: Path

    # ------------------------------------------------------------------------------------------------ making, opening
    @classmethod
    def create(cls, root: Path, name: str, texts: Mapping[str, str], *, suffix: str = "", named: str = "") -> RunFolder:
        """Make a new run folder under `root`/`name`, `texts` (file name -> text) already in it.

        It is called by the time and `suffix`, or `named`.

        Raises:
            StorageError: it cannot be made.
        """
        parent = root / name
        try:
            parent.mkdir(parents=True, exist_ok=True)
            return cls(_made(parent, parent, texts, suffix, named))
        except OSError as error:
            raise _no_place(parent, error.strerror or str(error)) from error

    @classmethod
    def require_place(cls, root: Path, name: str) -> None:
        """Refuse, before any work, a place in which `create` could make no folder.

        Raises:
            StorageError: so it is.
        """
        parent = root / name
        there = next(each for each in (parent, *parent.absolute().parents) if each.exists())
        if not there.is_dir():
            raise _no_place(parent, os.strerror(errno.ENOTDIR))
        if not os.access(there, os.W_OK | os.X_OK):
            read_only = os.statvfs(there).f_flag & os.ST_RDONLY if hasattr(os, "statvfs") else False
            raise _no_place(parent, os.strerror(errno.EROFS if read_only else errno.EACCES))

    def page(self, kind: str) -> RunFolder:
        """Make a folder for a page of its own in this run, <run>/explain/`kind`/<time>.

        Raises:
            StorageError: it cannot be made, or a link in the run leads out of it.
        """
        self.refuse_links()
        parent = self.path / "explain" / kind
        try:
            files.make_folder(parent, below=self.path)
            return RunFolder(_made(parent, self.path, {}, ""))
        except OSError as error:
            raise StorageError(f"{parent}: a page cannot be made here ({error.strerror or error})") from error

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open an existing run.

        Args:
            path: its folder; `latest` stands for the newest run of those below (trainer/run/naming.py).

        Raises:
            CheckpointError: there is no run at `path`.
        """
        path = located(path)
        if not is_run(path):
            what = "is not a run folder (it has no resolved.yaml)" if path.exists() else "does not exist"
            raise CheckpointError(f"{path}: {what}", _instead_of(path))
        return cls(path)

    # ------------------------------------------------------------------------------------------------------------ paths
    @property
    def resolved(self) -> Path:
        """The recipe with all that was left out or supplied: what a run is continued, used and compared by."""
        return self.path / RESOLVED

    def read_given(self) -> str:
        """Return the recipe's text as the run was given it; "" where the file is gone.

        Raises:
            CheckpointError: it cannot be read.
        """
        return self._read(self.path / GIVEN) if (self.path / GIVEN).exists() else ""

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints lie."""
        return self.path / "checkpoints"

    @property
    def metrics(self) -> Path:
        """One JSON object per epoch."""
        return self.path / "metrics.jsonl"

    @property
    def report(self) -> Path:
        """The page."""
        return self.path / "report.html"

    @property
    def lock_file(self) -> Path:
        """Held by the process that works on the run."""
        return self.path / "lock"

    # ------------------------------------------------------------------------------------------------------ small files
    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a JSON file whole; numbers that are not finite become null.

        Raises:
            StorageError: it cannot be written.
        """
        self.write_text(name, json.dumps(_as_json(value), indent=2, ensure_ascii=False) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Write a text file whole.

        Raises:
            StorageError: it cannot be written.
        """
        try:
            files.write(self.path / name, printable(text).encode(), below=self.path)
        except OSError as error:
            raise StorageError(f"{self.path / name}: cannot be written ({error.strerror or error})") from error

    def read_json(self, name: str) -> dict[str, Any]:
        """Read a JSON file; empty where there is none.

        Raises:
            CheckpointError: it is damaged.
        """
        path = self.path / name
        if not path.exists():
            return {}
        try:
            value = json.loads(self._read(path))
        except ValueError as error:
            raise CheckpointError(f"{path}: is damaged ({error})", "remove it: a resume writes it anew") from error
        return value if isinstance(value, dict) else {}

    def read_summary(self) -> dict[str, Any]:
        """Return what can be relied on in summary.json (trainer/run/summary.py); empty where there is none.

        Raises:
            CheckpointError: it is damaged.
        """
        return sound(self.read_json("summary.json"))

    def _read(self, path: Path) -> str:
        try:
            return self._content(path).decode()
        except UnicodeDecodeError as error:
            raise CheckpointError(f"{path}: is damaged ({error})", "remove it: a resume writes it anew") from error

    def _content(self, path: Path) -> bytes:
        try:
            with files.opened(path) as file:
                return file.read()
        except OSError as error:
            hint = "remove it: a resume writes it anew"
            raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})", hint) from error

    def read_history(self) -> list[dict[str, float]]:
        """Return the numbers of metrics.jsonl, a row per epoch; damaged lines are left out.

        A number that was not finite is None.

        Raises:
            CheckpointError: it cannot be read.
        """
        return [
            {key: each for key, each in row.items() if each is None or is_number(each)} for row in self.read_metrics()
        ]

    def read_metrics(self) -> list[dict[str, Any]]:
        """Return the rows of metrics.jsonl, the digests of the chain among them; damaged lines are left out.

        Raises:
            CheckpointError: it cannot be read.
        """
        rows = []
        if self.metrics.exists():
            for line in self._content(self.metrics).splitlines():
                with contextlib.suppress(ValueError):
                    rows.append(json.loads(line.decode()))
        return [row for row in rows if isinstance(row, dict) and is_number(row.get("epoch"))]

    def write_finding(self, finding: LRFinding, section: LRFinder) -> None:
        """Keep the LR finder's result, and its settings: in resolved.yaml the number takes their place."""
        self.write_json("lr_finder.json", {**asdict(finding), SETTINGS: asdict(section)})

    def finder_settings(self) -> dict[str, Any]:
        """Return the settings that the LR finder was run with; empty where there was none."""
        settings = self.read_json("lr_finder.json").get(SETTINGS)
        return settings if isinstance(settings, dict) else {}

    def read_finding(self) -> LRFinding | None:
        """Return the LR finder's result; None where there is none yet."""
        stored = self.read_json("lr_finder.json")
        if not stored:
            return None
        stored.pop(SETTINGS, None)
        try:
            return LRFinding(**{**stored, **{name: tuple(stored[name]) for name in ("lrs", "losses", "smoothed")}})
        except (KeyError, TypeError) as error:
            path = self.path / "lr_finder.json"
            raise CheckpointError(f"{path}: is damaged ({error})", "remove it: a resume writes it anew") from error

    # ------------------------------------------------------------------------------------------------------------- lock
    @contextlib.contextmanager
    def locked(self) -> Iterator[RunFolder]:
        """Keep other processes from continuing the same run.

        The system gives the lock back when its process ends, however it ends, so none is ever stale.

        Raises:
            StorageError: another process is at it, the folder cannot be written, or a link in it leads out of it.
        """
        self.refuse_links()
        with contextlib.ExitStack() as held:
            try:
                file = held.enter_context(lock(self.lock_file))
                os.truncate(file, 0)
                os.write(file, f"process {os.getpid()} on {socket.gethostname()}".encode())
            except Held as other:
                raise StorageError(f"{self.path}: {other} is working on this run", "wait for it, or stop it") from other
            except OSError as error:
                raise StorageError(f"{self.path}: cannot be written ({error.strerror or error})") from error
            yield self

    def clear_leftovers(self) -> None:
        """Remove what a killed process left half written; only for the one that holds the lock."""
        for folder in (self.path, self.checkpoints):
            files.remove_temporaries(folder, below=self.path)

    def discard(self) -> None:
        """Remove the folder of a run that never began, and those above it that it leaves empty."""
        shutil.rmtree(self.path, ignore_errors=True)
        for folder in (self.path.parent, self.path.parent.parent):
            with contextlib.suppress(OSError):  # not empty, or the working directory itself
                folder.rmdir()

    def refuse_links(self) -> None:
        """Look through the whole run before anything is begun: days later a link would cost the report.

        Raises:
            StorageError: a link in it leads out of it.
        """
        try:
            files.refuse_links(self.path)
        except OSError as error:
            raise StorageError(f"{self.path}: cannot be looked through ({error.strerror or error})") from error


def _instead_of(path: Path) -> str:
    """Return the hint for what is no run: which one was probably meant."""
    if any(runs_below(path)):
        return f"it holds runs: {path}/latest is the newest of them"
    return "a run is a folder like runs/quickstart/20260131-120000; `latest` is the newest one in runs/"


def _made(parent: Path, below: Path, texts: Mapping[str, str], suffix: str, named: str = "") -> Path:
    """Make a folder in `parent`, called by the time or `named`, filled before it has its name."""
    stamp = named or datetime.now().strftime("%Y%m%d-%H%M%S") + suffix
    temporary = parent / f".new-{os.getpid()}-{stamp}"
    try:
        for each in SUBFOLDERS:
            files.make_folder(temporary / each, below=below)
        for name, text in texts.items():
            files.write(temporary / name, printable(text).encode(), below=below)
        return _settle(temporary, parent / stamp, below)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _settle(temporary: Path, wanted: Path, below: Path) -> Path:
    """Rename to the wanted name, or to the first of name-2, name-3, ... that is free."""
    for number in range(1, 10_000):
        target = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        if target.exists():
            continue
        try:
            files.rename(temporary, target.name, below=below)
        except OSError:
            if not target.exists():
                raise
        else:
            return target
    raise OSError(f"no free name beside {wanted}")


def _as_json(value: Any) -> Any:
    """Return plain values as JSON can hold them: numbers finite or null, text without what is no character."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {printable(str(key)): _as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_json(item) for item in value]
    return value
