"""Starting from pictures instead of from noise: image-to-image, variations, and the way between two pictures.

Any sampler starts at any time from any x_t, so each use is only a way to get that x_t. For pictures x0 (N,H,W,C):

    image-to-image    x_t, times = noised_start(schedule, x0, t=600, steps=30)       # as much noise as belongs to t ...
                      for step in ddim(denoise, schedule, x_t, times): ...           # ... and back: the rough shapes stay

    variations        noised_start(schedule, x0.repeat(8, axis=0), t=500, steps=30)  # each copy gets noise of its own

    interpolation     *_, encoded = ddim_invert(denoise, schedule, x0, steps=100)    # the noise that DDIM makes these pictures from
                      a, b = encoded.x
                      x_T = slerp(a[None].repeat(7, axis=0), b[None].repeat(7, axis=0), np.linspace(0, 1, 7))
                      for step in ddim(denoise, schedule, x_T, steps=100): ...       # from the first picture to the second

To fill in a part of a picture see repaint.py.

Read first: `samplers/ddim.py`.
"""
from typing import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike

from tinydiff.diffusion.forward import check_floats, per_picture, q_sample
from tinydiff.diffusion.samplers.common import Step, Steps, moves, noise
from tinydiff.diffusion.schedules import Schedule


def noised_start(schedule: Schedule, x0: np.ndarray, t: float, steps: int, seed: int = 0, *, first: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pictures made noisy up to time t, and the times from there to the clean end (SDEdit: Meng et al. 2022, arXiv 2108.01073, algorithm 1).

    x0     (N,H,W,C) floats in [-1, 1]: photographs, drawings, patches of colour.
    t      0 to T-1. The higher, the more is made up: near 0 the pictures come back, at T-1 next to nothing of them is left.
    steps  how many to take, 1 to t+1: from t downwards, spaced as `timesteps` does in "trailing".
    first  index of x0's first picture in the whole set.

    Returns x_t, of x0's shape and dtype, and the (steps,) decreasing times to give a sampler as its steps. The noise is that of
    `initial_noise`: where nothing of the picture is left at T-1 (alpha 0), what follows is just what sampling gives.
    """
    x0 = check_floats("noised_start: x0", x0)
    if not 0 <= t <= schedule.T - 1:
        raise ValueError(f"noised_start: t is {t}, but must be from 0 (hardly any noise) to T-1 = {schedule.T - 1} (nothing else)")
    if steps != int(steps) or not 1 <= steps <= t + 1:
        raise ValueError(f"noised_start: steps is {steps}, but from t = {t:g} there are 1 to {int(t) + 1} whole steps to the clean end")
    return q_sample(schedule, x0, t, noise(x0.shape, x0.dtype, seed, 0, first)), np.linspace(t, -1, steps + 1)[:-1]


def ddim_invert(denoise: Callable, schedule: Schedule, x0: np.ndarray, steps: Steps = None) -> Iterator[Step]:
    """From pictures to the noise that DDIM makes them from: `ddim` backwards, from the clean end up (Song et al. 2020, arXiv 2010.02502, 4.3).

    Going from time s up to t, the noise guessed at s stands in for the one that DDIM will guess at t:

        eps = (x_s - alpha_s x_0) / sigma_s,    x_t = alpha_t x_0 + sigma_t eps,    x_0 = denoise(x_s, s)

    so that `ddim` with as many steps finds its way back up to an error that falls as 1/steps (Mokady et al. 2022, arXiv 2211.09794,
    section 3.2). In a clean picture there is no noise to guess; there, alpha_t x_0 is taken as x_t at the first time t.

    x0     (N,H,W,C) floats in [-1, 1].
    steps  as a sampler's: how many, None for all T, or the decreasing times themselves, the first of which is where this ends.

    Yields a Step(t, x, x0) after each step, t rising; the last step's x is what to start from. Nothing random is drawn.
    """
    x = check_floats("ddim_invert: x0", x0)
    for _, t, s, alpha_t, sigma_t, alpha_s, sigma_s in reversed(list(moves(schedule, steps))):
        if s < 0:
            x0, eps = x, alpha_t * (x - denoise(alpha_t * x, t)) / sigma_t
        else:
            x0 = denoise(x, s)
            eps = (x - alpha_s * x0) / sigma_s
        x = alpha_t * x0 + sigma_t * eps
        yield Step(t, x, x0)


def slerp(a: np.ndarray, b: np.ndarray, fraction: ArrayLike) -> np.ndarray:
    """The point at `fraction` of the arc from a to b, picture by picture (Shoemake 1985, "Animating rotation with quaternion curves", 3.3).

        theta the angle between a and b,    sin((1 - f) theta) / sin(theta) a  +  sin(f theta) / sin(theta) b

    Noise of many numbers has nearly always the same norm. A straight line between two such points leaves that sphere, half way at 0.7 of
    its radius, where the network has never seen anything; the arc stays on it.

    a, b      (N,...) floats of one shape, none of them all zeros or the exact opposite of its partner, from which no arc is the shortest.
    fraction  a number, or (N,), one a picture: 0 is a, 1 is b.
    """
    a, b = check_floats("slerp: a", a), check_floats("slerp: b", b)
    if a.shape != b.shape:
        raise ValueError(f"slerp: a and b must have one shape (a {a.shape}, b {b.shape})")
    flat_a, flat_b = (x.reshape(len(x), -1).astype(np.float64) for x in (a, b))             # (N,...) -> (N,L)
    norms = np.linalg.norm(flat_a, axis=1) * np.linalg.norm(flat_b, axis=1)                 # (N,)
    cosine = np.sum(flat_a * flat_b, axis=1) / np.where(norms > 0, norms, 1)
    lost = np.flatnonzero((norms == 0) | (cosine < -1 + 1e-12))
    if lost.size:
        raise ValueError(f"slerp: there is no shortest arc between the pictures at index {lost[0]}: one is all zeros, or they are opposites")
    theta = np.arccos(np.minimum(cosine, 1))
    f = per_picture(fraction, theta)
    # np.sinc(x) is sin(pi x) / (pi x), and 1 at 0: for parallel pictures the weights become those of a straight line
    weight_a, weight_b = (part * np.sinc(part * theta / np.pi) / np.sinc(theta / np.pi) for part in (1 - f, f))
    return per_picture(weight_a, a) * a + per_picture(weight_b, b) * b
