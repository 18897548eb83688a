"""Four things to do with a trained network besides drawing new cats, on cartoon cats that it has never seen:

    inpainting       inpainting.png      a part of the picture is missing; RePaint fills it in
    image to image   image_to_image.png  made noisy up to some t, and back: the higher t, the less is left
    interpolation    interpolation.png   from one cat to another, through the noise that DDIM makes them from
    variations       variations.png      one cat, eight times a little different

    python examples/train_cats.py                      first: trains the network, about eight minutes
    python examples/edit_cats.py                       then this; the sheets go to runs/cats/edited

Each use is one function of a few lines; the rest is captions. examples/sample_cats.py does the same with pictures of your own.
"""
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from tinydiff.data import drawn_cats, to_model, to_uint8
from tinydiff.diffusion import SCHEDULES, clip_x0, ddim, ddim_invert, denoiser, initial_noise, noised_start, repaint, slerp
from tinydiff.report import LiveLine, strip
from tinydiff.training import load_checkpoint

from train_cats import Parser, use_threads

CATS_SEED = 2024                     # other cats than the training's
MISSING = {"left": np.s_[:, :4], "right": np.s_[:, 4:], "top": np.s_[:4], "bottom": np.s_[4:], "centre": np.s_[2:6, 2:6],
           "eyes": np.s_[3:6, 1:7]}                       # of 8 x 8 parts of the picture


def inpainting(denoise, schedule, cats, steps):
    """A part is missing, another in each picture."""
    mask = np.ones((len(MISSING), 8, 8, 1), bool)
    for i, part in enumerate(MISSING.values()):
        mask[i][part] = False
    mask = mask.repeat(cats.shape[1] // 8, axis=1).repeat(cats.shape[2] // 8, axis=2)          # (6,H,W,1), True: known
    known = to_model(cats[:len(mask)])
    x_T = initial_noise(schedule, known.shape)
    done = last(repaint(denoise, schedule, x_T, known, mask, steps, jump_length=max(1, steps // 10)), "inpainting")
    rows = np.stack([to_uint8(known), to_uint8(np.where(mask, known, -0.5)), to_uint8(done)])  # (3,6,H,W,C)
    return strip(rows, list(MISSING), ["before", "what is kept", "after"])


def image_to_image(denoise, schedule, cats, steps):
    """Two cats and a rough sketch, from higher and higher t."""
    given = np.stack([*cats[:2], sketch(cats.shape[1])])
    columns, captions = [given], ["the picture"]
    for part in (0.2, 0.4, 0.6, 0.7, 0.8, 0.9):
        t = part * schedule.T
        x_t, times = noised_start(schedule, to_model(given), t, max(1, int(part * steps)))
        columns.append(to_uint8(last(ddim(denoise, schedule, x_t, times), f"image to image, t = {t:.0f}")))
        captions.append(f"from t = {t:.0f}")
    return strip(np.stack(columns, axis=1), captions)                                          # (3,7,H,W,C)


def interpolation(denoise, schedule, cats, steps):
    """Three pairs of cats. `back`, DDIM's own picture of the noise found for each, shows what was lost on the way."""
    a, b, fractions = cats[0:6:2], cats[1:6:2], np.linspace(0, 1, 6)
    noise = last(ddim_invert(denoise, schedule, to_model(np.concatenate([a, b])), steps), "inverting")      # (6,H,W,C)
    rows = []
    for i in range(3):
        x_T = slerp(noise[i][None].repeat(6, axis=0), noise[3 + i][None].repeat(6, axis=0), fractions)
        between = to_uint8(last(ddim(denoise, schedule, x_T, steps), "interpolating"))
        rows.append([a[i], *between, b[i]])
    return strip(np.array(rows), ["A", "A, back", *(f"{fraction:.1f}" for fraction in fractions[1:-1]), "B, back", "B"])


def variations(denoise, schedule, cats, steps):
    """Three cats, each with seven draws of the noise of t = 500."""
    copies = to_model(cats[:3]).repeat(7, axis=0)                                              # (21,H,W,C)
    x_t, times = noised_start(schedule, copies, 0.5 * schedule.T, max(1, steps // 2))
    varied = to_uint8(last(ddim(denoise, schedule, x_t, times), "varying"))
    rows = np.concatenate([cats[:3, None], varied.reshape(3, 7, *cats.shape[1:])], axis=1)      # (3,8,H,W,C)
    return strip(rows, ["the cat"] + ["variation"] * 7)


def last(steps, doing):
    """The picture that the steps of a sampler end with; with a live line."""
    line = LiveLine()
    for step in steps:
        line.show([doing, f"at t = {step.t:.0f}"])
    line.clear()
    return step.x


def sketch(size):
    """A cat as a child would paint it, in three colours: (size,size,3) uint8."""
    image = Image.new("RGB", (64, 64), (120, 190, 140))
    draw = ImageDraw.Draw(image)
    for points in ([(12, 30), (14, 6), (30, 18)], [(52, 30), (50, 6), (34, 18)]):
        draw.polygon(points, (235, 150, 60))
    draw.ellipse((10, 14, 54, 56), (235, 150, 60))
    for x in (24, 40):
        draw.ellipse((x - 4, 28, x + 4, 36), (40, 60, 40))
    return np.asarray(image.resize((size, size), Image.Resampling.BOX))


USES = {"inpainting": inpainting, "image_to_image": image_to_image, "interpolation": interpolation, "variations": variations}


def main():
    p = Parser(description="Inpainting, image to image, interpolation and variations, each on a sheet.")
    p.add_argument("--run", type=Path, default=Path("runs/cats"), metavar="FOLDER", help="a run of train_cats.py (%(default)s)")
    p.add_argument("--out", type=Path, metavar="FOLDER", help="where the sheets are written (in the run's folder, edited)")
    p.add_argument("--steps", type=int, default=100, metavar="N", help="steps from noise to a picture (%(default)s)")
    p.add_argument("--threads", type=int, metavar="N", help="processor threads; without it NUMBA_NUM_THREADS, or all cores")
    args = p.parse_args()
    out = args.out or args.run / "edited"
    try:
        use_threads(args.threads)
        saved = load_checkpoint(args.run)
        schedule = SCHEDULES[saved.config.schedule](saved.config.T)
        denoise = clip_x0(denoiser(saved.ema.model.eval(), schedule, saved.config.target, gaussian=saved.gaussian))
        cats = drawn_cats(6, saved.model.config.image_size, CATS_SEED).images
        out.mkdir(parents=True, exist_ok=True)
        for name, use in USES.items():
            use(denoise, schedule, cats, args.steps).save(out / f"{name}.png")
            print(out / f"{name}.png", flush=True)
    except FileNotFoundError as error:
        p.error(f"{error}: train a network first (python examples/train_cats.py), or give --run the folder of a run")
    except (OSError, ValueError) as error:
        p.error(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
