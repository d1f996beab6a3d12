"""Errors of the machine: what those of memory, disk and torch's own checks mean to who runs a recipe.

They surface anywhere in a run, as types and texts of other people's code; here each becomes one of ours, with what to
do about it. Knows nothing of stages.
"""

from __future__ import annotations

from pathlib import Path

import torch

from registry.errors import FULL, DataError, MemoryLimitError, StorageError, UserError
from trainer.recipe.recipe import Recipe

CPU_ALLOCATOR = "DefaultCPUAllocator"  # torch has no type of its own for a CPU that is out of memory
ONE_VALUE = "Expected more than 1 value per channel when training"  # said by every normalising layer of torch


def as_user_error(error: BaseException, recipe: Recipe, folder: Path) -> UserError | None:
    """Return what `error` means.

    Args:
        error: that ended a run.
        recipe: that was run.
        folder: of the run.

    Returns:
        What to tell; None where it already is a `UserError`, or is none of the machine's.
    """
    if isinstance(error, UserError):
        return None
    if is_out_of_memory(error):
        data = recipe.data
        return MemoryLimitError(
            f"out of memory with data.batch_size {data.batch_size} and data.eval_batch_size {data.eval_batch_size}",
            "halve data.batch_size and double train.accumulate: the steps stay the same; "
            "data.eval_batch_size counts outside the training",
        )
    if isinstance(error, OSError) and (error.errno in FULL or _is_below(folder, error.filename)):
        where = error.filename or folder
        return StorageError(
            f"{where}: cannot be written ({error.strerror or error})",
            "make room or mend the permissions, then resume: the last whole checkpoint is kept",
        )
    if isinstance(error, ValueError) and ONE_VALUE in str(error):
        return DataError(
            f"a batch of one image reached a layer that normalises over the batch ({error})",
            f"data.drop_last: true leaves an incomplete batch out; or change data.batch_size: {recipe.data.batch_size}",
        )
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocator reports that memory is used up."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and CPU_ALLOCATOR in str(error)


def _is_below(folder: Path, filename: object) -> bool:
    if not isinstance(filename, (str, Path)):
        return False
    return folder.absolute() in Path(filename).absolute().parents
