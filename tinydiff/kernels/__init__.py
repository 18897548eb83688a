"""Kernels: ndarray -> ndarray."""
from .convolution import conv2d, conv2d_dw, conv2d_dx, pixel_sum
from .products import matmul
from .group_norm import group_norm, group_norm_backward
from .attention import attention, attention_backward
from .elementwise import silu, silu_backward
from .memory import add, concat_channels, split_channels
from .optimizer import adamw_step, squared_norm
from .registry import KERNELS
