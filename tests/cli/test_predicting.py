"""`predict` for folders and tables: a row per picture, in the order one wants, and nothing is lost on the way."""

import csv
import os
import re
import shutil
import signal
from pathlib import Path

import pytest
from small_run import CLASSES, picture, put, train_small

import trainer
from trainer.cli import predicting
from trainer.cli.main import main


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_small(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network as a file that needs nothing more to be read."""
    path = tmp_path_factory.mktemp("exported") / "small.pt2"
    assert main(["export", str(run), "--to", "torch", "--out", str(path)]) == 0
    return path


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of pictures with folders in it, the working directory's; and what else people have in such."""
    monkeypatch.chdir(tmp_path)
    for seed in range(4):
        put(Path("photos/a", f"{seed}.png"), picture("red", seed))
        put(Path("photos/b/deep", f"{seed}.jpg"), picture("blue", seed))
    Path("photos/notes.txt").write_text("mine")
    put(Path("photos/.thumbnails/0.png"), picture("red", 9))
    return Path("photos")


def rows_of(path: Path | str, delimiter: str = ",") -> list[dict[str, str]]:
    with Path(path).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


def test_all_pictures_of_a_folder_and_its_folders_are_answered_into_a_table(run, photos, capsys):
    assert main(["predict", str(run), "photos", "--out", "answers.csv"]) == 0
    said = capsys.readouterr()
    rows = rows_of("answers.csv")
    files = [f"photos/a/{seed}.png" for seed in range(4)] + [f"photos/b/deep/{seed}.jpg" for seed in range(4)]
    assert [row["file"] for row in rows] == files
    assert list(rows[0]) == ["file", "answer", "class_1", "probability_1", "class_2", "probability_2", "problem"]
    (expected,) = trainer.load(run).predict(files[5], top=2)
    assert [(rows[5][f"class_{n}"], float(rows[5][f"probability_{n}"])) for n in (1, 2)] == [
        (name, pytest.approx(share, abs=1e-5)) for name, share in expected
    ]
    assert [row["answer"] for row in rows] == ["red"] * 4 + ["blue"] * 4
    assert re.search(r"answers +answers\.csv \(8 of 8 pictures, ", said.out)
    assert re.search(r"classes +(red 4, blue 4|blue 4, red 4)", said.out)
    assert "photos: 1 file is no image by its name: .txt 1" in said.err


def test_the_pictures_of_a_table_are_those_that_its_rows_name_beside_it(run, photos, capsys):
    Path("lists").mkdir()
    Path("lists/a.csv").write_text("id,path\n7,\n8,../photos/a/0.png\n9,../photos/gone.png\n10,http://x.org/1.png\n")
    Path("lists/b.jsonl").write_text('{"photo": "../photos/b/deep/1.jpg"}\n')
    assert main(["predict", str(run), "lists/a.csv", "--out", "answers.csv"]) == 3
    said = capsys.readouterr().err
    rows = rows_of("answers.csv")
    named = ["lists/a.csv:2", "../photos/a/0.png", "../photos/gone.png", "http://x.org/1.png"]
    assert [row["file"] for row in rows] == named
    assert rows[1]["answer"] == "red"
    assert rows[0]["problem"] == "lists/a.csv:2: no path in column 'path'"
    assert rows[2]["problem"].startswith("lists/a.csv:4: photos/gone.png cannot be read: No such file")
    assert rows[3]["problem"].startswith("lists/a.csv:5: http://x.org/1.png is an address")
    assert "3 of 4 pictures could not be read" in said
    assert main(["predict", str(run), "lists/b.jsonl"]) == 3
    assert "lists/b.jsonl has no column 'image'; it has 'photo'\n  --column names the column" in capsys.readouterr().err
    assert main(["predict", str(run), "lists/b.jsonl", "--column", "photo", "--top", "1"]) == 0
    assert capsys.readouterr().out.startswith("../photos/b/deep/1.jpg: blue ")


def test_a_table_of_answers_can_be_asked_about_again(run, photos, capsys):
    assert main(["predict", str(run), "photos", "--out", "answers.csv"]) == 0
    assert main(["predict", str(run), "answers.csv", "--out", "again.csv"]) == 0
    assert Path("again.csv").read_text() == Path("answers.csv").read_text()


def test_no_name_is_a_spreadsheets_formula_and_the_table_can_be_asked_about_again(run, photos, capsys):
    Path("photos/a/0.png").rename("=1+1.png")
    assert main(["predict", str(run), "=1+1.png", "photos/b", "--out", "answers.csv"]) == 0
    assert rows_of("answers.csv")[0]["file"] == "'=1+1.png"
    assert main(["predict", str(run), "answers.csv", "--out", "again.csv"]) == 0
    assert Path("again.csv").read_text() == Path("answers.csv").read_text()


def test_without_a_table_each_picture_has_a_line_and_words_may_be_mixed(run, photos, capsys):
    assert main(["predict", str(run), "photos/b", "photos/a/0.png", "--top", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        *(f"photos/b/deep/{n}.jpg" for n in range(4)),
        "photos/a/0.png",
    ]
    assert all(re.fullmatch(r"\S+: (blue|red) \d+\.\d %", line) for line in lines)


def test_what_cannot_be_read_keeps_its_row_is_listed_at_the_end_and_all_others_are_answered(run, photos, capsys):
    (photos / "a/1.png").write_bytes(b"no picture")
    put(photos / "b/deep/2.jpg", picture("blue", 2, 8, 8))  # too small for the crop
    assert main(["predict", str(run), "photos", "--out", "answers.tsv"]) == 3
    said = capsys.readouterr()
    rows = rows_of("answers.tsv", "\t")
    files = [f"photos/a/{seed}.png" for seed in range(4)] + [f"photos/b/deep/{seed}.jpg" for seed in range(4)]
    assert [row["file"] for row in rows] == files, "each where it stood, answered or not"
    assert [row["file"] for row in rows if row["problem"]] == ["photos/a/1.png", "photos/b/deep/2.jpg"]
    assert [row["answer"] for row in rows if row["problem"]] == ["", ""]
    last = said.err.splitlines()[-4:]
    assert last[0].startswith("photos/a/1.png is damaged, cut short, or not an image (10 bytes)")
    assert last[1].startswith("photos/b/deep/2.jpg: CenterCrop cannot transform")
    assert last[2:] == ["error: 2 of 8 pictures could not be read", "  all others were answered"]
    assert "6 of 8 pictures" in said.out


def test_of_very_many_that_cannot_be_read_the_first_are_named_and_where_all_are(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(predicting, "LISTED", 2)
    put(Path("photos/good.png"), picture("red", 0))
    for index in range(5):
        Path(f"photos/{index}.png").write_bytes(b"no picture")
    assert main(["predict", str(run), "photos", "--out", "a.csv"]) == 3
    said = capsys.readouterr().err
    assert said.count("is damaged") == 2
    assert "5 of 6 pictures could not be read; a.csv names all in its last column" in said


def test_one_picture_alone_that_cannot_be_read_is_the_error(run, photos, capsys):
    (photos / "a/1.png").write_bytes(b"no picture")
    assert main(["predict", str(run), "photos/a/1.png"]) == 3
    assert capsys.readouterr().err.startswith("error: photos/a/1.png is damaged, cut short, or not an image (10 bytes)")


@pytest.mark.parametrize("rank", ["uncertain", "diverse"])
def test_a_ranking_begins_with_what_the_network_is_least_sure_of(run, photos, capsys, rank):
    blend = (picture("red", 0).astype(int) + picture("blue", 0)[:, :, :]) // 2
    put(photos / "b/deep/between.png", blend.astype("uint8"))
    (photos / "a/1.png").write_bytes(b"no picture")
    assert main(["predict", str(run), "photos", "--out", "answers.csv", "--rank", rank]) == 3
    rows = rows_of("answers.csv")
    measure = {"uncertain": "margin", "diverse": "distance"}[rank]
    assert list(rows[0])[-2:] == [measure, "problem"]
    assert [row["file"] for row in rows if row["problem"]] == [rows[-1]["file"]] == ["photos/a/1.png"]
    values = [float(row[measure]) for row in rows[:-1]]
    assert values == sorted(values, reverse=rank == "diverse")
    assert len({row["file"] for row in rows}) == 9
    if rank == "uncertain":
        margins = [float(row["probability_1"]) - float(row["probability_2"]) for row in rows[:-1]]
        assert values == pytest.approx(margins, abs=1e-5)
    capsys.readouterr()
    assert main(["predict", str(run), "photos", "--rank", rank]) == 3
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [row["file"] for row in rows[:-1]], "lines in the same order"


def test_below_its_bound_the_answer_is_not_sure_in_lines_and_tables(run, photos, capsys):
    assert main(["predict", str(run), "photos", "--out", "answers.csv", "--abstain-below", "1"]) == 0
    rows = rows_of("answers.csv")
    assert [row["answer"] for row in rows] == ["not sure"] * 8
    assert [row["class_1"] for row in rows] == ["red"] * 4 + ["blue"] * 4
    assert re.search(r"classes +not sure 8", capsys.readouterr().out)
    assert main(["predict", str(run), "photos/a/0.png", "--top", "1", "--abstain-below", "1"]) == 0
    assert re.fullmatch(r"photos/a/0\.png: not sure \(red \d+\.\d %\)", capsys.readouterr().out.strip())


@pytest.mark.slow  # an export proves itself in a process of its own
def test_an_exported_file_answers_as_its_run_does_and_leaves_the_rest_to_the_run(run, exported, photos, capsys):
    for path, out in ((run, "by_run.csv"), (exported, "by_file.csv")):
        assert main(["predict", str(path), "photos", "--out", out, "--rank", "uncertain"]) == 0
    pairs = zip(rows_of("by_run.csv"), rows_of("by_file.csv"), strict=True)
    for of_run, of_file in pairs:
        assert (of_run["file"], of_run["answer"]) == (of_file["file"], of_file["answer"])
        assert float(of_run["probability_1"]) == pytest.approx(float(of_file["probability_1"]), abs=1e-4)
    capsys.readouterr()
    assert main(["predict", str(exported), "photos/a/0.png", "--abstain-below", "1"]) == 0
    assert "not sure (red" in capsys.readouterr().out
    assert main(["predict", str(exported), "photos", "--rank", "diverse"]) == 2
    assert "ask the run itself for --rank diverse" in capsys.readouterr().err
    assert main(["predict", str(exported), "photos", "--calibrated"]) == 2
    assert "was settled when it was exported" in capsys.readouterr().err


def test_a_bound_of_an_exported_file_is_a_probability(exported, photos, capsys):
    assert main(["predict", str(exported), "photos", "--abstain-below", "nan"]) == 2
    said = "abstain_below is a probability, got nan\n  a number above 0, up to 1, such as 0.8"
    assert said in capsys.readouterr().err


def test_a_signal_keeps_what_was_answered_until_then(run, photos, capsys, monkeypatch):
    whole = predicting.answers

    def signalled(*given, **how):
        for place, answer in enumerate(whole(*given, **how)):
            if place == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            yield answer

    monkeypatch.setattr(predicting, "answers", signalled)
    assert main(["predict", str(run), "photos", "--out", "answers.csv"]) == 128 + signal.SIGTERM
    assert [row["file"] for row in rows_of("answers.csv")] == [f"photos/a/{seed}.png" for seed in range(3)]
    assert "interrupted after 3 of 8 pictures" in capsys.readouterr().err
    Path("answers.csv").write_text("whole")
    assert main(["predict", str(run), "photos", "--out", "answers.csv"]) == 128 + signal.SIGTERM
    assert Path("answers.csv").read_text() == "whole", "a table of before may have more"
    assert len(rows_of("answers.part.csv")) == 3


def test_long_work_says_how_far_it_is(run, photos, capsys, monkeypatch):
    monkeypatch.setattr(predicting, "_PULSE", -1.0)
    assert main(["predict", str(run), "photos", "--out", "answers.csv"]) == 0
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if line.startswith("answered")] == [
        f"answered {done} of 8 pictures" for done in range(1, 9)
    ]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["photos", "--out", "answers.xlsx"], 2, "--out answers.xlsx: answers are written as .csv or .tsv"),
        (["photos", "--out", "photos/a/0.png"], 2, "--out photos/a/0.png: answers are written as .csv or .tsv"),
        (["list.csv", "--out", "./list.csv"], 2, "--out list.csv is what is asked about, and would be overwritten"),
        (["photos", "--out", "nowhere/answers.csv"], 5, "nowhere/answers.csv cannot be written: there is no folder"),
        (["photos", "--out", "folder.csv"], 5, "folder.csv cannot be written: it is a folder"),
        (["photos", "--out", "/proc/answers.csv"], 5, "/proc/answers.csv cannot be written: No such file or directory"),
        (["empty"], 3, "empty holds no picture\n  a folder's pictures are told by their names"),
        (["photos/notes.txt"], 3, "photos/notes.txt is damaged, cut short, or not an image"),
        (["photos", "gone.png"], 3, "gone.png cannot be read: No such file"),
        (["photos", "--rank", "best"], 2, "--rank takes uncertain or diverse"),
        (["photos", "--workers", "0"], 2, "--workers takes a whole number of 1 or more"),
    ],
)
def test_what_cannot_be_is_refused_with_the_way_out(run, photos, capsys, words, code, message):
    Path("empty").mkdir()
    Path("folder.csv").mkdir()
    Path("list.csv").write_text("image\nphotos/a/0.png\n")
    assert main(["predict", str(run), *words]) == code
    assert message in capsys.readouterr().err
    assert not Path("answers.csv").exists()
    assert Path("list.csv").read_text() == "image\nphotos/a/0.png\n"


def test_a_link_in_a_circle_ends(run, photos, capsys):
    (photos / "a/again").symlink_to(photos.resolve(), target_is_directory=True)
    assert main(["predict", str(run), "photos", "--out", "answers.csv"]) == 0
    assert len(rows_of("answers.csv")) == 8
    assert set(CLASSES) == {row["answer"] for row in rows_of("answers.csv")}


def test_a_run_without_best_weights_answers_by_its_last_and_without_any_not_at_all(run, photos, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / "checkpoints/best.pt").unlink()
    assert main(["predict", str(copy), "photos/a/0.png"]) == 0
    (copy / "checkpoints/last.pt").unlink()
    capsys.readouterr()
    assert main(["predict", str(copy), "photos/a/0.png"]) == 6
    assert f"{copy}: this run has no checkpoint yet" in capsys.readouterr().err
