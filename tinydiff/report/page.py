"""report.html: a walk through the four stages of a run, with the run's own pictures and figures, on one page that needs nothing else.

It is written from the files in the run's folder alone, so it can be made while the run goes on and made again afterwards:
config.json, log.csv, skipped.txt, input.png, forward.png, samples/epoch_*.png, reverse.gif, reverse.png, samples.png,
neighbours.png, neighbours.json.
What isn't there yet has a sentence in its place. The page of a run that is going on loads itself anew, so that a browser left open shows the
newest.

Read first: `charts.py`, `pictures.py`.
"""
import json
import os
from pathlib import Path

import numpy as np

from tinydiff.report.charts import loss_svg
from tinydiff.report.fragments import escape, figure, flow, settings_table, strip_figure
from tinydiff.report.log import RunLog, read_log
from tinydiff.report.observation import few_pictures, observation
from tinydiff.report.progress import duration
from tinydiff.report.quiz import INSIGHT, quiz
from tinydiff.report.style import STYLE

TARGET_WORDS = {
    "eps": "the noise &epsilon; that was added",
    "x0": "the clean picture x<sub>0</sub>",
    "v": "<i>v</i> = &alpha;<sub>t</sub> &epsilon; &minus; &sigma;<sub>t</sub> x<sub>0</sub>, a mixture that both can be had from",
    "flow": "the direction &epsilon; &minus; x<sub>0</sub> from the picture to the noise",
    "edm": "a mixture of &epsilon; and x<sub>0</sub> that is as hard to tell at every t",
}
WEIGHT_WORDS = {
    "simple": "",
    "min_snr": ", weighted so that the easy times don't drown the others (min-SNR)",
    "p2": ", weighted so that what the picture is about counts more than its finest grain (P2)",
    "edm": ", weighted as in EDM",
}

RELOAD = 15         # seconds after which the page of a run that goes on is loaded again
SKIPPED = 200       # skipped files that are named
MISSING_STEPS = '<p class="missing">No step has been taken yet.</p>'


def write_page(run_dir: str | Path, seconds_left: float | None = None) -> Path:
    """Writes run_dir/report.html, in place of what was there, and returns its path.

    seconds_left: what the training has left, of a run that goes on. The page says so, and loads itself again and again.
    Raises FileNotFoundError where the folder has no config.json or no log.csv.
    """
    run_dir = Path(run_dir)
    config = json.loads((run_dir / "config.json").read_text(encoding="utf-8"))
    log = read_log(run_dir / "log.csv")
    name = escape(run_dir.resolve().name)
    live = "" if seconds_left is None else f'\n<meta http-equiv="refresh" content="{RELOAD}">'
    page = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">{live}
<title>{name}: from noise to pictures</title>
<style>{STYLE}</style>
</head>
<body>
<main>
{_head(name, config, log, seconds_left)}
{_input(run_dir, config)}
{_noise(run_dir, config)}
{_train(run_dir, config, log)}
{_generate(run_dir, config)}
{INSIGHT}
{quiz(config)}
<footer><details><summary>Every setting of this run</summary>{settings_table(config)}</details></footer>
</main>
</body>
</html>
"""
    path = run_dir / "report.html"
    unfinished = path.with_suffix(".tmp")               # a browser may load the page at any moment: it finds the old one or the new one, whole
    unfinished.write_text(page, encoding="utf-8")
    os.replace(unfinished, path)
    return path


def _head(name, config, log: RunLog, seconds_left):
    train, data = config["train"], config["data"]
    history = log.history()
    figures = {"pictures": f"{data['images']:,}", "epochs": f"{history[-1]['epoch'] if history else 0} of {train['epochs']}",
               "optimizer steps": f"{len(log.step):,}", "time in training": duration(log.seconds.sum())}
    if seconds_left is not None:
        figures["left to train"] = duration(seconds_left)
    if history:
        figures["training loss"] = f"{history[-1]['loss']:.4f}"
        if history[-1]["held_out_loss"] is not None:
            figures["held-out loss"] = f"{history[-1]['held_out_loss']:.4f}"
    return f"""<header>
<p class="kicker">The run &ldquo;{name}&rdquo;</p>
<h1>From noise to pictures in four stages</h1>
<p>A diffusion model learns to draw by learning to clean. Pictures are buried in noise, a network learns to take the noise away, and then
the network is given nothing but noise. This page follows one run from its first picture to its last, with its own numbers.</p>
<nav><a href="#input">1 Input</a><a href="#noise">2 Add noise</a><a href="#train">3 Train</a>
<a href="#generate">4 Generate</a><a href="#quiz">Quiz</a></nav>
<dl class="figures">{"".join(f"<div><dt>{label}</dt><dd>{value}</dd></div>" for label, value in figures.items())}</dl>
</header>"""


def _input(run_dir, config):
    n, shape, held_out = config["data"]["images"], config["data"]["shape"], config["train"]["held_out"]
    skipped_file = run_dir / "skipped.txt"
    skipped = skipped_file.read_text(encoding="utf-8", errors="replace").splitlines() if skipped_file.exists() else []
    more = f"<p>... and {len(skipped) - SKIPPED} more, in skipped.txt.</p>" if len(skipped) > SKIPPED else ""
    folded = f"""<details><summary>{len(skipped)} {"file was" if len(skipped) == 1 else "files were"} skipped</summary>
