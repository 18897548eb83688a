"""Does a long run stay as small as it starts? 2,000 training steps and then 1,000 samples, and the memory that the process holds all along.

    python benchmarks/long_run.py [--json long_run.json]

The whole Trainer at work (log, checkpoints, averages) on cartoon cats of 16 x 16, with the network of train_cats.py's default; then DDIM, 16
pictures at a time. Ends with an error where more than 2 % is added after the first quarter of the steps, or after the first 64 samples.
"""
import argparse
import math
import sys
import tempfile

import numpy as np

import tinydiff as td
from tinydiff.training.trainer import WEAK_AT

from contenders import write_json
from machine import header, resident_mb

MOST = 0.02                 # of the memory, that may be added
SIZE, BATCH, CHUNK, STEPS = 16, 8, 16, 10


def train(steps, out):
    """The trainer after so many steps, and the memory after each, in MB."""
    config = td.training.TrainConfig(epochs=-(-steps // 50), batch=BATCH, held_out=0.0)
    model = td.nn.UNet(td.nn.UNetConfig(image_size=SIZE, channels=16), rng=np.random.default_rng(0))
    trainer, memory = td.training.Trainer(model, td.data.drawn_cats(50 * BATCH, SIZE), config, out), []
    trainer.fit(on_step=lambda trainer, row: memory.append(resident_mb()))
    return trainer, memory


def sample(trainer, count):
    """The memory after each chunk of samples, in MB."""
    memory, denoise = [], td.diffusion.clip_x0(trainer.denoiser())
    for first in range(0, count, CHUNK):
        x_T = td.diffusion.initial_noise(trainer.schedule, (min(CHUNK, count - first), SIZE, SIZE, 3), 0, first)
        for step in td.diffusion.ddim(denoise, trainer.schedule, x_T, STEPS):
            pass
        td.data.to_uint8(step.x)
        memory.append(resident_mb())
    return memory


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    parser.add_argument("--quick", action="store_true", help="50 steps and 96 samples: does it all work?")
    args = parser.parse_args()
    print(header())
    with tempfile.TemporaryDirectory() as out:
        trainer, training = train(50 if args.quick else 2000, out)
    sampling = sample(trainer, 96 if args.quick else 1000)
    figures, growths = dict(training=training, sampling=sampling), {}
    all_kept = math.ceil(WEAK_AT * len(training))            # from then on a run keeps autoguidance's network too
    for name, memory, warm in (("training step", training, all_kept), ("chunk of samples", sampling, 64 // CHUNK)):
        first, most = memory[warm - 1], max(memory[warm:])
        growths[name] = growth = most / first - 1
        print(f"{len(memory):,} times a {name}: {first:.1f} MB after {warm}, later at most {most:.1f} MB ({growth:+.2%}), "
              f"{memory[-1]:.1f} MB at the end")
    figures["growth"] = growths
    if args.json:
        write_json(args.json, figures)
    if max(growths.values()) > MOST:
        sys.exit(f"long_run: memory grows by more than {MOST:.0%}")


if __name__ == "__main__":
    main()
