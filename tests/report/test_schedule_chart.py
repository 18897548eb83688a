"""The chart of schedules: its scales, its curves in the picture, and what it cannot draw."""
import numpy as np
import pytest
from PIL import Image

from tinydiff.diffusion import SCHEDULES, Schedule, flow, karras, linear
from tinydiff.report import schedules_png
from tinydiff.report.pictures import CARD
from tinydiff.report.schedule_chart import COLOURS, panels


def test_the_scales():
    alpha, sigma, log_snr = panels([karras(10), flow(10)])
    assert [label for _, label in alpha.ticks] == ["0", "0.2", "0.4", "0.6", "0.8", "1"]
    assert [label for _, label in sigma.ticks] == ["0.01", "0.1", "1", "10", "100"]  # powers of ten, from 0.002 to 80 and a little
    np.testing.assert_allclose([height for height, _ in sigma.ticks], [-2, -1, 0, 1, 2], atol=1e-12)
    # flow ends at minus infinity, which lies on the lower edge; the least finite one is Karras's last, -2 ln 80, and not on it.
    assert log_snr.curves[1][-1] == log_snr.low < log_snr.curves[0][-1] == pytest.approx(-2 * np.log(80))


def mask(path, colour):
    with Image.open(path) as image:
        return np.abs(np.asarray(image).astype(int) - colour).sum(axis=2) < 30


def test_the_curves_lie_where_they_should(tmp_path):
    """In the first panel flow falls along a straight line from the upper left to the lower right; log SNR falls in the third."""
    schedules_png({"flow": flow(200)}, tmp_path / "one.png", width=1200, height=500)
    curve = mask(tmp_path / "one.png", COLOURS[0])
    assert curve.shape == (500, 1200)
    curve[400:] = False                                                 # the legend
    rows, columns = np.nonzero(curve[:, :400])
    assert np.corrcoef(rows, columns)[0, 1] > 0.999
    rows, columns = np.nonzero(curve[:, 800:])
    assert rows[columns < columns.min() + 20].mean() < 200 < 300 < rows[columns > columns.max() - 20].mean()


def test_every_schedule_is_drawn_in_a_colour_of_its_own(tmp_path):
    schedules_png({name: make(50) for name, make in SCHEDULES.items()}, tmp_path / "all.png")
    for colour in COLOURS[:len(SCHEDULES)]:
        assert mask(tmp_path / "all.png", colour)[:490].sum() > 100     # above the legend
    assert mask(tmp_path / "all.png", CARD).mean() > 0.7


def test_what_cannot_be_drawn(tmp_path):
    with pytest.raises(ValueError, match="0 schedules; it draws 1 to 8"):
        schedules_png({}, tmp_path / "x.png")
    with pytest.raises(ValueError, match="9 schedules"):
        schedules_png({str(i): linear(5) for i in range(9)}, tmp_path / "x.png")
    with pytest.raises(ValueError, match="T = 1 is one point"):
        schedules_png({"one": Schedule([0.6], [0.8])}, tmp_path / "x.png")
