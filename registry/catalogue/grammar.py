"""The types a recipe value can have: a small grammar of JSON dicts, checked strictly and put into words.

A type is a dict with `kind`:

    number, integer    with min, max, above, below, each optional; an integer is a number, nothing else converts
    bool  null  any
    text               with `syntax`, optional: "pattern", "path", "metric", or "weights", the path of a file of weights
                       where a name may stand as well; `class`, optional: "module:Class" that is made of it
    one_of             `values`, the allowed plain values; `names`, optional: words for them (constants of OpenCV);
                       `enum`, optional: "module:Class" whose member names the values are
    list, tuple        `of`: the items' type, or for a tuple one type per place; min_length, max_length of a list;
                       `tuple` or `set`, optional: what a list becomes
    mapping            `of`: the values' type, under text keys; `keys`, optional: the allowed keys; `keys_enum`,
                       optional: "module:Class" whose member names they are
    component          `slot`
    record             `name`, and `fields`: name -> {"type", "required", "default", "doc"}
    union              `of`: the alternatives
    tensor             a list of numbers, or of such lists; bounds as for a number
    opaque             `reason`: why a recipe cannot set it

Annotations become types in `registry.catalogue.annotations`. Nothing here imports torch or knows what a component is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from registry.catalogue.annotations import from_annotation as from_annotation

Type = Mapping[str, Any]
Path = tuple[str | int, ...]
ReferenceType = Callable[[object], "Type | None"]
WEIGHTS = r"[/\\]|\.(pth|pt|safetensors|bin|ckpt)$"  # what a path of a file of weights has and a name has not


@dataclass(frozen=True)
class Mismatch:
    """A value that is not of its type.

    Attributes:
        path: keys and indices from the value checked to the part at fault.
        expected: the type wanted there, in words.
        got: what stands there, in words.
        kind: "type", or "range" for a number beyond its bounds, "key" for an unknown key of a record or mapping,
            "missing" for a required key that is not there, "choice" for a value outside a closed list, "empty" for a
            path of no letters.
        choices: the keys or values allowed, where the list is closed.
    """

    path: Path
    expected: str
    got: str
    kind: str = "type"
    choices: tuple[object, ...] = ()


def mismatch(type: Type, value: object, path: Path = (), references: ReferenceType | None = None) -> Mismatch | None:
    """Return the first place where `value` is not of `type`, None where all of it is. Nothing is converted.

    Args:
        type: what is wanted.
        value: plain values; objects with attributes `type` and `slot` are components, others are references.
        path: where the value stands, the start of the result's path.
        references: tells the type of a reference; a reference fits anything where it is None or returns None.
    """
    if is_component(value):
        return _component_mismatch(type, value, path)
    if not is_plain(value):
        given = references(value) if references is not None else None
        if given is None or assignable(given, type):
            return None
        return Mismatch(path, words(type), f"a reference to {words(given)}")
    return _CHECKS[type["kind"]](type, value, path, references)


def is_component(value: object) -> bool:
    """Tell whether `value` is an already recognised component."""
    return hasattr(value, "slot") and hasattr(value, "type")


def is_plain(value: object) -> bool:
    """Tell whether `value` is what YAML can write: a scalar, a list or a mapping."""
    return value is None or isinstance(value, (bool, int, float, str, list, tuple, Mapping))


def component_at(type: Type, path: Path = ()) -> str | None:
    """Return the slot of the component that stands at `path` inside a value of `type`; None where none may."""
    kind = type["kind"]
    if kind == "union":
        return next((slot for of in type["of"] if (slot := component_at(of, path)) is not None), None)
    if not path:
        return str(type["slot"]) if kind == "component" else None
    inner = _inner(type, path[0])
    return None if inner is None else component_at(inner, path[1:])


def _inner(type: Type, key: str | int) -> Type | None:
    kind = type["kind"]
    if kind == "list" and isinstance(key, int):
        return type["of"]  # type: ignore[no-any-return]
    if kind == "tuple" and isinstance(key, int) and key < len(type["of"]):
        return type["of"][key]  # type: ignore[no-any-return]
    if kind == "mapping" and isinstance(key, str):
        return type["of"]  # type: ignore[no-any-return]
    if kind == "record" and key in type["fields"]:
        return type["fields"][key]["type"]  # type: ignore[no-any-return]
    return None


def assignable(given: Type, wanted: Type) -> bool:
    """Tell whether every kind of value of `given` may stand where `wanted` is; bounds are left to the value itself."""
    if wanted["kind"] == "any" or given["kind"] == "any":
        return True
    if given["kind"] == "union":
        return all(assignable(of, wanted) for of in given["of"])
    if wanted["kind"] == "union":
        return any(assignable(given, of) for of in wanted["of"])
    if given["kind"] == "integer" and wanted["kind"] == "number":
        return True
    if wanted["kind"] == "tensor":
        return given["kind"] in ("number", "integer", "tensor") or (
            given["kind"] in ("list", "tuple") and all(assignable(of, wanted) for of in _items(given))
        )
    if given["kind"] in ("list", "tuple") and wanted["kind"] in ("list", "tuple"):
        return _sequences_fit(given, wanted)
    return bool(given["kind"] == wanted["kind"])


def _items(type: Type) -> list[Type]:
    return [type["of"]] if type["kind"] == "list" else list(type["of"])


def _sequences_fit(given: Type, wanted: Type) -> bool:
    if given["kind"] == "tuple" and wanted["kind"] == "tuple" and len(given["of"]) != len(wanted["of"]):
        return False
    if given["kind"] == wanted["kind"] == "tuple":
        return all(map(assignable, given["of"], wanted["of"]))
    return all(assignable(one, other) for one in _items(given) for other in _items(wanted))


# ---------------------------------------------------------------------------------------------------- checks by kind
def _component_mismatch(type: Type, value: object, path: Path) -> Mismatch | None:
    slots = _slots_of(type)
    slot = getattr(value, "slot", "")
    if slot in slots or type["kind"] == "any":
        return None
    return Mismatch(path, words(type), _an(slot))


def _slots_of(type: Type) -> set[str]:
    if type["kind"] == "union":
        return set().union(*(_slots_of(of) for of in type["of"]))
    return {type["slot"]} if type["kind"] == "component" else set()


def _number(type: Type, value: object, path: Path, _: ReferenceType | None) -> Mismatch | None:
    accepted = int if type["kind"] == "integer" else (int, float)
    if isinstance(value, bool) or not isinstance(value, accepted):
        return Mismatch(path, words(type), got_words(value))
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return Mismatch(path, f"{words(type)}, of 64 bits at most", got_words(value), "range")
    inside = (
        (math.isfinite(value) and ("min" not in type or value >= type["min"]))
        and ("max" not in type or value <= type["max"])
        and ("above" not in type or value > type["above"])
        and ("below" not in type or value < type["below"])
    )
    return None if inside else Mismatch(path, words(type), got_words(value), "range")


def _bool(type: Type, value: object, path: Path, _: ReferenceType | None) -> Mismatch | None:
    return None if isinstance(value, bool) else Mismatch(path, words(type), got_words(value))


def _text(type: Type, value: object, path: Path, _: ReferenceType | None) -> Mismatch | None:
    if not isinstance(value, str):
        return Mismatch(path, words(type), got_words(value))
    if type.get("syntax") == "path" and not value.strip():
        return Mismatch(path, words(type), "an empty one", "empty")
    if type.get("syntax") == "weights" and re.search(WEIGHTS, value, re.IGNORECASE) is None:
        return Mismatch(path, words(type), got_words(value))
    return None


def _null(type: Type, value: object, path: Path, _: ReferenceType | None) -> Mismatch | None:
    return None if value is None else Mismatch(path, words(type), got_words(value))


def _any(_type: Type, _value: object, _path: Path, _: ReferenceType | None) -> Mismatch | None:
    return None


def _one_of(type: Type, value: object, path: Path, _: ReferenceType | None) -> Mismatch | None:
    same = any(value == allowed and _kind(value) == _kind(allowed) for allowed in type["values"])
    if same or (isinstance(value, str) and value in type.get("names", ())):
        return None
    return Mismatch(path, words(type), got_words(value), "choice", tuple(choices(type)))


def _kind(value: object) -> object:
    """Return what sets equal values apart: true is no 1, and 1.0 is none."""
    return type(value) if isinstance(value, (bool, int, float)) else None


def _sequence(type: Type, value: object, path: Path, references: ReferenceType | None) -> Mismatch | None:
    if not isinstance(value, (list, tuple)):
        return Mismatch(path, words(type), got_words(value))
    if type["kind"] == "tuple":
        kinds, fits = type["of"], len(value) == len(type["of"])
    else:
        kinds = [type["of"]] * len(value)
        fits = type.get("min_length", 0) <= len(value) <= type.get("max_length", len(value))
    if not fits:
        return Mismatch(path, words(type), got_words(value))
    pairs = zip(kinds, value, strict=True)
    inner = (mismatch(kind, item, (*path, index), references) for index, (kind, item) in enumerate(pairs))
    return next((found for found in inner if found is not None), None)


def _mapping(type: Type, value: object, path: Path, references: ReferenceType | None) -> Mismatch | None:
    if not isinstance(value, Mapping):
        return Mismatch(path, words(type), got_words(value))
    for key, item in value.items():
        if not isinstance(key, str):
            return Mismatch((*path, key), "text as a key", got_words(key), "key")
        if "keys" in type and key not in type["keys"]:
            return Mismatch((*path, key), _alternatives(map(repr, type["keys"])), repr(key), "key", tuple(type["keys"]))
        if (found := mismatch(type["of"], item, (*path, key), references)) is not None:
            return found
    return None


def _record(type: Type, value: object, path: Path, references: ReferenceType | None) -> Mismatch | None:
    if not isinstance(value, Mapping):
        return Mismatch(path, words(type), got_words(value))
    fields = type["fields"]
    for key, item in value.items():
        if key not in fields:
            return Mismatch((*path, key), _alternatives(map(repr, fields)), repr(key), "key", tuple(fields))
        if (found := mismatch(fields[key]["type"], item, (*path, key), references)) is not None:
            return found
    missing = [name for name, field in fields.items() if field["required"] and name not in value]
    return Mismatch(path, f"a value for {missing[0]!r}", "nothing", "missing", (missing[0],)) if missing else None


def _union(type: Type, value: object, path: Path, references: ReferenceType | None) -> Mismatch | None:
    found = [mismatch(of, value, path, references) for of in type["of"]]
    if any(one is None for one in found):
        return None
    misses = [one for one in found if one is not None]
    if empty := next((one for one in misses if one.kind == "empty"), None):
        return empty
    deep = [one for one in misses if len(one.path) > len(path)]
    if deep and all(one.path == deep[0].path for one in deep):
        return deep[0]
    ranges = [one for one in misses if one.kind == "range"]
    if len(ranges) == 1 and not isinstance(value, str):
        return ranges[0]
    known = tuple(choice for one in misses for choice in one.choices if one.kind == "choice")
    return Mismatch(path, words(type), got_words(value), "choice" if known else "type", known)


def _tensor(type: Type, value: object, path: Path, references: ReferenceType | None) -> Mismatch | None:
    if not isinstance(value, (list, tuple)):
        return Mismatch(path, words(type), got_words(value))
    for index, item in enumerate(value):
        inner = type if isinstance(item, (list, tuple)) else {**type, "kind": "number"}
        if (found := mismatch(inner, item, (*path, index), references)) is not None:
            return found
    return None


def _never(type: Type, value: object, path: Path, _: ReferenceType | None) -> Mismatch | None:
    return Mismatch(path, words(type), got_words(value))


_CHECKS: Mapping[str, Callable[[Type, object, Path, ReferenceType | None], Mismatch | None]] = {
    "number": _number,
    "integer": _number,
    "bool": _bool,
    "text": _text,
    "null": _null,
    "any": _any,
    "one_of": _one_of,
    "list": _sequence,
    "tuple": _sequence,
    "mapping": _mapping,
    "record": _record,
    "union": _union,
    "tensor": _tensor,
    "component": _never,
    "opaque": _never,
}


# ----------------------------------------------------------------------------------------------------------- in words
def words(type: Type) -> str:
    """Put a type into words: "number > 0", "'min' or 'max'", "list of 2 integers"."""
    kind = type["kind"]
    if kind in ("number", "integer"):
        return f"{kind}{_bounds(type)}"
    if kind == "one_of":
        return _alternatives(plain_words(choice) for choice in choices(type))
    if kind == "union":
        return _alternatives(dict.fromkeys(part for of in type["of"] for part in _union_parts(of)))
    if kind == "tuple":
        return _tuple_words(type)
    if kind == "list":
        return f"list of {_many(words(type['of']))}{_length(type)}"
    if kind == "mapping":
        return f"mapping to {_many(words(type['of']))}"
    if kind == "record":
        return f"mapping {{{', '.join(type['fields'])}}}"
    if kind == "component":
        return _an(type["slot"])
    if kind == "text" and type.get("syntax"):
        return "a file (./NAME.pth)" if type["syntax"] == "weights" else f"text ({type['syntax']})"
    if kind == "opaque":
        return f"nothing a recipe can write ({type['reason']})"
    if kind == "tensor":
        return f"list of numbers{_bounds(type)}"
    return {"bool": "true or false", "any": "any value"}.get(kind, str(kind))


def _union_parts(type: Type) -> list[str]:
    if type["kind"] == "one_of":
        return [plain_words(choice) for choice in choices(type)]
    return ["true", "false"] if type["kind"] == "bool" else [words(type)]


def choices(type: Type) -> list[object]:
    """Return the values of a one-of as people write them: names where there are names."""
    if "names" not in type:
        return list(type["values"])
    named: dict[object, str] = {}
    for name, value in type["names"].items():
        named.setdefault(value, name)
    return [named.get(value, value) for value in type["values"]]


def plain_words(value: object) -> str:
    """Write a plain value as YAML would, with text in quotes."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(plain_words, value))}]"
    return repr(value)


