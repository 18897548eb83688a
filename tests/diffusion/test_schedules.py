"""Schedules: known constants, the closed form against the one-step kernel, interpolation, and errors that say what is wrong."""
import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tinydiff.diffusion import SCHEDULES, Schedule, cosine, linear

VE = Schedule(np.ones(3), np.array([0.1, 1.0, 10.0]))


def test_linear_by_hand():
    # betas 0.1, 0.2, 0.3: alpha_bar = 0.9, 0.9 * 0.8, 0.9 * 0.8 * 0.7
    schedule = linear(3, 0.1, 0.3)
    np.testing.assert_allclose(schedule.alpha_bar, [0.9, 0.72, 0.504], rtol=1e-14)
    np.testing.assert_allclose(schedule.betas, [0.1, 0.2, 0.3], rtol=1e-14)
    np.testing.assert_allclose(schedule.snr, [9, 0.72 / 0.28, 0.504 / 0.496], rtol=1e-14)
    np.testing.assert_allclose(schedule.log_snr, np.log(schedule.snr), rtol=1e-13)


def test_linear_default_ends():
    schedule = linear()
    assert schedule.T == 1000
    assert schedule.alpha_bar[0] == pytest.approx(0.9999, rel=1e-15)
    # The product of the 1,000 factors as a sum of logarithms, with no array code in common.
    log_alpha_bar = math.fsum(math.log1p(-(1e-4 + (0.02 - 1e-4) * i / 999)) for i in range(1000))
    assert schedule.alpha_bar[-1] == pytest.approx(math.exp(log_alpha_bar), rel=1e-12)
    assert schedule.alpha_bar[-1] == pytest.approx(4.0358e-5, rel=1e-4)


@pytest.mark.parametrize("T", [10, 1000])
def test_cosine_is_the_squared_cosine_until_the_clip(T):
    schedule = cosine(T)
    f = [math.cos((i / T + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(T + 1)]
    # Only the very last beta, which would be 1, is clipped; cumprod's rounding is below T ulp.
    np.testing.assert_allclose(schedule.alpha_bar[:-1], np.array(f[1:-1]) / f[0], rtol=T * 3e-16)
    assert schedule.alpha_bar[-1] == pytest.approx(schedule.alpha_bar[-2] * 0.001, rel=1e-12)
    assert schedule.betas.max() == pytest.approx(0.999, rel=1e-12)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("T", [1, 2, 1000])
def test_one_step_kernel_gives_the_closed_form(name, T):
    """x_t = sqrt(1 - beta) x_{t-1} + sqrt(beta) noise, T times: the factor of x_0 is alpha, and the variance of the noise sigma^2."""
    schedule = SCHEDULES[name](T)
    factor, variance = 1.0, 0.0
    for t, beta in enumerate(schedule.betas):
        factor *= math.sqrt(1 - beta)
        variance = (1 - beta) * variance + beta
        # betas come back from ratios of alpha_bar: a few ulp at each of at most 1,000 steps
        assert factor == pytest.approx(schedule.alpha[t], rel=1e-12)
        assert variance == pytest.approx(schedule.sigma[t] ** 2, rel=1e-11)


@settings(max_examples=50)
@given(st.floats(0, 999))
def test_at_interpolates_the_squares(t):
    schedule = cosine()
    low, part = int(t), t - int(t)
    high = min(low + 1, 999)
    alpha, sigma = schedule.at(t)
    assert alpha**2 == pytest.approx((1 - part) * schedule.alpha[low] ** 2 + part * schedule.alpha[high] ** 2, rel=1e-10)
    assert alpha**2 + sigma**2 == pytest.approx(1, rel=1e-14)


def test_at_grid_points_ends_arrays_and_scalars():
    schedule = linear()
    alpha, sigma = schedule.at(np.arange(1000))
    np.testing.assert_allclose(alpha, schedule.alpha, rtol=3e-16)  # the square and its root round once each
    np.testing.assert_allclose(sigma, schedule.sigma, rtol=3e-16)
    assert schedule.at(-1) == (1.0, 0.0)
    assert all(type(a) is float for a in schedule.at(3))
    assert schedule.at(np.zeros((2, 3)))[0].shape == (2, 3)
    assert linear(1).at(0)[1] == pytest.approx(0.01)


@pytest.mark.parametrize("t", [-1.5, 999.5, np.nan, [3, 1000]])
def test_at_outside_raises(t):
    with pytest.raises(ValueError, match="outside -1 .* T-1 = 999"):
        linear().at(t)


def test_variance_exploding_has_no_betas_and_zero_alpha_is_allowed():
    assert VE.at(1.0) == (1.0, 1.0)
    for name in ("alpha_bar", "betas"):
        with pytest.raises(ValueError, match="variance preserving"):
            getattr(VE, name)
    assert Schedule([0.8, 0.0], [0.6, 1.0]).log_snr[-1] == -np.inf


@pytest.mark.parametrize("alpha, sigma, message", [
    ([0.9, 0.8], [0.1], "one length"),
    ([[0.9]], [[0.1]], "1-D"),
    ([], [], "length >= 1"),
    ([0.9, np.nan], [0.1, 0.2], r"alpha\[1\] is nan"),
    ([0.9, -0.1], [0.1, 0.2], r"alpha\[1\] is -0.1"),
    ([0.9, 0.8], [0.0, 0.2], r"sigma\[0\] is 0.0"),
    ([0.9, 0.8], [0.1, np.inf], r"sigma\[1\] is inf"),
    ([0.9, 0.8, 0.8], [0.1, 0.2, 0.2], "4 at 1 to 4 at 2"),
    ([0.8, 0.9], [0.2, 0.1], "must fall"),
])
def test_schedule_says_what_is_wrong(alpha, sigma, message):
    with pytest.raises(ValueError, match=message):
        Schedule(alpha, sigma)


def test_schedule_is_frozen_and_keeps_its_own_copy():
    alpha = np.array([0.9, 0.8])
    schedule = Schedule(alpha, [0.1, 0.2])
    alpha[0] = 0.5
    assert schedule.alpha[0] == 0.9
    with pytest.raises(ValueError, match="read-only"):
        schedule.alpha[0] = 0.5
    with pytest.raises(AttributeError):
        schedule.alpha = alpha


def test_repr():
    assert repr(linear()) == "Schedule(T=1000, variance preserving, log SNR 9.21 to -10.12)"
    assert repr(VE) == "Schedule(T=3, log SNR 4.61 to -4.61)"


@pytest.mark.parametrize("make", SCHEDULES.values())
@pytest.mark.parametrize("T", [0, -3, 2.5])
def test_bad_T(make, T):
    with pytest.raises(ValueError, match="whole number"):
        make(T)


def test_bad_betas():
    with pytest.raises(ValueError, match=r"betas\[2\] is 1.5"):
        linear(3, 0.1, 1.5)
