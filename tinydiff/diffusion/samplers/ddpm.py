"""DDPM: walk the forward process backwards, one random step at a time (Ho et al. 2020, arXiv 2006.11239, algorithm 2).

If x_0 were known, Bayes' rule would give the exact way back from t to an earlier s (equations 6 and 7; here for any alpha and sigma, as in
Kingma et al. 2021, arXiv 2107.00630, appendix A):

    q(x_s | x_t, x_0) = N(mean, variance)
    mean     = alpha_{t|s} sigma_s^2 / sigma_t^2  x_t  +  alpha_s sigma_{t|s}^2 / sigma_t^2  x_0
    variance = sigma_{t|s}^2 sigma_s^2 / sigma_t^2
    with alpha_{t|s} = alpha_t / alpha_s  and  sigma_{t|s}^2 = sigma_t^2 - alpha_{t|s}^2 sigma_s^2

DDPM puts the network's guess in x_0's place. At the last step sigma_s = 0: the variance is 0 and the mean is the guess itself.
"""
from math import sqrt
from typing import Iterator

import numpy as np

from tinydiff.diffusion.samplers.common import Step, moves, noise, transition_variance


def ddpm(denoise, schedule, x_T, steps=None, seed=0, *, first=0) -> Iterator[Step]:
    """Ancestral sampling. Arguments: see `tinydiff.diffusion.samplers`. Best with all T steps; for fewer, `ddim` is better."""
    x = np.asarray(x_T)
    for move in moves(schedule, steps):
        number, t, s, alpha_t, sigma_t, alpha_s, sigma_s = move
        alpha_ts, sigma_ts_2 = alpha_t / alpha_s, transition_variance(move)
        x0 = denoise(x, t)
        x = (alpha_ts * sigma_s**2 / sigma_t**2) * x + (alpha_s * sigma_ts_2 / sigma_t**2) * x0
        variance = sigma_ts_2 * sigma_s**2 / sigma_t**2
        if variance > 0:
            x = x + sqrt(variance) * noise(x.shape, x.dtype, seed, number, first)
        yield Step(s, x, x0)
