"""pretrained.npz: a small network that has already learnt to draw the cartoon cats, so that pictures can be drawn at once after installing.

    weights/NAME    the averaged network, rounded to float16: half the bytes, and no picture that looks another
    config          JSON as bytes, like a checkpoint's: {"train": TrainConfig, "unet": UNetConfig, "data": what the pictures were}
    step            optimizer steps taken
    losses          (100,) float64, of the first steps, and
    made            JSON as bytes: the command that made it, and on what; there it gives the same losses again, bit for bit

`benchmarks/pretrained.py` writes it from a finished run, and checks the losses.

Read first: `checkpoint.py`.
"""
import json
from pathlib import Path

import numpy as np

from tinydiff.nn import UNet, UNetConfig
from tinydiff.training.checkpoint import Checkpoint, load_checkpoint, run_config
from tinydiff.training.config import TrainConfig, from_json
from tinydiff.training.log import read_log
from tinydiff.training.optim import EMA

PRETRAINED = Path(__file__).with_name("pretrained.npz")
LOSSES = 100


def load_pretrained() -> Checkpoint:
    """The network that comes with tinydiff, as a Checkpoint to draw pictures with; it has no averages of AdamW to train on with."""
    with np.load(PRETRAINED, allow_pickle=False) as file:
        config = json.loads(file["config"].tobytes())
        model = UNet(from_json(UNetConfig, config["unet"]), rng=np.random.default_rng(0))
        model.load_state_dict({name: file[f"weights/{name}"].astype(np.float32) for name, _ in model.named_parameters()})
        return Checkpoint(model, EMA(model), from_json(TrainConfig, config["train"]), int(file["step"]), config["data"], {}, {}, PRETRAINED)


def pretrained_record() -> tuple[np.ndarray, dict]:
    """The losses of its first steps, (100,) float64, and how it was made: a dict with the command and the machine."""
    with np.load(PRETRAINED, allow_pickle=False) as file:
        return file["losses"], json.loads(file["made"].tobytes())


def save_pretrained(run_dir: str | Path, made: dict, path: str | Path = PRETRAINED) -> None:
    """Writes the network of the finished run in `run_dir` to `path`. made: what `pretrained_record` shall say of it."""
    saved = load_checkpoint(run_dir)
    losses = [row["loss"] for row in read_log(Path(run_dir) / "log.csv", saved.step)[:LOSSES]]
    arrays = {"step": np.array(saved.step), "losses": np.array(losses), "made": _bytes(made), "config": _bytes(run_config(saved))}
    arrays |= {f"weights/{name}": p.data.astype(np.float16) for name, p in saved.ema.model.named_parameters()}
    np.savez(path, **arrays)


def _bytes(facts):
    return np.frombuffer(json.dumps(facts).encode(), np.uint8)
