"""What does each kernel gain over the NumPy code above it, which says what it computes? Both in float32, at sizes of the reference step.

    python benchmarks/references.py [--json references.json]

The first case of each op (cases.py): the reference's time, the kernel's, and how many times as fast that is. NumPy's own matrix products use
all cores, its other functions one. That both give the same is checked by `kernels.py` and the tests.
"""
import argparse
import statistics
import time

from tinydiff.kernels import KERNELS

from cases import reference_step, small_step
from contenders import write_json
from machine import header

ROUNDS = 7                  # calls of each
SETTLE = 0.1                # seconds after which the other's threads have stopped to wait for more work


def milliseconds(run, rounds):
    """The median time of a call, of so many after one that compiles it and fills the caches."""
    time.sleep(SETTLE)
    run()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def measure(case, part, rounds):
    """{"kernel", "op", "shape", "reference_ms", "kernel_ms", "gain"} of one call."""
    arrays = case.arrays()
    out = KERNELS[case.parts[0].kernel].fast(*case.parts[0].arguments(arrays, None))
    arguments = part.arguments(arrays, out)
    fast, reference = (milliseconds(lambda: form(*arguments), rounds) for form in KERNELS[part.kernel])
    return dict(kernel=part.kernel, op=case.group, shape=case.shape, reference_ms=reference, kernel_ms=fast, gain=reference / fast)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    parser.add_argument("--quick", action="store_true", help="small shapes, one round: does it all work?")
    args = parser.parse_args()
    print(header())
    print(f"{'kernel':24}{'op':18}{'shape':18}{'NumPy ms':>10}{'kernel ms':>11}{'gain':>9}")
    rows, first = [], {}
    for case in small_step() if args.quick else reference_step():
        first.setdefault(case.group, case)
    for case in first.values():
        for part in case.parts:
            row = measure(case, part, 1 if args.quick else ROUNDS)
            rows.append(row)
            print(f"{row['kernel']:24}{row['op']:18}{row['shape']:18}{row['reference_ms']:10.2f}{row['kernel_ms']:11.3f}{row['gain']:7.1f} x",
                  flush=True)
    if args.json:
        write_json(args.json, dict(rows=rows))


if __name__ == "__main__":
    main()
