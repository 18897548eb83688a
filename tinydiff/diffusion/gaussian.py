"""A Gaussian of the pictures: where nearly all is noise, what there is to know of a picture has a closed form, and nothing has to be learnt.

Under much noise only what is coarse can be told: how bright a picture is, where the light comes from, how large the face is. What is coarse, the
pictures say themselves: the directions v_k along which they differ most from their mean, their principal components. Take them to be normally
distributed along these, with their standard deviations d_k. Then the best guess is a formula: with z = x_t - alpha_t mean, along each v_k,

    x_0 = mean + alpha d_k^2 z / (alpha^2 d_k^2 + sigma^2)        eps = sigma z / (alpha^2 d_k^2 + sigma^2)

which is Wiener's filter (Wang and Vastola 2024, arXiv 2412.09726). In all else d = 1: more than pictures have, but with it the share of v there is
that of the mean alone, -sigma mean, whatever the noise. (Of the other targets it isn't; v was measured.)

The network is asked for its target less the Gaussian's (`gaussian_share`): it learns what a picture is beyond its mean and its main directions. Asked
for the whole, it guesses worse than the formula below a log SNR of -4 after ten minutes of photographs, since min-SNR weights vanish with the SNR.
Where details show, the Gaussian is a poor picture, and what is wrong with it would have to be learnt; so its share fades out, as the fourth power of
the noise's part of x_t's variance: 0.97 at a log SNR of -5, 0.60 at -2, 0.06 at 0.

benchmarks/README.md has the figures ("How photographs are drawn").

Read first: `targets.py`.
"""
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tinydiff import kernels
from tinydiff.diffusion.forward import per_picture
from tinydiff.diffusion.targets import from_x0_eps

DIRECTIONS = 64
FADING = 4              # the power of sigma^2 / (alpha^2 + sigma^2) that the share fades out as


class Gaussian(NamedTuple):
    """A mean picture (H,W,C), orthonormal directions v (K,H,W,C) and standard deviations d (K,) along them; float32.

    In all other directions pictures are taken to be their mean by `gaussian_start`, and to deviate by 1 from it by `guess`.
    """
    mean: np.ndarray
    directions: np.ndarray
    deviations: np.ndarray

    def along(self, x: np.ndarray) -> np.ndarray:
        """How far x (N,H,W,C) goes along each direction, v_k . x: (N,K)."""
        v = self.directions.reshape(-1, self.mean.size)
        return kernels.matmul(np.ascontiguousarray(x).reshape(len(x), -1), np.ascontiguousarray(v.T, x.dtype))

    def stretched(self, x: np.ndarray, along: np.ndarray, factors: np.ndarray) -> np.ndarray:
        """x (N,H,W,C), its part along each direction, (N,K), multiplied by that one's factor: (K,), or (N,K)."""
        v = self.directions.reshape(-1, self.mean.size)
        return x + kernels.matmul((along * (factors - 1)).astype(x.dtype, copy=False), v.astype(x.dtype, copy=False)).reshape(x.shape)

    def guess(self, x: np.ndarray, alpha: ArrayLike, sigma: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """E[x_0 | x] and E[eps | x], like x (N,H,W,C); alpha and sigma are x's, numbers or (N,). Affine in x."""
        a, s = per_picture(alpha, x), per_picture(sigma, x)
        z, variance = x - a * self.mean, a * a + s * s                                          # variance: of x where d = 1
        along, variance_along = self.along(z), a.reshape(-1, 1)**2 * self.deviations**2 + s.reshape(-1, 1)**2
        ratio = variance.reshape(-1, 1) / variance_along                                        # (N,K), or (1,K)
        x0 = self.mean + a / variance * self.stretched(z, along, self.deviations**2 * ratio)
        return x0, s / variance * self.stretched(z, along, ratio)


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


def gaussian_share(gaussian: Gaussian | None, target: str, x_t: np.ndarray, alpha: ArrayLike, sigma: ArrayLike) -> np.ndarray | float:
    """What a network that was trained with this Gaussian need not say of its target, like x_t (N,H,W,C); 0 without one.

    alpha, sigma  of x_t: numbers, or (N,). Affine in x_t, by a symmetric matrix. Raises ValueError for an unknown target.
    """
    if gaussian is None:
        return 0.0
    a, s = per_picture(alpha, x_t), per_picture(sigma, x_t)
    return (s * s / (a * a + s * s)) ** FADING * from_x0_eps(target, *gaussian.guess(x_t, alpha, sigma), alpha, sigma)
