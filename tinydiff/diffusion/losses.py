"""The loss: the mean squared difference between what the network says and its target, with a weight for each time t."""
import numpy as np

from tinydiff import ops
from tinydiff.diffusion.denoiser import denoiser
from tinydiff.diffusion.forward import per_picture, q_sample
from tinydiff.diffusion.targets import TARGETS, from_x0_eps
from tinydiff.diffusion.thresholding import clip_x0
from tinydiff.diffusion.times import network_times


def loss(model, schedule, target: str, x0, t, eps, y=None, weight=None, self_condition=False):
    """Make x0 noisy, ask the network for the target, and return the weighted mean squared error, a scalar Tensor to call backward() on.

    model    called as model(x_t, 1000 t / T, y) in x0's dtype; returns a Tensor (N,H,W,C).
    x0, eps  (N,H,W,C) clean pictures in [-1, 1] and noise from N(0, I).
    t        real times, 0 to T-1: (N,), or a number for all.
    weight   None or "simple": all 1 (Ho et al. 2020, arXiv 2006.11239, equation 14); "min_snr": `min_snr_weights`; or (N,) numbers.
    self_condition  whether the network is given a first guess of its own, as model(x_t, 1000 t / T, y, x0): see self_conditioning.py.
    """
    alpha, sigma = schedule.at(t)
    x_t = q_sample(schedule, x0, t, eps)
    guess = (clip_x0(denoiser(model, schedule, target, y, self_condition))(x_t, t),) if self_condition else ()  # builds no graph
    out = model(x_t, network_times(schedule, t, like=x_t), y, *guess)
    error = ops.sub(out, from_x0_eps(target, x0, eps, alpha, sigma))
    squared = ops.mul(error, error)
    if weight is None or isinstance(weight, str) and weight == "simple":
        return ops.mean(squared)
    if isinstance(weight, str):
        if weight != "min_snr":
            raise ValueError(f"loss: unknown weight {weight!r}; choose 'simple', 'min_snr', None (simple), or give (N,) numbers")
        weight = min_snr_weights(schedule, target, t)
    return ops.mean(ops.mul(per_picture(weight, x_t), squared))


def min_snr_weights(schedule, target: str, t, gamma: float = 5.0) -> np.ndarray:
    """min-SNR-gamma weights (Hang et al. 2023, arXiv 2303.09556, section 3.4): of t's shape, float64.

    They weight the error in x_0 by min(SNR, gamma): times with hardly any noise, where the SNR is huge, no longer drown the others.
    For another target the same loss has another weight, since an error e in its answer is an error c e in x_0: the weight is
    c^2 min(SNR, gamma), with c read off `to_x0_eps`. Where variance preserving, v's is min(SNR, gamma) / (SNR + 1).
    """
    alpha, sigma = schedule.at(t)
    snr = (np.asarray(alpha) / sigma) ** 2
    if target == "eps":
        return gamma / np.maximum(snr, gamma)  # min(SNR, gamma) / SNR, written so that SNR = 0 gives 1
    if target == "x0":
        return np.minimum(snr, gamma)
    if target == "v":
        return np.minimum(snr, gamma) * (sigma / (alpha**2 + sigma**2)) ** 2
    if target == "flow":
        return np.minimum(snr, gamma) * (sigma / (alpha + sigma)) ** 2
    raise ValueError(f"min_snr_weights: unknown target {target!r}; choose one of {', '.join(TARGETS)}")
