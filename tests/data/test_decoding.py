"""One file -> one square: every mode, EXIF orientation, cropping and resizing, against values worked out by hand.

Pictures of 8x8 read at size 8 are not resized, so their pixels can be compared exactly. Each is saved twice, because
load_images wants at least two pictures.
"""
import numpy as np
import pytest
from PIL import Image, ImageDraw

from tinydiff.data import load_images


def read_back(folder, image, suffix, size=8, **save):
    for name in ("a", "b"):
        image.save(folder / f"{name}.{suffix}", **save)
    pictures = load_images(folder, size=size, on_bad="raise").images
    np.testing.assert_array_equal(pictures[0], pictures[1])
    return pictures[0]


def over_white(value, alpha):
    return round((value * alpha + 255 * (255 - alpha)) / 255)


def palette_picture():
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    return image


PLAIN = {   # mode: (pixel, RGB expected)
    "1": (1, (255, 255, 255)),
    "L": (77, (77, 77, 77)),
    "RGB": ((10, 200, 30), (10, 200, 30)),
    "RGBA": ((200, 100, 50, 128), tuple(over_white(c, 128) for c in (200, 100, 50))),
    "LA": ((80, 64), (over_white(80, 64),) * 3),
    "CMYK": ((0, 255, 102, 51), (204, 0, 122)),                       # (255 - ink) (255 - black) / 255
    "YCbCr": ((76, 85, 255), (254, 0, 0)),                            # JFIF's red
}


@pytest.mark.parametrize("mode", PLAIN)
def test_mode(tmp_path, mode):
    pixel, expected = PLAIN[mode]
    suffix = "tif" if mode in ("CMYK", "YCbCr") else "png"
    got = read_back(tmp_path, Image.new(mode, (8, 8), pixel), suffix)
    assert got.shape == (8, 8, 3) and got.dtype == np.uint8
    assert np.abs(got.astype(int) - expected).max() <= 1, got[0, 0]   # 1: Pillow's whole-number arithmetic


def test_cmyk_jpeg(tmp_path):
    got = read_back(tmp_path, Image.new("CMYK", (8, 8), (0, 255, 102, 51)), "jpg", quality=100)
    assert np.abs(got.astype(int) - (204, 0, 122)).max() <= 3   # JPEG rounds once more on the way there and back


def test_palette(tmp_path):
    assert (read_back(tmp_path, palette_picture(), "png") == (10, 200, 30)).all()


@pytest.mark.parametrize("suffix", ["png", "gif"])
def test_a_transparent_palette_entry_is_white(tmp_path, suffix):
    image = palette_picture()
    image.putpixel((0, 0), 0)
    got = read_back(tmp_path, image, suffix, transparency=0)
    assert got[0, 0].tolist() == [255, 255, 255] and got[1, 1].tolist() == [10, 200, 30]


def test_a_palette_with_an_alpha_for_each_entry(tmp_path):
    got = read_back(tmp_path, palette_picture(), "png", transparency=bytes([255, 128]))   # Pillow warns about these
    assert np.abs(got.astype(int) - [over_white(c, 128) for c in (10, 200, 30)]).max() <= 1


@pytest.mark.parametrize("mode, key", [("RGB", (0, 0, 0)), ("L", 0)])
def test_a_transparent_colour_key_is_white(tmp_path, mode, key):
    assert (read_back(tmp_path, Image.new(mode, (8, 8), key), "png", transparency=key) == 255).all()


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path, suffix):
    values = (np.arange(64, dtype=np.uint16) * 1040).reshape(8, 8)     # 0 .. 65520
    got = read_back(tmp_path, Image.fromarray(values), suffix)
    np.testing.assert_array_equal(got, np.repeat(np.rint(values / 257).astype(np.uint8)[..., None], 3, axis=2))   # 65535 / 255 = 257


def test_32_bit_whole_numbers_count_as_16_bit(tmp_path):
    values = np.full((8, 8), 257 * 90, dtype=np.int32)
    values[0, 0] = 10**6
    got = read_back(tmp_path, Image.fromarray(values), "tif")
    assert got[0, 0].tolist() == [255] * 3 and got[1, 1].tolist() == [90] * 3


