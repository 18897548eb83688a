"""Less memory for more time: a part of a network whose insides are not kept for the backward pass, but computed again in it.

Read first: `autograd.py`.
"""
from tinydiff.autograd import leaf, no_grad, primitive, recording


@primitive
def recompute(fn, inputs):
    """fn(*inputs), a Tensor (...), of which only the inputs, a list of Tensors, are kept (Chen et al., 2016, arXiv 1604.06174, section 4.1).

    backward runs fn once more, this time with a graph, and goes back through that. So fn must compute the same each time. The parameters that it
    uses beside its inputs get their gradients on the way; but at least one input must need a gradient, or backward never comes here.
    """
    with no_grad():
        y = fn(*map(leaf, inputs)).data

    def backward(dy):
        leaves = [leaf(x) for x in inputs]
        with recording(True):
            again = fn(*leaves)
        again.backward(dy)
        return None, *(x.grad for x in leaves)
    return y, backward
