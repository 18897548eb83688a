"""A set of equally large pictures, and the way between bytes and the numbers that a network sees.

Read first: `__init__.py`.
"""
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, eq=False)
class ImageSet:
    """N pictures of one size, with what is known about each.

    images       (N,H,W,C) uint8
    labels       (N,) int64, an index into label_names; None where the pictures have no classes
    label_names  the classes' names
    names        where each picture came from, in the order of `images`
    skipped      (name, reason) of each file that should have been a picture and could not be read

    Raises TypeError or ValueError where the parts do not fit together.
    """
    images: np.ndarray
    labels: np.ndarray | None = None
    label_names: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self):
        if self.images.dtype != np.uint8:
            raise TypeError(f"ImageSet: images must be uint8, not {self.images.dtype}; to_uint8 converts pictures in [-1, 1]")
        if self.images.ndim != 4:
            raise ValueError(f"ImageSet: images must be (N,H,W,C), not {self.images.shape}")
        if self.names and len(self.names) != len(self):
            raise ValueError(f"ImageSet: {len(self.names)} names for {len(self)} images")
        if self.labels is None:
            return
        if self.labels.shape != (len(self),) or self.labels.dtype != np.int64:
            raise ValueError(f"ImageSet: labels must be ({len(self)},) int64, not {self.labels.shape} {self.labels.dtype}")
        if len(self) and not 0 <= self.labels.min() <= self.labels.max() < len(self.label_names):
            raise ValueError(f"ImageSet: labels run from {self.labels.min()} to {self.labels.max()}, "
                             f"but label_names has {len(self.label_names)} entries")

    def __len__(self):
        return len(self.images)


class Rows:
    """Some of the pictures of `images` (N,H,W,C), those of `index` (M,), in that order: like images[index], but only what is asked for is
    copied, so that a set larger than memory can be divided."""

    def __init__(self, images: np.ndarray, index: np.ndarray):
        self.images, self.index = images, index
        self.dtype, self.shape = images.dtype, (len(index), *images.shape[1:])

    def __len__(self):
        return len(self.index)

    def __getitem__(self, rows):
        return self.images[self.index[rows]]

    def __array__(self, dtype=None, copy=None):
        return self[:].astype(dtype or self.dtype, copy=False)


def to_model(images: np.ndarray) -> np.ndarray:
    """Bytes to the network's space: uint8 0..255 of any shape -> float32 in [-1, 1] of that shape.

    The noise added to a picture has mean 0, so the picture is centred on 0 too (Ho et al. 2020, arXiv 2006.11239, section 3.3).
    Raises TypeError for anything but uint8, which may have been converted already.
    """
    if images.dtype != np.uint8:
        raise TypeError(f"to_model: images must be uint8, not {images.dtype} (shape {images.shape})")
    return images.astype(np.float32) / np.float32(127.5) - np.float32(1)


def to_uint8(x: np.ndarray) -> np.ndarray:
    """The network's space to bytes: floats of any shape -> uint8, rounded to the nearest; below -1 is 0, above 1 is 255.

    Undoes `to_model` exactly. Raises ValueError for NaN, which has no colour, rather than drawing it black.
    """
    if np.isnan(x).any():
        raise ValueError(f"to_uint8: x has {np.isnan(x).sum()} NaN among its {x.size} values (shape {x.shape}); "
                         "the training or the sampling that made it has diverged")
    return np.clip(np.rint((x + 1) * 127.5), 0, 255).astype(np.uint8)
