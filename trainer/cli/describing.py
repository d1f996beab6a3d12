"""What there is and how to write it: the texts of `list`, `describe` and `schema`.

Everything comes from the catalogue, the sections' dataclasses and the rules; nothing is written here twice, and nothing
heavy is imported. Checks and builds nothing.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from registry.catalogue.catalog import Catalogue, Entry, Parameter, catalogue
from registry.catalogue.grammar import Type, component_at, plain_words, words
from registry.catalogue.slots import EVERY_SLOT, SWEEP_SLOTS
from registry.catalogue.suggest import nearest
from registry.errors import RecipeError
from registry.search import NEEDS, PACKAGE
from trainer.cli.layout import PAGE, in_words, page_width, table_width
from trainer.cli.snippets import snippet
from trainer.recipe.checks.habits import component_elsewhere, key_elsewhere
from trainer.recipe.checks.rules import RULES
from trainer.recipe.schema import schema as schema
from trainer.recipe.sections import recipe_type, section_class, section_type
from trainer.search.schema import schema as sweep_schema
from trainer.search.sweep import Sweep

WIDTH = PAGE  # columns where nobody says how many there are
_NOTHING = "nothing is called"
_LEAST = 20  # columns of what a component is, beside its name
OTHERWISE = {"warmup": ("LinearLR", "SequentialLR", "OneCycleLR")}  # what upstream's own words do not call so


# --------------------------------------------------------------------------------------------------------------- list
def list_text(slot: str | None = None, pattern: str | None = None, *, components: Catalogue | None = None) -> str:
    """List the slots, or a slot's components, ours first, each with its first sentence.

    Args:
        slot: "optimizer" or "optimizers"; where it is no slot, a pattern over all slots.
        pattern: keeps names that contain it, case aside; `*` and `?` as in file names.
        components: what to list; the catalogue without plug-ins when None.

    Raises:
        RecipeError: there is no such slot, and no component matches.
    """
    components = components or catalogue()
    if slot is None:
        return _slots_text(components)
    chosen = _slot(slot)
    if chosen is None:
        slots, pattern = list(EVERY_SLOT), slot if pattern is None else pattern
        if pattern is not slot:
            known = f"the slots are {', '.join(EVERY_SLOT)}"
            raise RecipeError(f"there is no slot {slot!r}", _meant(slot, EVERY_SLOT) or known)
    else:
        slots = [chosen]
    blocks = [_slot_text(components, name, pattern) for name in slots]
    text = "\n\n".join(block for block in blocks if block)
    if not text and chosen is not None and chosen in SWEEP_SLOTS and not components.names(chosen):
        raise RecipeError(f"every {chosen} is of the package {PACKAGE}, which is not installed", NEEDS)
    if not text:
        everything = [name for one in slots for name in components.names(one)]
        hint = _elsewhere(pattern or "", slots) or _meant(pattern or "", [*everything, *EVERY_SLOT])
        raise RecipeError(f"nothing is called {pattern!r}", hint)
    return text


def _slot(word: str) -> str | None:
    plurals = {"losses": "loss", "mixes": "mix"}
    singular = plurals.get(word.lower(), word.lower().removesuffix("s"))
    return next((name for name in (word.lower(), singular) if name in EVERY_SLOT), None)


def _slots_text(components: Catalogue) -> str:
    rows = []
    for rules in EVERY_SLOT.values():
        names = components.names(rules.name)
        own = sum(components.entry(rules.name, name).own for name in names)
        rows.append((rules.name, f"{len(names)}", f"{own} ours" if own else "", rules.about))
    return "\n".join([*_columns(rows), "", "list SLOT [PATTERN] names them, describe NAME tells all about one."])


def _slot_text(components: Catalogue, slot: str, pattern: str | None) -> str:
    names = components.names(slot)
    kept = [name for name in names if pattern is None or _matches(name, pattern)]
    if not kept:
        return ""
    entries = [components.entry(slot, name) for name in kept]
    count = f"{len(kept)}" if len(kept) == len(names) else f"{len(kept)} of {len(names)}"
    rows = [("  " + entry.name, _origin(entry), entry.doc) for entry in entries]
    return "\n".join([f"{slot}: {count}", *_columns(rows)])


def _origin(entry: Entry) -> str:
    """Return in a word where a component comes from: us, a library without its version, a plug-in."""
    whence = entry.origin.partition(" ")[0]
    return "ours" if whence.startswith("registry.") else Path(whence).name


def _matches(name: str, pattern: str) -> bool:
    if any(sign in pattern for sign in "*?["):
        return fnmatchcase(name.lower(), pattern.lower())
    return pattern.lower() in name.lower()


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Align columns; the last takes what is left of the line and is cut off there."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    head, width = sum(widths) + 2 * len(widths), table_width() or WIDTH
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        last = textwrap.shorten(row[-1], max(_LEAST, width - head), placeholder=" ...") if row[-1] else ""
        lines.append("  ".join([*cells, last]).rstrip())
    return lines


def schema_of(kind: str, components: Catalogue | None = None) -> dict[str, Any]:
    """Return the JSON Schema of "recipe" or "sweep".

    Raises:
        RecipeError: there is none of this kind.
    """
    kinds = {"recipe": schema, "sweep": sweep_schema}
    if kind not in kinds:
        raise RecipeError(f"there is no schema of {kind!r}", f"there are {' and '.join(kinds)}")
    return kinds[kind](components)


# ----------------------------------------------------------------------------------------------------------- describe
def describe_text(name: str, *, components: Catalogue | None = None) -> str:
    """Tell all about a component, a slot, a rule such as R021, or a section such as `train` or `train.ema`.

    Args:
        name: what to describe; "slot.NAME" picks one where two slots have the name.
        components: what to look in; the catalogue without plug-ins when None.

    Raises:
        RecipeError: there is nothing of this name.
    """
    components = components or catalogue()
    found = [components.entry(slot, name) for slot in components.slots_of(name)] or _colon(components, name)
    slot, _, rest = name.partition(".")
    if not found and slot in EVERY_SLOT and rest in components.names(slot, refused=True):
        found = [components.entry(slot, rest)]
    if found:
        return "\n\n".join(_entry_text(entry, components) for entry in found)
    for text in (_rule_text(name), _section_text(name), _slot_about(name, components)):
        if text:
            return text
    everything = _everything(components)
    elsewhere = _elsewhere(name)
    if (elsewhere or not nearest(name, everything)) and (mentions := _mentions(name, components)):
        return f"{name}: {elsewhere}\n{mentions}" if elsewhere and mentions.startswith(_NOTHING) else mentions
    raise RecipeError(f"there is nothing called {name!r}", elsewhere or _meant(name, everything))


def _mentions(word: str, components: Catalogue) -> str:
    """Say which keys and components speak of what is no name, "ema" or "weight decay"; "" where none does."""
    inner = [f"{section}.{word.lower()}" for section in recipe_type()["fields"]]
    found = [text for key in inner if (text := _section_text(key))]
    if found and not any(key in _beside_arguments() for key in inner):  # else components have it, too
        return "\n\n".join(found)
    wanted, rows = _spellings(word)[0], []
    for slot in EVERY_SLOT:
        for name in components.names(slot):
            entry = components.entry(slot, name)
            taken = [parameter for parameter in entry.parameters if parameter.role != "engine"]
            named = [parameter.name for parameter in taken if _speaks(parameter.name, wanted)]
            if named:
                rows.append((f"  {slot}.{name}", f"takes {', '.join(named)}"))
            elif name in OTHERWISE.get(word.lower(), ()) or any(
                _speaks(text, wanted) for text in (entry.doc, *(parameter.doc for parameter in taken))
            ):
                rows.append((f"  {slot}.{name}", entry.doc))
    head = f"These speak of {word!r}, too:" if found else f"{_NOTHING} {word!r}; these speak of it:"
    said = "\n".join([head, *_columns(rows)]) if rows else ""
    return "\n\n".join(filter(None, [*found, said]))


def _speaks(text: str, wanted: str) -> bool:
    return any(f" {wanted} " in f" {spelling} " for spelling in _spellings(text))


def _spellings(text: str) -> list[str]:
    """Return the words of a text, once with compounds taken apart and once with them in one word."""
    lower = text.lower()
    return [" ".join(re.findall("[a-z0-9]+", re.sub("[-_]", mark, lower))) for mark in (" ", "")]


def _colon(components: Catalogue, name: str) -> list[Entry]:
    """Return the entry of an import path, of the first slot that takes it."""
    if ":" not in name:
        return []
    refusals = []
    for slot in EVERY_SLOT:
        try:
            return [components.entry(slot, name)]
        except RecipeError as error:
            refusals.append(error)
    raise refusals[0]


def _everything(components: Catalogue) -> list[str]:
    named = [name for slot in EVERY_SLOT for name in components.names(slot, refused=True)]
    return [*named, *EVERY_SLOT, *recipe_type()["fields"], "sweep", *RULES]


def _elsewhere(name: str, slots: Iterable[str] = EVERY_SLOT) -> str:
    """Return what another library's name of a component, or of a recipe's key, is here; "" where it is not known."""
    said = {slot: hint for slot in slots if (hint := component_elsewhere(slot, name))}
    if not said:
        return key_elsewhere(name.rpartition(".")[2])
    return "; ".join(f"as a {slot} {hint}" if len(said) > 1 else hint for slot, hint in said.items())


def _meant(word: str, choices: Iterable[str]) -> str:
    close = list(dict.fromkeys(nearest(word, choices)))
    return f"did you mean {' or '.join(map(repr, close))}?" if close else "`list` shows what there is"


def _entry_text(entry: Entry, components: Catalogue) -> str:
    head = [f"{entry.name} - {entry.slot}, {_whence(entry)}", *_wrapped(entry.doc, "  ")]
    if entry.refused:
        return "\n".join([*head, "", *_wrapped(f"A recipe cannot use it: {entry.refused}.", "  ")])
    shown = [one for one in entry.parameters if one.role != "engine" and one.type["kind"] != "opaque"]
    lines = [*head, ""]
    for parameter in shown:
        lines += _parameter_lines(parameter)
    if not shown:
        lines.append("  It takes no arguments.")
    for knob, cls in EVERY_SLOT[entry.slot].knobs.items():
        fields = ", ".join(section_type(section_class(cls))["fields"])
        lines += _hanging(f"{knob}: read by the engine, with {fields}; see `describe {cls}`")
    lines += _left_out(entry) + _fact_lines(entry)
    return "\n".join([*lines, "", "In a recipe:", textwrap.indent(snippet(entry, components), "  ").rstrip()])


def _whence(entry: Entry) -> str:
    return f"ours ({entry.target})" if entry.own else f"{entry.origin} ({entry.facts.get('upstream', entry.target)})"


def _parameter_lines(parameter: Parameter) -> list[str]:
    default = "required" if parameter.required else f"default {_default_words(parameter)}"
    if parameter.role == "supplied":
        default = f"supplied: {parameter.reason}"
    said = f"{parameter.name}: {words(parameter.type)}; {default}"
    return [*_hanging(said), *_wrapped(parameter.doc, "      ")]


def _default_words(parameter: Parameter) -> str:
    if not parameter.default_plain:
        return str(parameter.default)
    return plain_words(named(parameter.type, parameter.default))


def named(type: Type, value: object) -> object:
    """Return a library's constant by its name, any other value as it is."""
    names = type.get("names", {})
    return next((name for name, constant in names.items() if constant == value), value)


