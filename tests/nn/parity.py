"""The layers and networks that are compared with PyTorch: how tinydiff makes and calls each, and the numbers to do it with."""
import json
import math
from pathlib import Path
from typing import Callable, NamedTuple

import numpy as np

from tinydiff import nn, ops
from tinydiff.autograd import Tensor, no_grad

FILE = Path(__file__).with_name("torch_outputs.npz")

SMALL = nn.UNetConfig(image_size=8, in_channels=3, channels=4, channel_mults=(1, 2), blocks_per_level=1, attention_resolutions=(4,), heads=2,
                      groups=2)
LABELS = nn.UNetConfig(image_size=8, in_channels=1, out_channels=2, channels=4, channel_mults=(1, 2, 1), blocks_per_level=2,
                       attention_resolutions=(8, 2), heads=1, groups=2, num_classes=3)
PATCHES = nn.UNetConfig(image_size=16, in_channels=2, patch=2, channels=4, channel_mults=(1, 2), blocks_per_level=1, attention_resolutions=(4,),
                        heads=2, groups=2)
REFERENCE = nn.UNetConfig()


def unet_inputs(config, N):
    return {"x": (N, config.image_size, config.image_size, config.in_channels), "t": (N,)}


class Case(NamedTuple):
    """build(rng=, dtype=) -> Module; inputs: name -> shape, or an integer array; call(module, *inputs) -> Tensor."""
    build: Callable
    inputs: dict
    call: Callable = lambda module, *inputs: module(*inputs)
    config: nn.UNetConfig | None = None


CASES = {
    "linear": Case(lambda **new: nn.Linear(5, 7, **new), {"x": (2, 3, 5)}),
    "conv3x3": Case(lambda **new: nn.Conv2d(3, 5, **new), {"x": (2, 6, 5, 3)}),
    "conv3x3_shift": Case(lambda **new: nn.Conv2d(3, 5, **new), {"x": (2, 4, 6, 3), "shift": (2, 5)}),
    "conv3x3_stride2": Case(lambda **new: nn.Conv2d(4, 6, stride=2, **new), {"x": (2, 6, 8, 4)}),
    "conv1x1": Case(lambda **new: nn.Conv2d(4, 9, 1, **new), {"x": (2, 3, 5, 4)}),
    "conv5x5": Case(lambda **new: nn.Conv2d(2, 3, 5, **new), {"x": (2, 6, 6, 2)}),
    "group_norm": Case(lambda rng, dtype: nn.GroupNorm(12, 3, dtype=dtype), {"x": (2, 3, 4, 12)}),
    "group_norm_silu": Case(lambda rng, dtype: nn.GroupNorm(12, 3, act="silu", dtype=dtype), {"x": (2, 3, 4, 12)}),
    "embedding": Case(lambda **new: nn.Embedding(4, 6, **new), {"ids": np.array([2, 0, 2, 3, 2])}),
    "sequential": Case(lambda **new: nn.Sequential(nn.Linear(4, 6, **new), ops.silu, nn.Linear(6, 3, **new)), {"x": (5, 4)}),
    "attention": Case(lambda **new: nn.Attention(12, 3, 4, **new), {"x": (2, 3, 4, 12)}),
    # The network hands its blocks SiLU(emb), which is the same for all of them; torch's block does that itself.
    "resblock": Case(lambda **new: nn.ResBlock(8, 8, 10, 4, **new), {"x": (2, 4, 4, 8), "emb": (2, 10)},
                     lambda block, x, emb: block(x, ops.silu(emb))),
    "resblock_shortcut": Case(lambda **new: nn.ResBlock(8, 12, 10, 4, **new), {"x": (2, 3, 5, 8), "emb": (2, 10)},
                              lambda block, x, emb: block(x, ops.silu(emb))),
    "unet": Case(lambda **new: nn.UNet(SMALL, **new), unet_inputs(SMALL, 2), config=SMALL),
    "unet_labels": Case(lambda **new: nn.UNet(LABELS, **new), unet_inputs(LABELS, 3) | {"y": np.array([1, 3, 0])}, config=LABELS),
    "unet_patches": Case(lambda **new: nn.UNet(PATCHES, **new), unet_inputs(PATCHES, 2), config=PATCHES),
    "unet_reference": Case(lambda **new: nn.UNet(REFERENCE, **new), unet_inputs(REFERENCE, 1), config=REFERENCE),
}
STORED = tuple(name for name in CASES if name != "unet_reference")  # its 5.5 million gradients would make a large file


