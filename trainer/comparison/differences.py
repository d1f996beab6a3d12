"""What runs differ in: settings, defaults counted in, and the data, each with a short label for columns and names.

A component's parameter that one recipe leaves out and another writes at its default is no difference. A list of
components (`data.augment`) whose items are others is one difference, not one per argument.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from registry.printing import ERRORS, one_line
from trainer.comparison.runs import Images, Run
from trainer.recipe.reading.references import LR_FOUND
from trainer.recipe.reading.scalars import spelling

DATA, DEVICE = "data", "device"  # differences that are no settings
ITSELF = ("seed", "name", "description", "seeds", r"data\.val\.fold")  # differ between runs of one experiment
# What changes nothing that is learnt or measured; where the images lie is told by the images themselves.
_BUT_PLACES = r"(report|answers|expect|train\.checkpoint)(\..*)?|train\.log_every|data\.workers|" + "|".join(ITSELF)
_PLACES = ("data.dataset.root", "data.dataset.file")
_BESIDE = re.compile("|".join((_BUT_PLACES, *map(re.escape, _PLACES))))
_BESIDE_BUT_PLACES = re.compile(_BUT_PLACES)  # where the images do not tell themselves
_CUT_BY_FAST = re.compile(r"train\.(epochs|max_minutes)|lr_finder\.steps|scheduler\..*pct_start")
_ITEM = re.compile(r"(.*?)\.(\d+)(?:\.(.*))?")  # the list, the place, what is below it
_WITHIN = re.compile(r" \([^()]*\)(?=$| \+ )")  # an item's arguments, behind its type
_SHORT = {"weight_decay": "wd", "batch_size": "batch", "learning_rate": "lr"}
_FINDER = "lr_finder"
_UNSET = object()
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_CLASSES = 5  # named of a run
_NEARLY_ALL = 2 / 3  # of the rows; a value that more of them have is in no name
_SCIENTIFIC = (1e-3, 1e6)  # below and from there on a number is written with an exponent


@dataclass(frozen=True)
class Difference:
    """Something that runs have otherwise.

    Attributes:
        key: dotted path in the recipe, or "data", "device".
        label: short, no two alike.
        raw: a value per run; None where a run has none.
        texts: the same as shown; "" where a run has none.
        speaks: whether the value needs no label ("SGD").
        unsaid: numbers of the runs whose recipe leaves it to its default.
        follows: whether an earlier difference has the same value in every run (`max_lr: $optimizer.lr`).
    """

    key: str
    label: str
    raw: tuple[Any, ...]
    texts: tuple[str, ...]
    speaks: bool = False
    unsaid: frozenset[int] = frozenset()
    follows: bool = False

    def kinds(self, numbers: Iterable[int]) -> int:
        """Return how many values the runs of these numbers have."""
        return len({self.texts[number] for number in numbers})

    def mark(self, number: int) -> str:
        """Return how the run of this number is told from others: "lr 0.1", "SGD", "no scheduler"."""
        text = _WITHIN.sub("", self.texts[number])  # of a list's items their types are enough
        return f"no {self.label}" if not text else text if self.speaks else f"{self.label} {text}"

    def is_usual(self, number: int, among: Sequence[int]) -> bool:
        """Whether a name need not say the value: the recipe does not, or nearly all `among` the runs have it."""
        held = sum(self.texts[each] == self.texts[number] for each in among)
        return number in self.unsaid or not self.texts[number] or (held > 2 and held > _NEARLY_ALL * len(among))


def differences(runs: Sequence[Run]) -> list[Difference]:
    """Return what runs differ in, in the order of a recipe; devices last, which are no part of one."""
    found = [
        (key, values)
        for key, values in _settings(runs).items()
        if _differ(values) and not (_CUT_BY_FAST.fullmatch(key) and _only_by_fast(runs, values))
    ]
    labels = _labels([key for key, _ in found], runs)
    made: list[Difference] = []
    for key, values in found:
        raw = tuple(None if value is _UNSET else value for value in values)
        texts = tuple("" if value is _UNSET else one_line(shown(value)) for value in values)
        unsaid = frozenset(number for number, run in enumerate(runs) if not _says(run, key))
        follows = any(each.texts == texts for each in made)
        made.append(Difference(key, labels[key], raw, texts, key.endswith(".type"), unsaid, follows))
    letters = data_letters(runs)
    texts = tuple(letters[run.folder] for run in runs)
    if _differ(texts) and not _only_by_fast(runs, texts):
        made.append(Difference(DATA, DATA, texts, texts))
    devices = tuple(one_line(str(run.summary.get("device", ""))) for run in runs)
    if len(set(devices) - {""}) > 1:
        made.append(Difference(DEVICE, DEVICE, devices, devices))
    return made


def experiments(runs: Sequence[Run]) -> list[Hashable]:
    """Return for each run what it has in common with the runs of other seeds and folds, to compare."""
    settings, letters = _settings(runs), data_letters(runs)
    return [
        (tuple(_comparable(values[number]) for values in settings.values()), run.fast, letters[run.folder])
        for number, run in enumerate(runs)
    ]


# ------------------------------------------------------------------------------------------------------------ settings
def _settings(runs: Sequence[Run]) -> dict[str, tuple[Any, ...]]:
    """Return a value per run of each setting that counts; of a list whose items are others, the whole list."""
    beside = _BESIDE if all(map(_tells_images, runs)) else _BESIDE_BUT_PLACES
    keys = [key for key in dict.fromkeys(key for run in runs for key in run.settings) if not beside.fullmatch(key)]
    lists = dict.fromkeys(match[1] for key in keys if (match := _ITEM.fullmatch(key)))
    others = {path for path in lists if _differ([tuple(_types(run, path)) for run in runs])}
    found: dict[str, tuple[Any, ...]] = {}
    for key in keys:
        item = _ITEM.fullmatch(key)
        path = key if key in others else item[1] if item else None
        if path in others:
            found.setdefault(str(path), tuple(_items(run, str(path)) for run in runs))
        elif key not in lists:
            found[key] = tuple(_value(run, key) for run in runs)
    asked = [key for key in found if key.startswith(f"{_FINDER}.")]
    if any(_UNSET in found[key] for key in asked):  # some runs have none: what the others asked of theirs tells nothing
        found = {key: values for key, values in found.items() if key not in asked}
        found[_FINDER] = tuple("yes" if any(key in run.settings for key in asked) else "no" for run in runs)
    return found


def _value(run: Run, key: str) -> Any:
    return run.settings.get(key, run.defaults.get(key, _UNSET))


def _says(run: Run, key: str) -> bool:
    """Whether a run's recipe has a setting, or a list's items."""
    return key in run.settings or any(each.startswith(f"{key}.") for each in run.settings)


def _types(run: Run, path: str) -> list[Any]:
    """Return the types of a list's items."""
    places = dict.fromkeys(int(m[2]) for key in run.settings if (m := _ITEM.fullmatch(key)) and m[1] == path)
    return [run.settings.get(f"{path}.{place}.type") for place in sorted(places)]


