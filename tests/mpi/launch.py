"""How the tests start real MPI processes, and what skips them where there is no MPI."""
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MPIEXEC = shutil.which("mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
needs_mpi = pytest.mark.skipif(not (importlib.util.find_spec("mpi4py") and MPIEXEC), reason="MPI is not installed: pip install -e '.[mpi]'")


def start(n, *command, **env):
    """n ranks of `python command`, one thread each unless env says otherwise."""
    return subprocess.Popen([MPIEXEC, "-n", str(n), sys.executable, *map(str, command)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, encoding="utf-8", env=os.environ | {"PYTHONPATH": str(ROOT), "NUMBA_NUM_THREADS": "1",
                                                                           "PYTHONIOENCODING": "utf-8"} | env)


def end(process, timeout=120):
    """(exit status, stdout, stderr but for the line of a first run). A job that takes longer is ended, and the test fails."""
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.terminate()
        raise
    return process.returncode, out, "".join(line for line in err.splitlines(True) if "compiling kernels for this processor" not in line)
