"""How good are generated pictures? Measures that need no downloaded network: arrays of bytes in, numbers out.

    sliced_wasserstein   how far two sets of pictures are apart, in what their small patches look like
    nearest              the training picture that each picture is nearest to: is it a copy?
    errors_by_noise      how wrong a denoiser is about pictures that it has never seen, at each level of noise

Read first: `data/image_set.py`, `diffusion/denoiser.py`.
"""
import math
import zlib
from typing import Any, Callable, Iterable, Iterator, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tinydiff import kernels

PATCH_STREAM, DIRECTION_STREAM, NOISE_STREAM = 40, 41, 42     # of random numbers: default_rng([seed, stream, ...])
PATCH = 7                                   # pixels a side of a patch
SMALLEST_LEVEL = 16                         # pixels a side of the last level of the pyramid, at least
BLOCK = 64                                  # pictures whose patches are in memory at one time
PROJECTION_BYTES = 2**27                    # of the projections of one set, and so of what is sorted at one time
LOG_SNRS = (9, 7, 5, 3, 1, -1, -3, -5, -7, -9)     # from hardly any noise to hardly any picture


def sliced_wasserstein(images: np.ndarray, other: np.ndarray, *, patches: int = 128, directions: int = 512, seed: int = 0) -> float:
    """The mean of `sliced_wasserstein_levels` over the levels: one number for how far two sets of pictures are apart, 0 for equal sets."""
    return float(np.mean(list(sliced_wasserstein_levels(images, other, patches=patches, directions=directions, seed=seed).values())))


