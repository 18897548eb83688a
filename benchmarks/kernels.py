"""Each kernel at the sizes of the reference training step: is it right, how fast is it, how near to what the machine can do?

    python benchmarks/kernels.py [--only 3x3] [--rounds 5] [--json kernels.json] [--picture roofline.png]

First every kernel is compared with its float64 reference. Then it is timed, in turn with PyTorch's own where torch is installed, each in a
process of its own. GFLOP/s count the operations of the definition (a multiply-add is two), whatever way a kernel goes: Winograd's transform
needs a quarter of the multiplications and can pass the machine's peak. GB/s count each input and each result once. Both are also given as a
share of what the machine was measured to do (peaks.py). PyTorch is timed in both of its layouts, channels_last and contiguous (NCHW).
Last, each op as a whole, forward and backward through the autograd.
"""
import argparse
import importlib.util
import statistics
import time

import numpy as np

from cases import reference_step, small_step
from contenders import Contender, ratio_of_pairs, serve, write_json
from machine import THREADS, header

RIGHT = 2e-5                # the largest error of a result over its largest entry, float32 against float64
SAME = 1e-3                 # the norms of whole ops' results and gradients, ours against PyTorch's
SECONDS = 0.03              # that a contender works on a case in a round
LAYOUTS = ("channels_last", "contiguous_format")
WHOLE = "forward + backward"


def timed(run, seconds):
    """The median time of a call, of as many as fit into `seconds`, three at least, after one to warm up."""
    run()
    times, end = [], time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def flat(values):
    """All arrays among arguments, or among results: of which one may be a number."""
    if isinstance(values, (list, tuple)):
        return [array for value in values for array in flat(value)]
    return [np.asarray(values)] if isinstance(values, (np.ndarray, float)) else []


def in_float64(argument):
    if isinstance(argument, (list, tuple)):
        return type(argument)(map(in_float64, argument))
    return argument.astype(np.float64) if isinstance(argument, np.ndarray) and argument.dtype.kind == "f" else argument


class Tinydiff:
    """Answers of the tinydiff process, about one case after the other."""

    def __init__(self, cases):
        self.cases, self.index = cases, None

    def prepare(self, index):
        if index == self.index:
            return
        from tinydiff.kernels import KERNELS
        self.index, self.case = index, self.cases[index]
        arrays, first = self.case.arrays(), None
        self.calls = {}
        for part in self.case.parts:
            kernel, arguments = KERNELS[part.kernel], part.arguments(arrays, first)
            self.calls[part.name] = kernel, arguments
            if first is None:
                first = kernel.fast(*arguments)
        if self.case.whole is not None:
            import tinydiff as td
            tensors = {name: td.Tensor(array, requires_grad=name in self.case.wrt) for name, array in vars(arrays).items()}
            dy = tensors.pop("dy").data

            def whole():
                for tensor in tensors.values():
                    tensor.grad = None
                y = self.case.whole(td.ops, type(arrays)(**tensors))
                y.backward(dy)
                return [y.data, *(tensors[name].grad for name in self.case.wrt)]
            self.whole = whole

    def check(self, index):
        """For each part: the largest error of a result over the result's largest entry, and the bytes of its arguments and results."""
        self.prepare(index)
        errors, traffic = {}, {}
        for name, (kernel, arguments) in self.calls.items():
            exact = in_float64(arguments)
            expected, result = kernel.reference(*exact), kernel.fast(*arguments)
            if result is None:                                  # it works in place: moments, averages and parameters
                expected, result = (tuple(args[i] for i in (0, 2, 3, 4)) for args in (exact, arguments))
            pairs = list(zip(flat(result), flat(expected), strict=True))
            errors[name] = max(float(np.abs(r - e).max() / np.abs(e).max()) for r, e in pairs)
            traffic[name] = sum(array.nbytes for array in flat(arguments)) + sum(r.nbytes for r, _ in pairs)
        return dict(errors=errors, bytes=traffic)

    def norms(self, index):
        self.prepare(index)
        return dict(norms=[float(np.linalg.norm(np.asarray(array, np.float64))) for array in self.whole()])

    def time(self, index, part, layout, seconds):
        self.prepare(index)
        if part == WHOLE:
            return dict(seconds=timed(self.whole, seconds))
        kernel, arguments = self.calls[part]
        return dict(seconds=timed(lambda: kernel.fast(*arguments), seconds))


