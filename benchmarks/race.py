"""The race: in the same minutes on the same cores, who draws the better cats?

    python benchmarks/race.py --data cats64.zip [--out runs/race] [--minutes 5 10 30 60]        (needs torch; about ten hours; resumes by itself)

Four contenders learn from the same faces, all but the last 300, which are held out:

    tinydiff         the recipe of examples/train_cats.py for photographs, in bfloat16 where the processor has a matrix unit
    torch            the same recipe, network and batches in PyTorch, in bfloat16 where the processor has instructions for it
    torch-ddpm       PyTorch with the defaults of denoising-diffusion-pytorch: v, sigmoid schedule, Adam 1e-4, EMA 0.995, flips
    torch-improved   PyTorch with the defaults of improved-diffusion: eps, linear schedule, AdamW 1e-4, EMA 0.9999

The last two train the reference U-Net, with the batch of 16 that the first of them has. A leg is a contender and a time, from the start of its
process to its last step. A learning rate that falls to zero needs a run of its own for each time; the last two have a constant one, so that one run
passes all the times. Each leg is saved when it is done, and a second call goes on with the first that is missing. All are then judged by the same
measures: 1,000 samples in 50 steps from the same noise, those of the first two as their recipe draws (sampler, Gaussian start, autoguidance),
the others' by DDIM; their sliced Wasserstein distance to the held-out faces, and its standard deviation, had it been measured again with other
samples: the jackknife's, from measuring again without each twentieth of them in turn; the error of the guessed x_0 on the held-out faces at ten log
SNRs, without guidance; and how many samples are suspiciously near to a training face. How far tinydiff is ahead has the jackknife's deviation too:
of the difference, since what the same noise does to both is no difference between them. OUT/sheets has 64 samples of each, uncurated, and for each
time a picture of the first eight of all.

    python benchmarks/race.py --data cats64.zip --minutes 4 --contenders tinydiff --variant="--optimizer adamw" --variant="--lr 6e-3"

lets other flags of train_cats.py run against the recipe.
"""
import argparse
import json
import math
import shlex
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

import tinydiff as td
from tinydiff.training.trainer import DRAWING

from machine import THREADS, header

sys.path.append(str(Path(__file__).parents[1] / "examples"))
import train_cats  # noqa: E402

START = time.perf_counter()
HELD_OUT, PARTS, CHUNK, SHEET, SIDE_BY_SIDE = 300, 20, 50, 64, 8
TRIAL = 0.03                # of a leg, spent on finding out how many steps fit
EPOCHS = 10**6              # more than fit into any leg


def recipe(flags=()):
    """What train_cats.py does with photographs and these flags."""
    bfloat16 = ["--bfloat16"] if td.kernels.has_bfloat16() else []
    config, unet = train_cats.settings(train_cats.parser().parse_args(["--data", "faces", *bfloat16, *flags]))
    return replace(config, epochs=EPOCHS, held_out=0), unet


# What a contender trains, and how.
REFERENCE = td.nn.UNetConfig()
DEFAULTS = td.training.TrainConfig(epochs=EPOCHS, held_out=0, batch=16, optimizer="adamw", lr=1e-4, weight_decay=0, time_sampling="uniform")
CONTENDERS = {
    "tinydiff": recipe(),
    "torch": recipe(),
    "torch-ddpm": (replace(DEFAULTS, schedule="sigmoid", target="v", betas=(0.9, 0.99), ema_max=0.995), REFERENCE),
    "torch-improved": (replace(DEFAULTS, schedule="linear", target="eps", betas=(0.9, 0.999), ema_max=0.9999, flip=False), REFERENCE),
}
CONSTANT = ("torch-ddpm", "torch-improved")             # their learning rate


def contender(name):
    """Its TrainConfig and UNetConfig. A variant's name is its flags."""
    return CONTENDERS[name] if name in CONTENDERS else recipe(shlex.split(name))


def drawing(name):
    """How its samples are drawn: what needs no new training when it is changed."""
    config, _ = contender(name)
    return {what: getattr(config, what) for what in sorted(DRAWING)}


def training(name):
    """All the rest of its recipe, as a string."""
    config, unet = contender(name)
    return repr((replace(config, **{what: getattr(DEFAULTS, what) for what in DRAWING}), unet))


def fitting_steps(step, seconds):
    """How many calls of step() fit into what is left of so many seconds since the start; some are made to find out."""
    step()
    start, few = time.perf_counter(), 0
    while few < 3 or time.perf_counter() - start < TRIAL * seconds:
        step()
        few += 1
    now = time.perf_counter()
    steps = int((seconds - (now - START)) * few / (now - start))
    if steps < 1:
        sys.exit(f"{seconds:g} s are over before the first step: give more --minutes")
    return steps


