"""Matrix products on the register tile, in place of BLAS: the same bits on any number of threads, and no foreign threads beside ours."""
import numpy as np

from .convolution import conv2d
from .registry import kernel


def matmul_reference(a, b):
    """(M,K) x (K,N) -> (M,N), or (B,M,K) x (B,K,N) -> (B,M,N)."""
    return np.matmul(a, b)


@kernel(matmul_reference)
def matmul(a, b):
    if a.ndim == 3 and len(a) == 0:
        return np.zeros((0, a.shape[1], b.shape[2]), a.dtype)
    if a.ndim == 3:
        return np.stack([matmul(one, other) for one, other in zip(a, b)])
    (M, K), N = a.shape, b.shape[1]
    return conv2d(a.reshape(M, 1, 1, K), b.reshape(1, 1, K, N)).reshape(M, N)     # a 1x1 convolution of M pictures one pixel wide