def sliced_wasserstein_levels(images: np.ndarray, other: np.ndarray, *, patches: int = 128, directions: int = 512, seed: int = 0) -> dict[int, float]:
    """The sliced Wasserstein distance of two sets of pictures at each level of a Laplacian pyramid, times 1000.

    images, other  (N,H,W,C) and (M,H,W,C) uint8, H and W at least 16. Chance alone sets few pictures further apart than many: compare
                   distances of equal N and M only, and with that of two sets of real pictures.
    patches        of 7x7 pixels that are taken of each picture at each level. Where they lie depends on the seed and on the picture alone,
                   so the order of the pictures doesn't matter.
    directions     on which the patches are projected.

    Returns {pixels a side: distance}, from the finest level to 16 pixels: {64: .., 32: .., 16: ..}. The fine levels tell about edges and
    fur, the last about colours and shapes. Each set's patches are normalised by its own mean and standard deviation of each channel, so the
    brightness and the contrast of a whole level are not compared.

    Of each patch, (7*7*C,) numbers, one projection on a random direction is taken; two sets of numbers are as far apart as, sorted, their
    pairs are on average: the Wasserstein-1 distance on a line (Rabin et al. 2011). The mean over the directions is the sliced distance.
    Karras et al. 2018, arXiv 1710.10196, section 5. Memory doesn't grow with the number of directions, time does.
    Raises TypeError where the pictures aren't uint8, ValueError where the shapes don't fit.
    """
    images, other = check_pictures("sliced_wasserstein", images), check_pictures("sliced_wasserstein", other)
    if images.shape[1:] != other.shape[1:]:
        raise ValueError(f"sliced_wasserstein: the pictures of both sets must have one size, got {images.shape} and {other.shape}")
    if min(images.shape[1:3]) < SMALLEST_LEVEL:
        raise ValueError(f"sliced_wasserstein: pictures must be at least {SMALLEST_LEVEL} pixels a side, got {images.shape}")
    if patches < 1 or directions < 1:
        raise ValueError(f"sliced_wasserstein: patches ({patches}) and directions ({directions}) must be at least 1")
    sides = [min(images.shape[1:3])]
    while sides[-1] // 2 >= SMALLEST_LEVEL:
        sides.append(-(-sides[-1] // 2))
    return {side: _level_distance(images, other, directions, level, len(sides), patches, seed) for level, side in enumerate(sides)}


class Nearest(NamedTuple):
    """The nearest training picture of each of N pictures.

    index     (N,) int64, into the training pictures; the first of equally near ones
    mirrored  (N,) bool, whether its mirror image is the nearest, left and right exchanged
    distance  (N,) float64, root mean square difference in grey levels, 0 to 255
    """
    index: np.ndarray                           # type: ignore[assignment]    # tuple's method of this name is of no use here
    mirrored: np.ndarray
    distance: np.ndarray

    def of(self, training: np.ndarray) -> np.ndarray:
        """The nearest pictures themselves, mirrored where that is nearer: (N,H,W,C)."""
        found = training[self.index]
        return np.where(self.mirrored[:, None, None, None], found[:, :, ::-1], found)


def nearest(pictures: np.ndarray, training: np.ndarray) -> Nearest:
    """For each picture the training picture, or mirror image of one, that is nearest to it pixel by pixel.

    pictures, training  (N,H,W,C) and (M,H,W,C) uint8; training may be a memory map or Rows.

    Training mirrors half of the pictures, so a copy of a mirror image is a copy. The squared distance is |a|^2 + |b|^2 - 2 a b, all whole
    numbers below 2^53, so in float64 it is exact: an equal picture is at distance 0. Memory is bounded by BLOCK pictures of each kind at a
    time. Raises TypeError where the pictures aren't uint8, ValueError where the shapes don't fit.
    """
    pictures = check_pictures("nearest", pictures)
    check_pictures("nearest", training[:1])     # the whole may be larger than memory
    if pictures.shape[1:] != training.shape[1:]:
        raise ValueError(f"nearest: pictures and training pictures must be of one size (pictures {pictures.shape}, training {training.shape})")
    N = len(pictures)
    index, mirrored, squared = np.zeros(N, np.int64), np.zeros(N, bool), np.full(N, np.inf)
    for start in range(0, len(training), BLOCK):
        block = training[start:start + BLOCK]
        for mirror, candidates in ((False, block), (True, block[:, :, ::-1])):
            b = candidates.reshape(len(block), -1).astype(np.float64)
            columns, lengths = np.ascontiguousarray(b.T), np.square(b).sum(axis=1)
            for first in range(0, N, BLOCK):
                rows = slice(first, first + BLOCK)
                a = pictures[rows].reshape(-1, b.shape[1]).astype(np.float64)
                apart = np.square(a).sum(axis=1)[:, None] + lengths - 2 * kernels.matmul(a, columns)       # (n,m)
                best = apart.argmin(axis=1)
                least = apart[np.arange(len(a)), best]
                nearer = least < squared[rows]
                index[rows][nearer], mirrored[rows][nearer], squared[rows][nearer] = start + best[nearer], mirror, least[nearer]
    return Nearest(index, mirrored, np.sqrt(squared / pictures[0].size))


class NoiseLevel(NamedTuple):
    """How wrong a denoiser is at time t, of this log SNR: the mean squared error of its guess of x_0, pictures being in [-1, 1]."""
    t: float
    log_snr: float
    x0_error: float

    @property
    def eps_error(self) -> float:
        """The same as an error in eps, SNR times as large: the loss of Ho et al. 2020 (arXiv 2006.11239, equation 14) at this t alone."""
        return math.exp(self.log_snr) * self.x0_error


def errors_by_noise(denoise: Callable, schedule: Any, images: np.ndarray, times: Iterable[float] | None = None, *, seed: int = 0,
                    chunk: int = 32) -> list[NoiseLevel]:
    """The held-out loss by noise level: pictures are made noisy, and the denoiser is asked for them.

    denoise  (x, t) -> guess of x_0, arrays of floats in [-1, 1], t a number.
    images   (N,H,W,C) uint8, of which `chunk` at a time are in memory as floats. Each has its own noise, the same at all times.
    times    the times t, 0 to T-1; None for the ten at which the schedule's log SNR is nearest to 9, 7, 5, ... -9, so that networks trained
             on different schedules, for different targets, compare.

    A loss that is one mean over all t says little about where a network is good: with little noise the details count, with much the
    whole. Raises TypeError where the images aren't uint8, ValueError for other shapes and times.
    """
    images = check_pictures("errors_by_noise", images)
    if times is None:
        times = dict.fromkeys(int(np.abs(schedule.log_snr - log_snr).argmin()) for log_snr in LOG_SNRS)     # each once
    levels = []
    for t in times:
        if not 0 <= t <= schedule.T - 1:
            raise ValueError(f"errors_by_noise: t = {t} is outside the schedule's 0 to T-1 = {schedule.T - 1}")
        alpha, sigma = schedule.at(t)
        total = 0.0
        for first in range(0, len(images), chunk):
            x0 = (images[first:first + chunk] / 127.5 - 1).astype(np.float32)
            eps = np.array([np.random.default_rng([seed, NOISE_STREAM, first + i]).standard_normal(x.shape) for i, x in enumerate(x0)], np.float32)
            total += float(np.square(denoise(alpha * x0 + sigma * eps, t) - x0, dtype=np.float64).sum())
        log_snr = 2 * math.log(alpha / sigma) if alpha > 0 else -math.inf
        levels.append(NoiseLevel(float(t), log_snr, total / images.size))
    return levels


def laplacian_pyramid(pictures: np.ndarray, levels: int) -> list[np.ndarray]:
    """Pictures taken apart by the size of their details: floats (N,H,W,C) -> `levels` arrays, each with half the pixels a side.

    Each level but the last is what is lost when the picture is blurred and every second pixel of it left out: the details of that size.
    The last is what remains. `pictures = levels[0] + expand(levels[1] + expand(levels[2] + ...))` (Burt and Adelson 1983).
    """
    pyramid = [pictures]
    for _ in range(levels - 1):
        fine = pyramid.pop()
        coarse = blur(fine)[:, ::2, ::2]                                          # (N,ceil(H/2),ceil(W/2),C)
        pyramid += [fine - expand(coarse, fine.shape), coarse]
    return pyramid


def expand(coarse: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Twice the pixels a side, cut to `shape` (N,H,W,C): zeros are put between the pixels, and blurring spreads each over its new place."""
    sparse = np.zeros(shape, coarse.dtype)
    sparse[:, ::2, ::2] = 4 * coarse                                              # three of four pixels are zeros
    return blur(sparse)


def blur(x: np.ndarray) -> np.ndarray:
    """(N,H,W,C) floats, H and W at least 3, smoothed by 1 4 6 4 1 over 16 along both sides, the picture mirrored at its edges."""
    for axis, length in ((1, x.shape[1]), (2, x.shape[2])):
        padded = np.pad(x, [(2, 2) if i == axis else (0, 0) for i in range(4)], mode="reflect")
        parts = (np.take(padded, range(i, i + length), axis) for i in range(5))
        x = sum(part * weight for part, weight in zip(parts, (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)))     # type: ignore[assignment]
    return x


def check_pictures(name: str, pictures: ArrayLike) -> np.ndarray:
    """The pictures as an array, or an error that names the caller: TypeError unless uint8, ValueError unless (N,H,W,C) and not empty."""
    pictures = np.asarray(pictures)
    if pictures.dtype != np.uint8:
        raise TypeError(f"{name}: pictures must be uint8, got {pictures.dtype} (shape {pictures.shape}); data.to_uint8 converts the network's")
    if pictures.ndim != 4 or 0 in pictures.shape:
        raise ValueError(f"{name}: pictures must be (N,H,W,C) with at least one picture, got {pictures.shape}")
    return pictures


def _level_distance(images, other, directions, level, levels, patches, seed):
    """The sliced distance at one of `levels` levels, times 1000."""
    draw = (level, levels, patches, seed)
    moments = [_channel_moments(pictures, *draw) for pictures in (images, other)]
    rays = np.random.default_rng([seed, DIRECTION_STREAM, level]).standard_normal((directions, PATCH * PATCH * images.shape[3]))
    rays /= np.sqrt(np.square(rays).sum(axis=1, keepdims=True))                   # (directions, 49 C) of length 1
    group = max(1, PROJECTION_BYTES // (4 * max(len(images), len(other)) * patches))
    total = 0.0
    for first in range(0, directions, group):
        w = np.ascontiguousarray(rays[first:first + group].T, dtype=np.float32)   # (49 C, group)
        a, b = (_project(pictures, w, *of, *draw) for pictures, of in zip((images, other), moments))
        total += float(wasserstein_1d(a, b).sum())
    return 1000 * total / directions


def wasserstein_1d(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """How far sets of n and m numbers are apart, for each of G pairs of them: (G,n), (G,m) -> (G,) float64; mean |sorted a - sorted b| where n = m.

    On a line the cheapest way to move one heap of sand into the shape of another keeps the order of the grains. With n grains of weight 1/n and m of
    1/m, lay both heaps side by side in order: a piece of sand begins wherever a grain of either begins, and moves from its place in a to that in b.
    """
    n, m = a.shape[1], b.shape[1]
    whole = math.lcm(n, m)                                                        # weights in units of 1/whole
    starts = np.union1d(np.arange(0, whole, whole // n), np.arange(0, whole, whole // m))
    weights = np.diff(starts, append=whole) / whole
    moved = np.abs(np.sort(a, axis=1)[:, starts // (whole // n)] - np.sort(b, axis=1)[:, starts // (whole // m)])
    return np.einsum("gk,k->g", moved, weights)                                   # summed in float64, without a copy of `moved` in it


def _patches(images, level, levels, patches, seed) -> Iterator[np.ndarray]:
    """Patches of one level of the pyramid, of BLOCK pictures at a time: (n, patches, C, 7, 7) float32."""
    for first in range(0, len(images), BLOCK):
        block = images[first:first + BLOCK]
        x = laplacian_pyramid(block.astype(np.float32), levels)[level]            # (n,H/2^level,W/2^level,C)
        windows = np.lib.stride_tricks.sliding_window_view(x, (PATCH, PATCH), axis=(1, 2))
        places = [np.random.default_rng([seed, PATCH_STREAM, level, zlib.crc32(np.ascontiguousarray(picture).data)])
                  .integers(0, windows.shape[1:3], (patches, 2)) for picture in block]
        y, x = np.moveaxis(np.array(places), -1, 0)                                         # each (n,patches)
        yield windows[np.arange(len(block))[:, None], y, x]


def _channel_moments(images, *draw):
    """Mean and standard deviation of each channel over all patches, (C,1,1) float32 each; 1 for the deviation of a channel without any."""
    count, total, squares = 0, 0.0, 0.0
    for part in _patches(images, *draw):
        part = part.astype(np.float64)
        count += part.size // part.shape[2]
        total, squares = total + part.sum((0, 1, 3, 4)), squares + np.square(part).sum((0, 1, 3, 4))
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
    deviation[deviation == 0] = 1
    return mean.astype(np.float32)[:, None, None], deviation.astype(np.float32)[:, None, None]


def _project(images, w, mean, deviation, *draw):
    """The normalised patches of all pictures on the directions w (49 C, G): (G, patches of all pictures)."""
    parts = [kernels.matmul(((part - mean) / deviation).reshape(-1, len(w)), w).T for part in _patches(images, *draw)]
    return np.concatenate(parts, axis=1)
