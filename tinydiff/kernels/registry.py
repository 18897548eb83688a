"""The list of kernels: every fast kernel is registered here beside the plain NumPy function that says what it computes.

Tests compare the two on drawn inputs, benchmarks check them against each other before they time them.

Read first: nothing; of the kernels, this is where to begin.
"""
from typing import Callable, NamedTuple


class Kernel(NamedTuple):
    """A kernel's two forms: the same signature, the same result up to rounding."""
    fast: Callable
    reference: Callable


KERNELS: dict[str, Kernel] = {}


def kernel(reference: Callable) -> Callable:
    """Decorator: registers the decorated function under its own name as the fast form of `reference`."""
    def register(fast):
        fast.__doc__ = reference.__doc__
        KERNELS[fast.__name__] = Kernel(fast, reference)
        return fast
    return register