def draw(case: Case, seed: int) -> dict[str, np.ndarray]:
    """Random weight/NAME, in/NAME and dy for a case: float64 numbers that float16 holds exactly. No weight is zero, whatever a new layer has."""
    rng = np.random.default_rng(seed)
    module = case.build(rng=rng, dtype=np.float64)
    numbers = {}
    for name, parameter in module.named_parameters():
        fan_in = parameter.size // parameter.shape[-1] if parameter.ndim > 1 else 4
        numbers["weight/" + name] = rng.standard_normal(parameter.shape) / np.sqrt(fan_in)
    for name, shape in case.inputs.items():
        if isinstance(shape, np.ndarray):
            numbers["in/" + name] = shape
        else:
            numbers["in/" + name] = rng.uniform(0, 1000, shape) if name == "t" else rng.standard_normal(shape)
    with no_grad():
        y = case.call(module, *(_argument(array) for key, array in numbers.items() if key.startswith("in/")))
    numbers["dy"] = rng.standard_normal(y.shape)
    return {key: array if array.dtype.kind == "i" else array.astype(np.float16).astype(np.float64) for key, array in numbers.items()}


def tinydiff_results(case: Case, numbers: dict, dtype=np.float64) -> dict[str, np.ndarray]:
    """What tinydiff gets: out, and grad/NAME of every input and parameter."""
    module = case.build(rng=np.random.default_rng(0), dtype=dtype)
    module.load_state_dict({key.removeprefix("weight/"): array for key, array in numbers.items() if key.startswith("weight/")})
    inputs = {}
    for key, array in numbers.items():
        if key.startswith("in/"):
            inputs[key.removeprefix("in/")] = _argument(array.astype(dtype)) if array.dtype.kind == "f" and key != "in/t" else array
    out = case.call(module, *inputs.values())
    out.backward(numbers["dy"].astype(dtype))
    grads = {f"grad/{name}": tensor.grad for name, tensor in (*inputs.items(), *module.named_parameters()) if isinstance(tensor, Tensor)}
    return {"out": out.data} | grads


def pack(arrays: dict[str, np.ndarray], dtype) -> dict[str, np.ndarray]:
    """Many small arrays as one and the JSON of their names and shapes: an .npz spends 250 bytes on each array that is in it."""
    shapes = json.dumps({name: array.shape for name, array in arrays.items()})
    return {"values": np.concatenate([array.ravel() for array in arrays.values()]).astype(dtype), "shapes": np.frombuffer(shapes.encode(), np.uint8)}


def unpack(values, shapes) -> dict[str, np.ndarray]:
    """The way back, in float64."""
    arrays, start = {}, 0
    for name, shape in json.loads(shapes.tobytes()).items():
        arrays[name] = values[start:start + math.prod(shape)].reshape(shape).astype(np.float64)
        start += math.prod(shape)
    return arrays


def load_stored(name: str) -> tuple[dict, dict]:
    """The numbers and torch's results of case `name`, from the file."""
    with np.load(FILE, allow_pickle=False) as file:
        numbers, results = (unpack(file[f"{name}/{kind}/values"], file[f"{name}/{kind}/shapes"]) for kind in ("numbers", "results"))
    whole = {f"in/{key}": array for key, array in CASES[name].inputs.items() if isinstance(array, np.ndarray)}
    return numbers | whole, results


def _argument(array):
    """Inputs are Tensors, so that they get a gradient too; labels and times are plain arrays."""
    return array if array.dtype.kind == "i" or array.ndim == 1 else Tensor(array, requires_grad=True)
