"""Guidance at a glance: a sheet with a row for each scale and a column for each class. All rows start from the same noise.

    python examples/06_guidance.py                    trains a small network on the coats of drawn cats first (a minute or two on two cores)
    python examples/06_guidance.py --run runs/cats    takes the network of a run of train_cats.py --classes

Scale 0 doesn't look at the label; 1 draws what the network takes for a cat of that class. Above 1 whatever makes the cat one of its class
is exaggerated: the coat can't be mistaken any more, then, far above, colours burn out. --rescale 0.7 takes the contrast back.

Read next: tinydiff/diffusion/guidance.py; tinydiff/nn/unet.py, how a network is told the label. The next example is train_cats.py.
"""
import argparse
import sys
from pathlib import Path

import numpy as np

from tinydiff.data import drawn_cats, to_uint8
from tinydiff.diffusion import SCHEDULES, clip_x0, ddim, denoiser, guide, initial_noise
from tinydiff.nn import UNet, UNetConfig
from tinydiff.report import LiveLine, strip
from tinydiff.training import TrainConfig, Trainer, load_checkpoint
from tinydiff.training.streams import INIT


def train(out, epochs, images, seed):
    """A small class-conditional network, trained on small pictures; its checkpoint is left in the folder out."""
    cats, line = drawn_cats(images, size=32, seed=seed), LiveLine()
    unet = UNetConfig(image_size=32, channels=16, channel_mults=(1, 2, 4), blocks_per_level=1, attention_resolutions=(8,),
                      num_classes=len(cats.label_names))
    trainer = Trainer(UNet(unet, rng=np.random.default_rng([seed, INIT])), cats, TrainConfig(epochs=epochs, held_out=0, seed=seed), out)
    trainer.fit(on_step=lambda trainer, row: line.show([f"step {row['step']}/{trainer.total_steps}", f"loss {row['loss']:.3f}"]))
    line.clear()
    print(f"Trained on {images} drawn cats for {epochs} epochs; the loss of the last is {trainer.epoch_rows()[-1]['loss']:.3f}")


def guided_rows(checkpoint, scales, rescale, steps, seed):
    """(scales,classes,H,W,3) uint8: in each row one picture of each class, from the same noise in all rows."""
    model, config = checkpoint.ema.model, checkpoint.config
    schedule = SCHEDULES[config.schedule](config.T)
    classes = np.arange(model.config.num_classes)
    cond, uncond = denoiser(model, schedule, config.target, classes), denoiser(model, schedule, config.target)
    x_T = initial_noise(schedule, (len(classes), *checkpoint.data["shape"]), seed)
    rows = []
    for scale in scales:
        for step in ddim(clip_x0(guide(cond, uncond, scale, rescale)), schedule, x_T, steps):
            pass
        rows.append(to_uint8(step.x))
    return np.stack(rows)


def title(scale):
    words = {0: "scale 0: without the label", 1: "scale 1: no guidance"}
    return words.get(scale, f"scale {scale:g}")


def main():
    p = argparse.ArgumentParser(description="Draw every class at growing scales of classifier-free guidance.")
    p.add_argument("--run", type=Path, metavar="FOLDER", help="a run of train_cats.py --classes; without it, a small network is trained first")
    p.add_argument("--out", type=Path, default=Path("runs/guidance"), metavar="FOLDER", help="where the sheet is written (%(default)s)")
    p.add_argument("--scales", type=float, nargs="+", default=[0, 1, 2, 4, 8], metavar="S", help="one row each (0 1 2 4 8)")
    p.add_argument("--rescale", type=float, default=0.0, metavar="PHI", help="0 to 1: how far the contrast is taken back (%(default)s)")
    p.add_argument("--steps", type=int, default=30, metavar="N", help="DDIM steps from noise to a picture (%(default)s)")
    p.add_argument("--epochs", type=int, default=12, metavar="N", help="of the training without --run (%(default)s)")
    p.add_argument("--images", type=int, default=800, metavar="N", help="drawn cats to train on, without --run (%(default)s)")
    p.add_argument("--seed", type=int, default=0, metavar="N", help="of everything random (%(default)s)")
    args = p.parse_args()
    try:
        if args.run is None:
            train(args.out, args.epochs, args.images, args.seed)
        checkpoint = load_checkpoint(args.run or args.out)
        names = checkpoint.data.get("label_names")
        if not names:
            raise ValueError(f"the run in {args.run} was trained without classes; train one with examples/train_cats.py --classes")
        rows = guided_rows(checkpoint, args.scales, args.rescale, args.steps, args.seed)
    except (OSError, ValueError) as error:
        sys.exit(f"{p.prog}: error: {error}")
    args.out.mkdir(parents=True, exist_ok=True)
    strip(rows, names, [title(scale) for scale in args.scales], scale=max(1, round(96 / rows.shape[3]))).save(args.out / "guidance.png")
    print(f"One row a scale, one column a class: {args.out / 'guidance.png'}")


if __name__ == "__main__":
    main()