def _left_out(entry: Entry) -> list[str]:
    """Say which parameters of the signature a recipe cannot set, and why."""
    reasons: dict[str, list[str]] = {}
    for parameter in entry.parameters:
        if parameter.role == "engine":
            reasons.setdefault(parameter.reason, []).append(parameter.name)
        elif parameter.type["kind"] == "opaque":
            reasons.setdefault(f"{parameter.type['reason']}, which a recipe cannot write", []).append(parameter.name)
    return [
        line
        for reason, names in reasons.items()
        for line in _wrapped(f"not settable: {', '.join(names)} ({reason})", "  ")
    ]


def _fact_lines(entry: Entry) -> list[str]:
    hidden = ("follows", "levels", "alternatives", "computed", "phases", "upstream", "sink")
    lines = []
    for name, value in entry.facts.items():
        if name in hidden or value in (None, {}, [], ""):
            continue
        said = (
            ", ".join(f"{key} {'?' if item is None else item}" for key, item in value.items())
            if isinstance(value, Mapping)
            else value
        )
        shown = ", ".join(map(str, said)) if isinstance(said, list) else str(said)
        lines.append(textwrap.shorten(f"{name.replace('_', ' ')}: {shown}", page_width() - 2, placeholder=" ..."))
    return ["", *(f"  {line}" for line in lines)] if lines else []


