"""Pictures to larger and smaller ones.

Read first: `elementwise.py`.
"""
from tinydiff import kernels
from tinydiff.autograd import primitive
from tinydiff.ops.checks import expect, expect_int


@primitive
def upsample_nearest(x, factor=2):
    """(N, H, W, C) -> (N, H factor, W factor, C), each pixel repeated. dx = dy summed over the copies of each pixel."""
    expect("upsample_nearest", "x", x, "N H W C")
    expect_int("upsample_nearest", "factor", factor, 1)

    def backward(dy):
        return (kernels.pool_sum(dy, factor),)
    return kernels.upsample(x, factor), backward


@primitive
def avg_pool(x, factor=2):
    """(N, H, W, C) -> (N, H / factor, W / factor, C), the means of factor x factor pixels. dx = dy / factor^2, repeated over them."""
    expect("avg_pool", "x", x, "N H W C")
    expect_int("avg_pool", "factor", factor, 1)
    N, H, W, C = x.shape
    if H % factor or W % factor:
        raise ValueError(f"avg_pool: height and width must divide by {factor}, got x {x.shape}")

    def backward(dy):
        return (kernels.upsample(dy / factor ** 2, factor),)
    return kernels.pool_sum(x, factor) / factor ** 2, backward
