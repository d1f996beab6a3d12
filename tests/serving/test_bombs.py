"""Small files that would keep a decoder busy for minutes are refused before it begins; whole pictures never are."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest

pytest.importorskip("starlette", reason="the extra `serve` is not installed")

from small_run import content, picture

from registry.datasets.headers import scans_of
from registry.errors import DataError
from trainer.serving import bombs
from trainer.serving.bombs import refuse_bomb

PNG = content(picture("red", 1))
NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
HEAD = 33  # bytes of a PNG before its data


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*parts: bytes, side: int = 10) -> bytes:
    """Return a PNG of side x side by its header, with such pixel data."""
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = b"".join(chunk(b"IDAT", part) for part in parts)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + data + chunk(b"IEND", b"")


def test_a_png_is_unpacked_no_further_than_its_header_allows(monkeypatch):
    packer, unpacked, real = zlib.compressobj(9), [], zlib.decompressobj
    packed = b"".join([*(packer.compress(bytes(1_000_000)) for _ in range(40)), packer.flush()])

    class Counted:
        def __init__(self):
            self.own, self.eof = real(), False

        def decompress(self, *words):
            unpacked.append(len(found := self.own.decompress(*words)))
            self.unconsumed_tail = self.own.unconsumed_tail
            return found

    monkeypatch.setattr(bombs.zlib, "decompressobj", Counted)
    for content_ in (png(packed), png(packed[:5], packed[5:]), png(b"", packed)):
        unpacked.clear()
        with pytest.raises(DataError, match="10 x 10 pixels by its header, and its data unpack to far more"):
            refuse_bomb(content_)
        assert sum(unpacked) <= 2_100_000


def test_what_decodes_a_png_is_spared_thousands_of_packed_notes():
    note = chunk(b"zTXt", b"k\0\0" + zlib.compress(b"a" * 1000))
    refuse_bomb(PNG[:HEAD] + 16 * note + PNG[HEAD:])
    with pytest.raises(DataError, match="has 17 compressed notes; more than 16 are refused"):
        refuse_bomb(PNG[:HEAD] + 17 * note + PNG[HEAD:])


def test_a_jpeg_of_very_many_scans_is_refused():
    whole = cv2.imencode(".jpg", np.zeros((64, 64, 3), np.uint8), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    last = whole.rfind(b"\xff\xda")
    refuse_bomb(whole)
    with pytest.raises(DataError, match="has 1,009 scans; more than 200 are refused"):
        refuse_bomb(whole[:last] + 1000 * whole[last:-2] + whole[-2:])
    early_end = b"\xff\xfe\x00\x04\xff\xd9"  # a note that holds the two bytes of an end
    with pytest.raises(DataError, match="has 1,009 scans; more than 200 are refused"):
        refuse_bomb(whole[:last] + 1000 * (early_end + whole[last:-2]) + whole[-2:])


@pytest.mark.parametrize("junk", [b"\0", b"\xff\xd0", b"\xff\x01", b"junk"])
def test_what_libjpeg_passes_over_hides_no_scan(junk):
    content = cv2.imencode(".jpg", NOISE, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    first = content.find(b"\xff\xda")
    assert scans_of(content[:first] + junk + content[first:]) == scans_of(content) == 10


@pytest.mark.parametrize("progressive", [0, 1])
def test_what_lies_behind_a_picture_is_not_counted(progressive):
    whole = cv2.imencode(".jpg", NOISE, [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive, cv2.IMWRITE_JPEG_RST_INTERVAL, 2])[
        1
    ]
    refuse_bomb(whole.tobytes() + 1000 * b"\xff\xda\x00\x02")
    assert scans_of(whole.tobytes() + 1000 * b"\xff\xda\x00\x02") == (1 if not progressive else 10)


@pytest.mark.parametrize("ending", [".png", ".jpg", ".webp", ".tiff", ".bmp", ".gif"])
def test_whole_pictures_of_one_colour_and_of_noise_pass_and_damaged_ones_are_left_to_the_decoder(ending):
    for image in (np.zeros((900, 900, 3), np.uint8), picture("red", 3, 200, 300)):
        whole = content(image, ending)
        for length in (len(whole), len(whole) // 2, 40, 10):
            refuse_bomb(whole[:length])
