"""Starting from pictures, on Gaussian data whose perfect denoiser and whose probability flow are known in closed form.

Data N(MU, S^2) for each pixel. Along the flow x_t = alpha_t MU + sqrt(alpha_t^2 S^2 + sigma_t^2) (x_0 - MU) / S: picture and noise are one to one.
"""
from math import sqrt

import numpy as np
import pytest

from tinydiff.diffusion import SAMPLERS, Schedule, cosine, ddim, ddim_invert, initial_noise, linear, noised_start, q_sample, slerp, timesteps

MU, S = 0.3, 0.5
VE = Schedule(np.ones(1000), np.geomspace(0.01, 20, 1000))
ZERO_SNR = Schedule(np.sqrt(np.linspace(0.999, 0, 1000)), np.sqrt(np.linspace(0.001, 1, 1000)))
X0 = np.random.default_rng(0).normal(MU, S, (3, 8, 8, 3))


def ideal(schedule):
    def denoise(x, t):
        alpha, sigma = schedule.at(t)
        return MU + alpha * S**2 / (alpha**2 * S**2 + sigma**2) * (x - alpha * MU)
    return denoise


def last(steps):
    *_, step = steps
    return step


# Image-to-image and variations

def test_the_start_is_the_picture_with_the_noise_of_t():
    x_t, times = noised_start(linear(), X0, 600, 30, seed=4)
    eps = initial_noise(linear(), X0.shape, 4, dtype=np.float64) / linear().sigma[-1]
    np.testing.assert_allclose(x_t, q_sample(linear(), X0, 600, eps), rtol=0, atol=1e-14)
    assert len(times) == 30 and times[0] == 600
    np.testing.assert_allclose(np.diff([*times, -1]), -601 / 30, rtol=1e-12)              # the last step is as long as the others
    assert noised_start(linear(), X0.astype(np.float32), 600, 30)[0].dtype == np.float32


@pytest.mark.parametrize("name", SAMPLERS)
def test_from_the_end_it_is_sampling(name):
    """At T-1 nothing is left of the picture where alpha = 0: then the start, the times and so the result are those of sampling."""
    steps = 12
    x_t, times = noised_start(ZERO_SNR, X0, ZERO_SNR.T - 1, steps, seed=7)
    x_T = initial_noise(ZERO_SNR, X0.shape, seed=7, dtype=np.float64)
    np.testing.assert_array_equal(x_t, x_T)
    np.testing.assert_allclose(times, timesteps(ZERO_SNR, steps), rtol=0, atol=1e-12)
    ends = [last(SAMPLERS[name](ideal(ZERO_SNR), ZERO_SNR, x, how, 7)).x for x, how in ((x_t, times), (x_T, steps))]
    np.testing.assert_allclose(*ends, rtol=0, atol=1e-12)


