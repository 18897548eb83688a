"""Are tinydiff's gradients right? Checks every op, and then a whole U-Net, against finite differences; exits with 1 if one is wrong.

    python examples/check_gradients.py

A gradient says how much the output changes when an input changes a little. So change the input a little, and look: the relative error is
|measured - gradient| over the gradient's length, along a random direction (see tinydiff/gradcheck.py). All in float64, by the same kernels
that train in float32: a right gradient gives about 1e-10, a wrong one anything up to 1, and more than 1e-6 counts as wrong.
"""
import sys
import time
from typing import Callable, NamedTuple

import numpy as np

from tinydiff import ops
from tinydiff.gradcheck import GradientError, gradcheck
from tinydiff.nn import UNet, UNetConfig

SEED = 0
INPUTS, DIRECTIONS, WEIGHTS = range(3)      # streams of random numbers: default_rng([SEED, stream, ...])


def normal(rng, shape):
    return rng.standard_normal(shape)


def positive(rng, shape):
    return rng.uniform(0.3, 2.0, shape)


def off_zero(rng, shape):                   # relu has a kink at 0, where there is no derivative to measure
    return positive(rng, shape) * rng.choice([-1.0, 1.0], shape)


def distinct(rng, shape):                   # max has a kink where two entries tie
    return 0.1 * rng.permutation(int(np.prod(shape))).reshape(shape)


class Case(NamedTuple):
    fn: Callable
    shapes: list
    setting: str = ""
    values: Callable = normal

    def __str__(self):
        shapes = " ".join("(" + ",".join(map(str, shape)) + ")" for shape in self.shapes)
        return f"{shapes} {self.setting}".strip()


def elementwise(op, values=normal):
    return [Case(op, [()], "", values), Case(op, [(7,)], "", values), Case(op, [(2, 3, 5)], "", values)]


def arithmetic(op, values=normal):
    return [Case(op, [(3, 4), (3, 4)], "", values), Case(op, [(2, 1, 4), (3, 1)], "", values),
            Case(lambda x: op(2.5, x), [(3,)], "and 2.5", values)]


def reduction(op, values=normal):
    return [Case(op, [(2, 3, 4)], "all axes", values), Case(lambda x: op(x, (0, -1)), [(2, 3, 4)], "axes 0, -1", values),
            Case(lambda x: op(x, 1, True), [(2, 3, 4)], "axis 1 kept", values)]


def conv2d(size, kernel, C, F, stride, padding, bias):
    shapes = [(2, *size, C), (kernel, kernel, C, F)] + ([bias] if bias else [])
    return Case(lambda x, w, b=None: ops.conv2d(x, w, b, stride, padding), shapes, f"stride {stride} padding {padding}")


def group_norm(shape, groups, act):
    return Case(lambda x, w, b: ops.group_norm(x, w, b, groups, act=act), [shape, shape[-1:], shape[-1:]], f"groups {groups} act {act}")


