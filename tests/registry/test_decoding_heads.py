"""What a file's header says counts: its turn, its depth, its white, its transparency. Pillow says what is right."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from registry.datasets.decoding import Decoding, decode
from registry.datasets.headers import is_avif, may_be_transparent, white_of
from registry.errors import DataError

NOISE = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
SMOOTH = cv2.resize(NOISE, (60, 40), interpolation=cv2.INTER_CUBIC)
RAMP = np.tile(np.linspace(0, 1, 64), (48, 1))
HALF = np.where(np.arange(60) < 30, 0, 255).astype(np.uint8)[None].repeat(40, 0)


def encoded(image, format_, **options):
    stream = io.BytesIO()
    image.save(stream, format_, **options)
    return stream.getvalue()


def deep_avif(depth):
    levels = np.rint(RAMP * (2**depth - 1)).astype(np.uint8 if depth == 8 else np.uint16)
    options = [cv2.IMWRITE_AVIF_DEPTH, depth, cv2.IMWRITE_AVIF_QUALITY, 100]
    return cv2.imencode(".avif", np.dstack([levels] * 3), options)[1].tobytes()


def netpbm(kind, white, levels):
    values = np.repeat(levels, 1 if kind in ("P2", "P5") else 3)
    words = " ".join(map(str, values)).encode() + b"\n" if kind in ("P2", "P3") else b""
    body = words or values.astype("u1" if white < 256 else ">u2").tobytes()
    return f"{kind}\n# by hand 7 7 7\n{len(levels)} 1\n{white}\n".encode() + body


def jpeg_2000(depth, levels):
    """A lossless grey one of fewer bits: Pillow and OpenCV write 16 only, so its header is rewritten.

    The stream holds levels less half of their range, which is why they are moved first.
    """
    moved = np.array(levels, np.uint16) + (1 << 15) - (1 << depth - 1)
    content = bytearray(encoded(Image.fromarray(moved.astype(np.uint16)), "JPEG2000", irreversible=False))
    content[content.find(b"ihdr") + 14] = content[content.find(b"\xff\x4f\xff\x51") + 42] = depth - 1
    return bytes(content)


@pytest.mark.parametrize("transparent", [False, True])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_avif_is_turned_as_its_boxes_say(orientation, transparent):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(SMOOTH)
    if transparent:
        image.putalpha(Image.fromarray(HALF))
    content = encoded(image, "AVIF", exif=exif.tobytes(), quality=100)
    shown = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGBA")
    expected = np.asarray(Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown).convert("RGB"))
    found = decode(content, "it")
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("depth", [8, 10, 12])
def test_an_avif_of_any_depth_reaches_from_black_to_white(depth):
    found = decode(deep_avif(depth), "it")
    assert np.abs(found[..., 0] - 255 * RAMP).max() <= 3


def test_of_an_avif_that_says_its_depth_there_is_nothing_to_remark(tmp_path):
    path = tmp_path / "deep.avif"
    path.write_bytes(deep_avif(10))
    assert Decoding().remarks(1, lambda _: str(path)) == []


@pytest.mark.parametrize("share", [0.05, 0.2, 0.6, 0.97])
def test_an_avif_cut_short_is_an_error_that_names_it(share):
    content = encoded(Image.fromarray(SMOOTH), "AVIF")
    with pytest.raises(DataError, match=r"half is damaged, cut short, or not an image"):
        decode(content[: int(len(content) * share)], "half")


def test_an_avif_larger_than_any_picture_is_refused_by_its_header(monkeypatch):
    monkeypatch.setattr("registry.datasets.decoding.MAX_PIXELS", 2000)
    with pytest.raises(DataError, match="it is 60 x 40 pixels; more than 2000 are refused"):
        decode(encoded(Image.fromarray(SMOOTH), "AVIF"), "it")


@pytest.mark.parametrize("white", [1, 15, 100, 255, 1023, 4095, 65_535])
@pytest.mark.parametrize("kind", ["P2", "P3", "P5", "P6"])
def test_the_maximum_of_a_netpbm_file_is_its_white(kind, white):
    levels = np.array([0, white // 2, white])
    found = decode(netpbm(kind, white, levels), "it")[0, :, 0]
    assert np.abs(found - 255 * levels / white).max() <= 1
    assert found.tolist()[::2] == [0, 255]


@pytest.mark.parametrize("depth", [10, 12, 16])
def test_jpeg_2000_is_as_deep_as_it_says(depth):
    levels = np.rint(RAMP * (2**depth - 1)).astype(int)
    content = jpeg_2000(depth, levels)
    assert white_of(content) == 2**depth - 1
    assert np.abs(decode(content, "it")[..., 0] - 255 * RAMP).max() <= 1


def test_a_white_level_goes_before_what_a_file_of_16_bits_says_and_leaves_8_alone():
    reader = Decoding(white_level=1000)
    assert reader.decode(netpbm("P5", 4095, np.array([0, 500, 1000])), "it")[0, :, 0].tolist() == [0, 128, 255]
    assert reader.decode(netpbm("P5", 100, np.array([0, 40, 100])), "it")[0, :, 0].tolist() == [0, 102, 255]


def test_what_says_its_white_is_not_remarked_on_and_what_does_not_is(tmp_path):
    path = tmp_path / "it.pgm"
    path.write_bytes(netpbm("P5", 4095, np.array([0, 4095])))
    assert Decoding().remarks(1, lambda _: str(path)) == []
    path.write_bytes(netpbm("P5", 65_535, np.array([0, 4095])))
    assert "the upper 8 bits are used" in Decoding().remarks(1, lambda _: str(path))[0]


def test_white_shows_through_a_transparent_bmp():
    pixels = np.dstack([SMOOTH, HALF])
    content = cv2.imencode(".bmp", pixels, [cv2.IMWRITE_BMP_COMPRESSION, cv2.IMWRITE_BMP_COMPRESSION_BITFIELDS])[1]
    found = decode(content.tobytes(), "it")
    assert (found[:, :30] == 255).all()
    assert np.array_equal(found[:, 30:], SMOOTH[:, 30:, ::-1])


def test_a_bmp_whose_alpha_was_never_written_is_opaque():
    pixels = np.dstack([SMOOTH, np.zeros_like(HALF)])
    content = cv2.imencode(".bmp", pixels, [cv2.IMWRITE_BMP_COMPRESSION, cv2.IMWRITE_BMP_COMPRESSION_BITFIELDS])[1]
    assert np.array_equal(decode(content.tobytes(), "it"), SMOOTH[..., ::-1])


@pytest.mark.parametrize(
    "content",
    [
        *(encoded(Image.fromarray(SMOOTH), format_) for format_ in ("PNG", "JPEG", "WEBP", "AVIF", "BMP", "PPM")),
        *(netpbm("P5", 4095, np.array([0])), jpeg_2000(12, np.zeros((40, 60), int)), b"RIFF\0\0\0\0WEBPVP8X", b"BM"),
    ],
)
def test_no_beginning_of_a_file_is_too_short_to_be_asked(content):
    for length in range(min(len(content), 200)):
        head = content[:length]
        assert may_be_transparent(head) in (True, False)
        assert is_avif(head) in (True, False)
        assert white_of(head) is None or white_of(head) > 0