<ul>{"".join(f"<li>{escape(line)}</li>" for line in skipped[:SKIPPED])}</ul>{more}</details>""" if skipped else ""
    kept = (f"About {held_out:.0%} of the pictures are held out: the network never trains on them, so they show later whether it has "
            "learnt or memorised." if held_out else
            "No pictures are held out in this run, so nothing will show whether the network has learnt or memorised.")
    few = f"<p><b>{few_pictures(n)}</b></p>\n" if few_pictures(n) else ""
    return f"""<section id="input">
<h2><b>1</b> Input</h2>
<p>A picture is a block of numbers: {shape[0]} rows, {shape[1]} columns, {shape[2]} numbers for the colour of each pixel.
All pictures together are one array. Its bytes, 0 to 255, are moved to &minus;1 to 1, so that grey is 0, as the mean of the noise
will be.</p>
{flow([((n, *shape), "uint8, 0 to 255"), ((n, *shape), "float32, -1 to 1")])}
{figure(run_dir / "input.png", "Some of the pictures that the network learns from.", "A sheet of the input pictures", pixels=True)}
{few}<p>{kept}</p>
{folded}</section>"""


def _noise(run_dir, config):
    train, shape = config["train"], config["data"]["shape"]
    return f"""<section id="noise">
<h2><b>2</b> Add noise</h2>
<p>The forward process needs no learning. At time t, a part &alpha;<sub>t</sub> of the picture is left and a part &sigma;<sub>t</sub> of
random noise is added:</p>
<p class="formula"><i>x<sub>t</sub></i> = &alpha;<sub>t</sub> <i>x</i><sub>0</sub> + &sigma;<sub>t</sub> &epsilon;</p>
<p>The signal-to-noise ratio &alpha;<sub>t</sub>&sup2; / &sigma;<sub>t</sub>&sup2; falls from thousands to almost nothing over
{train["T"]:,} times, along the {escape(train["schedule"])} schedule. The shape never changes. Any t can be reached in one jump, and
that makes training cheap.</p>
{flow([(shape, "picture x_0"), (shape, "noisy picture x_t")])}
{strip_figure(run_dir / "forward.png", "One picture at growing t, with the signal-to-noise ratio (SNR) under it.",
              "One picture under more and more noise")}
</section>"""


def _train(run_dir, config, log: RunLog):
    train, unet, shape = config["train"], config["unet"], config["data"]["shape"]
    batch, size = train["batch"], shape[0]
    levels = [(batch, size >> i, size >> i, unet["channels"] * mult) for i, mult in enumerate(unet["channel_mults"])]
    beside = f"{batch} times t and {batch} labels" if config["data"].get("label_names") else f"{batch} times t"
    way = [((batch, *shape), f"x_t, and {beside}"), *((level, f"level {i}, down") for i, level in enumerate(levels, start=1)),
           (levels[0], "and back up"), ((batch, *shape), f"{train['target']}, predicted")]
    weighted = WEIGHT_WORDS[train["weight"] or ("min_snr" if train["target"] in ("v", "x0") else "simple")]
    history = log.history()
    rows = "".join(_table_row(history[:i + 1], log.loss[0]) for i in range(len(history)))
    table = f"""<h3>Epoch by epoch</h3>
<table><thead><tr><th>epoch</th><th>loss</th><th>held-out</th><th>observation</th></tr></thead><tbody>{rows}</tbody></table>"""
    chart = f"""<figure>{loss_svg(log)}
<figcaption><span class="key"></span>training loss, each step and its mean<span class="key held-out"></span>held-out loss.
Across: optimizer steps. Up: the loss, on a logarithmic scale.</figcaption></figure>""" if len(log.step) else MISSING_STEPS
    sheets = "".join(figure(path, f"after epoch {int(path.stem.split('_')[1])}", f"Pictures drawn after {path.stem}", pixels=True)
                     for path in sorted((run_dir / "samples").glob("epoch_*.png")) if path.stem.split("_")[1].isdecimal())
    gallery = f"""<h3>What it can draw on the way</h3>
<p>Every sheet starts from the same noise, so the differences are what the network has learnt in between.</p>
<div class="gallery">{sheets}</div>""" if sheets else '<p class="missing">No samples have been drawn yet.</p>'
    return f"""<section id="train">