class Torch:
    """Answers of the PyTorch process."""

    def __init__(self, cases):
        import torch
        torch.set_num_threads(THREADS)
        self.torch, self.cases, self.prepared = torch, cases, None

    def tensor(self, name, array, layout):
        tensor = self.torch.from_numpy(array)
        if name in ("x", "h", "skip", "dy", "target") and array.ndim == 4 and self.case.pictures:
            return tensor.permute(0, 3, 1, 2).contiguous(memory_format=getattr(self.torch, layout))
        if name == "w" and array.ndim == 4:
            return tensor.permute(3, 2, 0, 1).contiguous(memory_format=getattr(self.torch, layout))
        return tensor.contiguous()

    def prepare(self, index, layout):
        if (index, layout) == self.prepared:
            return
        torch, self.prepared, self.case = self.torch, (index, layout), self.cases[index]
        arrays = self.case.arrays()
        if self.case.group == "optimizer":
            return self.prepare_optimizer(arrays)
        tensors = {name: self.tensor(name, array, layout) for name, array in vars(arrays).items()}
        dy = tensors.pop("dy", None)
        for name in self.case.wrt:
            tensors[name].requires_grad_()
        space = type(arrays)(**tensors)
        y = self.case.torch(torch, space)

        def forward():
            with torch.no_grad():
                return self.case.torch(torch, space)

        def gradient(names):
            wanted = [tensors[name] for name in names]
            return lambda: torch.autograd.grad(y, wanted, dy, retain_graph=True)

        def whole():
            y = self.case.torch(torch, space)
            return y, *torch.autograd.grad(y, [tensors[name] for name in self.case.wrt], dy)
        self.calls = {part.name: gradient(part.wrt) if part.wrt else forward for part in self.case.parts} | {WHOLE: whole}

    def prepare_optimizer(self, arrays):
        torch, parameters, matrices = self.torch, [], []
        for name, array in vars(arrays).items():
            kind, _, rest = name.partition(":")
            if kind == "p":
                grad = getattr(arrays, f"grad:{rest}")
                sides = array.size // array.shape[-1], array.shape[-1]
                for chosen, shape in [(parameters, array.shape)] + [(matrices, sides)] * (array.ndim > 1 and min(sides) >= 16):
                    chosen.append(torch.from_numpy(array.reshape(shape)).requires_grad_())
                    chosen[-1].grad = torch.from_numpy(grad.reshape(shape))
        adamw = torch.optim.AdamW(parameters, lr=1e-5, fused=True)
        muon = torch.optim.Muon(matrices, lr=1e-5)              # multiplies in bfloat16
        grads = [p.grad for p in parameters]
        self.calls = {"gradient norm": lambda: torch.nn.utils.get_total_norm(grads).item(), "AdamW + EMA": adamw.step, "Muon + EMA": muon.step}

    def norms(self, index, layout):
        self.prepare(index, layout)
        return dict(norms=[result.double().norm().item() for result in self.calls[WHOLE]()])

    def time(self, index, part, layout, seconds):
        self.prepare(index, layout)
        return dict(seconds=timed(self.calls[part], seconds))


def work(name, cases):
    """A contender's process."""
    contender = Tinydiff(cases) if name == "tinydiff" else Torch(cases)

    def answer(what, **question):
        if what == "peaks":
            from peaks import bandwidth, peak_gflops
            return dict(gflops=peak_gflops(seconds=question["seconds"]), gb_per_s=bandwidth(question["seconds"], question["caches"]))
        return getattr(contender, what)(**question)
    serve(answer)


def measure(case, index, contenders, rounds, seconds):
    """The case's rows: for each part, and for the op as a whole, the times of all contenders, taken in turn."""
    ours, *others = contenders
    checked = ours.ask(what="check", index=index)
    for part, error in checked["errors"].items():
        if not error <= RIGHT:
            raise SystemExit(f"kernels: {case.group} {case.shape}, {part}: error {error:.1e} against the float64 reference, more than {RIGHT:g}")
    layouts = LAYOUTS if case.pictures else LAYOUTS[1:]
    if case.whole is not None and others:
        norms = ours.ask(what="norms", index=index)["norms"]
        for a, b in zip(norms, others[0].ask(what="norms", index=index, layout=layouts[0])["norms"], strict=True):
            if abs(a - b) > SAME * b:
                raise SystemExit(f"kernels: {case.group} {case.shape}: tinydiff's results have norm {a}, PyTorch's {b}: not the same computation")
    rows = []
    for part in [*case.parts, *([None] if case.whole is not None else [])]:
        name = part.name if part else WHOLE
        runs = [("tinydiff", ours, None), *((f"torch {layout}", other, layout) for other in others for layout in layouts)]
        times = {label: [] for label, _, _ in runs}
        for _ in range(rounds):
            for label, contender, layout in runs:
                times[label].append(contender.ask(what="time", index=index, part=name, layout=layout, seconds=seconds)["seconds"])
        row = dict(group=case.group, shape=case.shape, part=name, ms={label: 1e3 * statistics.median(t) for label, t in times.items()})
        row["speed"] = {label: 1 / ratio_of_pairs(times["tinydiff"], t) for label, t in times.items() if label != "tinydiff"}
        if part:
            row |= dict(kernel=part.kernel, error=checked["errors"][name], flop=part.flop, bytes=checked["bytes"][name])
        rows.append(row)
    return rows


