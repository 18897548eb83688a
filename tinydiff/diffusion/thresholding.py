"""Thresholding: denoisers whose guesses of x_0 are kept where pictures can be.

Each function here takes a denoiser and gives a denoiser, so any sampler can use it. Samplers derive eps from the guess, so eps follows suit.
What else the denoiser offers, as attributes, the new one offers too; but for vjp, which would be the derivative of the guess before.

Read first: `denoiser.py`.
"""
from typing import Callable

import numpy as np


def clip_x0(denoise: Callable, low: float = -1, high: float = 1) -> Callable:
    """The denoiser whose guesses, (N,H,W,C), stay in [low, high], where all pictures lie (Ho et al. 2020, arXiv 2006.11239, in their code)."""
    def clipped(x, t):
        return np.clip(denoise(x, t), low, high)
    keep_attributes(clipped, denoise)
    return clipped


def dynamic_threshold(denoise: Callable, percentile: float = 0.995) -> Callable:
    """The denoiser whose guesses, (N,H,W,C), are divided, picture by picture, by s where s > 1, then lie in [-1, 1].

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
    keep_attributes(thresholded, denoise)
    return thresholded


def keep_attributes(wrapper, denoise):
    """Let the wrapper offer what the denoiser does, without vjp."""
    vars(wrapper).update({name: value for name, value in vars(denoise).items() if name != "vjp"})
