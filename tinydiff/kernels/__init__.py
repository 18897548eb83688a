"""Kernels: plain NumPy arrays in, plain NumPy arrays out, on all cores. Nothing here knows a Tensor or a gradient tape.

Each file holds, for each of its kernels, the NumPy function that says what it computes (`*_reference`) and, below, the fast form. Both are listed
in KERNELS, and tests compare them. All kernels take float32 or float64 and keep it; they give the same bits on any number of threads, because
work is split by shape, never by thread, and partial sums are added in a fixed order. They expect shapes that fit: `ops` checks them first.

Between the two stands what the hardware wants, how the fast form gives it that, and what that gains, as `benchmarks/references.py` measured it.

Read in this order: `registry.py`, `elementwise.py` (the simplest kernels), `vector.py` and `vector_functions.py` (how Python arithmetic becomes
vector instructions), `jit.py` (how it is compiled and kept), `buffers.py` (where memory comes from); then `memory.py`, `softmax.py`, `loss.py`,
`optimizer.py`, `group_norm.py`; `tile.py` (the small matrix product under everything), `convolution.py` and what it chooses from,
`direct.py`, `winograd.py` and, on some processors, `amx.py` with `amx_convolution.py`; `products.py`, `attention_rows.py`, `attention.py`; `muon.py`.

Read first: `ops/__init__.py`, for the letters of the shapes.
"""
from .amx import bfloat16, has_bfloat16
from .attention import attention, attention_backward, self_attention, self_attention_backward
from .convolution import conv2d, conv2d_dw, conv2d_dx, pixel_sum, upsample_conv2d, upsample_conv2d_dw, upsample_conv2d_dx
from .elementwise import silu, silu_backward
from .group_norm import group_norm, group_norm_backward
from .loss import scaled_difference, squared_error
from .memory import add, concat_channels, pool_sum, split_channels, upsample
from .muon import muon_step
from .optimizer import adamw_step, squared_norm
from .products import matmul
from .registry import KERNELS
from .softmax import softmax, softmax_backward

__all__ = ["KERNELS", "adamw_step", "add", "attention", "attention_backward", "bfloat16", "concat_channels", "conv2d", "conv2d_dw", "conv2d_dx",
           "group_norm", "group_norm_backward", "has_bfloat16", "matmul", "muon_step", "pixel_sum", "pool_sum", "scaled_difference", "self_attention",
           "self_attention_backward", "silu", "silu_backward", "softmax", "softmax_backward", "split_channels", "squared_error",
           "squared_norm", "upsample", "upsample_conv2d", "upsample_conv2d_dw", "upsample_conv2d_dx"]
