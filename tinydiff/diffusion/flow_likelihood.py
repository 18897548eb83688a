"""How likely does a diffusion model find 8-bit pictures? The likelihood itself, along the probability flow.

Sampling without noise moves pictures along an ordinary differential equation. Followed backwards, it takes a picture x_0 to the one x_T that would
have become it; and how much the flow spreads or gathers on the way says by how much the density of x_0 differs from that of x_T, which is
Gaussian (Song et al. 2021, arXiv 2011.13456, section 4.3 and appendix D.2; Chen et al. 2018, arXiv 1806.07366, equation 8).

In which coordinates? With r^2 = alpha^2 + sigma^2, y = x_t / r is the same picture on a variance-preserving schedule, y = c x_0 + s eps with
c = alpha / r and s = sigma / r. With time lambda = ln(alpha / sigma), half the log SNR, dc = c s^2 dlambda and ds = -s c^2 dlambda, so

    dy / dlambda          = c s^2 x_0 - s c^2 eps = c (x_0_hat - c y)                eps = (y - c x_0_hat) / s
    dlog p(y) / dlambda   = -divergence of that   = c (c dimensions - r trace(d x_0_hat / d x))

which stays gentle at both ends: where there is little noise x_0_hat is near c y, where there is little picture c is near 0. Heun's steps of equal
size in lambda make an error of O(1/steps^2).

The trace would take one derivative for each of H W C numbers. Hutchinson's estimate needs one: u^T J u, with u of random signs, has the trace of J
for its mean (Grathwohl et al. 2018, arXiv 1810.01367, equation 7). So the result is right on average, over the pictures and over the seeds.

From densities to bytes: each byte is given a uniform random place within its own width (Theis et al. 2016, arXiv 1511.01844, section 3.1), and a
density of numbers in [-1, 1] is one of grey levels after division by 127.5 a dimension, which costs log2(127.5) = 6.99 bits.

Read first: `likelihood.py`, `samplers/heun.py`.
"""
import math
from typing import Callable

import numpy as np

from tinydiff.diffusion.likelihood import in_model_space
from tinydiff.diffusion.schedules import Schedule
from tinydiff.diffusion.times import time_of_log_snr

DEQUANTISE, PROBE = 44, 45  # streams of random numbers: default_rng([seed, STREAM, i]), i the picture's index in the whole set


def flow_likelihood(denoise: Callable, schedule: Schedule, images: np.ndarray, steps: int = 50, seed: int = 0, *, first: int = 0) -> np.ndarray:
    """Bits per dimension of 8-bit pictures by the probability flow: (N,) float64, -log2 p a dimension.

    denoise  (x, t) -> guess of x_0, with `denoise.vjp(x, t, u)` as `denoiser` makes it: u^T d denoise / dx. Don't clip it.
    images   (N,H,W,C) uint8.
    steps    of Heun's method; each asks for two guesses and two derivatives.
    first    index of the first picture in the whole set: a set in chunks then has the likelihoods of the set at once.

    Raises TypeError where images aren't uint8, ValueError where the shapes don't fit and as `log_density` does.
    """
    x_0 = in_model_space("flow_likelihood", images)
    place = [np.random.default_rng([seed, DEQUANTISE, first + i]).uniform(-0.5, 0.5, x_0.shape[1:]) for i in range(len(x_0))]
    density = log_density(denoise, schedule, x_0 + np.array(place) / 127.5, steps, seed, first=first)
    return -density / (x_0[0].size * math.log(2)) + math.log2(127.5)


def log_density(denoise, schedule, x, steps=50, seed=0, *, first=0) -> np.ndarray:
    """ln p(x) of pictures x (N,H,W,C), float64 in [-1, 1], by the probability flow: (N,) nats. Arguments: see `flow_likelihood`.

    The flow begins at t = 0, where x counts as x_0 with no noise left; p is the density of the pictures as they are there, blurred by
    sigma_0 / alpha_0. It ends at T-1 or, where alpha is 0 there, at T-2. Raises ValueError for a denoiser that has no vjp, steps below 1 or a
    schedule too short to have a way between.
    """
    if not hasattr(denoise, "vjp"):
        raise ValueError("flow_likelihood: the trace needs a denoiser with vjp(x, t, u), as `denoiser` makes of a network; this one has none "
                         "(a clipped one has no derivative either: give it unclipped)")
    if steps != int(steps) or steps < 1:
        raise ValueError(f"flow_likelihood: steps is {steps}, but must be a whole number, 1 or more")
    last = schedule.T - 1 if schedule.alpha[-1] > 0 else schedule.T - 2
    if last < 1:
        raise ValueError(f"flow_likelihood: the flow leads from t = 0 to the last t where alpha > 0, which is {last}; the schedule is too short")
    probe = np.array([np.random.default_rng([seed, PROBE, first + i]).choice([-1.0, 1.0], x.shape[1:]) for i in range(len(x))])

    def flow(y, t):
        """dy / dlambda (N,H,W,C), and the estimate of its divergence (N,)."""
        alpha, sigma = schedule.at(t)
        r = math.hypot(alpha, sigma)
        c = alpha / r
        trace = (denoise.vjp(r * y, t, probe) * probe).reshape(len(y), -1).sum(axis=1)
        return c * (denoise(r * y, t) - c * y), c * (r * trace - c * y[0].size)

    lambdas = np.linspace(schedule.log_snr[0] / 2, schedule.log_snr[last] / 2, steps + 1)
    times = np.clip(time_of_log_snr(schedule, 2 * lambdas), 0, last).tolist()
    h = lambdas[1] - lambdas[0]  # below 0: towards more noise
    c_0, (alpha_T, sigma_T) = schedule.alpha[0] / math.hypot(schedule.alpha[0], schedule.sigma[0]), schedule.at(last)
    y, log_p = c_0 * x, x[0].size * math.log(c_0)
    for t, s in zip(times, times[1:]):
        slope, divergence = flow(y, t)
        slope_s, divergence_s = flow(y + h * slope, s)
        y = y + h / 2 * (slope + slope_s)
        log_p = log_p + h / 2 * (divergence + divergence_s)
    deviation = sigma_T / math.hypot(alpha_T, sigma_T)  # of y at the end, which a sampler starts with: `initial_noise`
    normal = -np.square(y / deviation) / 2 - math.log(deviation * math.sqrt(2 * math.pi))
    return log_p + normal.reshape(len(y), -1).sum(axis=1)
