"""How the kernels are compiled: with which flags, into which cache, and what the user is told meanwhile.

Compiled kernels are kept on disk in a folder named by a hash of this package's sources: an edit of any file here makes a new folder, so
that old machine code can never be served for new source. (Numba's own check sees only the file of the jitted function, not the files that
emit code for it.) Where the folder can't be written, kernels are compiled in memory, at every start, and a line says so.

Read first: `elementwise.py`, where it is used.
"""
import hashlib
import os
import sys
import tempfile
from pathlib import Path

import numba
import numpy as np
from numba.core import event

# Products and sums may become fma. `nnan` and `ninf` are left out: NaN and infinity must come out; `reassoc` too: a sum has the order in which it is
# written, since LLVM, if it may choose, chooses one way in the process that compiles a kernel and another in those that find it in the cache.
FLAGS = {"contract", "nsz", "arcp", "afn"}
OPTIMISATION = 1                         # LLVM's level, 0 to 3; a lower one that a user has set stays
PIECE = 1 << 14                          # elements that a thread takes at once, where a kernel goes over flat arrays
OPTIONS = dict(fastmath=FLAGS, error_model="numpy", nogil=True)


def cache_folder() -> Path | None:
    """The folder of the compiled kernels; None where no folder can be written."""
    sources = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        sources.update(path.read_bytes())
    home = os.environ.get("LOCALAPPDATA") or os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(os.environ.get("NUMBA_CACHE_DIR") or Path(home) / "tinydiff") / f"kernels-{sources.hexdigest()[:16]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        print(f"tinydiff: the kernel cache {folder} can't be written ({error.strerror}): kernels are compiled in memory at every start; "
              "set NUMBA_CACHE_DIR to a folder that can be", file=sys.stderr)
        return None
    return folder


CACHE_FOLDER = cache_folder()


def jit(function=None, parallel=True):
    """numba.njit with the settings of this house."""
    if function is None:
        return lambda function: jit(function, parallel)
    compiled = numba.njit(parallel=parallel, **OPTIONS)(function)
    if CACHE_FOLDER is not None:
        user_setting = numba.config.CACHE_DIR
        numba.config.CACHE_DIR = str(CACHE_FOLDER)
        try:
            compiled.enable_caching()
        finally:
            numba.config.CACHE_DIR = user_setting
    return compiled


class WhileCompiling(event.Listener):
    """Around each compilation of a kernel. The first of a process is announced on standard error: the user waits for it. And LLVM is asked for
    less: the vector code is already as it should be, and is there sooner (benchmarks/README.md, "Start-up")."""
    def __init__(self):
        self.said = False
        self.levels = []                    # that Numba had before: kernels are compiled within the compiling of others

    def on_start(self, started):
        if not _is_kernel(started):
            return
        self.levels.append(numba.config.OPT)
        numba.config.OPT = type(numba.config.OPT)(min(OPTIMISATION, numba.config.OPT))
        if not self.said:
            self.said = True
            where = "for this process only" if CACHE_FOLDER is None else f"once, kept in {CACHE_FOLDER}"
            print(f"tinydiff: compiling kernels for this processor ({where}) ...", file=sys.stderr, flush=True)

    def on_end(self, ended):
        if _is_kernel(ended):
            numba.config.OPT = self.levels.pop()


def _is_kernel(compilation):
    return f"{compilation.data['dispatcher'].py_func.__module__}.".startswith(f"{__package__}.")


event.register("numba:compile", WhileCompiling())


def readonly(array: np.ndarray) -> np.ndarray:
    """The array as a C-contiguous read-only view (a copy where it is not contiguous): every kernel is compiled for this one kind of input."""
    flags = array.flags
    if flags.c_contiguous and not flags.writeable:
        return array
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view
