"""Times to train on and times to sample at."""
import numpy as np
import pytest
from hypothesis import given, strategies as st

from tinydiff.diffusion import (SCHEDULES, SPACINGS, TIME_SAMPLINGS, Schedule, flow, karras, linear, lognormal_times, stratified_times, timesteps,
                                training_times)
from tinydiff.diffusion.times import network_times, time_of_log_snr

ONE = Schedule([0.6], [0.8])


@given(st.integers(1, 40), st.floats(0, 1, exclude_max=True))
def test_one_training_time_in_each_stratum(n, u):
    t = stratified_times(n, 1000, u)
    assert t.shape == (n,) and t.min() >= 0 and t.max() < 999 + 1e-9
    gaps = np.diff(np.sort(np.append(t, t.min() + 999)))
    np.testing.assert_allclose(gaps, 999 / n, rtol=1e-9)  # on a circle of 999: evenly spread, whatever the offset


def test_training_times_start_at_the_offset():
    np.testing.assert_allclose(stratified_times(4, 11, 0.5), [5.0, 7.5, 0.0, 2.5])
    with pytest.raises(ValueError, match="u is 1"):
        stratified_times(4, 11, 1)


def test_spacings_of_50_in_1000():
    schedule = linear()
    np.testing.assert_array_equal(timesteps(schedule, 50), np.arange(999, 0, -20))
    np.testing.assert_array_equal(timesteps(schedule, 50, "leading"), np.arange(980, -1, -20))
    np.testing.assert_allclose(timesteps(schedule, 50, "linspace"), 999 - 999 / 49 * np.arange(50), rtol=0, atol=1e-12)


@pytest.mark.parametrize("spacing", ["trailing", "leading", "linspace"])
@pytest.mark.parametrize("schedule", [ONE, linear(7), linear(1000)], ids=repr)
def test_all_steps_are_the_grid(spacing, schedule):
    np.testing.assert_allclose(timesteps(schedule, schedule.T, spacing), np.arange(schedule.T)[::-1], rtol=0, atol=1e-12)


@given(st.integers(2, 60), st.data(), st.sampled_from(SPACINGS), st.sampled_from(sorted(SCHEDULES)))
def test_times_fall_within_the_schedule(T, data, spacing, name):
    steps = data.draw(st.integers(1, T))
    t = timesteps(SCHEDULES[name](T), steps, spacing)
    assert t.shape == (steps,) and t.dtype == np.float64
    assert np.all(np.diff(t) < 0) and t[0] <= T - 1 and t[-1] >= 0
    assert t[0] == T - 1 or spacing == "leading"


@pytest.mark.parametrize("steps", [0, -1, 8, 2.5])
def test_bad_steps(steps):
    with pytest.raises(ValueError, match="from 1 to the schedule's T = 7"):
        timesteps(linear(7), steps)


def test_log_snr_spacing_divides_the_snr_by_one_factor():
    """On sigma = 2^0 ... 2^-10 at the grid points, from the most noise down: equal factors of sigma are whole times."""
    schedule = Schedule(np.ones(11), 2.0 ** np.arange(-10, 1))
    np.testing.assert_allclose(timesteps(schedule, 6, "log_snr"), [10, 8, 6, 4, 2, 0], rtol=0, atol=1e-12)
    for schedule in (linear(), karras(100)):
        t = timesteps(schedule, 12, "log_snr")
        alpha, sigma = schedule.at(t)
        gaps = np.diff(2 * np.log(alpha / sigma))
        np.testing.assert_allclose(gaps, (schedule.log_snr[0] - schedule.log_snr[-1]) / 11, rtol=1e-8)
        assert (t[0], t[-1]) == (schedule.T - 1, 0)


def test_log_snr_spacing_where_the_last_log_snr_is_minus_infinity():
    """flow(9): alpha/sigma is 8, 7/2, ..., 1/8, 0. The way from 8 to 1/8 in 6 factors of 2, but the first time is T-1."""
    t = timesteps(flow(9), 7, "log_snr")
    alpha, sigma = flow(9).at(t)
    np.testing.assert_allclose(alpha / sigma, [0, 1 / 4, 1 / 2, 1, 2, 4, 8], rtol=1e-12)
    assert t[0] == 8 and timesteps(flow(9), 1, "log_snr").tolist() == [8] and timesteps(flow(9), 2, "log_snr").tolist() == [8, 0]


