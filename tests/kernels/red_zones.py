"""Memory in which a kernel's mistake shows: arrays that lie between red zones, or end where the process may not read."""
import ctypes
import mmap
import sys

import numba
import numpy as np
import pytest

from tinydiff.kernels import buffers

ZONE, ALIGNMENT, PAGE = 512, 64, mmap.PAGESIZE          # bytes
PROT_NONE = 0                                           # of mprotect(2): no reading, no writing
NAN, ZERO = 0xFF, 0x00                                  # a byte that makes every float NaN (and every integer -1), and one that makes it 0


class RedZones:
    """In place of the pool of buffers: every array starts out full of one byte, and lies between zones full of it."""

    def __init__(self, byte: int):
        self.byte, self.zones = byte, []

    def empty(self, shape, dtype=np.float64) -> np.ndarray:
        dtype = np.dtype(dtype)
        nbytes = int(np.prod(shape)) * dtype.itemsize
        memory = np.full(ALIGNMENT + ZONE + nbytes + ZONE, self.byte, np.uint8)
        first = ZONE + -(memory.ctypes.data + ZONE) % ALIGNMENT
        self.zones += [memory[:first], memory[first + nbytes:]]
        return memory[first:first + nbytes].view(dtype).reshape(shape)

    def zeros(self, shape, dtype=np.float64) -> np.ndarray:
        array = self.empty(shape, dtype)
        array[...] = 0
        return array

    def scratch(self, name, size, dtype) -> np.ndarray:
        """Exactly as large as asked for, unlike the real one."""
        return self.empty((numba.get_num_threads(), int(size)), dtype)

    def call(self, function, arguments):
        """The function's results with all its buffers in here. Raises AssertionError where it wrote into a zone.

        `arguments` must be of types that the function has been called with before: nothing is compiled meanwhile.
        """
        replacements = {buffers.empty: self.empty, buffers.scratch: self.scratch}
        with pytest.MonkeyPatch.context() as patch:
            for module_name, module in list(sys.modules.items()):
                if module_name.startswith("tinydiff.kernels"):
                    for name, value in list(vars(module).items()):
                        if callable(value) and value in replacements:
                            patch.setattr(module, name, replacements[value])
            patch.setattr(np, "empty", self.empty)
            patch.setattr(np, "zeros", self.zeros)
            results = function(*arguments)
        for number, zone in enumerate(self.zones):
            assert (zone == self.byte).all(), f"buffer {number // 2} of the call was written {('before', 'after')[number % 2]} its bounds"
        return results


def at_page_end(array) -> np.ndarray:
    """A copy that ends where a page begins which the process may not touch; before it are NaNs, and then another such page.

    A read outside ends the process. (On Windows only the NaNs are there.)
    """
    pages = -(-array.nbytes // PAGE)
    memory = mmap.mmap(-1, (pages + 2) * PAGE)
    view = np.frombuffer(memory, np.uint8)
    view[:] = NAN
    copy = view[(pages + 1) * PAGE - array.nbytes:(pages + 1) * PAGE].view(array.dtype).reshape(array.shape)
    copy[...] = array
    if sys.platform != "win32":
        mprotect = ctypes.CDLL(None, use_errno=True).mprotect
        for page in (0, pages + 1):
            if mprotect(ctypes.c_void_p(view.ctypes.data + page * PAGE), ctypes.c_size_t(PAGE), PROT_NONE):
                raise OSError(ctypes.get_errno(), "mprotect")
    return copy
