"""The rules by id: what `describe R021` tells and docs/rules.md holds.

The text stands in `rules.md` beside this file; checks name a rule by its id. R0xx are errors, W0xx warnings. The digits
group them: 00 files and YAML, 01 sections and values, 02 components, 03 references, 04 composition, 05 values together,
06 expectations, 07 what must be built, 08 what only the data can tell, 16 sweeps; the other R1xx go on where a group is
full.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

TEXT = Path(__file__).with_name("rules.md")

_ENTRY = re.compile(
    r"^### (?P<id>[RW]\d{3}): (?P<title>.+?)\n\n(?P<explanation>.+?)\n\n```yaml\n(?P<example>.+?)\n```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        id: as messages show it.
        title: what is wrong, in a few words.
        explanation: why it is an error, and what to do.
        example: recipe text that breaks it, or a command line.
    """

    id: str
    title: str
    explanation: str
    example: str


class _Rules(Mapping[str, Rule]):
    """All rules, read when first asked for."""

    @cached_property
    def _table(self) -> dict[str, Rule]:
        text = TEXT.read_text(encoding="utf-8")
        return {found["id"]: Rule(**found.groupdict()) for found in _ENTRY.finditer(text)}

    def __getitem__(self, id: str) -> Rule:
        return self._table[id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)


RULES: Mapping[str, Rule] = _Rules()
