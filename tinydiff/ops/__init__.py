"""The ops: Tensor -> Tensor. Each is one function: its forward, and its backward as a closure just below.

The letters of shapes, here and everywhere:

    N   batch: pictures                 G   groups of channels
    H W height and width                L   tokens: the pixels, in attention
    C F channels in and out             D   width of an attention head, or of an embedding
    K   kernel: KH x KW pixels          T   diffusion steps

Pictures are channels-last, (N, H, W, C); convolution weights are (KH, KW, C, F). The gradient of y is called dy. Ops take Tensors, arrays
or, in arithmetic, numbers, and return Tensors of the dtype given: float32 to train, float64 to check. What is long to compute is in
`kernels`.

Read first: `autograd.py`.
"""
from tinydiff.ops.attention import attention, self_attention
from tinydiff.ops.convolution import conv2d, upsample_conv2d
from tinydiff.ops.elementwise import add, div, exp, gelu, log, mul, neg, pow, relu, sigmoid, silu, sqrt, sub, tanh
from tinydiff.ops.linear import embedding, linear, matmul
from tinydiff.ops.normalisation import group_norm, softmax
from tinydiff.ops.random import dropout
from tinydiff.ops.recompute import recompute
from tinydiff.ops.reduce import max, mean, mse, sum
from tinydiff.ops.resample import avg_pool, depth_to_space, space_to_depth, upsample_nearest
from tinydiff.ops.shapes import concat, getitem, pad, reshape, split, transpose

__all__ = [
    "add", "attention", "avg_pool", "concat", "conv2d", "depth_to_space", "div", "dropout", "embedding", "exp", "gelu", "getitem",
    "group_norm", "linear", "log", "matmul", "max", "mean", "mse", "mul", "neg", "pad", "pow", "recompute", "relu", "reshape",
    "self_attention", "sigmoid", "silu", "softmax", "space_to_depth", "split", "sqrt", "sub", "sum", "tanh", "transpose", "upsample_conv2d",
    "upsample_nearest",
]
