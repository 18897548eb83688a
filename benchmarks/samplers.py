"""How good are the pictures of each sampler, for how many evaluations of the network? On a finished run of the drawn cats.

    python benchmarks/samplers.py --run runs/cats [--evaluations 5 10 20 50] [--pictures 256] [--chart samplers.png] [--json samplers.json]

Every sampler draws from the same noise with the same network, in the most steps that the evaluations allow: those that ask the network twice a
step take half as many. Its pictures are compared with as many drawn cats that the network has never seen, by the sliced Wasserstein distance
(`tinydiff.metrics`; smaller is better). Two sets of drawn cats are not at distance 0 either: theirs, what chance leaves between so many
pictures, is printed last.
"""
import argparse
import json
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import tinydiff as td
from tinydiff.metrics import sliced_wasserstein
from tinydiff.report.charts import GRID, HELD_OUT, log_ticks
from tinydiff.report.pictures import ACCENT, CARD, INK, MUTED

CHUNK = 16                     # pictures in memory at once
UNSEEN = 10**6                 # added to the run's seed: two sets of drawn cats that are not the run's
COLOURS = [ACCENT, HELD_OUT, (163, 227, 106), (255, 107, 129), (190, 144, 255), (255, 221, 87), (87, 227, 186), (240, 140, 220),
           (160, 170, 190)]


def asked(sampler, schedule, steps):
    """How often a sampler asks the denoiser in so many steps, counted."""
    calls = []
    for _ in sampler(lambda x, t: calls.append(t) or x, schedule, np.ones((1, 1, 1, 1)), steps):
        pass
    return len(calls)


def steps_for(sampler, schedule, evaluations):
    """The most steps in which a sampler asks at most so often."""
    return max(steps for steps in range(1, evaluations + 1) if asked(sampler, schedule, steps) <= evaluations)


def draw(sampler, denoise, schedule, shape, steps, seed):
    """(N,H,W,C) uint8 pictures, a chunk at a time."""
    chunks = []
    for first in range(0, shape[0], CHUNK):
        x_T = td.diffusion.initial_noise(schedule, (min(CHUNK, shape[0] - first), *shape[1:]), seed, first)
        *_, last = sampler(denoise, schedule, x_T, steps, seed, first=first)
        chunks.append(td.data.to_uint8(last.x))
    return np.concatenate(chunks)


def measure(run, evaluations, pictures):
    """Prints a row for each sampler; returns {"floor": distance, "samplers": {name: [distance for each number of evaluations]}}.

    Raises FileNotFoundError without a checkpoint, ValueError where the run is not one of drawn cats.
    """
    saved = td.training.load_checkpoint(run)
    size, seed = saved.model.config.image_size, saved.config.seed
    trainer = td.training.Trainer.resume(td.data.drawn_cats(saved.data["images"], size, seed), run)  # raises where it learnt other pictures
    schedule, denoise = trainer.schedule, td.diffusion.clip_x0(trainer.denoiser())
    cats, others = (td.data.drawn_cats(pictures, size, seed + UNSEEN + i).images for i in (0, 1))
    width = max(map(len, td.diffusion.SAMPLERS))
    print(f"sliced Wasserstein distance of {pictures} pictures to {pictures} drawn cats, at most so many evaluations of the network (steps)")
    print(" " * width + "".join(f"{n:>15}" for n in evaluations))
    distances = {}
    for name, sampler in td.diffusion.SAMPLERS.items():
        distances[name] = []
        print(f"{name:{width}}", end="", flush=True)
        for n in evaluations:
            steps = steps_for(sampler, schedule, n)
            distances[name].append(sliced_wasserstein(draw(sampler, denoise, schedule, cats.shape, steps, seed), cats))
            print(f"{distances[name][-1]:9.1f}{f'({steps})':>6}", end="", flush=True)
        print()
    floor = sliced_wasserstein(others, cats)
    print(f"other drawn cats: {floor:.1f}")
    return {"floor": floor, "samplers": distances}