# The legs of one run, in a process of its own: name, faces, minutes, folder -> at each of these times the averaged weights, those
# that autoguidance leads away from, if any, and the number of steps.

def tinydiff_legs(name, faces, minutes, folder):
    config, unet = contender(name)
    image_set = td.data.ImageSet(faces)

    def trainer(config):
        return td.training.Trainer(td.nn.UNet(unet, rng=np.random.default_rng(0)), image_set, config, folder)
    run = trainer(replace(config, max_steps=fitting_steps(trainer(config).step, 60 * minutes[0])))
    while run.global_step < run.total_steps:
        run.step()
    yield run.ema.model.state_dict(), run.weak.state_dict(), run.global_step


def torch_legs(name, faces, minutes, folder):
    import torch

    from torch_recipes import TorchRun
    torch.set_num_threads(THREADS)
    config, unet = CONTENDERS[name]

    def new():
        return TorchRun(config, td.nn.UNet(unet, rng=np.random.default_rng(0)), faces, as_ours=name not in CONSTANT)
    if name in CONSTANT:
        run = new()
        for end in minutes:
            while time.perf_counter() - START < 60 * end:
                run.step(None)
            yield run.averaged_weights(), None, run.steps
    else:
        trial = new()
        steps = fitting_steps(lambda: trial.step(EPOCHS), 60 * minutes[0])
        run = new()
        while run.steps < steps:
            run.step(steps)
        yield run.averaged_weights(), run.weak, run.steps


def leg_folder(out, name, minutes):
    return out / f"{name.strip('-').replace(' ', '_')}-{minutes:g}"


def run_legs(name, minutes, data, out):
    faces = np.asarray(td.data.load_images(data, 64, limit=10**6).images[:-HELD_OUT])
    legs = torch_legs if name.startswith("torch") else tinydiff_legs
    for mark, (weights, weak, steps) in zip(minutes, legs(name, faces, minutes, out)):
        seconds = time.perf_counter() - START
        facts = dict(name=name, minutes=mark, steps=steps, pictures=steps * contender(name)[0].batch, seconds=seconds, recipe=training(name))
        folder = leg_folder(out, name, mark)
        folder.mkdir(exist_ok=True)
        np.savez(folder / "weights.part.npz", **weights)
        (folder / "leg.json").write_text(json.dumps(facts))
        if weak:
            np.savez(folder / "weak.npz", **weak)
        (folder / "weights.part.npz").replace(folder / "weights.npz")       # whoever finds it finds a whole leg


def run_missing(name, minutes, data, out):
    """Runs the legs that aren't there yet: one after the other, or of a constant learning rate all at once."""
    missing = []
    for mark in sorted(minutes):
        folder = leg_folder(out, name, mark)
        if not (folder / "weights.npz").exists():
            missing.append(mark)
        elif json.loads((folder / "leg.json").read_text()).get("recipe") != training(name):
            sys.exit(f"{folder} holds a leg of another recipe: give another --out, or remove it")
    for marks in [missing] if name in CONSTANT and missing else [[mark] for mark in missing]:
        words = [f"{mark:g}" for mark in marks]
        print(f"{name} learns for {', '.join(words)} minutes ...", flush=True)
        subprocess.run([sys.executable, __file__, f"--leg={name}", "--minutes", *words, "--data", data, "--out", out], check=True)


# The judge.

def judge(name, folder, learnt, held_out, usual):
    """The leg's figures, and its sheet. usual: the median distance from a held-out face to its nearest training face."""
    config, unet = contender(name)
    gaussian = td.training.gaussian_of(learnt, config.flip) if config.gaussian else None
    schedule = td.diffusion.SCHEDULES[config.schedule](config.T)

    def denoiser(name):
        model = td.nn.UNet(unet, rng=np.random.default_rng(0)).eval()
        with np.load(folder / f"{name}.npz") as weights:
            model.load_state_dict(dict(weights))
        return td.diffusion.denoiser(model, schedule, config.target, gaussian=gaussian)

    sampler = td.diffusion.gaussian_start(td.diffusion.SAMPLERS[config.sampler], gaussian)
    denoise = guided = denoiser("weights")
    if config.autoguidance != 1:
        guided = td.diffusion.autoguide(denoise, denoiser("weak"), schedule, config.autoguidance)
    samples = sample(sampler, td.diffusion.clip_x0(guided), schedule, config)
    td.report.grid(samples[:SHEET]).save(folder.parent / "sheets" / f"{folder.name}.png")
    np.save(folder / "samples.npy", samples)
    near = int((td.metrics.nearest(samples, learnt).distance < usual / 2).sum())
    errors = [level.x0_error for level in td.metrics.errors_by_noise(denoise, schedule, held_out)]
    return dict(drawing=drawing(name), distances=distances(samples, held_out), x0_errors=errors, suspicious=near)


