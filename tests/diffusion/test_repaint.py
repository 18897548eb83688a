"""RePaint on Gaussian data with correlated pixels: the perfect denoiser and the perfect fill both have a closed form.

Pictures of two columns, each row a draw of N(MU, COV) by itself: given the left pixel, the right one is N(CONDITIONAL_MEAN, CONDITIONAL_VAR).
"""
from math import sqrt

import numpy as np
import pytest

from tinydiff.diffusion import Schedule, cosine, initial_noise, repaint
from tinydiff.diffusion.repaint import repaint_walk

MU, RHO, S = np.array([0.3, -0.2]), 0.8, 0.5
COV = S**2 * np.array([[1, RHO], [RHO, 1]])
ROWS, KNOWN = 4000, 0.9
MASK = np.tile([True, False], (ROWS, 1))  # (H,W): the left column is known
CONDITIONAL_MEAN = MU[1] + RHO * (KNOWN - MU[0])
CONDITIONAL_VAR = S**2 * (1 - RHO**2)
VE = Schedule(np.ones(250), np.geomspace(0.01, 20, 250))


def ideal(schedule):
    """E[x_0|x_t] = MU + alpha COV (alpha^2 COV + sigma^2 I)^-1 (x_t - alpha MU), for each row."""
    def denoise(x, t):
        alpha, sigma = schedule.at(t)
        gain = alpha * COV @ np.linalg.inv(alpha**2 * COV + sigma**2 * np.eye(2))
        return (MU + (x[..., 0] - alpha * MU) @ gain.T)[..., None].astype(x.dtype)  # (N,H,2,1)
    return denoise


def filled(schedule, steps, seed=1, **own):
    known = np.full((1, ROWS, 2, 1), KNOWN)
    *_, step = repaint(ideal(schedule), schedule, initial_noise(schedule, known.shape, seed, dtype=np.float64), known, MASK, steps, seed, **own)
    return step.x[0, :, 1, 0]


def test_resampling_makes_the_fill_fit_the_known_part():
    """Straight down, the mean of the fill stays half way between what nothing known would give, MU, and the right one; the more resampling
    the nearer it comes, to 0.02 (12 % of the way) with the paper's 250 steps, jumps of 10 and 10 resamples.
    """
    way = CONDITIONAL_MEAN - MU[1]
    errors = [abs(filled(cosine(250), None, resamples=resamples).mean() - CONDITIONAL_MEAN) for resamples in (1, 2, 5, 10)]
    assert errors[0] > 0.35 * way
    # Each is far enough below the one before to be no accident: the mean's standard error is 0.3 / sqrt(4000) = 0.005, of a difference 0.007.
    assert np.all(-np.diff(errors) > [0.04, 0.03, 0.0]) and errors[-1] < 0.06 * way + 4 * 0.005, errors


@pytest.mark.parametrize("schedule", [cosine(250), VE], ids=["cosine", "variance exploding"])
@pytest.mark.parametrize("own", [{"jump_length": 5}, {"jump_length": 10}], ids=str)
def test_the_fill_has_the_conditional_mean_and_variance(schedule, own):
    """Within what finite resampling leaves (measured: the mean 0.01 to 0.025 short, the variance off by -7 % to +2 %) and 4 standard errors.

    Were the known part not heeded, the mean would be 0.48 short and the variance 178 % too large.
    """
    y = filled(schedule, None, **own)
    assert abs(y.mean() - CONDITIONAL_MEAN) < 0.025 + 4 * sqrt(CONDITIONAL_VAR / ROWS)
    assert abs(y.var() / CONDITIONAL_VAR - 1) < 0.08 + 4 * sqrt(2 / ROWS)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_known_pixels_come_back_exactly(dtype):
    rng = np.random.default_rng(0)
    schedule, shape = cosine(50), (3, 6, 6, 3)
    known = rng.uniform(-1, 1, shape).astype(dtype)
    masks = {"one for all": rng.random(shape[1:3]) < 0.5, "one each": rng.random((3, 6, 6, 1)) < 0.5,
             "one a channel": (rng.random(shape) < 0.5).astype(np.uint8)}
    x_T = initial_noise(schedule, shape, dtype=dtype)
    for mask in masks.values():
        *_, step = repaint(lambda x, t: 0.5 * x, schedule, x_T, known, mask, 8, jump_length=2, resamples=3)
        kept = np.broadcast_to(mask[..., None] if mask.ndim == 2 else mask, shape).astype(bool)
        np.testing.assert_array_equal(step.x[kept], known[kept])
        assert step.t == -1 and step.x.dtype == dtype and not np.any(step.x[~kept] == known[~kept])


