"""The two blocks that the U-Net is built of: a residual block that knows the time, and self-attention over the pixels. What a block computes is
added to its input (hence residual), so that gradients pass through many blocks as through none.

After Dhariwal and Nichol 2021 (arXiv 2105.05233) and Ho, Jain and Abbeel 2020 (arXiv 2006.11239, appendix B). The last convolution of each block
starts at zero, so that at first every block passes its input on unchanged and a deep network starts out as a shallow one.

Read first: `layers.py`.
"""
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from tinydiff import ops
from tinydiff.autograd import Tensor
from tinydiff.nn.layers import Conv2d, Dropout, GroupNorm, Linear
from tinydiff.nn.module import Module


class ResBlock(Module):
    """norm-SiLU-conv, plus the time, norm-SiLU-conv, plus the input: x (N,H,W,C), emb (N,E) -> (N,H,W,F).

        h = conv1(silu(norm1(x))) + time(emb)                        time's (N,F) at every pixel
        y = conv2(dropout(silu(norm2(h)))) + shortcut(x)             each sum is made while its convolution is written

    `emb` is the time embedding after its SiLU; each block has its own Linear that makes of it one number per picture and channel.
    The shortcut is a 1x1 convolution where the number of channels changes, else x itself. Where C != F, x may be a list of Tensors with C channels
    together: they are taken as concatenated.
    """

    def __init__(self, C: int, F: int, E: int, groups: int, dropout: float = 0.0, *, rng: np.random.Generator, dtype: DTypeLike = np.float32):
        new: dict[str, Any] = dict(rng=rng, dtype=dtype)
        self.norm1 = GroupNorm(C, groups, act="silu", dtype=dtype)
        self.conv1 = Conv2d(C, F, **new)
        self.time = Linear(E, F, **new)
        self.norm2 = GroupNorm(F, groups, act="silu", dtype=dtype)
        self.dropout = Dropout(dropout)
        self.conv2 = Conv2d(F, F, zero=True, **new)
        self.shortcut = Conv2d(C, F, 1, **new) if C != F else None

    def __call__(self, x: Tensor | list[Tensor], emb: Tensor) -> Tensor:
        h = self.conv1(self.norm1(x), shift=self.time(emb))  # (N,H,W,F)
        shortcut = x if self.shortcut is None else self.shortcut(x)  # (N,H,W,F)
        return self.conv2(self.dropout(self.norm2(h)), residual=shortcut)     # type: ignore[arg-type]

    def _output(self, H, W):
        return self.conv2._output(H, W)


class Attention(Module):
    """Every pixel looks at every other, and what it finds is added to it: x (N,H,W,C) -> the same.

    The H W pixels are the L tokens; each head attends with its own D = C / heads channels of q, k and v.
    Vaswani et al. 2017 (arXiv 1706.03762, equation 1 and section 3.2.2).
    """

    def __init__(self, C: int, heads: int, groups: int, *, rng: np.random.Generator, dtype: DTypeLike = np.float32):
        if C % heads:
            raise ValueError(f"Attention: {C} channels do not divide into {heads} heads")
        self.heads = heads
        self.norm = GroupNorm(C, groups, dtype=dtype)
        self.qkv = Conv2d(C, 3 * C, 1, rng=rng, dtype=dtype)
        self.out = Conv2d(C, C, 1, zero=True, rng=rng, dtype=dtype)

    def __call__(self, x: Tensor) -> Tensor:
        N, H, W, C = x.shape
        qkv = ops.reshape(self.qkv(self.norm(x)), (N, H * W, 3 * C))  # (N,L,3C)
        h = ops.self_attention(qkv, self.heads)  # (N,L,C)
        return self.out(ops.reshape(h, (N, H, W, C)), residual=x)

    def _details(self):
        return f"{self.heads} heads"

    def _output(self, H, W):
        return self.out._output(H, W)
