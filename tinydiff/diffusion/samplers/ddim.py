"""DDIM: the same network, far fewer steps (Song, Meng and Ermon 2020, arXiv 2010.02502, equation 12).

A guess of x_0 fixes a guess of the noise, eps = (x_t - alpha_t x_0) / sigma_t. To go from t to an earlier s, mix the two again in the
amounts that belong to s. Of the noise sigma_s, a part s_hat may be drawn afresh:

    x_s = alpha_s x_0 + sqrt(sigma_s^2 - s_hat^2) eps + s_hat z,     z from N(0, I)
    s_hat = eta sqrt(sigma_{t|s}^2 sigma_s^2 / sigma_t^2)            equation 16, for any alpha and sigma

Why any s_hat will do: given x_0, the true eps is N(0, I), and so is z. Then x_s is alpha_s x_0 with noise of variance
(sigma_s^2 - s_hat^2) + s_hat^2 = sigma_s^2, the right amount for the time s; and of the forward process a network has seen nothing but these
amounts, one t at a time.

eta = 0 draws nothing: one x_T gives one picture. eta = 1 is DDPM: then s_hat^2 = beta_tilde of `posterior.py`, and what multiplies x_t is

    sqrt(sigma_s^2 - s_hat^2) / sigma_t = sigma_s sqrt(sigma_t^2 - sigma_{t|s}^2) / sigma_t^2 = alpha_{t|s} sigma_s^2 / sigma_t^2

just as in DDPM's mean, since sigma_t^2 - sigma_{t|s}^2 = alpha_{t|s}^2 sigma_s^2.

Checked by `tests/diffusion/test_samplers.py::test_every_step_has_the_noise_of_its_time`,
`tests/diffusion/test_samplers.py::test_ddim_with_eta_1_is_ddpm` and
`tests/diffusion/test_samplers.py::test_ddim_converges_to_the_probability_flow_at_first_order`.

Read first: `ddpm.py`.
"""
from math import sqrt
from typing import Callable, Iterator

import numpy as np

from tinydiff.diffusion.samplers.common import Step, Steps, moves, noise, transition_variance
from tinydiff.diffusion.schedules import Schedule


def ddim(denoise: Callable, schedule: Schedule, x_T: np.ndarray, steps: Steps = None, seed: int = 0, *,
         eta: float = 0.0, first: int = 0) -> Iterator[Step]:
    """From noise x_T (N,H,W,C) to pictures, a Step after each step, by DDIM (Song, Meng and Ermon 2020, arXiv 2010.02502, equation 12).

    Arguments that all samplers share: help(td.diffusion.samplers).
    eta  from 0 (deterministic) to 1 (DDPM). Raises ValueError for another.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"ddim: eta is {eta}, but must be from 0 (no fresh noise) to 1 (DDPM)")
    x = np.asarray(x_T)
    for move in moves(schedule, steps):
        number, t, s, alpha_t, sigma_t, alpha_s, sigma_s = move
        x0 = denoise(x, t)
        eps = (x - alpha_t * x0) / sigma_t  # from this x0, so that a clipped guess changes eps too
        fresh = eta**2 * transition_variance(move) / sigma_t**2  # s_hat^2 / sigma_s^2, 0 to 1
        x = alpha_s * x0 + sigma_s * sqrt(1 - fresh) * eps
        s_hat = sigma_s * sqrt(fresh)
        if s_hat > 0:
            x = x + s_hat * noise(x.shape, x.dtype, seed, number, first)
        yield Step(s, x, x0)
