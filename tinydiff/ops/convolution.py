"""The convolution. Its three kernels (forward, input gradient, weight gradient) and their derivation are in kernels/convolution.py."""
from tinydiff import kernels
from tinydiff.autograd import primitive
from tinydiff.ops.checks import expect, expect_int


@primitive
def conv2d(x, w, bias=None, stride=1, padding=0):
    """x (N, H, W, C), w (KH, KW, C, F) -> (N, H', W', F), with H' = (H + 2 padding - KH) // stride + 1.

    bias: None, (F,), or (N, F), one for each picture. y[i, j] = sum over kernel positions of x[stride i + kh - padding, ...] w[kh, kw].
    dx: each dy[i, j] w^T added back to the pixels that it came from; dw: x^T dy at each kernel position; dbias = dy summed over pixels.
    """
    check_conv2d(x, w, bias, stride, padding)
    bias_ndim = 0 if bias is None else bias.ndim
    size, kernel_size = x.shape[1:3], w.shape[:2]

    def backward(dy):
        def dx():
            return kernels.conv2d_dx(dy, w, size, stride, padding)

        def dw():
            return kernels.conv2d_dw(x, dy, kernel_size, stride, padding)

        def dbias():
            per_picture = kernels.pixel_sum(dy)         # (N, H', W', F) -> (N, F)
            return per_picture if bias_ndim == 2 else per_picture.sum(axis=0)
        return dx, dw, dbias
    return kernels.conv2d(x, w, bias, stride, padding), backward


def check_conv2d(x, w, bias, stride, padding):
    """Raise a TypeError or ValueError that says which arguments do not fit together."""
    expect("conv2d", "x", x, "N H W C")
    expect("conv2d", "w", w, "KH KW C F")
    expect_int("conv2d", "stride", stride, 1)
    expect_int("conv2d", "padding", padding, 0)
    (N, H, W, C), (KH, KW, w_channels, F) = x.shape, w.shape
    shapes = f"(x {x.shape}, w {w.shape})"
    if C != w_channels:
        raise ValueError(f"conv2d: x has {C} channels, w expects {w_channels} {shapes}")
    if H + 2 * padding < KH or W + 2 * padding < KW:
        raise ValueError(f"conv2d: the kernel is larger than the picture with padding {padding} {shapes}")
    if bias is not None:
        expect("conv2d", "bias", bias, "F" if getattr(bias, "ndim", 1) != 2 else "N F")
        if bias.shape not in ((F,), (N, F)):
            raise ValueError(f"conv2d: bias must have shape ({F},) or ({N}, {F}), got {bias.shape} {shapes}")
