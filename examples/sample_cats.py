"""Draws pictures with a network that examples/train_cats.py has trained: new ones, or ones that start from pictures there are.

    python examples/sample_cats.py                                       64 new cats from the network in runs/cats; where nothing was trained
                                                                         yet, 16 from the one that comes with tinydiff, with a film
    python examples/sample_cats.py --count 10000 --seed 1 --sampler ddim --steps 25 --out many
    python examples/sample_cats.py --label ginger --guidance 3           where the network was trained with labels
    python examples/sample_cats.py --inpaint cat:7 --mask left           the left half painted anew, 8 times
    python examples/sample_cats.py --image my_drawing.png --from 700     made noisy up to t = 700, and back
    python examples/sample_cats.py --variations cat:7
    python examples/sample_cats.py --interpolate cat:7 cat:8 --frames 12 --gif

PICTURE is a file, or cat:N, a cartoon cat that is drawn for you. Each picture is written to --out as a file of its own, a chunk at a time, so
that memory doesn't grow with --count; sheet.png shows the first ones. Read this file from the top down: the network, then the
ways to start, one function each, then the drawing; what the flags say comes last.
"""
import sys
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

from tinydiff.data import drawn_cats, load_image, to_model, to_uint8
from tinydiff.diffusion import (SAMPLERS, SCHEDULES, autoguide, clip_x0, ddim_invert, denoiser, dynamic_threshold, gaussian_start, guide,
                                initial_noise, noised_start, repaint, slerp, timesteps)
from tinydiff.report import LiveLine, denoising_frame, gif, grid
from tinydiff.training import load_checkpoint, load_pretrained
from tinydiff.training.interrupt import heed_termination

from train_cats import GIF_CATS, GIF_FRAMES, Parser, add_mpi, exit_status, join, mend_stdout, spread, use_threads

RUN = Path("runs/cats")
CHUNK, SHEET = 16, 64                 # pictures in memory at once, and on sheet.png
COUNT, COUNT_FROM, COUNT_PRETRAINED = 64, 8, 16     # new pictures; those that start from one; and with the network that comes with tinydiff
IMAGE_FROM, VARIATIONS_FROM = 0.7, 0.5     # of T
THRESHOLDS = {"clip": clip_x0, "dynamic": dynamic_threshold, "none": lambda denoise: denoise}
MASKS = {"left": np.s_[:, :1], "right": np.s_[:, 1:], "top": np.s_[:1], "bottom": np.s_[1:]}     # what is painted, of 2 x 2 quarters
# The ways to start, each with the flags that not all of them have.
FLAGS = {"inpaint": ("count", "spacing", "mask", "resamples", "jump"), "image": ("count", "from"), "variations": ("count", "from"),
         "interpolate": ("frames", "spacing"), "new": ("count", "spacing")}


class Network:
    """A trained network with all that the flags say about drawing with it."""

    def __init__(self, args):
        try:
            saved = load_checkpoint(args.run) if args.run else load_pretrained()
        except FileNotFoundError as error:
            raise ValueError(f"{error}: train one first (python examples/train_cats.py), or give --run the folder of a run, or its "
                             "checkpoint.npz") from None
        self.crc32 = zlib.crc32(saved.path.read_bytes())
        self.model, self.weak, self.target = saved.ema.model.eval(), saved.weak, saved.config.target
        self.schedule, self.size = SCHEDULES[saved.config.schedule](saved.config.T), saved.model.config.image_size
        self.sampler = or_else(args.sampler, "ddim" if args.interpolate else saved.config.sampler)
        self.steps, self.autoguidance = or_else(args.steps, saved.config.steps), or_else(args.autoguidance, saved.config.autoguidance)
        self.times = timesteps(self.schedule, self.steps, or_else(args.spacing, "trailing"))
        starts_as_noise = args.spacing or args.inpaint or args.interpolate or self.steps == 1  # and the network takes all steps
        self.gaussian, self.start = saved.gaussian, None if starts_as_noise else saved.gaussian
        if self.weak is None and args.autoguidance not in (None, 1):
            raise ValueError(f"--autoguidance: {saved.path} holds no network of an earlier time, which it would lead away from")
        self.seed, self.threshold, self.guidance, self.rescale, self.label = args.seed, args.threshold, args.guidance, args.rescale, None
        if args.label is not None:
            names = saved.data.get("label_names", [])
            if args.label not in names:
                raise ValueError(f"--label {args.label}: " + (f"choose one of {', '.join(names)}" if names else "this network knows no labels"))
            self.label = names.index(args.label)
        elif args.guidance != 1:
            raise ValueError("--guidance leads to a label: give one with --label")

    def denoise(self, n):
        """The denoiser for n pictures."""
        denoise = self.autoguided(None)
        if self.label is not None:
            denoise = guide(self.autoguided(np.full(n, self.label)), denoise, self.guidance, self.rescale)
        return THRESHOLDS[self.threshold](denoise)

    def autoguided(self, y):
        """The network's denoiser for labels y, or none, led away from that of the same network at an earlier time."""
        strong, weak = (net and denoiser(net, self.schedule, self.target, y, gaussian=self.gaussian) for net in (self.model, self.weak))
        return autoguide(strong, weak, self.schedule, self.autoguidance) if weak else strong

    def noise(self, first, n):
        """x_T (n,H,W,3) of pictures first to first+n-1."""
        return initial_noise(self.schedule, (n, self.size, self.size, 3), self.seed, first)

    def sample(self, x, steps, first):
        """The steps of the sampler from x, the pictures from number `first` on. A number of steps may have a Gaussian start, given times never do."""
        sampler = gaussian_start(SAMPLERS[self.sampler], None if np.ndim(steps) else self.start)
        return sampler(self.denoise(len(x)), self.schedule, x, steps, self.seed, first=first)


