"""The small layers: each holds the weights of one op of `tinydiff.ops`, initialised, and calls it.

Every layer with random weights takes `rng`, a `numpy.random.Generator`, and `dtype`. Weights are drawn in float64 and then
converted, so a float32 network and a float64 network from the same seed are the same up to rounding.

Weights and biases of Linear and Conv2d start uniform in +-1/sqrt(fan_in), fan_in being the number of inputs that one output
sees: He et al. 2015 (arXiv 1502.01852, equation 10) with the slope sqrt(5) of a leaky ReLU, which is PyTorch's default and so
what the published diffusion U-Nets started from. `zero=True` starts at zero instead (see `ResBlock`).

Read first: `module.py`.
"""
import math
from typing import Callable

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from tinydiff import ops
from tinydiff.autograd import Tensor
from tinydiff.nn.module import Module


def uniform_parameter(shape: tuple[int, ...], fan_in: int, zero: bool, rng: np.random.Generator, dtype: DTypeLike) -> Tensor:
    """A parameter uniform in +-1/sqrt(fan_in), or all zero."""
    bound = 0.0 if zero else 1 / math.sqrt(fan_in)
    return Tensor(rng.uniform(-bound, bound, shape).astype(dtype), requires_grad=True)


class Linear(Module):
    """y = x w + b over the last axis: (..., C) -> (..., F). weight (C,F), bias (F,)."""

    def __init__(self, C: int, F: int, *, rng: np.random.Generator, dtype: DTypeLike = np.float32):
        self.weight = uniform_parameter((C, F), C, False, rng, dtype)
        self.bias = uniform_parameter((F,), C, False, rng, dtype)

    def __call__(self, x: Tensor | np.ndarray) -> Tensor:
        return ops.linear(x, self.weight, self.bias)

    def _details(self):
        return "{} -> {}".format(*self.weight.shape)

    def _output(self, H, W):
        return "...", self.bias.size


