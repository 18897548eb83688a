"""The forward process: a clean picture made noisy, in one jump to any time t."""
import numpy as np


def q_sample(schedule, x0, t, eps) -> np.ndarray:
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


def check_floats(name: str, x) -> np.ndarray:
    """The pictures x as an array. Raises TypeError where they are not floats; `name` says whose they are, as in "q_sample: x0"."""
    x = np.asarray(x)
    if not np.issubdtype(x.dtype, np.floating):
        raise TypeError(f"{name} is {x.dtype}, but must be floats in [-1, 1]; tinydiff.data.to_model makes them from uint8")
    return x


def per_picture(a, x) -> np.ndarray:
    """A number, or (N,) numbers, in x's dtype and shaped to multiply the N pictures x (N,...): () or (N,1,...,1)."""
    a = np.asarray(a, dtype=x.dtype)
    if a.ndim == 0:
        return a
    if a.shape != x.shape[:1]:
        raise ValueError(f"times or weights must be a number, or one for each of the {len(x)} pictures, got {a.shape} (pictures {x.shape})")
    return a.reshape(-1, *[1] * (x.ndim - 1))  # (N,1,...,1)
