"""Sheets, strips and animations: every pixel of every picture where it belongs."""
import numpy as np
import pytest
from PIL import Image

from tinydiff.report import denoising_frame, gif, grid, side_by_side, strip
from tinydiff.report.pictures import CARD, MARGIN


def pictures(n, size=8, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, channels), dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_holds_every_picture_enlarged_in_reading_order(channels):
    images, scale, gap = pictures(5, channels=channels), 3, 4
    sheet = np.asarray(grid(images, columns=2, scale=scale, gap=gap))
    for i, image in enumerate(images):
        y, x = (MARGIN + place * (8 * scale + gap) for place in divmod(i, 2))
        shown = sheet[y:y + 24, x:x + 24]
        np.testing.assert_array_equal(shown, np.broadcast_to(image, (8, 8, 3)).repeat(3, 0).repeat(3, 1))
    assert (sheet[-MARGIN - 24:-MARGIN, -MARGIN - 24:-MARGIN] == CARD).all()         # the sixth place is empty


@pytest.mark.parametrize("n, columns", [(1, 1), (2, 2), (7, 3), (8, 4), (16, 4), (40, 8), (64, 8)])
def test_a_grid_is_balanced_when_the_columns_are_left_to_it(n, columns):
    sheet = grid(pictures(n, size=4), scale=1, gap=0)
    assert sheet.size == (2 * MARGIN + 4 * columns, 2 * MARGIN + 4 * -(-n // columns))


@pytest.mark.parametrize("images, error, message", [
    (np.zeros((2, 4, 4, 3)), TypeError, r"float64 .*\(2, 4, 4, 3\)"),
    (np.zeros((4, 4, 3), np.uint8), ValueError, r"\(4, 4, 3\)"),
    (np.zeros((0, 4, 4, 3), np.uint8), ValueError, r"\(0, 4, 4, 3\)"),
    (np.zeros((2, 4, 4, 4), np.uint8), ValueError, r"\(2, 4, 4, 4\)"),
])
def test_what_is_no_pictures_is_refused(images, error, message):
    with pytest.raises(error, match="grid: .*" + message):
        grid(images)


def test_a_strip_has_two_equal_halves_and_its_captions_in_them():
    images = np.full((4, 8, 8, 3), 90, np.uint8)
    bare = np.asarray(strip(images, ["", "", "", ""], scale=8))
    told = np.asarray(strip(images, ["", "", "", "t = 999"], scale=8))
    assert bare.shape[1] % 2 == 0 and bare.shape == told.shape
    half = bare.shape[1] // 2
    np.testing.assert_array_equal(bare[:, :half], bare[:, half:])
    changed = np.nonzero((bare != told).any(axis=(0, 2)))[0]
    assert changed.min() >= 3 * half // 2 and changed.size > 20                # under the fourth picture only


def test_rows_of_a_strip_share_captions_and_have_titles():
    rows = np.stack([pictures(3), pictures(3, seed=1)])
    sheet = np.asarray(strip(rows, ["a\n1", "b\n2", "c\n3"], titles=["above", "below"], scale=2))
    flat = sheet.reshape(-1, 3)
    for image in rows.reshape(-1, 8, 8, 3):
        assert (flat == image[0, 0]).all(1).any()
    with pytest.raises(ValueError, match="2 captions for 3 pictures"):
        strip(rows, ["a", "b"])
    with pytest.raises(ValueError, match="1 titles for 2 rows"):
        strip(rows, ["a", "b", "c"], titles=["one"])


def test_side_by_side_keeps_both_images_and_fills_the_bar():
    left, right = Image.new("RGB", (150, 60), (200, 0, 0)), Image.new("RGB", (150, 60), (0, 200, 0))
    empty, full = (np.asarray(side_by_side(left, right, ("x_t", "x_0"), "t = 3", done)) for done in (0.0, 1.0))
    assert (empty[50, 75] == (200, 0, 0)).all() and (empty[50, 225] == (0, 200, 0)).all()
    assert (empty != full).any(2).sum() > 150


def test_a_gif_moves_holds_its_last_frame_loops_and_keeps_its_colours(tmp_path):
    noise, cat = pictures(8, size=16), np.zeros((8, 16, 16, 3), np.uint8)
    cat[..., 0] = np.linspace(0, 255, 16).astype(np.uint8)                              # a smooth ramp: few colours would show
    frames = [denoising_frame(noise, cat, t, 1 - t / 999) for t in (999, 500, -1)]
    gif(iter(frames), tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as movie:
        assert movie.n_frames == 3 and movie.info["loop"] == 0
        durations = []
        for i in range(3):
            movie.seek(i)
            durations.append(movie.info["duration"])
            right = slice(frames[i].width // 2, None)
            error = np.asarray(movie.convert("RGB"))[40:-30, right].astype(int) - np.asarray(frames[i])[40:-30, right]
            assert np.sqrt((error ** 2).mean()) < 4              # 176 colours are enough for a ramp of 16 and the card
    assert durations[2] > 10 * durations[1]
    with pytest.raises(ValueError, match="no frames"):
        gif([], tmp_path / "b.gif")


def test_an_animation_of_one_frame_is_a_gif_too(tmp_path):
    gif([denoising_frame(pictures(2), pictures(2), 9, 1.0)], tmp_path / "one.gif")
    with Image.open(tmp_path / "one.gif") as movie:
        assert movie.n_frames == 1


def test_eight_cats_in_noise_stay_below_three_megabytes(tmp_path):
    guess = pictures(8).repeat(8, 1).repeat(8, 2)
    frames = [denoising_frame(pictures(8, size=64, seed=i), guess, 500, 0.5) for i in range(6)]
    gif(frames, tmp_path / "a.gif")
    assert (tmp_path / "a.gif").stat().st_size * 26 / 6 < 3e6