class Conv2d(Module):
    """Convolution with an odd square kernel, padded so that stride 1 keeps the size: (N,H,W,C) -> (N,H/stride,W/stride,F).

    weight (K,K,C,F), bias (F,). With an even size and stride 2 the output has half the pixels a side.
    """

    def __init__(self, C: int, F: int, kernel_size: int = 3, stride: int = 1, *, zero: bool = False,
                 rng: np.random.Generator, dtype: DTypeLike = np.float32):
        if kernel_size % 2 == 0:
            raise ValueError(f"Conv2d: kernel_size is {kernel_size}; it must be odd, so that the padding can be the same on both sides")
        fan_in = kernel_size * kernel_size * C
        self.stride, self.padding = stride, kernel_size // 2
        self.weight = uniform_parameter((kernel_size, kernel_size, C, F), fan_in, zero, rng, dtype)
        self.bias = uniform_parameter((F,), fan_in, zero, rng, dtype)

    def __call__(self, x: Tensor | np.ndarray | list[Tensor], shift: Tensor | None = None, residual: Tensor | None = None) -> Tensor:
        """`shift` (N,F), where given, is added to every pixel of picture n's output; `residual`, an array like the output, to all of it.

        Both cost next to nothing here, where the output is written anyway. x: a Tensor, or a list of Tensors that are taken as concatenated.
        """
        bias = self.bias if shift is None else self.bias + shift  # (N,F) with a shift
        return ops.conv2d(x, self.weight, bias, self.stride, self.padding, residual)

    def _details(self):
        K, _, C, F = self.weight.shape
        return f"{C} -> {F}, {K}x{K}" + (f", stride {self.stride}" if self.stride > 1 else "")

    def _output(self, H, W):
        if self.stride > 1:
            H, W = (f"{n}/{self.stride}" if isinstance(n, str) else -(-n // self.stride) for n in (H, W))
        return "N", H, W, self.bias.size


class UpsampleConv2d(Conv2d):
    """Each pixel twice both ways, then a 3x3 convolution: (N,H,W,C) -> (N,2H,2W,F). The large picture in between is never made."""

    def __call__(self, x: Tensor | np.ndarray) -> Tensor:          # type: ignore[override]   # it adds nothing in passing
        return ops.upsample_conv2d(x, self.weight, self.bias)

    def _output(self, H, W):
        return super()._output(*(f"2{n}" if isinstance(n, str) else 2 * n for n in (H, W)))


class GroupNorm(Module):
    """Each picture's groups of channels to mean 0 and variance 1, then weight x + bias, then `act` (None or "silu").

    (N,...,C), or a list of Tensors with C channels together -> (N,...,C). weight (C,) starts at one, bias (C,) at zero.
    Wu and He 2018 (arXiv 1803.08494, equations 1 to 3 and 7).
    """

    def __init__(self, C: int, groups: int, act: str | None = None, *, dtype: DTypeLike = np.float32):
        if C % groups:
            raise ValueError(f"GroupNorm: {C} channels do not divide into {groups} groups")
        self.groups, self.eps, self.act = groups, 1e-5, act
        self.weight = Tensor(np.ones(C, dtype), requires_grad=True)
        self.bias = Tensor(np.zeros(C, dtype), requires_grad=True)

    def __call__(self, x: Tensor | np.ndarray | list[Tensor]) -> Tensor:
        return ops.group_norm(x, self.weight, self.bias, self.groups, self.eps, self.act)

    def _details(self):
        return f"{self.weight.size}, {self.groups} groups" + (f", {self.act}" if self.act else "")

    def _output(self, H, W):
        return "N", H, W, self.weight.size


class Embedding(Module):
    """A learned vector for each integer: ids (...,) of 0..n-1 -> (..., C). weight (n,C) starts standard normal."""

    def __init__(self, n: int, C: int, *, rng: np.random.Generator, dtype: DTypeLike = np.float32):
        self.weight = Tensor(rng.standard_normal((n, C)).astype(dtype), requires_grad=True)

    def __call__(self, ids: ArrayLike) -> Tensor:
        return ops.embedding(self.weight, ids)

    def _details(self):
        return "{} x {}".format(*self.weight.shape)

    def _output(self, H, W):
        return "...", self.weight.shape[1]


class Dropout(Module):
    """In training each value is zeroed with probability p and the others divided by 1 - p; in evaluation nothing is changed.

    Draws for each picture by itself, from the keys given to `Module.train(keys)`. Srivastava et al. 2014 (JMLR 15, section 10 for the scaling).
    """

    def __init__(self, p: float):
        if not 0 <= p < 1:
            raise ValueError(f"Dropout: p is {p}; it must be at least 0 and below 1")
        self.p = p

    def __call__(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        if self.keys is None:
            raise ValueError("Dropout: no keys to draw with; call model.train(keys) before each training step")
        return ops.dropout(x, self.p, [np.random.default_rng(key) for key in self.keys])

    def _details(self):
        return f"{self.p}"


class Sequential(Module):
    """One after the other: Modules, or plain functions of one Tensor such as `ops.silu`: (N,...) -> what the last one gives."""

    def __init__(self, *layers: Callable[[Tensor], Tensor]):
        self.layers = list(layers)

    def __call__(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x

    def _output(self, H, W):
        return self._outputs(H, W)[-1]

    def _size_inside(self, name, H, W):
        shape = self._outputs(H, W)[int(name.removeprefix("layers."))]
        return shape[1:3] if len(shape) == 4 else (H, W)

    def _outputs(self, H, W):
        """The shapes between the layers, from before the first to after the last. What is no Module, or has no shape, changes none."""
        shapes = [()]
        for layer in self.layers:
            H, W = shapes[-1][1:3] if len(shapes[-1]) == 4 else (H, W)
            shapes.append((layer._output(H, W) if isinstance(layer, Module) else ()) or shapes[-1])
        return shapes
