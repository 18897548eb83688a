"""Reverse-mode differentiation: the whole engine.

An op takes arrays and returns its result together with a closure (a function that remembers the variables around it) that turns the gradient of
the result, `dy`, into the gradients of the arguments. `@primitive` lifts it from arrays to Tensors, and writes each call down:

    @primitive
    def mul(a, b):
        def backward(dy):
            return unbroadcast(dy * b, a.shape), unbroadcast(dy * a, b.shape)
        return a * b, backward

    x = Tensor([1.0, 2.0], requires_grad=True)
    y = mul(x, x)            # y.node: (mul's backward; its parents: x, x)
    y.backward(dy)           # x.grad = dy * x + dy * x

What is written down is a graph of Nodes, one a call, numbered as they are made. `backward` walks them from the newest to the oldest: a
result is always newer than its arguments, so when a Node's turn comes, every gradient that reaches it has been added up. All the rest of this
file is care around these lines:

    grads = {y.node: dy}
    for node in newest_first(y.node):
        for parent, gradient in zip(node.parents, node.closure(grads.pop(node))):
            grads[parent] = grads[parent] + gradient if parent in grads else gradient

A Node knows its parents' Nodes but not their Tensors, so what stays in memory between forward and backward is exactly what the closures name.

The method is the chain rule backwards on a tape (Linnainmaa, 1970; Wengert, 1964). The form, forward and backward in one scope, follows
micrograd (Karpathy, 2020); the list of primitives follows HIPS Autograd (Maclaurin, Duvenaud and Adams, 2015).

It is one file, although a long one, because it is one idea: whoever has read it knows all that happens between `y = f(x)` and `x.grad`.

Read first: nothing; this is where to begin.
"""
import functools
import inspect
import itertools
from collections import defaultdict
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Callable

import numpy as np
from numpy.typing import ArrayLike

from tinydiff import kernels

PRIMITIVES: dict[str, Callable[..., "Tensor"]] = {}      # name -> op: everything that can make a Node

_recording = ContextVar("recording", default=True)
_numbers = itertools.count()


class GraphError(RuntimeError):
    """A backward pass that can't give right gradients: no graph, a graph already used, an array changed since forward, a faulty op."""


@contextmanager
def recording(on):
    """Inside this context ops make a graph, or don't. It nests, and is this thread's own."""
    token = _recording.set(on)
    try:
        yield
    finally:
        _recording.reset(token)


def no_grad() -> AbstractContextManager:
    """A context inside which ops make no graph: nothing is kept for a backward pass."""
    return recording(False)


class Version:
    """Counts the writes to one piece of memory. All Tensors that look at the memory share it."""
    writes = 0


class Node:
    """One call of an op.

    A parent is the Node that made the argument, or the argument itself where that is a leaf (a Tensor made from data that requires a
    gradient), or None where the argument needs no gradient.
    """
    __slots__ = ("number", "name", "parents", "closure", "shape", "dtype", "read")

    def __init__(self, name, parents, closure, y, tensors):
        self.number = next(_numbers)
        self.name, self.parents, self.closure = name, parents, closure
        self.shape, self.dtype = y.shape, y.dtype
        self.read = [(t.version, t.version.writes) for t in tensors]

    def check(self):
        """Raise GraphError unless the closure is still there and still sees the values of the forward pass."""
        if self.closure is None:
            raise GraphError(f"backward: the graph through '{self.name}' was used and freed by an earlier backward; call forward again")
        if any(version.writes != writes for version, writes in self.read):
            raise GraphError(f"backward: an argument of '{self.name}' was changed in place after forward; call forward again")

    def propagate(self, dy, grads):
        """Turn dy into the parents' gradients, add them into grads, and let go of all that was kept for it."""
        parents, closure = self.parents, self.closure
        self.free()
        # What is there already of a gradient, for a backward that adds to it itself. An argument given twice is left out: it would be added twice.
        so_far = {i: grads[parent] for i, parent in enumerate(parents) if parent in grads and parents.count(parent) == 1}
        offered, takes_so_far = set(so_far), closure.__code__.co_argcount == 2
        gradients = closure(dy, so_far) if takes_so_far else closure(dy)
        if not isinstance(gradients, (tuple, list)) or len(gradients) < len(parents):
            raise GraphError(f"{self.name}: backward must return a tuple of gradients, one for each of its {len(parents)} array arguments")
        for i, (parent, gradient) in enumerate(zip(parents, gradients)):
            if parent is None or gradient is None:
                continue
            gradient = np.asarray(gradient() if callable(gradient) else gradient)
            if gradient.shape != parent.shape or gradient.dtype != parent.dtype:
                raise GraphError(f"{self.name}: gradient {i} is {gradient.dtype} {gradient.shape}, "
                                 f"its argument {parent.dtype} {parent.shape}")
            added = i in offered and i not in so_far            # by backward
            if parent in grads and not added:                   # in a new array: the first gradient may be one that another input was given too
                gradient = np.asarray(kernels.add(grads[parent], gradient))
            grads[parent] = gradient

    def free(self):
        """Drop the closure, and with it the arrays that it named."""
        self.closure, self.parents, self.read = None, (), ()