def sample(sampler, denoise, schedule, config, n=1000):
    """(n,64,64,3) uint8, from the same noise for all."""
    chunks = []
    for first in range(0, n, CHUNK):
        x_T = td.diffusion.initial_noise(schedule, (CHUNK, 64, 64, 3), 0, first)
        *_, last = sampler(denoise, schedule, x_T, config.steps, 0, first=first)
        chunks.append(td.data.to_uint8(last.x))
    return np.concatenate(chunks)


def distances(pictures, held_out):
    """The sliced Wasserstein distance of the pictures to the held-out faces, and then without each of PARTS parts of the pictures in turn."""
    parts = np.array_split(np.arange(len(pictures)), PARTS)
    return [td.metrics.sliced_wasserstein(chosen, held_out) for chosen in (pictures, *(np.delete(pictures, part, axis=0) for part in parts))]


def measured(distances):
    """A distance, or a difference of two, and its standard deviation by the jackknife (Efron and Stein 1981)."""
    whole, *without = distances
    return whole, math.sqrt((PARTS - 1) * np.var(without))


def table(legs, floor):
    """Markdown: a row for each leg. Ahead: how far tinydiff's distance is below a leg's."""
    lines = ["| minutes | contender | seconds | pictures seen | distance | tinydiff ahead by | error of x_0 | suspiciously near |",
             "| --- | --- | --- | --- | --- | --- | --- | --- |"]
    for minutes in sorted({leg["minutes"] for leg in legs}):
        here = {leg["name"]: leg for leg in legs if leg["minutes"] == minutes}
        for name, leg in here.items():
            distance, sd = measured(leg["distances"])
            ahead = ""
            if name != "tinydiff" and "tinydiff" in here:
                difference, sd_of_it = measured(np.subtract(leg["distances"], here["tinydiff"]["distances"]))
                ahead = f"{difference:.1f} ± {sd_of_it:.1f}: {difference / sd_of_it:.1f} sd"
            error = math.exp(np.mean(np.log(leg["x0_errors"])))
            lines.append(f"| {minutes:g} | {name} | {leg['seconds']:.0f} | {leg['pictures']:,} | {distance:.1f} ± {sd:.1f} | {ahead} | {error:.5f} | "
                         f"{leg['suspicious']} |")
    distance, sd = measured(floor)
    lines.append(f"| | training faces themselves | | | {distance:.1f} ± {sd:.1f} | | | |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="faces, 64 x 64; the last 300 are held out")
    parser.add_argument("--out", type=Path, default=Path("runs/race"), help="(%(default)s)")
    parser.add_argument("--minutes", type=float, nargs="+", default=[5, 10, 30, 60], help="(%(default)s)")
    parser.add_argument("--contenders", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS), help="(all)")
    parser.add_argument("--variant", action="append", default=[], metavar="FLAGS", help="one more: the recipe with these flags of train_cats.py")
    parser.add_argument("--leg", metavar="NAME", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.leg:
        run_legs(args.leg, args.minutes, args.data, args.out)
        return
    print(header(), flush=True)
    (args.out / "sheets").mkdir(parents=True, exist_ok=True)
    names = [*args.contenders, *args.variant]
    for name in names:
        run_missing(name, args.minutes, args.data, args.out)
    faces = np.asarray(td.data.load_images(args.data, 64, limit=10**6).images)
    learnt, held_out, legs = faces[:-HELD_OUT], faces[-HELD_OUT:], []
    usual = np.median(td.metrics.nearest(held_out, learnt).distance)
    for minutes in args.minutes:
        for name in names:
            folder = leg_folder(args.out, name, minutes)
            facts = json.loads((folder / "leg.json").read_text())
            if facts.get("drawing") != drawing(name):
                print(f"{name} is judged after {minutes:g} minutes ...", flush=True)
                facts |= judge(name, folder, learnt, held_out, usual)
                (folder / "leg.json").write_text(json.dumps(facts))
            legs.append(facts)
        samples = np.stack([np.load(leg_folder(args.out, name, minutes) / "samples.npy")[:SIDE_BY_SIDE] for name in names])
        td.report.strip(samples, [""] * SIDE_BY_SIDE, names).save(args.out / "sheets" / f"{minutes:g}.png")
    floor = distances(learnt[np.random.default_rng(0).permutation(len(learnt))[:1000]], held_out)
    (args.out / "race.json").write_text(json.dumps(legs, indent=2))
    print(table(legs, floor))


if __name__ == "__main__":
    main()
