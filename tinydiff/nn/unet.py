"""The U-Net: from a noisy picture and its time t to a picture-shaped prediction (of the noise, of v, ... the network need not know).

After Ronneberger et al. 2015 (arXiv 1505.04597) and, with residual blocks, attention and a time embedding, Ho, Jain and Abbeel 2020
(arXiv 2006.11239, appendix B) and Nichol and Dhariwal 2021 (arXiv 2102.09672, appendix A), whose wiring this is:

    conv_in ---------------------------------------------------------------> skip
      down[0]  64 pixels    block  block            -- every output --->  skips
      downsample                                    --------------->  skip
      down[1]  32 pixels    block  block            ...
      ...
      middle    8 pixels    block, attention, block
      ...
      up[1]    32 pixels    block  block  block     each takes one skip from the pile, the newest first
      upsample
      up[0]    64 pixels    block  block  block
    norm_out, conv_out

On the way down pictures shrink and channels grow: a filter of 3x3 sees ever more of the picture, at the bottom all of it. On the way up they grow
again, and the skips bring back the details that were lost in between.

Read first: `blocks.py`.
"""
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from tinydiff import ops
from tinydiff.autograd import Tensor
from tinydiff.nn.blocks import Attention, ResBlock
from tinydiff.nn.layers import Conv2d, Embedding, GroupNorm, Linear, Sequential, UpsampleConv2d
from tinydiff.nn.module import Module


@dataclass(frozen=True)
class UNetConfig:
    """The shape of a U-Net. The defaults are the project's reference network: 5,533,091 parameters.

    image_size             pixels a side
    in_channels            numbers a pixel; out_channels: None for as many, twice as many to learn the variance (see diffusion/losses.py)
    patch                  pixels a side that are taken as one, with patch^2 as many channels: the network works on pictures that much smaller
    channels               level i has channels * channel_mults[i], at image_size / patch / 2^i pixels
    blocks_per_level       residual blocks on the way down; one more on the way up
    attention_resolutions  pixels a side of the levels whose blocks are followed by attention (the middle always is), and its heads
    groups                 of every GroupNorm
    dropout                probability, in every residual block
    num_classes            labels of a network that is told what to draw; None for one that is not
    self_condition         whether the network is also given a guess of x_0, in as many further input channels

    Raises ValueError for a shape that cannot be.
    """
    image_size: int = 64
    in_channels: int = 3
    out_channels: int | None = None
    patch: int = 1
    channels: int = 32
    channel_mults: tuple[int, ...] = (1, 2, 3, 4)
    blocks_per_level: int = 2
    attention_resolutions: tuple[int, ...] = (16, 8)
    heads: int = 4
    groups: int = 8
    dropout: float = 0.0
    num_classes: int | None = None
    self_condition: bool = False

    def __post_init__(self):
        for name in ("channel_mults", "attention_resolutions"):  # JSON gives lists
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not self.channel_mults or self.blocks_per_level < 1:
            raise ValueError(f"UNetConfig: channel_mults is {self.channel_mults} and blocks_per_level {self.blocks_per_level}; "
                             "a U-Net needs at least one level and one block in it")
        for name in ("image_size", "in_channels", "out_channels", "patch", "channel_mults", "heads", "groups"):
            value = getattr(self, name)
            if value is not None and np.min(value) < 1:
                raise ValueError(f"UNetConfig: {name} is {value}; it must be at least 1")
        if self.channels < 2 or self.channels % 2:
            raise ValueError(f"UNetConfig: channels is {self.channels}; it must be even and at least 2: "
                             "half of the time embedding is cosines, half sines")
        if self.num_classes is not None and self.num_classes < 1:
            raise ValueError(f"UNetConfig: num_classes is {self.num_classes}; it must be at least 1, or None for a network without labels")
        if self.image_size % self.reduction:
            raise ValueError(f"UNetConfig: image_size {self.image_size} does not divide by {self.reduction}, which "
                             f"{len(self.channel_mults)} levels{f' of patches of {self.patch}' if self.patch > 1 else ''} need; take a multiple of "
                             f"{self.reduction} or fewer channel_mults")

    @property
    def reduction(self) -> int:
        """Pixels of the input, a side, that make one pixel of the lowest level."""
        return self.patch * 2 ** (len(self.channel_mults) - 1)


LEVELS = ("down", "downsample", "up", "upsample")       # the UNet's attributes that have an entry for each level


def time_embedding(t: ArrayLike, width: int) -> np.ndarray:
    """cos(t f_i) for all i, then sin(t f_i), with f_i = 10000^(-i / (width/2)): t (N,) in 0..1000 -> (N,width) float64.

    Slow waves tell early from late, fast ones neighbouring times apart. Vaswani et al. 2017 (arXiv 1706.03762, section 3.5), with the
    cosines first, as Nichol and Dhariwal's code has them.
    """
    half = width // 2
    frequencies = np.exp(-math.log(10000) * np.arange(half) / half)
    angles = np.asarray(t, np.float64)[:, None] * frequencies  # (N,width/2)
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1)


