"""RePaint: fill in the missing part of a picture with a network that was never trained for it (Lugmayr et al. 2022, arXiv 2201.09865).

DDPM walks from noise to a picture, and after each step from t to s the known pixels are put back, with the noise that belongs to time s
(algorithm 1; m = 1 where the picture is known):

    x_s = m (alpha_s known + sigma_s z) + (1 - m) (a DDPM step from x_t)

The part painted so far and the known part then fit together only as well as one step could make them: the fill has the right colours but
goes its own way at the border. So the walk goes back up again and again, by adding the noise of the forward process,

    x_t = alpha_t / alpha_s x_s + sigma_{t|s} z,    sigma_{t|s}^2 = sigma_t^2 - (alpha_t / alpha_s)^2 sigma_s^2

and repeats those steps: each time the network sees both parts together and brings them closer. Algorithm 1 goes back one step at a time;
a jump over `jump_length` steps (section 4.2) lets larger things change. A jump should stay a small part of the way: 10 of 250 steps in the
paper; of 50 steps, 5.

Read first: `samplers/ddpm.py`.
"""
from math import sqrt
from typing import Callable, Iterator

import numpy as np

from tinydiff.diffusion.forward import q_sample
from tinydiff.diffusion.samplers.common import Move, Step, Steps, moves, noise, transition_variance
from tinydiff.diffusion.schedules import Schedule


def repaint(denoise: Callable, schedule: Schedule, x_T: np.ndarray, known: np.ndarray, mask: np.ndarray, steps: Steps = None, seed: int = 0, *,
            jump_length: int = 10, resamples: int = 10, first: int = 0) -> Iterator[Step]:
    """Inpainting. Yields a Step for each step down and for each jump back up, whose t is higher than the one before; the last is clean.

    denoise, schedule, x_T, steps, seed, first   see `tinydiff.diffusion.samplers`
    known        (N,H,W,C) floats of x_T's shape: the pictures; what they hold in the unknown part doesn't matter, but must be finite
    mask         bool, or numbers 0 and 1: 1 where a pixel is known and kept, exactly; 0 where it is painted.
                 (H,W) for all pictures, or (N,H,W,1), or (N,H,W,C)
    jump_length  steps that a jump goes back, 1 or more, fewer than there are steps
    resamples    how often each stretch of jump_length steps is walked, 1 or more; 1 goes straight down: fast, but the parts don't fit

    n steps ask the denoiser n + (resamples - 1) jump_length ((n - 1) // jump_length) times: with the defaults, 410 times for 50 steps.

    Raises TypeError for pictures that are not floats, ValueError for a mask of another shape or with other values, or jumps that don't fit.
    """
    x, known = np.asarray(x_T), np.asarray(known)
    if known.shape != x.shape:
        raise ValueError(f"repaint: known must have the shape of x_T (known {known.shape}, x_T {x.shape})")
    keep = _known_pixels(mask, x.shape)
    stops = [move.t for move in moves(schedule, steps)] + [-1.0]  # falling times, index 0 that of x_T
    walk = repaint_walk(len(stops) - 1, jump_length, resamples)
    for number, (here, there) in enumerate(zip(walk, walk[1:]), start=1):
        t, s = stops[min(here, there)], stops[max(here, there)]
        move = Move(number, t, s, *schedule.at(t), *schedule.at(s))
        _, _, _, alpha_t, sigma_t, alpha_s, sigma_s = move
        alpha_ts, sigma_ts_2 = alpha_t / alpha_s, transition_variance(move)
        z = noise(x.shape, x.dtype, seed, number, first)
        if there > here:  # as the very first step does
            x0 = denoise(x, t)
            painted = (alpha_ts * sigma_s**2 / sigma_t**2) * x + (alpha_s * sigma_ts_2 / sigma_t**2) * x0  # as in ddpm.py
            painted = painted + sqrt(sigma_ts_2 * sigma_s**2 / sigma_t**2) * z
            x = np.where(keep, q_sample(schedule, known, s, z), painted)  # one z: no pixel is in both parts
        else:
            x = alpha_ts * x + sqrt(sigma_ts_2) * z
        yield Step(stops[there], x, x0)


def repaint_walk(n: int, jump_length: int, resamples: int) -> list[int]:
    """The order in which the stops 0 (x_T) to n (clean) are visited: mostly one on, now and then jump_length back.

    The stops with a jump are n-1, n-1 - jump_length, ..., as far as there are jump_length before them; each jumps resamples - 1 times.
    """
    for name, value in (("jump_length", jump_length), ("resamples", resamples)):
        if value != int(value) or value < 1:
            raise ValueError(f"repaint: {name} is {value}, but must be a whole number, 1 or more")
    if resamples > 1 and jump_length >= n:
        raise ValueError(f"repaint: jump_length is {jump_length}, but must be below the number of steps, {n}; take a shorter jump or more "
                         "steps (resamples=1 does without jumps)")
    jumps = {stop: resamples - 1 for stop in range(n - 1, jump_length - 1, -jump_length)}
    walk = [0]
    while walk[-1] < n:
        here = walk[-1]
        if jumps.get(here, 0) > 0:
            jumps[here] -= 1
            walk.append(here - jump_length)
        else:
            walk.append(here + 1)
    return walk


def _known_pixels(mask, shape) -> np.ndarray:
    """The mask as bools that broadcast against pictures of `shape` (N,H,W,C)."""
    mask = np.asarray(mask)
    N, H, W, C = shape
    if mask.shape not in ((H, W), (N, H, W, 1), (N, H, W, C)):
        raise ValueError(f"repaint: the mask must be (H,W) = ({H}, {W}), or ({N}, {H}, {W}, 1 or {C}) with one for each picture, not {mask.shape}")
    if not np.all((mask == 0) | (mask == 1)):
        raise ValueError(f"repaint: the mask must be 1 where the picture is known and 0 where not, but holds {mask[(mask != 0) & (mask != 1)][0]}; "
                         "a soft edge would mix two noises into a weaker one: round it first (mask > 0.5)")
    return mask.astype(bool)[..., None] if mask.ndim == 2 else mask.astype(bool)
