"""The op that draws random numbers, from the generator that it is given.

Read first: `elementwise.py`.
"""
import numpy as np

from tinydiff.autograd import primitive


@primitive
def dropout(x, p, rng):
    """(...) -> (...): each entry is set to 0 with probability p, the rest divided by 1 - p (Srivastava et al., 2014, JMLR 15).

    dx = dy, masked and scaled likewise.

    rng: a NumPy Generator; or a list of N of them, one for each x[n], so that what is dropped there doesn't depend on what else is in x.
    The draws are float32 whatever x is, so that both dtypes drop the same entries. Only the mask is kept.
    """
    if not 0 <= p < 1:
        raise ValueError(f"dropout: p must be at least 0 and less than 1, got {p}")
    generators = rng if isinstance(rng, list) else [rng]
    for generator in generators:
        if not isinstance(generator, np.random.Generator):
            raise TypeError(f"dropout: rng must be a numpy.random.Generator, or a list of them, got {type(generator).__name__}")
    if generators is rng and len(rng) != len(x):
        raise ValueError(f"dropout: a list of {len(rng)} generators for x {x.shape}; one is needed for each of its {len(x)} rows")
    rows = x.shape[1:] if generators is rng else x.shape
    kept = np.reshape([generator.random(rows, dtype=np.float32) >= p for generator in generators], x.shape)

    def backward(dy):
        return (dy * kept / (1 - p),)
    return x * kept / (1 - p), backward
