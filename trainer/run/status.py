"""The status of a run: what summary.json says while it goes on, and how it ended.

Before it is accepted (recipe, data and model fit together, and fit what a resumed run has done) a run may be refused: a
new one then leaves no folder, a resumed one is left as it was.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence

from registry.errors import CheckpointError, DataError, RecipeError, UserError
from registry.program import typed_as
from trainer.engine.interrupts import Interrupted, Paused
from trainer.engine.processes import Lost
from trainer.run.folder import RunFolder

SIGNALLED = 128  # exit codes above are of signals
# What a resumed run keeps of its summary until it writes a new one; what it had reached tells not what it reaches.
STANDS = ("metric", "mode", "selected_on", "lr_finder", "device", "precision", "seed", "images", "parameters")
REFUSALS = (RecipeError, DataError, CheckpointError)  # what turns a run down before anything is trained


class RunStatus:
    """Writes the status of one run.

    Args:
        folder: of the run.
        log: takes one line.
        fast: whether it is a small run of everything.
        resumed: whether the folder was there before; a new one says at once that it is running.
        again: what the command that continues it ends with.
    """

    def __init__(
        self, folder: RunFolder, log: Callable[[str], None], *, fast: bool, resumed: bool, again: str = ""
    ) -> None:
        self._folder, self._log, self._fast, self._resumed = folder, log, fast, resumed
        self._to_continue = f"to continue: {typed_as()} resume {shlex.quote(str(folder.path))}{again}"
        self._accepted = False
        if not resumed:
            self._write("running")

    def accepted(self, warnings: Sequence[str], not_judged: str = "") -> None:
        """From now on the run writes; first what a resume cannot tell any more, which reads resolved.yaml.

        Args:
            warnings: what the recipe was warned of.
            not_judged: why its expectations do not count.
        """
        self._accepted = True
        self._folder.clear_leftovers()
        before = self._folder.read_json("summary.json")
        self._folder.write_json("summary.json", {key: before[key] for key in STANDS if key in before})
        self._write("running", warnings=list(warnings), **({"not_judged": not_judged} if not_judged else {}))

    def ended_by(self, error: BaseException) -> None:
        """Write down what ended the run before its end; where it was never accepted, leave everything as it was."""
        refused = isinstance(error, REFUSALS) or (
            isinstance(error, Lost) and error.exit_code in {each.exit_code for each in REFUSALS}
        )
        if not self._accepted and not self._resumed and refused:
            self._folder.discard()
            self._log(f"{self._folder.path} is removed: nothing was run")
            return
        writes = self._accepted or not self._resumed
        if isinstance(error, Paused):
            self._write("paused")
            self._log(f"paused: {error}")
        elif isinstance(error, Lost):
            if writes:
                self._write("interrupted" if error.exit_code > SIGNALLED else "failed", error=str(error))
            self._log(f"{error}; {self._to_continue}")
        elif isinstance(error, Interrupted):
            if writes:
                self._write("interrupted")
            self._log(f"interrupted by {error}; {self._to_continue}")
        elif writes:
            text = error.message if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            try:
                self._write("failed", error=text)
            except UserError as second:
                self._log(f"warning: {second.message}")

    def _write(self, status: str, **more: object) -> None:
        before = self._folder.read_json("summary.json")
        before.pop("error", None)
        self._folder.write_json("summary.json", {**before, "status": status, "fast": self._fast, **more})
