"""The forward process: its marginals by simulation, dtypes and shapes."""
import numpy as np
import pytest

from tinydiff.diffusion import linear, offset_noise, q_sample


def test_marginals_by_simulating_every_step():
    """One x_0 sent through 40 single noisy steps, 40,000 times, has the mean and variance that q_sample's do in one jump."""
    schedule, n, x0 = linear(40, 0.01, 0.1), 40_000, 0.7
    rng = np.random.default_rng(0)
    walked = np.full(n, x0)
    for beta in schedule.betas:
        walked = np.sqrt(1 - beta) * walked + np.sqrt(beta) * rng.standard_normal(n)
    jumped = q_sample(schedule, np.full((n, 1, 1, 1), x0), 39, rng.standard_normal((n, 1, 1, 1)))
    variance = 1 - np.prod(1 - np.linspace(0.01, 0.1, 40))
    for x in (walked, jumped):
        # 4 standard errors: of the mean sd/sqrt(n), of a normal variance var sqrt(2/n)
        assert abs(x.mean() - x0 * np.sqrt(1 - variance)) < 4 * np.sqrt(variance / n)
        assert abs(x.var() - variance) < 4 * variance * np.sqrt(2 / n)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_each_picture_has_its_own_time(dtype):
    schedule = linear()
    x0, eps = np.random.default_rng(0).standard_normal((2, 3, 4, 4, 2)).astype(dtype)
    t = np.array([0.0, 10.5, 999.0])
    x_t = q_sample(schedule, x0, t, eps)
    assert x_t.dtype == dtype
    for i in range(3):
        alpha, sigma = schedule.at(t[i])
        np.testing.assert_allclose(x_t[i], alpha * x0[i] + sigma * eps[i], rtol=0, atol=8 * np.finfo(dtype).eps)
        np.testing.assert_array_equal(q_sample(schedule, x0[i:i + 1], t[i], eps[i:i + 1])[0], x_t[i])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_offset_noise_shifts_whole_channels(dtype):
    rng = np.random.default_rng(0)
    eps, offset = rng.standard_normal((2, 3, 4, 5)).astype(dtype), rng.standard_normal((2, 5))
    shifted = offset_noise(eps, 0.1, offset)
    assert shifted.dtype == dtype
    shift = shifted - eps
    # rounded once at the size of eps, at most 4, once as a difference
    np.testing.assert_allclose(shift, np.broadcast_to(0.1 * offset[:, None, None, :], shift.shape), rtol=0, atol=8 * np.finfo(dtype).eps)
    np.testing.assert_array_equal(offset_noise(eps, 0.0, offset), eps)
    for wrong in (offset[0], offset[:1], offset[:, :1], np.zeros((2, 3, 4, 5))):
        with pytest.raises(ValueError, match=r"one number for each picture and channel, \(2, 5\)"):
            offset_noise(eps, 0.1, wrong)


def test_errors():
    schedule, x = linear(), np.zeros((3, 2, 2, 1))
    with pytest.raises(TypeError, match="uint8.*to_model"):
        q_sample(schedule, x.astype(np.uint8), 0, x)
    with pytest.raises(ValueError, match=r"\(3, 2, 2, 1\), eps \(1, 2, 2, 1\)"):
        q_sample(schedule, x, 0, x[:1])
    with pytest.raises(ValueError, match=r"each of the 3 pictures, got \(2,\)"):
        q_sample(schedule, x, [0.0, 1.0], x)
    with pytest.raises(ValueError, match=r"each of the 1 pictures, got \(2,\)"):  # would broadcast to 2 pictures
        q_sample(schedule, x[:1], [0.0, 1.0], x[:1])
