"""What every sampler needs: the steps to take, and noise that depends on the seed, the step and the picture only.

Some think in Karras' noise level, sigma/alpha: how much noise a picture x/alpha has, whose signal is whole. lambda is its negative logarithm.

Read first: `__init__.py`.
"""
from math import inf, log, sqrt
from typing import Iterator, NamedTuple, Sequence

import numpy as np
from numpy.typing import DTypeLike

from tinydiff.diffusion.schedules import Schedule
from tinydiff.diffusion.times import timesteps

Steps = int | Sequence[float] | np.ndarray | None  # how many steps, or the decreasing times themselves; None for all T

SAMPLING = 6  # the stream of all random numbers drawn here; training has its own streams


class Step(NamedTuple):
    """Where a sampler is after a step: x (N,H,W,C) is the picture at time t (-1: clean), x0 (N,H,W,C) the guess that led there."""
    t: float
    x: np.ndarray
    x0: np.ndarray


class Move(NamedTuple):
    """One step to take, from time t down to time s. `number` counts from 1."""
    number: int
    t: float
    s: float
    alpha_t: float
    sigma_t: float
    alpha_s: float
    sigma_s: float


def moves(schedule: Schedule, steps: Steps = None) -> Iterator[Move]:
    """The steps of a sampler in order; the last goes to the clean picture: s = -1, alpha_s = 1, sigma_s = 0.

    steps  how many (trailing spacing), None for all T, or an array of decreasing times in 0 to T-1.
    """
    steps = schedule.T if steps is None else steps
    ts = np.asarray(steps, dtype=np.float64) if np.ndim(steps) else timesteps(schedule, steps)  # type: ignore[arg-type]
    if ts.ndim != 1 or ts.size == 0 or np.any(np.diff(ts) >= 0) or ts[0] > schedule.T - 1 or ts[-1] < 0:
        raise ValueError(f"steps: the times of a sampler must be 1-D and fall from at most T-1 = {schedule.T - 1} to at least 0, got {ts}")
    stops = [*ts.tolist(), -1.0]
    for number, (t, s) in enumerate(zip(stops, stops[1:]), start=1):
        yield Move(number, t, s, *schedule.at(t), *schedule.at(s))


def noise(shape: tuple[int, ...], dtype: DTypeLike, seed: int, number: int, first: int = 0) -> np.ndarray:
    """N(0, I) of `shape` (N,...) for step `number`, drawn for each picture by itself, so that it is the same in any chunk.

    Drawn in float64 and rounded to dtype: a run in float64 gets the same noise as one in float32.
    """
    return keyed_normal(shape, [seed, SAMPLING, number], first).astype(dtype)


def keyed_normal(shape: tuple[int, ...], key: list[int], first: int = 0) -> np.ndarray:
    """N(0, I) of `shape` (N,...), float64, picture i drawn by default_rng([*key, first + i])."""
    return np.array([np.random.default_rng([*key, first + i]).standard_normal(shape[1:]) for i in range(shape[0])]).reshape(shape)


def initial_noise(schedule: Schedule, shape: tuple[int, ...], seed: int = 0, first: int = 0, dtype: DTypeLike = np.float32) -> np.ndarray:
    """x_T: where sampling starts, sigma_T times N(0, I), of `shape` (N,H,W,C). Step number 0 of the seed's noise."""
    return float(schedule.sigma[-1]) * noise(shape, dtype, seed, 0, first)


def transition_variance(move: Move) -> float:
    """sigma_{t|s}^2 = sigma_t^2 - (alpha_t / alpha_s)^2 sigma_s^2: the noise that the forward process adds between s and t."""
    return max(move.sigma_t**2 - (move.alpha_t / move.alpha_s) ** 2 * move.sigma_s**2, 0.0)  # rounding may take it below 0


def ancestral_split(move: Move, eta: float) -> tuple[float, float]:
    """(sigma_down, sigma_up), with sigma_down^2 + sigma_up^2 = sigma_s^2: the noise that is kept, and the noise that is drawn afresh.

    sigma_up is eta times the standard deviation of DDPM's posterior, as k-diffusion's ancestral samplers have it, but never more than sigma_s.
    """
    sigma_up = min(eta * sqrt(transition_variance(move)) * move.sigma_s / move.sigma_t, move.sigma_s)
    return sqrt(move.sigma_s**2 - sigma_up**2), sigma_up


def check_eta(sampler: str, eta: float) -> None:
    """Raises ValueError unless eta, the amount of fresh noise, is finite and not negative."""
    if not 0 <= eta < inf:
        raise ValueError(f"{sampler}: eta is {eta}, but must be a number from 0 (no fresh noise) upwards")


def lambda_at(alpha: float, sigma: float) -> float:
    """lambda = ln(alpha / sigma), half the log SNR: -inf where nothing is left of the picture, inf where it is clean."""
    if sigma == 0:
        return inf
    return log(alpha / sigma) if alpha > 0 else -inf