CASES = {
    "add": arithmetic(ops.add), "sub": arithmetic(ops.sub), "mul": arithmetic(ops.mul), "div": arithmetic(ops.div, off_zero),
    "neg": elementwise(ops.neg), "pow": arithmetic(ops.pow, positive), "exp": elementwise(ops.exp), "log": elementwise(ops.log, positive),
    "sqrt": elementwise(ops.sqrt, positive), "tanh": elementwise(ops.tanh), "sigmoid": elementwise(ops.sigmoid),
    "silu": elementwise(ops.silu), "relu": elementwise(ops.relu, off_zero), "gelu": elementwise(ops.gelu),
    "sum": reduction(ops.sum), "mean": reduction(ops.mean), "max": reduction(ops.max, distinct),
    "mse": [Case(ops.mse, [(3, 4), (3, 4)]), Case(ops.mse, [(2, 3, 4), (4,)]),
            Case(lambda a, b: ops.mse(a, b, np.array([0.5, 0.0, 2.0])), [(3, 4), (3, 4)], "with weights")],
    "softmax": [Case(ops.softmax, [(3, 7)]), Case(lambda x: ops.softmax(x, 0), [(5, 2, 3)], "axis 0")],
    "reshape": [Case(lambda x: ops.reshape(x, (4, -1)), [(2, 2, 3)], "to (4,3)")],
    "transpose": [Case(ops.transpose, [(2, 3, 4)], "reversed"), Case(lambda x: ops.transpose(x, (1, 2, 0)), [(2, 3, 4)], "by (1,2,0)")],
    "concat": [Case(lambda *xs: ops.concat(xs), [(2, 3), (2, 1), (2, 4)]), Case(lambda *xs: ops.concat(xs, 0), [(1, 3), (2, 3)], "axis 0")],
    "pad": [Case(lambda x: ops.pad(x, ((1, 0), (2, 3))), [(2, 3)], "by (1,0) (2,3)")],
    "getitem": [Case(lambda x: x[1:, ::-2], [(3, 5)], "[1:, ::-2]"), Case(lambda x: x[np.array([0, 2, 0])], [(3, 5)], "[[0, 2, 0]]")],
    "matmul": [Case(ops.matmul, [(5, 3), (3, 17)]), Case(ops.matmul, [(2, 1, 5, 3), (4, 3, 6)])],
    "linear": [Case(ops.linear, [(5, 3), (3, 17), (17,)]), Case(ops.linear, [(2, 4, 9), (9, 5)])],
    "embedding": [Case(lambda w: ops.embedding(w, [[0, 2], [2, 1]]), [(4, 5)], "ids (2,2)")],
    "dropout": [Case(lambda x: ops.dropout(x, 0.3, np.random.default_rng(SEED)), [(4, 9)], "p 0.3")],
    "conv2d": [conv2d((5, 6), 3, 3, 17, 1, 1, (17,)), conv2d((7, 9), 3, 8, 5, 2, 1, (2, 5)), conv2d((4, 4), 1, 16, 20, 1, 0, None),
               conv2d((8, 6), 5, 2, 3, 3, 2, (3,)), conv2d((9, 7), 7, 3, 4, 1, 3, None),
               Case(lambda w, more, *xs: ops.conv2d(xs, w, None, 1, 1, more), [(3, 3, 7, 5), (2, 4, 6, 5), (2, 4, 6, 3), (2, 4, 6, 4)],
                    "two parts and a residual")],
    "group_norm": [group_norm((2, 5, 5, 6), 3, None), group_norm((2, 4, 3, 16), 8, "silu"), group_norm((3, 12), 4, None),
                   Case(lambda w, b, *xs: ops.group_norm(xs, w, b, 2, act="silu"), [(8,), (8,), (2, 3, 3, 5), (2, 3, 3, 3)], "two parts")],
    "attention": [Case(ops.attention, [(2, 3, 9, 5), (2, 3, 9, 5), (2, 3, 9, 5)]),
                  Case(ops.attention, [(1, 2, 17, 8), (1, 2, 6, 8), (1, 2, 6, 8)])],
    "self_attention": [Case(lambda qkv: ops.self_attention(qkv, 2), [(2, 9, 18)], "heads 2")],
    "recompute": [Case(lambda x, w: ops.recompute(lambda x, w: ops.tanh(ops.matmul(x, w)), [x, w]), [(5, 3), (3, 4)], "tanh of matmul")],
    "upsample_conv2d": [Case(ops.upsample_conv2d, [(2, 3, 5, 4), (3, 3, 4, 7), (7,)]), Case(ops.upsample_conv2d, [(1, 4, 4, 17), (3, 3, 17, 3)])],
    "upsample_nearest": [Case(ops.upsample_nearest, [(2, 3, 5, 4)]),
                         Case(lambda x: ops.upsample_nearest(x, 3), [(1, 2, 2, 3)], "factor 3")],
    "avg_pool": [Case(ops.avg_pool, [(2, 4, 6, 3)]), Case(lambda x: ops.avg_pool(x, 3), [(1, 3, 6, 2)], "factor 3")],
    "space_to_depth": [Case(ops.space_to_depth, [(2, 4, 6, 3)])],
    "depth_to_space": [Case(ops.depth_to_space, [(2, 3, 2, 8)])],
}
UNET = UNetConfig(image_size=8, channels=16, channel_mults=(1, 2), blocks_per_level=1, attention_resolutions=(4,), heads=2, groups=4,
                  num_classes=3)


