"""Checking of transforms: choices of nothing, statistics of other pixels, colours changed too late.

Looks at the text alone, as consistency.py does; what only shows when images pass stands in
trainer/experiment/passage.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from trainer.recipe.checks.classes import told
from trainer.recipe.checks.draft import Draft
from trainer.recipe.recipe import DEFAULT_VAL, Fraction, Reference, Spec

LISTS = ("data.augment", "data.eval", "data.preprocess")
WHITE = 255.0  # of stored images
NARROW, WIDE = 0.1, 500.0  # spreads of what Normalize gives that nobody means; with true statistics it is 2 to 50
_CHOICES = ("OneOf", "SomeOf", "RandomOrder", "OneOrOther")
_LEVELS = ("ToFloat", "FromFloat")  # as Normalize, they change which number is white
_GREATEST = {"uint8": 255.0, "uint16": 65535.0, "uint32": 4294967295.0}  # numbers that FromFloat makes white of 1
SAME_WHITE = 0.01  # by which two levels of white may differ: 255 and 256 mean the same


def in_lists(draft: Draft) -> Iterator[Spec]:
    """Yield every transform in the order in which an image meets them, list by list; nested ones after their group."""
    for path in LISTS:
        for spec in draft.specs:
            if spec.path.startswith(f"{path}."):
                yield spec


def _choices(draft: Draft) -> None:
    """Refuse groups that hold nothing, and choices of which no one can be taken."""
    for spec in in_lists(draft):
        inner = spec.arguments.get("transforms")
        if not isinstance(inner, (list, tuple)):
            continue
        label, path = f"transform {spec.type}.transforms", f"{spec.path}.transforms"
        if not inner:
            draft.report("R105", path, f"{label}: a group of nothing does nothing", f"leave {spec.type} out")
        elif spec.type in _CHOICES and all(isinstance(one, Spec) and draft.argument(one, "p") == 0 for one in inner):
            text = f"{label}: each has p: 0, so none of them can be chosen"
            draft.report("R105", path, text, "in a choice p is a weight: leave it out for equal ones")


def _holes(draft: Draft) -> None:
    """Refuse holes whose sides are in pixels here and shares of the image there: a share is no whole pixel."""
    for spec in in_lists(draft):
        if spec.type != "CoarseDropout":
            continue
        names = ("hole_height_range", "hole_width_range")
        given = {name: draft.argument(spec, name) for name in names}
        if not all(isinstance(each, (list, tuple)) for each in given.values()):  # known at run time
            continue
        most = {name: max((n for n in each if isinstance(n, (int, float))), default=0) for name, each in given.items()}
        pixels = [name for name in names if most[name] >= 1]
        mixed = [name for name in pixels if _is_mixed(given[name])]
        for name in (name for name in mixed if name in spec.arguments):
            text = f"transform CoarseDropout: {name} begins with a share and ends in pixels, as all from 1 on are"
            hint = "end it below 1, as in [0.2, 0.99], or begin it in pixels"
            draft.report("R115", f"{spec.path}.{name}", text, hint)
        if len(pixels) == 1 and not mixed:
            (other,) = set(names) - set(pixels)
            default = "" if other in spec.arguments else " (its default)"
            text = f"transform CoarseDropout: {pixels[0]} is in pixels and {other}{default} in shares: no hole is left"
            path = f"{spec.path}.{other}" if other in spec.arguments else f"{spec.path}.{pixels[0]}"
            draft.report("R115", path, text, f"write {other} in pixels, too")


def _is_mixed(given: Sequence[object]) -> bool:
    """Whether a range is meant in shares and ends in pixels: [0.2, 1.0], or [0.0, 1.0], no hole or one pixel."""
    numbers = [n for n in given if isinstance(n, (int, float))]
    return any(0 < n < 1 for n in numbers) or (numbers[:1] == [0] and numbers[1:] == [1])


def _grouped(draft: Draft) -> None:
    """Refuse what works on whole batches inside a group of Albumentations, which hands on image by image."""
    for spec in in_lists(draft):
        for name, value in spec.arguments.items():
            for inner in value if isinstance(value, (list, tuple)) else (value,):
                if isinstance(inner, Spec) and draft.entry(inner).target.startswith("registry.transforms."):
                    text = (
                        f"transform {spec.type}.{name}: {inner.type} works on whole batches, it cannot stand in a group"
                    )
                    draft.report("R206", inner.path, text, "put it into the list itself, before or after the group")


# ---------------------------------------------------------------------------------------------------------- statistics
@dataclass(frozen=True)
class _Statistics:
    """Numbers of a Normalize, as far as they are written.

    Attributes:
        mean: per channel.
        std: per channel.
        unit: grey level that counts as 1.
    """

    mean: Sequence[float]
    std: Sequence[float]
    unit: float


def _statistics(draft: Draft) -> None:
    """Hold what each Normalize takes off and divides by against the pixels that reach it."""
    white = dict.fromkeys(LISTS, WHITE)
    for spec in in_lists(draft):
        where = next(path for path in LISTS if spec.path.startswith(f"{path}."))
        if spec.type in _LEVELS:
            white[where] = _white_after(draft, spec, white[where])
        elif spec.type == "Normalize":
            _normalize(draft, spec, white[where])


def _white_after(draft: Draft, spec: Spec, white: float) -> float:
    """Return the number that stands for white after ToFloat or FromFloat, where `white` does before."""
    most = draft.argument(spec, "max_value")
    given = most if isinstance(most, (int, float)) and most else None
    if spec.type == "ToFloat":
        return 1.0 if given is None else white / given
    return white * (given or _GREATEST.get(str(draft.argument(spec, "dtype")), WHITE))


def _normalize(draft: Draft, spec: Spec, white: float) -> None:
    kind = draft.argument(spec, "normalization")
    if kind != "standard":
        for name in ("mean", "std"):
            if name in spec.arguments:
                text = f"nothing reads transform Normalize.{name}: normalization {kind} takes its own of each image"
                draft.report("R052", f"{spec.path}.{name}", text, f"leave {name} out")
        return
    unit = draft.argument(spec, "max_pixel_value")
    if not isinstance(unit, (int, float)) or unit <= 0:
        return
    measured = [name for name in ("mean", "std") if isinstance(draft.argument(spec, name), Reference)]
    if measured and abs(unit / white - 1) > SAME_WHITE:
        which = " and ".join(f"{name}: ${draft.argument(spec, name).path}" for name in measured)
        text = (
            f"transform Normalize.max_pixel_value: white is {white:g} here, not {unit:g}; {which} count in shares of it"
        )
        hint = f"write max_pixel_value: {white:g}"
        if white != WHITE and unit == WHITE:
            hint += ", or leave out what changes white before it: Normalize makes float itself"
        draft.report("R113", f"{spec.path}.max_pixel_value", text, hint)
        return
    found = _Statistics(_numbers(draft, spec, "mean"), _numbers(draft, spec, "std"), unit)
    dead = [str(channel) for channel, value in enumerate(found.std, start=1) if value <= 0]
    if dead:
        text = f"transform Normalize.std: pixels would be divided by {min(found.std):g} in channel {' and '.join(dead)}"
        draft.report("R103", f"{spec.path}.std", text, "deviations are greater than 0; $data.std takes the images' own")
        return
    beyond = [value for value in found.mean if not 0 <= value * unit <= white]
    if beyond:
        text = (
            f"transform Normalize.mean: {beyond[0]:g} x max_pixel_value {unit:g} is no grey level, pixels lie in "
            f"0..{white:g}"
        )
        hint = "means and deviations are in 0..1: divide them by 255" if unit == WHITE == white else ""
        hint = hint or f"here max_pixel_value: {white:g} belongs to means of 0..1"
        draft.report("R103", f"{spec.path}.mean", text, hint)
        return
    spreads = [white / (value * unit) for value in found.std]
    odd = [spread for spread in spreads if not NARROW <= spread <= WIDE]
    if odd:
        text = f"transform Normalize: pixels come out {odd[0]:.3g} apart from black to white, about 4 is usual"
        draft.report("W032", f"{spec.path}.std", text, "std is in 0..1, and max_pixel_value the level of white")


def _numbers(draft: Draft, spec: Spec, name: str) -> list[float]:
    """Return an argument's numbers; none where it is a reference."""
    value = draft.argument(spec, name)
    values = value if isinstance(value, (list, tuple)) else [value]
    return [one for one in values if isinstance(one, (int, float))]