# The ways to start. Each gives a function (first, n) -> the x that pictures first to first+n-1 start from, and the steps from there.

def new(network):
    def start(first, n):
        x_T = network.noise(first, n)
        return x_T, network.sample(x_T, network.steps if network.start else network.times, first)
    return start


def inpaint(network, picture, keep, jump, resamples):
    def start(first, n):
        x_T, known = network.noise(first, n), to_model(picture[None]).repeat(n, axis=0)
        return x_T, repaint(network.denoise(n), network.schedule, x_T, known, keep, network.times, network.seed,
                            jump_length=jump, resamples=resamples, first=first)
    return start


def image_to_image(network, picture, t):
    """Also variations: the copies get different noise. From t it takes the part of the steps that lies below t."""
    steps = max(1, int(network.steps * (t + 1) / network.schedule.T))

    def start(first, n):
        x_t, times = noised_start(network.schedule, to_model(picture[None]).repeat(n, axis=0), t, steps, network.seed, first=first)
        return x_t, network.sample(x_t, times, first)
    return start


def interpolate(network, pictures, frames):
    """(2,H,W,3) pictures. With a sampler that draws no noise of its own, the first and the last frame are the two pictures again."""
    line = LiveLine()
    for step in ddim_invert(network.denoise(2), network.schedule, to_model(pictures), network.times):
        line.show(["looking for the noise that they come from", f"at t = {step.t:.0f}"])
    line.clear()
    a, b = step.x

    def start(first, n):
        fractions = np.linspace(0, 1, frames)[first:first + n]
        x_T = slerp(a[None].repeat(n, axis=0), b[None].repeat(n, axis=0), fractions)
        return x_T, network.sample(x_T, network.times, first)
    return start


def draw(start, count, out, film, ranks):
    """Draws `count` pictures, a chunk on each rank at a time; rank 0 writes them.

    Returns, on rank 0, the first of them, a list of (H,W,3) uint8, and, for a film, what happened on the way to the very first.
    """
    line, shown, moments, every = LiveLine(), [], [], 1
    for done in range(0, count, CHUNK * ranks.size):
        now = range(done, min(done + CHUNK * ranks.size, count))
        own = now[ranks.part(len(now))]
        first, n = own.start, len(own)
        x, steps = start(first, n) if own else ([], [])
        for number, step in enumerate(steps):
            line.show([f"drawing {first + 1} to {first + n} of {count}", f"step {number + 1}", f"at t = {step.t:.0f}"])
            if film and first == 0 and number % every == 0:
                moments.append((to_uint8(x[:GIF_CATS]), to_uint8(step.x0[:GIF_CATS]), step.t))
                if len(moments) == 4 * GIF_FRAMES:              # a film of any number of steps fits in memory
                    moments, every = moments[::2], 2 * every
            x = step.x
        pictures = list(to_uint8(x)) if own else []
        if film and first == 0:
            moments.append((np.stack(pictures[:GIF_CATS]),) * 2 + (-1,))
        pictures = ranks.gather(pictures)
        for i, picture in enumerate(pictures, start=done):
            Image.fromarray(picture).save(out / f"{i:06d}.png")
        shown += pictures[:max(0, SHEET - done)]
    line.clear()
    return shown, moments