def shown(row, peaks):
    """A row of the table as text."""
    seconds = row["ms"]["tinydiff"] / 1e3
    cells = [f"{row['shape']:16}{row['part']:19}{1e3 * seconds:9.3f}"]
    if "kernel" in row:
        gflops, gb = row["flop"] / seconds / 1e9, row["bytes"] / seconds / 1e9
        cells.append((f"{gflops:8.0f}{gflops / peaks['gflops']:7.0%}" if row["flop"] else " " * 15)
                     + f"{gb:7.1f}{gb / peaks['gb_per_s']:7.0%}{row['error']:9.0e}")
    else:
        cells.append(" " * 38)
    for layout in LAYOUTS:
        label = f"torch {layout}"
        cells.append(f"{row['ms'][label]:10.3f}{row['speed'][label]:7.2f} x" if label in row["ms"] else " " * 19)
    return "".join(cells).rstrip()


def summary(rows):
    """For each op, the least of its speeds over its shapes: each part against channels_last, the whole against PyTorch's faster layout."""
    lines = []
    for group in dict.fromkeys(row["group"] for row in rows):
        least = {}
        for row in rows:
            speeds = row["speed"]
            if row["group"] == group and speeds:
                speed = min(speeds.values()) if row["part"] == WHOLE else speeds.get(f"torch {LAYOUTS[0]}", min(speeds.values()))
                least[row["part"]] = min(speed, least.get(row["part"], speed))
        lines += [f"{group:18}" + ", ".join(f"{part} {speed:.2f} x" for part, speed in least.items())] if least else []
    return lines


HEAD = (f"{'shape':16}{'':19}{'ms':>9}{'GFLOP/s':>8}{'':7}{'GB/s':>7}{'':7}{'error':>9}{'channels_last ms':>19}{'contiguous ms':>19}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", metavar="NAME", help="only the ops whose name contains NAME: 3x3, 1x1, GroupNorm, attention, optimizer, ...")
    parser.add_argument("--rounds", type=int, default=5, help="times that the contenders take turns at each call (default 5)")
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    parser.add_argument("--picture", metavar="FILE", help="also draw the roofline into FILE, a PNG")
    parser.add_argument("--quick", action="store_true", help="small shapes, one round, no PyTorch: does it all work?")
    parser.add_argument("--contender", choices=("tinydiff", "torch"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    cases = small_step() if args.quick else reference_step()
    if args.contender:
        return work(args.contender, cases)
    chosen = [(index, case) for index, case in enumerate(cases) if not args.only or args.only.lower() in case.group.lower()]
    if not chosen:
        parser.error(f"--only {args.only}: no such op; there are {', '.join(dict.fromkeys(case.group for case in cases))}")

    print(header())
    quick = ["--quick"] if args.quick else []
    contenders = [Contender("tinydiff", *quick, OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")]       # the references' matrix products
    if importlib.util.find_spec("torch") and not args.quick:
        contenders.append(Contender("torch"))
    seconds, rounds = (0.001, 1) if args.quick else (SECONDS, args.rounds)
    peaks = contenders[0].ask(what="peaks", **(dict(seconds=0.01, caches=1) if args.quick else dict(seconds=0.5, caches=4)))
    print(f"measured: at most {peaks['gflops']:.0f} GFLOP/s (float32 multiply-adds), {peaks['gb_per_s']:.1f} GB/s from and to memory\n")
    rows, group = [], None
    for index, case in chosen:
        if case.group != group:
            group = case.group
            print(f"{group}\n{HEAD}")
        for row in measure(case, index, contenders, rounds, seconds):
            rows.append(row)
            print(shown(row, peaks), flush=True)
    for contender in contenders:
        contender.close()
    if summary(rows):
        print("\ntinydiff's least speed over the shapes of an op, in PyTorch's (channels_last; forward + backward: its faster layout)")
        print(*summary(rows), sep="\n")
    if args.json:
        write_json(args.json, dict(peaks=peaks, rows=rows))
    if args.picture:
        from roofline import draw
        draw(rows, peaks, args.picture)


if __name__ == "__main__":
    main()
