"""Prediction targets: what the network is asked for, and the way from its answer to (x_0, eps) and back.

Given x_t = alpha x_0 + sigma eps, one more equation in x_0 and eps fixes both. Each target is such an equation:

    eps    out = eps                      Ho et al. 2020, arXiv 2006.11239
    x0     out = x_0
    v      out = alpha eps - sigma x_0    Salimans and Ho 2022, arXiv 2202.00512, section 4
    flow   out = eps - x_0                Lipman et al. 2023, arXiv 2210.02747; Liu et al. 2023, arXiv 2209.03003

eps says nothing about x_0 where alpha = 0 (x_t is all noise already), nor does x0 about eps where sigma = 0. v and flow always answer.
"""
import numpy as np

from tinydiff.diffusion.forward import per_picture

TARGETS = ("eps", "x0", "v", "flow")


def to_x0_eps(target, out, x_t, alpha, sigma):
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
    raise _unknown(target)


def from_x0_eps(target, x0, eps, alpha, sigma) -> np.ndarray:
    """What a perfect network would answer for the pictures x0 (N,...) and noise eps (N,...): (N,...). The inverse of `to_x0_eps`."""
    if target == "eps":
        return eps
    if target == "x0":
        return x0
    if target == "v":
        return per_picture(alpha, x0) * eps - per_picture(sigma, x0) * x0
    if target == "flow":
        return eps - x0
    raise _unknown(target)


def _unknown(target):
    return ValueError(f"unknown target {target!r}; choose one of {', '.join(TARGETS)}")
