"""Checkpoints: all that a run needs to go on exactly where it was, in one .npz file of plain arrays.

    model/NAME, ema/NAME         the network's parameters and their running average
    adam_m/NAME, adam_v/NAME     AdamW's two averages
    weak/NAME                    the running average as it was at an earlier time, for autoguidance; not there before it
    gaussian/NAME                the mean, the directions and the deviations of the pictures, where settings ask for a Gaussian
    step                         steps taken
    config                       JSON as bytes: {"train": TrainConfig, "unet": UNetConfig, "data": what the pictures were}

Nothing random is saved: every draw is keyed by its step (see `streams`). An .npz is a zip archive, which keeps a CRC-32 of every array, so a
byte that has changed on the disk is noticed. The file of a stranger is read with the same care: nothing is unpickled, so opening it runs no
code, and nothing is taken from it before its shape and type are known to be those that its settings ask for.

Read first: `trainer.py`, `files.py`.
"""
import copy
import json
import math
import os
import reprlib
import sys
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tinydiff.data.archives import Sips
from tinydiff.diffusion import Gaussian
from tinydiff.nn import Module, UNet, UNetConfig
from tinydiff.text import one_line
from tinydiff.training.config import TrainConfig, fits, from_json
from tinydiff.training.files import whole_file
from tinydiff.training.optim import EMA

if TYPE_CHECKING:
    from tinydiff.training.trainer import Trainer  # which imports this file

GROUPS = ("model", "ema", "adam_m", "adam_v")
WEAK = "weak"
GAUSSIAN = "gaussian"
MAX_GAUSSIAN_BYTES = 1 << 16         # of its deviations
MAX_CONFIG_BYTES = 1 << 20
MAX_DIRECTORY_BYTES = 1 << 23       # of the zip, which becomes ten times that in memory; 100 for each array are usual


@dataclass
class Checkpoint:
    """A saved run. `.ema.model` is the network to draw pictures with, `.model` the one to train on, `.weak` and `.gaussian` what the
    Trainer's were.

    step: steps taken. data: what `Trainer.data` was. adam_m, adam_v: parameter name -> array. path: the file.
    """
    model: UNet
    ema: EMA
    config: TrainConfig
    step: int
    data: dict
    adam_m: dict[str, np.ndarray]
    adam_v: dict[str, np.ndarray]
    path: Path
    weak: Module | None = None
    gaussian: Gaussian | None = None


def run_config(trainer: "Trainer | Checkpoint") -> dict:
    """What a run was asked to do, in types that JSON knows."""
    return {"train": asdict(trainer.config), "unet": asdict(trainer.model.config), "data": trainer.data}


def require_same(what, was, now, free=frozenset()):
    """Raises ValueError, saying what and naming them, where values of two run_configs differ that are not free to."""
    names = [name for name in was | now if name not in free and was.get(name) != now.get(name)]
    changed = [f"{name} was {reprlib.repr(was.get(name))}, not {reprlib.repr(now.get(name))}" for name in names]
    if changed:
        raise ValueError(f"{what}, but {'; '.join(changed)}")


def previous(path: Path) -> Path:
    """Where the checkpoint that stood at `path` before is kept: run/checkpoint.npz -> run/checkpoint.previous.npz."""
    return path.with_suffix(".previous" + path.suffix)


