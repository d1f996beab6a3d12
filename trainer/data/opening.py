"""Opening a dataset split: decoded once and held in memory, or left on the disk to be read during training.

Owns the choice: images are held where all have one size, no larger than 512 x 512, and half of memory, which the splits
share, has room for them. Either way every image is looked at before training, so that a broken one is found first, and
what was seen is kept, so that it is looked at once. Looking is decoding; where images are decoded in the first epoch
anyway and a broken one ends the run, a JPEG with a whole header and an end is only glanced at. How images then lie is
store.py, the files that keep them cache.py, what is known of each survey.py.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from registry.catalogue import cache
from registry.contracts import ImageSource
from registry.datasets.headers import size_of_whole
from registry.errors import DataError, StorageError
from registry.printing import size_in_words
from registry.transforms.shrinking import WHOLE
from trainer.data.cache import Packed, cache_file, read_cache, write_cache
from trainer.data.caches import make_room, used
from trainer.data.content import digest_of, digest_of_file
from trainer.data.memory import Budget, physical_memory
from trainer.data.reading import SKIP, read
from trainer.data.resized import PIXELS, ResizedSource, ShrunkSource, write_pixels
from trainer.data.store import AnyStore, LazyStore, Store
from trainer.data.survey import Survey, described

SAMPLE = 16  # images, evenly spread, whose sizes are compared before all are decoded
TASK = 64  # images a thread decodes at a time
THREADS = 32  # at most
AHEAD = 4  # images per thread that are shrunk and not yet written
DECODING_SHARE = 8  # of memory that the images being decoded may take: the whole divided by this
SAY_EVERY = 15.0  # seconds between two lines on how far looking is
TOO_MANY_BAD = 0.1  # share of unreadable images beyond which `skip` is no answer
NAMED = 10  # unreadable images that the log names

# Kinds of cache: all pixels; what was seen of images that are not held, of all of them or of a glance.
_DECODED, _LOOKED, _GLANCED = "", "looked, 2", "glanced"

Log = Callable[[str], None]
OnBadImage = Literal["fail", "skip", "list"]  # `list` skips however many there are: an audit names them
Shape = tuple[int, int, int]


def open_store(
    source: ImageSource,
    *,
    on_bad_image: OnBadImage = "fail",
    log: Log = lambda _: None,
    budget: Budget | None = None,
    undecoded: bool = False,
    glances: bool = False,
) -> AnyStore:
    """Open a split, so that images can be taken from it.

    Args:
        source: the split.
        on_bad_image: what happens where an image is unreadable.
        log: takes a line for the run's log.
        budget: of memory, which other splits share; None where there are none.
        undecoded: decode a sample only and leave the rest to `look_at`, for a fast run that needs few images.
        glances: leave decoding to whoever takes the images, where a look at its file tells that one is whole.

    Returns:
        A `Store` where all images have one size and there is room for them, else a `LazyStore`.

    Raises:
        DataError: images and labels do not fit together, or an image is unreadable.
    """
    budget = budget if budget is not None else Budget(physical_memory())
    if len(source.targets) == 0:
        return Store(source, Packed(np.zeros((0, 1, 1, 3), dtype=np.uint8), ()))
    images = source.packed()
    if images is not None:
        if images.dtype != np.uint8 or images.ndim != 4 or len(images) != len(source.targets):
            raise DataError(
                f"the dataset gave images of type {images.dtype} and shape {images.shape} for {len(source.targets)} "
                "labels; uint8 (N, H, W, C) belongs there"
            )
        budget.take(images.nbytes)
        return Store(source, Packed(images, ()))
    return _Opening(source, on_bad_image, log, budget, glances=glances).store(undecoded=undecoded)


def look_at(store: AnyStore, indices: NDArray[np.int64], *, on_bad_image: OnBadImage, log: Log, budget: Budget) -> None:
    """Look at some images of a store that was opened `undecoded`; its survey and its unreadable images grow by them.

    Args:
        store: one that holds its images, or knows all of them, stays as it is.
        indices: places in the split, int64 (n,).
        on_bad_image: what happens where an image is unreadable.
        log: takes a line for the run's log.
        budget: of memory.

    Raises:
        DataError: an image is unreadable.
    """
    if isinstance(store, Store):
        return
    survey = store.survey if store.survey is not None else Survey(len(store), store.channels)
    new = indices[~survey.seen[indices]]
    opening = _Opening(store.source, on_bad_image, log, budget)
    opening.look(survey, new)
    store.survey = survey
    store.bad = (*store.bad, *opening.without_bad(survey, survey.unreadable(new), len(new)))


class _Opening:
    """One split of files while it is opened: its steps, and what they have in common.

    Args:
        source: the split.
        on_bad_image: what happens where an image is unreadable.
        log: takes a line for the run's log.
        budget: of memory.
        glances: as `open_store` takes it.
    """

    def __init__(
        self, source: ImageSource, on_bad_image: OnBadImage, log: Log, budget: Budget, *, glances: bool = False
    ) -> None:
        self._source = source
        self._content: Callable[[int], bytes] | None = getattr(source, "content", None)
        self._glances = glances and self._content is not None
        self._on_bad_image = on_bad_image
        self._log = log
        self._budget = budget
        self._count = len(source.targets)
        self._listing = source.listing()
        self._cache_failed = False  # to be read, which was said
        self._largest = 0  # bytes of an image, as far as a sample tells
        self._threads = min(THREADS, os.cpu_count() or 1)

    # ---------------------------------------------------------------------------------------------------------- choice
    def store(self, *, undecoded: bool) -> AnyStore:
        """Hold the images, from the cache or decoded into it; or leave them on the disk, and say why."""
        packed = self._cached(_DECODED)
        if packed is not None:
            return self._held(packed)
        kept = self._cached(_LOOKED) or (self._cached(_GLANCED) if self._glances else None)
        survey = None if kept is None else Survey.unpacked(kept)
        shape, why_not = self._sampled_shape() if survey is None else _known_shape(survey)
        why_not = why_not or ("this fast run needs few of them" if undecoded else self._no_room(shape))
        if not why_not:
            survey, packed = self._decoded(shape)
            if packed is not None:
                return self._held(self._kept(_DECODED, packed, f"decoded {self._count} images once"))
            why_not = _differ(survey.sizes())
        if isinstance(self._source, ShrunkSource) and not undecoded:
            resized = self._resized(self._source, survey if kept is not None else None, shape[2])
            if resized is not None:
                return resized
        self._log(f"images stay on the disk and are read during training: {why_not}")
        if survey is None and undecoded:
            return LazyStore(self._source, shape[2])
        return self._left(survey, shape[2], is_kept=kept is not None)

    def _left(self, survey: Survey | None, channels: int, *, is_kept: bool) -> LazyStore:
        """Leave the images on the disk, once each was looked at.

        Args:
            survey: what was seen of them; None where nobody has looked yet.
            channels: of the images.
            is_kept: whether the survey comes from its cache.
        """
        everything = np.arange(self._count)
        if survey is None:
            survey = Survey(self._count, channels)
            self.look(survey, everything, glances=self._glances)
        if not is_kept:
            self._keep(survey)
        bad = self.without_bad(survey, survey.unreadable(everything), self._count)
        return LazyStore(self._source, channels, bad, survey, self._decode)

    def _decode(self, survey: Survey, indices: NDArray[np.int64]) -> None:
        """Look at images that were only glanced at."""
        self._log(f"decoding {len(indices):,} images once, to know their mean and deviation")
        self.look(survey, indices)
        self.without_bad(survey, survey.unreadable(indices), len(indices))
        self._keep(survey)

    def _keep(self, survey: Survey) -> None:
        """Keep what was seen."""
        glanced = len(survey.undecoded(np.arange(self._count)))
        done = f"looked at {self._count} images once"
        done += f", {glanced} of them by their files alone: the first epoch decodes them" if glanced else ""
        self._kept(_GLANCED if glanced else _LOOKED, survey.packed(), done)

    # --------------------------------------------------------------------------------------------------- resized store
    def _resized(self, source: ShrunkSource, survey: Survey | None, channels: int) -> LazyStore | None:
        """Take shrunk pictures from their file, made where there is none; None where it cannot be kept, which is said.

        Args:
            source: of the pictures.
            survey: what was seen of them, from its cache; None without.
            channels: of the pictures.
        """
        path = self._path(_LOOKED)
        if path is None:  # there are no files to tell one store from another
            return None
        path = path.with_suffix(PIXELS)
        stored = None if survey is None else self._stored(source, path, survey)
        if survey is None or stored is None:
            survey = Survey(self._count, channels)
            stored = self._stored(source, path, survey) if self._shrunk(path, survey) else None
        if stored is None:
            return None
        bad = self.without_bad(survey, survey.unreadable(np.arange(self._count)), self._count)
        return LazyStore(stored, channels, bad, survey)

    def _stored(self, source: ShrunkSource, path: Path, survey: Survey) -> ResizedSource | None:
        """Open a file of shrunk pictures; None where there is none, or it is not of these."""
        try:
            stored = ResizedSource(source, path, survey)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            self._log(f"the resized store {path} is not used, it is built anew: {error}")
            return None
        used(path)
        return stored

    def _shrunk(self, path: Path, survey: Survey) -> bool:
        """Shrink every picture into a file and enter it into the survey; return whether there is one now."""
        needed = self._count * self._largest
        refused = make_room(path, needed)
        if not refused:
            size = size_in_words(needed)
            self._log(f"shrinking {self._count:,} images once: they take up to {size} of disk, in {path.parent}")
            try:
                write_pixels(path, self._in_order(survey))
                self._kept(_LOOKED, survey.packed(), f"shrank {self._count} images once")
                return True
            except (OSError, StorageError) as error:
                refused = str(error)
        self._log(f"no resized store is kept, every picture is decoded and shrunk when it is needed: {refused}")
        return False

    def _in_order(self, survey: Survey) -> Iterator[NDArray[np.uint8] | None]:
        """Yield every image in order, None for unreadable ones, decoded in threads and entered into the survey."""
        waiting: deque[Future[NDArray[np.uint8] | None]] = deque()
        pool, said = ThreadPoolExecutor(self._threads), time.monotonic()
        try:
            for index in range(self._count):
                waiting.append(pool.submit(self._look_at, survey, index))
                if len(waiting) > AHEAD * self._threads:
                    yield waiting.popleft().result()
                if time.monotonic() - said >= SAY_EVERY:
                    said = time.monotonic()
                    self._log(f"shrunk {index + 1 - len(waiting):,} of {self._count:,} images")
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _held(self, packed: Packed) -> Store:
        """Hold decoded images; those that were unreadable are looked at again, since somebody may have mended them."""
        self._budget.take(packed.images.nbytes)
        assert packed.digests is not None
        digests = packed.digests.copy()

        def mend(index: int, image: NDArray[np.uint8]) -> None:
            packed.images[index] = image
            digests[index] = digest_of(image)

        bad = self._still_bad(packed.bad, self._count, mend)
        return Store(self._source, Packed(packed.images, bad, digests))

    def _sampled_shape(self) -> tuple[Shape, str]:
        """Return the shape of a sample of the images, and why they cannot all be held as one array ("" so far)."""
        last = self._count - 1
        sample: set[Shape] = set()
        for index in sorted({round(step * last / (SAMPLE - 1)) for step in range(SAMPLE)}):
            size = self._size_by_file(index)[0] if self._glances and sample else None
            if size is not None:  # the first is decoded, which tells the channels of all
                sample.add((*size, next(iter(sample))[2]))
                continue
            with contextlib.suppress(DataError):  # dealt with when all are looked at
                sample.add(read(self._source, index).shape)
        if not sample and self._on_bad_image == "list":
            return (1, 1, 3), "none of a sample can be read"  # each is looked at, and named
        if not sample:
            looked = min(SAMPLE, self._count)
            raise self._too_many(looked, looked, self._source.describe(0))
        self._largest = max(int(np.prod(shape)) for shape in sample)
        self._spare_memory(self._largest)
        shapes = sorted(sample)
        return shapes[0], "" if len(shapes) == 1 else _differ([shape[:2] for shape in shapes])

    def _spare_memory(self, largest: int) -> None:
        """Decode with fewer threads where images of `largest` bytes, two in each thread, would take too much."""
        self._threads = max(1, min(self._threads, self._budget.memory // DECODING_SHARE // (2 * largest)))

    def _no_room(self, shape: Shape) -> str:
        """Return why images of this shape cannot all be held; "" where they can."""
        if shape[0] * shape[1] > WHOLE:
            return f"they are larger than 512 x 512 ({described([shape[:2]])}); data.store keeps smaller ones"
        needed, others, memory = self._count * int(np.prod(shape)), self._budget.taken, self._budget.memory
        if self._budget.room_for(needed):
            return ""
        beside = f", with {size_in_words(others)} of other splits," if others else ""
        return f"{size_in_words(needed)}{beside} are more than half of {size_in_words(memory)} of memory"

    # --------------------------------------------------------------------------------------------------------- looking
    def _decoded(self, shape: Shape) -> tuple[Survey, Packed | None]:
        """Look at every image and hold all; hold none from where one has another shape."""
        self._announce(shape)
        survey, held = Survey(self._count, shape[2]), [np.empty((self._count, *shape), dtype=np.uint8)]
        self.look(survey, np.arange(self._count), held)
        if not held:
            return survey, None
        return survey, Packed(held[0], survey.unreadable(np.arange(self._count)), survey.digests)

    def _announce(self, shape: Shape) -> None:
        """Say before it begins what decoding takes."""
        size, path = size_in_words(self._count * int(np.prod(shape))), self._path(_DECODED)
        disk = "no disk: there are no files to tell a cache by" if path is None else f"as much disk, in {path.parent}"
        self._log(f"decoding {self._count:,} images once: they take {size} of memory and {disk}")

    def look(
        self,
        survey: Survey,
        indices: NDArray[np.int64],
        held: list[NDArray[np.uint8]] | None = None,
        *,
        glances: bool = False,
    ) -> None:
        """Decode images in threads and enter each into the survey; say now and then how far it is.

        Args:
            survey: takes what is seen.
            indices: of the images, int64 (n,).
            held: one array of all images, (N, H, W, C), that takes their pixels; emptied where one does not fit in.
            glances: do not decode an image whose file tells that it is whole.
        """
        held = [] if held is None else held
        over = threading.Event()
        pool = ThreadPoolExecutor(self._threads)
        tasks = [indices[start : start + TASK].tolist() for start in range(0, len(indices), TASK)]
        said, done = time.monotonic(), 0
        try:
            for count in pool.map(lambda some: self._look_at_some(survey, some, held, over, glances), tasks):
                done += count
                if time.monotonic() - said >= SAY_EVERY and done < len(indices):
                    said = time.monotonic()
                    self._log(f"looked at {done:,} of {len(indices):,} images")
        finally:
            over.set()  # an interrupt waits for the image at hand, not for the rest of the task
            pool.shutdown(cancel_futures=True)

    def _look_at_some(
        self, survey: Survey, indices: list[int], held: list[NDArray[np.uint8]], over: threading.Event, glances: bool
    ) -> int:
        """Decode the images of one task, until somebody says that it is over; return how many there are."""
        for index in indices:
            if over.is_set():
                break
            if held or not self._glanced(survey, index) or not glances:
                _hold(held, index, self._look_at(survey, index))
        return len(indices)

    def _look_at(self, survey: Survey, index: int) -> NDArray[np.uint8] | None:
        """Decode an image and enter it into the survey; None where it cannot be read."""
        try:
            image = read(self._source, index, survey.channels)
        except DataError:
            survey.miss(index)
            return None
        survey.enter(index, image)
        return image

    def _glanced(self, survey: Survey, index: int) -> bool:
        """Enter what an image's file tells undecoded; return whether it is a whole JPEG by its header and its end."""
        size, content = self._size_by_file(index)
        if content:
            survey.glance(index, size or (0, 0), digest_of_file(content))
        return size is not None

    def _size_by_file(self, index: int) -> tuple[tuple[int, int] | None, bytes]:
        """Return the (height, width) of an image where its file tells that it is whole, and the file's bytes."""
        if self._content is None:
            return None, b""
        try:
            content = self._content(index)
        except Exception:  # it is said, with its name, when the image is decoded
            return None, b""
        return size_of_whole(content), content

    # ------------------------------------------------------------------------------------------------------- unreadable
    def without_bad(self, survey: Survey, bad: Sequence[int], looked: int) -> list[int]:
        """Look again at the images that were unreadable; fail, or say which are left out."""
        return self._still_bad(bad, looked, survey.enter)

    def _still_bad(
        self, known: Sequence[int], looked: int, mend: Callable[[int, NDArray[np.uint8]], None]
    ) -> list[int]:
        """Look again at images that were unreadable; fail, or say which are left out.

        Args:
            known: their indices.
            looked: images that were looked at, of which at most a tenth may be unreadable.
            mend: takes those that were mended since.
        """
        errors: list[tuple[int, DataError]] = []
        for index in known:
            try:
                mend(index, read(self._source, index))
            except DataError as unread:
                errors.append((index, unread))
        if errors and self._on_bad_image == "fail":
            first = errors[0][1]
            more = f"; so are {len(errors) - 1} more of {looked:,} images" if len(errors) > 1 else ""
            raise DataError(f"{first.message}{more}", first.hint or SKIP) from first
        for _, error in errors[:NAMED]:
            self._log(f"left out: {error.message}")
        if len(errors) > NAMED:
            self._log(f"left out: {len(errors)} unreadable images in all")
        if len(errors) > TOO_MANY_BAD * looked and self._on_bad_image != "list":
            raise self._too_many(len(errors), looked, self._source.describe(errors[-1][0]))
        return [index for index, _ in errors]

    def _too_many(self, bad: int, count: int, example: str) -> DataError:
        return DataError(
            f"{bad} of {count} images are unreadable, more than a tenth; one of them: {example}",
            "this is more than skipping is meant for; mend or remove them",
        )

    # ----------------------------------------------------------------------------------------------------------- cache
    def _path(self, kind: str) -> Path | None:
        """Return where the split's cache belongs; None where there are no files to tell one from another."""
        if self._listing is None:
            return None
        # Of one place, whatever its kind: the one that is written takes the place of the other. Other pixels of the
        # same files are of another place: a run that is under way may need them yet.
        where = f"{self._where()}\0{getattr(self._source, 'decoding', '')}"
        try:
            return cache_file(cache.folder() / "images", where, [(kind, 0, 0), *self._listing])
        except RuntimeError:  # no home folder
            return None

    def _where(self) -> str:
        """Return what tells equal listings of different folders apart; a resized store is another place."""
        path = str(Path(self._source.describe(0)).absolute())
        shrinking = getattr(self._source, "shrinking", None)
        return path if shrinking is None else f"{path} (short side {shrinking.side})"

    def _cached(self, kind: str) -> Packed | None:
        """Read a cache; None where there is none, or it does not fit the files as they are now."""
        path = self._path(kind)
        if path is None:
            return None
        try:
            found = read_cache(path, self._count)
            if found is not None:
                used(path)
            return found
        except ValueError as error:
            self._log(f"the image cache {path} is not used, it is built anew: {error}")
        except OSError as error:
            if not self._cache_failed:  # the folder's fault, most likely: said once
                self._log(f"the image cache {path} is not used, it is built anew: {error}")
            self._cache_failed = True
        return None

    def _kept(self, kind: str, packed: Packed, done: str) -> Packed:
        """Write a cache and return what it maps, so that the memory of `packed` is free; without a cache, `packed`.

        Args:
            kind: of the cache.
            packed: what it is to hold.
            done: what was done to make it, for the log.
        """
        path = self._path(kind)
        if path is None:
            return packed
        if refused := make_room(path, packed.images.nbytes):
            self._log(f"{done}; no cache is kept in {path.parent}: {refused}")
            return packed
        try:
            write_cache(path, packed, of=self._where())
            self._log(f"{done}; kept in {path}")
        except (OSError, StorageError, ValueError) as error:
            self._log(f"{done}; no cache is kept in {path.parent}: {error}")
            return packed
        mapped = self._cached(kind)
        return packed if mapped is None else mapped


def _known_shape(survey: Survey) -> tuple[Shape, str]:
    """Return the shape of images that were looked at, and why they cannot be held as one array ("" so far)."""
    sizes = survey.sizes()
    if len(sizes) == 1:
        return (*sizes[0], survey.channels), ""
    return (0, 0, survey.channels), _differ(sizes)


def _hold(held: list[NDArray[np.uint8]], index: int, image: NDArray[np.uint8] | None) -> None:
    """Put an image into the array of all, zeros for None; where it does not fit in, let go of the array's memory."""
    for images in tuple(held):
        if image is not None and image.shape != images.shape[1:]:
            held.clear()
        else:
            images[index] = 0 if image is None else image


def _differ(sizes: Sequence[tuple[int, int]]) -> str:
    return f"they differ in size ({described(sizes)})"
