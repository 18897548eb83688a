"""Thresholding: denoisers whose guesses of x_0 are kept where pictures can be.

Each function here takes a denoiser and gives a denoiser, so any sampler can use it. Samplers derive eps from the guess, so eps follows suit.
What else the denoiser offers, as attributes, the new one offers too.
"""
import numpy as np


def clip_x0(denoise, low: float = -1, high: float = 1):
    """The denoiser whose guesses stay in [low, high], where all pictures lie."""
    def clipped(x, t):
        return np.clip(denoise(x, t), low, high)
    vars(clipped).update(vars(denoise))
    return clipped


def dynamic_threshold(denoise, percentile: float = 0.995):
    """The denoiser whose guesses are divided, picture by picture, by s where s > 1, then lie in [-1, 1].

    s is the value that the given part of a picture's |x_0| stays below; what exceeds it is clipped. Strong guidance pushes many pixels past
    1; clipping at 1 would make them one flat white, this keeps them apart (Saharia et al. 2022, arXiv 2205.11487, section 2.3).

    percentile  above 0, at most 1. Raises ValueError otherwise.
    """
    if not 0 < percentile <= 1:
        raise ValueError(f"dynamic_threshold: percentile is {percentile}, but must be above 0 and at most 1: the part of the pixels to keep")

    def thresholded(x, t):
        x0 = denoise(x, t)
        s = np.quantile(np.abs(x0), percentile, axis=tuple(range(1, x0.ndim)), keepdims=True)  # (N,1,1,1)
        s = np.maximum(s, 1).astype(x0.dtype, copy=False)
        return np.clip(x0, -s, s) / s
    vars(thresholded).update(vars(denoise))
    return thresholded
