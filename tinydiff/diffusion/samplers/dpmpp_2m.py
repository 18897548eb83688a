"""DPM-Solver++(2M): the linear part exactly, and the guess of x_0 extrapolated from the last two steps (Lu et al. 2022, arXiv 2211.01095,
algorithm 2).

The probability flow is dx = x_0 d alpha + eps d sigma (`euler.py`). Put in eps = (x - alpha x_0) / sigma, and lambda = ln(alpha / sigma), so that
d lambda = d alpha / alpha - d sigma / sigma:

    dx = x d sigma / sigma + (d alpha - alpha d sigma / sigma) x_0 = x d sigma / sigma + alpha x_0 d lambda
    d(x / sigma) = dx / sigma - x d sigma / sigma^2 = (alpha / sigma) x_0 d lambda = e^lambda x_0 d lambda

The part linear in x is gone: what is left is an integral over the guesses (proposition 4.1). From t to s, times sigma_s:

    x_s = (sigma_s / sigma_t) x_t + sigma_s * integral from lambda_t to lambda_s of e^lambda x_0(lambda) d lambda

With x_0 held at a value D over the step, h = lambda_s - lambda_t long, the integral is (e^lambda_s - e^lambda_t) D, and
sigma_s e^lambda_s = alpha_s:

    x_s = (sigma_s / sigma_t) x_t - alpha_s (e^-h - 1) D

D = x_0 is first order: DDIM. The straight line through this guess and the last one, made h_last earlier, taken half a step ahead, is second
order without a further evaluation:

    D = x_0 + (h / 2) (x_0 - x_0_last) / h_last = (1 + 1 / 2r) x_0 - (1 / 2r) x_0_last,     r = h_last / h

(Held at its middle value, a line gives the integral up to about h^3 / 12 times its slope: what it is short of in one half of the step it has too
much in the other, but for the change of e^lambda between them.)

Checked by `tests/diffusion/test_samplers_by_hand.py::test_dpmpp_2m`, and the orders by
`tests/diffusion/test_samplers_order.py::test_the_error_falls_at_the_order_of_the_method` and
`tests/diffusion/test_samplers_equal.py::test_first_order_dpm_solver_is_ddim_or_ddpm`.

The first step has no last guess, and the last step, to lambda = inf, no half: both are first order. Where alpha_t = 0, h is infinite and the
step is alpha_s x_0 + (sigma_s / sigma_t) x_t; that guess is too far off to extrapolate from, and r = inf leaves it out.

Read first: `euler.py`.
"""
from math import expm1
from typing import Callable, Iterator

import numpy as np

from tinydiff.diffusion.samplers.common import Step, Steps, lambda_at, moves
from tinydiff.diffusion.schedules import Schedule


def dpmpp_2m(denoise: Callable, schedule: Schedule, x_T: np.ndarray, steps: Steps = None, seed: int = 0, *, first: int = 0) -> Iterator[Step]:
    """From noise x_T (N,H,W,C) to pictures, a Step after each step, by DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095, algorithm 2).

    Arguments that all samplers share: help(td.diffusion.samplers). Deterministic: seed and first change nothing.
    """
    x = np.asarray(x_T)
    x0_last, h_last = None, 0.0
    for _, t, s, alpha_t, sigma_t, alpha_s, sigma_s in moves(schedule, steps):
        h = lambda_at(alpha_s, sigma_s) - lambda_at(alpha_t, sigma_t)
        x0 = D = denoise(x, t)
        if x0_last is not None and sigma_s > 0:
            r = h_last / h
            D = (1 + 1 / (2 * r)) * x0 - 1 / (2 * r) * x0_last
        x = sigma_s / sigma_t * x - alpha_s * expm1(-h) * D
        x0_last, h_last = x0, h
        yield Step(s, x, x0)
