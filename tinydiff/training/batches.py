"""Which pictures are trained on, in what order, at what times and with what noise: everything random about a step, by its number alone.

Read first: `streams.py`, `config.py`.
"""
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from tinydiff.data import ImageSet, to_model
from tinydiff.diffusion import SCHEDULES, Gaussian, fit_gaussian, lognormal_times, offset_noise, stratified_times, training_times
from tinydiff.training.streams import FLIP, HELD_OUT, LABEL_DROPOUT, NOISE, ORDER, TIME

GAUSSIAN_FROM = 1000        # pictures, at most; the deviations along the first directions are then known to 2 or 3 %


class Batch(NamedTuple):
    """What one step, or one stretch of the held-out loss, is computed from: x0 and eps (N,H,W,C), t (N,), y (N,) or None."""
    x0: np.ndarray
    t: np.ndarray
    eps: np.ndarray
    y: np.ndarray | None

    def part(self, rows: range) -> "Batch":
        """The pictures of these rows."""
        return Batch(*(None if array is None else array[rows.start:rows.stop] for array in self))  # type: ignore[arg-type]


def split(n: int, held_out: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """0 .. n-1 in two parts, by lot: to train on, in ascending order, and to hold out, in the order drawn.

    Held out are held_out * n, rounded, but at least 1 where held_out is above 0; to train on, at least 1.
    """
    count = min(max(1, round(held_out * n)), n - 1) if held_out > 0 else 0
    held = np.random.default_rng([seed, HELD_OUT]).permutation(n)[:count]
    return np.setdiff1d(np.arange(n), held), held


def check_labels(image_set: ImageSet, num_classes: int) -> None:
    """Raises ValueError unless every picture of the set has a label that a network with num_classes knows."""
    labels = image_set.labels
    if labels is None:
        raise ValueError(f"Trainer: a network with num_classes={num_classes} needs pictures with labels, but these have none")
    if labels.max() >= num_classes:
        i = labels.argmax()
        raise ValueError(f"Trainer: picture {i} has the label {labels[i]} ({image_set.label_names[labels[i]]!r}), but a network with "
                         f"num_classes={num_classes} needs pictures with labels below that; make it with num_classes={len(image_set.label_names)}")


def batch_indices(n: int, batch: int, seed: int, step: int) -> np.ndarray:
    """Which of n pictures step `step` (from 0) takes. An epoch takes each once, in an order of its own; its last batch may be shorter."""
    epoch, k = divmod(step, steps_per_epoch(n, batch))
    order = np.random.default_rng([seed, ORDER, epoch]).permutation(n)
    return order[k * batch:(k + 1) * batch]


def steps_per_epoch(n: int, batch: int) -> int:
    """Batches that hold each of n pictures once."""
    return -(-n // batch)


def training_batch(images: np.ndarray, labels: np.ndarray | None, config, step: int, dtype, no_label: int | None = None,
                   part: slice = slice(None)) -> Batch:
    """The batch of step `step` (from 0), or a part of it, out of images (N,H,W,C) uint8, mirrored and with times and noise, in dtype.

    labels (N,) or None. no_label, where given, takes the place of a part label_dropout of them, so that one network learns both halves of
    classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598, algorithm 1).
    """
    seed = config.seed
    chosen = batch_indices(len(images), config.batch, seed, step)
    rows = range(len(chosen))[part]  # of the whole batch: what every draw is keyed by
    x0 = to_model(images[chosen[part]]).astype(dtype, copy=False)
    eps = np.empty_like(x0)
    for n, i in enumerate(rows):
        if config.flip and np.random.default_rng([seed, FLIP, step, i]).random() < 0.5:
            x0[n] = x0[n, :, ::-1].copy()
        eps[n] = _noise(np.random.default_rng([seed, NOISE, step, i]), x0.shape[1:], config)
    schedule = SCHEDULES[config.schedule](config.T)
    t = training_times(schedule, len(chosen), config.time_sampling, np.random.default_rng([seed, TIME, step]))[part]
    y = None if labels is None else labels[chosen[part]]
    if no_label is not None:
        draws = [np.random.default_rng([seed, LABEL_DROPOUT, step, i]).random() for i in rows]
        y = np.where(np.array(draws) < config.label_dropout, no_label, y)  # type: ignore[arg-type]
    return Batch(x0, t, eps, y)


def held_out_batches(images: np.ndarray, labels: np.ndarray | None, config, dtype, part: slice = slice(None)):
    """All held-out pictures, or a part of them, in batches, each picture always with the same time and noise, so that epochs
    compare; all with their labels.

    Times and noise have the distribution of the training's; the times are spread evenly over it.
    """
    n = len(images)
    if config.time_sampling == "lognormal":
        z = [NormalDist().inv_cdf((i + 0.5) / n) for i in range(n)]
        times = lognormal_times(SCHEDULES[config.schedule](config.T), z)
    else:
        times = stratified_times(n, config.T, 0.5 / n)
    own = range(n)[part]
    for start in own[::config.batch]:
        rows = slice(start, min(start + config.batch, own.stop))
        x0 = to_model(images[rows]).astype(dtype, copy=False)
        eps = [_noise(np.random.default_rng([config.seed, HELD_OUT, start + i]), x0.shape[1:], config) for i in range(len(x0))]
        yield Batch(x0, times[rows], np.array(eps, dtype), None if labels is None else labels[rows])


def gaussian_of(images: np.ndarray, flip: bool) -> Gaussian:
    """The Gaussian of images (N,H,W,C) uint8, or of GAUSSIAN_FROM of them, spread over all; flip: every second one mirrored."""
    pictures = to_model(images[np.linspace(0, len(images) - 1, min(len(images), GAUSSIAN_FROM)).round().astype(int)])
    if flip:
        pictures[1::2] = pictures[1::2, :, ::-1].copy()
    return fit_gaussian(pictures)


def _noise(rng, shape, config):
    """The noise of one picture (H,W,C), float32: what all its pixels share is drawn after what each has to itself."""
    eps = rng.standard_normal(shape, np.float32)
    return offset_noise(eps[None], config.offset_noise, rng.standard_normal((1, shape[-1])))[0] if config.offset_noise else eps
