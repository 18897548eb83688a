"""The reference training step, timed: ours, and the same network in PyTorch where torch is importable.

    python benchmarks/train_step.py [--rounds 15] [--json step.json]

A step is forward, backward, gradient clipping and AdamW (ours also moves the EMA) on 16 pictures of 64 x 64 x 3. PyTorch runs eager in both of
its layouts, compiled (torch.compile, which needs a C++ compiler) and, where the processor has instructions for that, in bfloat16 (autocast); so does
ours, where the processor has AMX. Each contender is a process of its own; they take their steps in turn, one at a time, so that a machine that slows
down slows all of them. Before anything is timed, all must give the same loss and the same gradient norm on the same weights and pictures.
"""
import argparse
import contextlib
import importlib.util
import statistics
import time

from tinydiff.kernels import has_bfloat16

from contenders import Contender, ratio_of_pairs, serve, write_json
from machine import HAS_BFLOAT16, THREADS, header, peak_mb

BATCH, SIZE = 16, 64
GFLOP = 11.7 * BATCH            # of a step: multiply-adds of convolutions, linear layers and attention, each counted as two, by definition
RESULTS_AGREE = 1e-3            # float32 through 60 layers, against the same in another order
BFLOAT16_AGREES = 3e-2          # bfloat16 has 8 bits of mantissa
QUICK = dict(image_size=16, channels=16, channel_mults=(1, 2), attention_resolutions=(8,))


def weights_and_batch(quick=False):
    """The reference network (quick: a small one) with every parameter random (zero-initialised ones would hide the rest), and a batch."""
    import numpy as np

    import tinydiff as td
    rng = np.random.default_rng(0)
    model = td.nn.UNet(td.nn.UNetConfig(**QUICK if quick else {}), rng=rng)
    for p in model.parameters():
        if not p.data.any():
            p.data = (0.02 * rng.standard_normal(p.shape)).astype(np.float32)
    batch, size = (2, QUICK["image_size"]) if quick else (BATCH, SIZE)
    x = rng.standard_normal((batch, size, size, 3), dtype=np.float32)
    return model, x, rng.uniform(0, 1000, batch).astype(np.float32), rng.standard_normal(x.shape, dtype=np.float32)


def tinydiff_step(quick=False, bfloat16=False):
    """A function that takes one step and returns (loss, gradient norm)."""
    import tinydiff as td
    model, x, t, target = weights_and_batch(quick)
    optimizer, ema = td.optim.AdamW(model.parameters(), lr=1e-5), td.optim.EMA(model)

    def step():
        model.zero_grad()
        with td.kernels.bfloat16(bfloat16):
            loss = td.ops.mse(model(x, t), target)
            loss.backward()
        norm = td.optim.grad_norm(optimizer.params)
        optimizer.step(grad_scale=1 / max(norm, 1), ema=ema)
        return float(loss.data), norm
    return step


def torch_step(memory_format, compiled=False, bfloat16=False):
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
    forward = torch.compile(network) if compiled else network

    def step():
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16) if bfloat16 else contextlib.nullcontext():
            loss = torch.nn.functional.mse_loss(forward(x, t), target)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        return loss.item(), norm.item()
    return step


OURS, COMPILED, BFLOAT16, OUR_BFLOAT16 = "tinydiff", "torch compiled", "torch bfloat16", "tinydiff bfloat16"
CONTENDERS = {
    OURS: tinydiff_step,
    OUR_BFLOAT16: lambda quick: tinydiff_step(quick, bfloat16=True),
    "torch eager": lambda quick: torch_step("contiguous_format"),
    "torch channels_last": lambda quick: torch_step("channels_last"),
    COMPILED: lambda quick: torch_step("channels_last", compiled=True),
    BFLOAT16: lambda quick: torch_step("channels_last", bfloat16=True),
}


