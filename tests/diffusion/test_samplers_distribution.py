"""What the samplers with noise draw has the distribution of the data, as far as its first four moments tell."""
from math import sqrt

import numpy as np
import pytest

from tests.diffusion.mixture import KURTOSIS, MEAN, SKEW, VARIANCE, data, denoiser, flow, karras, last, noisy, posterior
from tinydiff.diffusion import Schedule, cosine, ddim, ddpm, dpmpp_2m_sde, dpmpp_2s, euler_ancestral, heun

SCHEDULES = {"cosine": cosine(), "karras": karras(), "flow": flow()}
PIXELS = 10_000


def moments(x):
    """The mean and the second, third and fourth central moment, about the mixture's own mean."""
    return np.array([x.mean(), *(np.mean((x - MEAN) ** k) for k in (2, 3, 4))])


EXACT = np.array([MEAN, VARIANCE, SKEW, KURTOSIS])
ERROR = np.array([np.std((data(10**6) - MEAN) ** k) for k in (1, 2, 3, 4)]) / sqrt(PIXELS)     # standard errors of the four


def variance_denoiser(schedule):
    """The perfect denoiser of one that learnt the variance of x_s, given x_t: the posterior's, and what x_0's own variance adds."""
    denoise = denoiser(schedule)

    def log_variance(x, t, s):
        (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule.at(t), schedule.at(s)
        p, mean, variance = posterior(alpha_t, sigma_t, x)
        x0_variance = (p * (variance + mean**2)).sum(axis=-1) - (p * mean).sum(axis=-1) ** 2
        sigma_ts_2 = sigma_t**2 - (alpha_t / alpha_s) ** 2 * sigma_s**2
        return np.log(sigma_ts_2 * sigma_s**2 / sigma_t**2 + (alpha_s * sigma_ts_2 / sigma_t**2) ** 2 * x0_variance)
    denoise.log_variance = log_variance
    return denoise


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("sampler, own", [
    (ddpm, {"variance": "fixed_small"}), (ddpm, {"variance": "fixed_large"}), (ddpm, {"variance": "learned"}), (ddim, {"eta": 0.5}),
    (euler_ancestral, {}), (heun, {"s_churn": 20.0}), (dpmpp_2m_sde, {}), (dpmpp_2s, {"eta": 1.0}),
], ids=["ddpm small", "ddpm large", "ddpm learned", "ddim", "euler_ancestral", "heun", "2m_sde", "2s"])
def test_the_moments_are_the_mixtures(name, sampler, own):
    """Extrapolated from 40 and 80 steps to infinitely many, 2 m_80 - m_40: errors of first order in the length of steps cancel.

    The two runs share their noise but for the steps, so at worst the standard error is sqrt(2^2 + 1) that of one run.
    """
    schedule = SCHEDULES[name]
    denoise, x_T = variance_denoiser(schedule), noisy(schedule, 999, (1, PIXELS))
    coarse, fine = (moments(last(sampler(denoise, schedule, x_T, steps, seed=2, **own)).x) for steps in (40, 80))
    deviation = (2 * fine - coarse - EXACT) / (sqrt(5) * ERROR)
    assert np.abs(deviation).max() < 3.5, deviation


def test_ddim_with_eta_1_at_full_steps_has_ddpms_distribution():
    """With noise of its own. (Step by step, with shared noise, the two are equal: test_samplers.)"""
    schedule = cosine(200)
    one, two = (moments(last(sampler(denoiser(schedule), schedule, noisy(schedule, 199, (1, PIXELS), seed), None, seed, **own)).x)
                for sampler, seed, own in ((ddpm, 10, {}), (ddim, 20, {"eta": 1.0})))
    deviation = (one - two) / (sqrt(2) * ERROR)
    assert np.abs(deviation).max() < 3.5, deviation


def gaussian(schedule, spread):
    """The denoiser of data N(0, spread^2), with the variance of x_s given x_t in closed form."""
    def denoise(x, t):
        alpha, sigma = schedule.at(t)
        return alpha * spread**2 / (alpha**2 * spread**2 + sigma**2) * x

    def log_variance(x, t, s):
        (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule.at(t), schedule.at(s)
        v_t, v_s = (a**2 * spread**2 + b**2 for a, b in ((alpha_t, sigma_t), (alpha_s, sigma_s)))
        return np.full_like(x, np.log(v_s * (1 - (alpha_t / alpha_s) ** 2 * v_s / v_t)))
    denoise.log_variance = log_variance
    return denoise


@pytest.mark.parametrize("variance, schedule, spread", [
    ("fixed_large", cosine(), 1.0),                                               # variance preserving, data N(0, I)
    ("fixed_small", cosine(), 1e-3), ("fixed_small", flow(), 1e-3),               # (nearly) a single picture
    ("learned", cosine(), 0.5), ("learned", karras(), 0.5), ("learned", Schedule([0.9, 0.7, 0.2], [0.1, 1.0, 2.0]), 0.5),
])
def test_where_each_variance_of_ddpm_is_exact(variance, schedule, spread):
    """There even three steps leave x with the variance that belongs to its time, at each but the clean one, where a mean comes out."""
    T = schedule.T - 1
    alpha, sigma = schedule.at(T)
    x_T = sqrt(alpha**2 * spread**2 + sigma**2) * np.random.default_rng(0).standard_normal((1, PIXELS))
    for step in ddpm(gaussian(schedule, spread), schedule, x_T, [T, T / 2, T / 4], seed=1, variance=variance):
        if step.t >= 0:
            alpha, sigma = schedule.at(step.t)
            assert abs(step.x.var() / (alpha**2 * spread**2 + sigma**2) - 1) < 4 * sqrt(2 / PIXELS), step.t
