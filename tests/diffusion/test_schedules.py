"""Schedules: known constants, the closed form against the one-step kernel, interpolation, and errors that say what is wrong."""
import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tinydiff.diffusion import SCHEDULES, Schedule, cosine, flow, karras, linear, sigmoid, zero_terminal_snr

VE = Schedule(np.ones(3), np.array([0.1, 1.0, 10.0]))
PRESERVING = sorted(SCHEDULES.keys() - {"karras", "flow"})


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


def test_sigmoid_by_hand():
    # Chen's gamma(t) = (S(end/tau) - S((t (end - start) + start)/tau)) / (S(end/tau) - S(start/tau)), S the logistic function, T = 4.
    # Default: S at -3, -1.5, 0, 1.5, 3 is 0.0474259, 0.1824255, 0.5, 0.8175745, 0.9525741.
    expected = [(0.9525741 - S) / (0.9525741 - 0.0474259) for S in (0.1824255, 0.5, 0.8175745)]
    np.testing.assert_allclose(sigmoid(4).alpha_bar[:-1], expected, rtol=1e-6)  # seven digits above
    assert sigmoid(4).betas[-1] == pytest.approx(0.999, rel=1e-12)  # gamma(1) = 0 would be a beta of 1
    # start 0, end 3, tau 0.75: S at 0, 1, 2, 3, 4 is 0.5, 0.7310586, 0.8807971, 0.9525741, 0.9820138.
    expected = [(0.9820138 - S) / (0.9820138 - 0.5) for S in (0.7310586, 0.8807971, 0.9525741)]
    np.testing.assert_allclose(sigmoid(4, start=0, end=3, tau=0.75).alpha_bar[:-1], expected, rtol=1e-5)  # 0.0294 of seven decimals


def test_karras_by_hand():
    # rho 2: the roots of 1 and 9 are 1 and 3, half-way is 2.
    np.testing.assert_allclose(karras(3, sigma_min=1, sigma_max=9, rho=2).sigma, [1, 4, 9], rtol=1e-14)
    schedule = karras(18)
    assert np.all(schedule.alpha == 1)
    assert (schedule.sigma[0], schedule.sigma[-1]) == pytest.approx((0.002, 80), rel=1e-13)
    # The paper counts from the most noise: its i = 5 of N = 18 is our index 12. 80^(1/7) = 1.8701223, 0.002^(1/7) = 0.4115597.
    assert schedule.sigma[12] == pytest.approx((1.8701223 + 5 / 17 * (0.4115597 - 1.8701223)) ** 7, rel=1e-6)


def test_flow_by_hand():
    schedule = flow(4)
    np.testing.assert_array_equal(schedule.alpha, [0.75, 0.5, 0.25, 0])
    np.testing.assert_array_equal(schedule.sigma, [0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(schedule.log_snr, [2 * math.log(3), 0, -2 * math.log(3), -np.inf], rtol=1e-14, atol=1e-15)


def test_zero_terminal_snr_by_hand():
    alpha = np.array([0.9, 0.7, 0.5])
    rescaled = zero_terminal_snr(Schedule(alpha, np.sqrt(1 - alpha**2)))
    np.testing.assert_allclose(rescaled.alpha, [0.9, 0.45, 0], rtol=1e-14)  # less 0.5, times 0.9 / 0.4
    np.testing.assert_allclose(rescaled.betas, [1 - 0.81, 1 - 0.25, 1], rtol=1e-14)
    np.testing.assert_array_equal(zero_terminal_snr(rescaled).alpha, rescaled.alpha)


@pytest.mark.parametrize("name", ["linear", "cosine", "sigmoid"])
def test_zero_snr_schedules_start_as_before_and_end_in_noise_alone(name):
    before, after = SCHEDULES[name](1000), SCHEDULES[name + "_zero_snr"](1000)
    assert after.alpha[0] == pytest.approx(before.alpha[0], rel=1e-14)
    assert (after.alpha[-1], after.sigma[-1], after.betas[-1], after.log_snr[-1]) == (0, 1, 1, -np.inf)


@pytest.mark.parametrize("schedule", [karras(10), flow(10), VE], ids=repr)
def test_zero_terminal_snr_needs_preserved_variance(schedule):
    with pytest.raises(ValueError, match="zero_terminal_snr: Schedule.* is not variance preserving"):
        zero_terminal_snr(schedule)


def test_zero_terminal_snr_of_one_time():
    with pytest.raises(ValueError, match="T = 1, but its first alpha must stay and its last become 0"):
        zero_terminal_snr(Schedule([0.6], [0.8]))


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("T", [2, 10, 1000])
def test_every_schedule_has_T_times_of_falling_snr(name, T):
    schedule = SCHEDULES[name](T)
    assert schedule.T == T and np.all(np.diff(schedule.log_snr) < 0) and np.isfinite(schedule.log_snr[:-1]).all()


@pytest.mark.parametrize("name", PRESERVING)
@pytest.mark.parametrize("T", [2, 1000])
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
    assert Schedule([0.6], [0.8]).at(0) == pytest.approx((0.6, 0.8))


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
    assert repr(linear()) == "Schedule(T=1000, variance preserving: alpha 0.9999 to 0.006353, sigma 0.01 to 1, log SNR 9.21 to -10.12)"
    assert repr(VE) == "Schedule(T=3, variance exploding: alpha 1 to 1, sigma 0.1 to 10, log SNR 4.605 to -4.605)"
    assert repr(flow(4)) == "Schedule(T=4, straight lines: alpha 0.75 to 0, sigma 0.25 to 1, log SNR 2.197 to -inf)"
    assert repr(Schedule([0.9, 0.5], [0.4, 1.5])) == "Schedule(T=2, alpha 0.9 to 0.5, sigma 0.4 to 1.5, log SNR 1.622 to -2.197)"


@pytest.mark.parametrize("make", SCHEDULES.values())
@pytest.mark.parametrize("T", [0, -3, 2.5])
def test_bad_T(make, T):
    with pytest.raises(ValueError, match="whole number"):
        make(T)


@pytest.mark.parametrize("make", SCHEDULES.values())
def test_one_time_is_no_way_from_picture_to_noise(make):
    with pytest.raises(ValueError, match="T is 1, .* 2 or more: with T = 1 the least noise and the most would be one and the same"):
        make(1)


@pytest.mark.parametrize("wrong, message", [
    (lambda: sigmoid(10, start=3, end=-3), "start is 3, end -3"), (lambda: sigmoid(10, tau=0), "tau above 0"),
    (lambda: karras(10, sigma_min=0), "sigma_min is 0"), (lambda: karras(10, sigma_max=0.001), "sigma_max 0.001"),
    (lambda: karras(10, rho=-1), "rho -1"),
])
def test_settings_that_cannot_be(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()


def test_bad_betas():
    with pytest.raises(ValueError, match=r"betas\[2\] is 1.5"):
        linear(3, 0.1, 1.5)
