"""Prediction targets: what the network is asked for, and the way from its answer to (x_0, eps) and back.

Given x_t = alpha x_0 + sigma eps, one more equation in x_0 and eps fixes both. Each target is such an equation:

    eps    out = eps                      Ho et al. 2020, arXiv 2006.11239
    x0     out = x_0
    v      out = alpha eps - sigma x_0    Salimans and Ho 2022, arXiv 2202.00512, section 4
    flow   out = eps - x_0                Lipman et al. 2023, arXiv 2210.02747; Liu et al. 2023, arXiv 2209.03003
    edm    x_0 = c_skip x_t/alpha + c_out out     Karras et al. 2022, arXiv 2206.00364, section 5 and table 1

edm writes s for our sigma/alpha, as its alpha is 1, and s_d for the standard deviation of the pictures' pixels: c_skip = s_d^2/(s^2 + s_d^2),
c_out = s s_d/sqrt(s^2 + s_d^2), c_in = 1/sqrt(s^2 + s_d^2), c_noise = ln(s)/4. With the length r = sqrt(sigma^2 + alpha^2 s_d^2) this is

    c_in x_t/alpha = x_t / r       what the network sees: its numbers have variance 1 at every t
    out = (sigma x_0/s_d - alpha s_d eps) / r      what it is asked for: of variance 1 too, -v for pictures of variance s_d = 1

eps says nothing about x_0 where alpha = 0 (x_t is all noise already), nor does x0 about eps where sigma = 0. v, flow and edm always answer;
but a network of edm is told ln(sigma/alpha), and so can't be asked at either end.

Read first: `forward.py`, `times.py`.
"""
import numpy as np
from numpy.typing import ArrayLike

from tinydiff.diffusion.forward import per_picture
from tinydiff.diffusion.times import network_times

TARGETS = ("eps", "x0", "v", "flow", "edm")
SIGMA_DATA = 0.5  # edm's s_d, of pictures in [-1, 1]


def to_x0_eps(target: str, out: np.ndarray, x_t: np.ndarray, alpha: ArrayLike, sigma: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The network's answer `out`, for the noisy pictures x_t, as the pair (x0, eps).

    out, x_t      (N,...) floats.
    alpha, sigma  of x_t: numbers, or (N,) one a picture.

    Raises ValueError for an unknown target, and for one that has no answer: "eps" at alpha = 0, "x0" at sigma = 0.
    """
    a, s = per_picture(alpha, x_t), per_picture(sigma, x_t)
    if target == "eps":
        if np.any(a == 0):
            raise ValueError("target 'eps' cannot give x0 where alpha = 0 (all noise, no picture); use target 'v', 'flow' or 'x0'")
        return (x_t - s * out) / a, out
    if target == "x0":
        if np.any(s == 0):
            raise ValueError("target 'x0' cannot give eps where sigma = 0 (a clean picture, no noise); use target 'v', 'flow' or 'eps'")
        return out, (x_t - a * out) / s
    if target == "v":
        norm = a * a + s * s  # 1 where the schedule is variance preserving
        return (a * x_t - s * out) / norm, (s * x_t + a * out) / norm
    if target == "flow":
        return (x_t - s * out) / (a + s), (x_t + a * out) / (a + s)
    if target == "edm":
        r = np.sqrt(s * s + (a * SIGMA_DATA) ** 2)
        return SIGMA_DATA * (a * SIGMA_DATA * x_t / r + s * out) / r, (s * x_t / r - a * SIGMA_DATA * out) / r
    raise _unknown(target)


def from_x0_eps(target: str, x0: np.ndarray, eps: np.ndarray, alpha: ArrayLike, sigma: ArrayLike) -> np.ndarray:
    """What a perfect network would answer for the pictures x0 (N,...) and noise eps (N,...): (N,...). The inverse of `to_x0_eps`."""
    if target == "eps":
        return eps
    if target == "x0":
        return x0
    if target == "flow":
        return eps - x0
    a, s = per_picture(alpha, x0), per_picture(sigma, x0)
    if target == "v":
        return a * eps - s * x0
    if target == "edm":
        return (s * x0 / SIGMA_DATA - a * SIGMA_DATA * eps) / np.sqrt(s * s + (a * SIGMA_DATA) ** 2)
    raise _unknown(target)


def x0_error(target: str, alpha: ArrayLike, sigma: ArrayLike) -> np.ndarray:
    """c, of alpha's and sigma's shape: an error e in the network's answer is an error c e (or -c e) in x_0. As `to_x0_eps` has it."""
    alpha, sigma = np.asarray(alpha, dtype=np.float64), np.asarray(sigma, dtype=np.float64)
    if target == "eps":
        return sigma / alpha
    if target == "x0":
        return np.ones_like(alpha)
    if target == "v":
        return sigma / (alpha**2 + sigma**2)
    if target == "flow":
        return sigma / (alpha + sigma)
    if target == "edm":
        return SIGMA_DATA * sigma / np.sqrt(sigma**2 + (alpha * SIGMA_DATA) ** 2)  # c_out
    raise _unknown(target)


def network_inputs(target, x_t, schedule, t):
    """The pair (picture, time) that a network of this target is given in place of x_t (N,...) and t: (N,...) and (N,), in x_t's dtype.

    edm: x_t / r, of variance 1, and 1000 c_noise = 250 ln(sigma/alpha). All others: x_t itself, and 1000 t / T.
    Raises ValueError for an unknown target, and for "edm" where the logarithm is infinite.
    """
    if target not in TARGETS:
        raise _unknown(target)
    times = network_times(schedule, t, like=x_t)
    if target != "edm":
        return x_t, times
    alpha, sigma = schedule.at(t)
    if np.any(alpha == 0) or np.any(sigma == 0):
        raise ValueError("target 'edm' tells the network ln(sigma/alpha), which is infinite where alpha = 0 (all noise) or sigma = 0 (a clean "
                         "picture); use target 'v' or 'flow'")
    a, s = per_picture(alpha, x_t), per_picture(sigma, x_t)
    log_ratio = np.broadcast_to(np.log(np.asarray(sigma) / alpha), times.shape)
    return x_t / np.sqrt(s * s + (a * SIGMA_DATA) ** 2), (250 * log_ratio).astype(x_t.dtype)


def _unknown(target):
    return ValueError(f"unknown target {target!r}; choose one of {', '.join(TARGETS)}")