def chart(evaluations, result, path, width=1200, height=720, s=3):
    """Distance against evaluations, both axes logarithmic, a line for each sampler; equal ones share theirs.

    Drawn s times larger, then averaged: Pillow's lines have hard edges.
    """
    lines = {}                                                    # the samplers' names -> distances
    for name, distances in result["samplers"].items():
        same = next((names for names, other in lines.items() if np.allclose(distances, other, rtol=0.01)), None)
        lines[f"{same} = {name}" if same else name] = lines.pop(same) if same else distances
    values = [*(value for distances in lines.values() for value in distances), result["floor"]]
    low, high = min(values) / 1.15, max(values) * 1.15
    left, right, top, bottom = 92, width - 300, 64, height - 84
    canvas = Image.new("RGB", (width * s, height * s), CARD)
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(19 * s)

    def place(n, distance):
        across = math.log(n / evaluations[0]) / max(math.log(evaluations[-1] / evaluations[0]), 1e-9)
        return left + across * (right - left), bottom - math.log(distance / low) / math.log(high / low) * (bottom - top)

    def text(x, y, words, anchor, colour=MUTED):
        pen.text((x * s, y * s), words, colour, font, anchor=anchor)

    def line(points, colour, thickness):
        pen.line([(x * s, y * s) for x, y in points], colour, round(thickness * s), joint="curve")

    for value in log_ticks(low, high):
        _, y = place(evaluations[0], value)
        line([(left, y), (right, y)], GRID, 1)
        text(left - 14, y, f"{value:g}", "rm")
    for n in evaluations:
        x, _ = place(n, low)
        line([(x, bottom), (x, bottom + 6)], MUTED, 1)
        text(x, bottom + 14, str(n), "ma")
    text(left, 22, "Sliced Wasserstein distance to drawn cats, log scale (smaller is better)", "la", INK)
    text(right, height - 18, "evaluations of the network", "rd")
    _, y = place(evaluations[0], result["floor"])
    for x in range(left, right, 16):
        line([(x, y), (x + 8, y)], MUTED, 2)
    labels = [(y, "other drawn cats", MUTED)]
    for (names, distances), colour in zip(lines.items(), COLOURS):
        points = [place(n, distance) for n, distance in zip(evaluations, distances)]
        line(points, colour, 3)
        for x, y in points:
            pen.circle((x * s, y * s), 5 * s, colour, CARD, s)
        labels.append((points[-1][1], names, colour))
    labels.sort(reverse=True)                                     # from the bottom up, pushed apart where they would overlap
    at = height
    for y, words, colour in labels:
        at = min(at - 26, y)
        line([(right + 8, y), (right + 26, at)], colour, 1)
        text(right + 32, at, words, "lm", colour)
    canvas.reduce(s).save(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished run of examples/train_cats.py on the drawn cats")
    parser.add_argument("--evaluations", type=int, nargs="+", default=[5, 10, 20, 50], help="of the network, at most, for a picture")
    parser.add_argument("--pictures", type=int, default=256, help="of each sampler and number of evaluations (%(default)s)")
    parser.add_argument("--chart", type=Path, default=Path("samplers.png"), help="where the chart goes (%(default)s)")
    parser.add_argument("--json", type=Path, help="where the figures go, too")
    args = parser.parse_args()
    evaluations = sorted(set(args.evaluations))
    if evaluations[0] < 1 or args.pictures < 1:
        parser.error("--evaluations and --pictures must be at least 1")
    try:
        result = measure(args.run, evaluations, args.pictures)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    chart(evaluations, result, args.chart)
    print(f"The chart: {args.chart}")
    if args.json:
        args.json.write_text(json.dumps({"run": str(args.run), "pictures": args.pictures, "evaluations": evaluations} | result, indent=1))


if __name__ == "__main__":
    main()
