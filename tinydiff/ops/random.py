"""The op that draws random numbers, from the generator that it is given."""
import numpy as np

from tinydiff.autograd import primitive


@primitive
def dropout(x, p, rng):
    """Each entry is set to 0 with probability p, the rest divided by 1 - p (Srivastava et al., 2014). dx = dy, masked and scaled likewise.

    rng: a NumPy Generator. The draws are float32 whatever x is, so that both dtypes drop the same entries. Only the mask is kept.
    """
    if not 0 <= p < 1:
        raise ValueError(f"dropout: p must be at least 0 and less than 1, got {p}")
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"dropout: rng must be a numpy.random.Generator, got {type(rng).__name__}")
    kept = rng.random(x.shape, dtype=np.float32) >= p

    def backward(dy):
        return (dy * kept / (1 - p),)
    return x * kept / (1 - p), backward