def newest_first(root):
    """Every Node that root depends on, itself included, in decreasing order of creation."""
    found, to_visit = {root}, [root]
    while to_visit:
        for parent in to_visit.pop().parents:
            if isinstance(parent, Node) and parent not in found:
                found.add(parent)
                to_visit.append(parent)
    return sorted(found, key=lambda node: node.number, reverse=True)


def last_uses(nodes):
    """{Node: the leaves to whose gradient it adds the last term}, for nodes in the order of the walk."""
    last = {parent: node for node in nodes for parent in node.parents if isinstance(parent, Tensor)}    # a later Node replaces an earlier
    uses = defaultdict(list)
    for used, node in last.items():
        uses[node].append(used)
    return uses


class Tensor:
    """A float32 or float64 array that remembers how it was made.

    Tensor(data, requires_grad=False) copies data (an array, or numbers; TypeError unless floating). Integers, as labels and indices, stay
    plain arrays. Operators + - * / ** @ and indexing make graph nodes; the other operand may be an array of the same dtype or a number.

    data: the values, a read-only view. `t.data = a` copies a over them; `t.writable()` gives the array itself.
    grad: an array of the same shape and dtype, or None; `backward` adds to it on the leaves (not on the results of ops).
    """
    __slots__ = ("_array", "requires_grad", "grad", "node", "version")
    __array_ufunc__ = None      # NumPy then leaves `array + tensor` to Tensor.__radd__

    def __init__(self, data: ArrayLike, requires_grad: bool = False):
        array = np.array(data, order="C")
        _check_dtype("Tensor", array.dtype)
        self._set(array, None, requires_grad, Version())

    def _set(self, array, node, requires_grad, version):
        self._array, self.node, self.requires_grad, self.version, self.grad = array, node, requires_grad, version, None

    @property
    def data(self) -> np.ndarray:
        """The values, a read-only view. `t.data = a` copies a over them."""
        view = self._array.view()
        view.flags.writeable = False
        return view

    @data.setter
    def data(self, values):
        values = np.asarray(values)
        if values.shape != self.shape or values.dtype != self.dtype:
            raise ValueError(f"Tensor.data: expects {self.dtype} {self.shape}, got {values.dtype} {values.shape}")
        self.writable()[...] = values

    def writable(self) -> np.ndarray:
        """The array itself, for an optimizer to write into. A graph that used it is stale from now on: its backward raises GraphError."""
        if self.node is not None or not self._array.flags.owndata:
            raise ValueError("Tensor.writable: only a Tensor made from data can be written, this is the result of an op")
        self.version.writes += 1
        return self._array

    shape = property(lambda self: self._array.shape, doc="How many numbers along each axis: a tuple.")
    dtype = property(lambda self: self._array.dtype, doc="np.float32 or np.float64.")
    ndim = property(lambda self: self._array.ndim, doc="How many axes.")
    size = property(lambda self: self._array.size, doc="How many numbers in all.")

    def backward(self, grad: np.ndarray | None = None, on_leaf: Callable | None = None) -> None:
        """Add the gradient of sum(self * grad) to the .grad of every leaf that self depends on, and free the graph.

        grad: array of self's shape; may be left out where self is one number. GraphError where self has no graph, where the graph was
        freed by an earlier backward, or where an array in it was changed since; then no .grad has changed.

        on_leaf(leaf, gradient), where given, is called for each leaf that an op has used, as soon as the walk has passed the last Node that
        uses it: what will be added to its .grad is complete, to be read but not written, while others wait for theirs. All .grad change at
        the end.
        """
        if not self.requires_grad:
            raise GraphError("backward: this Tensor depends on no Tensor with requires_grad=True (or was made under no_grad)")
        if grad is None and self.size != 1:
            raise ValueError(f"backward: the Tensor has shape {self.shape}, not one number; give grad, an array of that shape")
        grad = np.asarray(np.ones_like(self._array) if grad is None else grad, self.dtype).view()
        grad.flags.writeable = False                # not a copy: a leaf that it reaches unchanged gets one
        if grad.shape != self.shape:
            raise ValueError(f"backward: grad has shape {grad.shape}, the Tensor {self.shape}")
        nodes = newest_first(self.node) if self.node else []
        for node in nodes:
            node.check()
        grads = {self.node or self: grad}
        del grad
        complete = last_uses(nodes) if on_leaf else {}
        for node in nodes:
            if node in grads:
                node.propagate(grads.pop(node), grads)
            else:
                node.free()             # its result was used, but no gradient came back
            if on_leaf:
                for used in complete.get(node, ()):
                    if used in grads:
                        on_leaf(used, grads[used])
        _deliver(grads)

    __add__ = __radd__ = lambda a, b: PRIMITIVES["add"](a, b)
    __mul__ = __rmul__ = lambda a, b: PRIMITIVES["mul"](a, b)
    __sub__ = lambda a, b: PRIMITIVES["sub"](a, b)
    __rsub__ = lambda a, b: PRIMITIVES["sub"](b, a)
    __truediv__ = lambda a, b: PRIMITIVES["div"](a, b)
    __rtruediv__ = lambda a, b: PRIMITIVES["div"](b, a)
    __pow__ = lambda a, b: PRIMITIVES["pow"](a, b)
    __rpow__ = lambda a, b: PRIMITIVES["pow"](b, a)
    __matmul__ = lambda a, b: PRIMITIVES["matmul"](a, b)
    __rmatmul__ = lambda a, b: PRIMITIVES["matmul"](b, a)
    __neg__ = lambda a: PRIMITIVES["neg"](a)
    __getitem__ = lambda a, index: PRIMITIVES["getitem"](a, index)

    def __repr__(self):
        """The values (of a large array its corners), dtype, shape, and the op that made it."""
        made = f", made by {self.node.name}" if self.node else ", requires_grad=True" if self.requires_grad else ""
        values = np.array2string(self._array, separator=", ", prefix="Tensor(", threshold=100, edgeitems=3 if self.ndim < 3 else 1)
        return f"Tensor({values}, {self.dtype} {self.shape}{made})"


