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


@primitive
def space_to_depth(x, factor=2):
    """(N, H, W, C) -> (N, H / factor, W / factor, factor^2 C): factor x factor pixels become the channels of one.

    They follow each other as in the picture, row by row, with the channels of a pixel together. dx = dy, the way back.
    Shi et al. 2016 (arXiv 1609.05158, equation 4) for the inverse.
    """
    expect("space_to_depth", "x", x, "N H W C")
    expect_int("space_to_depth", "factor", factor, 1)
    if x.shape[1] % factor or x.shape[2] % factor:
        raise ValueError(f"space_to_depth: height and width must divide by {factor}, got x {x.shape}")

    def backward(dy):
        return (_from_patches(dy, factor),)
    return _to_patches(x, factor), backward


@primitive
def depth_to_space(x, factor=2):
    """(N, H, W, factor^2 C) -> (N, H factor, W factor, C): the inverse of space_to_depth. dx = dy, the way back.

    Shi et al. 2016 (arXiv 1609.05158, equation 4, with the channels in another order).
    """
    expect("depth_to_space", "x", x, "N H W C")
    expect_int("depth_to_space", "factor", factor, 1)
    if x.shape[3] % factor ** 2:
        raise ValueError(f"depth_to_space: the channels must divide by {factor}^2, got x {x.shape}")

    def backward(dy):
        return (_to_patches(dy, factor),)
    return _from_patches(x, factor), backward


def _to_patches(x, p):
    N, H, W, C = x.shape
    x = x.reshape(N, H // p, p, W // p, p, C).transpose(0, 1, 3, 2, 4, 5)  # (N,H/p,W/p,p,p,C)
    return x.reshape(N, H // p, W // p, p * p * C)


def _from_patches(x, p):
    N, H, W, C = x.shape
    x = x.reshape(N, H, W, p, p, C // p ** 2).transpose(0, 1, 3, 2, 4, 5)  # (N,H,p,W,p,C/p^2)
    return x.reshape(N, H * p, W * p, C // p ** 2)