@given(st.sampled_from(sorted(SCHEDULES)), st.sampled_from([2, 10, 1000]), st.floats(0, 1))
def test_time_of_log_snr_inverts_the_schedule(name, T, part):
    schedule, t = SCHEDULES[name](T), part * (T - 1)
    alpha, sigma = schedule.at(t)
    log_snr = 2 * np.log(alpha / sigma) if alpha else -np.inf
    # exp and log move the SNR by |log SNR| ulp, which is a few hundred ulp, and t by as much of the step that t is in.
    assert time_of_log_snr(schedule, log_snr) == pytest.approx(t, rel=1e-12, abs=1e-10)


@pytest.mark.parametrize("schedule", [linear(), karras(1000), flow(1000), ONE])
def test_time_of_log_snr_between_the_clean_picture_and_the_least_noise(schedule):
    for t in (-0.75, -0.001, 0.0):
        alpha, sigma = schedule.at(t)
        assert time_of_log_snr(schedule, 2 * np.log(alpha / sigma)) == pytest.approx(t, abs=1e-10)


def test_time_of_log_snr_beyond_the_schedule():
    """Below its last SNR there is T-1; above all others, not quite the clean picture."""
    np.testing.assert_array_equal(time_of_log_snr(linear(), [[-50.0, -np.inf]]), [[999, 999]])
    assert -1 < time_of_log_snr(linear(), 30.0) < -1 + 1e-8 and time_of_log_snr(ONE, -50.0) == 0


def test_lognormal_times_stay_within_the_schedule():
    np.testing.assert_array_equal(lognormal_times(linear(), [-100.0, 100.0]), [0, 999])


def test_lognormal_times_are_edms():
    """ln sigma of the times has mean -1.2 and standard deviation 1.2."""
    n, schedule = 100_000, karras(1000)
    t = training_times(schedule, n, "lognormal", np.random.default_rng(0))
    log_sigma = np.log(schedule.at(t)[1])
    # 4 standard errors. The schedule's ends lie 4.2 and 4.7 deviations from the mean: 2 in 100,000 are moved there, by a fraction of one.
    assert abs(log_sigma.mean() + 1.2) < 4 * 1.2 / np.sqrt(n) and abs(log_sigma.std() - 1.2) < 4 * 1.2 / np.sqrt(2 * n)


def test_lognormal_times_by_hand():
    schedule = Schedule(np.ones(3), np.exp([-2.4, -1.2, 0]))
    np.testing.assert_allclose(lognormal_times(schedule, [-1, 0, 1, -2, 2]), [0, 1, 2, 0, 2], rtol=0, atol=1e-12)
    halved = Schedule([0.5, 0.5], 0.5 * np.exp([-3.0, 1.0]))  # sigma/alpha is what counts
    assert np.log(halved.at(lognormal_times(halved, 0.0, mean=-1.0, std=2.0))[1] / 0.5) == pytest.approx(-1)


def test_uniform_and_stratified_training_times():
    t = training_times(linear(), 10_000, "uniform", np.random.default_rng(0))
    assert 0 <= t.min() and t.max() <= 999
    assert np.abs(np.sort(t) / 999 - (np.arange(10_000) + 0.5) / 10_000).max() < 0.02  # Kolmogorov: beyond 1.95 / sqrt(n) in 1 of 1,000
    u = np.random.default_rng(0).random()
    np.testing.assert_array_equal(training_times(linear(), 8, "stratified", np.random.default_rng(0)), stratified_times(8, 1000, u))


def test_unknown_time_sampling():
    with pytest.raises(ValueError, match="unknown time sampling 'cosine'; choose one of stratified, uniform, lognormal"):
        training_times(linear(), 8, "cosine", np.random.default_rng(0))
    assert TIME_SAMPLINGS == ("stratified", "uniform", "lognormal")


def test_bad_spacing():
    with pytest.raises(ValueError, match="unknown spacing 'cubic'; choose one of trailing, leading, linspace, log_snr"):
        timesteps(linear(7), 3, "cubic")


def test_network_times_are_thousandths_of_T():
    like = np.zeros((2, 4, 4, 3), np.float32)
    t = network_times(linear(200), 30, like)
    assert t.dtype == np.float32 and t.tolist() == [150, 150]
    assert network_times(linear(200), [0, 199], like).tolist() == [0, 995]
    with pytest.raises(ValueError, match="each of the 2 pictures"):
        network_times(linear(200), [1.0], like)
