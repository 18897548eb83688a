"""Euler: a straight step along the probability flow (Karras et al. 2022, arXiv 2206.00364, algorithm 1 without its correction).

Let alpha and sigma change, and move x so that it always has the distribution that belongs to them. Of all ways to do so, the probability
flow is the one without randomness (Song et al. 2020, arXiv 2011.13456, equation 13; Karras et al., equation 4). With the guess x_0 and the noise
eps = (x - alpha x_0) / sigma that it leaves,

    dx = x_0 d alpha + eps d sigma

Where alpha = 1 this is Karras' dx = eps d sigma; on straight lines, alpha = 1 - sigma, it is the velocity of flow matching, eps - x_0. Euler
holds x_0 and eps still for a step:

    x_s = x_t + (alpha_s - alpha_t) x_0 + (sigma_s - sigma_t) eps

Since x_t = alpha_t x_0 + sigma_t eps, that is alpha_s x_0 + sigma_s eps: DDIM's step. The same again comes out in Karras' coordinates x/alpha
and sigma/alpha, where d(x/alpha) = eps d(sigma/alpha); here alpha may be 0.

Read first: `ddim.py`.
"""
from typing import Callable, Iterator

import numpy as np

from tinydiff.diffusion.samplers.common import Step, Steps, moves
from tinydiff.diffusion.schedules import Schedule


def euler(denoise: Callable, schedule: Schedule, x_T: np.ndarray, steps: Steps = None, seed: int = 0, *, first: int = 0) -> Iterator[Step]:
    """From noise x_T (N,H,W,C) to pictures, a Step after each step, by Euler's method (Karras et al. 2022, arXiv 2206.00364, algorithm 1).

    Arguments that all samplers share: help(td.diffusion.samplers). Deterministic: seed and first change nothing.
    """
    x = np.asarray(x_T)
    for _, t, s, alpha_t, sigma_t, alpha_s, sigma_s in moves(schedule, steps):
        x0 = denoise(x, t)
        eps = (x - alpha_t * x0) / sigma_t
        x = x + (alpha_s - alpha_t) * x0 + (sigma_s - sigma_t) * eps
        yield Step(s, x, x0)
