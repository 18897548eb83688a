"""Prediction targets: round trips, values by hand, and the corners without an answer."""
import numpy as np
import pytest
from hypothesis import given, strategies as st

from tinydiff.diffusion import TARGETS, from_x0_eps, to_x0_eps

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
    assert answers == pytest.approx({"eps": -1, "x0": 2, "v": 0.6 * -1 - 0.8 * 2, "flow": -3})


@pytest.mark.parametrize("alpha, sigma, answering", [(0.0, 1.0, ("x0", "v", "flow")), (1.0, 0.0, ("eps", "v", "flow"))])
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
    with pytest.raises(ValueError, match="unknown target 'score'; choose one of eps, x0, v, flow"):
        from_x0_eps("score", X0, EPS, 0.6, 0.8)
    with pytest.raises(ValueError, match="unknown target 'score'"):
        to_x0_eps("score", X0, X0, 0.6, 0.8)
