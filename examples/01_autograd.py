"""How does a program differentiate itself? One neuron, the graph that it leaves behind, and its gradient, found in three ways that must agree.

    python examples/01_autograd.py        a second or two; it prints, and draws with letters

You will see the chain rule done by hand beside `backward()` and beside finite differences, why 1e-5 is a good step to measure with, what a
gradient is good for, and how an op of your own is written and checked.

Read next: tinydiff/autograd.py, the whole engine, then tinydiff/gradcheck.py and tinydiff/ops/elementwise.py. The next example is
02_fit_a_curve.py.
"""
import textwrap

import numpy as np

import tinydiff as td
from tinydiff.autograd import Node, primitive

X, TARGET = 1.5, 0.5                        # what the neuron sees, and what it should answer
START = {"w": 0.8, "b": -0.3}               # its two parameters


def neuron(w, b):
    """How wrong the neuron tanh(w x + b) is, plus a small price on a large w: every value on the way, by name. Here only scalars."""
    p = w * X
    z = p + b
    h = td.ops.tanh(z)
    e = h - TARGET
    error = e ** 2
    square = w ** 2                         # w once more: what the two uses want of it will have to be added up
    price = 0.1 * square
    loss = error + price
    return {"loss": loss, "error": error, "e": e, "h": h, "z": z, "p": p, "price": price, "square": square, "w": w, "b": b}


def draw(node, names, indent=""):
    """The graph below a node as lines of text: its name and value, the op that made it, and, indented, what it was made from."""
    name, value = names[node]
    made_by = node.name if isinstance(node, Node) else "a leaf: gradients end here"
    yield f"   {indent + name:<16}{value.data:8.4f}   {made_by}"
    for parent in node.parents if isinstance(node, Node) else ():
        if parent is not None:              # None: an argument that wants no gradient, such as the number X
            yield from draw(parent, names, indent + "  ")


def by_hand(v):
    """d loss / dw and d loss / db by the chain rule. One line undoes one line of `neuron`, from the last to the first; d_y is d loss / dy."""
    d_error = d_price = 1                   # loss = error + price
    d_square = 0.1 * d_price                # price = 0.1 square
    d_e = 2 * v["e"] * d_error              # error = e^2
    d_h = d_e                               # e = h - TARGET
    d_z = (1 - v["h"] ** 2) * d_h           # h = tanh(z)
    d_p = d_b = d_z                         # z = p + b
    d_w = X * d_p + 2 * v["w"] * d_square   # p = w X and square = w^2: two roads lead from w to the loss
    return {"w": d_w, "b": d_b}


def measured(name, step):
    """The same from outside: move one parameter a step to either side, and see by how much the loss changes."""
    def loss(moved):
        return float(neuron(**{**START, name: td.Tensor(moved)})["loss"].data)
    return (loss(START[name] + step) - loss(START[name] - step)) / (2 * step)


@primitive
def softplus(x):
    """log(1 + e^x). dx = dy / (1 + e^-x). An op is its forward and, just below, its backward: from dy, d loss / dy, it makes dx."""
    def backward(dy):
        return (dy / (1 + np.exp(-x)),)
    return np.log1p(np.exp(x)), backward


@primitive
def faulty_softplus(x):
    """The same with a slip of the pen: one sign in backward."""
    def backward(dy):
        return (dy / (1 + np.exp(x)),)
    return np.log1p(np.exp(x)), backward


def main():
    w, b = (td.Tensor(START[name], requires_grad=True) for name in "wb")
    values = neuron(w, b)
    print("1. Forward. The loss of one neuron; each value remembers what it was made from:\n")
    names = {value.node or value: (name, value) for name, value in values.items()}
    print("\n".join(draw(values["loss"].node, names)))

    values["loss"].backward()               # walks that graph from the loss to the leaves, and leaves w.grad and b.grad there
    hand = by_hand({name: float(value.data) for name, value in values.items()})
    print("\n2. Backward. By how much does the loss change with w, and with b?\n")
    print("                chain rule by hand      backward()   finite difference")
    for name, leaf in (("w", w), ("b", b)):
        print(f"   d loss / d{name} {hand[name]:21.10f} {leaf.grad:15.10f} {measured(name, 1e-5):19.10f}")

    print("\n3. Why 1e-5 for the finite difference? With a large step the curve bends on the")
    print("   way; with a tiny one, two losses agree in all digits but the last few.\n")
    print("     step   error of d loss / dw")
    for step in 10.0 ** -np.arange(1, 13):
        error = abs(measured("w", step) - hand["w"])
        print(f"    {step:.0e}   {error:.0e}   {'#' * round(3 * np.log10(max(error, 1e-13) / 1e-13))}")

    print("\n4. What a gradient is good for. A little step against it, and again:\n")
    for step in range(6):
        w.grad = b.grad = None              # backward adds to what is there
        loss = neuron(w, b)["loss"]
        loss.backward()
        print(f"   step {step}    w {w.data:7.4f}    b {b.data:7.4f}    loss {loss.data:.5f}")
        w.data, b.data = w.data - 0.2 * w.grad, b.data - 0.2 * b.grad

    print("\n5. td.gradcheck measures whole arrays so, along a random direction:\n")
    x = np.random.default_rng(0).standard_normal((3, 4))
    pictures, filters = (np.random.default_rng(1).standard_normal(shape) for shape in ((2, 5, 5, 3), (3, 3, 3, 4)))
    print(f"   softplus, written above: relative error {td.gradcheck(softplus, [x]):.0e}")
    print(f"   a convolution:           relative error {td.gradcheck(td.ops.conv2d, [pictures, filters]):.0e}")
    try:
        td.gradcheck(faulty_softplus, [x])
    except td.GradientError as error:
        print("   faulty_softplus:\n" + textwrap.fill(str(error), 76, initial_indent=" " * 6, subsequent_indent=" " * 6))


if __name__ == "__main__":
    main()
