"""Prediction targets: round trips, values by hand, what the network is fed, and the corners without an answer."""
import math

import numpy as np
import pytest
from hypothesis import given, strategies as st

from tinydiff.diffusion import TARGETS, Schedule, from_x0_eps, karras, linear, q_sample, to_x0_eps
from tinydiff.diffusion.targets import network_inputs, x0_error

X0, EPS = np.random.default_rng(0).standard_normal((2, 3, 4, 4, 2))


def pictures(a):
    return np.asarray(a)[:, None, None, None]


@pytest.mark.parametrize("target", TARGETS)
@given(alpha=st.lists(st.floats(0.01, 1), min_size=3, max_size=3), sigma=st.lists(st.floats(0.01, 80), min_size=3, max_size=3))
def test_round_trip(target, alpha, sigma):
    """Any alpha and sigma, not only those with alpha^2 + sigma^2 = 1, and another pair for each picture."""
    alpha, sigma = np.array(alpha), np.array(sigma)
    x_t = pictures(alpha) * X0 + pictures(sigma) * EPS
    x0, eps = to_x0_eps(target, from_x0_eps(target, X0, EPS, alpha, sigma), x_t, alpha, sigma)
    # x_t is rounded at the size of alpha x0 + sigma eps, at most 4 (alpha + sigma) here, and divided by alpha or sigma.
    atol = 16 * np.finfo(float).eps * (alpha + sigma) / np.minimum(alpha, sigma)
    assert np.all(np.abs(x0 - X0) <= pictures(atol)) and np.all(np.abs(eps - EPS) <= pictures(atol))


def test_targets_by_hand():
    x0, eps = np.array([[2.0]]), np.array([[-1.0]])
    answers = {target: from_x0_eps(target, x0, eps, 0.6, 0.8).item() for target in TARGETS}
    edm = (0.8 * 2 / 0.5 - 0.6 * 0.5 * -1) / math.sqrt(0.8**2 + 0.3**2)
    assert answers == pytest.approx({"eps": -1, "x0": 2, "v": 0.6 * -1 - 0.8 * 2, "flow": -3, "edm": edm})


