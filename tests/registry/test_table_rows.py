"""Table files: every form gives the same rows, each with its line, and damage is named by it."""

import json
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from registry.datasets.rows import _text, is_table, read_table
from registry.errors import DataError

RECORDS = [("a.jpg", "cat"), ("b c.jpg", "dog"), ("d.jpg", "3")]


@pytest.fixture
def put(tmp_path, monkeypatch):
    """Write a file into the working directory and return its name."""
    monkeypatch.chdir(tmp_path)

    def write(name, content):
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return name

    return write


def told(file):
    def read():
        rows = read_table(file)
        return [rows.column(name) for name in rows.columns]

    with pytest.raises(DataError) as caught:
        read()
    return str(caught.value)


def separated(mark, end="\n"):
    return end.join(mark.join(record) for record in [("path", "label"), *RECORDS]) + end


# --------------------------------------------------------------------------------------------------------------- forms
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", separated(",")),
        ("t.CSV", "\ufeff" + separated(",", "\r\n")),
        ("t.csv", separated(";")),
        ("t.csv", separated("\t")),
        ("t.csv", 'path ,"label"\na.jpg,  cat \n"b c.jpg","dog"\nd.jpg,3,,\n'),
        ("t.tsv", separated("\t", "\r\n")),
        ("t.jsonl", "".join(json.dumps({"path": path, "label": label}) + "\n" for path, label in RECORDS)),
        (
            "t.ndjson",
            '{"path": "a.jpg", "label": "cat"}\r\n{"label": "dog", "path": "b c.jpg"}\n{"path": "d.jpg", "label": 3.0}',
        ),
    ],
)
def test_every_form_gives_the_same_rows(put, name, content):
    rows = read_table(put(name, content))
    assert list(zip(rows.column("path"), rows.column("label"), strict=True)) == RECORDS
    assert len(rows) == 3
    assert rows.columns[:2] in {("path", "label"), ("label", "path")}


def test_parquet_gives_the_same_rows_and_reads_no_other_column(put):
    parquet = pytest.importorskip(
        "pyarrow.parquet", reason="pyarrow is an extra: pip install 'recipe-trainer[parquet]'"
    )
    import pyarrow

    columns = {"path": [path for path, _ in RECORDS], "label": [label for _, label in RECORDS], "pixels": [b"x"] * 3}
    table = pyarrow.table(
        {**columns, "id": [1.0, None, 3.0], "kind": pyarrow.array(["a", "b", "a"]).dictionary_encode()}
    )
    parquet.write_table(table, put("t.parquet", ""))
    rows = read_table("t.parquet")
    assert list(zip(rows.column("path"), rows.column("label"), strict=True)) == RECORDS
    assert (rows.column("id"), rows.column("kind")) == (["1", "", "3"], ["a", "b", "a"])
    assert rows.at(2) == "t.parquet, row 3"
    with pytest.raises(DataError, match=r"t\.parquet, row 1: column 'pixels' holds bytes, where text or a number"):
        rows.column("pixels")


def test_a_damaged_parquet_file_is_named(put):
    pytest.importorskip("pyarrow", reason="pyarrow is an extra: pip install 'recipe-trainer[parquet]'")
    assert "t.parquet is no whole Parquet file" in told(put("t.parquet", "PAR1 and no more"))


@pytest.mark.parametrize("part", ["page", "footer"])
def test_a_parquet_file_with_a_damaged_part_is_no_whole_one(put, part):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pip install 'recipe-trainer[parquet]'")
    import pyarrow

    parquet.write_table(pyarrow.table({"path": [f"{number}.jpg" for number in range(99)]}), put("t.parquet", ""))
    content = bytearray(Path("t.parquet").read_bytes())
    begins = 4 if part == "page" else len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    content[begins : begins + 40] = b"\xff" * 40
    assert told(put("t.parquet", bytes(content))).startswith("t.parquet is no whole Parquet file: ")