def check_op(name):
    """The worst relative error over an op's cases."""
    worst = 0.0
    for i, case in enumerate(CASES[name]):
        key = [*name.encode(), i]           # each op's own numbers, whatever the order of the table
        inputs = [case.values(np.random.default_rng([SEED, INPUTS, j, *key]), shape) for j, shape in enumerate(case.shapes)]
        worst = max(worst, gradcheck(case.fn, inputs, np.random.default_rng([SEED, DIRECTIONS, *key])))
    return worst


def replace_parameter(model, path, tensor):
    """Put tensor where the parameter called path, such as down.0.conv.weight, is."""
    *owners, name = path.split(".")
    for owner in owners:
        model = model[int(owner)] if owner.isdigit() else getattr(model, owner)
    setattr(model, name, tensor)


def check_unet():
    """(what, worst relative error) for the U-Net's input and each of its parameters in turn.

    Every parameter is random first: the last convolutions of blocks start at zero, and would hide all that comes before them.
    """
    model = UNet(UNET, rng=np.random.default_rng([SEED, WEIGHTS]), dtype=np.float64)
    parameters = dict(model.named_parameters())
    for i, p in enumerate(parameters.values()):
        p.data = 0.3 * normal(np.random.default_rng([SEED, WEIGHTS, i]), p.shape)
    x = normal(np.random.default_rng([SEED, INPUTS]), (2, 8, 8, 3))
    t, y = np.array([12.5, 700.0]), np.array([1, 2])
    # Rounding in a long chain of layers is larger than in one op, so the floor of the error is, too.
    tolerance = dict(rtol=1e-6, atol=1e-7)
    yield "x", gradcheck(lambda x: model(x, t, y), [x], np.random.default_rng([SEED, DIRECTIONS]), **tolerance)
    for i, (path, p) in enumerate(parameters.items()):
        def output(tensor):
            replace_parameter(model, path, tensor)
            return model(x, t, y)
        try:
            yield path, gradcheck(output, [p.data], np.random.default_rng([SEED, DIRECTIONS, i]), **tolerance)
        except GradientError as error:
            raise GradientError(f"{path}: {error}") from None
        replace_parameter(model, path, p)


def main():
    start, failures = time.perf_counter(), 0
    print(f"{'op':<17} {'worst error':>11}  shapes tried\n{'-' * 17} {'-' * 11}  {'-' * 60}")
    for name in CASES:
        try:
            print(f"{name:<17} {check_op(name):>11.1e}  {' | '.join(map(str, CASES[name]))}", flush=True)
        except GradientError as error:
            failures += 1
            print(f"{name:<17} {'WRONG':>11}  {error}", flush=True)
    try:
        errors = list(check_unet())
        where, worst = max(errors, key=lambda row: row[1])
        print(f"{'the whole U-Net':<17} {worst:>11.1e}  its input and each of its {len(errors) - 1} parameters; worst at {where}")
    except GradientError as error:
        failures += 1
        print(f"{'the whole U-Net':<17} {'WRONG':>11}  {error}")
    print(f"\n{len(CASES)} ops and the U-Net in {time.perf_counter() - start:.0f} s: "
          + (f"{failures} WRONG" if failures else "every gradient agrees with finite differences (relative error at most 1e-6)"))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