@pytest.mark.parametrize("alpha, sigma", [(1.0, 0.002), (1.0, 80.0), (0.6, 0.8), (0.3, 0.01)])
def test_edm_as_the_paper_writes_it(alpha, sigma):
    """D(y + n; s) = c_skip (y + n) + c_out F, with the coefficients of Karras et al. 2022, table 1; y + n is x_t/alpha, s is sigma/alpha."""
    s, sd = sigma / alpha, 0.5
    c_skip, c_out, c_in = sd**2 / (s**2 + sd**2), s * sd / math.sqrt(s**2 + sd**2), 1 / math.sqrt(s**2 + sd**2)
    x_t, out = alpha * X0 + sigma * EPS, np.random.default_rng(1).standard_normal(X0.shape)
    x0, eps = to_x0_eps("edm", out, x_t, alpha, sigma)
    np.testing.assert_allclose(x0, c_skip * x_t / alpha + c_out * out, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(alpha * x0 + sigma * eps, x_t, rtol=1e-12, atol=1e-12)
    schedule = Schedule([alpha], [sigma])
    picture, time = network_inputs("edm", x_t, schedule, 0)
    np.testing.assert_allclose(picture, c_in * x_t / alpha, rtol=1e-12)
    np.testing.assert_allclose(time, np.full(3, 1000 * math.log(s) / 4), rtol=1e-12)


def test_edm_sees_and_answers_numbers_of_variance_1():
    n, schedule = 10_000, karras(10)
    rng = np.random.default_rng(0)
    x0, eps = 0.5 * rng.standard_normal((10, n)), rng.standard_normal((10, n))
    t = np.arange(10.0)
    picture, _ = network_inputs("edm", q_sample(schedule, x0, t, eps), schedule, t)
    for numbers in (picture, from_x0_eps("edm", x0, eps, *schedule.at(t))):
        assert np.abs(numbers.var(axis=1) - 1).max() < 4.5 * math.sqrt(2 / n)  # standard error of a normal variance, 10 times


@pytest.mark.parametrize("target", ["eps", "x0", "v", "flow"])
def test_other_networks_see_x_t_and_thousandths_of_T(target):
    picture, times = network_inputs(target, X0.astype(np.float32), linear(200), np.array([0, 50, 199]))
    np.testing.assert_array_equal(picture, X0.astype(np.float32))
    assert times.dtype == np.float32 and times.tolist() == [0, 250, 995]


def test_edm_networks_in_float32_and_at_the_ends():
    picture, times = network_inputs("edm", X0.astype(np.float32), karras(5), 2.0)
    assert picture.dtype == times.dtype == np.float32 and times.shape == (3,)
    zero = Schedule([0.9, 0.0], [0.5, 1.0])
    for t in (-1, 1, np.array([0.0, 0.5, 1.0])):
        with pytest.raises(ValueError, match="ln.sigma/alpha., which is infinite where alpha = 0 .* use target 'v' or 'flow'"):
            network_inputs("edm", X0, zero, t)
    with pytest.raises(ValueError, match="each of the 3 pictures"):
        network_inputs("edm", X0, zero, np.zeros(2))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("alpha, sigma", [(0.6, 0.8), (1.0, 80.0), (1.0, 0.002), (0.3, 0.7)])
def test_x0_error_is_how_far_an_error_in_the_answer_moves_x0(target, alpha, sigma):
    x_t, out = alpha * X0 + sigma * EPS, from_x0_eps(target, X0, EPS, alpha, sigma)
    moved = to_x0_eps(target, out + 1, x_t, alpha, sigma)[0] - to_x0_eps(target, out, x_t, alpha, sigma)[0]
    np.testing.assert_allclose(np.abs(moved), x0_error(target, alpha, sigma), rtol=1e-9)  # the difference of numbers up to 1e3 as large


@pytest.mark.parametrize("alpha, sigma, answering", [(0.0, 1.0, ("x0", "v", "flow", "edm")), (1.0, 0.0, ("eps", "v", "flow", "edm"))])
@pytest.mark.parametrize("target", TARGETS)
def test_the_two_ends(target, alpha, sigma, answering):
    x_t, out = alpha * X0 + sigma * EPS, from_x0_eps(target, X0, EPS, alpha, sigma)
    if target in answering:
        x0, eps = to_x0_eps(target, out, x_t, alpha, sigma)
        np.testing.assert_allclose(x0, X0, rtol=0, atol=1e-14)
        np.testing.assert_allclose(eps, EPS, rtol=0, atol=1e-14)
    else:
        for a, s in ((alpha, sigma), (np.array([0.5, alpha, 0.5]), np.array([0.5, sigma, 0.5]))):  # all pictures, or one of them
            with pytest.raises(ValueError, match="use target 'v'"):
                to_x0_eps(target, out, x_t, a, s)


@pytest.mark.parametrize("target", TARGETS)
def test_float32_stays_float32(target):
    x0, eps = X0.astype(np.float32), EPS.astype(np.float32)
    for alpha, sigma in ((0.6, 0.8), (np.full(3, 0.6), np.full(3, 0.8))):
        out = from_x0_eps(target, x0, eps, alpha, sigma)
        assert out.dtype == np.float32
        assert [a.dtype for a in to_x0_eps(target, out, x0, alpha, sigma)] == [np.float32, np.float32]


def test_unknown_target():
    with pytest.raises(ValueError, match="unknown target 'score'; choose one of eps, x0, v, flow, edm"):
        from_x0_eps("score", X0, EPS, 0.6, 0.8)
    with pytest.raises(ValueError, match="unknown target 'score'"):
        x0_error("score", 0.6, 0.8)
    with pytest.raises(ValueError, match="unknown target 'score'"):
        network_inputs("score", X0, linear(), 0)
    with pytest.raises(ValueError, match="unknown target 'score'"):
        to_x0_eps("score", X0, X0, 0.6, 0.8)
