"""UniPC of order 2: a predictor, and a corrector that costs no evaluation (Zhao et al. 2023, arXiv 2302.04867, UniP-2 and UniC-2 for data
prediction, B(h) = e^h - 1).

As in `dpmpp_2m`, a step h long in lambda = ln(alpha / sigma) is solved exactly but for how the guess x_0 changes on the way. Count that way by u,
from 0 at t to 1 at s; the last guess, then, was made at u = -r, r = h_last / h. The integral of proposition 4.1 of DPM-Solver++ becomes

    x_s = (sigma_s / sigma_t) x_t + alpha_s * integral from 0 to 1 of h e^{-h (1-u)} x_0(u) du

UniP  predicts x_s from the straight line through the guesses at u = -r and u = 0, x_0 + u (x_0 - x_0_last) / r, with 1/2 for the mean u. This is
      DPM-Solver++(2M).
UniC  The next step asks the network at this x_s anyway. Its guess x_0' is the one at u = 1, so now a parabola through three guesses is known,
      x_0 + a u + b u^2, and x_s is computed again, with one order more:

    x_s = (sigma_s / sigma_t) x_t + alpha_s (J_0 x_0 + J_1 a + J_2 b)
    J_k = integral from 0 to 1 of h e^{-h (1-u)} u^k du,  so  J_0 = 1 - e^-h,  J_k = 1 - (k / h) J_{k-1}  (by parts)
    b   = (slope - slope_last) / (1 + r),  a = slope - b,  with slope = x_0' - x_0  and  slope_last = (x_0 - x_0_last) / r

In the first step there is no last guess: UniP-1 is DDIM, and UniC-1 weighs slope with J_0 / 2. That goes for a start at alpha_t = 0, too, where h
is infinite: half of the change is right to first order in alpha_s. The last step, to lambda = inf, is DDIM, and nothing comes after it.

Read first: `dpmpp_2m.py`.
"""
from math import expm1
from typing import Callable, Iterator

import numpy as np

from tinydiff.diffusion.samplers.common import Step, Steps, lambda_at, moves
from tinydiff.diffusion.schedules import Schedule


def unipc(denoise: Callable, schedule: Schedule, x_T: np.ndarray, steps: Steps = None, seed: int = 0, *, first: int = 0) -> Iterator[Step]:
    """From noise x_T (N,H,W,C) to pictures, a Step after each step, by UniPC of order 2 (Zhao et al. 2023, arXiv 2302.04867).

    Arguments that all samplers share: help(td.diffusion.samplers). Deterministic: seed and first change nothing. Step.x is what UniP predicts.
    """
    x = np.asarray(x_T)
    h = 0.0
    x0_last = slope_last = held = r = None  # held: x at t if the guess had not changed on the way there
    for _, t, s, alpha_t, sigma_t, alpha_s, sigma_s in moves(schedule, steps):
        x0 = denoise(x, t)
        h_last, h = h, lambda_at(alpha_s, sigma_s) - lambda_at(alpha_t, sigma_t)
        if x0_last is not None:
            slope = x0 - x0_last
            x = held + alpha_t * _correction(h_last, slope, slope_last, r)
        x = held = sigma_s / sigma_t * x - alpha_s * expm1(-h) * x0
        if x0_last is not None and sigma_s > 0:
            r = h_last / h
            slope_last = slope / r
            x = held - alpha_s * expm1(-h) * slope_last / 2
        x0_last = x0
        yield Step(s, x, x0)


def _correction(h, slope, slope_last, r):
    """UniC: what x_s / alpha_s gains over a step in which x_0 was held still. slope_last and r are None after the first step."""
    J_0 = -expm1(-h)
    if slope_last is None:
        return J_0 / 2 * slope
    J_1 = 1 - J_0 / h
    J_2 = 1 - 2 * J_1 / h
    b = (slope - slope_last) / (1 + r)
    return J_1 * (slope - b) + J_2 * b
