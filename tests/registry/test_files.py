"""The one door: files are read where they are plain, written whole, and never through a link."""

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from registry import files
from registry.errors import StorageError

OUTSIDE = b"somebody's own"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder that is written to; beside it lies `outside`, a folder with a file."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_bytes(OUTSIDE)
    (tmp_path / "run" / "figures").mkdir(parents=True)
    return tmp_path / "run"


@pytest.fixture(autouse=True)
def impatient() -> Iterator[None]:
    """End a test that waits for the other end of a pipe."""
    signal.alarm(30)
    yield
    signal.alarm(0)


def outside_is_as_it_was(run: Path) -> bool:
    found = {str(path.relative_to(run.parent)) for path in (run.parent / "outside").rglob("*")}
    return found == {"outside/file"} and (run.parent / "outside/file").read_bytes() == OUTSIDE


def append(path: Path, run: Path) -> None:
    with files.append(path, below=run) as file:
        file.write(b"new")


WAYS: dict[str, Callable[[Path, Path], object]] = {
    "write": lambda path, run: files.write(path, b"new", below=run),
    "append": append,
    "create": lambda path, run: files.create(path, below=run).close(),
    "lock": lambda path, run: os.truncate(files.descriptor(path, os.O_RDWR | os.O_CREAT, below=run), 0),
    "make_folder": lambda path, run: files.make_folder(path, below=run),
    "remove": lambda path, run: files.remove(path, below=run),
    "rename": lambda path, run: files.rename(path, "other", below=run),
    "second_name": lambda path, run: files.second_name(path, "other", below=run),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("target", ["outside/file", "outside/new"])
def test_no_way_goes_through_a_link_in_the_place_of_a_file(run, way, target):
    path = run / "figures" / "curve.png"
    path.symlink_to(run.parent / target)
    with pytest.raises(StorageError, match=r"curve\.png: is a link to .*; nothing below a run is written through one"):
        WAYS[way](path, run)
    assert outside_is_as_it_was(run)
    assert path.is_symlink()


@pytest.mark.parametrize("way", WAYS)
def test_no_way_goes_through_a_link_in_the_place_of_a_folder(run, way):
    (run / "gradcam").symlink_to(run.parent / "outside")
    with pytest.raises(StorageError, match="gradcam: is a link to"):
        WAYS[way](run / "gradcam" / "file", run)
    with pytest.raises(StorageError, match="gradcam: is a link to"):
        WAYS[way](run / "gradcam" / "deeper" / "file", run)
    assert outside_is_as_it_was(run)


@pytest.mark.parametrize("way", [*WAYS])
def test_a_link_that_appears_after_the_look_is_not_gone_through_either(run, monkeypatch, way):
    real, swapped = os.open, []

    def swapping(path, flags, *rest, **keywords):
        """Put a link in the place of the folder as soon as it was opened."""
        found = real(path, flags, *rest, **keywords)
        if path == "figures" and not swapped:
            swapped.append((run / "figures").rename(run / "was"))
            (run / "figures").symlink_to(run.parent / "outside")
        return found

    monkeypatch.setattr(os, "open", swapping)
    with contextlib.suppress(OSError, StorageError):  # what it works on may be gone
        WAYS[way](run / "figures" / "file", run)
    assert swapped
    assert outside_is_as_it_was(run)


@pytest.mark.parametrize("name", ["../outside/file", "figures/../../outside/file"])
def test_nothing_above_the_folder_is_written(run, name):
    with pytest.raises(ValueError, match="not"):
        files.write(run / name, b"new", below=run)
    with pytest.raises(ValueError, match="not"):
        files.write(run.parent / "outside" / "file", b"new", below=run)
    assert outside_is_as_it_was(run)


def test_the_folder_itself_may_be_reached_through_a_link(run):
    """Users keep `runs` on another disk."""
    (run.parent / "latest").symlink_to(run)
    files.write(run.parent / "latest" / "figures" / "a.png", b"new", below=run.parent / "latest")
    assert (run / "figures" / "a.png").read_bytes() == b"new"


@pytest.mark.parametrize("way", ["append", "lock"])
def test_a_file_with_a_second_name_elsewhere_is_not_changed_in_place(run, way):
    os.link(run.parent / "outside" / "file", run / "log.txt")
    with pytest.raises(StorageError, match=r"log\.txt: has 2 names \(hard links\)"):
        WAYS[way](run / "log.txt", run)
    assert outside_is_as_it_was(run)


def test_a_file_with_a_second_name_is_replaced_under_its_own(run):
    os.link(run.parent / "outside" / "file", run / "summary.json")
    files.write(run / "summary.json", b"new", below=run)
    assert (run / "summary.json").read_bytes() == b"new"
    assert outside_is_as_it_was(run)


@pytest.mark.parametrize("way", ["append", "lock"])
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(run, way):
    os.mkfifo(run / "log.txt")
    with pytest.raises((StorageError, OSError)) as caught:
        WAYS[way](run / "log.txt", run)
    if isinstance(caught.value, StorageError):
        assert "is a pipe, not a file" in caught.value.message


def test_what_is_written_is_whole_in_order_and_leaves_nothing_beside_it(run):
    files.write(run / "new" / "deep" / "a.bin", b"one ", memoryview(b"two"), b"", below=run)
    assert (run / "new/deep/a.bin").read_bytes() == b"one two"
    assert [path.name for path in (run / "new/deep").iterdir()] == ["a.bin"]


def test_an_error_names_the_whole_path(run):
    (run / "figures" / "a.png").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        files.write(run / "figures" / "a.png", b"new", below=run)
    assert caught.value.filename == str(run / "figures" / "a.png")
    with pytest.raises(FileNotFoundError):
        files.write(run / "gone" / "a", b"new", below=run / "gone")


# ------------------------------------------------------------------------------------------------- looking and reading
def test_links_that_lead_out_of_a_run_are_found_however_deep_and_others_are_let_be(run):
    (run / "explain" / "pictures" / "one").mkdir(parents=True)
    (run / "latest").symlink_to("explain/pictures/one")
    files.refuse_links(run)
    (run / "explain" / "pictures" / "one" / "page.html").symlink_to(run.parent / "outside" / "file")
    with pytest.raises(StorageError, match=r"one/page\.html: is a link to"):
        files.refuse_links(run)


@pytest.mark.parametrize(("kind", "words"), [("pipe", "it is a pipe"), ("folder", "it is a folder"),
                                             ("socket", "it is a socket"), ("device", "it is a device")])  # fmt: skip
def test_what_is_no_plain_file_is_refused_at_once_and_named(tmp_path, monkeypatch, kind, words):
    monkeypatch.chdir(tmp_path)
    path = Path("thing")
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as unix:
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        elif kind == "socket":
            unix.bind("thing")
        else:
            path = Path("/dev/zero")
        with pytest.raises(OSError, match=f"{words}, not a file") as caught:
            files.opened(path)
    assert caught.value.strerror == f"{words}, not a file"
