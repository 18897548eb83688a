"""How well does a trained run know pictures that it has never seen? Its bits per dimension, by both ways, and its error at each noise level.

    python examples/likelihood.py --run runs/cats [--data PATH] [--count 8] [--steps 1000] [--flow-steps 50]

A byte costs 8 bits when nothing is known about it; a good model of 64 x 64 photographs needs about 3. The variational bound can only be
above, and the probability flow, the likelihood itself up to the estimate of a trace, below or near. Each picture takes T evaluations of the
network for the bound: fewer steps are faster and give a looser bound.
"""
import argparse
import math
import sys
from pathlib import Path

import numpy as np

import tinydiff as td

CHUNK = 8       # pictures in memory at one time


def held_out(trainer, count):
    """The first `count` of the pictures that the run has never trained on, (count,H,W,C) uint8."""
    if count < 1 or not len(trainer.held_out_images):
        raise ValueError(f"--count is {count} and the run held out {len(trainer.held_out_images)} pictures; at least 1 of each is needed")
    return trainer.held_out_images[:count]


def in_chunks(measure, images):
    """measure(images, first) of CHUNK pictures at a time, as a list."""
    return [measure(images[first:first + CHUNK], first) for first in range(0, len(images), CHUNK)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="folder of a run with a checkpoint")
    parser.add_argument("--data", type=Path, help="its pictures; without it, the drawn cats")
    parser.add_argument("--count", type=int, default=8, help="held-out pictures to measure (%(default)s)")
    parser.add_argument("--steps", type=int, help="of the variational bound (all)")
    parser.add_argument("--flow-steps", type=int, default=50, help="of the probability flow (%(default)s)")
    args = parser.parse_args()
    try:
        saved = td.training.load_checkpoint(args.run)
        size, n = saved.model.config.image_size, saved.data["images"]
        image_set = td.data.load_images(args.data, size, n) if args.data else td.data.drawn_cats(n, size, saved.config.seed)
        trainer = td.training.Trainer.resume(image_set, args.run)
        measure(trainer, held_out(trainer, args.count), args.steps, args.flow_steps)
    except (OSError, ValueError) as error:
        sys.exit(f"likelihood.py: error: {error}")


def measure(trainer, images, steps, flow_steps):
    schedule = trainer.schedule
    denoise = td.diffusion.denoiser(trainer.ema.model, schedule, trainer.config.target, gaussian=trainer.gaussian)      # without autoguidance
    clipped = td.diffusion.clip_x0(denoise)
    variance = "learned" if hasattr(denoise, "log_variance") else "fixed_large"
    print(f"{len(images)} held-out pictures of {' x '.join(map(str, images.shape[1:]))} after {trainer.global_step} steps of training\n")

    bounds = in_chunks(lambda part, first: td.diffusion.variational_bound(clipped, schedule, part, steps, variance=variance, first=first), images)
    prior, terms = (np.concatenate([getattr(bound, name) for bound in bounds]) for name in ("prior", "terms"))
    flow = np.concatenate(in_chunks(lambda part, first: td.diffusion.flow_likelihood(denoise, schedule, part, flow_steps, first=first), images))
    print("bits per dimension (mean over the pictures, and its standard error)")
    print(f"  variational bound  {mean_and_error(prior + terms.sum(axis=1))}  {terms.shape[1]} steps, {variance.replace('_', ' ')} variance: "
          f"prior {prior.mean():.4f} + steps {terms[:, 1:].sum(axis=1).mean():.4f} + decoder {terms[:, 0].mean():.4f}")
    print(f"  probability flow   {mean_and_error(flow)}  {flow_steps} steps")

    print("\nerror of the guesses, by noise level\n     t  log SNR  of x_0, in grey levels  of eps (the plain loss)")
    for level in td.metrics.errors_by_noise(clipped, schedule, images, chunk=CHUNK):
        print(f"{level.t:6.0f} {level.log_snr:8.2f} {127.5 * math.sqrt(level.x0_error):23.2f} {level.eps_error:24.4f}")


def mean_and_error(bits):
    return f"{bits.mean():.3f} +- {bits.std() / math.sqrt(len(bits)):.3f}"


if __name__ == "__main__":
    main()
