"""Denoisers whose guesses are kept where pictures can be."""
import numpy as np
import pytest

from tinydiff.diffusion import clip_x0, cosine, ddim, ddpm, dynamic_threshold, linear

GUESS = np.array([[-3.0, -0.5, 0.25, 2.0]], np.float32)


def says(guess):
    return lambda x, t: guess


def test_clip_x0():
    clipped = clip_x0(says(GUESS))(GUESS, 0.0)
    assert clipped.dtype == np.float32
    np.testing.assert_array_equal(clipped, [[-1, -0.5, 0.25, 1]])
    np.testing.assert_array_equal(clip_x0(says(GUESS), 0, 0.5)(GUESS, 0.0), [[0, 0, 0.25, 0.5]])


def test_clipping_changes_eps_too():
    schedule = linear()
    x_T = np.random.default_rng(0).standard_normal((2, 4, 4, 3))
    step = next(ddim(clip_x0(lambda x, t: 5 * x), schedule, x_T, [500.0, 100.0]))
    (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule.at(500), schedule.at(100)
    x0 = np.clip(5 * x_T, -1, 1)
    np.testing.assert_array_equal(step.x0, x0)
    np.testing.assert_allclose(step.x, alpha_s * x0 + sigma_s * (x_T - alpha_t * x0) / sigma_t, rtol=1e-13)


def test_dynamic_threshold_by_hand():
    """|x_0| = 0, 0.5, ..., 5: the part 0.8 stays below 4. A picture all of whose pixels are small is left alone."""
    picture = np.arange(11) / 2 * np.where(np.arange(11) % 2, -1, 1)
    small = np.linspace(-1, 0.9, 11)
    x0 = np.stack([picture, small]).reshape(2, 11, 1, 1).astype(np.float32)
    out = dynamic_threshold(says(x0), 0.8)(x0, 0.0)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out[0, :, 0, 0], np.clip(picture, -4, 4).astype(np.float32) / 4)
    np.testing.assert_array_equal(out[1], x0[1])


def test_dynamic_threshold_is_for_each_picture_and_all_of_its_channels():
    x0 = 2 * np.random.default_rng(0).standard_normal((3, 8, 8, 3))
    denoise = dynamic_threshold(lambda x, t: x)
    whole = denoise(x0, 0.0)
    assert np.abs(whole).max() == 1
    np.testing.assert_array_equal(np.concatenate([denoise(x0[:1], 0.0), denoise(x0[1:], 0.0)]), whole)
    ratio = (whole / x0).reshape(3, -1).max(axis=1)                  # 1/s where not clipped
    np.testing.assert_allclose(1 / ratio, np.quantile(np.abs(x0).reshape(3, -1), 0.995, axis=1), rtol=1e-12)
    assert (np.abs(whole) == 1).reshape(3, -1).sum(axis=1).tolist() == [1, 1, 1]   # of 192 values, 0.995 leaves the largest out


@pytest.mark.parametrize("percentile", [0, 99.5, -1, np.nan])
def test_bad_percentile(percentile):
    with pytest.raises(ValueError, match="percentile is .*above 0 and at most 1"):
        dynamic_threshold(says(GUESS), percentile)


@pytest.mark.parametrize("wrapper", [clip_x0, dynamic_threshold])
def test_what_a_denoiser_offers_is_still_there(wrapper):
    """So a learned variance is used behind a threshold, or two."""
    def denoise(x, t):
        return 2 * x
    denoise.log_variance = lambda x, t, s: np.full_like(x, -np.inf)
    denoise.vjp = denoise.reset = object()
    wrapped = wrapper(wrapper(denoise))
    assert vars(wrapped) == vars(denoise)
    assert not vars(wrapper(says(GUESS)))
    schedule, x_T = cosine(), np.random.default_rng(0).standard_normal((2, 4, 4, 3))
    one, two = (list(ddpm(wrapped, schedule, x_T, 3, seed, variance="learned"))[-1].x for seed in (0, 1))
    np.testing.assert_array_equal(one, two)                          # a variance of 0: no noise