def _rule_text(name: str) -> str:
    rule = RULES.get(name.upper())
    if rule is None:
        return ""
    said = [
        line
        for paragraph in rule.explanation.split("\n\n")
        for line in ("", *_wrapped(" ".join(paragraph.split()), ""))
    ]
    return "\n".join([f"{rule.id}: {rule.title}", *said, "", textwrap.indent(rule.example, "  ")])


# ----------------------------------------------------------------------------------------------------------- sections
def _section_text(name: str) -> str:
    """Describe the recipe itself, a section, or a key of one, by its dotted path."""
    first, _, rest = name.partition(".")
    is_sweep = first == "sweep"
    type_: Type = section_type(Sweep) if is_sweep else recipe_type()
    doc = "A sweep's file: many runs from one." if is_sweep else "A whole recipe."
    field: Mapping[str, Any] = {"type": type_, "doc": doc, "required": True, "default": None}
    if name not in ("recipe", "Recipe", "sweep"):
        for key in (rest if is_sweep else name).split("."):
            record = _record_of(field["type"])
            if record is None or key not in record["fields"]:
                return _class_text(name)
            field = record["fields"][key]
    record = _record_of(field["type"])
    head = [*_hanging(f"{name} - {_field_words(field)}", ""), *_wrapped(field["doc"], "  ")]
    if record is not None:
        return "\n".join([*head, "", *_field_lines(record)])
    slot = component_at(field["type"]) or component_at(field["type"], (0,))
    return "\n".join([*head, *([f"  `list {slot}` shows what may be named."] if slot else [])])