@pytest.mark.parametrize("schedule", [cosine(50), Schedule(np.ones(40), np.geomspace(0.01, 20, 40))], ids=["cosine", "variance exploding"])
def test_every_step_has_the_noise_of_its_time(schedule):
    """If the guess is the truth, x_0 = known, then after each step, down or up, x_t is N(alpha_t x_0, sigma_t^2), in both parts."""
    known = np.full((1, 80, 80, 3), 0.4)
    alpha, sigma = schedule.at(schedule.T - 1)
    x_T = alpha * known + initial_noise(schedule, known.shape, seed=5, dtype=np.float64)
    mask = np.arange(80) < np.full((80, 1), 40)
    for step in repaint(lambda x, t: known, schedule, x_T, known, mask, 9, jump_length=3, resamples=2):
        alpha, sigma = schedule.at(step.t)
        for part in (step.x[:, :, :40], step.x[:, :, 40:]):
            assert abs((part - alpha * known[0, 0, 0, 0]).std() - sigma) <= 4 * sigma * sqrt(0.5 / part.size) + 1e-15


def test_the_walk_goes_back_and_on():
    assert repaint_walk(5, 2, 1) == [0, 1, 2, 3, 4, 5]
    assert repaint_walk(5, 2, 3) == [0, 1, 2, 0, 1, 2, 0, 1, 2, 3, 4, 2, 3, 4, 2, 3, 4, 5]
    assert repaint_walk(3, 1, 2) == [0, 1, 0, 1, 2, 1, 2, 3]                              # algorithm 1: no repetition of the last step
    assert repaint_walk(1, 10, 1) == [0, 1]
    for n, jump_length, resamples in ((50, 10, 10), (50, 5, 4), (51, 10, 3), (7, 6, 2)):
        down = np.count_nonzero(np.diff(repaint_walk(n, jump_length, resamples)) > 0)
        assert down == n + (resamples - 1) * jump_length * ((n - 1) // jump_length)       # as the docstring counts


def test_pictures_do_not_depend_on_the_chunk():
    rng, schedule, shape = np.random.default_rng(0), cosine(20), (5, 4, 4, 3)
    known, mask = rng.uniform(-1, 1, shape), rng.random((5, 4, 4, 1)) < 0.5

    def last(first, n):
        x_T = initial_noise(schedule, (n, *shape[1:]), 9, first, np.float64)
        part = slice(first, first + n)
        *_, step = repaint(lambda x, t: 0.8 * x, schedule, x_T, known[part], mask[part], 6, 9, jump_length=2, resamples=2, first=first)
        return step.x
    np.testing.assert_array_equal(np.concatenate([last(0, 2), last(2, 3)]), last(0, 5))


@pytest.mark.parametrize("changes, error, message", [
    ({"known": np.zeros((2, 4, 4, 1))}, ValueError, r"known \(2, 4, 4, 1\), x_T \(2, 4, 4, 3\)"),
    ({"known": np.zeros((2, 4, 4, 3), np.uint8)}, TypeError, "uint8.*to_model"),
    ({"mask": np.ones((4, 5))}, ValueError, r"\(H,W\) = \(4, 4\), or \(2, 4, 4, 1 or 3\).*not \(4, 5\)"),
    ({"mask": np.ones((4, 4, 3))}, ValueError, r"not \(4, 4, 3\)"),
    ({"mask": np.ones((1, 4, 4, 1))}, ValueError, r"not \(1, 4, 4, 1\)"),
    ({"mask": np.full((4, 4), 0.25)}, ValueError, "holds 0.25.*round it"),
    ({"mask": np.full((4, 4), 255)}, ValueError, "holds 255"),
    ({"mask": np.full((4, 4), np.nan)}, ValueError, "holds nan"),
    ({"jump_length": 0}, ValueError, "jump_length is 0"),
    ({"jump_length": 5}, ValueError, "jump_length is 5, but must be below the number of steps, 5"),
    ({"resamples": 1.5}, ValueError, "resamples is 1.5"),
    ({"steps": 0}, ValueError, "from 1"),
])
def test_bad_input(changes, error, message):
    x = np.zeros((2, 4, 4, 3))
    arguments = {"known": x, "mask": np.ones((4, 4)), "steps": 5, "jump_length": 2} | changes
    with pytest.raises(error, match=message):
        next(repaint(lambda x, t: x, cosine(20), x, **arguments))
