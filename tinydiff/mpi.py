"""Data parallelism over MPI: one training run, or one set of samples, on the cores of many machines.

    pip install -e '.[mpi]'
    mpiexec -n 4 python examples/train_cats.py --mpi

Every rank is a process with a copy of the network. It computes the gradient of its part of the batch; the sum of all ranks' gradients is that
of the batch, and from there on all do the same. The sum is made in buckets, each started as soon as backward has filled it, so that it
travels while backward goes on (Li et al. 2020, arXiv 2006.15704, section 3.2.3). Nothing in tinydiff imports this file.

Read first: `training/trainer.py`, `training/ranks.py`.
"""
import math
import os
import platform
import signal
import socket
import sys
import threading
import traceback
import zlib
from contextlib import contextmanager
from pathlib import Path

import numba
import numpy as np

import tinydiff
from tinydiff.training.ranks import Ranks

BUCKET = 1 << 20        # elements, 4 MiB of float32: large enough for a network's full speed, small enough for the first to leave early


def start(ordered: bool = False) -> "MPIRanks":
    """Joins this process to the others that mpiexec has started. To be called once, before anything is computed.

    ordered: add gradients in the order of the ranks. Without it MPI chooses the order, and with three ranks or more might choose another
    in the next run, which changes the last bits. Raises ImportError, with what to do, where mpi4py or an MPI is missing.
    """
    try:
        import mpi4py  # starts nothing yet
    except ImportError as error:
        raise ImportError("--mpi needs mpi4py: pip install -e '.[mpi]' brings it, and an MPI") from error
    to_guardian = guard() if sys.platform == "linux" else None
    mpi4py.rc.thread_level = "funneled"                         # only the main thread calls MPI
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise ImportError(f"mpi4py finds no MPI ({str(error).splitlines()[0]}): pip install -e '.[mpi]' brings one") from error
    ranks = MPIRanks(MPI, ordered)
    if to_guardian is not None:
        to_guardian.sendall(ranks.name.encode())
    return ranks


def guard() -> socket.socket:
    """Goes on in a child process. The parent stays behind as its guardian, to say what killed it, which a killed process can't do itself.

    The guardian ends as the child has ended, and mpiexec then ends all other ranks. Returns the child's line to it, to send its name by.
    """
    guardians, childs = socket.socketpair()
    child = os.fork()
    if child:
        childs.close()
        signal.signal(signal.SIGINT, signal.SIG_IGN)            # the child gets it too
        name = b"".join(iter(lambda: guardians.recv(1024), b"")).decode() or "a rank"      # until the child has ended
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code < 0 and -code != signal.SIGINT:
            print(f"{name}, process {child}, is dead ({signal.strsignal(-code)}), and the job ends here; the last checkpoint is intact",
                  file=sys.stderr, flush=True)
        os._exit(code if code >= 0 else 128 - code)
    guardians.close()

    def end_with_guardian():
        childs.recv(1)                                          # nothing is ever sent: it returns when the guardian is gone
        os._exit(1)
    threading.Thread(target=end_with_guardian, daemon=True).start()
    return childs


