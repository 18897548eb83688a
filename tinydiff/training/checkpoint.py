"""Checkpoints: all that a run needs to go on exactly where it was, in one .npz file of plain arrays.

    model/NAME, ema/NAME         the network's parameters and their running average
    adam_m/NAME, adam_v/NAME     AdamW's two averages
    step                         steps taken
    config                       JSON as bytes: {"train": TrainConfig, "unet": UNetConfig, "data": what the pictures were}

Nothing random is saved: every draw is keyed by its step (see `streams`). Nothing is pickled, so opening a checkpoint runs no code.

Read first: `trainer.py`.
"""
import json
import os
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tinydiff.nn import UNet, UNetConfig
from tinydiff.training.config import TrainConfig
from tinydiff.training.optim import EMA

if TYPE_CHECKING:
    from tinydiff.training.trainer import Trainer  # which imports this file


@dataclass
class Checkpoint:
    """A saved run. `.ema.model` is the network to draw pictures with, `.model` the one to train on.

    step: steps taken. data: what `Trainer.data` was. adam_m, adam_v: parameter name -> array.
    """
    model: UNet
    ema: EMA
    config: TrainConfig
    step: int
    data: dict
    adam_m: dict[str, np.ndarray]
    adam_v: dict[str, np.ndarray]


def run_config(trainer: "Trainer") -> dict:
    """What a run was asked to do, in types that JSON knows."""
    return {"train": asdict(trainer.config), "unet": asdict(trainer.model.config), "data": trainer.data}


def save_checkpoint(path: str | Path, trainer: "Trainer") -> None:
    """Writes the trainer's state to `path`. An older file there is replaced at the end, at once: whatever happens, one whole file is there."""
    names = [name for name, _ in trainer.model.named_parameters()]
    arrays = {"step": np.array(trainer.global_step), "config": np.frombuffer(json.dumps(run_config(trainer)).encode(), np.uint8)}
    for group, values in (("model", trainer.model.state_dict().values()), ("ema", trainer.ema.model.state_dict().values()),
                          ("adam_m", trainer.optimizer.m), ("adam_v", trainer.optimizer.v)):
        arrays |= {f"{group}/{name}": array for name, array in zip(names, values, strict=True)}
    path = Path(path)
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb") as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())  # the bytes are on disk before the name is
    os.replace(temporary, path)


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Reads what `save_checkpoint` wrote. FileNotFoundError without the file, ValueError for a file that is no checkpoint."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = dict(archive)
        config = json.loads(arrays["config"].tobytes())
        groups = {group: {name.partition("/")[2]: array for name, array in arrays.items() if name.startswith(group + "/")}
                  for group in ("model", "ema", "adam_m", "adam_v")}
        unet, train = UNetConfig(**config["unet"]), TrainConfig(**config["train"])
        step, data = int(arrays["step"]), config["data"]
        model = UNet(unet, rng=np.random.default_rng(0), dtype=arrays["model/conv_in.weight"].dtype)  # every weight is replaced below
        ema = EMA(model, train.ema_max, train.ema_power)
        model.load_state_dict(groups["model"])
        ema.model.load_state_dict(groups["ema"])
    except (AttributeError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is not a checkpoint of this version of tinydiff: {error}") from error
    ema.updates = step  # one update a step
    return Checkpoint(model, ema, train, step, data, groups["adam_m"], groups["adam_v"])