def _items(run: Run, path: str) -> str:
    """Return a list's items in words: "HorizontalFlip + Rotate (limit 15)"; "none" where it is empty."""
    items: dict[int, list[str]] = {}
    for key, value in run.settings.items():
        match = _ITEM.fullmatch(key)
        if match and match[1] == path:
            words = items.setdefault(int(match[2]), [])
            if match[3] == "type":
                words.insert(0, str(value))
            else:
                words.append(f"{match[3]} {shown(value)}" if match[3] else shown(value))
    said = [words[0] + (f" ({', '.join(words[1:])})" if words[1:] else "") for _, words in sorted(items.items())]
    return " + ".join(said) or "none"


def _differ(values: Sequence[Any]) -> bool:
    return len({_comparable(value) for value in values}) > 1


def _only_by_fast(runs: Sequence[Run], values: Sequence[Any]) -> bool:
    """Whether values are the same among whole runs and among those that were cut down."""
    kinds = [[value for run, value in zip(runs, values, strict=True) if run.fast is fast] for fast in (False, True)]
    return not any(_differ(kind) for kind in kinds if kind)


def _comparable(value: Any) -> Hashable:
    """Return a value so that equal ones are equal: 1 and 1.0, a list and a tuple; `true` is no number."""
    if isinstance(value, (list, tuple)):
        return tuple(_comparable(item) for item in value)
    if isinstance(value, Mapping):
        return tuple(sorted((str(key), _comparable(item)) for key, item in value.items()))
    return repr(value) if isinstance(value, bool) else value if isinstance(value, Hashable) else repr(value)


def shown(value: Any) -> str:
    """Return a value of a recipe as short as people write it: 5e-4, 0.1, SGD."""
    if value is None:
        return "none"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(shown(item) for item in value) + "]"
    if isinstance(value, float):
        return _number(value)
    if value == f"${LR_FOUND}":
        return "found"
    return value if isinstance(value, str) else spelling(value) if isinstance(value, (bool, int)) else str(value)


