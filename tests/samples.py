"""What tests feed to every op and every kernel: a hypothesis strategy for each name in the two registries.

hypothesis draws shapes, settings and a seed; the values come from that seed, scaled to be of size about 1 and kept away from kinks. So a
failing example shrinks to small shapes. Heights and widths run from 1 to 9, channels past multiples of the vector widths (8, 16).
"""
from typing import Callable, NamedTuple

import numpy as np
from hypothesis import strategies as st

from tests import plain
from tinydiff import ops


class Sample(NamedTuple):
    """fn takes as many Tensors as there are inputs, float64 arrays, and returns a Tensor."""
    fn: Callable
    inputs: list


SIDES = st.integers(1, 9)
CHANNELS = st.integers(1, 20)
SHAPES = st.lists(st.integers(1, 5), max_size=4).map(tuple)
RNGS = st.integers(0, 2**32 - 1).map(np.random.default_rng)
DTYPES = st.sampled_from([np.float32, np.float64])


def positive(rng, shape):
    return rng.uniform(0.3, 2.0, shape)


def off_zero(rng, shape):
    return positive(rng, shape) * rng.choice([-1.0, 1.0], shape)


def normal(rng, shape):
    return rng.standard_normal(shape)


def distinct(rng, shape):
    """No two entries closer than 0.1: a maximum stays where it is while an input moves by eps."""
    return 0.1 * rng.permutation(int(np.prod(shape))).reshape(shape) - 1.0


# Elementwise

@st.composite
def broadcast_pairs(draw, shapes=SHAPES):
    """Two shapes that broadcast together: to one of shapes, of which either may lack leading axes and have 1 in place of others."""
    shape = draw(shapes)
    pair = []
    for _ in range(2):
        kept = draw(st.lists(st.booleans(), min_size=len(shape), max_size=len(shape)))
        pair.append(tuple(n if keep else 1 for n, keep in zip(shape, kept))[draw(st.integers(0, len(shape))):])
    return pair


def unary(op, values=normal):
    return st.builds(lambda rng, shape: Sample(op, [values(rng, shape)]), RNGS, SHAPES)


@st.composite
def binary(draw, op, first=normal, second=normal):
    """Two arrays, or an array and a number on either side."""
    rng, (a, b) = draw(RNGS), draw(broadcast_pairs())
    form = draw(st.sampled_from(["arrays", "arrays", "number first", "number second"]))
    if form == "number first":
        number = float(first(rng, ()))
        return Sample(lambda b: op(number, b), [second(rng, b)])
    if form == "number second":
        number = float(second(rng, ()))
        return Sample(lambda a: op(a, number), [first(rng, a)])
    return Sample(op, [first(rng, a), second(rng, b)])


# Reductions and shapes

@st.composite
def reduction(draw, op, values=normal):
    shape, rng = draw(SHAPES), draw(RNGS)
    axis = draw(st.one_of(st.none(), st.sets(st.integers(-len(shape), len(shape) - 1)).map(tuple)) if shape else st.none())
    if axis is not None:
        axis = tuple({a % len(shape): a for a in axis}.values())        # each axis once
    keepdims = draw(st.booleans())
    return Sample(lambda x: op(x, axis, keepdims), [values(rng, shape)])


@st.composite
def along_axis(draw, op):
    shape, rng = draw(SHAPES.filter(len)), draw(RNGS)
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    return Sample(lambda x: op(x, axis), [normal(rng, shape)])


@st.composite
def reshapes(draw):
    shape, rng = draw(SHAPES), draw(RNGS)
    new = draw(st.sampled_from([(-1,), shape[::-1], (1, *shape), (*shape, -1)]))
    return Sample(lambda x: ops.reshape(x, new), [normal(rng, shape)])


@st.composite
def transposes(draw):
    shape, rng = draw(SHAPES), draw(RNGS)
    axes = draw(st.one_of(st.none(), st.permutations(range(len(shape)))))
    return Sample(lambda x: ops.transpose(x, axes), [normal(rng, shape)])


