"""Makes tests/nn/torch_outputs.npz: what PyTorch gets from each layer and from small U-Nets, output and every gradient.

    python -m tests.nn.make_torch_outputs          (in the project's folder, with torch installed)

The weights are random throughout: with the last convolutions at zero, as a new network has them, most gradients would be zero too. Weights and
inputs are stored as float16, which holds them exactly; torch computes in float64, and its results are stored as float32. All arrays have
tinydiff's axes and names.
"""
import numpy as np
import torch
from torch import nn

from benchmarks.torch_unet import Attention, ResBlock, TorchUNet, gradients, load_weights
from tests.nn.parity import CASES, FILE, STORED, draw, pack


class ShiftedConv(nn.Conv2d):
    """A convolution, plus one number per picture and channel."""

    def forward(self, x, shift):
        return super().forward(x) + shift[:, :, None, None]


class Layers(nn.Module):
    """nn.Sequential under the name that tinydiff's has."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return self.layers(x)


class GroupNormSiLU(nn.GroupNorm):
    def forward(self, x):
        return nn.functional.silu(super().forward(x))


MODULES = {
    "linear": lambda: nn.Linear(5, 7),
    "conv3x3": lambda: nn.Conv2d(3, 5, 3, padding=1),
    "conv3x3_shift": lambda: ShiftedConv(3, 5, 3, padding=1),
    "conv3x3_stride2": lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1),
    "conv1x1": lambda: nn.Conv2d(4, 9, 1),
    "conv5x5": lambda: nn.Conv2d(2, 3, 5, padding=2),
    "group_norm": lambda: nn.GroupNorm(3, 12),
    "group_norm_silu": lambda: GroupNormSiLU(3, 12),
    "embedding": lambda: nn.Embedding(4, 6),
    "sequential": lambda: Layers(nn.Linear(4, 6), nn.SiLU(), nn.Linear(6, 3)),
    "attention": lambda: Attention(12, 3, 4),
    "resblock": lambda: ResBlock(8, 8, 10, 4, 0.0),
    "resblock_shortcut": lambda: ResBlock(8, 12, 10, 4, 0.0),
}


def torch_results(name: str, numbers: dict, dtype=torch.float64) -> dict[str, np.ndarray]:
    """What torch gets in case `name` from the numbers of `parity.draw`: out, and grad/NAME of every input and parameter."""
    config = CASES[name].config
    module = (MODULES[name]() if config is None else TorchUNet(config)).to(dtype)
    load_weights(module, {key.removeprefix("weight/"): array for key, array in numbers.items() if key.startswith("weight/")})
    inputs = {key.removeprefix("in/"): torch.tensor(array) for key, array in numbers.items() if key.startswith("in/")}
    for key, tensor in inputs.items():
        if tensor.is_floating_point() and key != "t":
            inputs[key] = tensor.to(dtype).requires_grad_()
    out = module(*(tensor.permute(0, 3, 1, 2) if tensor.ndim == 4 else tensor for tensor in inputs.values()))
    out = out.permute(0, 2, 3, 1) if out.ndim == 4 else out
    out.backward(torch.tensor(numbers["dy"], dtype=dtype))
    results = {"out": out.detach().numpy()}
    results |= {f"grad/{key}": tensor.grad.numpy() for key, tensor in inputs.items() if tensor.requires_grad}
    return results | {f"grad/{key}": gradient for key, gradient in gradients(module).items()}


def main():
    arrays = {}
    for seed, name in enumerate(STORED):
        numbers = draw(CASES[name], seed)
        real = {key: array for key, array in numbers.items() if array.dtype.kind == "f"}
        for kind, packed in ("numbers", pack(real, np.float16)), ("results", pack(torch_results(name, numbers), np.float32)):
            arrays |= {f"{name}/{kind}/{key}": array for key, array in packed.items()}
    np.savez_compressed(FILE, **arrays)
    print(f"{FILE}: {len(STORED)} cases, {FILE.stat().st_size / 1000:.0f} kB, torch {torch.__version__}")


if __name__ == "__main__":
    main()
