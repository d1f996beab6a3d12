"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009), read from the publisher's Python archives.

Owns their layout and digests. How bytes are fetched, unpacked and unpickled safely is archives.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from registry.catalogue.markers import Text
from registry.contracts import DataFacts
from registry.datasets.archives import check_digest, fetch, load_plain_pickle, md5, unpack
from registry.datasets.source import MissingSplit, PackedSource
from registry.errors import DataError

OFFLINE = "`recipes/quickstart.yaml` needs no download"


class _Cifar(PackedSource):
    """What both have in common; the class attributes say where they differ."""

    facts: ClassVar[DataFacts]
    folder: ClassVar[str]
    archive: ClassVar[str]
    archive_md5: ClassVar[str]
    archive_size: ClassVar[int]
    files: ClassVar[Mapping[str, Mapping[str, str]]]  # split -> file -> MD5
    meta: ClassVar[tuple[str, str]]  # file of the class names, MD5
    label_key: ClassVar[bytes]
    names_key: ClassVar[bytes]

    def __init__(self, root: Annotated[str, Text("path")] = "data", *, split: str, download: bool) -> None:
        if split not in self.files:
            raise MissingSplit(f"{type(self).__name__} has no split {split!r}; it has {', '.join(self.files)}")
        folder = Path(root) / self.folder
        if not folder.is_dir():
            self._obtain(Path(root), download)
        wanted = dict(self.files[split])
        with ThreadPoolExecutor(2) as pool:  # hashing and copying leave Python's lock
            parts = list(pool.map(lambda item: self._read(folder / item[0], item[1]), wanted.items()))
        names = _checked(folder / self.meta[0], self.meta[1])[self.names_key]
        super().__init__(
            f"{type(self).__name__} {split}",
            parts[0][0] if len(parts) == 1 else np.concatenate([images for images, _ in parts]),
            np.concatenate([targets for _, targets in parts]),
            [name.decode("utf-8") for name in names],
        )

    def _obtain(self, root: Path, download: bool) -> None:
        """Bring the folder about from the archive, which is downloaded where it is missing."""
        archive = root / self.archive
        hint = f"put {self.archive} from {self.url()} into {root}/, or its folder {self.folder}/ there; {OFFLINE}"
        missing = f"{type(self).__name__} is not at {root / self.folder}"
        if not download:
            raise DataError(missing, hint)
        if archive.is_file():
            check_digest(str(archive), self.archive_md5, md5(archive))
        else:
            try:
                fetch(self.url(), archive, size=self.archive_size, digest=self.archive_md5)
            except DataError as error:
                raise DataError(f"{missing}, and {error.message}", hint) from error
        unpack(archive, root, member=self.folder)

    @classmethod
    def url(cls) -> str:
        """Return the publisher's address of the archive."""
        return f"https://www.cs.toronto.edu/~kriz/{cls.archive}"

    def _read(self, path: Path, digest: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        content = _checked(path, digest)
        planes = np.asarray(content[b"data"], dtype=np.uint8).reshape(-1, 3, 32, 32)
        images = np.empty((len(planes), 32, 32, 3), dtype=np.uint8)
        for channel in range(3):  # ten times as fast as one transposed copy
            images[..., channel] = planes[:, channel]
        targets = np.asarray(content[self.label_key], dtype=np.int64)
        if len(targets) != len(images):
            raise DataError(f"{path} holds {len(images)} images and {len(targets)} labels")
        return images, targets


def _checked(path: Path, digest: str) -> dict[bytes, Any]:
    """Read a pickled dict whose MD5 is known."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    check_digest(str(path), digest, hashlib.md5(content, usedforsecurity=False).hexdigest())
    value = load_plain_pickle(content, str(path))
    if not isinstance(value, dict):
        raise DataError(f"{path} holds a {type(value).__name__} where a dict belongs")
    return value


class CIFAR10(_Cifar):
    """60,000 photographs of 32x32 pixels in 10 classes; the test split is the usual yardstick.

    Args:
        root: folder that holds `cifar-10-batches-py/`, or `cifar-10-python.tar.gz`; relative to the working directory.
        split: "train" (50,000 images) or "test" (10,000).
        download: fetch the archive (170 MB) into `root` where the folder is missing.
    """

    facts = DataFacts(
        splits={"train": 50_000, "test": 10_000},
        class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        image_size=(32, 32),
        channels=3,
    )
    folder = "cifar-10-batches-py"
    archive = "cifar-10-python.tar.gz"
    archive_md5 = "c58f30108f718f92721af3b95e74349a"
    archive_size = 170_498_071
    files: ClassVar = {
        "train": {
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        },
        "test": {"test_batch": "40351d587109b95175f43aff81a1287e"},
    }
    meta = ("batches.meta", "5ff9c542aee3614f3951f8cda6e48888")
    label_key = b"labels"
    names_key = b"label_names"


def _names(text: str) -> tuple[str, ...]:
    """Take class names apart, in the publisher's (alphabetical) order."""
    return tuple(text.split())


class CIFAR100(_Cifar):
    """60,000 photographs of 32x32 pixels in 100 classes.

    Args:
        root: folder that holds `cifar-100-python/`, or `cifar-100-python.tar.gz`; relative to the working directory.
        split: "train" (50,000 images) or "test" (10,000).
        download: fetch the archive (169 MB) into `root` where the folder is missing.
    """

    facts = DataFacts(
        splits={"train": 50_000, "test": 10_000},
        class_names=_names(
            "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly "
            "camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup "
            "dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower "
            "leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid "
            "otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray "
            "road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar "
            "sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle "
            "wardrobe whale willow_tree wolf woman worm"
        ),
        image_size=(32, 32),
        channels=3,
    )
    folder = "cifar-100-python"
    archive = "cifar-100-python.tar.gz"
    archive_md5 = "eb9058c3a382ffc7106e4002c42a8d85"
    archive_size = 169_001_437
    files: ClassVar = {
        "train": {"train": "16019d7e3df5f24257cddd939b257f8d"},
        "test": {"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
    }
    meta = ("meta", "7973b15100ade9c7d40fb424638fde48")
    label_key = b"fine_labels"
    names_key = b"fine_label_names"