@st.composite
def concats(draw):
    shape, rng = draw(SHAPES.filter(len)), draw(RNGS)
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    lengths = draw(st.lists(st.integers(0, 4), min_size=1, max_size=3))
    front = axis % len(shape)
    return Sample(lambda *xs: ops.concat(xs, axis), [normal(rng, shape[:front] + (n,) + shape[front + 1:]) for n in lengths])


@st.composite
def pads(draw):
    shape, rng = draw(SHAPES), draw(RNGS)
    widths = [draw(st.tuples(st.integers(0, 2), st.integers(0, 2))) for _ in shape]
    return Sample(lambda x: ops.pad(x, widths), [normal(rng, shape)])


INDICES = st.sampled_from([
    0, -1, slice(1, None), slice(None, None, -2), (slice(None), 1), (Ellipsis, slice(0, 2)), (None, 2), (slice(None), None, slice(2)),
    np.array([0, 2, 0]), (np.array([1, 1, 2]), np.array([0, 0, 2])), (slice(None), np.array([[0, 1], [1, 1]])), np.eye(3, dtype=bool),
])


# Layers

@st.composite
def matrices(draw):
    rng, (a, b) = draw(RNGS), draw(broadcast_pairs(st.lists(st.integers(1, 3), max_size=2).map(tuple)))
    M, K, P = (draw(st.integers(1, 9)) for _ in range(3))
    return Sample(ops.matmul, [normal(rng, a + (M, K)), normal(rng, b + (K, P))])


@st.composite
def linears(draw):
    rng, lead, C, F = draw(RNGS), draw(SHAPES), draw(CHANNELS), draw(CHANNELS)
    return Sample(ops.linear, [normal(rng, lead + (C,)), normal(rng, (C, F)), normal(rng, (F,))][:draw(st.integers(2, 3))])


@st.composite
def embeddings(draw):
    rng, rows, ids_shape = draw(RNGS), draw(st.integers(1, 6)), draw(SHAPES)
    ids = rng.integers(0, rows, ids_shape)
    return Sample(lambda w: ops.embedding(w, ids), [normal(rng, (rows, draw(CHANNELS)))])


@st.composite
def dropouts(draw):
    rng, shape, p, seed = draw(RNGS), draw(SHAPES), draw(st.sampled_from([0, 0.1, 0.5, 0.9])), draw(st.integers(0, 99))
    return Sample(lambda x: ops.dropout(x, p, np.random.default_rng(seed)), [normal(rng, shape)])


@st.composite
def conv_shapes(draw):
    """N, H, W, C, KH, KW, F, stride, padding, with at least one pixel in the result."""
    N, H, W, C, F = draw(st.integers(1, 3)), draw(SIDES), draw(SIDES), draw(CHANNELS), draw(CHANNELS)
    stride, padding = draw(st.integers(1, 3)), draw(st.integers(0, 3))
    KH, KW = (draw(st.sampled_from([k for k in (1, 3, 5, 7) if k <= side + 2 * padding])) for side in (H, W))
    return N, H, W, C, KH, KW, F, stride, padding


def parts_of(draw, C):
    """C channels in one part, or in two or three."""
    ends = sorted(draw(st.sets(st.integers(1, C - 1), max_size=2))) if C > 1 else []
    return [end - start for start, end in zip([0, *ends], [*ends, C])]


@st.composite
def convs(draw):
    """The picture in one part or in several, with and without bias and residual."""
    rng, shapes = draw(RNGS), draw(conv_shapes())
    N, H, W, C, KH, KW, F, stride, padding = shapes
    parts, bias, residual = parts_of(draw, C), draw(st.sampled_from([None, (F,), (N, F)])), draw(st.booleans())
    inputs = [normal(rng, (KH, KW, C, F))] + ([normal(rng, bias)] if bias else []) + ([normal(rng, out_shape(*shapes))] if residual else [])

    def fn(w, *rest):
        rest = list(rest)
        b, more = rest.pop(0) if bias else None, rest.pop(0) if residual else None
        return ops.conv2d(rest if len(rest) > 1 else rest[0], w, b, stride, padding, more)
    return Sample(fn, inputs + [normal(rng, (N, H, W, part)) for part in parts])