def test_the_higher_t_the_less_is_left_of_the_picture():
    """The flow down from x_t = alpha x_0 + sigma eps is linear, so its slope in x_0 is S alpha / sqrt(alpha^2 S^2 + sigma^2), exactly."""
    schedule, ts = cosine(), (0, 200, 500, 800, 999)
    other = X0 + 0.1
    kept = []
    for t in ts:
        ends = []
        for picture in (X0, other):
            x_t, times = noised_start(schedule, picture, t, int(t) // 2 + 1)
            ends.append(last(ddim(ideal(schedule), schedule, x_t, times)).x)
        kept.append(float(np.mean(ends[1] - ends[0])) / 0.1)
    alpha, sigma = schedule.at(np.array(ts))
    np.testing.assert_allclose(kept, S * alpha / np.sqrt(alpha**2 * S**2 + sigma**2), rtol=0, atol=0.01)  # steps of 2: DDIM's own error
    assert np.all(np.diff(kept) < 0) and kept[0] > 0.99 and kept[-1] < 0.01


def test_variations_differ_and_do_not_depend_on_the_chunk():
    copies = X0[:1].repeat(5, axis=0)
    whole, times = noised_start(cosine(), copies, 500, 10, seed=3)
    assert len(np.unique(whole[:, 0, 0, 0])) == 5
    parts = [noised_start(cosine(), copies[:n], 500, 10, seed=3, first=first)[0] for first, n in ((0, 2), (2, 3))]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert not np.any(noised_start(cosine(), copies, 500, 10, seed=4)[0] == whole)


@pytest.mark.parametrize("t, steps, message", [
    (-0.5, 1, "t is -0.5, but must be from 0"), (1000, 5, "to T-1 = 999"), (np.nan, 5, "t is nan"), (600, 0, "steps is 0"),
    (600, 2.5, "steps is 2.5"), (9, 11, "from t = 9 there are 1 to 10 whole steps"),
])
def test_bad_starts(t, steps, message):
    with pytest.raises(ValueError, match=message):
        noised_start(cosine(), X0, t, steps)


# DDIM inversion

@pytest.mark.parametrize("schedule", [linear(), cosine(), VE, ZERO_SNR], ids=["linear", "cosine", "variance exploding", "zero terminal SNR"])
def test_inversion_and_the_way_back_converge_at_first_order(schedule):
    """Errors c/n + d/n^2 of the noise found, against the exact flow, and of the picture that comes back: twice the steps, half the error."""
    alpha, sigma = schedule.at(schedule.T - 1)
    exact = alpha * MU + sqrt(alpha**2 * S**2 + sigma**2) * (X0 - MU) / S
    noise_errors, picture_errors = [], []
    for steps in (50, 100, 200):
        encoded = last(ddim_invert(ideal(schedule), schedule, X0, steps))
        assert encoded.t == schedule.T - 1
        noise_errors.append(np.abs(encoded.x - exact).max() / sigma)
        picture_errors.append(np.abs(last(ddim(ideal(schedule), schedule, encoded.x, steps)).x - X0).max())
    for errors in (noise_errors, picture_errors):
        ratios = np.divide(errors[:-1], errors[1:])
        assert np.all(ratios > [1.5, 1.6]), (noise_errors, picture_errors)        # towards 2; a wrong limit would give 1


def test_inversion_goes_up_the_times_of_the_sampler():
    asked = []

    def denoise(x, t):
        asked.append(t)
        return ideal(cosine())(x, t)
    steps = list(ddim_invert(denoise, cosine(), X0, [700.0, 300.0, 50.0]))
    assert [step.t for step in steps] == [50, 300, 700]
    assert asked == [50, 50, 300]                                                         # a clean picture is asked about at the first time
    assert list(ddim_invert(denoise, cosine(8), X0))[-1].t == 7


def test_inversion_follows_a_known_guess():
    """If the guess is x_0 itself there is no noise to find: the picture only fades, and comes back exactly."""
    encoded = last(ddim_invert(lambda x, t: X0, cosine(), X0, 20))
    np.testing.assert_allclose(encoded.x, cosine().alpha[-1] * X0, rtol=0, atol=1e-12)
    float32 = last(ddim_invert(lambda x, t: X0.astype(np.float32), cosine(), X0.astype(np.float32), 20))
    assert float32.x.dtype == np.float32


# Slerp

A, B = np.random.default_rng(1).standard_normal((2, 4, 8, 8, 3))


def norms(x):
    return np.sqrt((x**2).sum((1, 2, 3)))


def test_slerp_goes_from_a_to_b_at_even_angles():
    np.testing.assert_array_equal(slerp(A, B, 0), A)
    np.testing.assert_array_equal(slerp(A, B, 1), B)
    one, two = (x[:1] / norms(x[:1]) for x in (A, B))
    fractions = np.linspace(0, 1, 6)
    path = slerp(one.repeat(6, 0), two.repeat(6, 0), fractions)
    np.testing.assert_allclose(norms(path), 1, rtol=1e-12)                                # on the sphere all the way
    angles = np.arccos(np.clip((path * one).sum((1, 2, 3)), -1, 1))
    np.testing.assert_allclose(angles, fractions * np.arccos((one * two).sum()), rtol=0, atol=1e-7)  # arccos near 1 halves the digits


def test_slerp_keeps_the_norm_of_noise_where_a_straight_line_does_not():
    """Norms of 192 normal numbers vary by 1 / sqrt(2 x 192) = 5 %, and so does that of the point between two of them."""
    assert np.all(np.abs(norms(slerp(A, B, 0.5)) / norms(A) - 1) < 0.2)
    assert np.all(norms((A + B) / 2) / norms(A) < 0.85)


def test_slerp_of_parallel_pictures_is_the_straight_line():
    np.testing.assert_allclose(slerp(A, A, 0.3), A, rtol=1e-12)
    np.testing.assert_allclose(slerp(A, 2 * A, 0.25), 1.25 * A, rtol=1e-12)
    np.testing.assert_allclose(slerp(A, A + 1e-9 * B, 0.5), A, rtol=1e-6, atol=1e-8)


def test_slerp_takes_each_pictures_own_fraction_and_keeps_the_dtype():
    fractions = np.array([0.0, 0.2, 0.7, 1.0])
    path = slerp(A, B, fractions)
    for i, fraction in enumerate(fractions):
        np.testing.assert_array_equal(path[i], slerp(A[i:i + 1], B[i:i + 1], fraction)[0])
    assert slerp(A.astype(np.float32), B.astype(np.float32), 0.4).dtype == np.float32


@pytest.mark.parametrize("a, b, fraction, message", [
    (A, -A, 0.5, "index 0: .* opposites"),
    (A, np.concatenate([B[:2], 0 * B[2:]]), 0.5, "index 2: one is all zeros"),
    (A, B[:2], 0.5, r"a \(4, 8, 8, 3\), b \(2, 8, 8, 3\)"),
    (A, B, [0.1, 0.2], r"each of the 4 pictures, got \(2,\)"),
])
def test_bad_arcs(a, b, fraction, message):
    with pytest.raises(ValueError, match=message):
        slerp(a, b, fraction)


@pytest.mark.parametrize("call", [
    lambda x: noised_start(cosine(), x, 500, 10), lambda x: next(ddim_invert(None, cosine(), x)), lambda x: slerp(x, x, 0.5),
], ids=["noised_start", "ddim_invert", "slerp"])
def test_bytes_are_no_pictures_for_the_network(call):
    with pytest.raises(TypeError, match="is uint8.*to_model"):
        call(np.zeros((2, 4, 4, 3), np.uint8))
