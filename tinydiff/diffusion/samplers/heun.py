"""Heun: the slope at both ends of a step, averaged; before it, if asked, a little noise (Karras et al. 2022, arXiv 2206.00364, algorithm 2).

An Euler step (see `euler`) takes the slope x_0 d alpha + eps d sigma where it starts. Asking again where it ends, and averaging, makes the method
second order, for two evaluations of the network a step:

    x'  = x_t + (alpha_s - alpha_t) x_0 + (sigma_s - sigma_t) eps
    x_s = x_t + (alpha_s - alpha_t) (x_0 + x_0') / 2 + (sigma_s - sigma_t) (eps + eps') / 2,     x_0', eps' from x' at s

The last step, to sigma = 0, stays Euler's: a clean picture has no eps. Where the flow ends depends on alpha and sigma at s alone, not on how they
got there, so within a step both may change evenly. Where alpha = 1 this is Karras' algorithm, on straight lines Heun's method in t, and
alpha may be 0. (Averaging slopes in the coordinates x/alpha and sigma/alpha instead, as k-diffusion does for a variance-preserving network, is
second order too, but goes wrong where alpha is nearly 0 and a single step takes sigma/alpha from thousands to ten.)

Churn: before a step, go forward in the diffusion, to a time t^ with (1 + gamma) times the noise level sigma/alpha, by adding fresh noise. What
errors earlier steps made drowns in it:

    gamma = min(s_churn / number of steps, sqrt(2) - 1)  if s_tmin <= sigma_t/alpha_t <= s_tmax, else 0
    x_t^  = alpha_{t^|t} x_t + sigma_{t^|t} s_noise z,     z from N(0, I)

The schedule's last level is the highest that the network knows, so t^ goes no further.

Read first: `euler.py`.
"""
from math import inf, log, sqrt
from typing import Callable, Iterator

import numpy as np

from tinydiff.diffusion.samplers.common import Step, Steps, moves, noise
from tinydiff.diffusion.schedules import Schedule
from tinydiff.diffusion.times import time_of_log_snr


def heun(denoise: Callable, schedule: Schedule, x_T: np.ndarray, steps: Steps = None, seed: int = 0, *,
         s_churn: float = 0.0, s_tmin: float = 0.0, s_tmax: float = inf, s_noise: float = 1.0, first: int = 0) -> Iterator[Step]:
    """From noise x_T (N,H,W,C) to pictures, a Step after each step, by Heun's method (Karras et al. 2022, arXiv 2206.00364, algorithm 2).

    Arguments that all samplers share: help(td.diffusion.samplers).

    s_churn         how much noise is added and removed again over all steps; 0 is deterministic
    s_tmin, s_tmax  the noise levels sigma/alpha between which it is
    s_noise         the standard deviation of that noise; a little above 1 makes up for detail that a network loses

    Raises ValueError where one of them is negative or not a number.
    """
    for name, value in (("s_churn", s_churn), ("s_tmin", s_tmin), ("s_tmax", s_tmax), ("s_noise", s_noise)):
        if not value >= 0:
            raise ValueError(f"heun: {name} is {value}, but must be a number from 0 upwards")
    x = np.asarray(x_T)
    walk = list(moves(schedule, steps))
    for number, t, s, alpha_t, sigma_t, alpha_s, sigma_s in walk:
        if s_churn > 0 and alpha_t > 0 and s_tmin <= sigma_t / alpha_t <= s_tmax:
            gamma = min(s_churn / len(walk), sqrt(2) - 1)
            t_hat = float(time_of_log_snr(schedule, -2 * log((1 + gamma) * sigma_t / alpha_t)))
            alpha_hat, sigma_hat = schedule.at(t_hat)
            added = sigma_hat**2 - (alpha_hat / alpha_t) ** 2 * sigma_t**2  # sigma_{t^|t}^2
            if added > 0:
                x = alpha_hat / alpha_t * x + sqrt(added) * s_noise * noise(x.shape, x.dtype, seed, number, first)
                t, alpha_t, sigma_t = t_hat, alpha_hat, sigma_hat
        x0 = denoise(x, t)
        eps = (x - alpha_t * x0) / sigma_t
        x_t, x = x, x + (alpha_s - alpha_t) * x0 + (sigma_s - sigma_t) * eps
        if sigma_s > 0:
            x0_s = denoise(x, s)
            eps_s = (x - alpha_s * x0_s) / sigma_s
            x = x_t + (alpha_s - alpha_t) / 2 * (x0 + x0_s) + (sigma_s - sigma_t) / 2 * (eps + eps_s)
        yield Step(s, x, x0)
