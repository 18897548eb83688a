"""Are a run's generated pictures copies of what it was trained on? The check that stands before any of them is shown.

    python benchmarks/copies.py --run runs/photos --data photos.zip [--samples 64]

For each sample, and for each held-out picture, the nearest training picture (or its mirror image) is found, by root mean square distance in grey
levels of 255. A network that copies gives samples much nearer than pictures that it has never seen; a sample under half the held-out
pictures' median distance is called suspicious. The samples are drawn beside their nearest pictures, RUN/copies.png: look at it.
"""
import argparse
from pathlib import Path

import numpy as np

import tinydiff as td

CHUNK = 16


def sample(trainer, n):
    """n pictures of the averaged network by the run's own sampler, (n,H,W,C) uint8: the run's own first n."""
    config, chunks = trainer.config, []
    denoise = td.diffusion.clip_x0(trainer.denoiser())
    for first in range(0, n, CHUNK):
        shape = (min(CHUNK, n - first), *trainer.train_images.shape[1:])
        x_T = td.diffusion.initial_noise(trainer.schedule, shape, config.seed, first)
        *_, last = trainer.sampler(denoise, trainer.schedule, x_T, config.steps, config.seed, first=first)
        chunks.append(td.data.to_uint8(last.x))
    return np.concatenate(chunks)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished run")
    parser.add_argument("--data", type=Path, help="its pictures; without it, the drawn cats")
    parser.add_argument("--samples", type=int, default=64)
    args = parser.parse_args()
    saved = td.training.load_checkpoint(args.run)
    size, images = saved.model.config.image_size, saved.data["images"]
    image_set = td.data.load_images(args.data, size, images) if args.data else td.data.drawn_cats(images, size, saved.config.seed)
    trainer = td.training.Trainer.resume(image_set, args.run)
    held_out = td.metrics.nearest(trainer.held_out_images, trainer.train_images).distance
    pictures = sample(trainer, args.samples)
    found = td.metrics.nearest(pictures, trainer.train_images)
    samples = found.distance
    print("distance to the nearest training picture, in grey levels (root mean square):")
    for name, distances in (("samples", samples), ("held-out pictures", held_out)):
        print(f"  {len(distances):4} {name:18} median {np.median(distances):.1f}, least {distances.min():.1f}")
    suspicious = (samples < np.median(held_out) / 2).sum()
    print(f"{suspicious} of {len(samples)} samples are suspiciously near")
    sheet = args.run / "copies.png"
    td.report.neighbour_sheet(pictures, found.of(trainer.train_images), samples).save(sheet)
    print(f"each sample beside its nearest training picture: {sheet}")


if __name__ == "__main__":
    main()
