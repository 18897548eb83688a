"""A Gaussian start: where the pictures are taken to be normally distributed, the way from pure noise to x_t is one step, without the network.

If x_0 is from N(mean, sum_k d_k^2 v_k v_k'), then x_t is from N(alpha_t mean, sum_k alpha_t^2 d_k^2 v_k v_k' + sigma_t^2 I). Along each v_k the
noise is stretched to the deviation that x_t has there, which is also where the probability flow would take it, on a schedule that ends in nothing but
noise:

    x_t = alpha_t mean + sigma_t eps, the part of sigma_t eps along each v_k times sqrt(alpha_t^2 d_k^2 + sigma_t^2) / sigma_t

(Wang and Vastola 2024, arXiv 2412.09726, who replace the first 15 to 30 % of a sampler's steps by it.) Steps equally long in t are too long there: on
the cosine schedule the first of 50 takes the log SNR from minus infinity to -7, by which DPM-Solver++(2M) SDE loses a quarter of the deviation in
brightness, however good the denoiser is. benchmarks/README.md has the figures ("How photographs are drawn").

Read first: `gaussian.py`, `samplers/__init__.py`.
"""
from typing import Callable

import numpy as np

from tinydiff.diffusion.gaussian import Gaussian
from tinydiff.diffusion.samplers.common import Step
from tinydiff.diffusion.times import time_of_log_snr

START = -5.0            # the log SNR that the step ends at: up to there a network guesses no better than the Gaussian (benchmarks/README.md)


def gaussian_start(sampler: Callable, gaussian: Gaussian | None) -> Callable:
    """The sampler, but its first step is the Gaussian's; without one, the sampler itself.

    In the sampler's place, with its arguments, x_T (N,H,W,C) among them, but steps is a number, 2 to T (ValueError otherwise); where the sampler's
    would be shorter than 1, they are fewer. The first Step's x0 is the mean, the best guess from noise alone.
    """
    if gaussian is None:
        return sampler
    mean, d = gaussian.mean, gaussian.deviations

    def sample(denoise, schedule, x_T, steps, seed=0, *, first=0):
        if not isinstance(steps, (int, np.integer)) or not 2 <= steps <= schedule.T:
            raise ValueError(f"gaussian_start: steps is {steps}, but must be a whole number from 2 (the Gaussian's step, and one of the "
                             f"network) to the schedule's T = {schedule.T}")
        t = float(time_of_log_snr(schedule, START))
        alpha, sigma = schedule.at(t)
        eps = x_T / float(schedule.sigma[-1])
        noise = sigma * eps
        x = alpha * mean + gaussian.stretched(noise, gaussian.along(noise), np.sqrt(alpha**2 * d**2 + sigma**2) / sigma)
        yield Step(t, x, np.broadcast_to(mean, x.shape))
        left = min(steps - 1, int(t) + 1)
        yield from sampler(denoise, schedule, x, np.linspace(t, -1, left + 1)[:-1], seed, first=first)
    return sample
