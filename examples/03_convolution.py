"""What is a convolution, what are its two gradients, and why is it fast? All of it three ways: the same numbers, three speeds.

    python examples/03_convolution.py       a few seconds; it prints

You will see the definition, seven loops, in which the gradients are the same products with the parts exchanged; one product of matrices,
once the pixels that each output looks at have been copied side by side (im2col); and tinydiff's kernels, which do without that copy.

Read next: tinydiff/ops/convolution.py, the op; tinydiff/kernels/convolution.py, the kernels below their definitions in NumPy; and why they
are fast: vector.py, tile.py, direct.py and winograd.py beside it. The next example is 04_swiss_roll.py.
"""
from itertools import product
from timeit import repeat

import numpy as np

import tinydiff as td
from tinydiff import kernels

# x (N,H,W,C): N pictures of H x W pixels and C channels. w (K,K,C,F): for each of F new channels a filter, K x K pixels of all C channels.
# y (N,H,W,F). dy, of y's shape, says how the loss changes with each number of y; dx and dw say the same of x and w, and are what we want.
SMALL = dict(N=2, H=16, W=16, C=8, F=8)         # for Python's loops
UNET = dict(N=16, H=32, W=32, C=64, F=64)       # as in the U-Net that draws the cats
K, PADDING = 3, 1                               # a pixel of zeros all around makes y as high and wide as x
ROUNDS = 9                                      # runs, of which the median time counts


def padded(x):
    """(N,H,W,C) -> (N,H+2,W+2,C)"""
    return np.pad(x, ((0, 0), (PADDING, PADDING), (PADDING, PADDING), (0, 0)))


def inner(xp):
    """(N,H+2,W+2,C) -> (N,H,W,C)"""
    return xp[:, PADDING:-PADDING, PADDING:-PADDING]


def loops(x, w, dy):
    """(y, dx, dw) by the definition: at each pixel (a, b), the filter lies on its neighbourhood, and what meets is multiplied and added up.

    y is a sum of products x w. The loss changes by dy with y, so with this x by dy w, and with this w by dy x. Each x and each w is met in many
    places, and what they ask of it adds up. So one walk through all meetings gives y and both gradients.
    """
    (N, H, W, C), F = x.shape, w.shape[3]
    xp, dxp, y, dw = padded(x), np.zeros_like(padded(x)), np.zeros_like(dy), np.zeros_like(w)
    for n, a, b, f, i, j, c in product(range(N), range(H), range(W), range(F), range(K), range(K), range(C)):
        y[n, a, b, f] += xp[n, a + i, b + j, c] * w[i, j, c, f]
        dxp[n, a + i, b + j, c] += dy[n, a, b, f] * w[i, j, c, f]
        dw[i, j, c, f] += dy[n, a, b, f] * xp[n, a + i, b + j, c]
    return y, inner(dxp), dw


def im2col(x, w, dy):
    """(y, dx, dw) as products of matrices. What a pixel of y looks at becomes a row of columns; then y = columns w, and that's all.

    A product's gradients are products: d columns = dy w^T, dw = columns^T dy. The price is the copy: each pixel of x is in K K = 9 rows.
    """
    (N, H, W, C), F = x.shape, w.shape[3]
    windows = np.lib.stride_tricks.sliding_window_view(padded(x), (K, K), axis=(1, 2))      # (N,H,W,C,K,K), nothing copied yet
    columns = windows.transpose(0, 1, 2, 4, 5, 3).reshape(N * H * W, K * K * C)
    w_rows, dy_rows = w.reshape(K * K * C, F), dy.reshape(N * H * W, F)
    y = columns @ w_rows                                                                    # (NHW,KKC) (KKC,F) -> (NHW,F)
    dw = columns.T @ dy_rows                                                                # (KKC,NHW) (NHW,F) -> (KKC,F)
    d_columns = (dy_rows @ w_rows.T).reshape(N, H, W, K, K, C)                              # (NHW,F) (F,KKC) -> (NHW,KKC)
    dxp = np.zeros_like(padded(x))
    for i, j in product(range(K), range(K)):
        dxp[:, i:i + H, j:j + W] += d_columns[:, :, :, i, j]                                # the 9 copies of each pixel, added up
    return y.reshape(dy.shape), inner(dxp), dw.reshape(w.shape)


def kernel(x, w, dy):
    """(y, dx, dw) by tinydiff's kernels: 3 x 3 filters by Winograd's method, a quarter of the multiplications, in registers and cache."""
    return (kernels.conv2d(x, w, padding=PADDING), kernels.conv2d_dx(dy, w, x.shape[1:3], padding=PADDING),
            kernels.conv2d_dw(x, dy, (K, K), padding=PADDING))


def op(x, w, dy):
    """(y, dx, dw) as a network gets them: the op on Tensors, which calls those kernels, and backward."""
    x, w = td.Tensor(x, requires_grad=True), td.Tensor(w, requires_grad=True)
    y = td.ops.conv2d(x, w, padding=PADDING)
    y.backward(dy)
    return y.data, x.grad, w.grad


def compare(ways, N, H, W, C, F):
    """Prints a line for each way: how far its results are from the first way's, and how long it takes. Returns the first way's seconds."""
    rng = np.random.default_rng(0)
    x, w, dy = (rng.standard_normal(shape).astype(np.float32) for shape in ((N, H, W, C), (K, K, C, F), (N, H, W, F)))
    print(f"x {x.shape}, w {w.shape}\n\n            off from {ways[0].__name__} by")
    print("            y       dx      dw           time     speed")
    for way in ways:
        results = way(x, w, dy)                                     # not timed: the first call of a kernel may compile it
        seconds = np.median(repeat(lambda: way(x, w, dy), number=1, repeat=1 if way is loops else ROUNDS))
        if way is ways[0]:
            right, first, off = results, seconds, "-       -       -    "
        else:
            off = "   ".join(f"{np.abs(a - b).max() / np.abs(b).max():.0e}" for a, b in zip(results, right))
        print(f"   {way.__name__:<8} {off} {1000 * seconds:10.2f} ms {first / seconds:8,.{int(first < 10 * seconds)}f}x")
    return first


def main():
    print("A convolution and both its gradients, the results relative to the largest.\n")
    seconds = compare([loops, im2col, kernel, op], **SMALL)
    print("\nAt the size of a layer of the U-Net, where the cost of a call no longer shows:\n")
    compare([im2col, kernel, op], **UNET)
    turns = {name: np.prod(list(size.values())) for name, size in (("small", SMALL), ("unet", UNET))}
    print(f"\nThe loops would take {seconds * turns['unet'] / turns['small'] / 60:.0f} minutes for that. The U-Net has dozens of such layers,\n"
          "and its training takes a thousand steps. This is why there are kernels.")


if __name__ == "__main__":
    main()