def leaf(array):
    """A Tensor that requires a gradient and looks at the array, which is not copied."""
    tensor = Tensor.__new__(Tensor)
    tensor._set(array, None, True, Version())
    return tensor


def _deliver(grads):
    """Add the gradients that are left, those of the leaves, to their .grad, so that no .grad shares memory with anything else."""
    given = set()
    for leaf, gradient in grads.items():
        if leaf.grad is not None:
            leaf.grad = np.add(leaf.grad, gradient, order="C")
            continue
        # One array may be the gradient of two leaves (add gives dy to both), hold those of several (concat), or repeat one number (sum).
        owner = gradient
        while isinstance(owner.base, np.ndarray):
            owner = owner.base
        alone = gradient.flags.writeable and gradient.flags.c_contiguous and id(owner) not in given
        leaf.grad = gradient if alone else gradient.copy()
        given.add(id(owner))


def _check_dtype(name, dtype):
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"{name}: {dtype} data; Tensors are float32 or float64: convert with .astype(np.float32)")


def _flat(arguments):
    """The arguments, with a list (of Tensors, concat's) replaced by its items."""
    return [item for argument in arguments for item in (argument if isinstance(argument, (list, tuple)) else (argument,))]


def _plain(argument):
    """The argument as an op sees it: read-only arrays for Tensors, Python numbers for NumPy's (which would turn float32 into float64)."""
    if isinstance(argument, Tensor):
        return argument.data
    if isinstance(argument, np.generic):
        return argument.item()
    if isinstance(argument, (list, tuple)) and any(isinstance(item, Tensor) for item in argument):
        return [_plain(item) for item in argument]
    return argument


def primitive(forward: Callable[..., tuple[np.ndarray, Callable]]) -> Callable[..., Tensor]:
    """Make an op on Tensors out of a function on arrays, and list it in PRIMITIVES under its name.

    forward(arrays..., settings...) -> (y, backward); backward(dy) -> a gradient for each array argument, in order; None where there is
    none. A gradient may be a function of no arguments, called only if that input needs it. Neither may write into what it is given.
    backward(dy, so_far) saves a pass over memory: so_far holds, by argument number, the gradients that arguments have already from their
    other uses; what backward pops it adds to its own, in a new array, and the rest is added for it.

    The op takes Tensors, arrays (not copied: leave them alone until backward) or numbers; TypeError where float32 and float64 meet, or
    where the result leaves their dtype.
    """
    name, signature = forward.__name__, inspect.signature(forward)

    def in_order(*args, **kwargs):
        """All arguments, defaults included, in the order of forward's signature, which is that of the gradients."""
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound.args

    @functools.wraps(forward)
    def op(*args, **kwargs):
        arguments = args if len(args) == len(signature.parameters) and not kwargs else in_order(*args, **kwargs)
        flat = _flat(arguments)
        dtypes = {a.dtype for a in flat if isinstance(a, (Tensor, np.ndarray)) and a.dtype.kind == "f"}
        if len(dtypes) > 1:
            raise TypeError(f"{name}: arguments of {' and '.join(sorted(map(str, dtypes)))}; convert one with .astype")
        y, backward = forward(*map(_plain, arguments))
        y = np.asarray(y)
        _check_dtype(name, y.dtype)
        if dtypes and y.dtype not in dtypes:
            raise TypeError(f"{name}: {y.dtype} result from {dtypes.pop()}; convert the other argument with .astype")

        tensors = [a for a in flat if isinstance(a, Tensor)]
        parents = [(a.node or a) if isinstance(a, Tensor) and a.requires_grad else None for a in flat]
        while parents and parents[-1] is None:                  # settings, such as a stride
            parents.pop()
        node = Node(name, parents, backward, y, tensors) if parents and _recording.get() else None
        # A result that only looks at an argument's memory (reshape, slices) changes when that is written.
        shared = [] if y.flags.owndata else [t.version for t in tensors if np.may_share_memory(t._array, y)]
        result = Tensor.__new__(Tensor)
        result._set(y, node, node is not None, shared[0] if shared else Version())
        return result

    PRIMITIVES[name] = op
    return op
