"""The reference training step, timed: ours, and the same network in PyTorch where torch is importable.

    python benchmarks/train_step.py [--rounds 15] [--json step.json]

A step is forward, backward, gradient clipping and AdamW (ours also moves the EMA) on 16 pictures of 64 x 64 x 3. Each contender is a process
of its own; they take their steps in turn, one at a time, so that a machine that slows down slows all of them. Before anything is timed, all
must give the same loss and the same gradient norm on the same weights and pictures.
"""
import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import time

BATCH, SIZE = 16, 64
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
GFLOP = 11.7 * BATCH            # of a step: multiply-adds of convolutions, linear layers and attention, each counted as two, by definition
RESULTS_AGREE = 1e-3            # float32 through 60 layers, against the same in another order


def weights_and_batch():
    """The reference network with every parameter random (zero-initialised ones would hide the rest), and a batch."""
    import numpy as np

    import tinydiff as td
    rng = np.random.default_rng(0)
    model = td.nn.UNet(td.nn.UNetConfig(), rng=rng)
    for p in model.parameters():
        if not p.data.any():
            p.data = (0.02 * rng.standard_normal(p.shape)).astype(np.float32)
    x = rng.standard_normal((BATCH, SIZE, SIZE, 3), dtype=np.float32)
    return model, x, rng.uniform(0, 1000, BATCH).astype(np.float32), rng.standard_normal(x.shape, dtype=np.float32)


def tinydiff_step():
    """A function that takes one step and returns (loss, gradient norm)."""
    import tinydiff as td
    model, x, t, target = weights_and_batch()
    optimizer, ema = td.optim.AdamW(model.parameters(), lr=1e-5), td.optim.EMA(model)

    def step():
        model.zero_grad()
        loss = td.ops.mse(model(x, t), target)
        loss.backward()
        norm = td.optim.grad_norm(optimizer.params)
        optimizer.step(grad_scale=1 / max(norm, 1), ema=ema)
        return float(loss.data), norm
    return step


def torch_step(memory_format):
    import torch
    from torch_unet import TorchUNet, load_weights
    model, x, t, target = weights_and_batch()
    network = TorchUNet(model.config)
    load_weights(network, model.state_dict())
    del model
    torch.set_num_threads(THREADS)
    layout = getattr(torch, memory_format)
    network = network.to(memory_format=layout)
    x, target = (torch.from_numpy(a).permute(0, 3, 1, 2).contiguous(memory_format=layout) for a in (x, target))
    t = torch.from_numpy(t)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-5)

    def step():
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(network(x, t), target)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        return loss.item(), norm.item()
    return step


CONTENDERS = {
    "tinydiff": tinydiff_step,
    "torch eager": lambda: torch_step("contiguous_format"),
    "torch channels_last": lambda: torch_step("channels_last"),
}


def peak_mb():
    """The most memory that this process has held, in MB; NaN on Windows, which does not say."""
    try:
        import resource
    except ImportError:
        return float("nan")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 ** 2 if sys.platform == "darwin" else 1024)


def work(name):
    """A contender's process: for each line on standard input, take a step and say its results, seconds and peak memory in MB."""
    step = CONTENDERS[name]()
    for _ in sys.stdin:
        start = time.perf_counter()
        loss, norm = step()
        seconds = time.perf_counter() - start
        print(json.dumps(dict(loss=loss, norm=norm, seconds=seconds, peak_mb=peak_mb())), flush=True)


class Contender:
    """A process that takes a step when asked."""

    def __init__(self, name):
        self.name, self.seconds = name, []
        self.process = subprocess.Popen([sys.executable, __file__, "--contender", name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def step(self):
        self.process.stdin.write("step\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"train_step: the process of {self.name} ended; its error is above")
        return json.loads(line)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="timed steps of each contender (default 15)")
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.contender:
        return work(args.contender)

    names = [name for name in CONTENDERS if name == "tinydiff" or importlib.util.find_spec("torch")]
    contenders = [Contender(name) for name in names]
    firsts = [contender.step() for contender in contenders]                   # compiling and caches: not timed
    for name, first in zip(names[1:], firsts[1:]):
        for what in ("loss", "norm"):
            if abs(first[what] / firsts[0][what] - 1) > RESULTS_AGREE:
                raise SystemExit(f"train_step: {name} has {what} {first[what]}, tinydiff {firsts[0][what]}: not the same computation")
    for contender in contenders:
        contender.step()
    for _ in range(args.rounds):
        for contender in contenders:
            result = contender.step()
            contender.seconds.append(result["seconds"])
            contender.peak_mb = result["peak_mb"]
    for contender in contenders:
        contender.process.stdin.close()
        contender.process.wait()

    from tinydiff.kernels.vector import VECTOR_BYTES
    print(f"{platform.machine()}, {VECTOR_BYTES // 4} float32 lanes, {THREADS} threads, Python {platform.python_version()}; "
          f"same loss ({firsts[0]['loss']:.6f}) and gradient norm ({firsts[0]['norm']:.4f})")
    print(f"{'contender':22}{'ms (median)':>12}{'min':>8}{'max':>8}{'images/s':>10}{'GFLOP/s':>9}{'peak MB':>9}")
    rows = {}
    for c in contenders:
        median = statistics.median(c.seconds)
        rows[c.name] = dict(ms=1e3 * median, images_per_second=BATCH / median, gflops=GFLOP / median, peak_mb=c.peak_mb)
        print(f"{c.name:22}{1e3 * median:12.0f}{1e3 * min(c.seconds):8.0f}{1e3 * max(c.seconds):8.0f}{BATCH / median:10.1f}"
              f"{GFLOP / median:9.0f}{c.peak_mb:9.0f}")
    if len(contenders) > 1:
        best = min(names[1:], key=lambda name: rows[name]["ms"])
        pairs = [a / b for a, b in zip(contenders[0].seconds, contenders[names.index(best)].seconds)]
        ratio = statistics.median(pairs)
        rows["time_ratio"] = ratio
        print(f"tinydiff takes {ratio:.2f} x the time of {best} (median of the pairs; {min(pairs):.2f} to {max(pairs):.2f}): "
              f"{1 / ratio:.2f} x its speed, {rows['tinydiff']['peak_mb'] / rows[best]['peak_mb']:.2f} x its peak memory")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=2)


if __name__ == "__main__":
    main()
