"""DDPM: walk the forward process backwards, one random step at a time (Ho et al. 2020, arXiv 2006.11239, algorithm 2).

If x_0 were known, Bayes' rule would give the exact way back from t to an earlier s (equations 6 and 7; here for any alpha and sigma, as in
Kingma et al. 2021, arXiv 2107.00630, appendix A; derived in `posterior.py`, where sigma_{t|s}^2 is beta and the variance beta_tilde):

    q(x_s | x_t, x_0) = N(mean, variance)
    mean     = alpha_{t|s} sigma_s^2 / sigma_t^2  x_t  +  alpha_s sigma_{t|s}^2 / sigma_t^2  x_0
    variance = sigma_{t|s}^2 sigma_s^2 / sigma_t^2
    with alpha_{t|s} = alpha_t / alpha_s  and  sigma_{t|s}^2 = sigma_t^2 - alpha_{t|s}^2 sigma_s^2

DDPM puts the network's guess in x_0's place. But x_0 isn't known: it varies about the guess, and x_s does so more than the variance above says.
Which variance to draw with (Ho et al., section 3.2):

    fixed_small  sigma_{t|s}^2 sigma_s^2 / sigma_t^2, the above: right where all data are one picture. The papers' beta tilde.
    fixed_large  sigma_{t|s}^2, the papers' beta: right where the data are N(0, I) and the schedule is variance preserving. Where sigma grows
                 beyond 1, long steps so leave more noise than sigma_s, and want fixed_small.
    learned      what the network says, pixel by pixel (Nichol and Dhariwal 2021, arXiv 2102.09672, equation 15)

At the last step, to the clean picture, the mean is the guess itself, and no noise is added (Ho et al., algorithm 2, line 3).

Read first: `common.py`, `diffusion/posterior.py`.
"""
from math import sqrt
from typing import Callable, Iterator

import numpy as np

from tinydiff.diffusion.samplers.common import Step, Steps, moves, noise, transition_variance
from tinydiff.diffusion.schedules import Schedule

VARIANCES = ("fixed_small", "fixed_large", "learned")


def ddpm(denoise: Callable, schedule: Schedule, x_T: np.ndarray, steps: Steps = None, seed: int = 0, *,
         variance: str | None = None, first: int = 0) -> Iterator[Step]:
    """From noise x_T (N,H,W,C) to pictures, a Step after each step, by ancestral sampling (Ho et al. 2020, arXiv 2006.11239, algorithm 2).

    Arguments that all samplers share: help(td.diffusion.samplers). Best with all T steps; for fewer, `ddim` is better.

    variance  "fixed_small", "fixed_large", or "learned": denoise.log_variance(x, t, s) then gives its logarithm, for the step from t to s, in
              the shape of x. None: learned where the denoiser has log_variance, otherwise fixed_small. Raises ValueError for another name,
              and for "learned" with a denoiser that has no log_variance.
    """
    if variance is None:
        variance = "learned" if hasattr(denoise, "log_variance") else "fixed_small"
    if variance not in VARIANCES:
        raise ValueError(f"ddpm: unknown variance {variance!r}; choose one of {', '.join(VARIANCES)}")
    if variance == "learned" and not hasattr(denoise, "log_variance"):
        raise ValueError("ddpm: variance 'learned' needs a denoiser with log_variance(x, t, s), as that of a network which learnt its variance "
                         "has; this one has none: use 'fixed_small' or 'fixed_large'")
    x = np.asarray(x_T)
    for move in moves(schedule, steps):
        number, t, s, alpha_t, sigma_t, alpha_s, sigma_s = move
        alpha_ts, sigma_ts_2 = alpha_t / alpha_s, transition_variance(move)
        x0 = denoise(x, t)
        if variance == "learned" and sigma_s > 0:
            deviation = np.exp(denoise.log_variance(x, t, s) / 2)  # (N,H,W,C)
        else:
            deviation = sqrt(sigma_ts_2 if variance == "fixed_large" else sigma_ts_2 * sigma_s**2 / sigma_t**2)
        x = (alpha_ts * sigma_s**2 / sigma_t**2) * x + (alpha_s * sigma_ts_2 / sigma_t**2) * x0
        if sigma_s > 0:
            x = x + deviation * noise(x.shape, x.dtype, seed, number, first)
        yield Step(s, x, x0)