def _after_normalizing(draft: Draft) -> None:
    """Refuse what takes pixels for grey levels after Normalize, which has made other numbers of them."""
    normalized: Spec | None = None
    for spec in (one for one in in_lists(draft) if one.path.startswith("data.preprocess.")):
        if normalized is not None and spec.type == "Normalize":
            draft.report("R104", spec.path, "Normalize twice: the second takes the first's numbers for grey levels")
        elif normalized is not None and (spec.type in _LEVELS or draft.entry(spec).facts.get("levels")):
            text = f"{spec.type} works on grey levels, but stands after Normalize, which has made other numbers of them"
            draft.report("R104", spec.path, text, "put it before Normalize")
        elif spec.type == "Normalize":
            normalized = spec


# ------------------------------------------------------------------------------------------------------------- numbers
def _share_leaves_something(draft: Draft) -> None:
    """Refuse a share of the training images that leaves none on one side."""
    val, splits = draft.recipe.data.val, draft.data_facts.splits
    count = splits.get("train")
    if count is None or isinstance(val, str) or (val is None and "val" in splits):
        return
    share = val if isinstance(val, Fraction) else DEFAULT_VAL
    held_out = share.count(count)
    if not 0 < held_out < count:
        sides = f"{held_out} to validate on and {count - held_out} to learn from"
        text = f"data.val: a share of {share.share:g} of {count:,} training images leaves {sides}"
        draft.report("R106", "data.val", text, "take another fraction, or more images")


