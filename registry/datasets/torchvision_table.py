"""The table of torchvision's classification datasets: what is known of each, and how upstream is asked for a split.

An upstream argument that clashes with the engine's `split` has another name here: EMNIST's is `subset`. Where upstream
has no test or validation split, the recipe's `data.val` cuts one off. Not here: datasets of several labels per image,
of boxes, masks, text, video or pairs, and those whose splits differ in classes (LFWPeople). Imports no torchvision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from registry.contracts import DataFacts, FromArgument

__all__: list[str] = []


@dataclass(frozen=True)
class UserArgument:
    """An argument of an upstream dataset that a recipe may set.

    Attributes:
        type: of its values.
        doc: what it does.
        upstream: upstream's name for it, where that is another.
    """

    type: Any
    doc: str
    upstream: str = ""


@dataclass(frozen=True)
class TorchvisionDataset:
    """One upstream dataset.

    Attributes:
        about: what its images show.
        facts: what is known before it is read.
        splits: split -> what upstream is given for it.
        user: the user's arguments beside `root`.
        rooted: whether upstream takes `root`.
        downloads: whether upstream can fetch it.
    """

    about: str
    facts: DataFacts
    splits: Mapping[str, Mapping[str, object]]
    user: Mapping[str, UserArgument] = field(default_factory=dict)
    rooted: bool = True
    downloads: bool = True


# ----------------------------------------------------------------------------------------------------- ways of asking
_TRAIN_FLAG: Mapping[str, Mapping[str, object]] = {"train": {"train": True}, "test": {"train": False}}
_ONE: Mapping[str, Mapping[str, object]] = {"train": {}}


def _by_name(**names: str) -> Mapping[str, Mapping[str, object]]:
    return {ours: {"split": theirs} for ours, theirs in names.items()}


_TRAIN_TEST = _by_name(train="train", test="test")
_TRAIN_VAL = _by_name(train="train", val="val")
_THREE = _by_name(train="train", val="val", test="test")


def _facts(
    size: int | None = None,
    channels: int = 3,
    names: str = "",
    follows: Mapping[str, FromArgument] | None = None,
    **splits: int | None,
) -> DataFacts:
    return DataFacts(
        follows=follows or {},
        splits=splits,
        class_names=tuple(names.split("|")) if names else None,
        image_size=None if size is None else (size, size),
        channels=channels,
    )


_EMNIST = {  # (training images, test images, classes) of each selection; letters have an empty class 0
    name: FromArgument("subset", {subset: numbers[place] for subset, numbers in selections.items()})
    for selections in [
        {
            "byclass": (697_932, 116_323, 62),
            "bymerge": (697_932, 116_323, 47),
            "balanced": (112_800, 18_800, 47),
            "letters": (124_800, 20_800, 27),
            "digits": (240_000, 40_000, 10),
            "mnist": (60_000, 10_000, 10),
        }
    ]
    for place, name in enumerate(("splits.train", "splits.test", "num_classes"))
}
_DIGITS = "0|1|2|3|4|5|6|7|8|9"
# as upstream writes them
_DIGIT_NAMES = "0 - zero|1 - one|2 - two|3 - three|4 - four|5 - five|6 - six|7 - seven|8 - eight|9 - nine"
_CLOTHES = "T-shirt/top|Trouser|Pullover|Dress|Coat|Sandal|Shirt|Sneaker|Bag|Ankle boot"

TABLE: dict[str, TorchvisionDataset] = {
    # ---------------------------------------------------------------------------------------------- digits and letters
    "MNIST": TorchvisionDataset(
        "70,000 handwritten digits, grey, 28x28", _facts(28, 1, _DIGIT_NAMES, train=60_000, test=10_000), _TRAIN_FLAG
    ),
    "FashionMNIST": TorchvisionDataset(
        "70,000 pieces of clothing, grey, 28x28", _facts(28, 1, _CLOTHES, train=60_000, test=10_000), _TRAIN_FLAG
    ),
    "KMNIST": TorchvisionDataset(
        "70,000 cursive Japanese characters, grey, 28x28",
        _facts(28, 1, "o|ki|su|tsu|na|ha|ma|ya|re|wo", train=60_000, test=10_000),
        _TRAIN_FLAG,
    ),
    "QMNIST": TorchvisionDataset(
        "120,000 handwritten digits, grey, 28x28: MNIST with all its test images",
        _facts(28, 1, _DIGIT_NAMES, train=60_000, test=60_000),
        _TRAIN_FLAG,
    ),
    "EMNIST": TorchvisionDataset(
        "handwritten letters and digits, grey, 28x28, in six selections",
        _facts(28, 1, follows=_EMNIST, train=None, test=None),
        _TRAIN_FLAG,
        user={
            "subset": UserArgument(
                Literal["byclass", "bymerge", "balanced", "letters", "digits", "mnist"],
                "the selection, upstream's `split`.",
                upstream="split",
            )
        },
    ),
    "USPS": TorchvisionDataset(
        "9,298 digits from envelopes, grey, 16x16", _facts(16, 1, _DIGITS, train=7291, test=2007), _TRAIN_FLAG
    ),
    "SEMEION": TorchvisionDataset("1,593 handwritten digits, grey, 16x16", _facts(16, 1, _DIGITS, train=1593), _ONE),
    "Omniglot": TorchvisionDataset(
        "19,280 drawings of 964 characters from 30 alphabets, grey, 105x105", _facts(105, 1, train=19_280), _ONE
    ),
    "SVHN": TorchvisionDataset(
        "99,289 house numbers, 32x32", _facts(32, 3, _DIGITS, train=73_257, test=26_032), _TRAIN_TEST
    ),
    "RenderedSST2": TorchvisionDataset(
        "9,613 sentences as pictures, 448x448, positive or negative",
        _facts(448, 3, "negative|positive", train=6920, val=872, test=1821),
        _THREE,
    ),
    # ----------------------------------------------------------------------------------------------- objects and scenes
    "STL10": TorchvisionDataset(
        "13,000 labelled photographs of 10 classes, 96x96",
        _facts(
            *(96, 3, "airplane|bird|car|cat|deer|dog|horse|monkey|ship|truck"),
            {"splits.train": FromArgument("folds", {"None": 5000, "*": 1000})},
            train=5000,
            test=8000,
        ),
        _TRAIN_TEST,
        user={"folds": UserArgument(int | None, "which of ten folds of 1,000 training images, 0 to 9; all when null.")},
    ),
    "Imagenette": TorchvisionDataset(
        "13,394 photographs of 10 easy classes of ImageNet",
        _facts(train=9469, val=3925),
        _TRAIN_VAL,
        user={"size": UserArgument(Literal["full", "320px", "160px"], "the shorter side.")},
    ),
    "ImageNet": TorchvisionDataset(
        "1.3 million photographs of 1,000 classes (ILSVRC 2012); its archives must lie in `root`",
        _facts(train=1_281_167, val=50_000),
        _TRAIN_VAL,
        downloads=False,
    ),
    "Caltech101": TorchvisionDataset(
        "8,677 photographs of 101 classes",
        _facts(train=8677),
        _ONE,
    ),
    "Caltech256": TorchvisionDataset("30,607 photographs of 257 classes", _facts(train=30_607), _ONE),
    "Places365": TorchvisionDataset(
        "1.8 million photographs of 365 kinds of places",
        _facts(follows={"image_size": FromArgument("small", {"True": [256, 256]})}, train=1_803_460, val=36_500),
        _by_name(train="train-standard", val="val"),
        user={"small": UserArgument(bool, "the images of 256x256 instead of the large ones.")},
    ),
    "SUN397": TorchvisionDataset("108,754 photographs of 397 scenes", _facts(train=108_754), _ONE),
    "Country211": TorchvisionDataset(
        "63,300 photographs from 211 countries",
        _facts(train=31_650, val=10_550, test=21_100),
        _by_name(train="train", val="valid", test="test"),
    ),
    "EuroSAT": TorchvisionDataset(
        "27,000 satellite images of 10 kinds of land, 64x64",
        _facts(
            64,
            3,
            "AnnualCrop|Forest|HerbaceousVegetation|Highway|Industrial|Pasture|PermanentCrop|Residential|River|SeaLake",
            train=27_000,
        ),
        _ONE,
    ),
    "CLEVRClassification": TorchvisionDataset(
        "85,000 rendered scenes, by the number of objects", _facts(train=70_000, val=15_000), _TRAIN_VAL
    ),
    # --------------------------------------------------------------------------------------------------- fine-grained
    "Flowers102": TorchvisionDataset(
        "8,189 photographs of 102 flowers", _facts(train=1020, val=1020, test=6149), _THREE
    ),
    "Food101": TorchvisionDataset("101,000 photographs of 101 dishes", _facts(train=75_750, test=25_250), _TRAIN_TEST),
    "OxfordIIITPet": TorchvisionDataset(
        "7,349 photographs of 37 breeds of cats and dogs",
        _facts(train=3680, test=3669),
        _by_name(train="trainval", test="test"),
    ),
    "FGVCAircraft": TorchvisionDataset(
        "10,000 photographs of aircraft",
        _facts(
            follows={
                "num_classes": FromArgument("annotation_level", {"variant": 100, "family": 70, "manufacturer": 30})
            },
            train=3334,
            val=3333,
            test=3333,
        ),
        _THREE,
        user={
            "annotation_level": UserArgument(
                Literal["variant", "family", "manufacturer"],
                "what is told apart: 100 variants, 70 families or 30 makers.",
            )
        },
    ),
    "StanfordCars": TorchvisionDataset(
        "16,185 photographs of 196 cars; upstream's address is gone, put the files into `root`",
        _facts(train=8144, test=8041),
        _TRAIN_TEST,
        downloads=False,
    ),
    "DTD": TorchvisionDataset(
        "5,640 photographs of 47 textures",
        _facts(train=1880, val=1880, test=1880),
        _THREE,
        user={"partition": UserArgument(int, "which of ten ways to split, 1 to 10.")},
    ),
    "GTSRB": TorchvisionDataset(
        "39,270 German traffic signs of 43 kinds", _facts(train=26_640, test=12_630), _TRAIN_TEST
    ),
    "INaturalist": TorchvisionDataset(
        "2.8 million photographs of 10,000 species, the edition of 2021",
        _facts(train=2_686_843, val=100_000),
        {"train": {"version": "2021_train"}, "val": {"version": "2021_valid"}},
    ),
    # --------------------------------------------------------------------------------------------- faces and medicine
    "FER2013": TorchvisionDataset(
        "28,709 faces by expression, grey, 48x48; its CSV file must lie in `root`",
        _facts(48, 1, "angry|disgust|fear|happy|sad|surprise|neutral", train=28_709),
        _by_name(train="train"),
        downloads=False,
    ),
    "PCAM": TorchvisionDataset(
        "327,680 tissue sections, 96x96, with a tumour in their middle or not (needs the package h5py)",
        _facts(96, 3, "no tumour|tumour", train=262_144, val=32_768, test=32_768),
        _THREE,
    ),
    # ------------------------------------------------------------------------------------------------------- invented
    "FakeData": TorchvisionDataset(
        "random noise with random labels, for trying things out",
        _facts(
            None,
            3,
            follows={
                "splits.train": FromArgument("size"),
                "splits.test": FromArgument("size"),
                "input": FromArgument("image_size"),
                "num_classes": FromArgument("num_classes"),
            },
            train=1000,
            test=1000,
        ),
        {"train": {}, "test": {"random_offset": 1_000_000_000}},
        user={
            "size": UserArgument(int, "images per split."),
            "image_size": UserArgument(tuple[int, int, int], "channels (3), height and width."),
            "num_classes": UserArgument(int, "classes."),
        },
        rooted=False,
        downloads=False,
    ),
}
