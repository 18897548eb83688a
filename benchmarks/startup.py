"""How long until it runs: the import, the first training step with compiled kernels at hand, and the compiling of all of them.

    python benchmarks/startup.py [--rounds 5] [--json startup.json]

Everything is timed in fresh processes. `import` alone; from the start of `python` to the beginning, and to the end, of the first training step
of the reference U-Net, with the kernels in the cache; and the same with an empty cache, where a line on standard error has to say what is being
waited for.
"""
import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

from contenders import write_json
from machine import header
from train_step import QUICK

SAYS = "tinydiff: compiling kernels"
IMPORT = "import time; start = time.perf_counter(); import tinydiff; print(time.perf_counter() - start)"
# What a user's script does: a network, pictures, a trainer, a step. It says when its first step begins and ends, and how long a second takes.
FIRST_STEP = """
import sys, tempfile, time
import numpy as np
import tinydiff as td
config = td.nn.UNetConfig({settings})
images = np.random.default_rng(0).integers(0, 256, (40, config.image_size, config.image_size, 3), dtype=np.uint8)
with tempfile.TemporaryDirectory() as folder:
    trainer = td.training.Trainer(td.nn.UNet(config, rng=np.random.default_rng(0)), td.data.ImageSet(images),
                                  td.training.TrainConfig(batch={batch}, epochs=1), folder)
    times = [time.time()]
    for _ in range(2):
        trainer.step()
        times.append(time.time())
print(*times)
"""


def run(code, **environment):
    """A process's numbers, what it said on standard error, and when it was started."""
    start = time.time()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | environment)
    if done.returncode:
        raise SystemExit(f"startup: the process failed:\n{done.stderr}")
    return [float(word) for word in done.stdout.split()], done.stderr, start


def first_step(code, **environment):
    """Seconds from the start of the process to the first step's beginning and to its end, seconds of the second step; and standard error."""
    (begins, ends, second), said, start = run(code, **environment)
    return dict(begins=begins - start, ends=ends - start, second_step=second - ends), said


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="processes of each kind but the compiling one (default 5)")
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    parser.add_argument("--quick", action="store_true", help="a small network, one process of each kind, one kernel compiled: does it all work?")
    args = parser.parse_args()

    print(header())
    settings = ", ".join(f"{name}={value}" for name, value in QUICK.items()) if args.quick else ""
    code, rounds = FIRST_STEP.format(settings=settings, batch=2 if args.quick else 16), 1 if args.quick else args.rounds
    run(IMPORT)                                                                     # files into the system's cache
    imports = [run(IMPORT)[0][0] for _ in range(rounds)]
    first_step(code)                                                                # compiles what isn't in the cache yet
    warm = [first_step(code) for _ in range(rounds)]
    if any(SAYS in said for _, said in warm):
        raise SystemExit("startup: kernels were compiled although all were in the cache")
    figures = {"import": statistics.median(imports)}
    figures |= {f"warm {key}": statistics.median(times[key] for times, _ in warm) for key in ("begins", "ends")}
    with tempfile.TemporaryDirectory() as empty:
        if args.quick:
            code = "import time, numpy, tinydiff; begins = time.time(); tinydiff.kernels.silu(numpy.ones(3)); print(begins, time.time(), time.time())"
        cold, said = first_step(code, NUMBA_CACHE_DIR=empty)
    if said.count(SAYS) != 1:
        raise SystemExit(f"startup: with an empty cache, standard error should have said {SAYS!r} once; it said:\n{said}")
    figures["compiling"] = cold["ends"] - cold["begins"] - cold["second_step"]
    print(f"\nimport tinydiff                                           {figures['import']:8.2f} s (median of {rounds})")
    print(f"from `python` to the beginning of the first training step {figures['warm begins']:8.2f} s, kernels in the cache")
    print(f"from `python` to its end                                  {figures['warm ends']:8.2f} s")
    print(f"compiling {'one kernel' if args.quick else 'all kernels of that step'}{'':{38 if args.quick else 24}}{figures['compiling']:8.1f} s, once")
    print(f"meanwhile it says: {said.strip()}")
    if args.json:
        write_json(args.json, figures)


if __name__ == "__main__":
    main()
