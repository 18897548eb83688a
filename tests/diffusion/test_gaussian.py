"""The Gaussian: its fit, its guess, its share of the targets. The start: its own distribution, that the flow leads there, and what it is for."""
import numpy as np
import pytest

from tinydiff.autograd import Tensor
from tinydiff.diffusion import (TARGETS, Gaussian, cosine, ddim, denoiser, dpmpp_2m_sde, fit_gaussian, from_x0_eps, gaussian_share, gaussian_start,
                                initial_noise, karras, loss, q_sample, to_x0_eps)
from tinydiff.diffusion.gaussian import DIRECTIONS
from tinydiff.diffusion.gaussian_start import START
from tinydiff.diffusion.times import time_of_log_snr

SHAPE = (2, 3, 3)                           # of a picture: 18 numbers
SCHEDULE = cosine(1000)


def varied(n=12, shape=SHAPE, seed=0):
    """Pictures (n,H,W,C), each pixel of them from N(0, 1)."""
    return np.random.default_rng(seed).standard_normal((n, *shape), np.float32)


def covariance(gaussian):
    v = gaussian.directions.reshape(len(gaussian.deviations), -1).astype(np.float64)
    return (v.T * gaussian.deviations.astype(np.float64) ** 2) @ v


def ideal(gaussian):
    """The best denoiser of pictures that have this distribution: E[x_0 | x_t]."""
    v, d = gaussian.directions, gaussian.deviations

    def denoise(x, t):
        alpha, sigma = SCHEDULE.at(t)
        along = np.tensordot(x - alpha * gaussian.mean, v, axes=((1, 2, 3), (1, 2, 3)))
        return gaussian.mean + np.tensordot(along * (alpha * d**2 / (alpha**2 * d**2 + sigma**2)), v, axes=1)
    return denoise


