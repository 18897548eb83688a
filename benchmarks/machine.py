"""The machine that the figures were taken on, said above every table and in every JSON file."""
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import numba
import numpy as np
from numba import config

from tinydiff.kernels.vector import host_features, lanes

THREADS = config.NUMBA_NUM_THREADS          # of every contender: all cores that this process may use, or NUMBA_NUM_THREADS
HAS_BFLOAT16 = bool(host_features() & {"avx512bf16", "amx-bf16", "bf16"})        # instructions; without them a PyTorch step takes 30 times as long


def cpu_name() -> str:
    """What the processor calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    try:
        return subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return platform.processor() or "unknown processor"


def describe() -> dict:
    """CPU, lanes, threads and versions; torch: None where it isn't installed."""
    try:
        torch = metadata.version("torch")
    except metadata.PackageNotFoundError:
        torch = None
    return dict(cpu=cpu_name(), machine=platform.machine(), cores=os.cpu_count(), threads=THREADS, float32_lanes=lanes(np.float32),
                system=platform.system(), python=platform.python_version(), numpy=np.__version__, numba=numba.__version__, torch=torch)


def header() -> str:
    """The same as two lines of text."""
    d = describe()
    return (f"{d['cpu']} ({d['machine']}), {d['cores']} cores, {d['threads']} threads, {d['float32_lanes']} float32 lanes\n"
            f"{d['system']}, Python {d['python']}, NumPy {d['numpy']}, Numba {d['numba']}, "
            + (f"PyTorch {d['torch']}" if d["torch"] else "no PyTorch"))


def l3_bytes() -> int:
    """The last-level cache's size; 64 MB where the system doesn't say."""
    try:
        text = Path("/sys/devices/system/cpu/cpu0/cache/index3/size").read_text().strip()
        return int(text.rstrip("KM")) * {"K": 2 ** 10, "M": 2 ** 20}[text[-1]]
    except (OSError, ValueError, KeyError):
        return 64 * 2 ** 20


def resident_mb() -> float:
    """What this process holds in memory now, in MB; on systems without /proc the most that it has held."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024 ** 2
    except OSError:
        return peak_mb()


def peak_mb() -> float:
    """The most memory that this process has held, in MB; NaN on Windows, which doesn't say."""
    try:
        import resource
    except ImportError:
        return float("nan")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 ** 2 if platform.system() == "Darwin" else 1024)
