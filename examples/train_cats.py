"""Trains a diffusion model on pictures of cats and draws new ones, in four stages: input, add noise, train, generate.

    python examples/train_cats.py                                  draws 1,000 cartoon cats of its own to learn from
    python examples/train_cats.py --data photos.zip --out runs/photos --minutes 30
    python examples/train_cats.py --data oxford-pets --out runs/pets           downloads photographs of cats, 810 MB, and learns from those

Read it from the top down: the four stages, one function each, are the whole of it. Below stand, each under a heading, what the stages draw with,
the words they print, the command line, and what must be there before the first stage; main, at the end, puts them together.
"""
import argparse
import faulthandler
import json
import math
import os
import shlex
import signal
import sys
import textwrap
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import numba
import numpy as np

from tinydiff.data import drawn_cats, load_images, to_model, to_uint8
from tinydiff.diffusion import SAMPLERS, SCHEDULES, TARGETS, TIME_SAMPLINGS, WEIGHTS, clip_x0, initial_noise, q_sample
from tinydiff.metrics import nearest
from tinydiff.nn import UNet, UNetConfig
from tinydiff.report import (LiveLine, Progress, denoising_frame, duration, few_pictures, gif, grid, loss_png, loss_text, neighbour_sheet, read_log,
                             strip, write_page, writes_unicode)
from tinydiff.text import one_line
from tinydiff.training import Ranks, TrainConfig, Trainer, TrainingDiverged, mean_time, measure_pace, steps_within
from tinydiff.training.config import fits
from tinydiff.training.files import whole_file
from tinydiff.training.interrupt import heed_termination, leave_at_once
from tinydiff.training.streams import INIT, NOISE

START = time.perf_counter()
PETS = "oxford-pets"                                            # in the place of a path: the photographs to download
# The networks for photographs and for the cartoons, which are simpler: a third of the weights is enough, and patches of 2 x 2 pixels seen as one.
PHOTO_NETWORK = UNetConfig()
DRAWN_NETWORK = UNetConfig(patch=2, channel_mults=(1, 2, 2))
PHOTO_BATCH, DRAWN_BATCH = 16, TrainConfig.batch
PHOTO_AUTOGUIDANCE, DRAWN_AUTOGUIDANCE = 1.5, 1.0    # the cartoons need none
PHOTO_SAMPLER, DRAWN_SAMPLER = "dpmpp_2m_sde", TrainConfig.sampler
LR = {"muon": TrainConfig.lr, "adamw": 6e-4}
SHEET_EVERY = 5       # epochs from one sheet of samples to the next
SHEET, NEW_CATS, CHUNK = 16, 64, 16     # pictures on such a sheet, on the last sheet, and in memory at once
PAIRS = 12            # new pictures that are shown beside the training pictures nearest to them
MESSAGE = 1000        # letters of an error and of a list of labels, at most
FILM, GIF_CATS, GIF_FRAMES = 8, 8, 26   # pictures in a strip; cats and frames of the animation

FILES = {"report.html": "the whole run as one page: open it in a browser", "samples.png": "new cats",
         "neighbours.png": "the training pictures that they are nearest to: are they copies?",
         "reverse.gif": "how they come out of the noise", "reverse.png": "the same as a strip",
         "samples": "sheets drawn during the training", "input.png": "what was learnt from", "forward.png": "noise being added",
         "loss.png": "the loss",
         "log.csv": "every step's figures", "config.json": "every setting", "flags.json": "what --resume goes on with",
         "checkpoint.npz": "the network"}
NEW_EACH_TIME = ("out", "resume", "threads", "mpi", "minutes")  # the flags that are not kept for --resume; what --minutes led to is kept
TRIAL, RESERVE = 0.015, 0.03    # of --minutes: spent on finding out how fast the machine is; kept for what isn't foreseen
TRIAL_STEPS = 5       # of the sampler, for the same


# The four stages.

