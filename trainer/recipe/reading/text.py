"""YAML: recipe text becomes nodes that know where they were written.

PyYAML turns the text into events (a mapping begins, a scalar, ...); the composer here, without recursion, turns events
into nodes. Owns the dialect: YAML 1.2 scalars, text keys only, no duplicate keys, no tags beyond the core's, one
document, merge keys `<<`; and its bounds, so that no text, however made, costs more than a moment. Knows nothing of
files (files.py) or of what a recipe means.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

import yaml

from trainer.recipe.problems import COMMAND_LINE, Collector, shown
from trainer.recipe.reading.nodes import Entry, ListNode, MapNode, Node, Scalar, plain
from trainer.recipe.reading.scalars import BYTES, HOLDS_BYTES, STAND_INS, Plain, resolve
from trainer.recipe.recipe import Origin

MAX_DEPTH = 32
MAX_NODES = 100_000  # after aliases are expanded, over all files of a recipe

_Loader = yaml.CLoader if yaml.__with_libyaml__ else yaml.Loader
_TAG = "tag:yaml.org,2002:"
_TAG_NAMES = {str: "str", int: "int", float: "float", bool: "bool", type(None): "null"}
_MERGE = "<<"
_QUOTES = ("'", '"', "|", ">")
_DIGITS = re.compile(r"[0-9]+([eE][-+]?[0-9]+)?")


def compose(text: str, file: str, problems: Collector) -> Node | None:
    """Return the document in `text` as nodes; report what is wrong.

    Args:
        text: YAML.
        file: the name that positions carry.
        problems: takes what is wrong; `text` becomes one of its sources.
    """
    problems.sources.add(file, text)
    node = _Composer(file, problems).compose(text)
    return _with_bytes(node) if node is not None and HOLDS_BYTES.search(text) else node


def compose_value(text: str, argument: str, number: int, problems: Collector) -> Node | None:
    """Return the value of an override as nodes.

    Args:
        text: YAML, what follows the first `=`.
        argument: the whole argument, shown as the source line.
        number: which argument of the command line it is, from 1: the line its positions carry.
        problems: takes what is wrong.
    """
    offset = len(argument) - len(text)
    composer = _Composer(COMMAND_LINE, problems, _Inline(text, number, offset))
    node = composer.compose(text.translate(STAND_INS))
    if node is not None:
        return node if text.isascii() else _with_bytes(node)
    return None if composer.failed else Scalar(None, Origin(COMMAND_LINE, number, offset + 1))


def comment_in(text: str) -> int | None:
    """Return where a comment begins in YAML text, counted from 0; None where there is none.

    The scanner leaves comments out. They lie between its tokens, where otherwise only white space does.
    """
    end = 0
    try:
        for token in yaml.scan(text.translate(STAND_INS), Loader=_Loader):
            begin = text.find("#", end, token.start_mark.index)
            if begin >= 0:
                return begin
            end = max(end, token.end_mark.index)
    except yaml.YAMLError:  # composing the text says what is wrong with it
        return None
    begin = text.find("#", end)
    return None if begin < 0 else begin


def _with_bytes(node: Node) -> Node:
    """Return a node with the bytes of file names where YAML was given stand-ins (scalars.py) for them."""
    if isinstance(node, ListNode):
        return ListNode(tuple(_with_bytes(item) for item in node.items), node.origin)
    if isinstance(node, MapNode):
        entries = {k.translate(BYTES): Entry(entry.key, _with_bytes(entry.node)) for k, entry in node.entries.items()}
        return MapNode(entries, node.origin)
    value = node.value.translate(BYTES) if isinstance(node.value, str) else node.value
    return replace(node, value=value, text=node.text.translate(BYTES))


@dataclass(frozen=True, slots=True)
class _Inline:
    """An override's value as a part of its argument, which takes the place of a line in messages.

    Attributes:
        text: the value.
        line: number of the argument on the command line, from 1.
        column: characters of the argument before the value.
    """

    text: str
    line: int
    column: int

    def place(self, mark: yaml.Mark) -> Origin:
        """Return where a mark in the value lies in the argument: its line breaks count as characters."""
        before = sum(len(line) + 1 for line in self.text.split("\n")[: mark.line])
        return Origin(COMMAND_LINE, self.line, self.column + before + mark.column + 1)


@dataclass(slots=True)
class _Open:
    """A list or mapping that has begun and not ended.

    Attributes:
        event: by which it began.
        origin: where that is.
        total_before: nodes of all files before it.
        items: of a list, so far.
        entries: of a mapping, so far.
        merges: what its `<<` names.
        key: that waits for its value; None where a key comes next.
        key_origin: where that key stands.
        skip: the value to come belongs to a key that was refused.
        height: levels below it, and itself.
    """

    event: yaml.Event
    origin: Origin
    total_before: int
    items: list[Node] = field(default_factory=list)
    entries: dict[str, Entry] = field(default_factory=dict)
    merges: list[Entry] = field(default_factory=list)
    key: str | None = None
    key_origin: Origin | None = None
    skip: bool = False
    height: int = 1

    @property
    def is_mapping(self) -> bool:
        return isinstance(self.event, yaml.MappingStartEvent)

    @property
    def wants_key(self) -> bool:
        return self.is_mapping and self.key is None and not self.skip

    def add(self, node: Node) -> None:
        """Take in an item, or the value of the key before it."""
        if not self.is_mapping:
            self.items.append(node)
            return
        if not self.skip:
            assert self.key is not None
            assert self.key_origin is not None
            entry = Entry(self.key_origin, node)
            if self.key == _MERGE:
                self.merges.append(entry)
            else:
                self.entries[self.key] = entry
        self.key, self.skip = None, False


class _Stop(Exception):
    """Nothing more can be made of this text; the reason has been reported."""


class _Composer:
    """Turns the events of one text into one node.

    Args:
        file: the name that positions carry.
        problems: takes what is wrong.
        inline: where the text is an override's value.
    """

    def __init__(self, file: str, problems: Collector, inline: _Inline | None = None) -> None:
        self.file, self.problems, self.inline = file, problems, inline
        self.stack: list[_Open] = []  # innermost last
        self.anchors: dict[str, tuple[Node, int, int]] = {}  # node, its expanded size, its height
        self.total = self.before = problems.sources.nodes  # of all files, aliases expanded: now, and before this text
        self.root: Node | None = None
        self.documents = 0
        self.failed = False

    def compose(self, text: str) -> Node | None:
        """Return the node that `text` describes; None where it holds none, or could not be read, which was reported."""
        before = len(self.problems.found)
        try:
            self._take_all(text)
        except yaml.YAMLError as error:
            if not self._breaks_a_bound_before(error, text):
                self._syntax(error, text)
            self.root = None
        except _Stop:
            self.root = None
        self.failed = len(self.problems.found) > before
        self.problems.sources.nodes = self.total
        return self.root

    def _breaks_a_bound_before(self, error: yaml.YAMLError, text: str) -> bool:
        """Say whether a bound or rule of ours, now reported, was crossed before the place where the scanner gave up.

        The scanner reads up to 1,024 characters ahead of the events, and has bounds of its own. What stands before its
        place is composed again, so that the answer is ours and the same with every release of PyYAML.
        """
        if not isinstance(error, yaml.scanner.ScannerError) or error.problem_mark is None:
            return False
        again = _Composer(self.file, self.problems, self.inline)
        again.total = self.before
        try:
            again._take_all(text[: error.problem_mark.index])
        except yaml.YAMLError:
            return False
        except _Stop:
            return True
        return False

    def _place(self, mark: yaml.Mark) -> Origin:
        if self.inline is not None:
            return self.inline.place(mark)
        return Origin(self.file, mark.line + 1, mark.column + 1)

    # -------------------------------------------------------------------------------------------------- events to nodes
    def _take_all(self, text: str) -> None:
        for event in yaml.parse(text, Loader=_Loader):
            self._take(event)

    def _take(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                self._stop("R008", event, "a second document begins here; a recipe is one document")
        elif isinstance(event, (yaml.SequenceStartEvent, yaml.MappingStartEvent)):
            self._open(event)
        elif isinstance(event, (yaml.SequenceEndEvent, yaml.MappingEndEvent)):
            self._close()
        elif isinstance(event, yaml.ScalarEvent):
            self._count(event, 1)
            self._put(self._scalar(event), event, size=1, height=0)
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)

    def _open(self, event: yaml.Event) -> None:
        self._count(event, 1)
        if len(self.stack) >= MAX_DEPTH:
            self._stop("R002", event, f"nested more than {MAX_DEPTH} deep")
        self._check_tag(event, "map" if isinstance(event, yaml.MappingStartEvent) else "seq")
        if event.anchor:
            self.anchors.pop(event.anchor, None)
        self.stack.append(_Open(event, self._place(event.start_mark), self.total - 1))

    def _close(self) -> None:
        done = self.stack.pop()
        items = tuple(done.items)
        node = MapNode(self._merged(done), done.origin) if done.is_mapping else ListNode(items, done.origin)
        self._put(node, done.event, size=self.total - done.total_before, height=done.height)

    def _alias(self, event: yaml.AliasEvent) -> None:
        known = self.anchors.get(event.anchor)
        if known is None:
            inside = any(frame.event.anchor == event.anchor for frame in self.stack)
            why = "refers to itself" if inside else "refers to an anchor that is not defined above"
            self._stop("R007", event, f"alias '*{event.anchor}' {why}")
            return
        node, size, height = known
        self._count(event, size)
        if len(self.stack) + height > MAX_DEPTH:
            self._stop("R002", event, f"nested more than {MAX_DEPTH} deep")
        self._put(node, event, size, height)

    def _put(self, node: Node, event: yaml.Event, size: int, height: int) -> None:
        """Hand a finished node to the list or mapping around it.

        Args:
            node: that is finished.
            event: by which it began.
            size: nodes in it, itself included.
            height: levels below it.
        """
        if not isinstance(event, yaml.AliasEvent) and event.anchor:
            self.anchors[event.anchor] = (node, size, height)
        if not self.stack:
            self.root = node
            return
        around = self.stack[-1]
        around.height = max(around.height, height + 1)
        if around.wants_key:
            self._key(around, node, event)
        else:
            around.add(node)

    # ------------------------------------------------------------------------------------------------------------- keys
    def _key(self, around: _Open, node: Node, event: yaml.Event) -> None:
        """Let a mapping wait for the value of a key; a key that is none is reported, and its value left out."""
        place = self._place(event.start_mark)
        around.skip = True
        if self._is_rest_of_number(around, event):
            self._number_with_comma(around, event)
        elif not isinstance(node, Scalar) or not isinstance(node.value, str):
            what = shown(plain(node)) if isinstance(node, Scalar) else "a mapping or list"
            hint = "references have no braces: $name" if isinstance(node, MapNode) else "put it in quotes"
            self.problems.report("R007", place, f"a key must be text, got {what}", hint=hint)
        elif node.value in around.entries or (node.value == _MERGE and around.merges):
            first = around.entries[node.value].key if node.value in around.entries else around.merges[0].key
            where = f"line {first.line}" if self.inline is None else f"column {first.column}"
            self.problems.report("R005", place, f"key '{node.value}' is given twice (first at {where})")
        else:
            around.key, around.key_origin, around.skip = node.value, place, False

    def _is_rest_of_number(self, around: _Open, event: yaml.Event) -> bool:
        """Say whether a key is what a comma has cut off the number before it: `{lr: 0,1}`, `{epochs: 1,000}`."""
        if not around.entries or not isinstance(event, yaml.ScalarEvent) or not _DIGITS.fullmatch(event.value):
            return False
        before = next(reversed(around.entries.values())).node
        if not isinstance(before, Scalar) or before.quoted or not isinstance(before.value, int):
            return False
        place = self._place(event.start_mark)
        after_comma = before.origin.column + len(before.text) + 1
        return (place.line, place.column) == (before.origin.line, after_comma)

    def _number_with_comma(self, around: _Open, event: yaml.ScalarEvent) -> None:
        """Report a number with a comma, and put what was meant in its place: later checks look at that."""
        key, entry = next(reversed(around.entries.items()))
        assert isinstance(entry.node, Scalar)
        whole, rest = entry.node.text, event.value
        hint = f"write {key}: {whole}.{rest}" + (f" or {key}: {whole}{rest}" if len(rest) == 3 else "")
        text = f"a comma ends a value: '{key}: {whole},{rest}' is not one number"
        self.problems.report("R007", entry.node.origin, text, hint=hint)
        meant = resolve(whole + rest if len(rest) == 3 else f"{whole}.{rest}")
        around.entries[key] = Entry(entry.key, replace(entry.node, value=meant))

    def _merged(self, done: _Open) -> dict[str, Entry]:
        """Return the entries of a mapping with its merge keys applied: what is written here wins."""
        entries = dict(done.entries)
        for merge in done.merges:
            sources = merge.node.items if isinstance(merge.node, ListNode) else (merge.node,)
            for source in sources:
                if not isinstance(source, MapNode):
                    self.problems.report(
                        "R007", merge.key, "'<<' merges mappings", hint="write <<: *anchor or <<: [*a, *b]"
                    )
                    continue
                for key, entry in source.entries.items():
                    entries.setdefault(key, entry)
        return entries

    # ----------------------------------------------------------------------------------------------- scalars and bounds
    def _scalar(self, event: yaml.ScalarEvent) -> Scalar:
        place = self._place(event.start_mark)
        quoted = event.style in _QUOTES
        value: Plain = event.value if quoted or event.tag == "!" else resolve(event.value)
        if event.tag == _TAG + "str":
            value = event.value
        elif event.tag is not None:
            value = resolve(event.value) if event.tag.startswith(_TAG) else value
            self._check_tag(event, _TAG_NAMES[type(value)])
        return Scalar(value, place, event.value, quoted)

    def _check_tag(self, event: yaml.Event, name: str) -> None:
        """Refuse any tag that does not merely repeat what the value is."""
        if event.tag not in (None, "!", _TAG + name):
            tag = event.tag.replace(_TAG, "!!")
            hint = "a recipe holds values, not objects" if "python" in tag else "leave it out"
            self._stop("R006", event, f"tag '{tag}' is not accepted", hint)

    def _count(self, event: yaml.Event, nodes: int) -> None:
        """Count nodes against the bound, what an alias stands for each time that it is used."""
        self.total += nodes
        if self.total > MAX_NODES:
            self._stop("R002", event, f"more than {MAX_NODES:,} values once aliases are expanded")

    def _stop(self, rule: str, event: yaml.Event, text: str, hint: str = "") -> None:
        self.problems.report(rule, self._place(event.start_mark), text, hint=hint)
        raise _Stop

    def _syntax(self, error: yaml.YAMLError, text: str) -> None:
        """Report what PyYAML could not read, in words of ours where its complaint is known."""
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        if mark is None:
            number, before = (1, 0) if self.inline is None else (self.inline.line, self.inline.column)
            self.problems.report("R004", Origin(self.file, number, before + 1), f"this is not YAML: {error}")
            return
        lines = text.split("\n")
        opened, context = getattr(error, "context_mark", None), getattr(error, "context", None) or ""
        if "flow" in context and opened is not None and opened.line < mark.line:
            bracket = lines[opened.line][opened.column : opened.column + 1]
            what = f"this '{bracket}' is not closed, or a comma is missing before line {mark.line + 1}"
            self.problems.report("R004", self._place(opened), what)
            return
        line = lines[mark.line] if mark.line < len(lines) else ""
        said = getattr(error, "problem", None) or str(error)
        what, hint = _explain(said, context, line, mark.column)
        self.problems.report("R004", self._place(mark), what, hint=hint)


def _explain(said: str, context: str, line: str, column: int) -> tuple[str, str]:
    """Put the parser's complaint into the words of somebody who writes a recipe.

    Args:
        said: what it calls wrong.
        context: what it was reading.
        line: text of the line.
        column: where in it, from 0.

    Returns:
        What is wrong, and the hint.
    """
    at = line[column : column + 2]
    if line[:column].strip(" ") == "" and at.startswith("\t"):
        return "a tab cannot indent", "use spaces"
    if "${" in line:
        return "'${...}' is no reference", "references have no braces: $name"
    if at.startswith(("%", "@", "`")):
        return f"a value cannot begin with '{at[0]}'", "put it in quotes"
    named = re.search("scanning an (alias|anchor)", context)
    if named:
        return (
            f"what begins with '{'*' if named[1] == 'alias' else '&'}' is an {named[1]}, and this is none",
            "put it in quotes",
        )
    several = re.search(r":\s*([>|])", line)
    if several and "block scalar" in f"{context} {said}":
        return f"what begins with '{several[1]}' is text of several lines", "put the value in quotes"
    if "escape" in said:
        return "a backslash in double quotes begins an escape, and this is none", "use single quotes, or double it"
    if "mapping values are not allowed" in said:
        return "a ':' where no key can stand", "check the indentation, or put text with ': ' in quotes"
    if "flow" in context:
        return f"this is not YAML: {said}", "are '[' and '{' closed, with commas between the items?"
    if "quoted scalar" in context:
        return f"this is not YAML: {said}", "is the quote closed?"
    return f"this is not YAML: {said}", "check the indentation and the line above"