def got_words(value: object) -> str:
    """Say what a value is, for "expected ..., got ...": scalars as written, the others by kind and size."""
    if isinstance(value, (list, tuple)):
        shown = plain_words(value)
        return shown if len(shown) <= 40 else f"a list of {len(value)}"
    if isinstance(value, Mapping):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, str):
        shown = repr(value if len(value) <= 60 else value[:57] + "...")
        return f"the text {shown}" if _numeric(value) else shown
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else (".inf" if value > 0 else "-.inf")
    return plain_words(value) if is_plain(value) else f"a {value.__class__.__name__}"


def _numeric(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text.lower() in ("true", "false", "null")
    return True


def _bounds(type: Type) -> str:
    if "min" in type and "max" in type:
        return f" from {type['min']:g} to {type['max']:g}"
    signs = (("above", ">"), ("min", ">="), ("below", "<"), ("max", "<="))
    parts = [f"{sign} {type[name]:g}" for name, sign in signs if name in type]
    return " " + " and ".join(parts) if parts else ""


def _tuple_words(type: Type) -> str:
    items = [words(of) for of in type["of"]]
    if len(set(items)) == 1:
        return f"list of {len(items)} {_many(items[0]) if len(items) > 1 else items[0]}"
    return f"list of ({', '.join(items)})"


def _an(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _many(text: str) -> str:
    head, _, rest = text.partition(" ")
    if head in ("number", "integer", "text", "list", "mapping"):
        return f"{head if head == 'text' else head + 's'}{' ' + rest if rest else ''}"
    return f"{rest}s" if head in ("a", "an") and " or " not in rest else text


def _length(type: Type) -> str:
    low, high = type.get("min_length", 0), type.get("max_length")
    if high is None:
        return f", at least {low}" if low else ""
    return f", {low} to {high} of them" if low != high else f", {low} of them"


def _alternatives(parts: Any) -> str:
    listed = [str(part) for part in parts]
    return listed[0] if len(listed) == 1 else f"{', '.join(listed[:-1])} or {listed[-1]}"
