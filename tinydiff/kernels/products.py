"""Matrix products on the register tile, in place of BLAS: the same bits on any number of threads, and no foreign threads beside ours.

Read first: `convolution.py`.
"""
import numpy as np

from .convolution import conv2d
from .registry import kernel


def matmul_reference(a, b):
    """(M,K) x (K,N) -> (M,N), or (B,M,K) x (B,K,N) -> (B,M,N)."""
    return np.matmul(a, b)


# What the hardware wants: what it wants of a convolution.
#
# How it gets that: from the same kernel. A product is a 1x1 convolution of M pictures one pixel wide.
#
# What it gains: no time. NumPy's BLAS is good at products, and in the U-Net these have 16 rows, where the call costs more than the work (0.1 x the
# reference's speed; all of them take 8 ms of a step of 640, benchmarks/README.md). But BLAS brings threads of its own, which wait for work on the
# cores that ours compute on, and adds in an order that depends on their number.

@kernel(matmul_reference)
def matmul(a, b):
    if a.ndim == 3 and len(a) == 0:
        return np.zeros((0, a.shape[1], b.shape[2]), a.dtype)
    if a.ndim == 3:
        return np.stack([matmul(one, other) for one, other in zip(a, b)])
    (M, K), N = a.shape, b.shape[1]
    return conv2d(a.reshape(M, 1, 1, K), b.reshape(1, 1, K, N)).reshape(M, N)     # a 1x1 convolution of M pictures one pixel wide
