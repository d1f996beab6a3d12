"""Photos, overlays and sheets, pixel by pixel where it matters."""

import cv2
import numpy as np
import pytest

from registry.reports.pictures import TILE, Tile, as_rgb, enlarged, file_name, grid, overlay, sheet, write_png

PHOTO = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def test_a_map_without_heat_leaves_the_photo_untouched():
    assert np.array_equal(overlay(PHOTO, np.zeros((20, 30)), 1.0, "turbo"), PHOTO)
    assert np.array_equal(overlay(PHOTO, np.ones((20, 30)), 0.0, "turbo"), PHOTO)


@pytest.mark.parametrize(("name", "last"), [("jet", (128, 0, 0)), ("inferno", (252, 255, 164)), ("turbo", (122, 4, 3))])
def test_the_hottest_corner_is_the_colour_maps_last_colour_in_rgb(name, last):
    heat = np.zeros((20, 30))
    heat[0, 0] = 1
    painted = overlay(PHOTO, heat, 1.0, name)
    assert np.abs(painted[0, 0].astype(int) - last).max() <= 1
    assert np.array_equal(painted[1:], PHOTO[1:])


def test_opacity_grows_with_the_heat():
    black, heat = np.zeros((1, 3, 3), np.uint8), np.array([[0.25, 0.5, 1.0]])
    for alpha in (0.3, 0.9):
        painted = overlay(black, heat, alpha, "hot").astype(float)
        levels = np.rint(heat * 255).astype(np.uint8)
        colors = cv2.applyColorMap(levels, cv2.COLORMAP_HOT)[:, :, ::-1]
        assert np.abs(painted - colors * (alpha * heat)[:, :, None]).max() <= 0.51


@pytest.mark.parametrize(
    "shape", [(32, 32, 3), (32, 32, 1), (32, 32, 4), (32, 32), (300, 500, 3), (1, 1, 3), (1, 999, 3)]
)
def test_photos_of_any_shape_become_rgb_of_the_tiles_size(shape):
    image = np.full(shape, 77, np.uint8)
    found = enlarged(image)
    assert found.dtype == np.uint8
    assert max(found.shape[:2]) == TILE
    assert found.shape[2] == 3
    assert (found == 77).all()


def test_a_fourth_channel_is_dropped_and_one_channel_is_grey():
    four = np.dstack([PHOTO, np.full((20, 30), 9, np.uint8)])
    assert np.array_equal(as_rgb(four), PHOTO)
    assert np.array_equal(as_rgb(PHOTO[:, :, :1])[:, :, 2], PHOTO[:, :, 0])


def test_a_png_is_read_back_as_it_was(tmp_path):
    write_png(tmp_path / "new" / "a.png", PHOTO, below=tmp_path)
    assert np.array_equal(cv2.imread(str(tmp_path / "new" / "a.png"))[:, :, ::-1], PHOTO)


def test_a_sheet_shows_each_picture_as_it_is():
    tiles = [Tile(np.full((40, TILE, 3), value, np.uint8), ("words",)) for value in (10, 200)]
    picture = sheet([("first", tiles)], "A title", "and more")
    for value in (10, 200):
        assert (picture == value).all(axis=2).sum() >= 40 * TILE


def test_a_pale_tile_is_paler():
    dark = np.zeros((40, TILE, 3), np.uint8)
    shown, pale = (sheet([("", [Tile(dark, pale=flag)])]).mean() for flag in (False, True))
    assert pale > shown


def test_a_long_title_widens_the_sheet_and_long_words_shrink():
    tile = Tile(np.zeros((40, TILE, 3), np.uint8), ("a very long class name that has no end " * 3,))
    assert sheet([("", [tile])], "An exceedingly long title of a strip " * 3).shape[1] > 2 * TILE
    assert sheet([("", [tile])]).shape[1] < TILE + 40


def test_a_grid_has_as_many_rows_as_it_needs():
    tiles = [Tile(np.zeros((50, TILE, 3), np.uint8))] * 7
    assert grid(tiles, 3).shape[0] > grid(tiles, 4).shape[0] > grid(tiles, 7).shape[0]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("Golden Retriever", "golden-retriever"),
        ("../../etc/passwd", "etc-passwd"),
        ("🐱", "x"),
        ("", "x"),
        ("a" * 99, "a" * 24),
    ],
)
def test_class_names_become_harmless_file_names(words, expected):
    assert file_name(words) == expected