class Stage(Module):
    """A residual block and, at the resolutions that have it, attention: x (N,H,W,C), emb (N,E) -> (N,H,W,F)."""
    folded = True

    def __init__(self, C: int, F: int, E: int, attend: bool, config: UNetConfig, *, rng: np.random.Generator, dtype: DTypeLike):
        self.block = ResBlock(C, F, E, config.groups, config.dropout, rng=rng, dtype=dtype)
        self.attention = Attention(F, config.heads, config.groups, rng=rng, dtype=dtype) if attend else None

    def __call__(self, x: Tensor | list[Tensor], emb: Tensor) -> Tensor:
        h = self.block(x, emb)
        return h if self.attention is None else self.attention(h)

    def recomputed(self, x, emb):
        """The same, with nothing of the inside kept for the backward pass, which computes it again."""
        if isinstance(x, list):
            return ops.recompute(lambda *inputs: self([*inputs[:-1]], inputs[-1]), [*x, emb])
        return ops.recompute(self, [x, emb])

    def _details(self):
        return f"{self.block.norm1.weight.size} -> {self.block.conv1.bias.size}" + (", attention" if self.attention else "")

    def _output(self, H, W):
        return self.block._output(H, W)


class UNet(Module):
    """From noisy pictures and their times to answers like pictures: the network that a diffusion model trains.

        model = td.nn.UNet(td.nn.UNetConfig(image_size=64), rng=np.random.default_rng(0))
        out = model(x, t)       # x (N,64,64,3), t (N,) -> Tensor (N,64,64,3)

    config      its shape: see UNetConfig
    rng, dtype  what its weights are drawn from, and become: np.float32 to train, np.float64 to check gradients

    A new network's output is zero. At the prompt, `model` shows the tree of its stages, with what comes out of each and numbers of weights;
    `model.down[0][0]` shows the inside of one.

    recompute: set it to True to train larger pictures in the same memory: of each block only the input is kept for the backward pass, which
    computes the inside again (about a third more time for less than half the memory).
    """
    recompute = False

    def __init__(self, config: UNetConfig, *, rng: np.random.Generator, dtype: DTypeLike = np.float32):
        self.config, self.dtype, self.self_condition = config, np.dtype(dtype), config.self_condition
        new: dict[str, Any] = dict(rng=rng, dtype=dtype)
        widths = [config.channels * mult for mult in config.channel_mults]
        attends = [self._side(level) in config.attention_resolutions for level in range(len(widths))]
        E = 4 * config.channels

        self.time_mlp = Sequential(Linear(config.channels, E, **new), ops.silu, Linear(E, E, **new))
        self.labels = Embedding(config.num_classes + 1, E, **new) if config.num_classes is not None else None

        self.conv_in = Conv2d(config.in_channels * (2 if config.self_condition else 1) * config.patch ** 2, widths[0], **new)
        C, skips = widths[0], [widths[0]]  # channels now, and of every output on the pile
        self.down, self.downsample = [], []
        for level, F in enumerate(widths):
            stages = []
            for _ in range(config.blocks_per_level):
                stages.append(Stage(C, F, E, attends[level], config, **new))
                C = F
                skips.append(C)
            self.down.append(stages)
            if level < len(widths) - 1:
                self.downsample.append(Conv2d(C, C, stride=2, **new))
                skips.append(C)

        self.middle = [Stage(C, C, E, True, config, **new), Stage(C, C, E, False, config, **new)]

        self.up: list[list[Stage]] = [[] for _ in widths]
        self.upsample: list[Any] = [None] * (len(widths) - 1)      # filled from the lowest level up
        for level, F in reversed(list(enumerate(widths))):
            stages = []
            for _ in range(config.blocks_per_level + 1):
                stages.append(Stage(C + skips.pop(), F, E, attends[level], config, **new))
                C = F
            self.up[level] = stages
            if level > 0:
                self.upsample[level - 1] = UpsampleConv2d(C, C, **new)

        self.norm_out = GroupNorm(C, config.groups, act="silu", dtype=dtype)
        self.conv_out = Conv2d(C, (config.out_channels or config.in_channels) * config.patch ** 2, zero=True, **new)

    def __call__(self, x: Tensor | np.ndarray, t: ArrayLike, y: ArrayLike | None = None, x0: np.ndarray | None = None) -> Tensor:
        """Its answer to x, a Tensor (N,H,W,out_channels).

        x   (N,H,W,in_channels), an array, converted to the network's dtype, or a Tensor, taken as it is. H and W need not be image_size, but
            must be multiples of patch * 2^(levels-1).
        t   (N,) times, real, 0 to 1000.
        y   (N,) integer labels, for a network with num_classes. The label num_classes, like None, is "no label".
        x0  like x, a guess of the clean picture, for a network with self_condition; None, like zeros, is "no guess".

        Raises ValueError or TypeError, with the shapes, for what doesn't fit.
        """
        x = x if isinstance(x, Tensor) else Tensor(np.asarray(x, self.dtype))
        patch = self.config.patch
        self._check(x, t, y, x0)
        emb = self._embed(x.shape[0], t, y)  # (N,E)
        if self.self_condition:
            x = ops.concat([x, np.zeros(x.shape, x.dtype) if x0 is None else np.asarray(x0, x.dtype)], axis=-1)  # (N,H,W,2 in_channels)

        h = self.conv_in(x if patch == 1 else ops.space_to_depth(x, patch))  # (N,H/patch,W/patch,channels)
        skips = [h]
        for level, stages in enumerate(self.down):
            for stage in stages:
                h = self._run(stage, h, emb)  # (N,H/patch/2^level,W/patch/2^level,channels * mult)
                skips.append(h)
            if level < len(self.downsample):
                h = self.downsample[level](h)  # half the pixels a side
                skips.append(h)

        for stage in self.middle:
            h = self._run(stage, h, emb)

        for level in reversed(range(len(self.up))):
            for stage in self.up[level]:
                h = self._run(stage, [h, skips.pop()], emb)  # both, as if concatenated
            if level > 0:
                h = self.upsample[level - 1](h)  # twice the pixels a side

        h = self.conv_out(self.norm_out(h))
        return h if patch == 1 else ops.depth_to_space(h, patch)  # (N,H,W,out_channels)

    def _run(self, stage, x, emb):
        """The stage's answer; with `recompute`, without keeping its inside, but for the last one's, which backward needs at once."""
        keep = not self.recompute or stage is self.up[0][-1]
        return stage(x, emb) if keep else stage.recomputed(x, emb)

    def _embed(self, N, t, y):
        """What every block is told: SiLU(MLP(time) + label), (N,E). Each block's own Linear follows the SiLU, so it is done once, here."""
        emb = self.time_mlp(time_embedding(t, self.config.channels).astype(self.dtype))
        if self.labels is not None:
            emb = emb + self.labels(np.full(N, self.config.num_classes) if y is None else y)
        return ops.silu(emb)

    def _check(self, x, t, y, x0):
        r, C = self.config.reduction, self.config.in_channels
        if x.ndim != 4 or x.shape[3] != C or x.shape[1] % r or x.shape[2] % r:
            raise ValueError(f"UNet: x is {x.shape}, expected (N,H,W,{C}) with H and W multiples of {r}")
        if np.shape(t) != x.shape[:1]:
            raise ValueError(f"UNet: t is {np.shape(t)}, expected one time for each picture, {x.shape[:1]} (x {x.shape})")
        if y is not None:
            self._check_labels(np.asarray(y), x)
        if x0 is not None and not self.self_condition:
            raise ValueError("UNet: a guess x0 was given to a network made without self_condition")
        if x0 is not None and np.shape(x0) != x.shape:
            raise ValueError(f"UNet: the guess x0 is {np.shape(x0)}, expected the shape of x, {x.shape}")

    def _check_labels(self, y, x):
        if self.labels is None:
            raise ValueError("UNet: labels y were given to a network made without num_classes")
        if y.shape != x.shape[:1]:
            raise ValueError(f"UNet: y is {y.shape}, expected one label for each picture, {x.shape[:1]} (x {x.shape})")
        if y.dtype.kind not in "iu":
            raise TypeError(f"UNet: labels y must be integers, got {y.dtype}")
        n = self.config.num_classes
        outside = np.flatnonzero((y < 0) | (y > n))
        if outside.size:
            raise ValueError(f"UNet: y[{outside[0]}] is {y[outside[0]]}, but labels run from 0 to num_classes - 1 = {n - 1}; {n} is \"no label\"")

    def _details(self):
        c = self.config
        return f"{c.image_size}x{c.image_size}x{c.in_channels}" + (f", in patches of {c.patch}x{c.patch}" if c.patch > 1 else "")

    def _output(self, H, W):
        c = self.config
        return "N", c.image_size, c.image_size, c.out_channels or c.in_channels

    def _size_inside(self, name, H, W):
        kind, *numbers = name.split(".")        # "down.1.0", "upsample.0", "middle.0", "conv_out"
        level = len(self.down) - 1 if kind == "middle" else int(numbers[0]) + (kind == "upsample") if kind in LEVELS else 0
        return self._side(level), self._side(level)

    def _side(self, level):
        """Pixels a side of a level's pictures."""
        return self.config.image_size // self.config.patch >> level