def stage_input(image_set, out):
    """1. Pictures become one array of bytes."""
    images = image_set.images                                                               # (N,H,W,3) uint8
    say_stage(1, "Input", "{} images x {} x {} x {}".format(*images.shape))
    print(f"Every pixel is three bytes; the network sees them as numbers from -1 to 1: {shape(images)} uint8 -> float32.")
    if isinstance(images, np.memmap):
        print(one_line(f"They stay on the disk, in {images.filename}, which can be deleted when you no longer train on them."))
    if all(np.array_equal(image, images[0]) for image in images):
        print("All of them are one and the same picture: the network can learn to draw that one and nothing else.")
    if few_pictures(len(images)):
        print(few_pictures(len(images)))
    tell_skipped(image_set.skipped, out / "skipped.txt")
    grid(images[:64]).save(out / "input.png")
    print(f"Some of them: {out / 'input.png'}")


def stage_noise(trainer, out):
    """2. The forward process: x_t = alpha_t x_0 + sigma_t eps takes a picture to any t in one jump."""
    schedule = trainer.schedule
    t = np.linspace(0, schedule.T - 1, FILM)
    x_0 = to_model(trainer.train_images[:1]).repeat(FILM, axis=0)                           # (8,H,W,3)
    eps = np.random.default_rng([trainer.config.seed, NOISE]).standard_normal(x_0[:1].shape, np.float32).repeat(FILM, axis=0)
    x_t = q_sample(schedule, x_0, t, eps)
    alpha, sigma = schedule.at(t)
    snr = (alpha / sigma) ** 2
    strip(to_uint8(x_t), [f"t = {time:.0f}\nSNR {short(ratio)}" for time, ratio in zip(t, snr)]).save(out / "forward.png")
    say_stage(2, "Add noise", f"{shape(x_0[0])} -> {shape(x_t[0])}, unchanged")
    print(f"x_t = alpha_t x_0 + sigma_t eps, along the {trainer.config.schedule} schedule of {schedule.T} times:")
    print("  t    " + "".join(f"{time:>10.0f}" for time in t))
    print("  SNR  " + "".join(f"{short(ratio):>10}" for ratio in snr))
    print(f"One picture on its way: {out / 'forward.png'}")


def stage_train(trainer, out):
    """3. The network sees x_t and t and learns to say what is noise and what is picture."""
    config = trainer.config
    batch = (min(config.batch, len(trainer.train_images)), *trainer.train_images.shape[1:])
    weights = sum(parameter.size for parameter in trainer.model.parameters())
    labels = f", {batch[:1]} labels y" if trainer.label_names else ""
    say_stage(3, "Train", f"{batch} and {batch[:1]} times t{labels} -> U-Net -> {batch} {config.target}")
    whole = trainer.total_steps == config.epochs * trainer.steps_per_epoch
    print(f"{len(trainer.train_images)} pictures to learn from, {len(trainer.held_out_images)} held out; {weights:,} weights; "
          f"{config.epochs} epochs of {trainer.steps_per_epoch} steps" + ("" if whole else f", the last cut short: {trainer.total_steps:,} steps"))
    if trainer.gaussian is not None:
        print(f"Under much noise a formula knows nearly all of {config.target} that can be known, from the pictures' mean and the "
              f"{len(trainer.gaussian.deviations)} directions in which they differ most. The network is asked for the rest.")
    if trainer.label_names:
        names = textwrap.shorten(", ".join(trainer.label_names), MESSAGE, placeholder=" ...")
        print(f"Each has a label, left out {config.label_dropout:.0%} of the time: {names}")
    if trainer.model.self_condition:
        print("For half of the batches the network guesses twice, and the second time sees its own first guess of x_0.")
    if trainer.global_step == trainer.total_steps:
        print(f"This run is finished: all {trainer.total_steps} steps are done. More --epochs would go on with it; now its pictures are drawn again.")
    elif trainer.global_step:
        print(f"Going on after step {trainer.global_step} of {trainer.total_steps}.")
    if len(trainer.history) < trainer.global_step:
        print(f"log.csv has only {len(trainer.history)} of these steps: the others are missing in the table and the chart.")
    progress = Progress(trainer.total_steps, config.epochs, trainer.epoch_rows(), trainer.history[0]["loss"] if trainer.history else None)

    def after_epoch(_, row):
        progress.epoch(row)
        draw_sheet_if_due(trainer, out)
        if trainer.ranks.rank == 0 and trainer.global_step < trainer.total_steps:
            report(out, progress.seconds_left)

    if trainer.global_step:
        draw_sheet_if_due(trainer, out)                                                     # the run was stopped while it was being drawn
    trainer.fit(on_step=lambda _, row: progress.step(row), on_epoch=after_epoch)
    if trainer.ranks.rank == 0 and trainer.history:
        print(loss_text(read_log(out / "log.csv"), unicode=writes_unicode(sys.stdout)))
        print(f"The chart as a picture: {out / 'loss.png'}")