def save_checkpoint(path: str | Path, trainer: "Trainer") -> None:
    """Writes the trainer's state to `path`; the file that was there becomes `previous(path)`.

    Whatever happens meanwhile, a power cut included, a whole checkpoint is there, under the one name or the other.
    """
    path = Path(path)
    names = [name for name, _ in trainer.model.named_parameters()]
    arrays = {"step": np.array(trainer.global_step, np.int64), "config": np.frombuffer(json.dumps(run_config(trainer)).encode(), np.uint8)}
    for group, values in zip(GROUPS, ([p.data for p in trainer.model.parameters()], [p.data for p in trainer.ema.model.parameters()],
                                      trainer.optimizer.m, trainer.optimizer.v)):
        arrays |= {f"{group}/{name}": array for name, array in zip(names, values, strict=True)}
    if trainer.weak is not None:
        arrays |= {f"{WEAK}/{name}": p.data for name, p in trainer.weak.named_parameters()}
    if trainer.gaussian is not None:
        arrays |= {f"{GAUSSIAN}/{name}": array for name, array in trainer.gaussian._asdict().items()}
    with whole_file(path, before=previous(path)) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Reads what `save_checkpoint` wrote: the file at `path` or, where that is the folder of a run, its newest checkpoint.

    Where the newest is damaged the one before it is taken, and a line on standard error says so. Raises FileNotFoundError where there is
    none, ValueError for a file that is damaged or no checkpoint at all.
    """
    path = Path(path)
    if path.is_dir():
        return _load_newest(path / "checkpoint.npz")
    if not path.exists():
        raise FileNotFoundError(f"no checkpoint at {path}")
    if not path.is_file():                                  # opening a pipe would wait for ever
        raise ValueError(f"{path} is not a regular file")
    with open(path, "rb") as file:
        try:
            return _read(file, path)
        except Exception as error:  # zipfile answers damaged data with nearly every exception there is
            reason = str(error) or type(error).__name__
            raise ValueError(f"{path} is damaged or not a checkpoint of this version of tinydiff: {reason}") from error


def _load_newest(path):
    try:
        return load_checkpoint(path)
    except (FileNotFoundError, ValueError) as fault:
        try:
            found = load_checkpoint(previous(path))
        except (FileNotFoundError, ValueError):
            raise fault from None
        print(one_line(f"{fault}; taking the one before it, {found.path}, of step {found.step}"), file=sys.stderr)
        return found


def _read(file, path):
    size, sips = os.fstat(file.fileno()).st_size, Sips(file, MAX_DIRECTORY_BYTES)
    with zipfile.ZipFile(sips) as archive:
        sips.most = size                                    # the directory is read; how long an array may be is checked below
        members = archive.infolist()
        if any(m.compress_type != zipfile.ZIP_STORED for m in members) or sum(m.file_size for m in members) > size:
            raise ValueError("it claims to hold more than it does")          # a zip bomb would
        names = [m.filename.removesuffix(".npy") for m in members]
        config = json.loads(_array(archive, "config", (None,), np.uint8, MAX_CONFIG_BYTES).tobytes())
        unet, train, data = from_json(UNetConfig, config["unet"]), from_json(TrainConfig, config["train"]), _checked_data(config["data"])
        step = int(_array(archive, "step", (), np.int64))
        if step < 0:
            raise ValueError(f"step is {step}")
        _require_size(unet, [m for m in members if m.filename.startswith("model/")])
        with archive.open("model/conv_in.weight.npy") as member:
            dtype = _header(member)[1]                      # all arrays must have this one
        model = UNet(unet, rng=np.random.default_rng(0), dtype=dtype)       # every weight is replaced below
        shapes = {name: p.shape for name, p in model.named_parameters()}
        present = GROUPS + ((WEAK,) if any(name.startswith(WEAK + "/") for name in names) else ())
        expected = {"step", "config", *(f"{group}/{name}" for group in present for name in shapes)}
        if train.gaussian:
            expected |= {f"{GAUSSIAN}/{name}" for name in Gaussian._fields}
        if len(names) != len(expected) or set(names) != expected:
            raise ValueError(f"it has the wrong arrays: {reprlib.repr(sorted(set(names) ^ expected)) if set(names) != expected else 'some twice'}")
        groups = {group: {name: _array(archive, f"{group}/{name}", shape, dtype) for name, shape in shapes.items()} for group in present}
        gaussian = _gaussian(archive, (unet.image_size, unet.image_size, unet.in_channels)) if train.gaussian else None
    ema = EMA(model, train.ema_max, train.ema_power)
    model.load_state_dict(groups["model"])
    ema.model.load_state_dict(groups["ema"])
    ema.updates = step  # one update a step
    weak = None
    if WEAK in groups:
        weak = copy.deepcopy(ema.model)
        weak.load_state_dict(groups[WEAK])
    return Checkpoint(model, ema, train, step, data, groups["adam_m"], groups["adam_v"], path, weak, gaussian)


def _gaussian(archive, shape):
    """The Gaussian of pictures of this shape."""
    deviations = _array(archive, f"{GAUSSIAN}/deviations", (None,), np.float32, MAX_GAUSSIAN_BYTES)
    return Gaussian(_array(archive, f"{GAUSSIAN}/mean", shape, np.float32),
                    _array(archive, f"{GAUSSIAN}/directions", (len(deviations), *shape), np.float32), deviations)


def _header(member):
    """The shape and the dtype that an array says it has."""
    if np.lib.format.read_magic(member) != (1, 0):
        raise ValueError(f"{member.name} is not in the format of np.savez")
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(member)
    if fortran_order or dtype not in (np.float32, np.float64, np.int64, np.uint8):
        raise ValueError(f"{member.name} is of type {dtype}, or not in C order")
    return shape, dtype


def _array(archive, name, shape, dtype, most=None):
    """An array, once it says that it has this shape (None: any length) and type. Its CRC-32 is checked as its last byte is read."""
    with archive.open(name + ".npy") as member:
        has, kind = _header(member)
        if len(has) != len(shape) or any(expected not in (None, n) for n, expected in zip(has, shape)) or kind != dtype:
            raise ValueError(f"{name} is {has} {kind}, expected {shape} {np.dtype(dtype)}")
        nbytes = math.prod(has) * kind.itemsize
        if most is not None and nbytes > most:
            raise ValueError(f"{name} has {nbytes} bytes, more than {most}")
        data = member.read(nbytes + 1)
        if len(data) != nbytes:
            raise ValueError(f"{name} has {len(data)} bytes, expected {nbytes}")
        return np.frombuffer(data, kind).reshape(has).copy()


def _require_size(unet, members):
    """Raises ValueError where a network of this shape has certainly more weights than the file: it isn't even built then."""
    widths = [unet.channels * mult for mult in unet.channel_mults]
    blocks = 2 * unet.blocks_per_level * len(widths)        # down and up, and each has two 3x3 convolutions
    weights = 2 * unet.blocks_per_level * 2 * sum(9 * width * width for width in widths)
    weights += 9 * widths[0] * (unet.in_channels + (unet.out_channels or 0)) + 4 * unet.channels * (unet.num_classes or 0)
    if blocks > len(members) or 4 * weights > sum(m.file_size for m in members):
        raise ValueError("its settings ask for a larger network than it holds")


def _checked_data(data):
    """`Trainer.data`, once its types are known to be right."""
    types = {"images": int, "shape": list[int], "crc32": int, "label_names": list[str], "labels_crc32": int}
    for name in {"images", "shape", "crc32", *data}:
        if name not in types or name not in data or not fits(data[name], types[name]):
            raise ValueError(f"data.{reprlib.repr(name)} is {reprlib.repr(data.get(name))}")
    return data
