"""Aligned memory that is used again: arrays on 64-byte boundaries from a pool, and working space for each thread.

A vector load that straddles two cache lines costs two loads, and a fresh array costs a page fault every 4 KB when it is first written (3.8 ms
for 32 MB, where writing it again takes 0.6 ms). A training step asks for the same sizes again and again: `empty` hands out what an array that
is gone has given back.
"""
import threading
from collections import defaultdict

import numba
import numpy as np

ALIGNMENT = 64                                  # bytes of a cache line, and of the widest vector
KEEP_BYTES = 1 << 30                            # free memory beyond this is given back to the system

_free: dict[int, list[np.ndarray]] = defaultdict(list)
_free_bytes = 0
_local = threading.local()


class _Lease:
    """Owns a piece of the pool's memory; when the last array on it is gone, the memory goes back to the pool."""

    def __init__(self, nbytes):
        global _free_bytes
        try:
            self.memory = _free[nbytes].pop()
            _free_bytes -= nbytes
        except IndexError:
            self.memory = np.empty(nbytes + ALIGNMENT, np.uint8)
        self.nbytes = nbytes
        start = self.memory.ctypes.data
        self.__array_interface__ = dict(
            data=(start + -start % ALIGNMENT, False), shape=(nbytes,), typestr="|u1", version=3)

    def __del__(self):
        global _free_bytes
        if _free_bytes is not None and _free_bytes + self.nbytes <= KEEP_BYTES:      # None: the interpreter is shutting down
            _free[self.nbytes].append(self.memory)
            _free_bytes += self.nbytes


def empty(shape, dtype) -> np.ndarray:
    """Like np.empty, on a 64-byte boundary, from the pool."""
    dtype = np.dtype(dtype)
    nbytes = int(np.prod(shape)) * dtype.itemsize
    return np.asarray(_Lease(nbytes + -nbytes % ALIGNMENT))[:nbytes].view(dtype).reshape(shape)


def scratch(name, size, dtype) -> np.ndarray:
    """(threads, size) working space of a kernel, a row for each thread. It is kept and handed out again under the same name: its contents
    are what the last call left."""
    rows = _local.__dict__.setdefault("rows", {})
    key, size = (name, np.dtype(dtype)), int(size) + -int(size) % ALIGNMENT
    if key not in rows or rows[key].shape[1] < size or rows[key].shape[0] < numba.get_num_threads():
        rows[key] = empty((numba.get_num_threads(), size), dtype)
    return rows[key]


def padded_channels(array, multiple) -> np.ndarray:
    """The array itself, or a copy whose last axis is filled up with zeros to a multiple: kernels take whole vectors."""
    missing = -array.shape[-1] % multiple
    if not missing:
        return array
    wide = empty((*array.shape[:-1], array.shape[-1] + missing), array.dtype)
    wide[..., :array.shape[-1]] = array
    wide[..., array.shape[-1]:] = 0
    return wide