@pytest.mark.parametrize("top", [1.0, 255.0, 4000.0])
def test_floats_are_stretched_to_their_own_range(tmp_path, top):
    values = np.linspace(0, top, 64, dtype=np.float32).reshape(8, 8)
    got = read_back(tmp_path, Image.fromarray(values), "tif")
    expected = np.linspace(0, 255, 64).reshape(8, 8)
    assert np.abs(got - expected[..., None]).max() <= 0.501   # rounding to the nearest, and float32


def test_a_flat_float_picture_is_readable(tmp_path):
    assert (read_back(tmp_path, Image.fromarray(np.full((8, 8), 3.5, dtype=np.float32)), "tif") == 0).all()


def test_the_first_frame_of_an_animation(tmp_path):
    red, blue = Image.new("RGB", (8, 8), (255, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 255))
    assert (read_back(tmp_path, red, "gif", save_all=True, append_images=[blue]) == (255, 0, 0)).all()


STORED = {   # EXIF orientation: how a camera that means `upright` stores it
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: np.rot90(upright, 2).transpose(1, 0, 2),
    8: lambda upright: np.rot90(upright, -1),
}


@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation_is_applied(tmp_path, orientation):
    upright = np.random.default_rng(0).integers(0, 256, size=(12, 8, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    got = read_back(tmp_path, Image.fromarray(np.ascontiguousarray(STORED[orientation](upright))), "png", exif=exif)
    np.testing.assert_array_equal(got, upright[2:10])


@pytest.mark.parametrize("width, height", [(300, 100), (100, 300), (97, 41), (41, 97), (64, 64), (20, 31)])
def test_a_circle_stays_a_circle_in_the_centre(tmp_path, width, height):
    """Area, width and height of a disc of 0.6 of the shorter side; one output pixel of tolerance for its blurred edge."""
    big = Image.new("L", (width * 8, height * 8), 255)
    cx, cy, r = width * 4, height * 4, 0.3 * 8 * min(width, height)
    ImageDraw.Draw(big).ellipse((cx - r, cy - r, cx + r, cy + r), fill=0)
    dark = read_back(tmp_path, big.reduce(8), "png", size=64)[..., 0] < 128
    rows, columns = np.flatnonzero(dark.any(axis=1)), np.flatnonzero(dark.any(axis=0))
    assert abs(len(rows) - 38.4) <= 2 and abs(len(columns) - 38.4) <= 2
    assert abs(len(rows) - len(columns)) <= 1
    one_source_pixel = 64 / min(width, height)   # an odd margin cannot be halved
    assert abs(rows.mean() - 31.5) <= max(0.5, one_source_pixel) and abs(columns.mean() - 31.5) <= max(0.5, one_source_pixel)


@pytest.mark.parametrize("vertical", [False, True])
def test_only_the_middle_is_kept(tmp_path, vertical):
    bands = np.zeros((40, 120, 3), dtype=np.uint8)
    for i in range(3):
        bands[:, 40 * i:40 * (i + 1), i] = 255   # red, green, blue
    got = read_back(tmp_path, Image.fromarray(bands.transpose(1, 0, 2).copy() if vertical else bands), "png", size=16)
    assert (got == (0, 255, 0)).all()


def test_fine_detail_becomes_its_mean_not_a_pattern(tmp_path):
    checks = (np.indices((510, 510)).sum(axis=0) % 2 * 255).astype(np.uint8)
    got = read_back(tmp_path, Image.fromarray(checks), "png", size=64)
    assert np.abs(got.astype(float) - 127.5).max() < 12   # without a filter it would be 0 or 255


def test_a_large_jpeg_looks_like_its_png(tmp_path):
    """The decoder's own shrinking must not shift or alter the picture."""
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, size=(12, 20, 3), dtype=np.uint8)).resize((1600, 960), Image.Resampling.BICUBIC)
    smooth.save(tmp_path / "a.png")
    smooth.save(tmp_path / "b.jpg", quality=98, subsampling=0)
    png, jpg = load_images(tmp_path, size=48).images.astype(float)
    assert np.abs(png - jpg).mean() < 1 and np.abs(png - jpg).max() < 8


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1)])
def test_a_tiny_picture_is_enlarged(tmp_path, shape):
    assert (read_back(tmp_path, Image.new("RGB", shape, (9, 8, 7)), "png", size=16) == (9, 8, 7)).all()
