"""Loss weights: how much the error at each time t counts.

Each weight is a rule for the error in x_0, and then the same loss whatever the target: an error e in the network's answer is an error c e
in x_0 (`targets.x0_error`), so the answer's squared error is weighted by c^2 times the rule. But for "simple", which is 1 on any answer.

    name      on the error in x_0           on that in eps         so that
    min_snr   min(SNR, gamma)               min(1, gamma/SNR)      times with hardly any noise no longer drown the others
    p2        SNR / (k + SNR)^gamma         1 / (k + SNR)^gamma    what a picture is about counts more than its finest grain
    edm       (s^2 + s_d^2) / (s s_d)^2     -                      the error in the answer of target "edm" counts 1 at every t

Read first: `targets.py`.
"""
import numpy as np
from numpy.typing import ArrayLike

from tinydiff.diffusion.schedules import Schedule
from tinydiff.diffusion.targets import SIGMA_DATA, x0_error


def simple_weights(schedule: Schedule, target: str, t: ArrayLike) -> np.ndarray:
    """All 1, for any target (Ho et al. 2020, arXiv 2006.11239, equation 14): t (N,) -> (N,) float64."""
    x0_error(target, 1.0, 1.0)  # an unknown target is an error here too
    return np.ones(np.shape(t))


def min_snr_weights(schedule: Schedule, target: str, t: ArrayLike, gamma: float = 5.0) -> np.ndarray:
    """min-SNR-gamma weights (Hang et al. 2023, arXiv 2303.09556, section 3.4): t (N,) -> (N,) float64.

    v's is min(SNR, gamma) / (SNR + 1) where variance preserving.
    """
    return _for_target(schedule, target, t, lambda snr: np.minimum(snr, gamma))


def p2_weights(schedule: Schedule, target: str, t: ArrayLike, k: float = 1.0, gamma: float = 1.0) -> np.ndarray:
    """Perception prioritized weights (Choi et al. 2022, arXiv 2204.00227): t (N,) -> (N,) float64.

    The paper's 1 / (k + SNR)^gamma, on the error in eps.
    """
    return _for_target(schedule, target, t, lambda snr: snr / (k + snr) ** gamma)


def edm_weights(schedule: Schedule, target: str, t: ArrayLike) -> np.ndarray:
    """EDM's weights (Karras et al. 2022, arXiv 2206.00364, table 1), with s = sigma/alpha: t (N,) -> (N,) float64."""
    return _for_target(schedule, target, t, lambda snr: snr + 1 / SIGMA_DATA**2)


def _for_target(schedule, target, t, rule):
    """c^2 times the rule for the error in x_0, a function of the SNR."""
    alpha, sigma = schedule.at(t)
    alpha = np.maximum(alpha, 1e-12 * np.asarray(sigma))  # for alpha = 0 the limit, where it would be 0 times infinity
    return x0_error(target, alpha, sigma) ** 2 * rule((alpha / sigma) ** 2)


WEIGHTS = {"simple": simple_weights, "min_snr": min_snr_weights, "p2": p2_weights, "edm": edm_weights}