def work(name, quick):
    """A contender's process: whenever it is asked, it takes a step and says its results, seconds and peak memory in MB."""
    step = CONTENDERS[name](quick)

    def answer():
        start = time.perf_counter()
        try:
            loss, norm = step()
        except Exception as error:                  # whatever torch.compile finds missing
            if name != COMPILED:
                raise
            return dict(failed=f"{type(error).__name__}: {error}")
        return dict(loss=loss, norm=norm, seconds=time.perf_counter() - start, peak_mb=peak_mb())
    serve(answer)


def same_computation(contenders) -> list:
    """The contenders that compute what ours does, after a step of each, which compiles and fills caches. SystemExit where one doesn't."""
    ours, kept = contenders[0].ask(), [contenders[0]]
    for contender in contenders[1:]:
        first = contender.ask()
        if "failed" in first:
            print(f"torch.compile doesn't work here, so it isn't among the contenders: {first['failed'].strip().splitlines()[0]}")
            contender.close()
            continue
        for what in ("loss", "norm"):
            if abs(first[what] / ours[what] - 1) > (BFLOAT16_AGREES if contender.name in (BFLOAT16, OUR_BFLOAT16) else RESULTS_AGREE):
                raise SystemExit(f"train_step: {contender.name} has {what} {first[what]}, tinydiff {ours[what]}: not the same computation")
        kept.append(contender)
    print(f"same loss ({ours['loss']:.6f}) and gradient norm ({ours['norm']:.4f})")
    return kept


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="timed steps of each contender (default 15)")
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    parser.add_argument("--quick", action="store_true", help="a small network, no PyTorch: does it all work?")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.contender:
        return work(args.contender, args.quick)

    print(header())
    with_torch = importlib.util.find_spec("torch") and not args.quick
    able = {BFLOAT16: HAS_BFLOAT16, OUR_BFLOAT16: has_bfloat16()}
    names = [name for name in CONTENDERS if able.get(name, True)] if with_torch else [OURS]
    for name in sorted(able.keys() - names) if with_torch else ():
        print(f"{name} doesn't take part: the instructions that it needs can't be had here")
    contenders = [Contender(name, *["--quick"] * args.quick) for name in names]
    contenders = same_computation(contenders)
    seconds, peak = {c.name: [] for c in contenders}, {}
    for round_number in range(args.rounds + 1):
        for contender in contenders:
            result = contender.ask()
            peak[contender.name] = result["peak_mb"]
            if round_number > 0:                                              # the first warms up
                seconds[contender.name].append(result["seconds"])
    for contender in contenders:
        contender.close()

    print(f"\n{'contender':22}{'ms (median)':>12}{'min':>8}{'max':>8}{'images/s':>10}{'GFLOP/s':>9}{'peak MB':>9}")
    rows, ratios = {}, {}
    for name, times in seconds.items():
        median = statistics.median(times)
        rows[name] = dict(ms=1e3 * median, min_ms=1e3 * min(times), max_ms=1e3 * max(times), peak_mb=peak[name])
        rates = f"{'':19}" if args.quick else f"{BATCH / median:10.1f}{GFLOP / median:9.0f}"
        print(f"{name:22}{1e3 * median:12.0f}{1e3 * min(times):8.0f}{1e3 * max(times):8.0f}{rates}{peak[name]:9.0f}")
    float32 = [name for name in rows if name not in (OURS, BFLOAT16, OUR_BFLOAT16)]
    pairs = [(OURS, min(float32, key=lambda name: rows[name]["ms"]), "the best float32 PyTorch")] if float32 else []
    pairs += [(ours, BFLOAT16, "PyTorch's bfloat16") for ours in (OURS, OUR_BFLOAT16) if {ours, BFLOAT16} <= rows.keys()]
    for ours, rival, what in pairs:
        ratio = ratios[f"{ours} / {rival}"] = dict(time=ratio_of_pairs(seconds[ours], seconds[rival]), peak_memory=peak[ours] / peak[rival])
        print(f"{ours} takes {ratio['time']:.2f} x the time of {what} ({rival}; median of the pairs) and {ratio['peak_memory']:.2f} x its peak "
              "memory")
    if args.json:
        write_json(args.json, dict(rows=rows, ratios=ratios))


if __name__ == "__main__":
    main()