def _number(value: float) -> str:
    low, high = _SCIENTIFIC
    if value and not low <= abs(value) < high:
        mantissa, _, exponent = f"{value:.6e}".partition("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    return f"{value:.6g}"


def _labels(keys: Sequence[str], runs: Sequence[Run]) -> dict[str, str]:
    """Return a short label for each key: its last word, and as many before it as keep labels apart."""
    words = {key: _words(key, runs) for key in keys}
    count = {key: 2 if _ITEM.fullmatch(key) else 1 for key in keys}  # "Rotate p": of an item, whose argument it is
    labels: dict[str, str] = {}
    for _ in range(max(map(len, words.values()), default=0)):
        labels = {key: " ".join(each[-count[key] :]) for key, each in words.items()}
        for key in keys:
            count[key] += list(labels.values()).count(labels[key]) > 1
    return labels


def _words(key: str, runs: Sequence[Run]) -> list[str]:
    """Return the words of a path: a component stands for its type, an item of a list has its type, too."""
    item = _ITEM.fullmatch(key)
    if item is None:
        parts = key.removesuffix(".type").split(".")
    else:
        types = (run.settings.get(f"{item[1]}.{item[2]}.type") for run in runs)
        name = next((str(each) for each in types if each), "item")
        parts = [*item[1].split("."), item[2], name, *(item[3] or "").split(".")]
    return [_SHORT.get(part, part) for part in parts if part]


# ---------------------------------------------------------------------------------------------------------------- data
def data_letters(runs: Sequence[Run]) -> dict[Any, str]:
    """Return a letter per run's folder, the same for the same images; "?" where no checkpoint tells."""
    told = _in_words(runs)
    kinds = list(dict.fromkeys(words for words in told if words))
    return {run.folder: _letter(kinds.index(words)) if words else "?" for run, words in zip(runs, told, strict=True)}


def data_in_words(runs: Sequence[Run], of: Sequence[Run]) -> dict[str, str]:
    """Return for each letter what the data are: how many images of which classes.

    Args:
        runs: all that letters are dealt over.
        of: those whose letters are wanted.
    """
    letters = data_letters(runs)
    return {letters[run.folder]: _described(run.images) for run in of}


def measured_alike(run: Run, other: Run) -> bool:
    """Whether numbers on validation images may be compared: both whole runs or both cut, and no other images."""
    if run.fast is not other.fast or (run.counted != other.counted and {} not in (run.counted, other.counted)):
        return False
    if run.images is None or other.images is None:
        return True  # nobody knows; it is said elsewhere
    kinds = _kinds((run, other))
    one, two = ([each.prints.get("val", {}).get(kind) for kind in kinds] for each in (run.images, other.images))
    if run.images.classes != other.images.classes:
        return False
    if None in (*one, *two):  # nobody knows, but other places are other images
        return [run.settings.get(key) for key in _PLACES] == [other.settings.get(key) for key in _PLACES]
    return one == two


def _tells_images(run: Run) -> bool:
    """Whether a run's checkpoint tells which images it was measured on: of a share drawn by chance it does not."""
    return run.images is None or "val" in run.images.prints or "whole" in run.images.prints


def _letter(number: int) -> str:
    return _LETTERS[number] if number < len(_LETTERS) else f"A{number}"


def _kinds(runs: Sequence[Run]) -> list[str]:
    """Return the digests that are compared, the surest that all runs have (trainer/data/fingerprint.py)."""
    every = [each for run in runs if run.images is not None for each in run.images.prints.values()]
    known = (kind for kind in ("pixels", "contents") if all(kind in each for each in every))
    return ["used", next(known, "bytes")]


def _in_words(runs: Sequence[Run]) -> list[str]:
    kinds = _kinds(runs)
    return [_digest(run, kinds) for run in runs]


def _digest(run: Run, kinds: Sequence[str]) -> str:
    """Return what a run's data are told by; of one of several folds what all of them share.

    Checkpoints of before folds were compared do not tell what that is: each fold then has data of its own.
    """
    images = run.images
    if images is None:
        return ""
    drawn = "train" not in images.prints
    shared = run.fold is not None and (drawn or "whole" in images.prints)
    parts = ("whole", "test") if shared else ("train", "val", "test")
    prints = {part: [each.get(kind) for kind in kinds] for part, each in sorted(images.prints.items()) if part in parts}
    told = repr((images.classes, () if shared else images.counts, prints)).encode(errors=ERRORS)
    return hashlib.blake2b(told, digest_size=8).hexdigest()


def _described(images: Images | None) -> str:
    if images is None:
        return "cannot be told: no whole checkpoint"
    named = ", ".join(images.classes[:_CLASSES]) + (", ..." if len(images.classes) > _CLASSES else "")
    count = f"{sum(images.counts):,} to learn from, " if images.counts else ""
    return f"{count}{len(images.classes)} classes ({one_line(named)})"
