"""Euler ancestral: an Euler step to less noise than is due, then fresh noise to make up for it (k-diffusion, `sample_euler_ancestral`).

The noise that is due at s is split, sigma_s^2 = sigma_down^2 + sigma_up^2. A step along the probability flow (see `euler`) goes to sigma_down,
and noise of standard deviation sigma_up is added:

    sigma_up = eta sqrt(sigma_s^2 sigma_{t|s}^2 / sigma_t^2), at most sigma_s
    x_s = x_t + (alpha_s - alpha_t) x_0 + (sigma_down - sigma_t) eps + sigma_up z,     z from N(0, I)

k-diffusion has alpha = 1, where sigma_{t|s}^2 = sigma_t^2 - sigma_s^2. For eta from 0 to 1 this is DDIM with the same eta; more is allowed, up
to where all noise is drawn afresh.

Read first: `euler.py`.
"""
from typing import Callable, Iterator

import numpy as np

from tinydiff.diffusion.samplers.common import Step, Steps, ancestral_split, check_eta, moves, noise
from tinydiff.diffusion.schedules import Schedule


def euler_ancestral(denoise: Callable, schedule: Schedule, x_T: np.ndarray, steps: Steps = None, seed: int = 0, *,
                    eta: float = 1.0, first: int = 0) -> Iterator[Step]:
    """From noise x_T (N,H,W,C) to pictures, a Step after each step, by Euler's method with fresh noise (Crowson 2022, k-diffusion).

    Arguments that all samplers share: help(td.diffusion.samplers).
    eta  0 or more, the amount of fresh noise (1: DDPM's). Raises ValueError for another.
    """
    check_eta("euler_ancestral", eta)
    x = np.asarray(x_T)
    for move in moves(schedule, steps):
        number, t, s, alpha_t, sigma_t, alpha_s, sigma_s = move
        sigma_down, sigma_up = ancestral_split(move, eta)
        x0 = denoise(x, t)
        eps = (x - alpha_t * x0) / sigma_t
        x = x + (alpha_s - alpha_t) * x0 + (sigma_down - sigma_t) * eps
        if sigma_up > 0:
            x = x + sigma_up * noise(x.shape, x.dtype, seed, number, first)
        yield Step(s, x, x0)
