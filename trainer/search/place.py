"""The folder of a sweep: where its trials' runs lie, and the locks by which workers keep out of each other's way.

    runs/<sweep>/trial-0007/        a run, with `seeds` one per seed: trial-0007-s1
                 confirm-0007-s11/  the same recipe again, by a fresh seed
                 locks/             held while somebody works; the system gives a lock back when its process ends
                 place              a name of this disk, by which workers elsewhere know that the folders are not theirs
                 report.html, best.yaml

Several machines that share the folder share the locks; those that do not each run trials of their own.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from registry import files
from registry.errors import StorageError
from trainer.run.folder import RunFolder
from trainer.run.locking import Held, is_held, lock

LOCKS, PLACE, PAGE, BEST = "locks", "place", "report.html", "best.yaml"
PATIENCE = 0.05  # seconds between looks at a lock that is held for a moment


@dataclass(frozen=True)
class SweepFolder:
    """Paths and locks of one sweep.

    Attributes:
        path: <runs>/<sweep>.
    """

    path: Path

    @classmethod
    def made(cls, root: Path, name: str) -> SweepFolder:
        """Return the folder, made where it is not there yet.

        Raises:
            StorageError: it cannot be made.
        """
        path = root / name
        try:
            path.mkdir(parents=True, exist_ok=True)
            files.make_folder(path / LOCKS, below=path)
        except OSError as error:
            raise StorageError(f"{path}: cannot be made ({error.strerror or error})") from error
        return cls(path)

    @property
    def root(self) -> Path:
        """Where runs lie."""
        return self.path.parent

    def place(self) -> str:
        """Return the name of this disk; the first worker gives it."""
        with self.waiting("place"):
            path = self.path / PLACE
            if not path.exists():
                files.write(path, f"{uuid.uuid4().hex}\n".encode(), below=self.path)
            return files.read_text(path).strip()

    def run(self, kind: str, number: int, seed: int | None) -> RunFolder:
        """Return the run of a trial.

        Args:
            kind: "trial" or "confirm".
            number: of the trial.
            seed: where each trial has several.
        """
        return RunFolder(self.path / run_name(kind, number, seed))

    @contextlib.contextmanager
    def working(self, what: str) -> Iterator[bool]:
        """Hold the lock of `what` for the length of the block, or say at once that another has it."""
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(lock(self.path / LOCKS / what))
            except Held:
                yield False
                return
            except OSError as error:
                raise StorageError(f"{self.path / LOCKS}: cannot be written ({error.strerror or error})") from error
            yield True

    @contextlib.contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Hold the lock of `what`, which others have for moments only."""
        while True:
            with self.working(what) as mine:
                if mine:
                    yield
                    return
            time.sleep(PATIENCE)

    def is_worked_on(self, what: str) -> bool:
        """Whether somebody holds the lock of `what`."""
        return is_held(self.path / LOCKS / what)


def run_name(kind: str, number: int, seed: int | None) -> str:
    """Return the name of a trial's run folder: "trial-0007", "trial-0007-s2"."""
    return f"{kind}-{number:04d}" + ("" if seed is None else f"-s{seed}")
