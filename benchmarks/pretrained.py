"""Makes the network that comes with tinydiff, tinydiff/training/pretrained.npz, or checks that it was made as it says.

    python benchmarks/pretrained.py             runs examples/train_cats.py --out runs/pretrained, with no other flag, and writes the file
    python benchmarks/pretrained.py --check     takes its first 100 steps again: the same losses, bit for bit, on the same kind of processor
"""
import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import tinydiff as td
from tinydiff.training.pretrained import LOSSES, PRETRAINED, load_pretrained, pretrained_record, save_pretrained
from tinydiff.training.streams import INIT

from machine import describe

OUT = Path("runs/pretrained")
TRAIN = ["examples/train_cats.py", "--out", str(OUT)]
ROOT = Path(__file__).parents[1]
ELSEWHERE = 1e-2                # how far the losses may be apart on another processor, whose vectors round sums in another order


def make():
    subprocess.run([sys.executable, *TRAIN, *(["--resume"] if OUT.exists() else [])], cwd=ROOT, check=True)
    save_pretrained(ROOT / OUT, {"command": " ".join(["python", *TRAIN])} | describe())
    print(f"{PRETRAINED}: {PRETRAINED.stat().st_size / 1e6:.2f} MB")


def check() -> bool:
    """Whether the first steps give the losses that the file has."""
    saved, (losses, made) = load_pretrained(), pretrained_record()
    images = td.data.drawn_cats(saved.data["images"], saved.model.config.image_size, saved.config.seed)
    model = td.nn.UNet(saved.model.config, rng=np.random.default_rng([saved.config.seed, INIT]))
    with tempfile.TemporaryDirectory() as folder:
        trainer = td.training.Trainer(model, images, saved.config, folder)
        again = np.array([trainer.step() for _ in range(LOSSES)])
    same, apart = again.tobytes() == losses.tobytes(), np.max(np.abs(again / losses - 1))
    here = describe()
    alike = all(here[fact] == made[fact] for fact in ("cpu", "float32_lanes"))
    print(f"made by `{made['command']}` on {made['cpu']}, {made['float32_lanes']} float32 lanes; here: {here['cpu']}, {here['float32_lanes']} lanes")
    print(f"{LOSSES} losses: " + ("the same bits" if same else f"up to {apart:.1e} apart") + ("" if alike else " (another processor)"))
    return same or not alike and apart < ELSEWHERE


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="take the first steps again")
    if not parser.parse_args().check:
        make()
    elif not check():
        sys.exit("these are not the losses that it says")


if __name__ == "__main__":
    main()
