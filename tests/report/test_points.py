"""Clouds of points and arrows: each where it belongs, in its colour."""
import numpy as np
import pytest

from tinydiff.report import arrows, point_cloud
from tinydiff.report.pictures import CARD, INK


def test_a_point_lies_where_it_is_and_has_its_colour():
    picture = point_cloud([[-0.5, 0.75]], [1.0], size=100, reach=1.0)
    assert picture.shape == (100, 100, 3) and picture.dtype == np.uint8
    row, column = np.unravel_index(picture.sum(axis=-1).argmax(), (100, 100))
    # x = -0.5 of -1 to 1 is a quarter from the left, y = 0.75 an eighth from the top; a point between two pixels may be in either.
    assert abs(column - 24.5) <= 0.5 and abs(row - 12) <= 0.5
    red, green, blue = picture[row, column].astype(int)
    assert blue > green > red                                               # the blue end
    assert (picture[60:] == CARD).all()                                     # and nothing far away


def test_the_colours_run_from_yellow_to_blue():
    picture = point_cloud([[-0.9, 0], [0, 0], [0.9, 0]], [0.0, 0.5, 1.0], size=101, reach=1.0).astype(int)
    yellow, pink, blue = picture[50, [5, 50, 95]]
    assert yellow[0] > yellow[2] + 50 and pink[0] > pink[1] + 50 and blue[2] > blue[0] + 50


def test_what_lies_beyond_the_picture_is_left_out():
    np.testing.assert_array_equal(point_cloud([[5.0, 0.0]], [0.0]), point_cloud(np.empty((0, 2)), []))


def test_an_arrow_goes_from_its_point_along_its_way():
    blank = np.full((100, 100, 3), CARD, np.uint8)
    picture = arrows(blank, [[-0.5, 0.0]], [[0.0, 0.8]], reach=1.0)         # from the left, half way down, upwards
    rows, columns = np.nonzero((picture != CARD).any(axis=-1))
    assert abs(rows.min() - 10) <= 1 and abs(rows.max() - 50) <= 1          # y = 0.8 is 10 pixels from the top
    head, tail = columns[rows < 20], columns[rows > 30]
    assert np.ptp(tail) <= 2 < 6 <= np.ptp(head) and abs(np.median(head) - 24.5) <= 1       # the head is wide, and at the upper end
    assert (picture == INK).all(axis=-1).any()


def test_arrows_dim_the_picture():
    bright = np.full((10, 10, 3), 200, np.uint8)
    assert (arrows(bright, np.empty((0, 2)), np.empty((0, 2))) < 130).all()


@pytest.mark.parametrize("draw, words", [
    (lambda: point_cloud(np.zeros((3, 3)), np.zeros(3)), r"point_cloud: points must be \(n, 2\), got \(3, 3\)"),
    (lambda: point_cloud(np.zeros((3, 2)), np.zeros(2)), r"one number for each of the 3 points, got \(2,\)"),
    (lambda: arrows(np.zeros((9, 9, 3), np.uint8), np.zeros((3, 2)), np.zeros((1, 2))), r"one shape \(points \(3, 2\), ways \(1, 2\)\)")])
def test_wrong_shapes_are_named(draw, words):
    with pytest.raises(ValueError, match=words):
        draw()