def _class_text(name: str) -> str:
    """Describe an engine-only sub-map by its class or its place: StepOn, scheduler.step."""
    places = _beside_arguments()
    known = {cls: cls for cls in places.values()} | places
    if name not in known:
        return ""
    record = section_type(section_class(known[name]))
    return "\n".join([f"{name} - mapping", "", *_field_lines(record)])


def _beside_arguments() -> dict[str, str]:
    """Return the class of each sub-map that only the engine reads, by its place: "scheduler.step" -> "StepOn"."""
    return {f"{slot}.{knob}": cls for slot, rules in EVERY_SLOT.items() for knob, cls in rules.knobs.items()}


def _record_of(type: Type) -> Type | None:
    if type["kind"] == "record":
        return type
    options = [of for of in type["of"] if of["kind"] == "record"] if type["kind"] == "union" else []
    return options[0] if options else None


def _field_lines(record: Type) -> list[str]:
    lines = []
    for name, field in record["fields"].items():
        lines += [*_hanging(f"{name}: {_field_words(field)}"), *_wrapped(field["doc"], "      ")]
    return lines


def _field_words(field: Mapping[str, Any]) -> str:
    record = _record_of(field["type"])
    text = "mapping" if record is not None and field["type"]["kind"] == "record" else words(field["type"])
    if field["required"]:
        return f"{text}; required"
    default = field["default"]
    return (
        f"{text}; default {plain_words(default)}"
        if default not in (None, [], {}) and not isinstance(default, dict)
        else text
    )


def _slot_about(name: str, components: Catalogue) -> str:
    slot = _slot(name)
    if slot is None:
        return ""
    rules = EVERY_SLOT[slot]
    lines = [f"{slot} - {rules.about}; {len(components.names(slot))} of them, `list {slot}` names them."]
    for title, reasons in (("supplied where left out", rules.supplied), ("not settable", rules.engine)):
        lines += [line for name, why in reasons.items() for line in _hanging(f"{title}: {name} ({why})")]
    return "\n".join(lines)


def _hanging(text: str, indent: str = "  ") -> list[str]:
    """Return the lines of an entry, what is left of it further in than the text below it."""
    return in_words(text, page_width(), first=indent, hanging=indent + 6 * " ")


def _wrapped(text: str, indent: str) -> list[str]:
    return in_words(text, page_width(), first=indent, hanging=indent)