def _limit_below_classes(draft: Draft) -> None:
    """Warn where a limit leaves whole classes out."""
    limit, known = draft.recipe.data.limit, told(draft)
    if limit is not None and known is not None and limit < known.number:
        text = f"data.limit: {limit} images cannot show {known.number:,} classes, the network never sees the others"
        draft.report("W031", "data.limit", text, f"take at least {known.number:,}")


def _random_measured(draft: Draft) -> None:
    """Warn where an image that is measured is left to chance."""
    for path, specs in (("data.eval", draft.recipe.data.eval), ("data.preprocess", draft.recipe.data.preprocess)):
        for index, spec in enumerate(specs):
            if is_sometimes(draft, spec):
                report_random(draft, spec, f"{path}.{index}")


def is_sometimes(draft: Draft, spec: Spec) -> bool:
    """Say whether a transform's own `p` leaves it to chance whether it is applied."""
    chance = draft.argument(spec, "p")
    return isinstance(chance, (int, float)) and 0 < chance < 1


def report_random(draft: Draft, spec: Spec, path: str) -> None:
    """Warn of chance where an image is measured."""
    text = f"{spec.type} in {path.rpartition('.')[0]} changes images at random: one draw of each is measured"
    draft.report("W010", path, text, "move it to data.augment, or take what is not random")


RULES: tuple[tuple[Callable[[Draft], None], tuple[str, ...]], ...] = (
    (_choices, LISTS),
    (_grouped, LISTS),
    (_holes, LISTS),
    (_statistics, LISTS),
    (_after_normalizing, ("data.preprocess",)),
    (_share_leaves_something, ("data.dataset", "data.val")),
    (_limit_below_classes, ("data.dataset", "data.limit", "model", "loss", "train")),
    (_random_measured, ("data.eval", "data.preprocess")),
)
