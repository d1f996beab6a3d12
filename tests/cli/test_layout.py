"""Where lines break: between words, at the terminal's width, and in a pipe not at all."""

from __future__ import annotations

import io

import pytest

from trainer.cli.layout import PAGE, folded, in_words, page_width, table_width, width_of

LINE = "the folder runs/a-name/20260131-120000/checkpoints holds nothing that could be read"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def columns(monkeypatch):
    return lambda number: monkeypatch.setenv("COLUMNS", str(number))


def test_a_line_breaks_between_words_and_a_path_stays_whole(columns):
    columns(44)
    assert folded(LINE, Terminal()).split("\n") == [
        "the folder",
        "  runs/a-name/20260131-120000/checkpoints",
        "  holds nothing that could be read",
    ]


@pytest.mark.parametrize("number", [40, 80, 200])
def test_no_word_is_broken_at_any_width(columns, number):
    columns(number)
    text = " ".join(f"word-{n}/{'x' * (n % 30)}" for n in range(60))
    lines = folded(text, Terminal()).split("\n")
    assert " ".join(line.strip() for line in lines) == text
    assert max(map(len, lines)) <= number


def test_in_a_pipe_a_line_stays_one_line(columns):
    columns(40)
    assert folded(LINE, io.StringIO()) == LINE
    assert width_of(io.StringIO()) is None


def test_a_recipes_line_stays_whole_where_it_fits_and_the_caret_below_it(columns):
    columns(40)
    quoted = "a.yaml:1:9: wrong\n    model: {type: nothing}\n                  ^"
    assert folded(quoted, Terminal()) == quoted


@pytest.mark.parametrize("at", [0, 30, 99])
def test_of_a_longer_line_what_is_around_the_caret_is_shown(columns, at):
    columns(44)
    text = "".join(chr(ord("a") + number % 26) for number in range(100))
    line, caret = folded(f"    {text}\n    {'':{at}}^", Terminal()).split("\n")
    assert max(len(line), len(caret)) <= 44
    assert line[caret.index("^")] == text[at]
    assert (line.startswith("    ..."), line.endswith("...")) == (at > 0, at < 99)


def test_what_is_read_takes_the_columns_it_is_given_and_no_more_than_one_reads_with_ease(columns):
    columns(80)
    assert (table_width(), page_width()) == (80, 80)
    columns(200)
    assert (table_width(), page_width()) == (200, PAGE)


def test_a_paragraph_keeps_its_indents():
    assert in_words("one two three", 9, first="> ", hanging="   ") == ["> one two", "   three"]