def or_else(value, default):
    """The value of a flag, or the default where it wasn't given."""
    return default if value is None else value


def picture_from(text, size):
    """The picture that a flag names: (size,size,3) uint8."""
    kind, _, number = text.partition(":")
    return drawn_cats(1, size, seed=int(number)).images[0] if kind == "cat" and number.isdecimal() else load_image(text, size)


def mask_from(text, size):
    """(size,size) bool, True where the picture is kept: white in a file; the other half, for a name."""
    if text not in MASKS:
        return load_image(text, size).mean(axis=2) > 127
    quarters = np.ones((2, 2), bool)
    quarters[MASKS[text]] = False
    return quarters.repeat(size // 2, axis=0).repeat(size // 2, axis=1)


def parser():
    p = Parser(description="Draw pictures with a network that train_cats.py has trained.")
    p.add_argument("--run", type=Path, metavar="PATH",
                   help=f"the folder of a run, or its checkpoint.npz ({RUN}; where that isn't there, the network that comes with tinydiff)")
    p.add_argument("--out", type=Path, metavar="FOLDER", help="a new folder for the pictures (that of the run, and in it drawn; runs/drawn)")
    p.add_argument("--sampler", choices=list(SAMPLERS), help="(the run's; ddim with --interpolate, whose noise DDIM finds)")
    p.add_argument("--steps", type=int, metavar="N", help="steps from noise to a picture (the run's)")
    p.add_argument("--spacing", metavar="NAME", help="how the steps are spread over all t, one of timesteps' names (trailing; no Gaussian start)")
    p.add_argument("--count", type=int, metavar="N", help="how many (64; 8 that start from one; 16 of the network that comes with tinydiff)")
    p.add_argument("--seed", type=int, default=0, metavar="N", help="the same seed draws the same pictures (%(default)s)")
    p.add_argument("--label", metavar="NAME", help="what to draw, for a network that was trained with labels")
    p.add_argument("--guidance", type=float, default=1, metavar="SCALE", help="how much more than usual the label counts (%(default)s: no more)")
    p.add_argument("--rescale", type=float, default=0, metavar="PART", help="how much of guidance's contrast is taken back, 0 to 1 (%(default)s)")
    p.add_argument("--autoguidance", type=float, metavar="SCALE", help="how far to lead away from the network of an earlier time, 1: off (the run's)")
    p.add_argument("--threshold", choices=list(THRESHOLDS), default="clip", help="what keeps the guesses of x_0 within -1 to 1 (%(default)s)")
    way = p.add_mutually_exclusive_group()
    way.add_argument("--inpaint", metavar="PICTURE", help="paint a part of it anew, with RePaint")
    way.add_argument("--image", metavar="PICTURE", help="make another picture of its rough shapes and colours")
    way.add_argument("--variations", metavar="PICTURE", help="change its details")
    way.add_argument("--interpolate", nargs=2, metavar="PICTURE", help="from one picture to another")
    p.add_argument("--mask", metavar="MASK", help=f"what is painted: {', '.join(MASKS)}, or a picture, black there and white elsewhere (left)")
    p.add_argument("--resamples", type=int, metavar="N", help="how often RePaint goes over each stretch (10)")
    p.add_argument("--jump", type=int, metavar="STEPS", help="how long a stretch is (a tenth of the steps)")
    p.add_argument("--from", type=float, metavar="T", help="how noisy the picture is made: t, of T = 1000 as a rule (700; for variations 500)")
    p.add_argument("--frames", type=int, metavar="N", help="pictures from the one to the other, both included (8)")
    p.add_argument("--gif", action="store_true", help=f"also an animation: {GIF_CATS} pictures come out of the noise; the frames of --interpolate")
    p.add_argument("--threads", type=int, metavar="N", help="processor threads; without it NUMBA_NUM_THREADS, or all cores, shared by the ranks")
    add_mpi(p)
    return p


def check_flags(args, way):
    """Raises ValueError for a flag that this way to start has no use for, and for no pictures."""
    for flag in sorted({flag for flags in FLAGS.values() for flag in flags}):
        value = getattr(args, flag)
        if value is not None and flag not in FLAGS[way]:
            goes = " or ".join(f"--{other}" for other, flags in FLAGS.items() if flag in flags)
            raise ValueError(f"--{flag} means nothing " + (f"without {goes}" if way == "new" else f"with --{way}"))
        if flag in ("count", "frames") and value is not None and value < 1:
            raise ValueError(f"--{flag} is {value}; it must be at least 1")


def prepare(args, ranks):
    """What the flags ask for: the start, the number of pictures, those it starts from.

    Raises ValueError or OSError, with what to do, where that can't be, and where ranks differ in what they start from.
    """
    use_threads(args.threads)
    way = next((way for way in FLAGS if way != "new" and getattr(args, way)), "new")
    check_flags(args, way)
    if args.out.exists() and any(args.out.iterdir()):
        raise ValueError(f"{args.out} already holds something: give another folder with --out")
    network = Network(args)
    size, T = network.size, network.schedule.T
    given = [picture_from(text, size) for text in np.ravel(getattr(args, way))] if way != "new" else []
    count = or_else(args.count, COUNT_FROM if way != "new" else COUNT if args.run else COUNT_PRETRAINED)
    if way == "new":
        start = new(network)
    elif way == "interpolate":
        count = or_else(args.frames, 8)
        start = interpolate(network, np.stack(given), count)
    elif way == "inpaint":
        keep = mask_from(or_else(args.mask, "left"), size)
        start = inpaint(network, given[0], keep, or_else(args.jump, max(1, network.steps // 10)), or_else(args.resamples, 10))
        given.append(given[0] * keep[..., None])
    else:
        start = image_to_image(network, given[0], or_else(getattr(args, "from"), (IMAGE_FROM if way == "image" else VARIATIONS_FROM) * T))
    ranks.require_same({"flags": vars(args), "checkpoint": network.crc32, "pictures": [zlib.crc32(picture.tobytes()) for picture in given]})
    return start, count, given


def main():
    heed_termination()
    mend_stdout()
    flags = parser()
    args = flags.parse_args()
    args.run = or_else(args.run, RUN if RUN.exists() else None)
    folder = RUN.parent if args.run is None else args.run.parent if args.run.suffix == ".npz" else args.run
    args.out, args.gif = or_else(args.out, folder / "drawn"), args.gif or args.run is None
    try:
        ranks = join(args.mpi)
        with ranks.together():
            start, count, given = prepare(args, ranks)
        ranks.heed_interrupt()
        with ranks.together():
            if ranks.rank == 0:
                args.out.mkdir(parents=True, exist_ok=True)
            pictures, moments = draw(start, count, args.out, args.gif and not args.interpolate, ranks)
            if ranks.rank == 0:
                show(args, given, count, pictures, moments)
    except (ImportError, OSError, ValueError) as error:
        flags.error(str(error))
    except MemoryError as error:
        flags.error(f"there is not enough memory for pictures of this size ({error})")
    except KeyboardInterrupt as stop:
        with suppress(OSError):                                                             # its terminal may be gone
            print(f"\nStopped. What was drawn so far is in {args.out}", file=sys.stderr)
        sys.exit(exit_status(stop))


def show(args, given, count, pictures, moments):
    """The first pictures together, and the film."""
    shown = [given[0], *pictures, given[1]] if args.interpolate else [*given, *pictures]
    grid(np.stack(shown[:SHEET])).save(args.out / "sheet.png")
    if args.interpolate and args.gif:
        files = (args.out / f"{i:06d}.png" for i in range(count))
        gif((grid(np.asarray(Image.open(file))[None], scale=256 // len(pictures[0])) for file in files), args.out / "film.gif")
    elif args.gif:
        chosen = spread(len(moments), GIF_FRAMES)
        gif((denoising_frame(*moments[i], i / (len(moments) - 1)) for i in chosen), args.out / "film.gif")
    print(f"{count} pictures in {args.out}, from 000000.png on; the first ones together: {args.out / 'sheet.png'}"
          + (f"; the film: {args.out / 'film.gif'}" if args.gif else ""), flush=True)


if __name__ == "__main__":
    main()
