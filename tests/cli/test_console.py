"""What the console shows: on a pipe, on a narrow terminal, without colours."""

import io
import re
import sys

import pytest

from registry.printing import counted, duration
from trainer.cli.console import Console
from trainer.engine.meters import Meter
from trainer.engine.progress import Progress

ROW = {"lr": 0.05, "seconds": 2.5, "train/loss": 1.2345, "train/accuracy": 0.5, "val/loss": 1.1, "val/accuracy": 0.625}
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def console_on(monkeypatch):
    """Return a console on a stream, in an environment that holds what the test names."""

    def make(stream, **environment):
        for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
            monkeypatch.delenv(name, raising=False)
        for name, value in {"TERM": "xterm-256color", **environment}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "stdout", stream)
        console = Console()
        console.plan(epochs=3, steps_per_epoch=10, images_per_step=8)
        return console

    return make


def train(console):
    """Go through an epoch as a training would."""
    progress = Progress(lr=0.05)
    with console.bar():
        for progress.step in range(1, 11):
            console._next_redraw = 0.0  # as if a quarter of a second had passed
            console.pulse(progress, Meter({}))
        progress.best = {**ROW, "epoch": 1}
        console.epoch(1, ROW)


def test_the_time_left_counts_what_an_epoch_does_beside_its_steps(console_on, monkeypatch):
    clock = iter(range(1, 1000))
    monkeypatch.setattr("trainer.cli.console.time.monotonic", lambda: float(next(clock)))
    stream = Terminal()
    console, progress = console_on(stream, COLUMNS="120"), Progress(lr=0.05)
    console.plan(epochs=3, steps_per_epoch=10, images_per_step=32)
    with console.bar():
        for progress.step in range(1, 11):  # a step a second
            console.pulse(progress, Meter({}))
        assert "0:00:20 left" in stream.getvalue()
        progress.epoch = 1
        console.epoch(1, {**ROW, "seconds": 15.0})
        for progress.step in range(11, 14):
            console.pulse(progress, Meter({}))
    assert "0:00:27 left" in stream.getvalue()  # 17 steps, and twice the five seconds of validation


def test_without_a_terminal_an_epoch_is_one_clean_line(console_on):
    stream = io.StringIO()
    train(console_on(stream))
    assert stream.getvalue() == (
        "epoch 1/3  lr 0.05  train loss 1.2345, accuracy 50.00 %  val loss 1.1000, accuracy 62.50 %  2.5 s  *\n"
    )


def test_the_plain_cross_entropy_is_shown_where_the_loss_is_something_else(console_on):
    for loss, shown in ((0.9, "val loss 0.9000, cross_entropy 0.5000"), (0.5, "val loss 0.5000, accuracy")):
        stream = io.StringIO()
        row = {"lr": 0.1, "seconds": 1.0, "val/loss": loss, "val/cross_entropy": 0.5, "val/accuracy": 0.5}
        console_on(stream).epoch(1, row)
        assert shown in stream.getvalue()


def test_the_epoch_that_the_training_chose_as_its_best_is_starred_and_no_other(console_on):
    stream = io.StringIO()
    console, progress = console_on(stream), Progress(best={**ROW, "epoch": 2})  # of a run that is continued
    console.pulse(progress, Meter({}))
    for epoch, is_best in ((3, False), (4, True), (5, False), (6, True)):
        if is_best:
            progress.best = {**ROW, "epoch": epoch}
        console.epoch(epoch, ROW)
    assert [line.endswith("*") for line in stream.getvalue().splitlines()] == [False, True, False, True]


def test_the_first_epoch_of_every_seed_is_its_best_so_far(console_on):
    stream = io.StringIO()
    console = console_on(stream)
    for accuracy in (0.9, 0.2):
        console.pulse(Progress(best={**ROW, "epoch": 1, "val/accuracy": accuracy}), Meter({}))
        console.epoch(1, {**ROW, "val/accuracy": accuracy})
    assert [line.endswith("*") for line in stream.getvalue().splitlines()] == [True, True]


def test_a_name_that_is_no_text_is_shown_and_logged_by_its_bytes(console_on, tmp_path):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    console = console_on(stream)
    console.log_to(tmp_path / "log.txt")
    console.line("classes caf\udce9, d\u00e9j\u00e0")
    console.table({"worst": "caf\udce9"})
    shown = stream.buffer.getvalue().decode("ascii")
    assert shown.splitlines() == ["classes caf\\xe9, d\\u00e9j\\u00e0", "worst  caf\\xe9"]
    log = (tmp_path / "log.txt").read_text(encoding="utf-8")
    assert "classes caf\\xe9, d\u00e9j\u00e0\n" in log
    assert "worst: caf\\xe9\n" in log


def test_a_terminal_shows_speed_rate_and_time_left_and_nothing_stays_of_the_bar(console_on):
    stream = Terminal()
    train(console_on(stream, COLUMNS="120"))
    shown = stream.getvalue()
    assert "lr 0.05" in shown
    assert "images/s" in shown
    assert " left" in shown
    assert shown.count("62.50 %") == 1


def test_no_color_takes_every_colour_away(console_on):
    painted, plain = Terminal(), Terminal()
    for stream, environment in ((painted, {}), (plain, {"NO_COLOR": "1"})):
        console = console_on(stream, COLUMNS="100", **environment)
        console.line("warning: something to look at")
        train(console)
    colour = re.compile(r"\x1b\[(?:[0-9]+;)*(?:3[0-9]|4[0-9]|9[0-7])[;0-9]*m")
    assert colour.search(painted.getvalue()), "else this test could not fail"
    assert not colour.search(plain.getvalue())
    assert "warning: something to look at" in ESCAPE.sub("", plain.getvalue())


def test_a_bar_on_forty_columns_stays_on_its_line(console_on):
    stream = Terminal()
    train(console_on(stream, COLUMNS="40", NO_COLOR="1"))
    drawn = ESCAPE.sub("", stream.getvalue()).replace("\r", "\n").splitlines()
    bars = [line for line in drawn if "/10" in line]
    assert bars
    assert all(len(line) <= 40 for line in bars), max(bars, key=len)
    assert all("62.50 %" not in line for line in bars)


def test_the_table_at_the_end_keeps_paths_whole_on_forty_columns(console_on):
    path = "runs/a-recipe-with-a-long-name/20260131-120000/report.html"
    stream = Terminal()
    console_on(stream, COLUMNS="40", NO_COLOR="1").table({"best": "0.93", "report": path})
    assert path in stream.getvalue(), "a path broken over lines cannot be clicked or copied"


def test_brackets_and_emoji_are_text(console_on):
    stream = io.StringIO()
    console = console_on(stream)
    console.line("class [red]fox[/red] \N{FOX FACE}")
    console.table({"[bold]a[/bold]": "[/]"})
    assert "class [red]fox[/red] \N{FOX FACE}\n" in stream.getvalue()
    assert "[bold]a[/bold]" in stream.getvalue()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        *((0.04, "0.0 s"), (9.94, "9.9 s"), (42.4, "42 s"), (59.4, "59 s")),
        *((59.7, "1 min 0 s"), (440, "7 min 20 s"), (21780, "6 h 3 min")),
    ],
)
def test_durations_are_said_as_people_say_them(seconds, words):
    assert duration(seconds) == words


def test_one_of_a_thing_takes_no_s():
    assert [counted(count, "epoch") for count in (0, 1, 2, 1200)] == ["0 epochs", "1 epoch", "2 epochs", "1,200 epochs"]
