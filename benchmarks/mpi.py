"""What several ranks bring: steps and all-reduces measured on one and two ranks here, and from them 2 to 1,024 ranks on two networks.

    python benchmarks/mpi.py [--rounds 7] [--json mpi.json] [--picture mpi.png]

The step is the reference U-Net's (forward, backward, gradient clipping, AdamW, EMA), each rank on one thread. First the sums of gradients are
checked. Weak scaling leaves each rank its 16 pictures; strong scaling divides 1,024 among them.

The prediction, for p ranks: a step as long as that of one rank here with as many pictures, and for each bucket of M bytes an all-reduce of

    2 log2(p) latency  +  2 (p-1)/p M / bandwidth

(recursive halving and doubling: Thakur, Rabenseifner and Gropp 2005, Int. J. High Performance Computing Applications 19:49), which starts when
backward has filled the bucket, at the moment measured here, and the one before is through; what ends after backward makes the step longer.
So does all that processors do for it, 2 (p-1)/p of what they did between the two ranks here, where no network was in between. All ranks are
taken to be alike, each on a network connection of its own; slow ranks and busy networks are not in it.
"""
import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from contenders import write_json
from machine import header

NETWORKS = {"10 Gb/s": (30e-6, 10e9 / 8), "100 Gb/s": (3e-6, 100e9 / 8)}        # seconds of latency (as of TCP; InfiniBand), bytes a second
RANKS = [2 ** k for k in range(1, 11)]
WEAK, STRONG = 16, 1024                                                         # pictures of each rank; of all ranks together


def work(size, batches, rounds):
    """What each rank runs: for each batch size of its own, medians over the rounds. Rank 0 prints them as JSON."""
    import numpy as np

    import tinydiff as td
    from tinydiff import mpi
    ranks, clock = mpi.start(), time.perf_counter
    model = td.nn.UNet(td.nn.UNetConfig(channels=32 if size == 64 else 16), rng=np.random.default_rng(0))
    optimizer, ema, rng = td.optim.AdamW(model.parameters(), lr=1e-5), td.optim.EMA(model), np.random.default_rng(ranks.rank)
    params = optimizer.params

    class Timed(mpi.Buckets):
        def clear(self):
            super().clear()
            self.filled, self.calls = [0.0] * len(self.arrays), 0.0

        def add(self, leaf, gradient):
            start = clock()
            super().add(leaf, gradient)
            self.filled[self.place[leaf][0]] = start                            # the last one's stays
            self.calls += clock() - start

        def finish(self):
            self.backward_ends = clock()
            ranks.MPI.Request.Waitall(self.requests)
            self.wait = clock() - self.backward_ends
            super().finish()
    buckets = ranks._buckets = Timed(ranks, params)

    def check(x, t, target):
        """The buckets' sums are the sums of the ranks' gradients, but for rounding."""
        model.zero_grad()
        td.ops.mse(model(x, t), target).backward()
        sums = [sum(ranks.comm.allgather(p.grad.astype(np.float64))) for p in params]
        model.zero_grad()
        ranks.backward(td.ops.mse(model(x, t), target), params)
        error = max(np.abs(p.grad - right).max() / (np.abs(right).max() + 1e-30) for p, right in zip(params, sums))
        if not error < 1e-6:
            raise RuntimeError(f"the sums of the gradients are off by {error:.1e}")

    def step(x, t, target, alone):
        """When it started, and the seconds that it took: alone, each rank with its own gradients only, or as a Trainer's."""
        ranks.comm.Barrier()
        model.zero_grad()
        start = clock()
        loss = td.ops.mse(model(x, t), target)
        if alone:
            loss.backward()
        else:
            ranks.backward(loss, params)
        optimizer.step(grad_scale=1 / max(td.optim.grad_norm(params), 1), ema=ema)
        return start, clock() - start

    def all_reduce():
        """Seconds for all buckets, with nothing else to do."""
        ranks.comm.Barrier()
        buckets.clear()
        start = clock()
        for number in range(len(buckets.arrays)):
            buckets.start_sum(number)
        ranks.MPI.Request.Waitall(buckets.requests)
        return clock() - start

    answers = []
    for batch in batches:
        x, target = (rng.standard_normal((batch, size, size, 3), dtype=np.float32) for _ in range(2))
        t = rng.uniform(0, 1000, batch).astype(np.float32)
        check(x, t, target)
        rows = []
        for _ in range(rounds):
            _, alone = step(x, t, target, alone=True)
            start, together = step(x, t, target, alone=False)
            calls, wait, ends = buckets.calls, buckets.wait, buckets.backward_ends
            filled = [(at - start) / together for at in buckets.filled]
            slowest = map(max, zip(*ranks.comm.allgather((alone, together, calls, all_reduce()))))
            rows.append([*slowest, min(ranks.comm.allgather(wait)), (ends - start) / together, *filled])     # the last to come waits for none
        alone, together, calls, reduce, wait, ends, *filled = map(statistics.median, zip(*rows))
        answers.append(dict(batch=batch, alone=alone, step=together, all_reduce=reduce, calls=calls, wait=wait,
                            hidden=max(0.0, 1 - wait / reduce), ends=ends, filled=filled, bytes=[array.nbytes for array in buckets.arrays]))
    if ranks.rank == 0:
        print(json.dumps(answers))


def measure(n, size, batches, rounds):
    """{pictures of each rank: the figures of n ranks here}"""
    mpiexec = shutil.which("mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if mpiexec is None:
        sys.exit("there is no mpiexec: pip install -e '.[mpi]' brings one")
    command = [mpiexec, "-n", str(n), sys.executable, __file__, "--rank", json.dumps([size, batches, rounds])]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"NUMBA_NUM_THREADS": "1"})
    if done.returncode:
        sys.exit(f"{n} ranks: {done.stderr}")
    return {row["batch"]: row for row in json.loads(done.stdout.splitlines()[-1])}


