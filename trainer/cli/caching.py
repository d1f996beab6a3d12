"""What the command `cache` prints: what is kept of images, and what was removed of it."""

from __future__ import annotations

from fnmatch import fnmatch

from registry.errors import StorageError
from registry.printing import one_line, size_in_words
from registry.program import typed_as
from trainer.data.caches import LIMIT, folder, found, limit


def show(pattern: str, *, clear: bool) -> int:
    """List the caches whose images' place matches a pattern, all without one, and remove them where that is meant.

    Raises:
        StorageError: there is no home folder.
        RecipeError: the environment says a limit that is no number.
    """
    try:
        where = folder()
    except RuntimeError as error:
        raise StorageError(f"there is no folder for caches: {error}", "set XDG_CACHE_HOME") from error
    most = limit(where)  # told before anything is listed, where it is no number
    caches = [each for each in found(where) if not pattern or fnmatch(each.of, pattern)]
    for each in caches:
        print(f"{size_in_words(each.size):>10}  {one_line(each.of or each.files[0].name)}")
    total = size_in_words(sum(each.size for each in caches))
    if clear:
        for each in caches:
            each.remove()
        print(f"{total} removed from {one_line(str(where))}")
        return 0
    print(f"{total} in {one_line(str(where))}, of {size_in_words(most)} at most ({LIMIT} says how many GiB)")
    if caches:
        print(f"to remove them: {typed_as()} cache --clear, with the same words")
    return 0
