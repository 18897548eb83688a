"""A Gaussian start: where nearly all is noise, what there is to know of a picture has a closed form, and nothing has to be learnt.

Under much noise only what is coarse can be told: how bright a picture is, where the light comes from, how large the face is. What is coarse, the
pictures say themselves: the directions v_k along which they differ most from their mean, their principal components. Take them to be normally
distributed along these, with their standard deviations d_k, and to be their mean in all else:

    x_0 from N(mean, sum_k d_k^2 v_k v_k')
    x_t from N(alpha_t mean, sum_k alpha_t^2 d_k^2 v_k v_k' + sigma_t^2 I)

Then the way from pure noise to x_t is one step. Along each v_k the noise is stretched to the deviation that x_t has there, which is also where the
probability flow would take it, on a schedule that ends in nothing but noise:

    x_t = alpha_t mean + sigma_t eps, the part of sigma_t eps along each v_k times sqrt(alpha_t^2 d_k^2 + sigma_t^2) / sigma_t

(Wang and Vastola 2024, arXiv 2412.09726, who replace the first 15 to 30 % of a sampler's steps by it.) Below a log SNR of -4 such a Gaussian beats
the network that train_cats.py has after ten minutes of photographs: min-SNR weights vanish with the SNR, so little is learnt there. And steps
equally long in t are too long there: on the cosine schedule the first of 50 takes the log SNR from minus infinity to -7, by which DPM-Solver++(2M)
SDE loses a quarter of the deviation in brightness, however good the denoiser is. benchmarks/README.md has the figures ("How photographs are
drawn").

Read first: `samplers/__init__.py`.
"""
from typing import Callable, NamedTuple

import numpy as np

from tinydiff.diffusion.samplers.common import Step
from tinydiff.diffusion.times import time_of_log_snr

START = -4.0            # the log SNR that the step ends at
DIRECTIONS = 64


class Gaussian(NamedTuple):
    """N(mean, sum_k d_k^2 v_k v_k'): a mean picture (H,W,C), orthonormal directions v (K,H,W,C), standard deviations d (K,); float32."""
    mean: np.ndarray
    directions: np.ndarray
    deviations: np.ndarray

    def stretched(self, x: np.ndarray, factors: np.ndarray | float) -> np.ndarray:
        """x (N,H,W,C), its part along each direction multiplied by that one's factor (K,)."""
        along = np.tensordot(x, self.directions, axes=((1, 2, 3), (1, 2, 3)))               # (N,K): v_k . x
        return x + np.tensordot(along * (factors - 1), self.directions, axes=1)


def fit_gaussian(pictures: np.ndarray) -> Gaussian:
    """The Gaussian of pictures (N,H,W,C) float32: their mean, and the directions, at most DIRECTIONS, along which they deviate most from it.

    The directions are eigenvectors of X'X, where the rows of X (N,HWC) are the deviations; but XX' is smaller, has the same eigenvalues, and
    X' takes its eigenvectors to theirs.
    """
    mean = pictures.mean(axis=0)
    X = (pictures - mean).reshape(len(pictures), -1)
    values, vectors = np.linalg.eigh(X @ X.T)                                               # of v_k: N d_k^2, rising
    values, vectors = values[::-1][:DIRECTIONS], vectors[:, ::-1][:, :DIRECTIONS]
    real = values > 1e-6 * (len(pictures) + values[0])                                      # the others are rounding
    values, vectors = values[real], vectors[:, real]
    directions = (vectors / np.sqrt(values)).T @ X                                          # (K,HWC)
    return Gaussian(mean, directions.reshape(-1, *mean.shape), np.sqrt(values / len(pictures)))


def gaussian_start(sampler: Callable, gaussian: Gaussian | None) -> Callable:
    """The sampler, but its first step is the Gaussian's; without one, the sampler itself.

    In the sampler's place, with its arguments, x_T (N,H,W,C) among them, but steps is a number, 2 to T (ValueError otherwise); where the sampler's
    would be shorter than 1, they are fewer. The first Step's x0 is the mean, the best guess from noise alone.
    """
    if gaussian is None:
        return sampler
    mean, d = gaussian.mean, gaussian.deviations

    def sample(denoise, schedule, x_T, steps, seed=0, *, first=0):
        if not isinstance(steps, (int, np.integer)) or not 2 <= steps <= schedule.T:
            raise ValueError(f"gaussian_start: steps is {steps}, but must be a whole number from 2 (the Gaussian's step, and one of the "
                             f"network) to the schedule's T = {schedule.T}")
        t = float(time_of_log_snr(schedule, START))
        alpha, sigma = schedule.at(t)
        eps = x_T / float(schedule.sigma[-1])
        x = alpha * mean + gaussian.stretched(sigma * eps, np.sqrt(alpha**2 * d**2 + sigma**2) / sigma)
        yield Step(t, x, np.broadcast_to(mean, x.shape))
        left = min(steps - 1, int(t) + 1)
        yield from sampler(denoise, schedule, x, np.linspace(t, -1, left + 1)[:-1], seed, first=first)
    return sample