def predict(p, batch, one, adding, network):
    """A step of p ranks with so many pictures each: its ms; the share of the all-reduces that backward hides; the efficiency, which is the images
    a second over those of p single ranks with the largest batch, and what that would be without any all-reduce.

    one: the figures of one rank; adding: seconds of the all-reduce between two ranks here.
    """
    latency, bandwidth = network
    row, largest = one[min(batch, max(one))], one[max(one)]
    compute, ideal = row["alone"] * batch / row["batch"], largest["alone"] * batch / largest["batch"]
    free = busy = 0.0                                           # when the network will be free; how long it works
    for filled, size in zip(row["filled"], row["bytes"]):
        seconds = 2 * math.log2(p) * latency + 2 * (p - 1) / p * size / bandwidth
        free, busy = max(free, filled * compute) + seconds, busy + seconds
    exposed = max(0.0, free - row["ends"] * compute)
    step = compute + exposed + 2 * (p - 1) / p * adding
    return dict(ms=1e3 * step, hidden=1 - exposed / busy, efficiency=ideal / step, without=ideal / compute)


def draw(rows, weak, path, width=1240, height=560):
    """Two charts, weak and strong scaling: the efficiency against the ranks. weak: that of two ranks here."""
    from tinydiff.report.pictures import MUTED

    from charts import COLOURS, Chart, canvas, save
    image, pen = canvas(width, height)
    titles = {"weak": f"Weak scaling: {WEAK} pictures on each rank", "strong": f"Strong scaling: {STRONG:,} pictures, shared by all ranks"}
    for place, (kind, title) in enumerate(titles.items()):
        left = 84 + place * (width // 2)
        box = (left, 104, left + width // 2 - 120, height - 78)
        chart = Chart(pen, box, (1.8, 1150), (0, 108), y_log=False)
        chart.axes(title, "ranks", "efficiency: images a second / (ranks x one rank's), in %", RANKS, range(0, 101, 20))
        own = [row for row in rows if row["kind"] == kind]
        chart.line([(row["ranks"], 100 * row["without"]) for row in own if row["network"] == "10 Gb/s"], MUTED, 2, dashed=True)
        for colour, thickness, name in zip(COLOURS, (9, 3), NETWORKS):          # both to be seen where one lies on the other
            chart.line([(row["ranks"], 100 * row["efficiency"]) for row in own if row["network"] == name], colour, thickness)
        entries = [(f"predicted, {name}", colour, False) for colour, name in zip(COLOURS, NETWORKS)]
        if kind == "weak":
            chart.point(2, 100 * weak, COLOURS[2], hollow=True)
            entries.append(("measured: two ranks on one machine", COLOURS[2], True))
        chart.legend(entries, box[0] + 24, box[3] - 138)
        chart.text(box[0] + 48, box[3] - 45, "dashed: if gradients travelled in no time", "lm")
    save(image, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="steps of each setting (default 7)")
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    parser.add_argument("--picture", metavar="FILE", help="also draw them into FILE, a PNG")
    parser.add_argument("--quick", action="store_true", help="a small network, two rounds: does it all work?")
    parser.add_argument("--rank", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.rank:
        return work(*args.rank)

    print(header() + "; here each rank on one")
    size, rounds = (16, 2) if args.quick else (64, args.rounds)
    one, two = measure(1, size, [1, 2, 4, 8, WEAK], rounds), measure(2, size, [8, WEAK], rounds)
    print(f"\nMeasured, in milliseconds; {sum(one[1]['bytes']) / 1e6:.1f} MB of gradients in {len(one[1]['bytes'])} buckets:\n"
          "ranks  pictures each    step  without MPI  all-reduce, alone  MPI in backward  wait after it  hidden")
    for n, rows in ((1, one), (2, two)):
        for batch, row in rows.items():
            print(f"{n:5}{batch:15}" + "".join(f"{1e3 * row[key]:{width}.1f}" for key, width in
                                               (("step", 8), ("alone", 13), ("all_reduce", 19), ("calls", 17), ("wait", 15)))
                  + (f"{row['hidden']:8.0%}" if n > 1 else "       -"))
    weak, strong = one[WEAK]["alone"] / two[WEAK]["step"], one[WEAK]["alone"] / two[WEAK // 2]["step"]
    print(f"Images a second of two ranks, times those of one: {2 * weak:.2f} with {WEAK} pictures each, {strong:.2f} with {WEAK // 2} each")

    rows = [dict(kind=kind, network=name, ranks=p, batch=batch) | predict(p, batch, one, two[WEAK]["all_reduce"], network)
            for name, network in NETWORKS.items() for p in RANKS for kind, batch in (("weak", WEAK), ("strong", STRONG // p))]
    print(f"\nPredicted:{f'weak, {WEAK} pictures each':>37}{f'strong, {STRONG:,} in all':>32}\nnetwork   ranks"
          + "   ms a step  hidden  efficiency" * 2)
    for weak_row, strong_row in zip(rows[::2], rows[1::2]):
        print(f"{weak_row['network']:<9}{weak_row['ranks']:6}"
              + "".join(f"{row['ms']:12,.0f}{row['hidden']:8.0%}{row['efficiency']:12.0%}" for row in (weak_row, strong_row)))
    if args.json:
        write_json(args.json, dict(one=one, two=two, weak=weak, strong=strong, predicted=rows))
    if args.picture:
        draw(rows, weak, args.picture)


if __name__ == "__main__":
    main()