<h2><b>3</b> Train</h2>
<p>Take {batch} pictures, a random t for each, random noise. Mix them. The U-Net sees the noisy pictures and their t and predicts
{TARGET_WORDS[train["target"]]}. The loss is the mean squared distance from the truth{weighted}; its gradient moves
every weight a little, {len(log.step):,} times so far. On the way through the network a picture becomes
smaller and deeper, then grows back:</p>
{flow(way)}
{_told(config)}
{chart}
{table if history else ""}
{gallery}</section>"""


def _told(config):
    """What the network is told beside x_t and t, and what it needn't say, if anything."""
    train, labels = config["train"], config["data"].get("label_names")
    told = f"""<p>The network is also told which of {len(labels)} classes a picture is of: {escape(", ".join(labels))}. For
{train["label_dropout"]:.0%} of the pictures that is left out, so that it learns to draw without being told as well.</p>""" if labels else ""
    if config["unet"].get("self_condition"):
        told += """<p>For half of the batches it guesses twice, and the second time it sees its own first guess of x<sub>0</sub> beside
x<sub>t</sub>. When it draws, it sees its last guess at every step.</p>"""
    if train.get("gaussian"):
        told += """<p>The pictures' mean, and the directions in which they differ most, are measured, not learnt: under much noise the best guess from
them is a formula, and the network is asked only for what it leaves out; under less noise, for more and more of the whole.</p>"""
    return told


def _table_row(history, start):
    row = history[-1]
    held_out = "&ndash;" if row["held_out_loss"] is None else f"{row['held_out_loss']:.4f}"
    what, _, why = observation(history, start).partition(":")
    return f"<tr><td>{row['epoch']}</td><td>{row['loss']:.4f}</td><td>{held_out}</td><td><b>{escape(what)}</b>:{escape(why)}</td></tr>"


def _generate(run_dir, config):
    train, shape = config["train"], config["data"]["shape"]
    steps, sampler = train["steps"], escape(train["sampler"].upper())
    new = "New pictures, drawn by this run's network from random noise: the first ones that came, none picked out."
    if config["data"].get("label_names"):
        new += " Each column is of the class that is written under it."
    first = " The first step is an exception: it is taken without the network, to the mean of all pictures, varied along the main directions in " \
        "which they differ (a Gaussian start)." if train.get("gaussian") and steps > 1 else ""
    away = "" if train.get("autoguidance", 1) == 1 else " At first, while x_t is more noise than picture, each is led away " \
        "from what the network would have guessed earlier (autoguidance)."
    return f"""<section id="generate">
<h2><b>4</b> Generate</h2>
<p>The reverse process starts from an array of random numbers. At each of {steps} steps the network guesses the clean picture x<sub>0</sub>,
and the {sampler} sampler moves a little way towards that guess, to as much noise as belongs to the next, smaller t. The first guesses
are blurred, because very many pictures could lie under so much noise; each step leaves fewer.{first}{away}</p>
{flow([(shape, "random noise"), (shape, f"{steps} {sampler} steps"), (shape, "new picture, uint8")])}
{figure(run_dir / "reverse.gif", "Left: the pictures x_t on their way. Right: the guess of x_0 that is made from each.",
        "Denoising, animated")}
{strip_figure(run_dir / "reverse.png", "One picture from pure noise (left) to the end (right); below it, the guess of x_0 at that moment.",
              "Denoising, step by step")}
{figure(run_dir / "samples.png", new, "New pictures", pixels=True)}
{_neighbours(run_dir)}
</section>"""


def _neighbours(run_dir):
    """Are the new pictures copies?"""
    path = run_dir / "neighbours.json"
    told = ""
    if path.exists():
        facts = json.loads(path.read_text(encoding="utf-8"))
        samples, held_out = np.array(facts["samples"], float), np.array(facts["held_out"], float)
        told = (f"<p>Of {len(samples)} new pictures, each has its nearest training picture {np.median(samples):.1f} grey levels away (the median; "
                f"root mean square, of 255), and the nearest of all is {samples.min():.1f} away. ")
        if len(held_out):
            usual, near = np.median(held_out), int((samples < np.median(held_out) / 2).sum())
            told += (f"For {len(held_out)} held-out pictures, which the network has never seen and can't have copied, the median is {usual:.1f}. "
                     f"A new picture at less than half of that may be a copy: <b>{near or 'none'} of {len(samples)}</b> {'is' if near < 2 else 'are'}"
                     f"{', so look at the first pairs' if near else ''}.</p>")
        else:
            told += "No pictures are held out in this run, so there is nothing to compare that with: look at the pairs.</p>"
    return f"""<h3>Are they copies?</h3>
{told}
{figure(run_dir / "neighbours.png", "New pictures, each beside the training picture that it is nearest to, perhaps mirrored; the nearest first.",
        "New pictures beside their nearest training pictures", pixels=True)}"""
