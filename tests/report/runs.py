"""A run's folder as a trainer leaves it, with made-up figures, for the tests of what reads it."""
import json

import numpy as np

from tinydiff.report import RunLog

CONFIG = {
    "train": {"epochs": 6, "batch": 16, "T": 1000, "schedule": "cosine", "target": "v", "sampler": "ddim", "steps": 37, "held_out": 0.1,
              "weight": None},
    "unet": {"image_size": 24, "channels": 40, "channel_mults": [1, 2, 3, 4]},
    "data": {"images": 4321, "shape": [24, 24, 3]},
}


def made_up_log(steps=60, epochs=6, held_out=True) -> RunLog:
    """A loss that falls from 1 to about 0.05, with noise on it."""
    step = np.arange(1, steps + 1)
    loss = (0.05 + 0.95 * np.exp(-5 * step / steps)) * np.exp(0.1 * np.random.default_rng(0).standard_normal(steps))
    per_epoch = steps // epochs
    taken = np.where((step % per_epoch == 0) & held_out, loss * 1.1, np.nan)
    return RunLog(step, (step - 1) // per_epoch + 1, loss, taken, np.full(steps, 0.5))


def write_run(folder, log=None, config=CONFIG):
    """config.json and log.csv of such a run in `folder`, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    lines = ["step,epoch,loss,held_out_loss,grad_norm,lr,seconds"]
    for step, epoch, loss, held_out, seconds in zip(*(column.tolist() for column in (made_up_log() if log is None else log))):
        lines.append(f"{step},{epoch},{loss},{'' if np.isnan(held_out) else held_out},1.0,0.0006,{seconds}")
    (folder / "log.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder
