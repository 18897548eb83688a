"""The reference U-Net in PyTorch, channels-first, to compare with: its results in tests/nn, its speed in benchmarks.

Written from the description of `tinydiff.nn.UNet` with torch's own layers; it shares no code with tinydiff. It keeps the names of
tinydiff's parameters, so that `load_weights` need only turn the axes.
"""
import torch
import torch.nn.functional as F
from torch import nn


class ResBlock(nn.Module):
    """(N,C,H,W), (N,E) -> (N,O,H,W)."""

    def __init__(self, c_in, c_out, emb, groups, dropout):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, c_in)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.time = nn.Linear(emb, c_out)
        self.norm2 = nn.GroupNorm(groups, c_out)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1)
        self.shortcut = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()
        nn.init.zeros_(self.conv2.weight), nn.init.zeros_(self.conv2.bias)

    def forward(self, x, emb):
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + self.time(F.silu(emb))[:, :, None, None]
        h = self.conv2(self.dropout(F.silu(self.norm2(h))))
        return self.shortcut(x) + h


class Attention(nn.Module):
    """(N,C,H,W) -> (N,C,H,W)."""

    def __init__(self, channels, heads, groups):
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(groups, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight), nn.init.zeros_(self.out.bias)

    def forward(self, x):
        n, c, height, width = x.shape
        qkv = self.qkv(self.norm(x)).reshape(n, 3, self.heads, c // self.heads, height * width)
        q, k, v = qkv.transpose(3, 4).unbind(1)  # each (N,heads,H W,C/heads)
        h = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(h.transpose(2, 3).reshape(n, c, height, width))


class Stage(nn.Module):
    """A block and, perhaps, attention."""

    def __init__(self, c_in, c_out, emb, attend, config):
        super().__init__()
        self.block = ResBlock(c_in, c_out, emb, config.groups, config.dropout)
        self.attention = Attention(c_out, config.heads, config.groups) if attend else None

    def forward(self, x, emb):
        x = self.block(x, emb)
        return self.attention(x) if self.attention is not None else x


def space_to_depth(x, p):
    """(N,C,H,W) -> (N,p^2 C,H/p,W/p), the channels in tinydiff's order: by row, then column within a patch, then colour."""
    n, c, height, width = x.shape
    return x.reshape(n, c, height // p, p, width // p, p).permute(0, 3, 5, 1, 2, 4).reshape(n, p * p * c, height // p, width // p)


def depth_to_space(x, p):
    """(N,p^2 C,H,W) -> (N,C,H p,W p), the inverse."""
    n, c, height, width = x.shape
    return x.reshape(n, p, p, c // p ** 2, height, width).permute(0, 3, 4, 1, 5, 2).reshape(n, c // p ** 2, height * p, width * p)


class TorchUNet(nn.Module):
    """forward(x, t, y=None): x (N,C,H,W), t (N,) in 0..1000, y (N,) labels -> (N,out,H,W). `config`: a tinydiff UNetConfig."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        emb = 4 * config.channels
        levels = len(config.channel_mults)
        self.time_mlp = nn.ModuleDict({"layers": nn.Sequential(nn.Linear(config.channels, emb), nn.SiLU(), nn.Linear(emb, emb))})
        if config.num_classes is not None:
            self.labels = nn.Embedding(config.num_classes + 1, emb)
        self.conv_in = nn.Conv2d(config.in_channels * config.patch ** 2, config.channels * config.channel_mults[0], 3, padding=1)

        now = config.channels * config.channel_mults[0]
        pile = [now]
        self.down, self.downsample = nn.ModuleList(), nn.ModuleList()
        for i in range(levels):
            out = config.channels * config.channel_mults[i]
            attend = config.image_size // config.patch // 2 ** i in config.attention_resolutions
            self.down.append(nn.ModuleList())
            for _ in range(config.blocks_per_level):
                self.down[i].append(Stage(now, out, emb, attend, config))
                now = out
                pile.append(now)
            if i + 1 < levels:
                self.downsample.append(nn.Conv2d(now, now, 3, stride=2, padding=1))
                pile.append(now)

        self.middle = nn.ModuleList([Stage(now, now, emb, True, config), Stage(now, now, emb, False, config)])

        up, upsample = [], []  # the lowest level first
        for i in range(levels - 1, -1, -1):
            out = config.channels * config.channel_mults[i]
            attend = config.image_size // config.patch // 2 ** i in config.attention_resolutions
            stages = nn.ModuleList()
            for _ in range(config.blocks_per_level + 1):
                stages.append(Stage(now + pile.pop(), out, emb, attend, config))
                now = out
            up.append(stages)
            if i > 0:
                upsample.append(nn.Conv2d(now, now, 3, padding=1))
        self.up, self.upsample = nn.ModuleList(up[::-1]), nn.ModuleList(upsample[::-1])

        self.norm_out = nn.GroupNorm(config.groups, now)
        self.conv_out = nn.Conv2d(now, (config.out_channels or config.in_channels) * config.patch ** 2, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight), nn.init.zeros_(self.conv_out.bias)

    def forward(self, x, t, y=None):
        half = self.config.channels // 2
        frequencies = torch.tensor([10000 ** (-i / half) for i in range(half)], dtype=x.dtype, device=x.device)
        angles = t.to(x.dtype).reshape(-1, 1) * frequencies
        emb = self.time_mlp["layers"](torch.cat([angles.cos(), angles.sin()], dim=1))
        if self.config.num_classes is not None:
            none = torch.full((len(x),), self.config.num_classes, device=x.device)
            emb = emb + self.labels(none if y is None else y)

        x = self.conv_in(space_to_depth(x, self.config.patch))
        pile = [x]
        for i, stages in enumerate(self.down):
            for stage in stages:
                x = stage(x, emb)
                pile.append(x)
            if i < len(self.downsample):
                x = self.downsample[i](x)
                pile.append(x)
        for stage in self.middle:
            x = stage(x, emb)
        for i in range(len(self.up) - 1, -1, -1):
            for stage in self.up[i]:
                x = stage(torch.cat([x, pile.pop()], dim=1), emb)
            if i > 0:
                x = self.upsample[i - 1](F.interpolate(x, scale_factor=2, mode="nearest"))
        return depth_to_space(self.conv_out(F.silu(self.norm_out(x))), self.config.patch)


def to_torch(array, like):
    """A tinydiff weight as torch has it: conv (K,K,C,F) -> (F,C,K,K), linear (C,F) -> (F,C). `like`: the module that holds it."""
    if array.ndim == 4:
        array = array.transpose(3, 2, 0, 1)
    elif isinstance(like, nn.Linear) and array.ndim == 2:
        array = array.T
    return torch.tensor(array)  # a copy


def from_torch(tensor, like):
    """The way back, also for gradients: a torch weight's axes as tinydiff has them."""
    array = tensor.detach().cpu().numpy()
    if array.ndim == 4:
        return array.transpose(2, 3, 1, 0)
    return array.T if isinstance(like, nn.Linear) and array.ndim == 2 else array


def owner(module, name):
    """The module that holds the parameter of this name."""
    return module.get_submodule(name.rpartition(".")[0])


def load_weights(module, state):
    """Puts a tinydiff state_dict (name -> array) into a torch module with the same names; every name must be met."""
    module.load_state_dict({name: to_torch(array, owner(module, name)) for name, array in state.items()}, strict=True)


def gradients(module):
    """name -> gradient, with tinydiff's axes."""
    return {name: from_torch(p.grad, owner(module, name)) for name, p in module.named_parameters()}
