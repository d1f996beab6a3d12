"""Problems: what is wrong in a recipe, where, and how it is shown to people and to programs.

Owns the message's form, the source lines and the collector that every check reports to. Knows nothing of what is
checked; the rules themselves stand in checks/rules.py.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from registry.errors import RecipeError
from trainer.recipe.recipe import Origin

COMMAND_LINE = "command line"
LIMIT = 200  # problems kept; a file that is wrong everywhere shall not fill memory or the terminal

_LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")  # the line breaks YAML 1.1 knows, as libyaml counts them
_SHOWN = 160  # characters of a source line that are shown


@dataclass(frozen=True)
class Problem:
    """One mistake, or one warning.

    Attributes:
        origin: where it was written.
        text: what is wrong, one sentence without a full stop.
        rule: its id in `rules.RULES`.
        source_line: the line it stands in; "" where there is none.
        hint: how to mend it; "" where nothing is known.
        path: dotted path in the recipe; "" where it belongs to a file as a whole.
        severity: errors stop, warnings do not.
    """

    origin: Origin
    text: str
    rule: str
    source_line: str = ""
    hint: str = ""
    path: str = ""
    severity: Literal["error", "warning"] = "error"

    @property
    def said(self) -> str:
        """What is wrong and how to mend it, without where."""
        return f"{self.text} ({self.hint})" if self.hint else self.text

    def __str__(self) -> str:
        word = "warning: " if self.severity == "warning" else ""
        return f"{self.origin}: {word}{self.said} [{self.rule}]"


@dataclass
class Sources:
    """The text of every file that was read, by the name its positions carry.

    Attributes:
        lines: of each file, files in the order they were read.
        nodes: values in all of them, aliases expanded; bounded by the composer.
    """

    lines: dict[str, list[str]] = field(default_factory=dict)
    nodes: int = 0

    def add(self, file: str, text: str) -> None:
        """Remember a file's text."""
        self.lines[file] = _LINE_BREAK.split(text)

    def line(self, origin: Origin) -> str:
        """Return the line `origin` points at, or ""."""
        lines = self.lines.get(origin.file, [])
        return lines[origin.line - 1] if 0 < origin.line <= len(lines) else ""

    def rank(self, file: str) -> int:
        """Return the place of `file` in reading order; the command line comes last."""
        names = list(self.lines)
        return len(names) if file == COMMAND_LINE or file not in names else names.index(file)


@dataclass
class Collector:
    """Where checks report to; keeps each problem once.

    Attributes:
        sources: the texts that problems quote.
        found: the problems, at most `LIMIT`.
        wrong: dotted paths of all errors, of those beyond the limit too.
    """

    sources: Sources = field(default_factory=Sources)
    found: dict[tuple[Origin, str, str], Problem] = field(default_factory=dict)
    wrong: set[str] = field(default_factory=set)

    def report(
        self,
        rule: str,
        origin: Origin,
        text: str,
        *,
        hint: str = "",
        path: str = "",
    ) -> None:
        """Keep a problem; a rule whose id begins with W makes a warning."""
        if origin.file == COMMAND_LINE and "in quotes" in hint and "shell" not in hint:
            hint += ", within a pair for the shell"
        severity: Literal["error", "warning"] = "warning" if rule.startswith("W") else "error"
        if path and severity == "error":
            self.wrong.add(path)
        if self.full:
            return
        problem = Problem(origin, text, rule, self.sources.line(origin), hint, path, severity)
        self.found.setdefault((origin, rule, text), problem)

    def take(self, problems: Iterable[Problem]) -> None:
        """Keep problems found elsewhere."""
        for problem in problems:
            line = problem.source_line or self.sources.line(problem.origin)
            self.found.setdefault((problem.origin, problem.rule, problem.text), replace(problem, source_line=line))

    @property
    def full(self) -> bool:
        """Whether further problems are counted as wrong, but not kept: nobody needs to look for hints."""
        return len(self.found) >= LIMIT

    @property
    def failed(self) -> bool:
        """Whether there is an error among them."""
        return any(problem.severity == "error" for problem in self.found.values())

    def sorted(self, severity: Literal["error", "warning"]) -> tuple[Problem, ...]:
        """Return the problems of one severity by position: the recipe first, then what it extends, then overrides."""

        def position(problem: Problem) -> tuple[int, int, int, str]:
            origin = problem.origin
            return self.sources.rank(origin.file), origin.line, origin.column, problem.rule

        return tuple(sorted((p for p in self.found.values() if p.severity == severity), key=position))


def render(problems: Sequence[Problem]) -> str:
    """Return problems as text: one line that says it, the source line, and a caret below the place."""
    blocks = []
    for problem in problems:
        block = _visible(str(problem))
        if problem.source_line.strip():
            line, caret = _excerpt(problem.source_line, problem.origin.column)
            block += f"\n    {line}\n    {caret}"
        blocks.append(block)
    if len(problems) >= LIMIT:
        blocks.append(f"... only the first {LIMIT} problems are shown")
    return "\n".join(blocks)


def refusal(path: str, problems: Sequence[Problem]) -> RecipeError:
    """Return the error of a file that is not run for its problems; its message shows them all."""
    count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}, nothing was run"
    return RecipeError(f"{path} cannot be run\n{render(problems)}\n{count}")


def to_json(problems: Sequence[Problem]) -> list[dict[str, str | int]]:
    """Return problems as plain objects for editors and CI."""
    return [
        {
            "file": problem.origin.file,
            "line": problem.origin.line,
            "column": problem.origin.column,
            "severity": problem.severity,
            "rule": problem.rule,
            "message": problem.text,
            "hint": problem.hint,
            "path": problem.path,
        }
        for problem in problems
    ]


def listed(names: Iterable[str], limit: int = 12) -> str:
    """Return names in one line, at most `limit` of them."""
    names = list(names)
    more = f", ... ({len(names)} in all)" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def did_you_mean(near: Sequence[str], otherwise: str = "") -> str:
    """Return the hint for a mistyped word: at most two near ones, else `otherwise`."""
    if not near:
        return otherwise
    return "did you mean " + " or ".join(f"'{word}'" for word in near[:2]) + "?"


def shown(value: object, limit: int = 40) -> str:
    """Return a value of a recipe as a message quotes it: text in quotes, the rest as YAML would have it, cut short."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"text '{_cut(value, limit)}'"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    return _cut(repr(value), limit)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _excerpt(line: str, column: int) -> tuple[str, str]:
    """Return the part of `line` around `column` (from 1) and a line with a caret below that place."""
    line, at = _visible(line), min(column - 1, len(line))
    if len(line) > _SHOWN:
        start = max(0, min(at - _SHOWN // 2, len(line) - _SHOWN))
        end = start + _SHOWN
        line = ("..." if start else "") + line[start:end] + ("..." if end < len(line) else "")
        at = at - start + (3 if start else 0)
    return line.rstrip(), " " * sum(_cells(character) for character in line[:at]) + "^"


def _cells(character: str) -> int:
    """Return the terminal columns a character takes."""
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _visible(text: str) -> str:
    """Replace what a terminal would obey or hide: tabs by a space, other control characters by a question mark."""
    if text.isprintable():
        return text
    return "".join(" " if c == "\t" else c if c.isprintable() or c == "\u200d" else "?" for c in text)