@st.composite
def norm_shapes(draw):
    """(N, ..., C) with G groups of at least two numbers each: one number alone has variance 0, and a gradient as steep as 1 / sqrt(eps)."""
    N, G, per_group = draw(st.integers(1, 3)), draw(st.integers(1, 5)), draw(st.integers(1, 5))
    middle = draw(st.lists(SIDES, max_size=2))
    if np.prod(middle) * per_group < 2:
        per_group = 2
    return (N, *middle, G * per_group), G


@st.composite
def group_norms(draw):
    """x in one part or in several, each used once more beside, so that its gradient is added to one that is there."""
    rng, (shape, G), act = draw(RNGS), draw(norm_shapes()), draw(st.sampled_from([None, "silu"]))
    parts, again = parts_of(draw, shape[-1]), draw(st.booleans())
    x = np.split(distinct(rng, shape), np.cumsum(parts)[:-1], axis=-1)

    def fn(weight, bias, *xs):
        y = ops.group_norm(list(xs) if len(xs) > 1 else xs[0], weight, bias, G, act=act)
        return y + ops.concat(xs) if again else y
    return Sample(fn, [normal(rng, shape[-1:]), normal(rng, shape[-1:]), *x])


@st.composite
def attention_shapes(draw):
    N, heads, D = draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(CHANNELS)
    L, M = draw(st.integers(1, 20)), draw(st.integers(1, 20))
    return (N, heads, L, D), (N, heads, M, D)


@st.composite
def attentions(draw):
    rng, (q, kv) = draw(RNGS), draw(attention_shapes())
    return Sample(ops.attention, [normal(rng, q), normal(rng, kv), normal(rng, kv)])


@st.composite
def self_attentions(draw):
    rng, N, L, heads, D = draw(RNGS), draw(st.integers(1, 2)), draw(st.integers(1, 20)), draw(st.integers(1, 3)), draw(st.integers(1, 6))
    return Sample(lambda qkv: ops.self_attention(qkv, heads), [normal(rng, (N, L, 3 * heads * D))])


@st.composite
def resamplings(draw, op, divisible):
    rng, N, H, W, C, factor = draw(RNGS), draw(st.integers(1, 3)), draw(SIDES), draw(SIDES), draw(CHANNELS), draw(st.integers(1, 3))
    scale = factor if divisible else 1
    return Sample(lambda x: op(x, factor), [normal(rng, (N, H * scale, W * scale, C))])


@st.composite
def patches(draw):
    rng, N, H, W, C, factor = draw(RNGS), draw(st.integers(1, 3)), draw(SIDES), draw(SIDES), draw(CHANNELS), draw(st.integers(1, 3))
    return Sample(lambda x: ops.depth_to_space(x, factor), [normal(rng, (N, H, W, C * factor ** 2))])


@st.composite
def recomputations(draw):
    """A function of two inputs, one of which is used beside it too."""
    rng, n, m = draw(RNGS), draw(st.integers(1, 4)), draw(st.integers(1, 4))

    def fn(a, b):
        return ops.tanh(ops.matmul(a, b)) * a
    return Sample(lambda a, b: ops.recompute(fn, [a, b]) + a, [normal(rng, (n, m)), normal(rng, (m, m))])


@st.composite
def upsample_convs(draw):
    rng, N, H, W, C, F, again = draw(RNGS), draw(st.integers(1, 2)), draw(SIDES), draw(SIDES), draw(CHANNELS), draw(CHANNELS), draw(st.booleans())
    bias = [normal(rng, (F,))] if draw(st.booleans()) else []

    def fn(x, *rest):
        y = ops.upsample_conv2d(x, *rest)
        return y + ops.upsample_nearest(ops.sum(x, 3, True)) if again else y        # x's gradient is added to one that is there
    return Sample(fn, [normal(rng, (N, H, W, C)), normal(rng, (3, 3, C, F)), *bias])


