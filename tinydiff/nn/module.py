"""Module: a thing with parameters. It finds them, names them, saves and loads them; it computes nothing.

A parameter is a `Tensor` with `requires_grad=True` kept as an attribute of a Module. An attribute may also be another Module, or a
list of Modules (nested as you like), and a parameter's name is the path that leads to it: `down.0.1.block.conv1.weight` is
`model.down[0][1].block.conv1.weight`.

Read first: `autograd.py`.
"""
from collections.abc import Callable, Iterator

import numpy as np

from tinydiff.autograd import Tensor


class Module:
    """Base class of layers and networks. A subclass makes its parts in `__init__` and computes in `__call__`: Tensors (N,...) -> Tensor."""

    training = True
    keys: list[list[int]] | None = None
    __call__: Callable[..., Tensor]
    folded = False          # whether the tree that `repr` draws of a larger module shows this one without its parts

    def children(self) -> Iterator[tuple[str, "Module"]]:
        """(name, module) of the modules held directly, in the order in which they were made."""
        for name, value in vars(self).items():
            if name != "keys":                      # long lists, of numbers
                yield from _modules_in(name, value)

    def modules(self) -> Iterator["Module"]:
        """This module and all those below it."""
        yield self
        for _, child in self.children():
            yield from child.modules()

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        """(name, parameter) of every parameter, in the order in which they were made."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor) and value.requires_grad:
                yield prefix + name, value
            for child_name, child in _modules_in(name, value):
                yield from child.named_parameters(f"{prefix}{child_name}.")

    def parameters(self) -> list[Tensor]:
        """All parameters, in the order of `named_parameters`."""
        return [parameter for _, parameter in self.named_parameters()]

    def state_dict(self) -> dict[str, np.ndarray]:
        """A copy of every parameter's values, by name."""
        return {name: parameter.data.copy() for name, parameter in self.named_parameters()}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Takes every parameter's values from `state`, converted to the parameter's dtype.

        Raises ValueError naming each entry that is missing, unexpected or of another shape; nothing is loaded then.
        """
        own = dict(self.named_parameters())
        faults = [f"{name} is missing" for name in own if name not in state]
        faults += [f"{name} is unexpected" for name in state if name not in own]
        faults += [f"{name} is {np.shape(state[name])}, expected {p.shape}"
                   for name, p in own.items() if name in state and np.shape(state[name]) != p.shape]
        if faults:
            raise ValueError(f"load_state_dict: the state does not fit this {type(self).__name__}: " + "; ".join(faults))
        for name, parameter in own.items():
            parameter.data = np.asarray(state[name], parameter.dtype)

    def train(self, keys: list[list[int]] | None = None) -> "Module":
        """Switches to training. keys: for each picture of the batch, the numbers that what Dropout draws for it hangs on.

        Only a network with dropout needs them, and it needs new ones at each step, such as `[[seed, DROPOUT, step, i] for i in range(N)]`.
        The Dropout that is the network's module number k draws from `np.random.default_rng([*key, k])`, so that a resumed run, a batch in
        parts and a block that is computed twice all drop the same.
        """
        for number, module in enumerate(self.modules()):
            module.training, module.keys = True, None if keys is None else [[*key, number] for key in keys]
        return self

    def eval(self) -> "Module":
        """Switches to evaluation: nothing is dropped."""
        for module in self.modules():
            module.training, module.keys = False, None
        return self

    def zero_grad(self) -> None:
        """Forgets every parameter's gradient."""
        for parameter in self.parameters():
            parameter.grad = None

    def __repr__(self) -> str:
        """The tree of modules, each with the shape of what comes out of it and the number of its parameters. Nothing is computed."""
        rows = list(_tree("", self, "H", "W", depth=0))
        widths = [max(map(len, column)) for column in zip(*rows)]
        return "\n".join(f"{text:<{widths[0]}}  {shape:<{widths[1]}}  {count:>{widths[2]}}" for text, shape, count in rows)

    def _details(self) -> str:
        """What `repr` says of this module in brackets."""
        return ""

    def _output(self, H: int | str, W: int | str) -> tuple:
        """The shape that comes out where pictures of H x W pixels go in, as `repr` says it: of numbers and letters; () where it says none."""
        return ()

    def _size_inside(self, name: str, H: int | str, W: int | str) -> tuple[int | str, int | str]:
        """(height, width) of what the part of this name is given, where this module is given H x W pixels."""
        return H, W


def _modules_in(name: str, value: object) -> Iterator[tuple[str, Module]]:
    """The modules in an attribute: itself, or those of a list, numbered."""
    if isinstance(value, Module):
        yield name, value
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from _modules_in(f"{name}.{i}", item)


def _shape_text(shape: tuple) -> str:
    return f"({','.join(map(str, shape))})" if shape else ""


def _tree(name: str, module: Module, H: int | str, W: int | str, depth: int) -> Iterator[tuple[str, str, str]]:
    """(name and kind, shape, parameters) of the module and of all below it, as text."""
    label = f"{name}: " if name else ""
    details = module._details()
    yield ("  " * depth + label + type(module).__name__ + (f"({details})" if details else ""), _shape_text(module._output(H, W)),
           f"{sum(p.size for p in module.parameters()):,}")
    if depth == 0 or not module.folded:
        for child_name, child in module.children():
            yield from _tree(child_name, child, *module._size_inside(child_name, H, W), depth + 1)