class MPIRanks(Ranks):
    """This process among all that mpiexec has started. Made by `start`.

    name     "rank 1 of 4 (on HOST)"
    threads  cores of this host, or those of them that mpiexec has bound its ranks to, divided by its ranks; at least 1

    From now on a Ctrl-C is noted, to be heeded by all ranks together; a second one ends the program. An exception that nobody catches is
    printed and ends the whole job.
    """

    def __init__(self, MPI, ordered: bool):
        self.MPI, self.comm, self.ordered = MPI, MPI.COMM_WORLD, ordered
        self.rank, self.size = self.comm.rank, self.comm.size
        self.name = f"rank {self.rank} of {self.size} (on {platform.node()})"
        host = self.comm.Split_type(MPI.COMM_TYPE_SHARED)
        cores = host.allgather(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1)))
        self.threads = max(1, min(len(set().union(*cores)) // host.size, numba.config.NUMBA_NUM_THREADS))
        self._buckets, self._interrupted, self._failed = None, False, False
        signal.signal(signal.SIGINT, self._note_interrupt)
        sys.excepthook = self._abort

    def backward(self, loss, params):
        if self._buckets is None:
            self._buckets = Buckets(self, params)
        self._buckets.clear()
        if loss is None:
            for p in params:
                self._buckets.add(p, np.zeros(p.shape, p.dtype))
        else:
            loss.backward(on_leaf=self._buckets.add)
        self._buckets.finish()

    def total(self, value):
        return math.fsum(self._exchange(value))                 # rounded once

    def gather(self, items):
        self.heed_interrupt()
        return sum(self.comm.gather(items) or [], [])

    def require_same(self, facts):
        first, *others = self._exchange((self.name, dict(flatten(facts | {"code": code()}))))
        differences = [f"{key} is {theirs.get(key)!r} on {name} but {value!r} on {first[0]}"
                       for name, theirs in others for key, value in first[1].items() if theirs.get(key) != value]
        if differences:
            self._failed = True
            raise ValueError("the ranks must start alike, but " + "; ".join(differences))

    @contextmanager
    def together(self):
        try:
            yield
        except (OSError, ValueError) as error:
            if not self._failed:                                # otherwise all know
                self._exchange(None, f"{self.name}: {error}")
            raise
        self.heed_interrupt()

    def heed_interrupt(self):
        if any(self._exchange(self._interrupted)):
            raise KeyboardInterrupt

    def _exchange(self, value, error=None):
        """The values of all ranks, in order. Wherever a rank waits for others it waits here, so an error can be told to all."""
        answers = self.comm.allgather((value, error))
        errors = [error for _, error in answers if error]
        if errors:
            self._failed = True
            raise ValueError(errors[0])
        return [value for value, _ in answers]

    def _note_interrupt(self, number, frame):
        self._interrupted = True
        if self.rank == 0:
            print("\nstopping at the next moment that suits all ranks; Ctrl-C again stops at once", file=sys.stderr, flush=True)
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    def _abort(self, kind, error, trace):
        print(f"{self.name} has failed, and the job ends here:\n{''.join(traceback.format_exception(kind, error, trace))}",
              file=sys.__stderr__, flush=True)
        self.comm.Abort(1)


class Buckets:
    """The gradients of all parameters in a few flat arrays; the last parameters, which backward reaches first, are in the first.

    The sum of a bucket over the ranks starts when it is full and all before it have started: the same order on all ranks, as MPI wants it.
    """

    def __init__(self, ranks: MPIRanks, params):
        self.ranks, self.arrays, self.place = ranks, [], {}     # place: parameter -> (number of its bucket, its piece of that)
        bucket = []
        for p in reversed(params):
            bucket.append(p)
            if sum(q.size for q in bucket) >= BUCKET or p is params[0]:
                self._make(bucket)
                bucket = []
        self.received = [np.empty((ranks.size, len(array) // ranks.size), array.dtype) for array in self.arrays] if ranks.ordered else []

    def _make(self, params):
        ends = np.cumsum([p.size for p in params])
        array = np.zeros(-(-ends[-1] // self.ranks.size) * self.ranks.size, params[0].dtype)       # the ordered sum divides it by ranks
        for p, end in zip(params, ends):
            self.place[p] = len(self.arrays), array[end - p.size:end].reshape(p.shape)
        self.arrays.append(array)

    def clear(self):
        """Ready for another backward."""
        self.requests = []                                      # one for each bucket whose sum has started
        self.missing = np.bincount([number for number, _ in self.place.values()])

    def add(self, leaf, gradient):
        """Takes the last part of a leaf's gradient. A Tensor that is no parameter is passed over."""
        if leaf not in self.place:
            return
        number, piece = self.place[leaf]
        piece[...] = gradient if leaf.grad is None else leaf.grad + gradient
        self.missing[number] -= 1
        while len(self.requests) < len(self.arrays) and not self.missing[len(self.requests)]:
            self._start(len(self.requests))
        self.ranks.MPI.Request.Testall(self.requests)           # data moves only while MPI is called

    def _start(self, number):
        array, comm = self.arrays[number], self.ranks.comm
        if self.ranks.ordered:
            self.requests.append(comm.Ialltoall(array, self.received[number]))
        else:
            self.requests.append(comm.Iallreduce(self.ranks.MPI.IN_PLACE, array))

    def finish(self):
        """Waits for the sums, and makes them the parameters' .grad. Raises ValueError where a parameter was given no gradient."""
        if self.missing.any():
            raise ValueError(f"mpi: backward gave no gradient to {self.missing.sum()} of {len(self.place)} parameters")
        self.ranks.MPI.Request.Waitall(self.requests)
        for array, received in zip(self.arrays, self.received):
            for row in received[1:]:                            # the same stretch of each rank's bucket, in the order of the ranks
                received[0] += row
            self.ranks.comm.Allgather(received[0], array)
        for p, (_, piece) in self.place.items():
            p.grad = piece


def code() -> dict:
    """What results depend on besides the input: this program and what it is built on."""
    source = b"".join(path.read_bytes() for path in sorted(Path(tinydiff.__file__).parent.rglob("*.py")))
    return {"tinydiff": tinydiff.__version__, "crc32": zlib.crc32(source), "numpy": np.__version__, "numba": numba.__version__}


def flatten(facts, prefix=""):
    """{"a": {"b": 1}} -> ("a.b", 1)"""
    for name, value in facts.items():
        yield from flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else [(prefix + name, value)]