@st.composite
def weighted_errors(draw):
    rng, shape = draw(RNGS), (draw(st.integers(1, 4)), *draw(SHAPES))
    weight = positive(rng, shape[:1])
    return Sample(lambda a, b: ops.mse(a, b, weight.astype(a.dtype)), [normal(rng, shape), normal(rng, shape)])


SAMPLES = {
    "add": binary(ops.add), "sub": binary(ops.sub), "mul": binary(ops.mul), "div": binary(ops.div, second=off_zero),
    "pow": binary(ops.pow, first=positive), "mse": binary(ops.mse) | weighted_errors(),
    "neg": unary(ops.neg), "exp": unary(ops.exp), "log": unary(ops.log, positive), "sqrt": unary(ops.sqrt, positive),
    "tanh": unary(ops.tanh), "sigmoid": unary(ops.sigmoid), "silu": unary(ops.silu), "gelu": unary(ops.gelu),
    "relu": unary(ops.relu, off_zero),
    "sum": reduction(ops.sum), "mean": reduction(ops.mean), "max": reduction(ops.max, distinct), "softmax": along_axis(ops.softmax),
    "reshape": reshapes(), "transpose": transposes(), "concat": concats(), "pad": pads(),
    "getitem": st.builds(lambda rng, index: Sample(lambda x: ops.getitem(x, index), [normal(rng, (3, 3))]), RNGS, INDICES),
    "matmul": matrices(), "linear": linears(), "embedding": embeddings(), "dropout": dropouts(),
    "conv2d": convs(), "upsample_conv2d": upsample_convs(),
    "group_norm": group_norms(), "attention": attentions(), "self_attention": self_attentions(),
    "recompute": recomputations(),
    "upsample_nearest": resamplings(ops.upsample_nearest, False), "avg_pool": resamplings(ops.avg_pool, True),
    "space_to_depth": resamplings(ops.space_to_depth, True), "depth_to_space": patches(),
}


# Kernels: tuples of arguments, arrays of one dtype, float32 or float64

def arguments(build, shapes):
    """A strategy of build(array, shapes): array(shape) draws normal numbers of the dtype drawn."""
    def make(rng, dtype, shapes):
        return build(lambda shape: np.asarray(normal(rng, shape), dtype), shapes)
    return st.builds(make, RNGS, DTYPES, shapes)


def weights(array, shape, weighted):
    return array(shape[:1]) if weighted and shape else None


def out_shape(N, H, W, C, KH, KW, F, stride, padding):
    return N, (H + 2 * padding - KH) // stride + 1, (W + 2 * padding - KW) // stride + 1, F


def conv2d_arguments(array, drawn):
    shapes, bias_ndim, added = drawn
    N, H, W, C, KH, KW, F, stride, padding = shapes
    bias = [None, array((F,)), array((N, F))][bias_ndim]
    return array((N, H, W, C)), array((KH, KW, C, F)), bias, stride, padding, array(out_shape(*shapes)) if added else None


def conv2d_dx_arguments(array, drawn):
    shapes, added = drawn
    N, H, W, C, KH, KW, F, stride, padding = shapes
    return array(out_shape(*shapes)), array((KH, KW, C, F)), (H, W), stride, padding, array((N, H, W, C)) if added else None


def conv2d_dw_arguments(array, shapes):
    N, H, W, C, KH, KW, F, stride, padding = shapes
    return array((N, H, W, C)), array(out_shape(*shapes)), (KH, KW), stride, padding


def matmul_arguments(array, shape):
    batch, M, K, P, a_turned, b_turned = shape      # turned: a transposed view, as the gradients of a product are
    a = array((*batch, K, M)).swapaxes(-1, -2) if a_turned else array((*batch, M, K))
    b = array((*batch, P, K)).swapaxes(-1, -2) if b_turned else array((*batch, K, P))
    return a, b


