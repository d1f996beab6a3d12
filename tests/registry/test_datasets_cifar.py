"""CIFAR's archives: read exactly, refused when they are not what their publisher put there."""

import hashlib
import http.server
import io
import os
import pickle
import pickletools
import socket
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest

from registry.datasets import archives
from registry.datasets.archives import check_digest, fetch, load_plain_pickle, unpack
from registry.datasets.cifar import CIFAR10, CIFAR100
from registry.datasets.source import MissingSplit
from registry.errors import DataError

REAL = Path(os.environ.get("TRAINER_DATA", "data"))
needs_cifar = pytest.mark.skipif(
    not (REAL / "cifar-10-batches-py").is_dir(), reason=f"no CIFAR-10 in {REAL}; $TRAINER_DATA names its folder"
)


def md5(content):
    return hashlib.md5(content).hexdigest()


@pytest.fixture
def tiny(tmp_path):
    """A CIFAR-10 of three files with four images each, and a class that knows their digests."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    rng = np.random.default_rng(0)
    digests = {}
    for name in ("data_batch_1", "data_batch_2", "test_batch"):
        content = {b"data": rng.integers(0, 256, (4, 3072), dtype=np.uint8), b"labels": [3, 1, 0, 9]}
        written = pickle.dumps(content, protocol=2)
        (folder / name).write_bytes(written)
        digests[name] = md5(written)
    names = pickle.dumps({b"label_names": [name.encode() for name in CIFAR10.facts.class_names]}, protocol=2)
    (folder / "batches.meta").write_bytes(names)

    class TinyCIFAR10(CIFAR10):
        files = {  # noqa: RUF012
            "train": {name: digests[name] for name in ("data_batch_1", "data_batch_2")},
            "test": {"test_batch": digests["test_batch"]},
        }
        meta = ("batches.meta", md5(names))

    return TinyCIFAR10


def test_pixels_and_labels_are_those_of_the_archive_in_its_order(tiny, tmp_path):
    train = tiny(str(tmp_path), split="train", download=False)
    raw = pickle.loads((tmp_path / "cifar-10-batches-py/data_batch_2").read_bytes())
    assert train.packed().shape == (8, 32, 32, 3)
    assert train.targets.tolist() == [3, 1, 0, 9] * 2
    assert np.array_equal(train.image(5), raw[b"data"][1].reshape(3, 32, 32).transpose(1, 2, 0))
    assert train.class_names == CIFAR10.facts.class_names
    assert train.describe(5) == "image 5 of TinyCIFAR10 train"


@needs_cifar
def test_the_real_cifar10_is_read_as_torchvision_reads_it():
    from torchvision import datasets

    theirs = datasets.CIFAR10(str(REAL), train=False)
    ours = CIFAR10(str(REAL), split="test", download=False)
    assert np.array_equal(ours.packed(), theirs.data)
    assert ours.targets.tolist() == theirs.targets
    assert list(ours.class_names) == theirs.classes == list(CIFAR10.facts.class_names)


def test_cifar100_reads_the_fine_labels(tmp_path):
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    images = np.zeros((2, 3072), np.uint8)
    written = pickle.dumps({b"data": images, b"fine_labels": [99, 4], b"coarse_labels": [1, 2]}, protocol=2)
    names = pickle.dumps({b"fine_label_names": [name.encode() for name in CIFAR100.facts.class_names]}, protocol=2)
    (folder / "test").write_bytes(written)
    (folder / "meta").write_bytes(names)

    class Tiny(CIFAR100):
        files = {"test": {"test": md5(written)}}  # noqa: RUF012
        meta = ("meta", md5(names))

    source = Tiny(str(tmp_path), split="test", download=False)
    assert source.targets.tolist() == [99, 4]
    assert len(source.class_names) == 100


def test_a_split_that_does_not_exist_is_refused_with_those_that_do(tiny, tmp_path):
    with pytest.raises(MissingSplit, match="TinyCIFAR10 has no split 'val'; it has train, test"):
        tiny(str(tmp_path), split="val", download=False)


# ------------------------------------------------------------------------------------------------------------- damage
def test_a_changed_file_is_refused_with_both_digests(tiny, tmp_path):
    path = tmp_path / "cifar-10-batches-py/data_batch_1"
    content = bytearray(path.read_bytes())
    expected = md5(content)
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        tiny(str(tmp_path), split="train", download=True)
    assert f"{path} is damaged or not the published file: MD5 expected {expected}, actual {md5(content)}" in str(
        caught.value
    )


def test_a_missing_file_is_named(tiny, tmp_path):
    (tmp_path / "cifar-10-batches-py/data_batch_2").unlink()
    with pytest.raises(DataError, match="data_batch_2 cannot be read: No such file"):
        tiny(str(tmp_path), split="train", download=True)


def test_a_truncated_pickle_is_refused():
    with pytest.raises(DataError, match="batch is not a pickle of plain arrays"):
        load_plain_pickle(pickle.dumps({b"data": np.zeros(10)}, protocol=2)[:-20], "batch")


# ----------------------------------------------------------------------------------------------------------- security
class Bomb:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return (os.mkdir, (self.canary,))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_code_in_a_pickle_is_not_run(tmp_path, protocol):
    canary = tmp_path / "canary"
    content = pickle.dumps({"data": Bomb(str(canary))}, protocol=protocol)
    with pytest.raises(DataError, match=r"is not a pickle of plain arrays: it asks for .*mkdir; nothing in it was run"):
        load_plain_pickle(content, "data_batch_1")
    assert not canary.exists()
    pickle.loads(content)
    assert canary.exists(), "the test's pickle is harmless, so it proves nothing"


@pytest.mark.parametrize(
    "value", [np.zeros(3), {b"a": [1, "b", b"c", 2.5, None, True]}, {"x": np.arange(6, dtype=np.int32).reshape(2, 3)}]
)
@pytest.mark.parametrize("protocol", [0, 2])
def test_plain_pickles_are_read(value, protocol):
    read = load_plain_pickle(pickle.dumps(value, protocol=protocol), "plain")
    assert repr(read) == repr(value)


def test_an_array_pickle_cannot_ask_for_another_class_or_a_size_of_its_own():
    shape = b"\x8a\x06\x00\x00\x00\x00\x00\x01\x85"
    giant = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + shape + b"U\x01b\x87R."
    pickletools.dis(giant, out=io.StringIO())
    with pytest.raises(DataError, match="it asks for something that is no plain array"):
        load_plain_pickle(giant, "giant")


def archive_of(path, members):
    with tarfile.open(path, "w:gz") as tar:
        for member, content in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    "evil",
    [
        "../evil",
        "data/../../evil",
        "/tmp/evil",
        "other/evil",
        "data\\..\\..\\evil",
        "C:evil",
        special("data/link", tarfile.SYMTYPE, "/etc/passwd"),
        special("data/hard", tarfile.LNKTYPE, "../../evil"),
        special("data/pipe", tarfile.FIFOTYPE),
        special("data/device", tarfile.CHRTYPE),
    ],
    ids=lambda each: getattr(each, "name", each),
)
def test_an_archive_that_would_write_outside_is_refused_before_anything_is_written(tmp_path, evil):
    archive = archive_of(tmp_path / "a.tar.gz", [("data/good", b"good"), (evil, b"")])
    folder = tmp_path / "below" / "root"
    with pytest.raises(DataError, match="nothing was unpacked"):
        unpack(archive, folder, member="data")
    assert list(folder.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar.gz", "below"]


def test_an_archive_of_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_UNPACKED", 1000)
    archive = archive_of(tmp_path / "a.tar.gz", [("data/big", b"0" * 1001)])
    with pytest.raises(DataError, match="nothing was unpacked"):
        unpack(archive, tmp_path / "root", member="data")


def test_half_an_archive_leaves_nothing(tmp_path):
    archive = archive_of(tmp_path / "a.tar.gz", [("data/one", os.urandom(100_000)), ("data/two", os.urandom(100_000))])
    archive.write_bytes(archive.read_bytes()[:-60_000])
    with pytest.raises(DataError, match=r"a\.tar\.gz is not a whole tar archive"):
        unpack(archive, tmp_path / "root", member="data")
    assert list((tmp_path / "root").iterdir()) == []


def test_a_good_archive_is_unpacked_whole(tmp_path):
    archive = archive_of(tmp_path / "a.tar.gz", [("data/one", b"1"), ("data/sub/two", b"2")])
    unpack(archive, tmp_path / "root", member="data")
    assert (tmp_path / "root/data/one").read_bytes() == b"1"
    assert (tmp_path / "root/data/sub/two").read_bytes() == b"2"
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["data"]


def test_an_archive_that_lies_in_the_root_is_proven_and_unpacked(tiny, tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    files = [(f"cifar-10-batches-py/{path.name}", path.read_bytes()) for path in folder.iterdir()]
    root = tmp_path / "elsewhere"
    root.mkdir()
    archive = archive_of(root / CIFAR10.archive, files)
    with pytest.raises(DataError, match="MD5 expected c58f30108f718f92721af3b95e74349a"):
        tiny(str(root), split="test", download=True)
    tiny.archive_md5 = md5(archive.read_bytes())
    assert len(tiny(str(root), split="test", download=True).targets) == 4
    assert (root / "cifar-10-batches-py").is_dir()


# ----------------------------------------------------------------------------------------------------------- downloads
@pytest.fixture
def server():
    """A local web server of one file, that understands ranges, keeps what was asked for, and can break off."""
    content = os.urandom(3_000_000)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.headers.get("Range"))
            start = int((asked[-1] or "bytes=0-")[6:-1])
            self.send_response(206 if asked[-1] else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start : start + served["most"]])

        def log_message(self, *_):
            pass

    asked, served = [], {"most": len(content)}
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        httpd.content, httpd.asked, httpd.served = content, asked, served
        httpd.url = f"http://127.0.0.1:{httpd.server_port}/file.tar.gz"
        yield httpd
        httpd.shutdown()
        thread.join()


def test_a_download_arrives_under_its_name_when_it_is_proven(server, tmp_path):
    path = tmp_path / "new" / "file.tar.gz"
    fetch(server.url, path, size=len(server.content), digest=md5(server.content))
    assert path.read_bytes() == server.content
    assert [entry.name for entry in path.parent.iterdir()] == ["file.tar.gz"]


def test_a_download_goes_on_where_it_was_cut(server, tmp_path):
    path = tmp_path / "file.tar.gz"
    server.served["most"] = 1_000_000
    with pytest.raises(DataError, match="broke off after 1000000 of 3000000 bytes"):
        fetch(server.url, path, size=len(server.content), digest=md5(server.content))
    assert not path.exists()
    server.served["most"] = len(server.content)
    fetch(server.url, path, size=len(server.content), digest=md5(server.content))
    assert path.read_bytes() == server.content
    assert server.asked[-1] == "bytes=1000000-"


def test_a_download_of_something_else_is_refused_with_both_digests_and_not_kept(server, tmp_path):
    path = tmp_path / "file.tar.gz"
    with pytest.raises(DataError, match=f"MD5 expected {'0' * 32}, actual {md5(server.content)}"):
        fetch(server.url, path, size=len(server.content), digest="0" * 32)
    assert list(tmp_path.iterdir()) == []


def test_no_more_is_read_than_the_file_is_long(server, tmp_path):
    path = tmp_path / "file.tar.gz"
    fetch(server.url, path, size=1000, digest=md5(server.content[:1000]))
    assert path.stat().st_size == 1000


def test_two_downloads_of_one_file_do_not_mix(server, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    part = tmp_path / "file.tar.gz.part"
    with part.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another process is downloading"):
            fetch(server.url, tmp_path / "file.tar.gz", size=10, digest="")


OFFLINE = """
import socket
def refuse(*_, **__): raise socket.gaierror(-2, "Name or service not known")
socket.getaddrinfo = refuse
from registry.datasets.cifar import CIFAR10
from registry.errors import DataError
try:
    CIFAR10({root!r}, split="train", download=True)
