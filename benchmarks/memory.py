"""What a training step of the reference network keeps for its backward pass, byte for byte, and what that makes of the whole process.

    python benchmarks/memory.py [--json memory.json]

After the forward pass every array that a closure of the graph names is counted once, under the op that names it first. Parameters are not
counted. Then the whole step: what the kernels' buffers took from the system, and the most that the process held, for the plain step, with
recomputation of blocks, and in micro-batches, each in a process of its own with the kernels compiled before.
"""
import argparse
import subprocess
import sys

import numpy as np

from contenders import write_json
from machine import header, peak_mb
from train_step import BATCH, weights_and_batch

MB = 2 ** 20
WORDS = {
    ("group_norm", "xs"): "inputs of GroupNorm, and with them all skips and residuals",
    ("conv2d", "xs"): "inputs of convolutions: normalised and through SiLU",
    ("upsample_conv2d", "x"): "inputs of upsampling convolutions",
    ("self_attention", "qkv"): "queries, keys and values",
    ("self_attention", "o"): "attention's results",
    ("self_attention", "lse"): "log-sum-exp of attention's rows",
    ("recompute", "inputs"): "inputs of blocks that are computed again",
    ("mse", "a"): "the network's answer",
    ("mse", "b"): "the target",
}
WAYS = {"plain": {}, "recompute": {"recompute": True}, "micro-batches of 4": {"micro_batch": 4}}


def arrays_in(value):
    if isinstance(value, np.ndarray):
        return [value]
    return [array for item in value for array in arrays_in(item)] if isinstance(value, (list, tuple)) else []


def memory_of(array):
    """The array that owns the memory."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array.__array_interface__["data"][0], array.nbytes


def kept(loss, parameters):
    """{(op, name in its closure): bytes}, oldest op first."""
    from tinydiff.autograd import newest_first
    seen, table = {memory_of(p.data)[0] for p in parameters}, {}
    for node in reversed(newest_first(loss.node)):
        for name, cell in zip(node.closure.__code__.co_freevars, node.closure.__closure__ or ()):
            for array in arrays_in(cell.cell_contents):
                start, nbytes = memory_of(array)
                if start not in seen:
                    seen.add(start)
                    table[node.name, name] = table.get((node.name, name), 0) + nbytes
    return table


def step(way):
    """Two steps in one of WAYS: the table after the forward pass of the last micro-batch, and the peaks, in bytes and MB."""
    import tinydiff as td
    from tinydiff.kernels import buffers
    model, x, t, target = weights_and_batch()
    model.recompute = way.get("recompute", False)
    size = way.get("micro_batch", BATCH)
    optimizer, ema = td.optim.AdamW(model.parameters(), lr=1e-5), td.optim.EMA(model)
    for _ in range(2):
        model.zero_grad()
        for first in range(0, BATCH, size):
            rows = slice(first, first + size)
            loss = td.ops.mse(model(x[rows], t[rows]), target[rows]) * (size / BATCH)
            table = kept(loss, model.parameters())
            loss.backward()
        norm = td.optim.grad_norm(optimizer.params)
        optimizer.step(grad_scale=1 / max(norm, 1), ema=ema)
    return table, buffers.pool_bytes()[1], peak_mb()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way:
        table, most, peak = step(WAYS[args.way])
        for (op, name), nbytes in table.items():
            print(f"{op}\t{name}\t{nbytes}")
        print(f"most\t{most}\npeak\t{peak}")
        return

    print(header())
    results = {}
    for way in WAYS:
        for _ in range(2):                      # the first may compile, which takes memory of its own
            out = subprocess.run([sys.executable, __file__, "--way", way], check=True, capture_output=True, text=True).stdout
        lines = [line.split("\t") for line in out.splitlines()]
        results[way] = {"kept": {" ".join(line[:2]): int(line[2]) for line in lines if len(line) == 3}} | {
            line[0]: float(line[1]) for line in lines if len(line) == 2}
    plain = results["plain"]["kept"]
    print(f"\n{'bytes kept for backward':>24}  by")
    for name, nbytes in sorted(plain.items(), key=lambda item: -item[1]):
        op, argument = name.split()
        print(f"{nbytes:24,}  {op}: {WORDS.get((op, argument), argument)}")
    print(f"{sum(plain.values()):24,}  together\n")
    print(f"{'':20}{'kept, MB':>10}{'buffers, MB':>21}{'process at most, MB':>21}")
    for way, result in results.items():
        print(f"{way:20}{sum(result['kept'].values()) / MB:10.0f}{result['most'] / MB:21.0f}{result['peak']:21.0f}")
    if args.json:
        write_json(args.json, results)


if __name__ == "__main__":
    main()
