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


def require(name: str, condition: bool, expected: str, *arrays) -> None:
    """Raises ValueError unless the condition holds and the arrays (None: left out) have one dtype: a kernel trusts the shapes that it is given, and
    would read and write beyond its arrays."""
    arrays = [array for array in arrays if array is not None]
    if not condition or any(array.dtype != arrays[0].dtype for array in arrays):
        raise ValueError(f"{name} expects {expected}, of one dtype; got {', '.join(f'{array.dtype} {array.shape}' for array in arrays)}")


def kernel(reference: Callable) -> Callable:
    """Decorator: registers the decorated function under its own name as the fast form of `reference`."""
    def register(fast):
        fast.__doc__ = reference.__doc__
        KERNELS[fast.__name__] = Kernel(fast, reference)
        return fast
    return register