def test_the_fit_has_the_pictures_mean_and_covariance():
    """With more directions than pictures nothing is left out: the covariance is the pictures' own, to rounding."""
    x = varied()
    found = fit_gaussian(x)
    assert [array.shape for array in found] == [SHAPE, (11, *SHAPE), (11,)] and {array.dtype for array in found} == {np.dtype(np.float32)}
    np.testing.assert_allclose(found.mean, x.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(covariance(found), np.cov(x.reshape(12, -1).T, bias=True), atol=1e-5)
    v = found.directions.reshape(11, -1)
    np.testing.assert_allclose(v @ v.T, np.eye(11), atol=1e-4)              # the least deviation is a tenth of the largest
    assert np.all(np.diff(found.deviations) < 0)


def test_the_directions_kept_are_those_of_most_deviation():
    x = varied(2 * DIRECTIONS, (6, 6, 3)) * np.linspace(0.1, 2, 108, dtype=np.float32).reshape(6, 6, 3)
    values = np.linalg.eigvalsh(np.cov(x.reshape(len(x), -1).T, bias=True))[::-1]
    np.testing.assert_allclose(fit_gaussian(x).deviations ** 2, values[:DIRECTIONS], rtol=1e-4)


def test_one_repeated_picture_has_no_directions():
    one = varied(1).repeat(5, axis=0)
    found = fit_gaussian(one)
    assert found.directions.shape == (0, *SHAPE) and found.deviations.shape == (0,)
    eps = varied(seed=1)
    start = next(gaussian_start(ddim, found)(None, SCHEDULE, eps, 5))
    alpha, sigma = SCHEDULE.at(start.t)
    np.testing.assert_allclose(start.x, alpha * one[0] + sigma * eps, atol=1e-6)


@pytest.mark.parametrize("alpha, sigma", [(0.3, 0.8), (np.array([0.9, 1.0, 0.0]), np.array([0.1, 7.0, 1.0]))])
def test_the_guess_is_the_conditional_mean(alpha, sigma):
    """By the formula for jointly normal x_0 and x_t, whose covariances are matrices: along the directions the pictures', in all else 1."""
    found = fit_gaussian(varied(5))
    v = found.directions.reshape(4, -1).astype(np.float64)
    C = covariance(found) + np.eye(18) - v.T @ v
    x = 3 * varied(3, seed=1).astype(np.float64)
    x0, eps = found.guess(x, alpha, sigma)
    for i in range(3):
        a, s = (np.broadcast_to(number, 3)[i] for number in (alpha, sigma))
        best = np.linalg.solve(a**2 * C + s**2 * np.eye(18), (x[i] - a * found.mean).ravel())
        np.testing.assert_allclose(x0[i].ravel(), found.mean.ravel() + a * C @ best, atol=1e-4)
        np.testing.assert_allclose(eps[i].ravel(), s * best, atol=1e-4)
    np.testing.assert_allclose(found.guess(x.astype(np.float32), alpha, sigma)[0], x0, atol=1e-4)
    np.testing.assert_allclose(np.reshape(alpha, (-1, 1, 1, 1)) * x0 + np.reshape(sigma, (-1, 1, 1, 1)) * eps, x, atol=1e-5)


@pytest.mark.parametrize("target", TARGETS)
def test_the_share_is_the_gaussians_target_and_fades(target):
    found, x = fit_gaussian(varied(5)), varied(3, seed=1).astype(np.float64)
    for alpha, sigma, part in ((1e-3, 5.0, 1), (0.1, 0.1, 1 / 16), (3.0, 0.03, 1e-16)):
        share = gaussian_share(found, target, x, alpha, sigma)
        np.testing.assert_allclose(share, part * from_x0_eps(target, *found.guess(x, alpha, sigma), alpha, sigma), rtol=1e-3)
    assert gaussian_share(None, target, x, 0.5, 0.5) == 0


@pytest.mark.parametrize("target", ["v", "x0"])
def test_the_network_is_asked_for_the_rest(target):
    """One that answers all but the Gaussian's share has no loss, and its guesses, put together again, are the pictures."""
    found, x0, eps, t = fit_gaussian(varied()), np.tanh(varied(4, seed=1)), varied(4, seed=2), np.array([0.0, 400.0, 800.0, 999.0])
    alpha, sigma = SCHEDULE.at(t)
    x_t = q_sample(SCHEDULE, x0, t, eps)
    rest = from_x0_eps(target, x0, eps, alpha, sigma) - gaussian_share(found, target, x_t, alpha, sigma)
    model = Answers(rest)
    assert float(loss(model, SCHEDULE, target, x0, t, eps, gaussian=found).data) < 1e-10 < float(loss(model, SCHEDULE, target, x0, t, eps).data)
    whole, _ = to_x0_eps(target, rest + gaussian_share(found, target, x_t, alpha, sigma), x_t, alpha, sigma)
    np.testing.assert_allclose(denoiser(model, SCHEDULE, target, gaussian=found)(x_t, t), whole, atol=1e-6)
    np.testing.assert_allclose(whole, x0, atol=1e-3)

    loss(model, SCHEDULE, target, x0, t, eps, self_condition=True, gaussian=found)
    np.testing.assert_allclose(model.guess, np.clip(whole, -1, 1), atol=1e-6)
    learned = [float(loss(Answers(np.concatenate([answer, 0 * x0], -1)), SCHEDULE, target, x0, t, eps, gaussian=known).data)
               for answer, known in ((rest, found), (from_x0_eps(target, x0, eps, alpha, sigma), None))]
    assert learned[0] == pytest.approx(learned[1], rel=1e-3)


class Answers:
    """A network that says one thing."""

    def __init__(self, answer):
        self.answer = Tensor(answer)

    def __call__(self, x, t, y, guess=None):
        self.guess = guess
        return self.answer

    def parameters(self):
        return [self.answer]


@pytest.mark.parametrize("schedule", [SCHEDULE, karras(100)], ids=["cosine", "karras"])
def test_the_first_step_has_the_distribution_of_its_time(schedule):
    """The step is x = a + A eps: fed with no noise and with each unit vector, it shows a and A; A A' must be alpha^2 C + sigma^2 I."""
    found, sigma_T = fit_gaussian(varied()), schedule.sigma[-1]
    x_T = (sigma_T * np.concatenate([np.zeros((1, 18)), np.eye(18)])).reshape(19, *SHAPE)
    start = next(gaussian_start(ddim, found)(None, schedule, x_T, 5))
    alpha, sigma = schedule.at(start.t)
    assert 2 * np.log(alpha / sigma) == pytest.approx(START, abs=1e-6) and start.x.dtype == np.float64
    rows = start.x.reshape(19, 18)
    np.testing.assert_allclose(rows[0], alpha * found.mean.ravel(), rtol=1e-6, atol=1e-7)
    A = rows[1:] - rows[0]
    np.testing.assert_allclose(A.T @ A, alpha**2 * covariance(found) + sigma**2 * np.eye(18), atol=1e-5 * sigma**2)
    np.testing.assert_array_equal(start.x0, np.broadcast_to(found.mean, start.x.shape))


def test_the_probability_flow_leads_where_the_step_does():
    """DDIM with the best denoiser, in more and more steps: what is left of the difference halves with the steps."""
    found = fit_gaussian(3 * varied())
    x_T = initial_noise(SCHEDULE, (4, *SHAPE), dtype=np.float64)
    start = next(gaussian_start(ddim, found)(None, SCHEDULE, x_T, 5))
    differences = []
    for steps in (50, 100):
        times = np.linspace(SCHEDULE.T - 1, start.t, steps + 1)
        at = [step.x for step in ddim(ideal(found), SCHEDULE, x_T, times)][steps - 1]       # the last but one, which is at start.t
        differences.append(np.abs(at - start.x).max())
    assert differences[0] < 0.002 and 1.8 < differences[0] / differences[1] < 2.2, differences


def test_the_sampler_goes_on_from_there():
    """Its own steps, one fewer, from the step's x; chunks are the whole; and a step is never shorter than 1."""
    found, x_T = fit_gaussian(varied()), initial_noise(SCHEDULE, (4, *SHAPE), seed=3)
    first, *others = gaussian_start(dpmpp_2m_sde, found)(ideal(found), SCHEDULE, x_T, 10, 3)
    assert first.t == time_of_log_snr(SCHEDULE, START) and first.x.dtype == others[-1].x.dtype == np.float32
    alone = list(dpmpp_2m_sde(ideal(found), SCHEDULE, first.x, np.linspace(first.t, -1, 10)[:-1], 3))
    assert len(others) == 9 and all(np.array_equal(a.x, b.x) and a.t == b.t for a, b in zip(others, alone, strict=True))
    *_, part = gaussian_start(dpmpp_2m_sde, found)(ideal(found), SCHEDULE, x_T[1:3], 10, 3, first=1)
    np.testing.assert_allclose(part.x, others[-1].x[1:3], atol=1e-5)        # a product of fewer rows may be summed in another order
    many = list(gaussian_start(ddim, found)(ideal(found), SCHEDULE, x_T, 1000))
    assert many[-1].t == -1 and len(many) == 2 + int(first.t) < 1000


def test_without_a_gaussian_it_is_the_sampler_and_one_step_is_too_few():
    assert gaussian_start(ddim, None) is ddim
    for steps in (1, 1001, 2.5, None, np.array([900, 500])):
        with pytest.raises(ValueError, match="but must be a whole number from 2 .* to the schedule's T = 1000"):
            next(gaussian_start(ddim, fit_gaussian(varied()))(None, SCHEDULE, varied(), steps))


def test_it_keeps_the_deviation_that_long_first_steps_lose():
    """Pictures whose brightness deviates as that of the cat faces does, 32 in norm, and the best denoiser: 50 steps lose a quarter of it.

    4,000 pictures tell a standard deviation to 1.1 %.
    """
    direction = np.full((1, 1, 1, 3), 3**-0.5, np.float32)
    bright = Gaussian(np.zeros((1, 1, 3), np.float32), direction, np.array([32], np.float32))
    x_T = initial_noise(SCHEDULE, (4000, 1, 1, 3))
    plain, started = ([*sampler(ideal(bright), SCHEDULE, x_T, 50)][-1].x.sum(axis=(1, 2, 3)).std() * 3**-0.5 / 32
                      for sampler in (dpmpp_2m_sde, gaussian_start(dpmpp_2m_sde, bright)))
    assert 0.73 < plain < 0.79 and 0.96 < started < 1.04, (plain, started)
