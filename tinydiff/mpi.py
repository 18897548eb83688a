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
from contextlib import contextmanager, suppress
from pathlib import Path

import numba
import numpy as np

import tinydiff
from tinydiff.training.interrupt import Terminated, interrupt_handlers
from tinydiff.training.ranks import Ranks

BUCKET = 1 << 20        # elements, 4 MiB of float32: large enough for a network's full speed, small enough for the first to leave early


def start(ordered: bool = False) -> "MPIRanks":
    """Joins this process to the others that mpiexec has started. To be called once, before anything is computed.

    ordered: add gradients in the order of the ranks. Without it MPI chooses the order, and with three ranks or more might choose another
    in the next run, which changes the last bits. Raises ImportError, with what to do, where mpi4py or an MPI is missing.

    This process then takes its share of the host's cores as threads. It notes a Ctrl-C (and what else would raise Terminated, see
    interrupt.py), to be heeded by all ranks together; a second one ends the program. An exception that nobody catches ends the whole job.
    """
    try:
        import mpi4py  # starts nothing yet
    except ImportError as error:
        raise ImportError("--mpi needs mpi4py: pip install -e '.[mpi]' brings it, and an MPI") from error
    guardian = guard() if sys.platform == "linux" else None     # elsewhere there is no fork, or one that libraries don't survive
    mpi4py.rc.thread_level = "funneled"                         # only the main thread calls MPI
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise ImportError(f"mpi4py finds no MPI ({str(error).splitlines()[0]}): pip install -e '.[mpi]' brings one") from error
    ranks = MPIRanks(MPI, ordered)
    if guardian is not None:
        guardian.sendall(ranks.name.encode())
    return ranks


def guard() -> socket.socket:
    """Goes on in a child process. The parent stays behind as its guardian, to say what killed it, which a killed process can't do itself.

    When the child has ended so does the guardian, and mpiexec then ends all other ranks. Returns the socket by which to tell it the rank's name.
    """
    guardian_end, child_end = socket.socketpair()
    child = os.fork()
    if child:
        child_end.close()
        for number in interrupt_handlers():
            signal.signal(number, signal.SIG_IGN)               # the child gets it too
        name = b"".join(iter(lambda: guardian_end.recv(1024), b"")).decode() or "a rank"       # until the child has ended
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code < 0 and -code != signal.SIGINT:
            with suppress(OSError):                             # where the terminal is gone too
                print(f"{name}, process {child}, is dead ({signal.strsignal(-code)}), and the job ends here; the last checkpoint, if any, is intact",
                      file=sys.stderr, flush=True)
        os._exit(code if code >= 0 else 128 - code)             # as a shell says it
    guardian_end.close()

    def end_with_guardian():
        child_end.recv(1)                                       # the guardian sends nothing: this returns when it is gone
        os._exit(1)
    threading.Thread(target=end_with_guardian, daemon=True).start()
    return child_end


