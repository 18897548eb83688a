"""The number of threads is the one asked for, by --threads or by NUMBA_NUM_THREADS; more than there are cores is worth a warning."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "train_cats.py"
CODE = "import runpy, sys, numba; runpy.run_path(sys.argv[1])['use_threads'](eval(sys.argv[2])); print(numba.get_num_threads())"
CORES = os.cpu_count()


@pytest.mark.parametrize("flag, variable, used, warning", [
    (None, 1, 1, ""),
    (1, 2, 1, ""),
    (3, 1, 1, "using 1 threads; NUMBA_NUM_THREADS=3 would allow 3"),
    (None, CORES + 1, CORES + 1, f"{CORES + 1} threads on {CORES} cores"),
])
def test_threads_are_as_asked_for(flag, variable, used, warning):
    done = subprocess.run([sys.executable, "-c", CODE, SCRIPT, str(flag)], capture_output=True, text=True,
                          env=os.environ | {"NUMBA_NUM_THREADS": str(variable), "PYTHONPATH": str(SCRIPT.parents[1])})
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(used)]
    assert warning in done.stderr and bool(warning) == bool(done.stderr)