def test_decimals_of_parquet_are_written_as_other_numbers():
    assert [_text(Decimal(each)) for each in ("1.00", "100", "2.50", "1E+3", "NaN")] == ["1", "100", "2.5", "1000", ""]
    long = "1" * 38
    assert _text(Decimal(long)) == long, "of more digits than a context rounds to"


def test_without_pyarrow_the_way_to_it_is_said(put, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert told(put("t.parquet", "PAR1")) == (
        "t.parquet needs the package pyarrow\n"
        '  install it: pip install "recipe-trainer[parquet]"; or save the table as CSV'
    )


def test_a_row_has_the_line_in_which_it_begins(put):
    rows = read_table(put("t.csv", '\npath,note\n\na.jpg,"two\nlines"\n,,\nb.jpg,"a 3"" screw"\n'))
    assert [rows.at(row) for row in range(2)] == ["t.csv:4", "t.csv:7"]
    assert rows.column("note") == ["two\nlines", 'a 3" screw']
    assert rows.named([0, 1]) == "lines 4, 7"
    assert read_table(put("t.jsonl", '\n{"a": 1}\n\n{"a": 2}\n')).lines == [2, 4]


def test_many_lines_are_named_in_part(put):
    rows = read_table(put("t.csv", "a\n" + "x\n" * 30))
    assert rows.named(range(30)) == "lines 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 20 more"


def test_what_is_no_text_becomes_text_and_nothing_stays_nothing(put):
    lines = ['{"a": 1}', '{"a": 2.0}', '{"a": 0.5}', '{"a": true}', '{"a": null}', "{}", '{"a": NaN}', '{"a": " x "}']
    assert read_table(put("t.jsonl", "\n".join(lines))).column("a") == ["1", "2", "0.5", "true", "", "", "", "x"]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("3 3.0 10.00", "3 3 10"),
        ("1.0 _ 2.0", "1 _ 2"),
        ("007 7", "007 7"),
        ("3 3.0 3.5", "3 3.0 3.5"),
        ("3 3.0 cat", "3 3.0 cat"),
    ],
)
def test_names_that_are_whole_numbers_are_written_alike_only_where_all_are(put, written, meant):
    file = put("t.csv", "label,id\n" + "".join(f"{label.strip('_')},1\n" for label in written.split()))
    assert read_table(file).names("label") == [label.strip("_") for label in meant.split()]
    assert read_table(file).column("label") == [label.strip("_") for label in written.split()]


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        ("image;label;size, mm\na.png;cat;3\n", ("image", "label", "size, mm")),
        ("image;label;size, mm\na.png;cat;3,5\n", ("image", "label", "size, mm")),
        ("image,label,note; free\na.png,cat,x;y\n", ("image", "label", "note; free")),
        ("image,label\na.png,x;y;z\n", ("image", "label")),
        ('image\tlabel, or none\n"a;1.png"\tcat\n', ("image", "label, or none")),
        ("image\na.png\n", ("image",)),
    ],
)
def test_what_separates_the_cells_is_what_divides_the_first_rows_as_the_header(put, content, columns):
    assert read_table(put("t.csv", content)).columns == columns


@pytest.mark.parametrize(("first", "mark"), [("sep=;", ";"), ('"sep=|"', "|"), ("\ufeffSEP=,", ","), ("sep=\t", "\t")])
def test_a_first_line_of_excel_names_the_separator_and_counts_as_a_line(put, first, mark):
    rows = read_table(put("t.csv", f"{first}\r\n" + separated(mark, "\r\n")))
    assert list(zip(rows.column("path"), rows.column("label"), strict=True)) == RECORDS
    assert rows.at(0) == "t.csv:3"


def test_a_table_that_may_be_separated_otherwise_is_answered_with_the_separator_that_was_taken(put):
    rows = read_table(put("t.tsv", "image,label\na.png,cat\n"))
    with pytest.raises(DataError, match=r"t\.tsv has no column 'image'; it has 'image,label', separated by tabs"):
        rows.column("image")
    assert "t.csv:3: 1 cells, but 2 columns have a name in the first line (separated by semicolons)" in told(
        put("t.csv", "a;b\n1;2\n3\n")
    )


