"""Sampling, timed: the forward pass alone, ours and PyTorch's; and 64 pictures by 50 steps, whose memory must stay flat.

    python benchmarks/sampling.py [--rounds 15] [--json sampling.json]

First ours under no_grad and PyTorch under inference_mode run the reference network on the same 16 pictures of 64 x 64 x 3, each in a process
of its own, in turn; all must give the same pictures. Then our DDIM draws 64 pictures, 16 at a time, and after each step the process says how
much memory it holds.
"""
import argparse
import importlib.util
import statistics
import sys
import time

from contenders import Contender, ratio_of_pairs, serve, write_json
from machine import THREADS, header, peak_mb, resident_mb
from train_step import weights_and_batch

RESULTS_AGREE = 1e-3            # of the largest entry: float32 through 60 layers, against the same in another order
PICTURES, CHUNK, STEPS = 64, 16, 50
WARM_STEPS = 5                  # of the first chunk, in which the buffers of all later ones are first filled
FLAT_MB = 16                    # what may be added after them: the pictures themselves and the allocator's own doing


class Tinydiff:
    """Answers of the tinydiff process."""

    def __init__(self, quick):
        import tinydiff as td
        self.td, self.quick = td, quick
        self.model, self.x, self.t, _ = weights_and_batch(quick)
        self.model.eval()

    def forward(self):
        with self.td.no_grad():
            return self.model(self.x, self.t).data

    def draw(self):
        """Memory after each step, in MB, and how long all took."""
        td, memory, start = self.td, [], time.perf_counter()
        pictures, chunk, steps = (8, 4, 6) if self.quick else (PICTURES, CHUNK, STEPS)
        schedule = td.diffusion.cosine()
        denoise = td.diffusion.clip_x0(td.diffusion.denoiser(self.model, schedule, "v"))
        for first in range(0, pictures, chunk):
            x_T = td.diffusion.initial_noise(schedule, (chunk, *self.x.shape[1:]), 0, first)
            for _ in td.diffusion.ddim(denoise, schedule, x_T, steps):
                memory.append(resident_mb())
        return dict(memory=memory, seconds=time.perf_counter() - start, pictures=pictures, steps=steps)


class Torch:
    """Answers of a PyTorch process."""

    def __init__(self, memory_format):
        import torch

        from torch_unet import TorchUNet, load_weights
        torch.set_num_threads(THREADS)
        model, x, t, _ = weights_and_batch()
        layout = getattr(torch, memory_format)
        self.torch, self.network = torch, TorchUNet(model.config).to(memory_format=layout)
        load_weights(self.network, model.state_dict())
        self.x, self.t = torch.from_numpy(x).permute(0, 3, 1, 2).contiguous(memory_format=layout), torch.from_numpy(t)

    def forward(self):
        with self.torch.inference_mode():
            return self.network(self.x, self.t).permute(0, 2, 3, 1).numpy()


OURS = "tinydiff"
CONTENDERS = {OURS: Tinydiff, "torch eager": lambda quick: Torch("contiguous_format"), "torch channels_last": lambda quick: Torch("channels_last")}


def work(name, quick):
    """A contender's process."""
    contender = CONTENDERS[name](quick)

    def answer(what):
        if what == "draw":
            return contender.draw()
        start = time.perf_counter()
        y = contender.forward()
        seconds = time.perf_counter() - start
        return dict(seconds=seconds, peak_mb=peak_mb(), sample=y[::5, ::7, ::7].ravel().tolist() if what == "results" else None)
    serve(answer)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="timed forward passes of each contender (default 15)")
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    parser.add_argument("--quick", action="store_true", help="a small network, no PyTorch: does it all work?")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.contender:
        return work(args.contender, args.quick)

    print(header())
    with_torch = importlib.util.find_spec("torch") and not args.quick
    contenders = [Contender(name, *["--quick"] * args.quick) for name in (CONTENDERS if with_torch else [OURS])]
    samples = [contender.ask(what="results")["sample"] for contender in contenders]
    for contender, sample in zip(contenders[1:], samples[1:]):
        if max(abs(a - b) for a, b in zip(sample, samples[0], strict=True)) > RESULTS_AGREE * max(map(abs, samples[0])):
            raise SystemExit(f"sampling: {contender.name} and tinydiff give different pictures")
    seconds, peak = {c.name: [] for c in contenders}, {}
    for round_number in range(args.rounds + 1):
        for contender in contenders:
            result = contender.ask(what="time")
            peak[contender.name] = result["peak_mb"]
            if round_number > 0:                                              # the first warms up
                seconds[contender.name].append(result["seconds"])
    drawn = contenders[0].ask(what="draw")
    for contender in contenders:
        contender.close()

    print(f"\nforward pass{'':10}{'ms (median)':>12}{'min':>8}{'max':>8}{'peak MB':>9}")
    rows = {}
    for name, times in seconds.items():
        rows[name] = dict(ms=1e3 * statistics.median(times), min_ms=1e3 * min(times), max_ms=1e3 * max(times), peak_mb=peak[name])
        print(f"{name:22}" + "".join(f"{rows[name][key]:{width}.0f}" for key, width in (("ms", 12), ("min_ms", 8), ("max_ms", 8), ("peak_mb", 9))))
    figures = dict(rows=rows, drawing=drawn)
    if len(rows) > 1:
        rival = min((name for name in rows if name != OURS), key=lambda name: rows[name]["ms"])
        figures["speed"] = 1 / ratio_of_pairs(seconds[OURS], seconds[rival])
        print(f"tinydiff has {figures['speed']:.2f} x the speed of the faster PyTorch ({rival}; median of the pairs)")
    memory = drawn["memory"]
    figures["growth_mb"] = growth = max(memory[WARM_STEPS:]) - memory[WARM_STEPS - 1]
    print(f"\n{drawn['pictures']} pictures by {drawn['steps']} DDIM steps: {drawn['seconds']:.1f} s; memory {memory[WARM_STEPS - 1]:.0f} MB after "
          f"{WARM_STEPS} steps, at most {max(memory):.0f} MB, {memory[-1]:.0f} MB at the end")
    if args.json:
        write_json(args.json, figures)
    if growth > FLAT_MB:
        sys.exit(f"sampling: memory isn't flat: {growth:.0f} MB were added after the first {WARM_STEPS} steps")


if __name__ == "__main__":
    main()