except DataError as error:
    print(error)
"""


def test_without_network_and_data_one_message_says_what_belongs_where(tmp_path):
    code = OFFLINE.format(root=str(tmp_path / "data"))
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == [
        f"CIFAR10 is not at {tmp_path}/data/cifar-10-batches-py, and "
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz cannot be reached: "
        "[Errno -2] Name or service not known",
        "  put cifar-10-python.tar.gz from https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz into "
        f"{tmp_path}/data/, or its folder cifar-10-batches-py/ there; `recipes/quickstart.yaml` needs no download",
    ]


def test_a_silent_resolver_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "TIMEOUT", 0.2)
    answers = threading.Event()
    monkeypatch.setattr(archives.socket, "getaddrinfo", lambda *_: answers.wait(60))
    with pytest.raises(DataError, match="no answer to the name look-up of example"):
        fetch("http://example/file", tmp_path / "file", size=1, digest="")
    assert not answers.is_set()
    answers.set()


def test_without_download_nothing_is_asked_of_the_network(tmp_path, monkeypatch):
    monkeypatch.setattr("registry.datasets.cifar.fetch", lambda *_, **__: pytest.fail("the network was asked"))
    with pytest.raises(DataError, match="CIFAR10 is not at"):
        CIFAR10(str(tmp_path), split="train", download=False)


def test_equal_digests_pass():
    check_digest("it", "abc", "abc")


def test_an_archive_of_too_many_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    archive = archive_of(tmp_path / "a.tar.gz", [(f"data/{number}", b"") for number in range(4)])
    with pytest.raises(DataError, match="more than 3 files or"):
        unpack(archive, tmp_path / "root", member="data")
    assert list((tmp_path / "root").iterdir()) == []


def test_a_server_that_falls_silent_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # lets everybody in and says nothing
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/file"
        said = []

        def ask():
            try:
                fetch(address, tmp_path / "file", size=1, digest="")
            except DataError as error:
                said.append(error.message)

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(20)
        assert said == [f"{address} cannot be reached: timed out"]


def test_a_server_that_knows_no_ranges_sends_all_anew(server, tmp_path):
    path = tmp_path / "file.tar.gz"
    (tmp_path / "file.tar.gz.part").write_bytes(server.content[:1_000_000])
    handler = server.RequestHandlerClass

    class Whole(handler):
        def do_GET(self):
            del self.headers["Range"]
            super().do_GET()

    server.RequestHandlerClass = Whole
    fetch(server.url, path, size=len(server.content), digest=md5(server.content))
    assert path.read_bytes() == server.content