def test_tables_are_told_by_their_endings():
    assert [name for name in ("a.csv", "a.TSV", "a.jsonl", "a.parquet", "a.png", "csv") if is_table(name)] == [
        *("a.csv", "a.TSV", "a.jsonl", "a.parquet"),
    ]


# -------------------------------------------------------------------------------------------------------------- damage
@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.csv", "a,b\n1,2\n3,4,5\n", "t.csv:3: 3 cells, but 2 columns have a name in the first line"),
        ("t.csv", "a,b\n1,2\n\n3\n", "t.csv:4: 1 cells, but 2 columns have a name in the first line"),
        ("t.csv", 'a,b\n1,2\n3,"4\n5,6\n', "t.csv:3: a quote that is opened in this row is never closed"),
        ("t.csv", 'a,b\n1,"2"3\n', "t.csv:2: ',' expected after '\"'"),
        ("t.csv", b"a,b\n1,2\ncaf\xe9,3\n", "t.csv:3: byte 0xe9 is not UTF-8\n  save it as UTF-8"),
        ("t.csv", "a,b\n1,2\n".encode("utf-16"), "t.csv is UTF-16, not UTF-8"),
        ("t.csv", b"a,b\n\x00,2\n", "t.csv:2: a zero byte: this is no text"),
        ("t.csv", "", "t.csv has no rows"),
        ("t.tsv", "a\tb\n\t\n", "t.tsv has no rows"),
        ("t.csv", "a,a\n1,2\n", "t.csv has two columns 'a'"),
        ("t.jsonl", '{"a": 1}\n{"a": \n', "t.jsonl:2: no JSON: Expecting value"),
        ("t.jsonl", '[{"a": 1},\n{"a": 2}]\n', "t.jsonl:1: no JSON"),
        ("t.jsonl", '{"a": 1}\n[1]\n', "t.jsonl:2: a list, where an object belongs"),
        ("t.jsonl", '{"a": 1, "a": 2}\n', "t.jsonl:1: no JSON: the key 'a' stands there twice"),
        ("t.jsonl", '{"a": 1}\n{"a": {"b": 2}}\n', "t.jsonl:2: column 'a' holds an object, where text or a number"),
        ("t.jsonl", '{"a": ' + "[" * 100_000 + "}\n", "t.jsonl:1: no JSON"),
        ("t.xlsx", "PK", "t.xlsx is no table that can be read by its name\n  save it as CSV (in Excel: CSV UTF-8)"),
        ("t.json", "[]", "write one JSON object per line, and call it .jsonl"),
        ("t.csv.gz", "", "unpack it"),
    ],
)  # fmt: skip
def test_damage_is_named_by_its_line(put, name, content, said):
    assert said in told(put(name, content))


def test_a_table_that_is_not_there_is_said_to_be_relative_only_where_it_is(put, tmp_path):
    assert told("no.csv") == f"there is no table no.csv\n  the path is relative to the working directory, {tmp_path}"
    assert told(f"{tmp_path}/no.csv") == f"there is no table {tmp_path}/no.csv"
    (tmp_path / "folder.csv").mkdir()
    assert told("folder.csv") == "folder.csv cannot be read: it is a folder, not a file"
    assert told("https://example.org/t.csv") == (
        "https://example.org/t.csv is an address: tables are read from the disk\n  download it first"
    )


def test_a_column_that_is_not_there_is_answered_with_those_there_are(put):
    rows = read_table(put("t.csv", ",path,label\n0,a.jpg,cat\n"))  # as pandas writes its index
    with pytest.raises(DataError) as caught:
        rows.column("lable", "data.dataset.target")
    assert str(caught.value) == (
        "t.csv has no column 'lable'; it has 'path', 'label'\n"
        "  did you mean 'label'? data.dataset.target names the column"
    )
    with pytest.raises(DataError, match=r"t\.csv has no column ''"):
        rows.column("")