def stage_generate(trainer, out):
    """4. The reverse process: from noise alone, a guess of x_0, a small step towards it, and again."""
    config = trainer.config
    cats = (whole_rows(trainer, NEW_CATS), *trainer.train_images.shape[1:])
    say_stage(4, "Generate", f"{cats} noise -> {config.steps} {config.sampler} steps -> {cats}")
    if trainer.gaussian is not None and config.steps > 1:
        print("The first step is taken without the network: it makes of the noise the mean picture, varied along the main directions in which the "
              f"pictures differ ({len(trainer.gaussian.deviations)}).")
    if config.autoguidance != 1 and trainer.weak is not None:
        print(f"Autoguidance: what the network has learnt since an early part of the run counts {config.autoguidance:g} times, "
              "while x_t is more noise than picture.")
    new_cats = draw(trainer, cats[0])
    if trainer.ranks.rank > 0:
        return
    sheet(trainer, new_cats).save(out / "samples.png")
    compare(trainer, new_cats, out)
    film(trainer, out)
    report(out)


# What the stages draw with.

def sheet(trainer, pictures):
    """A sheet of new pictures (N,H,W,3) uint8; from a network that knows classes, with a column for each."""
    names = trainer.label_names
    return strip(pictures.reshape(-1, len(names), *pictures.shape[1:]), names) if names else grid(pictures)


def draw_sheet_if_due(trainer, out):
    """After every SHEET_EVERY epochs, and after the last one, what the network can draw by now, and whether these are copies."""
    if trainer.epoch_done and (trainer.epoch % SHEET_EVERY == 0 or trainer.global_step == trainer.total_steps):
        new_cats = draw(trainer, whole_rows(trainer, SHEET))
        if trainer.ranks.rank == 0:
            sheet(trainer, new_cats).save(out / "samples" / f"epoch_{trainer.epoch:03d}.png")
            compare(trainer, new_cats, out)


def compare(trainer, pictures, out):
    """Are they copies? neighbours.png shows the training pictures that they are nearest to; neighbours.json holds how near.

    What is near is told by pictures that were held out, which the network can't have copied: as many of them, at most.
    """
    line, held_out = LiveLine(), trainer.held_out_images[:len(pictures)]
    line.show(["looking for the nearest training pictures"])
    found = nearest(np.concatenate([pictures, held_out]), trainer.train_images)
    line.clear()
    distances, closest = found.distance[:len(pictures)], found.of(trainer.train_images)
    pairs = np.argsort(distances, kind="stable")[:PAIRS]
    neighbour_sheet(pictures[pairs], closest[pairs], distances[pairs]).save(out / "neighbours.png")
    facts = {"samples": distances.tolist(), "held_out": found.distance[len(pictures):].tolist()}
    with whole_file(out / "neighbours.json") as file:
        file.write(json.dumps(facts).encode() + b"\n")


