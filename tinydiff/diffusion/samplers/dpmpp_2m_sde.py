"""DPM-Solver++(2M) with noise: along the stochastic differential equation (SDE) whose pictures have the probability flow's distribution (Lu et al.
2022, arXiv 2211.01095, SDE-DPM-Solver++(2M); eta as in k-diffusion, `sample_dpmpp_2m_sde`, midpoint).

As in `dpmpp_2m`, the linear part is solved exactly over a step h long in lambda. Noise of strength eta is now added all along, and the drift (what
moves x besides) removes as much, so that x_t decays e^{-eta h} faster and x_0 comes in as much sooner:

    x_s = (sigma_s / sigma_t) e^{-eta h} x_t - alpha_s (e^{-(1 + eta) h} - 1) D + sigma_s sqrt(1 - e^{-2 eta h}) z,     z from N(0, I)
    D   = (1 + 1 / 2r) x_0 - (1 / 2r) x_0_last,     r = h_last / h

eta = 0 is `dpmpp_2m`; eta = 1 with D = x_0 is DDPM. First order at the first step and at the last.

Read first: `dpmpp_2m.py`.
"""
from math import exp, expm1, sqrt
from typing import Callable, Iterator

import numpy as np

from tinydiff.diffusion.samplers.common import Step, Steps, check_eta, lambda_at, moves, noise
from tinydiff.diffusion.schedules import Schedule


def dpmpp_2m_sde(denoise: Callable, schedule: Schedule, x_T: np.ndarray, steps: Steps = None, seed: int = 0, *,
                 eta: float = 1.0, first: int = 0) -> Iterator[Step]:
    """From noise x_T (N,H,W,C) to pictures, a Step after each step, by SDE-DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095).

    Arguments that all samplers share: help(td.diffusion.samplers).
    eta  0 or more, the amount of fresh noise (0: `dpmpp_2m`). Raises ValueError for another.
    """
    check_eta("dpmpp_2m_sde", eta)
    x = np.asarray(x_T)
    x0_last, h_last = None, 0.0
    for number, t, s, alpha_t, sigma_t, alpha_s, sigma_s in moves(schedule, steps):
        h = lambda_at(alpha_s, sigma_s) - lambda_at(alpha_t, sigma_t)
        eta_h = eta * h if eta > 0 else 0.0  # h may be infinite, and 0 times that is no number
        x0 = D = denoise(x, t)
        if x0_last is not None and sigma_s > 0:
            r = h_last / h
            D = (1 + 1 / (2 * r)) * x0 - 1 / (2 * r) * x0_last
        x = sigma_s / sigma_t * exp(-eta_h) * x - alpha_s * expm1(-h - eta_h) * D
        fresh = sigma_s * sqrt(-expm1(-2 * eta_h))
        if fresh > 0:
            x = x + fresh * noise(x.shape, x.dtype, seed, number, first)
        x0_last, h_last = x0, h
        yield Step(s, x, x0)
