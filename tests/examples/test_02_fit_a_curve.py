"""The second example, cut short: its network learns, one without bends learns the best straight line and no more, and both plots are drawn."""
import re
from importlib import import_module

import numpy as np
import pytest
from PIL import Image

example = import_module("examples.02_fit_a_curve")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """What it prints in 600 steps, and its picture."""
    with pytest.MonkeyPatch.context() as patch:
        lines, picture = [], tmp_path_factory.mktemp("curve") / "deep" / "curve.png"
        patch.setattr(example, "STOPS", (0, 20, 100, 600))
        patch.setattr(example, "PICTURE", picture)
        patch.setattr("builtins.print", lambda text: lines.append(str(text)))
        example.main()
    printed = "\n".join(lines)
    assert max(map(len, printed.splitlines())) <= 80
    return printed, picture


def test_it_learns_the_curve(run):
    rows = [list(map(float, row)) for row in re.findall(r"^ +(\d+) +(\S+) +(\S+)$", run[0], flags=re.M)]
    assert [step for step, _, _ in rows] == [0, 20, 100, 600]
    for column in (1, 2):                   # the loss at the points, and how far off it is everywhere
        values = [row[column] for row in rows]
        assert values == sorted(values, reverse=True) and values[-1] < 0.2 * values[0]


def test_without_bends_it_is_a_straight_line(run):
    reached, best = map(float, re.search(r"without silu.*loss (\S+)\.\n.* has (\S+)\.", run[0]).groups())
    assert best <= reached < 1.01 * best and best > 0.3


def test_the_letters_lie_where_the_points_are():
    x, y = np.array([[-1.0], [0.0], [1.0]]), np.array([[1.5], [0.0], [-1.5]])
    assert example.text_plot(lambda tensor: tensor, x, y, width=21, height=7) == [      # a network that answers x: a line upwards
        " |o",
        " |                  ***",
        " |             *****",
        " |        **o**",
        " |   *****",
        " |***",
        " |                    o",
        " +---------------------"]


def test_the_picture_shows_a_panel_for_each_stop(run):
    with Image.open(run[1]) as image:
        pixels = np.asarray(image)
    assert pixels.shape == (2 * 10 + 2 * 260 + 4, 2 * 10 + 3 * 400 + 2 * 4, 3)
    orange = (pixels == (255, 159, 67)).all(axis=-1)
    for row, column in ((0, 0), (0, 1), (0, 2), (1, 0)):
        assert orange[10 + row * 264:270 + row * 264, 10 + column * 404:410 + column * 404].any()
    assert not orange[274:, 414:].any()     # four panels, not five