def group_norm_arguments(array, drawn):
    """Neighbours in x, over pixels and over channels, are at least 1 apart, so that every group's rstd is at most 2.

    Rounding, of some |x| eps in the mean, goes into the gradient times rstd^2: two entries alone in a group, and near each other, would make it as
    large as they like.
    """
    (shape, G), act, parts = drawn
    x = array(shape)
    odd = np.add.outer(np.arange(x.size // shape[-1]), np.arange(shape[-1])).reshape(shape) % 2
    x = (2 * odd - 1.5 + np.argsort(x, axis=None).reshape(shape) / x.size).astype(x.dtype)
    return np.array_split(x, min(parts, shape[-1]), axis=-1), array(shape[-1:]), array(shape[-1:]), G, 1e-5, act


def group_norm_backward_arguments(array, drawn):
    (shape, G), act, parts = drawn
    xs, weight, bias, *_ = group_norm_arguments(array, drawn)
    _, mean, rstd = plain.group_norm(xs, weight, bias, G, 1e-5, act)
    so_far = [array(part.shape) if i else None for i, part in enumerate(xs)]
    return array(shape), xs, weight, bias, mean.astype(weight.dtype), rstd.astype(weight.dtype), act, so_far


def attention_backward_arguments(array, shapes):
    q, k, v = array(shapes[0]), array(shapes[1]), array(shapes[1])
    o, lse = plain.attention(q, k, v)
    return array(shapes[0]), q, k, v, o.astype(q.dtype), lse.astype(q.dtype)


def self_attention_arguments(array, shape):
    N, L, heads, D = shape
    return array((N, L, 3 * heads * D)), heads


def self_attention_backward_arguments(array, shape):
    qkv, heads = self_attention_arguments(array, shape)
    o, lse = plain.self_attention(qkv, heads)
    return array(o.shape), qkv, o.astype(qkv.dtype), lse.astype(qkv.dtype)


def adamw_arguments(array, drawn):
    shapes, averaged, step, weight_decay = drawn
    params, grads, ms, emas = ([array(shape) for shape in shapes] for _ in range(4))
    vs = [np.square(array(shape), out=np.empty(shape, array(()).dtype)) for shape in shapes]
    return params, grads, ms, vs, emas if averaged else None, 1e-2, 0.9, 0.99, 1e-8, weight_decay, step, 0.7, 0.95


def muon_arguments(array, drawn):
    shapes, averaged, weight_decay = drawn
    params, grads, ms, emas = ([array(shape) for shape in shapes] for _ in range(4))
    return params, grads, ms, emas if averaged else None, 1e-2, 0.9, weight_decay, 0.7, 0.95


def pool_sum_arguments(array, drawn):
    (N, H, W, C), factor = drawn
    return array((N, H * factor, W * factor, C)), factor


LONG_ATTENTION = st.just(((1, 1, 110, 5), (1, 1, 60, 5)))      # more tokens than are worked on at once
TOKENS = st.tuples(st.integers(1, 2), st.integers(1, 20), st.integers(1, 3), CHANNELS) | st.just((1, 110, 2, 5))
LONG = (40_003,)                                              # more numbers than a thread takes at once
WEIGHTED = st.tuples(SHAPES | st.sampled_from([LONG, (3, 20_000)]), st.booleans())
ACTS = st.sampled_from([None, "silu"])
IMAGES = st.tuples(st.integers(1, 3), SIDES, SIDES, CHANNELS)
DOUBLED = st.tuples(IMAGES, CHANNELS, st.booleans())
SIZES = st.integers(1, 40)      # past the tiles of the product kernels
MATRICES = st.tuples(st.lists(st.integers(1, 3), max_size=1), SIZES, SIZES, SIZES, st.booleans(), st.booleans())
PARTS = st.tuples(SHAPES, st.lists(CHANNELS, min_size=1, max_size=3))

KERNEL_SAMPLES = {
    "conv2d": arguments(conv2d_arguments, st.tuples(conv_shapes(), st.integers(0, 2), st.booleans())),
    "conv2d_dx": arguments(conv2d_dx_arguments, st.tuples(conv_shapes(), st.booleans())),
    "conv2d_dw": arguments(conv2d_dw_arguments, conv_shapes()),
    "upsample_conv2d": arguments(lambda array, d: (array(d[0]), array((3, 3, d[0][3], d[1])), array((d[1],)) if d[2] else None), DOUBLED),
    "upsample_conv2d_dx": arguments(lambda array, d: (array((d[0][0], 2 * d[0][1], 2 * d[0][2], d[1])), array((3, 3, d[0][3], d[1])),
                                                      array(d[0]) if d[2] else None), DOUBLED),
    "upsample_conv2d_dw": arguments(lambda array, d: (array(d[0]), array((d[0][0], 2 * d[0][1], 2 * d[0][2], d[1]))), DOUBLED),
    "pixel_sum": arguments(lambda array, shape: (array(shape),), IMAGES),
    "matmul": arguments(matmul_arguments, MATRICES),
    "group_norm": arguments(group_norm_arguments, st.tuples(norm_shapes(), ACTS, st.integers(1, 3))),
    "group_norm_backward": arguments(group_norm_backward_arguments, st.tuples(norm_shapes(), ACTS, st.integers(1, 3))),
    "attention": arguments(lambda array, shapes: (array(shapes[0]), array(shapes[1]), array(shapes[1])), attention_shapes() | LONG_ATTENTION),
    "attention_backward": arguments(attention_backward_arguments, attention_shapes() | LONG_ATTENTION),
    "self_attention": arguments(self_attention_arguments, TOKENS),
    "self_attention_backward": arguments(self_attention_backward_arguments, TOKENS),
    "silu": arguments(lambda array, shape: (array(shape),), SHAPES | st.just(LONG)),
    "silu_backward": arguments(lambda array, shape: (array(shape), array(shape)), SHAPES | st.just(LONG)),
    "add": arguments(lambda array, shape: (array(shape), array(shape)), SHAPES | st.just(LONG)),
    "concat_channels": arguments(lambda array, drawn: ([array(drawn[0] + (n,)) for n in drawn[1]],), PARTS),
    "split_channels": arguments(lambda array, drawn: (array(drawn[0] + (sum(drawn[1]),)), drawn[1]), PARTS),
    "upsample": arguments(lambda array, drawn: (array(drawn[0]), drawn[1]), st.tuples(IMAGES, st.integers(1, 3))),
    "pool_sum": arguments(pool_sum_arguments, st.tuples(IMAGES, st.integers(1, 3))),
    "adamw_step": arguments(adamw_arguments, st.tuples(
        st.lists(SHAPES | st.just(LONG), min_size=1, max_size=3), st.booleans(), st.integers(1, 1000), st.sampled_from([0.0, 0.01]))),
    "muon_step": arguments(muon_arguments, st.tuples(
        st.lists(st.tuples(st.integers(1, 70), st.integers(1, 70)) | st.tuples(*[st.integers(1, 6)] * 4), min_size=1, max_size=3),
        st.booleans(), st.sampled_from([0.0, 0.01]))),
    "softmax": arguments(lambda array, shape: (array(shape),), SHAPES.filter(len) | st.just((700, 40))),
    "softmax_backward": arguments(lambda array, shape: (array(shape), plain.softmax(array(shape)).astype(array(()).dtype)),
                                  SHAPES.filter(len) | st.just((700, 40))),
    "squared_error": arguments(lambda array, drawn: (array(drawn[0]), array(drawn[0]), weights(array, *drawn)), WEIGHTED),
    "scaled_difference": arguments(lambda array, drawn: (array(drawn[0]), array(drawn[0]), 0.3, weights(array, *drawn)), WEIGHTED),
    "squared_norm": arguments(lambda array, shapes: ([array(shape) for shape in shapes],), st.lists(SHAPES | st.just(LONG), max_size=4)),
}
