"""Errors a user can meet, one class per exit code.

    UserError                 what, where, how to mend it; printed on stderr without a traceback
      RecipeError      2      the recipe or the command line
      DataError        3      images that are missing, unreadable or do not fit the recipe
      DivergedError    4      the loss is not finite, or the LR finder has no answer
      StorageError     5      the run folder cannot be written
      CheckpointError  6      a checkpoint is missing, damaged or of another version
      MemoryLimitError 7      the device is out of memory
      ExpectationError 8      an `expect:` band was missed
      ReportError      9      a page that was asked for lacks a part
      ExportError      9      an exported file does not answer as its run does

Components raise these; `trainer.cli.main` prints them. Anything else that escapes is a bug of ours (exit 1).
"""

from __future__ import annotations

import errno

from registry.printing import one_line

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG})  # errors of a place that takes no more


class UserError(Exception):
    """Base of all errors that a user can mend.

    Args:
        message: what is wrong and where.
        hint: how to mend it; printed on a line of its own.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class RecipeError(UserError):
    """The recipe or the command line is wrong."""

    exit_code = 2


class DataError(UserError):
    """Images are missing, unreadable, or contradict the recipe.

    Its message names files and classes, which may hold line breaks and escape sequences: it is made one line.
    """

    exit_code = 3

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(one_line(message), one_line(hint))


class DivergedError(UserError):
    """Training left the finite numbers, or no learning rate could be found."""

    exit_code = 4


class StorageError(UserError):
    """The run folder cannot be made or written."""

    exit_code = 5


class CheckpointError(UserError):
    """A checkpoint is missing, damaged, or of another version."""

    exit_code = 6


class MemoryLimitError(UserError):
    """The allocator reports that memory is used up."""

    exit_code = 7


class ExpectationError(UserError):
    """The run ended, but missed what its recipe expects."""

    exit_code = 8


class ReportError(UserError):
    """A page that was asked for lacks a part that could not be made."""

    exit_code = 9


class ExportError(UserError):
    """A file that was to be exported does not answer as its run does."""

    exit_code = 9
