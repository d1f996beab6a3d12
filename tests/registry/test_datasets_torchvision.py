"""Torchvision's datasets through the table: the splits, labels and pixels that upstream itself gives."""

import bz2
import inspect
import json
import socket
import struct
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from torchvision import datasets as upstream

from registry.catalogue.signatures import described
from registry.catalogue.slots import SLOTS
from registry.datasets import torchvision
from registry.datasets.source import MissingSplit, stamp
from registry.datasets.torchvision import open_torchvision
from registry.datasets.torchvision_table import TABLE
from registry.datasets.upstream import _class_names, _labels
from registry.errors import DataError

RNG = np.random.default_rng(0)


def image(path, size=(12, 10), mode="RGB"):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RNG.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)


# ---------------------------------------------------------------------------- roots in upstream's layout, a few images
def idx(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def mnist(root, name="MNIST", prefixes=("train", "t10k")):
    for prefix, count in zip(prefixes, (6, 4), strict=True):
        idx(root / name / "raw" / f"{prefix}-images-idx3-ubyte", RNG.integers(0, 256, (count, 28, 28)))
        idx(root / name / "raw" / f"{prefix}-labels-idx1-ubyte", np.arange(count) % 10)


def emnist(root):
    mnist(root, "EMNIST", ("emnist-digits-train", "emnist-digits-test"))


def usps(root):
    def line(label):
        values = " ".join(f"{n + 1}:{value:.4f}" for n, value in enumerate(RNG.uniform(-1, 1, 256)))
        return f"{label} {values}\n".encode()

    (root / "usps.bz2").write_bytes(bz2.compress(b"".join(line(label) for label in (1, 10, 3, 7))))
    (root / "usps.t.bz2").write_bytes(bz2.compress(b"".join(line(label) for label in (2, 5))))


def semeion(root):
    rows = [np.concatenate([RNG.integers(0, 2, 256), np.eye(10)[label]]) for label in (0, 9, 4)]
    np.savetxt(root / "semeion.data", np.array(rows), fmt="%.4f")


def svhn(root):
    from scipy.io import savemat

    for split, count in (("train", 5), ("test", 3)):
        pixels = RNG.integers(0, 256, (32, 32, 3, count), dtype=np.uint8)
        savemat(root / f"{split}_32x32.mat", {"X": pixels, "y": np.arange(1, count + 1)[:, None] + 5})


def gtsrb(root):
    for label in (0, 3, 42):
        image(root / "gtsrb/GTSRB/Training" / f"{label:05}" / "00000_00000.ppm")
    for number in range(2):
        image(root / f"gtsrb/GTSRB/Final_Test/Images/{number:05}.ppm")
    (root / "gtsrb/GT-final_test.csv").write_text("Filename;ClassId\n00000.ppm;42\n00001.ppm;1\n")


def dtd(root):
    labels = root / "dtd/dtd/labels"
    labels.mkdir(parents=True)
    for split in ("train", "val", "test"):
        names = [f"{kind}/{kind}_{split}.jpg" for kind in ("banded", "woven")]
        for name in names:
            image(root / "dtd/dtd/images" / name)
        for partition in (1, 2):
            (labels / f"{split}{partition}.txt").write_text("\n".join(names[: 3 - partition]))


def food101(root):
    meta = root / "food-101/meta"
    meta.mkdir(parents=True)
    for split in ("train", "test"):
        for dish in ("apple_pie", "waffles"):
            image(root / "food-101/images" / dish / f"{split}.jpg")
        (meta / f"{split}.json").write_text(json.dumps({d: [f"{d}/{split}"] for d in ("apple_pie", "waffles")}))


def oxford_pets(root):
    notes = root / "oxford-iiit-pet/annotations"
    (notes / "trimaps").mkdir(parents=True)
    for split in ("trainval", "test"):
        lines = [f"{name}_{split} {label} {kind} 1" for name, label, kind in (("Abyssinian", 1, 1), ("beagle", 2, 2))]
        for line in lines:
            image(root / "oxford-iiit-pet/images" / f"{line.split()[0]}.jpg")
        (notes / f"{split}.txt").write_text("\n".join(lines) + "\n")


def aircraft(root):
    data = root / "fgvc-aircraft-2013b/data"
    for split in ("train", "val", "test"):
        image(data / f"images/{split}1.jpg")
        for level, name in (("variant", "707-320"), ("family", "Boeing 707"), ("manufacturer", "Boeing")):
            (data / f"images_{level}_{split}.txt").write_text(f"{split}1 {name}\n")
    for level, names in (("variants", "707-320\n727-200"), ("families", "Boeing 707"), ("manufacturers", "Boeing")):
        (data / f"{level}.txt").write_text(names)


def eurosat(root):
    for kind in ("Forest", "River"):
        image(root / "eurosat/2750" / kind / f"{kind}_1.jpg", (64, 64))


def country211(root):
    for split in ("train", "valid", "test"):
        for country in ("AD", "ZW"):
            image(root / "country211" / split / country / "1.jpg")


def rendered_sst2(root):
    for split in ("train", "valid", "test"):
        for label in ("negative", "positive"):
            image(root / "rendered-sst2" / split / label / "1.png")


def sun397(root):
    folder = root / "SUN397"
    for name in ("a/abbey", "z/zoo"):
        image(folder / name / "sun_1.jpg")
    (folder / "ClassName.txt").write_text("/a/abbey\n/z/zoo\n")


def caltech101(root):
    for kind in ("ant", "BACKGROUND_Google", "wrench"):
        image(root / "caltech101/101_ObjectCategories" / kind / "image_0001.jpg", mode="L" if kind == "ant" else "RGB")
    (root / "caltech101/Annotations").mkdir()


def caltech256(root):
    for number, kind in enumerate(("ak47", "zebra"), start=1):
        image(root / "caltech256/256_ObjectCategories" / f"{number:03}.{kind}" / f"{number:03}_0001.jpg")


def imagenette(root):
    for split in ("train", "val"):
        for wnid in sorted(upstream.Imagenette._WNID_TO_CLASS):
            image(root / "imagenette2-160" / split / wnid / "1.JPEG")


def omniglot(root):
    for alphabet in ("Greek", "Latin"):
        image(root / "omniglot-py/images_background" / alphabet / "character01/0001_01.png", (105, 105), "1")


def clevr(root):
    base = root / "clevr/CLEVR_v1.0"
    (base / "scenes").mkdir(parents=True)
    for split in ("train", "val"):
        image(base / f"images/{split}/CLEVR_{split}_000000.png")
        scene = {"image_filename": f"CLEVR_{split}_000000.png", "objects": [{}] * 4}
        (base / f"scenes/CLEVR_{split}_scenes.json").write_text(json.dumps({"scenes": [scene]}))


def inaturalist(root):
    for edition in ("2021_train", "2021_valid"):
        for number in (0, 1):
            name = f"{number:05}_Animalia_Chordata_Aves_Order_Family_Genus_species"
            image(root / edition / name / "1.jpg")


# What each root is opened with, and how many images a split then has.
ROOTS = {
    "MNIST": (mnist, {}, {"train": 6, "test": 4}),
    "FashionMNIST": (lambda root: mnist(root, "FashionMNIST"), {}, {"train": 6, "test": 4}),
    "KMNIST": (lambda root: mnist(root, "KMNIST"), {}, {"train": 6, "test": 4}),
    "EMNIST": (emnist, {"subset": "digits"}, {"train": 6, "test": 4}),
    "USPS": (usps, {}, {"train": 4, "test": 2}),
    "SEMEION": (semeion, {}, {"train": 3}),
    "SVHN": (svhn, {}, {"train": 5, "test": 3}),
    "GTSRB": (gtsrb, {}, {"train": 3, "test": 2}),
    "DTD": (dtd, {"partition": 2}, {"train": 1, "val": 1, "test": 1}),
    "Food101": (food101, {}, {"train": 2, "test": 2}),
    "OxfordIIITPet": (oxford_pets, {}, {"train": 2, "test": 2}),
    "FGVCAircraft": (aircraft, {"annotation_level": "variant"}, {"train": 1, "val": 1, "test": 1}),
    "EuroSAT": (eurosat, {}, {"train": 2}),
    "Country211": (country211, {}, {"train": 2, "val": 2, "test": 2}),
    "RenderedSST2": (rendered_sst2, {}, {"train": 2, "val": 2, "test": 2}),
    "SUN397": (sun397, {}, {"train": 2}),
    "Caltech101": (caltech101, {}, {"train": 2}),
    "Caltech256": (caltech256, {}, {"train": 2}),
    "Imagenette": (imagenette, {"size": "160px"}, {"train": 10, "val": 10}),
    "Omniglot": (omniglot, {}, {"train": 2}),
    "CLEVRClassification": (clevr, {}, {"train": 1, "val": 1}),
    "INaturalist": (inaturalist, {}, {"train": 2, "val": 2}),
    "FakeData": (lambda root: None, {"size": 7, "image_size": (3, 9, 8), "num_classes": 3}, {"train": 7, "test": 7}),
}


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Write a root; return upstream's arguments for it. Upstream's digests are those of the real files, not of ours."""

    def make(name):
        write, arguments, counts = ROOTS[name]
        write(tmp_path)
        for module in ("mnist", "semeion", "svhn"):
            monkeypatch.setattr(f"torchvision.datasets.{module}.check_integrity", lambda *_: True)
        monkeypatch.setattr(upstream.Omniglot, "_check_integrity", lambda self: True)
        return ({} if name == "FakeData" else {"root": str(tmp_path)}) | arguments, counts

    return make


def theirs(name, split, arguments):
    entry = TABLE[name]
    given = {entry.user[key].upstream or key if key in entry.user else key: value for key, value in arguments.items()}
    if "download" in inspect.signature(getattr(upstream, name)).parameters or name == "EMNIST":
        given["download"] = False
    return getattr(upstream, name)(**given, **entry.splits[split])


@pytest.mark.parametrize("name", ROOTS)
def test_every_split_has_upstreams_images_and_labels(name, made):
    arguments, counts = made(name)
    assert list(counts) == list(TABLE[name].facts.splits)
    channels = TABLE[name].facts.channels
    for split, count in counts.items():
        source = open_torchvision(name, split, False, **arguments)
        reference = theirs(name, split, arguments)
        assert len(source.targets) == len(reference) == count
        assert source.targets.dtype == np.int64
        assert source.targets.min() >= 0
        assert source.targets.max() < len(source.class_names)
        packed = source.packed()
        for index in range(count):
            picture, label = reference[index]
            expected = np.asarray(picture.convert("RGB" if channels == 3 else "L"))
            expected = expected.reshape(*expected.shape[:2], channels)
            assert source.targets[index] == label
            assert np.array_equal(source.image(index), expected)
            if packed is not None:
                assert np.array_equal(packed[index], expected)
            assert source.describe(index)


@pytest.mark.parametrize("name", ["Food101", "GTSRB", "Country211"])
def test_files_that_upstream_knows_are_listed_for_the_cache(name, made):
    arguments, _ = made(name)
    source = open_torchvision(name, "train", False, **arguments)
    for (path, size, stamped), index in zip(source.listing(), range(len(source.targets)), strict=True):
        assert path == source.describe(index)
        assert (size, stamped) == (Path(path).stat().st_size, stamp(Path(path).stat()))


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("MNIST", "0 - zero"),
        ("SVHN", "0"),
        ("Food101", "apple_pie"),
        ("FGVCAircraft", "707-320"),
        ("Caltech256", "001.ak47"),
        ("INaturalist", "00000_Animalia_Chordata_Aves_Order_Family_Genus_species"),
        ("CLEVRClassification", "0"),
    ],
)
def test_class_names_are_upstreams_or_numbers(name, names, made):
    arguments, _ = made(name)
    assert open_torchvision(name, "train", False, **arguments).class_names[0] == names


def test_of_qmnists_eight_numbers_the_first_is_the_class():
    told = SimpleNamespace(targets=np.array([[5, 0, 3998], [2, 1, 17]]), compat=True)
    assert _labels(told).tolist() == [5, 2]


def test_namesakes_among_classes_get_their_numbers():
    """As ImageNet's two cranes."""
    told = SimpleNamespace(classes=[("crane",), ("tench", "Tinca tinca"), ("crane",)])
    assert _class_names(told, np.array([0, 1, 2])) == ("crane (0)", "tench, Tinca tinca", "crane (2)")


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST", "KMNIST", "QMNIST"])
def test_declared_class_names_are_upstreams(name):
    assert list(TABLE[name].facts.class_names) == getattr(upstream, name).classes


# ------------------------------------------------------------------------------------------------------------ catalogue
def test_the_table_has_about_thirty_entries_with_their_splits():
    assert len(TABLE) >= 30
    for name, entry in TABLE.items():
        assert list(entry.splits) == list(entry.facts.splits), name
        assert "train" in entry.splits


@pytest.mark.parametrize("name", TABLE)
def test_every_argument_given_to_upstream_exists_there(name):
    parameters = torchvision._parameters(getattr(upstream, name))
    entry = TABLE[name]
    given = {key for arguments in entry.splits.values() for key in arguments}
    given |= {argument.upstream or key for key, argument in entry.user.items()}
    given |= {"root"} if entry.rooted else set()
    assert given <= set(parameters)
    assert ("download" in parameters) >= entry.downloads


def test_the_catalogue_describes_every_entry_with_types_and_texts():
    for found in torchvision.TorchvisionDatasets().find():
        record = described(found, SLOTS["dataset"], {})
        assert not record["refused"]
        assert record["facts"]["splits"]
        by_role = {one["name"]: one for one in record["parameters"]}
        assert {"split", "download"} <= {name for name, one in by_role.items() if one["role"] == "engine"}
        for parameter in record["parameters"]:
            if parameter["role"] == "user":
                assert parameter["type"]["kind"] != "opaque", (found.name, parameter)
                assert parameter["doc"], (found.name, parameter)


def test_names_are_attributes_and_others_are_not():
    assert torchvision.MNIST.facts is TABLE["MNIST"].facts
    with pytest.raises(AttributeError):
        torchvision.CelebA  # noqa: B018


def test_an_attribute_opens_like_the_function(made):
    arguments, _ = made("USPS")
    opened = torchvision.USPS(**arguments, split="train", download=False)
    assert (
        opened.targets.tolist()
        == open_torchvision("USPS", "train", False, **arguments).targets.tolist()
        == [0, 9, 2, 6]
    )


# --------------------------------------------------------------------------------------------------------------- errors
def test_a_split_that_does_not_exist_is_refused_with_those_that_do():
    with pytest.raises(MissingSplit, match="MNIST has no split 'val'; it has train, test"):
        open_torchvision("MNIST", "val", False)


@pytest.mark.parametrize("name", [name for name, entry in TABLE.items() if entry.rooted and name != "PCAM"])
@pytest.mark.parametrize("download", [False, True])
def test_missing_data_without_a_network_are_one_error(name, download, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    arguments = {"subset": "digits"} if name == "EMNIST" else {}
    with pytest.raises(DataError, match=f"{name} cannot be opened from {tmp_path}/: ") as caught:
        open_torchvision(name, "train", download, root=str(tmp_path), **arguments)
    assert f"torchvision.datasets.{name}" in caught.value.hint
    assert socket.getdefaulttimeout() is None


def test_data_that_are_there_are_used_without_a_network_call(made, monkeypatch):
    arguments, _ = made("MNIST")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("the network was asked"))
    assert len(open_torchvision("MNIST", "train", True, **arguments).targets) == 6


def test_a_damaged_file_is_a_data_error(made, tmp_path):
    arguments, _ = made("MNIST")
    path = tmp_path / "MNIST/raw/train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="MNIST cannot be opened"):
        open_torchvision("MNIST", "train", False, **arguments)
