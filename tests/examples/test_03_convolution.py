"""The third example: its ways to convolve agree with each other and with finite differences, and it says so."""
import re
from importlib import import_module

import numpy as np
import pytest

example = import_module("examples.03_convolution")


def arrays(N, H, W, C, F):
    rng = np.random.default_rng(1)
    return [rng.standard_normal(shape) for shape in ((N, H, W, C), (3, 3, C, F), (N, H, W, F))]


@pytest.mark.parametrize("way", [example.im2col, example.kernel, example.op], ids=lambda way: way.__name__)
def test_all_ways_give_what_the_loops_give(way):
    x, w, dy = arrays(2, 5, 7, 3, 4)
    for result, right in zip(way(x, w, dy), example.loops(x, w, dy), strict=True):
        np.testing.assert_allclose(result, right, rtol=0, atol=1e-12)       # float64: sums of up to 70 products of size about 1


def test_the_gradients_of_the_loops_are_what_finite_differences_measure():
    x, w, dy = arrays(1, 3, 4, 2, 2)
    _, dx, dw = example.loops(x, w, dy)
    for array, gradient, at in ((x, dx, (0, 0, 3, 1)), (x, dx, (0, 1, 1, 0)), (w, dw, (0, 2, 1, 1)), (w, dw, (1, 1, 0, 0))):
        sums = []
        for step in (1e-3, -1e-3):
            array[at] += step
            sums.append(np.sum(dy * example.loops(x, w, dy)[0]))
            array[at] -= step
        # y is linear in either, so the difference is exact but for rounding: 1e-15 of sums of about 10, over 2e-3.
        assert (sums[0] - sums[1]) / 2e-3 == pytest.approx(gradient[at], abs=1e-10)


def test_it_prints_equal_numbers_and_their_speeds(monkeypatch, capsys):
    monkeypatch.setattr(example, "SMALL", dict(N=1, H=4, W=4, C=3, F=2))
    monkeypatch.setattr(example, "UNET", dict(N=1, H=8, W=8, C=16, F=16))
    monkeypatch.setattr(example, "ROUNDS", 1)
    example.main()
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    rows = re.findall(r"^ +(im2col|kernel|op) +(\de\S+) +(\de\S+) +(\de\S+) +([\d.]+) ms +[\d.,]+x$", printed, flags=re.M)
    assert [name for name, *_ in rows] == ["im2col", "kernel", "op", "kernel", "op"]      # the second table is off from its im2col
    for name, *off, milliseconds in rows:
        assert all(float(number) < 5e-5 for number in off) and float(milliseconds) > 0    # float32: as tests/kernels allows
