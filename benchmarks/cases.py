"""What the reference training step asks of the kernels: every shape of the reference U-Net at batch 16, once.

A case is an op of the network with its inputs. Its parts are single calls of registered kernels (forward, each gradient); the op as a whole is
forward and backward through the autograd, ours or PyTorch's. A test holds the list of convolutions equal to those of the network, and the
kernels named here equal to the registry.
"""
from types import SimpleNamespace
from typing import Callable, NamedTuple

import numpy as np

from tinydiff.nn import UNet, UNetConfig

BATCH = 16


class Part(NamedTuple):
    """One call of a kernel of the registry."""
    name: str
    kernel: str
    arguments: Callable             # (the case's arrays, the results of the first part) -> the kernel's arguments
    flop: float = 0                 # by definition, whatever way the kernel goes: a multiply-add counts as two
    wrt: tuple[str, ...] = ()       # what PyTorch takes the gradient of for the same; (): it runs forward


class Case(NamedTuple):
    """An op with its inputs. `whole`: (tinydiff.ops, its Tensors) -> Tensor; `torch`: (torch, its tensors) -> tensor."""
    group: str
    shape: str
    inputs: dict[str, tuple[int, ...]]
    parts: list[Part]
    whole: Callable | None
    torch: Callable | None

    @property
    def wrt(self) -> list[str]:
        """The inputs that the backward pass gives gradients of."""
        return [name for name in self.inputs if name not in ("dy", "target")]

    @property
    def pictures(self) -> bool:
        """Whether the inputs are pictures, which PyTorch can lay out in two ways."""
        return len(self.inputs.get("x", ())) == 4

    def arrays(self, dtype=np.float32) -> SimpleNamespace:
        """Normal inputs; filters and matrices scaled so that the results are of size 1, as in a network."""
        rng, made = np.random.default_rng(0), {}
        for name, shape in self.inputs.items():
            scale = np.prod(shape[:-1]) ** -0.5 if name == "w" else 1
            made[name] = np.asarray(scale * rng.standard_normal(shape), dtype)
        return SimpleNamespace(**made)


def conv(group, N, size, C, F, K=3, stride=1):
    padding, out = K // 2, size // stride
    flop = 2 * N * out * out * K * K * C * F
    return Case(
        group, f"{N},{size},{C},{F}", dict(x=(N, size, size, C), w=(K, K, C, F), bias=(F,), dy=(N, out, out, F)),
        [Part("forward", "conv2d", lambda a, _: (a.x, a.w, a.bias, stride, padding), flop),
         Part("input gradient", "conv2d_dx", lambda a, _: (a.dy, a.w, (size, size), stride, padding), flop, ("x",)),
         Part("weight gradient", "conv2d_dw", lambda a, _: (a.x, a.dy, (K, K), stride, padding), flop, ("w",))],
        lambda ops, a: ops.conv2d(a.x, a.w, a.bias, stride, padding),
        lambda torch, a: torch.nn.functional.conv2d(a.x, a.w, a.bias, stride, padding))


def group_norm(N, size, C, act):
    G, elements = UNetConfig.groups, N * size * size * C

    def in_torch(torch, a):
        y = torch.nn.functional.group_norm(a.x, G, a.weight, a.bias)
        return torch.nn.functional.silu(y) if act else y
    return Case(
        "GroupNorm + SiLU" if act else "GroupNorm", f"{N},{size},{C}",
        dict(x=(N, size, size, C), weight=(C,), bias=(C,), dy=(N, size, size, C)),
        [Part("forward", "group_norm", lambda a, _: ([a.x], a.weight, a.bias, G, 1e-5, act), (9 if act else 5) * elements),
         Part("gradient", "group_norm_backward", lambda a, out: (a.dy, [a.x], a.weight, a.bias, out[1], out[2], act),
              (19 if act else 9) * elements, ("x", "weight", "bias"))],
        lambda ops, a: ops.group_norm(a.x, a.weight, a.bias, G, act=act), in_torch)