def whole_rows(trainer, n):
    """n, or, where there are classes, about as many pictures that make whole rows with one of each."""
    classes = len(trainer.label_names) or 1
    return max(1, n // classes) * classes


def draw(trainer, n):
    """The first n pictures of this seed, (n,H,W,3) uint8. The same noise each time, so sheets can be compared.

    Each rank draws its part, and rank 0 gets all; the others get None.
    """
    size, own, chunks = trainer.train_images.shape[1:], range(n)[trainer.ranks.part(n)], []
    for first in own[::CHUNK]:
        x = initial_noise(trainer.schedule, (min(CHUNK, own.stop - first), *size), trainer.config.seed, first)
        for step in sampler_steps(trainer, x, f"drawing {first + 1} to {first + len(x)} of {n}", first):
            x = step.x
        chunks.append(to_uint8(x))
    chunks = trainer.ranks.gather(chunks)
    return np.concatenate(chunks) if trainer.ranks.rank == 0 else None


def sampler_steps(trainer, x_T, doing, first=0):
    """The steps of the run's sampler with the averaged network, its guesses clipped to what a picture can be; with a live line.

    A network that knows classes draws one after the other, from the first again after the last.
    """
    config, line, names = trainer.config, LiveLine(), trainer.label_names
    labels = np.arange(first, first + len(x_T)) % len(names) if names else None
    denoise = clip_x0(trainer.denoiser(labels))
    steps = trainer.sampler(denoise, trainer.schedule, x_T, config.steps, config.seed, first=first)
    for number, step in enumerate(steps, start=1):
        line.show([doing, f"step {number}/{config.steps}"])
        yield step
    line.clear()


def film(trainer, out):
    """How new pictures come out of the noise: the first one as a strip, GIF_CATS of them as an animation."""
    size, schedule = trainer.train_images.shape[1:], trainer.schedule
    t, x, moments = schedule.T - 1, initial_noise(schedule, (GIF_CATS, *size), trainer.config.seed), []
    for step in sampler_steps(trainer, x, "filming"):
        moments.append((t, to_uint8(x), to_uint8(step.x0)))                                 # x_t, and the guess made from it
        t, x = step.t, step.x
    moments.append((t, to_uint8(x), to_uint8(x)))

    shown = [moments[i] for i in spread(len(moments), FILM)]
    rows = np.stack([[x_t[0] for _, x_t, _ in shown], [x_0[0] for _, _, x_0 in shown]])     # (2,8,H,W,3)
    captions = [f"t = {t:.0f}" if t >= 0 else "the end" for t, _, _ in shown]
    strip(rows, captions, ["x_t: the picture on its way from noise", "x_0: the guess made from it"]).save(out / "reverse.png")
    chosen = spread(len(moments), GIF_FRAMES)
    gif((denoising_frame(moments[i][1], moments[i][2], moments[i][0], i / (len(moments) - 1)) for i in chosen), out / "reverse.gif")


def report(out, seconds_left=None):
    """The chart and the page, as far as the run has come; the page of a run that goes on loads itself anew."""
    log = read_log(out / "log.csv")
    if len(log.step):                                                                       # not where that of a finished run was moved away
        loss_png(log, out / "loss.png")
    write_page(out, seconds_left)


def spread(n, most):
    """At most `most` indices of n, evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, n - 1, most).round().astype(int))


# The words they print.

def say_stage(number, name, flows):
    print(f"\n{number}. {name}: {flows}\n" + "-" * (len(name) + 3), flush=True)


def tell_skipped(skipped, path):
    """Names the files that could not be read: the first of them here, all of them, one a line, in the file at path."""
    if not skipped:
        print("No file had to be skipped.")
    else:
        what = "1 file could not be read and was" if len(skipped) == 1 else f"{len(skipped)} files could not be read and were"
        print(f"{what} skipped (see {path}):")
        for name, reason in skipped[:5]:
            print(one_line(f"  {name}: {reason}"))
        if len(skipped) > 5:
            print(f"  ... and {len(skipped) - 5} more")
    lines = [one_line(f"{name}: {reason}") + "\n" for name, reason in skipped]
    path.write_text("".join(lines), encoding="utf-8")


def short(ratio):
    """A signal-to-noise ratio in few characters."""
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.2g}" if ratio >= 0.001 else "< 0.001"


def shape(array):
    """(16, 64, 64, 3)"""
    return "(" + ", ".join(map(str, array.shape)) + ")"


# The command line.

class Parser(argparse.ArgumentParser):
    """Says what is wrong with a flag in one line."""
    def error(self, message):
        if len(message) > MESSAGE:                          # a damaged file, told in full
            message = f"{message[:MESSAGE // 2]} ... {message[-MESSAGE // 2:]}"
        self.exit(2, f"{self.prog}: error: {one_line(message)}\n")


def parser():
    p = Parser(description="Train a diffusion model on cat pictures and draw new cats.")

    def flag(name, default, metavar, words, kind=None, **more):
        p.add_argument(name, default=default, type=kind or type(default), metavar=metavar, help=f"{words} (%(default)s)", **more)

    run = TrainConfig()
    p.add_argument("--data", type=lambda text: PETS if text == PETS and not Path(text).exists() else Path(text), metavar="PATH",
                   help=f"a folder, .zip or .tar[.gz] of pictures; {PETS}: photographs, 810 MB to download; without it, cartoon cats are drawn")
    flag("--images", 1000, "N", "how many pictures to use, at most")
    flag("--size", 64, "PIXELS", "pictures are cropped to squares and resized to this; a multiple of 8")
    p.add_argument("--epochs", type=int, metavar="N", help=f"times that each picture is seen ({run.epochs}; with --minutes, as many as fit)")
    p.add_argument("--minutes", type=float, metavar="N", help="as many epochs as fit into this time, from start to exit, on this machine")
    p.add_argument("--max-steps", type=int, metavar="N", help="end after so many steps, if the epochs have more")
    p.add_argument("--batch", type=int, metavar="N", help=f"pictures in a training step ({PHOTO_BATCH} with --data; {DRAWN_BATCH} for the cartoons)")
    p.add_argument("--micro-batch", type=int, metavar="N", help="pictures of a step that are worked on at once: less memory (all)")
    p.add_argument("--recompute", action="store_true", help="half the memory for a third more time: for larger pictures")
    p.add_argument("--bfloat16", action=argparse.BooleanOptionalAction, default=False,
                   help="train with rounded numbers, which is faster: on Intel Xeons with AMX, under Linux")
    flag("--optimizer", run.optimizer, None, "what moves the weights", choices=list(LR))
    rates = ", ".join(f"{lr:g} for {name}" for name, lr in LR.items())
    p.add_argument("--lr", type=float, metavar="RATE", help=f"highest learning rate ({rates})")
    flag("--channels", UNetConfig.channels, "N", "width of the U-Net; a multiple of 8")
    p.add_argument("--patch", type=int, metavar="PIXELS",
                   help=f"a side, that the network takes as one ({PHOTO_NETWORK.patch} with --data; {DRAWN_NETWORK.patch} for the cartoons)")
    p.add_argument("--classes", action="store_true", help="tell the network what it sees: the cartoons' fur, or the folder that a picture lies in")
    p.add_argument("--self-condition", action="store_true", help="show the network its own last guess")
    flag("--schedule", run.schedule, None, "how the noise grows with t", choices=list(SCHEDULES))
    flag("--target", run.target, None, "what the network predicts", choices=list(TARGETS))
    p.add_argument("--weight", choices=list(WEIGHTS), help="how much the loss counts at each t (min_snr with the targets v and x0, else simple)")
    flag("--time-sampling", run.time_sampling, None, "how the times t to train on are drawn", choices=list(TIME_SAMPLINGS))
    flag("--offset-noise", run.offset_noise, "STRENGTH", "noise that a whole channel shares, 0.1 for darker and brighter pictures")
    p.add_argument("--learn-variance", action="store_true", help="the network also learns how much noise a step of ddpm should add")
    p.add_argument("--sampler", choices=list(SAMPLERS),
                   help=f"how new pictures are drawn ({PHOTO_SAMPLER} with --data; {DRAWN_SAMPLER} for the cartoons)")
    flag("--steps", run.steps, "N", "steps from noise to a new picture")
    p.add_argument("--gaussian", action=argparse.BooleanOptionalAction, help="the pictures' mean, and the directions in which they differ most, are "
                   "not learnt but measured, and the first of these steps is taken by them alone (with --data, but for --classes and --offset-noise)")
    p.add_argument("--autoguidance", type=float, metavar="SCALE",
                   help="lead new pictures away from what the network would have drawn after a quarter of the run; drawing takes half as long "
                   f"again; 1: off ({PHOTO_AUTOGUIDANCE:g} with --data; {DRAWN_AUTOGUIDANCE:g} for the cartoons)")
    flag("--held-out", run.held_out, "PART", "part of the pictures that is never trained on, 0 to below 1")
    flag("--seed", run.seed, "N", "of everything random: the same seed gives the same run")
    p.add_argument("--threads", type=int, metavar="N", help="processor threads; without it NUMBA_NUM_THREADS, or all cores, shared by the ranks")
    flag("--out", Path("runs/cats"), "FOLDER", "where everything is written", Path)
    p.add_argument("--resume", action="store_true", help="go on with the run in --out, with the flags that it was started with")
    add_mpi(p)
    return p


def add_mpi(p):
    p.add_argument("--mpi", nargs="?", const="free", choices=["free", "ordered"],
                   help="share the work with the other processes that mpiexec has started; ordered: sums of gradients have the same bits each time")


def parse(flags):
    """The flags of the command line; with --resume those that it doesn't give are what they were."""
    args = flags.parse_args()
    kept = args.out / "flags.json"
    if args.resume and kept.exists():
        try:
            was = json.loads(kept.read_text(encoding="utf-8"))
            if not fits(was, list[str]):
                raise ValueError("not a list of words")
        except (OSError, RecursionError, ValueError) as error:
            flags.error(f"{kept} is damaged ({error}); remove it, and give the flags that the run was started with")
        args = flags.parse_args([*was, *sys.argv[1:]])
    elif args.resume and args.out.is_dir():
        print(f"{kept} is missing: only the flags given now are known", file=sys.stderr)
    return args


def kept_flags(args):
    """What `parse` will need for --resume, as on the command line."""
    words = []
    for name, value in vars(args).items():
        if name not in NEW_EACH_TIME and value is not None and (value is not False or name == "gaussian"):
            words.append(("--no-" if value is False else "--") + name.replace("_", "-"))
            words += [] if isinstance(value, bool) else [str(value.resolve() if name == "data" and value != PETS else value)]
    return words


def again(args, ranks):
    """The command that goes on with this run."""
    launch = ["mpiexec", "-n", str(ranks.size)] if args.mpi else []
    lost = [] if (args.out / "flags.json").exists() else kept_flags(args)                  # with the whole folder
    return shlex.join([*launch, "python", sys.argv[0], "--out", str(args.out), "--resume", *lost, *(["--mpi", args.mpi] if args.mpi else [])])


# Before the first stage: who works, on which pictures, with which network.

def begin(args, stack):
    """The pictures and the trainer that the flags ask for. Raises ImportError, OSError or ValueError, with what to do, where that can't be."""
    ranks = join(args.mpi)
    if ranks.size > 1 and args.data == PETS:
        with ranks.together():
            if ranks.rank == 0:
                read_pictures(args)                                                         # downloads them, for all
    with ranks.together():
        image_set, trainer = prepare(args, ranks, stack)
    ranks.heed_interrupt()
    return image_set, trainer


def mend_stdout():
    """So that print never fails for what is printed, and not where whoever has started this has closed the standard output."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")
    sys.stdout.reconfigure(errors="replace")          # a file's name may hold letters that this terminal doesn't have


def join(mpi):
    """The ranks that share the work, as --mpi asks for; only rank 0 prints. Raises ImportError, with what to do, where there is no MPI."""
    if mpi is None:
        return Ranks()
    from tinydiff.mpi import start
    ranks = start(ordered=mpi == "ordered")
    if ranks.rank > 0:
        sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")
    return ranks


def prepare(args, ranks, stack):
    """The pictures and the trainer of this rank, the trainer's folder being open until `stack` closes it."""
    use_threads(args.threads)
    config, unet = settings(args)
    if not args.resume and any((args.out / name).exists() for name in ("checkpoint.npz", "checkpoint.previous.npz")):
        raise ValueError(f"{args.out} already holds a run: --resume goes on with it, another --out starts a new one")
    if args.resume and args.minutes is not None:
        raise ValueError("--minutes is for the start of a run; what it led to, --epochs and --max-steps, is kept, and more of both would go on")
    image_set = read_pictures(args)
    if args.classes and image_set.labels is None:
        raise ValueError(f"--classes: the pictures in {args.data} have no labels; put each class into a folder of its own, all side by side")
    if args.classes:
        unet = replace(unet, num_classes=len(image_set.label_names))
    if args.resume:
        try:
            trainer = Trainer.resume(image_set, args.out, ranks, config, unet)
        except FileNotFoundError as error:
            raise ValueError(f"{error}: there is nothing to go on with; start without --resume") from error
    else:
        if args.minutes is not None:
            config = fit_into(args, image_set, config, unet, ranks)
            args.epochs, args.max_steps = config.epochs, config.max_steps
        trainer = new_trainer(args, image_set, config, unet, ranks)
    if ranks.rank == 0:
        try:
            stack.enter_context(trainer.folder.open(trainer))
            (args.out / "samples").mkdir(exist_ok=True)
            with whole_file(args.out / "flags.json") as file:
                file.write(json.dumps(kept_flags(args), indent=0).encode() + b"\n")
        except OSError as error:
            raise OSError(f"{args.out} can't be written ({error.strerror}); give another --out") from error
    return image_set, trainer


def new_trainer(args, image_set, config, unet, ranks):
    return Trainer(UNet(unet, rng=np.random.default_rng([args.seed, INIT])), image_set, config, args.out, ranks)


def fit_into(args, image_set, config, unet, ranks):
    """The config with as many steps as --minutes leave time for, beside all else that a run does. Found out by working a little; says what to expect.

    Raises ValueError where not even one epoch fits.
    """
    if args.epochs is not None or args.max_steps is not None:
        raise ValueError("--minutes finds --epochs and --max-steps itself: give the time, or the others")
    if not args.minutes > 0:
        raise ValueError(f"--minutes is {args.minutes:g}; it must be above 0")
    line = LiveLine()
    line.show(["trying out how fast this machine is"])
    trial = new_trainer(args, image_set, replace(config, steps=min(TRIAL_STEPS, config.steps)), unet, ranks)
    trial.weak = trial.ema.model                            # drawing takes about as long as it will when there is one
    seconds = 60 * args.minutes
    pace = measure_pace(trial, TRIAL * seconds)
    sheet = mean_time(trial, lambda: draw(trial, whole_rows(trial, SHEET))) * config.steps / trial.config.steps
    line.clear()

    def drawing(epochs):
        return sheet * (epochs // SHEET_EVERY + (epochs % SHEET_EVERY > 0) + (NEW_CATS + GIF_CATS) / SHEET)

    left = ranks.total((1 - RESERVE) * seconds - (time.perf_counter() - START)) / ranks.size
    steps = steps_within(left, pace, trial.steps_per_epoch, drawing)
    if steps < trial.steps_per_epoch:
        need = (seconds - left + trial.steps_per_epoch * pace.step + pace.epoch + drawing(1)) / (1 - TRIAL - RESERVE) / 60
        raise ValueError(f"--minutes {args.minutes:g} is too short: one epoch of {len(trial.train_images)} pictures takes "
                         f"{duration(trial.steps_per_epoch * pace.step)} here and the new pictures after it {duration(drawing(1))}, so take at "
                         f"least {math.ceil(10 * need) / 10:g} minutes, or fewer --images")
    epochs = math.ceil(steps / trial.steps_per_epoch)
    now, end = time.localtime(), time.localtime(time.time() + left)
    drawn = time.localtime(time.time() + left - sheet * (1 + (NEW_CATS + GIF_CATS) / SHEET))
    print(f"{args.minutes:g} minutes are enough for {steps:,} steps, {steps / trial.steps_per_epoch:.1f} epochs, at "
          f"{config.batch / pace.step:.1f} pictures a second. The training ends at about {time.strftime('%H:%M', drawn)}, all at "
          f"{time.strftime('%H:%M', end)}; now it is {time.strftime('%H:%M', now)}.", flush=True)
    return replace(config, epochs=epochs, max_steps=steps)


def settings(args):
    """The flags as a TrainConfig and, but for the number of classes, a UNetConfig."""
    photos, drawn = (PHOTO_BATCH, PHOTO_SAMPLER, PHOTO_AUTOGUIDANCE), (DRAWN_BATCH, DRAWN_SAMPLER, DRAWN_AUTOGUIDANCE)
    given = (args.batch, args.sampler, args.autoguidance)
    batch, sampler, autoguidance = (usual if flag is None else flag for flag, usual in zip(given, photos if args.data else drawn))
    gaussian = args.gaussian
    if gaussian is None:
        gaussian = bool(args.data) and not (args.classes or args.offset_noise)
    config = TrainConfig(epochs=TrainConfig.epochs if args.epochs is None else args.epochs, max_steps=args.max_steps, batch=batch,
                         micro_batch=args.micro_batch, recompute=args.recompute, bfloat16=args.bfloat16,
                         optimizer=args.optimizer, lr=LR[args.optimizer] if args.lr is None else args.lr,
                         schedule=args.schedule, target=args.target, weight=args.weight,
                         time_sampling=args.time_sampling, offset_noise=args.offset_noise, sampler=sampler, steps=args.steps,
                         gaussian=gaussian, autoguidance=autoguidance, held_out=args.held_out, seed=args.seed)
    if args.channels < 1 or args.channels % UNetConfig.groups:
        raise ValueError(f"--channels is {args.channels}; it must be a multiple of {UNetConfig.groups}, the groups of every GroupNorm")
    network = PHOTO_NETWORK if args.data else DRAWN_NETWORK
    return config, replace(network, image_size=args.size, patch=network.patch if args.patch is None else args.patch, channels=args.channels,
                           out_channels=2 * UNetConfig.in_channels if args.learn_variance else None, self_condition=args.self_condition)


def read_pictures(args):
    """The pictures that the flags ask for, with a live line while they are read."""
    line = LiveLine()

    def say(words):
        line.clear()
        print(words, flush=True)

    try:
        if args.data == PETS:
            from tinydiff.data.oxford_pets import load_oxford_pets
            return load_oxford_pets(args.size, args.images, say=say, progress=lambda words: line.show([words]))
        if args.data:
            return load_images(args.data, args.size, args.images, progress=lambda n, most: line.show([f"reading pictures: {n:,} of {most:,}"]))
        return drawn_cats(args.images, args.size, args.seed)
    finally:
        line.clear()


def use_threads(threads):
    """Takes so many threads, at most those that Numba was started with: all cores, or NUMBA_NUM_THREADS. None: leaves them as they are."""
    if threads is not None and threads < 1:
        raise ValueError(f"--threads is {threads}; it must be at least 1")
    most, cores = numba.config.NUMBA_NUM_THREADS, os.cpu_count() or 1
    threads = threads or numba.get_num_threads()
    if threads > cores:
        print(f"warning: {threads} threads on {cores} cores will only get in each other's way", file=sys.stderr)
    if threads > most:
        print(f"warning: using {most} threads; NUMBA_NUM_THREADS={threads} would allow {threads}", file=sys.stderr)
    numba.set_num_threads(min(threads, most))


# All of it together.

def say_stopped(trainer, args):
    """What is left of a run that was stopped, and how it goes on."""
    if trainer.ranks.rank > 0:
        return
    if not trainer.global_step:
        print("\nStopped before the first step: there is nothing to save yet.", flush=True)
        return
    print(f"\nStopped at step {trainer.global_step} of {trainer.total_steps}. All is saved; go on with\n  {again(args, trainer.ranks)}", flush=True)
    report(args.out)


def exit_status(stop):
    """What a shell expects of a program that was stopped: 130 after Ctrl-C, 143 after SIGTERM."""
    return 128 + getattr(stop, "number", signal.SIGINT)


def main():
    heed_termination()
    mend_stdout()
    if sys.stderr is not None:
        faulthandler.enable()                         # what no except can catch, as a mapped file that is cut off meanwhile, isn't silent either
    flags = parser()
    args = parse(flags)
    with ExitStack() as stack:
        try:
            image_set, trainer = begin(args, stack)
        except (ImportError, OSError, TrainingDiverged, ValueError) as error:
            flags.error(str(error))
        except MemoryError as error:
            flags.error(f"there is not enough memory for these pictures or this network ({error}): take fewer, or smaller ones")
        except KeyboardInterrupt as stop:
            sys.exit(exit_status(stop))
        run(image_set, trainer, args)


def run(image_set, trainer, args):
    """The four stages; where they end early, what is left and how it goes on."""
    try:
        with trainer.ranks.together():
            if trainer.ranks.rank == 0:
                stage_input(image_set, args.out)
                stage_noise(trainer, args.out)
            stage_train(trainer, args.out)
            stage_generate(trainer, args.out)
        print("\nEverything is here:")
        for name, what in FILES.items():
            print(f"  {str(args.out / name):<{len(str(args.out)) + 16}} {what}")
        sys.stdout.flush()
    except TrainingDiverged as error:
        if trainer.ranks.rank == 0 and trainer.history:
            report(args.out)
        sys.exit(f"\n{error}")
    except MemoryError as error:
        sys.exit(f"\nThere is not enough memory ({error}): try a lower --micro-batch or --recompute in a new run, smaller pictures, or other "
                 f"programs closed and\n  {again(args, trainer.ranks)}")
    except OSError as error:
        sys.exit(f"\n{error}" + (f"\nWhen that is mended, go on with\n  {again(args, trainer.ranks)}" if trainer.global_step else ""))
    except KeyboardInterrupt as stop:
        with leave_at_once(), suppress(OSError):                                            # its terminal may be gone
            say_stopped(trainer, args)
        sys.exit(exit_status(stop))


if __name__ == "__main__":
    main()
