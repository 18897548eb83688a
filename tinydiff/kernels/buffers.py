"""Aligned memory that is used again: arrays on 64-byte boundaries from a pool, and working space for each thread.

A vector load that straddles two cache lines costs two loads, and a fresh array costs a page fault every 4 KB when it is first written (3.8 ms
for 32 MB, where writing it again takes 0.6 ms). A training step asks for some 800 arrays again and again; `empty` cuts them out of large slabs
and joins what comes back, so that all of them together take little more room than the most that live at once.

Read first: `elementwise.py`, where it is used.
"""
import math
import threading
from bisect import bisect
from collections import deque

import numba
import numpy as np
from numba.extending import register_jitable

ALIGNMENT = 64                                  # bytes of a cache line, and of the widest vector
SLAB_BYTES = 1 << 26                            # taken from the system at once, or more for a larger array
SMALL_BYTES = 1 << 14                           # arrays below this are not worth pooling

_local = threading.local()


@register_jitable
def whole(n, multiple) -> int:
    """The least multiple that is not below n."""
    return (n + multiple - 1) // multiple * multiple


def address(array) -> int:
    """Where its first element lies. (array.ctypes.data says the same in three times the time.)"""
    return array.__array_interface__["data"][0]


class Pool:
    """Pieces of memory by best fit: the smallest free piece that is large enough is cut, and neighbours that are free are joined again."""

    def __init__(self):
        self.slabs = []                         # the arrays that own the memory; it is kept: the next step needs it again
        self.free = []                          # (address, bytes) of the free pieces, ascending
        self.returned = deque()                 # pieces that came back; a garbage collection may bring one at any moment, so they wait here
        self.lock = threading.Lock()

    def take(self, nbytes) -> int:
        """The address of a piece of nbytes, a multiple of ALIGNMENT."""
        with self.lock:
            while self.returned:
                self._join(*self.returned.popleft())
            fitting = [(size, start) for start, size in self.free if size >= nbytes] or [self._grow(nbytes)]
            size, start = min(fitting)
            i = bisect(self.free, (start, 0))
            self.free[i:i + 1] = [(start + nbytes, size - nbytes)] if size > nbytes else []
            return start

    def _grow(self, nbytes):
        size = max(SLAB_BYTES, nbytes)
        slab = np.empty(size + ALIGNMENT, np.uint8)
        first = address(slab) + -address(slab) % ALIGNMENT
        self.slabs.append(slab)
        self.free.insert(bisect(self.free, (first, 0)), (first, size))
        return size, first

    def _join(self, start, size):
        """A piece has come back: join it with its free neighbours. Slabs never touch, so a piece never reaches into another slab."""
        i = bisect(self.free, (start, 0))
        if i < len(self.free) and self.free[i][0] == start + size:
            size += self.free.pop(i)[1]
        if i > 0 and sum(self.free[i - 1]) == start:
            i -= 1
            start, more = self.free.pop(i)
            size += more
        self.free.insert(i, (start, size))


_pool = Pool()


class _Lease:
    """Owns a piece of the pool; when the last array on it is gone, the piece goes back."""

    def __init__(self, nbytes):
        self.piece = _pool.take(nbytes), nbytes
        self.__array_interface__ = dict(data=(self.piece[0], False), shape=(nbytes,), typestr="|u1", version=3)

    def __del__(self, returned=_pool.returned):
        returned.append(self.piece)


def pool_bytes() -> tuple[int, int]:
    """Bytes of the pool: those that are in use now, and those that it has taken from the system."""
    with _pool.lock:
        taken = sum(slab.nbytes - ALIGNMENT for slab in _pool.slabs)
        free = sum(size for _, size in _pool.free) + sum(size for _, size in _pool.returned)
    return taken - free, taken


def empty(shape, dtype) -> np.ndarray:
    """Like np.empty, on a 64-byte boundary, from the pool unless small."""
    dtype = np.dtype(dtype)
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes < SMALL_BYTES:
        memory = np.empty(nbytes + ALIGNMENT, np.uint8)
        memory = memory[-address(memory) % ALIGNMENT:]
    else:
        memory = np.asarray(_Lease(whole(nbytes, ALIGNMENT)))
    return memory[:nbytes].view(dtype).reshape(shape)


def scratch(name, size, dtype) -> np.ndarray:
    """(threads, size) working space of a kernel, a row for each thread. It is kept and handed out again under the same name: its contents
    are what the last call left."""
    rows = _local.__dict__.setdefault("rows", {})
    key, size, threads = (name, np.dtype(dtype)), whole(int(size), ALIGNMENT), numba.get_num_threads()
    if key not in rows or rows[key].shape[1] < size or rows[key].shape[0] < threads:
        rows[key] = empty((threads, size), dtype)
    return rows[key]


def with_channels(array, C) -> np.ndarray:
    """(...,C1) -> (...,C), C >= C1: the array itself, or a copy filled up with zeros. For weights and biases; larger arrays are read as they are."""
    if array.shape[-1] == C:
        return array
    wide = empty((*array.shape[:-1], C), array.dtype)
    wide[..., :array.shape[-1]], wide[..., array.shape[-1]:] = array, 0
    return wide
