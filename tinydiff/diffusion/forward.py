"""The forward process: a clean picture made noisy, in one jump to any time t.

Read first: `schedules.py`.
"""
import numpy as np
from numpy.typing import ArrayLike

from tinydiff.diffusion.schedules import Schedule


def q_sample(schedule: Schedule, x0: np.ndarray, t: ArrayLike, eps: np.ndarray) -> np.ndarray:
    """x_t = alpha_t x_0 + sigma_t eps (Ho et al. 2020, arXiv 2006.11239, equation 4).

    x0   (N,H,W,C) floats, clean pictures in [-1, 1].
    t    real time, 0 to T-1: a number, or (N,) one a picture.
    eps  (N,H,W,C) noise from N(0, I).

    Returns (N,H,W,C) of x0's dtype. Raises TypeError for pictures that are not floats, ValueError for shapes or times that don't fit.
    """
    x0, eps = check_floats("q_sample: x0", x0), np.asarray(eps)
    if x0.shape != eps.shape:
        raise ValueError(f"q_sample: x0 and eps must have one shape (x0 {x0.shape}, eps {eps.shape})")
    alpha, sigma = schedule.at(t)
    return per_picture(alpha, x0) * x0 + per_picture(sigma, x0) * eps.astype(x0.dtype, copy=False)


def offset_noise(eps: np.ndarray, strength: float, offset: np.ndarray) -> np.ndarray:
    """eps + strength * offset: noise that also shifts each whole channel of each picture (Guttenberg 2023, "Diffusion with offset noise").

    N(0, I) hardly changes a picture's mean, so a network trained on it alone learns to leave the brightness as it finds it; 0.1 is usual.

    eps     (N,H,W,C) noise from N(0, I).
    offset  (N,C) from N(0, I): one number for each picture and channel.

    Returns (N,H,W,C) of eps's dtype. Raises ValueError for an offset of another shape.
    """
    eps, offset = np.asarray(eps), np.asarray(offset)
    if offset.shape != (len(eps), eps.shape[-1]):
        raise ValueError(f"offset_noise: offset must be one number for each picture and channel, {(len(eps), eps.shape[-1])}, got "
                         f"{offset.shape} (eps {eps.shape})")
    return eps + (strength * offset[:, None, None, :]).astype(eps.dtype)  # (N,1,1,C) over the pixels


def check_floats(name: str, x: ArrayLike) -> np.ndarray:
    """The pictures x as an array. Raises TypeError where they are not floats; `name` says whose they are, as in "q_sample: x0"."""
    x = np.asarray(x)
    if not np.issubdtype(x.dtype, np.floating):
        raise TypeError(f"{name} is {x.dtype}, but must be floats in [-1, 1]; tinydiff.data.to_model makes them from uint8")
    return x


def per_picture(a: ArrayLike, x: np.ndarray) -> np.ndarray:
    """A number, or (N,) numbers, in x's dtype and shaped to multiply the N pictures x (N,...): () or (N,1,...,1)."""
    a = np.asarray(a, dtype=x.dtype)
    if a.ndim == 0:
        return a
    if a.shape != x.shape[:1]:
        raise ValueError(f"times or weights must be a number, or one for each of the {len(x)} pictures, got {a.shape} (pictures {x.shape})")
    return a.reshape(-1, *[1] * (x.ndim - 1))  # (N,1,...,1)