class MPIRanks(Ranks):
    """This process among all that mpiexec has started, "rank 1 of 4 (on HOST)" its .name. Made by `start`."""

    def __init__(self, MPI, ordered: bool):
        self.MPI, self.comm, self.ordered = MPI, MPI.COMM_WORLD, ordered
        self.rank, self.size = self.comm.rank, self.comm.size
        self.name = f"rank {self.rank} of {self.size} (on {platform.node()})"
        self._buckets, self._told, self._signal = None, None, 0         # told: the error that all ranks raise
        self._share_cores()
        for number in interrupt_handlers():
            signal.signal(number, self._note)
        sys.excepthook = self._abort

    def backward(self, loss, params):
        if self._buckets is None:
            self._buckets = Buckets(self, params)
        self._buckets.clear()
        if loss is None:
            for p in params:
                p.grad = np.zeros(p.shape, p.dtype)
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
            self._told = ValueError("the ranks must start alike, but " + "; ".join(differences))
            raise self._told

    @contextmanager
    def together(self):
        try:
            yield
        except (OSError, ValueError) as error:
            if self._told is None or self._told not in (error, error.__cause__):
                kind = OSError if isinstance(error, OSError) else ValueError
                self._exchange(None, kind(f"{self.name}: {error}"))
            raise
        self._exchange(None)

    def heed_interrupt(self):
        number = max(self._exchange(self._signal))
        if number:
            self._signal = 0
            raise KeyboardInterrupt if number == signal.SIGINT else Terminated(number)

    def _exchange(self, value, error=None):
        """The values of all ranks, in order; an error of one is raised by all. Outside of backward, ranks wait for each other here only."""
        answers = self.comm.allgather((value, error))
        errors = [error for _, error in answers if error]
        if errors:
            self._told = errors[0]
            raise self._told
        return [value for value, _ in answers]

    def _share_cores(self):
        """Takes as many threads as there are cores for each rank on this host: all, or those that mpiexec has bound its ranks to."""
        host = self.comm.Split_type(self.MPI.COMM_TYPE_SHARED)
        cores = host.allgather(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1)))
        numba.set_num_threads(max(1, min(len(set().union(*cores)) // host.size, numba.config.NUMBA_NUM_THREADS)))

    def _note(self, number, frame):
        self._signal = number
        signal.signal(number, signal.SIG_DFL)
        if self.rank == 0:
            again = "; Ctrl-C again stops at once" if number == signal.SIGINT else ""
            with suppress(OSError):
                print(f"\nstopping at the next moment that suits all ranks{again}", file=sys.stderr, flush=True)

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
        self.missing = [set() for _ in self.arrays]             # the parameters that each bucket waits for
        for p, (number, _) in self.place.items():
            self.missing[number].add(p)

    def add(self, leaf, gradient):
        """For backward, at each leaf: takes the gradient, and what .grad holds of earlier ones. A Tensor that is no parameter is passed over."""
        if leaf in self.place:
            self._fill(leaf, gradient if leaf.grad is None else leaf.grad + gradient)
            self.ranks.MPI.Request.Testall(self.requests)       # data moves only while MPI is called

    def finish(self):
        """Waits for the sums, and makes them the parameters' .grad. Raises ValueError where a parameter has no gradient.

        Parameters of recomputed blocks, whose graph `add` doesn't see, come only now.
        """
        for p in set().union(*self.missing):
            if p.grad is None:
                raise ValueError(f"mpi: backward gave no gradient to a parameter of shape {p.shape}")
            self._fill(p, p.grad)
        self.ranks.MPI.Request.Waitall(self.requests)
        for array, received in zip(self.arrays, self.received):
            for row in received[1:]:                            # the same stretch of each rank's bucket, in the order of the ranks
                received[0] += row
            self.ranks.comm.Allgather(received[0], array)
        for p, (_, piece) in self.place.items():
            p.grad = piece

    def _fill(self, p, gradient):
        number, piece = self.place[p]
        piece[...] = gradient
        self.missing[number].remove(p)
        while len(self.requests) < len(self.arrays) and not self.missing[len(self.requests)]:
            self.start_sum(len(self.requests))

    def start_sum(self, number):
        array, comm = self.arrays[number], self.ranks.comm
        if self.ranks.ordered:
            self.requests.append(comm.Ialltoall(array, self.received[number]))
        else:
            self.requests.append(comm.Iallreduce(self.ranks.MPI.IN_PLACE, array))


def code() -> dict:
    """What results depend on besides the input: this program and what it is built on."""
    source = b"".join(path.read_bytes() for path in sorted(Path(tinydiff.__file__).parent.rglob("*.py")))
    return {"tinydiff": tinydiff.__version__, "crc32": zlib.crc32(source), "numpy": np.__version__, "numba": numba.__version__}


def flatten(facts, prefix=""):
    """{"a": {"b": 1}} -> ("a.b", 1)"""
    for name, value in facts.items():
        yield from flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else [(prefix + name, value)]
