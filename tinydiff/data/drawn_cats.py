"""Cartoon cat faces, drawn with Pillow: a training set that needs no download.

Read first: `image_set.py`.
"""
import numpy as np

from tinydiff.data.cat_drawing import draw_cat
from tinydiff.data.cat_traits import FURS, sample_traits
from tinydiff.data.image_set import ImageSet

STREAM_CATS = 100   # keeps these draws apart from other draws with the same seed


def drawn_cats(n: int, size: int = 64, seed: int = 0) -> ImageSet:
    """n cat faces as (n,size,size,3) uint8; the labels say the coat: black, grey, ..., calico.

    Cat i depends on seed and i alone: drawn_cats(10) begins with the cats of drawn_cats(5), and the same cat comes at every size.
    Raises ValueError where n or size is below 1 or seed is negative.
    """
    if n < 1 or size < 1 or seed < 0:
        raise ValueError(f"drawn_cats: n and size must be at least 1 and seed at least 0, not n={n}, size={size}, seed={seed}")
    cats = [sample_traits(np.random.default_rng([seed, STREAM_CATS, i])) for i in range(n)]
    images = np.stack([np.asarray(draw_cat(cat, size)) for cat in cats])
    label_names = list(FURS)
    labels = np.array([label_names.index(cat.fur) for cat in cats], dtype=np.int64)
    return ImageSet(images, labels, label_names, [f"drawn cat {i}" for i in range(n)])
