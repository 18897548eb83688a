"""Times to train on and times to sample at."""
import numpy as np
import pytest
from hypothesis import given, strategies as st

from tinydiff.diffusion import linear, stratified_times, timesteps
from tinydiff.diffusion.times import network_times


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
@pytest.mark.parametrize("T", [1, 7, 1000])
def test_all_steps_are_the_grid(spacing, T):
    np.testing.assert_allclose(timesteps(linear(T), T, spacing), np.arange(T)[::-1], rtol=0, atol=1e-12)


@given(st.integers(1, 60), st.data(), st.sampled_from(["trailing", "leading", "linspace"]))
def test_times_fall_within_the_schedule(T, data, spacing):
    steps = data.draw(st.integers(1, T))
    t = timesteps(linear(T), steps, spacing)
    assert t.shape == (steps,) and t.dtype == np.float64
    assert np.all(np.diff(t) < 0) and t[0] <= T - 1 and t[-1] >= 0
    assert t[0] == T - 1 or spacing == "leading"


@pytest.mark.parametrize("steps", [0, -1, 8, 2.5])
def test_bad_steps(steps):
    with pytest.raises(ValueError, match="from 1 to the schedule's T = 7"):
        timesteps(linear(7), steps)


def test_bad_spacing():
    with pytest.raises(ValueError, match="unknown spacing 'cubic'"):
        timesteps(linear(7), 3, "cubic")


def test_network_times_are_thousandths_of_T():
    like = np.zeros((2, 4, 4, 3), np.float32)
    t = network_times(linear(200), 30, like)
    assert t.dtype == np.float32 and t.tolist() == [150, 150]
    assert network_times(linear(200), [0, 199], like).tolist() == [0, 995]
    with pytest.raises(ValueError, match="each of the 2 pictures"):
        network_times(linear(200), [1.0], like)