def attention(N, tokens, C):
    heads = UNetConfig.heads
    shape = (N, heads, tokens, C // heads)
    flop = 4 * N * tokens ** 2 * C
    return Case(
        "attention", f"{N},{heads},{tokens},{C // heads}", dict(q=shape, k=shape, v=shape, dy=shape),
        [Part("forward", "attention", lambda a, _: (a.q, a.k, a.v), flop),
         Part("gradient", "attention_backward", lambda a, out: (a.dy, a.q, a.k, a.v, *out), 2.5 * flop, ("q", "k", "v"))],
        lambda ops, a: ops.attention(a.q, a.k, a.v),
        lambda torch, a: torch.nn.functional.scaled_dot_product_attention(a.q, a.k, a.v))


def self_attention(N, tokens, C):
    heads = UNetConfig.heads
    flop = 4 * N * tokens ** 2 * C

    def in_torch(torch, a):
        q, k, v = a.qkv.view(N, tokens, 3, heads, C // heads).permute(2, 0, 3, 1, 4)
        return torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(N, tokens, C)
    return Case(
        "self-attention", f"{N},{tokens},{C}", dict(qkv=(N, tokens, 3 * C), dy=(N, tokens, C)),
        [Part("forward", "self_attention", lambda a, _: (a.qkv, heads), flop),
         Part("gradient", "self_attention_backward", lambda a, out: (a.dy, a.qkv, *out), 2.5 * flop, ("qkv",))],
        lambda ops, a: ops.self_attention(a.qkv, heads), in_torch)


def upsample(N, size, C):
    return Case(
        "upsampling", f"{N},{size},{C}", dict(x=(N, size, size, C), dy=(N, 2 * size, 2 * size, C)),
        [Part("forward", "upsample", lambda a, _: (a.x, 2)),
         Part("gradient", "pool_sum", lambda a, _: (a.dy, 2), 4 * N * size * size * C, ("x",))],
        lambda ops, a: ops.upsample_nearest(a.x, 2),
        lambda torch, a: torch.nn.functional.interpolate(a.x, scale_factor=2, mode="nearest"))


def upsample_conv(N, size, C):
    """At its small size; the operations are those of the convolution of the upsampled picture."""
    flop = 2 * N * 4 * size * size * 9 * C * C

    def in_torch(torch, a):
        return torch.nn.functional.conv2d(torch.nn.functional.interpolate(a.x, scale_factor=2, mode="nearest"), a.w, a.bias, padding=1)
    return Case(
        "upsampling + 3x3", f"{N},{size},{C}", dict(x=(N, size, size, C), w=(3, 3, C, C), bias=(C,), dy=(N, 2 * size, 2 * size, C)),
        [Part("forward", "upsample_conv2d", lambda a, _: (a.x, a.w, a.bias), flop),
         Part("input gradient", "upsample_conv2d_dx", lambda a, _: (a.dy, a.w), flop, ("x",)),
         Part("weight gradient", "upsample_conv2d_dw", lambda a, _: (a.x, a.dy), flop, ("w",))],
        lambda ops, a: ops.upsample_conv2d(a.x, a.w, a.bias), in_torch)


def concat(N, size, C, skip):
    return Case(
        "concat", f"{N},{size},{C}+{skip}", dict(x=(N, size, size, C), skip=(N, size, size, skip), dy=(N, size, size, C + skip)),
        [Part("forward", "concat_channels", lambda a, _: ([a.x, a.skip],)),
         Part("gradient", "split_channels", lambda a, _: (a.dy, [C, skip]), 0, ("x", "skip"))],
        lambda ops, a: ops.concat([a.x, a.skip], -1),
        lambda torch, a: torch.cat([a.x, a.skip], 1))


def residual_add(N, size, C):
    shape = (N, size, size, C)
    return Case("residual add", f"{N},{size},{C}", dict(x=shape, h=shape, dy=shape),
                [Part("forward", "add", lambda a, _: (a.x, a.h), N * size * size * C)],
                lambda ops, a: a.x + a.h, lambda torch, a: a.x + a.h)


def linear(rows, C, F):
    return Case(
        "linear", f"{rows},{C},{F}", dict(x=(rows, C), w=(C, F), bias=(F,), dy=(rows, F)),
        [Part("forward", "matmul", lambda a, _: (a.x, a.w), 2 * rows * C * F)],
        lambda ops, a: ops.linear(a.x, a.w, a.bias),
        lambda torch, a: torch.nn.functional.linear(a.x, a.w.T, a.bias))


def silu(rows, C):
    return Case(
        "SiLU", f"{rows},{C}", dict(x=(rows, C), dy=(rows, C)),
        [Part("forward", "silu", lambda a, _: (a.x,), 4 * rows * C),
         Part("gradient", "silu_backward", lambda a, _: (a.dy, a.x), 8 * rows * C, ("x",))],
        lambda ops, a: ops.silu(a.x), lambda torch, a: torch.nn.functional.silu(a.x))


def softmax(N, tokens):
    shape = (N, UNetConfig.heads, tokens, tokens)
    return Case("softmax", ",".join(map(str, shape)), dict(scores=shape, dy=shape),
                [Part("forward", "softmax", lambda a, _: (a.scores,)),
                 Part("gradient", "softmax_backward", lambda a, y: (a.dy, y), 0, ("scores",))],
                lambda ops, a: ops.softmax(a.scores, -1), lambda torch, a: torch.softmax(a.scores, -1))


def mse(N, size):
    shape = (N, size, size, 3)
    return Case("mse loss", f"{N},{size},3", dict(x=shape, target=shape, dy=()),
                [Part("forward", "squared_error", lambda a, _: (a.x, a.target)),
                 Part("gradient", "scaled_difference", lambda a, _: (a.x, a.target, 2 / a.x.size), 0, ("x",))],
                lambda ops, a: ops.mse(a.x, a.target), lambda torch, a: torch.nn.functional.mse_loss(a.x, a.target))


def bias_gradient(N, size, C):
    return Case("bias gradient", f"{N},{size},{C}", dict(x=(N, size, size, C)),
                [Part("sum over pixels", "pixel_sum", lambda a, _: (a.x,), N * size * size * C)],
                None, lambda torch, a: a.x.sum((2, 3)))


def optimizer():
    """The update of all parameters of the reference network: lists of arrays, a list for each of p, gradient, m, v and average."""
    shapes = {name: p.shape for name, p in UNet(UNetConfig(), rng=np.random.default_rng(0)).named_parameters()}
    size = sum(int(np.prod(shape)) for shape in shapes.values())

    def lists(a):
        five = [[getattr(a, f"{kind}:{name}") for name in shapes] for kind in ("p", "grad", "m", "v", "ema")]
        five[3] = [np.abs(v) for v in five[3]]
        return five

    matrices = [(int(np.prod(shape[:-1])), shape[-1]) for shape in shapes.values() if len(shape) > 1 and min(np.prod(shape[:-1]), shape[-1]) >= 16]

    def lists_of_matrices(a):
        return [[array for array in kind if array.ndim > 1 and min(array.size // array.shape[-1], array.shape[-1]) >= 16]
                for i, kind in enumerate(lists(a)) if i != 3]
    muon = sum(4 * max(side) * min(side) ** 2 + 34 * min(side) ** 3 for side in matrices)       # two products R x C x C, and 17 of C x C x C
    return Case(
        "optimizer", f"{size / 1e6:.2f} million",
        {f"{kind}:{name}": shape for kind in ("p", "grad", "m", "v", "ema") for name, shape in shapes.items()},
        [Part("gradient norm", "squared_norm", lambda a, _: (lists(a)[1],), 2 * size),
         Part("AdamW + EMA", "adamw_step", lambda a, _: (*lists(a), 1e-3, 0.9, 0.999, 1e-8, 0.01, 10, 0.5, 0.99), 16 * size),
         Part("Muon + EMA", "muon_step", lambda a, _: (*lists_of_matrices(a), 1e-3, 0.95, 0.01, 0.5, 0.99), muon)],
        None, None)


# The nine 3x3 convolutions whose speed is a mark of the project, then the rest of the network's.
MARKS = [(64, 32, 32), (64, 64, 32), (64, 96, 32), (32, 64, 64), (32, 128, 64), (16, 96, 96), (16, 192, 96), (8, 128, 128), (8, 256, 128)]
OTHERS = [(32, 32, 64), (32, 96, 64), (32, 160, 64), (16, 64, 96), (16, 160, 96), (16, 224, 96), (8, 96, 128), (8, 224, 128)]
ONE_BY_ONE = [(64, 64, 32), (64, 96, 32), (32, 32, 64), (32, 96, 64), (32, 128, 64), (32, 160, 64), (16, 64, 96), (16, 160, 96), (16, 192, 96),
              (16, 224, 96), (8, 96, 128), (8, 224, 128), (8, 256, 128), (16, 96, 96), (16, 96, 288), (8, 128, 128), (8, 128, 384)]
NORMS = [(64, 32), (64, 64), (64, 96), (32, 32), (32, 64), (32, 96), (32, 128), (32, 160), (16, 64), (16, 96), (16, 160), (16, 192), (16, 224),
         (8, 96), (8, 128), (8, 224), (8, 256)]
OUTPUTS = [(64, 32), (32, 64), (16, 96), (8, 128)]         # of the blocks: added to, and summed for the bias's gradient
CONCATS = [(64, 32, 32), (64, 64, 32), (32, 64, 32), (32, 64, 64), (32, 96, 64), (16, 96, 64), (16, 96, 96), (16, 128, 96),
           (8, 128, 96), (8, 128, 128)]


def reference_step(batch=BATCH) -> list[Case]:
    """All cases, in the order of the tables."""
    N = batch
    return [
        *(conv("3x3", N, *shape) for shape in MARKS),
        *(conv("3x3, others", N, *shape) for shape in OTHERS),
        conv("3x3, 3 channels", N, 64, 3, 32), conv("3x3, 3 channels", N, 64, 32, 3),
        *(conv("3x3, stride 2", N, size, C, C, stride=2) for size, C in ((64, 32), (32, 64), (16, 96))),
        *(conv("1x1", N, *shape, K=1) for shape in ONE_BY_ONE),
        *(group_norm(N, size, C, "silu") for size, C in NORMS), *(group_norm(N, size, C, None) for size, C in ((16, 96), (8, 128))),
        attention(N, 256, 96), attention(N, 64, 128), self_attention(N, 256, 96), self_attention(N, 64, 128), softmax(N, 256),
        *(upsample(N, size, C) for size, C in ((32, 64), (16, 96), (8, 128))),
        *(upsample_conv(N, size, C) for size, C in ((32, 64), (16, 96), (8, 128))),
        *(concat(N, *shape) for shape in CONCATS),
        *(residual_add(N, *shape) for shape in OUTPUTS), *(bias_gradient(N, *shape) for shape in OUTPUTS),
        *(linear(N, 128, F) for F in (32, 64, 96, 128)), linear(N, 32, 128), silu(N, 128),
        mse(N, 64), optimizer(),
    ]


def small_step() -> list[Case]:
    """One small case of every kind, for a quick look at whether everything works."""
    return [conv("3x3", 1, 8, 16, 16), conv("3x3, stride 2", 1, 8, 16, 16, stride=2), conv("1x1", 1, 8, 16, 16, K=1),
            group_norm(1, 8, 16, "silu"), attention(1, 16, 16), self_attention(1, 16, 16), softmax(1, 16), upsample(1, 8, 16),
            upsample_conv(1, 4, 16),
            concat(1, 8, 16, 16),
            residual_add(1, 8, 16), bias_gradient(1, 8, 16), linear(4, 16, 16), silu(4, 16), mse(1, 8), optimizer()]
