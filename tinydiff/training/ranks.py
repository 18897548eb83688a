"""The processes that share a run, as each of them sees the others.

Read first: `__init__.py`.
"""
from contextlib import AbstractContextManager, nullcontext

from tinydiff.autograd import Tensor


class Ranks:
    """One process that does everything itself. `tinydiff.mpi` has the ranks of a cluster, with the same methods.

    size ranks, numbered from 0, hold the same network and the same pictures. Each computes its part of a batch and gets the sum of all
    gradients, so that all take the same step. Rank 0 writes the files. All ranks call the methods, but for `part`, together.
    """
    rank, size = 0, 1

    def part(self, n: int) -> slice:
        """Which of n pictures are this rank's. The parts, in order, make 0 to n-1; rank 0's is the largest, by one at most."""
        return slice(-(-n * self.rank // self.size), -(-n * (self.rank + 1) // self.size))

    def backward(self, loss: Tensor | None, params: list[Tensor]) -> None:
        """loss.backward(), and after it every parameter's .grad, with what was there before, summed over the ranks.

        loss is None on a rank whose part is empty, and only the last loss of a step should come here (see micro_batch).
        """
        loss.backward()     # type: ignore[union-attr]   # one process alone has a part of every batch

    def total(self, value: float) -> float:
        """The sum of value over the ranks."""
        return value

    def gather(self, items: list) -> list:
        """On rank 0 the items of all ranks, in order; on the others nothing, []."""
        return items

    def require_same(self, facts: dict) -> None:
        """Raises ValueError on all ranks, naming what differs, unless all give the same facts, {name: value}, values perhaps dicts again."""

    def together(self) -> AbstractContextManager:
        """A context in which an OSError or ValueError of one rank, outside of `backward`, is raised by all: none is left to wait for it."""
        return nullcontext()

    def heed_interrupt(self) -> None:
        """Raises KeyboardInterrupt on all ranks, or Terminated, if what would raise it has reached one since the last time.

        (A single process isn't held back, and has nothing to heed.)
        """
