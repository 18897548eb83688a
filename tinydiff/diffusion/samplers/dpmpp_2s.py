"""DPM-Solver++(2S): a step in the middle, whose guess stands for the whole (Lu et al. 2022, arXiv 2211.01095, algorithm 1 with r = 1/2).

The step of `dpmpp_2m`, x_s = (sigma_s / sigma_t) x_t - alpha_s (e^-h - 1) D, needs the value D of x_0 that is right on the average. Here it is
found by going half of the way in lambda, to the time m, and asking there: second order, for two evaluations of the network a step and no
memory.

    x_m = (sigma_m / sigma_t) x_t - alpha_m (e^{-h/2} - 1) x_0(x_t, t),     lambda_m = lambda_t + h/2
    D   = x_0(x_m, m)

With eta > 0 the step goes to less noise than is due, sigma_down for sigma_s, and fresh noise sigma_up makes up for it, as in `euler_ancestral`
(k-diffusion, `sample_dpmpp_2s_ancestral`, at eta = 1).

There is no half way to lambda = inf, the clean end, nor from lambda = -inf, where alpha_t = 0: these steps have D = x_0, first order.

Read first: `dpmpp_2m.py`.
"""
from math import expm1, isfinite
from typing import Callable, Iterator

import numpy as np

from tinydiff.diffusion.samplers.common import Step, Steps, ancestral_split, check_eta, lambda_at, moves, noise
from tinydiff.diffusion.schedules import Schedule
from tinydiff.diffusion.times import time_of_log_snr


def dpmpp_2s(denoise: Callable, schedule: Schedule, x_T: np.ndarray, steps: Steps = None, seed: int = 0, *,
             eta: float = 0.0, first: int = 0) -> Iterator[Step]:
    """From noise x_T (N,H,W,C) to pictures, a Step after each step, by DPM-Solver++(2S) (Lu et al. 2022, arXiv 2211.01095, algorithm 1).

    Arguments that all samplers share: help(td.diffusion.samplers).
    eta  0 or more, the amount of fresh noise (1: the ancestral one). Raises ValueError for another.
    """
    check_eta("dpmpp_2s", eta)
    x = np.asarray(x_T)
    for move in moves(schedule, steps):
        number, t, s, alpha_t, sigma_t, alpha_s, sigma_s = move
        sigma_down, sigma_up = ancestral_split(move, eta)
        lambda_t = lambda_at(alpha_t, sigma_t)
        h = lambda_at(alpha_s, sigma_down) - lambda_t
        x0 = D = denoise(x, t)
        if isfinite(h):
            m = float(time_of_log_snr(schedule, 2 * lambda_t + h))  # lambda is half the log SNR
            alpha_m, sigma_m = schedule.at(m)
            D = denoise(sigma_m / sigma_t * x - alpha_m * expm1(-h / 2) * x0, m)
        x = sigma_down / sigma_t * x - alpha_s * expm1(-h) * D
        if sigma_up > 0:
            x = x + sigma_up * noise(x.shape, x.dtype, seed, number, first)
        yield Step(s, x, x0)
