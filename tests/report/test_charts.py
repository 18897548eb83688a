"""The log read back, and the three drawings of it."""
import re

import numpy as np
import pytest
from PIL import Image

from tests.report.runs import made_up_log, write_run
from tinydiff.report import RunLog, loss_png, loss_svg, loss_text, read_log
from tinydiff.report.charts import MOST_POINTS, axes, linear_ticks, log_ticks, smooth
from tinydiff.report.pictures import ACCENT


def test_a_log_comes_back_as_it_was_written(tmp_path):
    log = made_up_log()
    back = read_log(write_run(tmp_path) / "log.csv")
    for ours, theirs in zip(log, back):
        np.testing.assert_array_equal(ours, theirs)


def test_history_has_the_mean_of_each_finished_epoch():
    log = RunLog(np.arange(1, 6), np.array([1, 1, 2, 2, 3]), np.array([4.0, 2, 1, 2, 9]),
                 np.array([np.nan, 5, np.nan, 6, np.nan]), np.ones(5))
    assert log.history() == [{"epoch": 1, "loss": 3.0, "held_out_loss": 5.0}, {"epoch": 2, "loss": 1.5, "held_out_loss": 6.0}]
    without = log._replace(held_out_loss=np.full(5, np.nan))
    assert [row["epoch"] for row in without.history()] == [1, 2]                     # the third has one step of two
    assert [row["epoch"] for row in RunLog(*(column[:4] for column in without)).history()] == [1, 2]
    assert without.history()[1] == {"epoch": 2, "loss": 1.5, "held_out_loss": None}


def test_a_damaged_log_is_named_with_its_line(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("step,epoch,loss,held_out_loss,grad_norm,lr,seconds\n1,1,0.5,,1,1,1\n2,1,oops,,1,1,1\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"log\.csv, line 3"):
        read_log(path)
    with pytest.raises(FileNotFoundError):
        read_log(tmp_path / "none.csv")


def test_smoothing_keeps_a_line_a_line_and_takes_the_noise_off():
    line = np.linspace(3, 1, 400)
    np.testing.assert_allclose(smooth(line)[5:-5], line[5:-5], rtol=1e-12)      # centred: neither late nor early
    noise = np.random.default_rng(0).standard_normal(4000)
    assert smooth(noise)[100:-100].std() < 0.2                         # means of 101: a standard deviation of 0.1
    assert np.abs(smooth(noise)[[0, -1]]).max() < 0.6                  # at the ends of 51: 0.14


def test_ticks_are_round_numbers_within_the_range():
    assert log_ticks(0.018, 1.1) == pytest.approx([0.02, 0.05, 0.1, 0.2, 0.5, 1.0])
    assert log_ticks(0.11, 0.14) == pytest.approx([0.11, 0.12, 0.13, 0.14])
    assert linear_ticks(1, 1140, 6, whole=True) == [200, 400, 600, 800, 1000]
    assert linear_ticks(1, 3, 6, whole=True) == [1, 2, 3]


def test_the_loss_axis_is_logarithmic():
    a = axes(made_up_log())
    low, middle, high = a.y([a.low, (a.low * a.high) ** 0.5, a.high])
    assert (low, middle, high) == pytest.approx((0, 0.5, 1))
    with pytest.raises(ValueError, match="no steps"):
        axes(RunLog(*[np.zeros(0)] * 5))


def test_a_long_run_is_drawn_with_few_points_and_the_same_ends():
    a = axes(made_up_log(steps=60_000))
    assert len(a.steps) == MOST_POINTS and a.loss.mean() == pytest.approx(made_up_log(steps=60_000).loss.mean())


@pytest.mark.parametrize("log", [made_up_log(), made_up_log(held_out=False), made_up_log(steps=1, epochs=1)],
                         ids=["usual", "all", "one step"])
def test_every_drawing_takes_every_log(log, tmp_path):
    loss_png(log, tmp_path / "loss.png", width=900, height=480)
    with Image.open(tmp_path / "loss.png") as image:
        pixels = np.asarray(image).astype(int)
    assert pixels.shape == (480, 900, 3)
    assert (np.abs(pixels - ACCENT).sum(2) < 30).sum() > 20             # the legend's dot at least
    svg = loss_svg(log)
    assert svg.count("<circle") == len(log.held_out_points()[0]) and svg.count("<polyline") == 2
    assert ("held-out" in loss_text(log)) == bool(len(log.held_out_points()[0]))


def test_the_curve_in_the_picture_falls(tmp_path):
    loss_png(made_up_log(), tmp_path / "loss.png")
    with Image.open(tmp_path / "loss.png") as image:
        curve = np.abs(np.asarray(image).astype(int) - ACCENT).sum(2) < 30
    curve[:60] = False                                                  # the legend
    rows, columns = np.nonzero(curve)
    assert rows[columns < 300].mean() < rows[columns > 900].mean() - 200


@pytest.mark.parametrize("width", [20, 40, 72])
def test_the_text_chart_fits_its_width_and_falls(width):
    text = loss_text(made_up_log(), width=width, height=10, unicode=False)
    assert text.isascii()
    lines = text.split("\n")
    assert max(map(len, lines[:11])) <= width
    first = [i for i, line in enumerate(lines[:10]) if re.match(r".{8}\|[*o]", line)]
    last = [i for i, line in enumerate(lines[:10]) if line[9:].rstrip()[-1:] in ("*", "o") and len(line) >= width - 2]
    assert max(first) < min(last)


def test_the_braille_chart_has_the_curve_of_the_ascii_chart():
    plain, fine = (loss_text(made_up_log(held_out=False), height=12, unicode=unicode).split("\n")[:12] for unicode in (False, True))
    agree = sum((plain[i][c:c + 1].strip() != "") == (fine[i][c:c + 1].strip(" \u2800") != "") for i in range(12) for c in range(9, 71))
    assert agree > 0.95 * 12 * 62
