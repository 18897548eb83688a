"""The engine: graphs, accumulation, what it keeps and frees, and the mistakes that it must catch."""
import copy
import gc
import weakref

import numpy as np
import pytest

from tinydiff import ops
from tinydiff.autograd import PRIMITIVES, GraphError, Tensor, no_grad, primitive
from tinydiff.gradcheck import gradcheck


def leaf(*values, dtype=np.float64):
    return Tensor(np.array(values, dtype), requires_grad=True)


@pytest.fixture
def own_primitive():
    """primitive, for ops that a test makes up: they leave the registry with the test."""
    before = dict(PRIMITIVES)
    yield primitive
    PRIMITIVES.clear()
    PRIMITIVES.update(before)


# Gradients add up

def test_a_diamond_adds_the_gradients_of_both_ways():
    x = leaf(2.0, 3.0)
    a = x * x
    y = ops.exp(a) * a              # a is used twice, and so is x
    y.backward(np.ones(2))
    np.testing.assert_allclose(x.grad, np.exp(x.data**2) * (1 + x.data**2) * 2 * x.data)


def test_a_late_use_of_an_early_result_is_waited_for():
    x = leaf(3.0)
    a = x * 2.0
    b = a
    for _ in range(5):
        b = b * 1.5
    (a + b + a).backward()
    np.testing.assert_allclose(x.grad, [2 * (2 + 1.5**5)])


def test_backward_adds_to_grad():
    x = leaf(1.0, 2.0)
    ops.sum(x * 3.0).backward()
    first = x.grad
    ops.sum(x * x).backward()
    np.testing.assert_array_equal(x.grad, [5.0, 7.0])
    np.testing.assert_array_equal(first, [3.0, 3.0])        # who kept the old array keeps its values


def test_an_argument_used_twice_in_one_call():
    x = leaf(3.0, 4.0)
    ops.sum(ops.concat([x, x, x])).backward()
    np.testing.assert_array_equal(x.grad, [3.0, 3.0])


def test_backward_on_a_leaf():
    x = leaf(1.0, 2.0)
    x.backward(np.array([5.0, 6.0]))
    np.testing.assert_array_equal(x.grad, [5.0, 6.0])


def test_on_leaf_is_told_each_gradient_as_soon_as_it_is_complete():
    x, w, late, unused = (Tensor([value], requires_grad=True) for value in (2.0, 3.0, 5.0, 7.0))
    told = []

    def on_leaf(leaf, gradient):
        told.append((leaf, gradient.item(), [t.grad is None for t in (x, w, late)]))
    h = x * w                                           # the walk comes here last
    ((h + x) * late + unused * np.zeros(1)).backward(on_leaf=on_leaf)
    assert [leaf for leaf, _, _ in told] == [unused, late, x, w]          # x only after its older use too
    assert [gradient for _, gradient, _ in told] == [0.0, 8.0, 20.0, 10.0]
    assert all(none == [True] * 3 for _, _, none in told)                 # .grad changes at the end
    assert [t.grad.item() for t in (x, w, late)] == [20.0, 10.0, 8.0]
    told.clear()
    (x * w).backward(on_leaf=on_leaf)
    assert [(leaf, gradient) for leaf, gradient, _ in told] == [(x, 3.0), (w, 2.0)] and x.grad.item() == 23.0    # this backward's part alone


@pytest.mark.parametrize("make", [
    lambda a, b: a + b,                                                             # dy itself goes to both
    lambda a, b: ops.concat([a, b]),                                                # two views of one array
    lambda a, b: ops.reshape(a, (3, 1)) + ops.reshape(b, (3, 1)),                   # two views of dy
    lambda a, b: ops.sum(a) + ops.sum(b),                                           # one number, repeated
])
def test_no_two_gradients_share_memory(make):
    a, b = leaf(1.0, 2.0, 3.0), leaf(4.0, 5.0, 6.0)
    y = make(a, b)
    dy = np.ones(y.shape)
    y.backward(dy)
    a.grad *= 100
    np.testing.assert_array_equal(b.grad, np.ones(3))
    np.testing.assert_array_equal(dy, np.ones(y.shape))


def test_grads_can_be_written():
    x = leaf(1.0)
    ops.sum(x).backward()           # sum's gradient is a read-only view of dy
    x.grad *= 2
    np.testing.assert_array_equal(x.grad, [2.0])


def test_grads_are_contiguous():
    w = Tensor(np.ones((2, 3)), requires_grad=True)
    for _ in range(2):              # the first gradient, and one added to it
        ops.sum(ops.transpose(w) * np.arange(6.0).reshape(3, 2)).backward()
        assert w.grad.flags.c_contiguous
    np.testing.assert_array_equal(w.grad, 2 * np.arange(6.0).reshape(3, 2).T)


def test_broadcasting_sums_over_the_repeated_axes():
    a, b = Tensor(np.ones((2, 3, 1)), requires_grad=True), Tensor(np.full((4,), 2.0), requires_grad=True)
    ops.sum(a * b).backward()
    np.testing.assert_array_equal(a.grad, np.full((2, 3, 1), 8.0))
    np.testing.assert_array_equal(b.grad, np.full((4,), 6.0))


# Operators

def test_operators():
    x, array = leaf(1.0, 2.0), np.array([3.0, 4.0])
    for y, expected in [
        (x + 1, [2, 3]), (1 + x, [2, 3]), (array + x, [4, 6]), (x - 1, [0, 1]), (1 - x, [0, -1]), (array - x, [2, 2]), (x * 3, [3, 6]),
        (array * x, [3, 8]), (x / 2, [0.5, 1]), (2 / x, [2, 1]), (array / x, [3, 2]), (x**2, [1, 4]), (2**x, [2, 4]), (array**x, [3, 16]),
        (-x, [-1, -2]), (x[::-1], [2, 1]), (x[1], 2), (np.float64(2) * x, [2, 4]), (np.eye(2) @ x[:, None], [[1], [2]]),
        (x[None] @ np.eye(2), [[1, 2]]), (x - x, [0, 0]), (x / x, [1, 1]), (x**x, [1, 4]),
    ]:
        assert isinstance(y, Tensor) and y.requires_grad
        np.testing.assert_allclose(y.data, expected)


def test_rows_can_be_iterated():
    assert [float(row.data) for row in leaf(1.0, 2.0)] == [1.0, 2.0]


def test_repr():
    x = leaf(1.0, 2.0)
    assert repr(x) == "Tensor([1., 2.], float64 (2,), requires_grad=True)"
    assert repr(x * 2) == "Tensor([2., 4.], float64 (2,), made by mul)"
    assert repr(Tensor(np.float32([1]))) == "Tensor([1.], float32 (1,))"
    pictures = repr(Tensor(np.zeros((64, 64, 64, 3))))
    assert pictures.endswith("float64 (64, 64, 64, 3))") and len(pictures.splitlines()) < 40


# dtypes

def test_numbers_do_not_turn_float32_into_float64():
    x = leaf(1.0, 2.0, dtype=np.float32)
    for number in (2, 2.0, np.float64(2), np.float32(2), np.int64(2)):
        for y in (x + number, number - x, x * number, number / x, x**number, number**x):
            assert y.dtype == np.float32
            y.backward(np.ones(2))
    assert x.grad.dtype == np.float32


@pytest.mark.parametrize("data", [[1, 2], np.ones(2, np.float16), np.array([True]), ["a"], [1j]])
def test_a_tensor_is_float32_or_float64(data):
    with pytest.raises(TypeError, match="Tensor: .* Tensors are float32 or float64"):
        Tensor(data)


def test_dtypes_do_not_mix():
    with pytest.raises(TypeError, match="mul: arguments of float32 and float64"):
        leaf(1.0, dtype=np.float32) * leaf(1.0)
    with pytest.raises(TypeError, match="mul: float64 result from float32; convert the other argument"):
        leaf(1.0, dtype=np.float32) * np.array([1, 2])
    for n in (2, 100_000):
        with pytest.raises(TypeError, match="add: float64 result from float32"):
            leaf(*np.ones(n), dtype=np.float32) + np.ones(n, int)


# no_grad

def test_no_grad_makes_no_graph_and_ends_with_its_block():
    x = leaf(1.0)
    with no_grad():
        with no_grad():
            assert not (x * 2).requires_grad
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad
    with pytest.raises(KeyError):
        with no_grad():
            raise KeyError
    assert (x * 2).requires_grad


def test_no_graph_without_a_leaf_that_requires_grad():
    y = Tensor([1.0]) * Tensor([2.0])
    assert y.node is None and not y.requires_grad
    with pytest.raises(GraphError, match="depends on no Tensor with requires_grad=True"):
        y.backward()


# Backward's own mistakes

def test_a_second_backward_raises_and_changes_nothing():
    x = leaf(2.0)
    a = x * x
    y, z = a * 3.0, a * 4.0
    y.backward()
    with pytest.raises(GraphError, match="'mul' was used and freed by an earlier backward; call forward again"):
        y.backward()
    with pytest.raises(GraphError, match="freed"):
        z.backward()                # shares a with y
    np.testing.assert_array_equal(x.grad, [12.0])


def test_backward_needs_a_cotangent_of_the_right_shape():
    y = leaf(1.0, 2.0) * 2.0
    with pytest.raises(ValueError, match=r"shape \(2,\), not one number; give grad"):
        y.backward()
    with pytest.raises(ValueError, match=r"grad has shape \(3,\), the Tensor \(2,\)"):
        y.backward(np.ones(3))
    y.backward(np.ones(2))          # the mistakes did not use up the graph


@pytest.mark.parametrize("gradients, message", [
    (lambda dy: dy, "must return a tuple"),
    (lambda dy: (), "one for each of its 1 array"),
    (lambda dy: (dy[:1],), r"faulty: gradient 0 is float64 \(1,\), its argument float64 \(2,\)"),
    (lambda dy: (dy.astype(np.float32),), r"gradient 0 is float32 \(2,\), its argument float64"),
])
def test_a_faulty_op_is_named(own_primitive, gradients, message):
    @own_primitive
    def faulty(x):
        return x * 1.0, gradients
    with pytest.raises(GraphError, match=message):
        faulty(leaf(1.0, 2.0)).backward(np.ones(2))


def test_a_lazy_gradient_is_called_only_where_it_is_needed(own_primitive):
    called = []

    @own_primitive
    def both(a, b=None, scale=1.0):
        def da():
            called.append("a")
            return dy_seen[0] * scale

        def backward(dy):
            dy_seen.append(dy)
            return da, None
        dy_seen = []
        return a * scale, backward
    x = leaf(1.0)
    both(Tensor([1.0]), b=x, scale=2.0).backward()
    assert called == [] and x.grad is None          # None: no gradient came back
    both(scale=2.0, b=None, a=x).backward()         # in any order by name
    assert called == ["a"]
    np.testing.assert_array_equal(x.grad, [2.0])


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("popped", [1, 2])
def test_backward_may_add_to_the_gradient_that_is_there(own_primitive, lazy, again, popped):
    """d(2 x + 2 x' + 5 x) where x and x' are one leaf, or two: what is popped is not added a second time, what is left is."""
    offered = []

    @own_primitive
    def twice(xs):
        def backward(dy, so_far):
            offered.append(sorted(so_far))

            def part(i):
                return 2 * dy + so_far.pop(i, 0 * dy) if i < popped else 2 * dy
            return [lambda: part(0), lambda: part(1)] if lazy else [part(0), part(1)]
        return 2 * xs[0] + 2 * xs[1], backward
    x = leaf(3.0)
    other = x if again else leaf(4.0)
    y = twice([x, other])
    (y + 5.0 * x).backward()                                    # the product is newer: its gradient is there first
    assert offered == [[] if again else [0]]                    # of a leaf that comes twice, nothing: it would be added twice
    np.testing.assert_array_equal(x.grad, [9.0 if again else 7.0])
    assert again or other.grad == [2.0]


@pytest.mark.parametrize("op", [lambda xs: ops.conv2d(xs, np.arange(24.0).reshape(1, 1, 4, 6)),
                                lambda xs: ops.group_norm(xs, np.ones(4), np.zeros(4), 2)])
def test_one_tensor_twice_in_a_list_with_another_use_besides(op):
    """The ops that add to a gradient that is there, as a network might use them: [x, x] and x once more."""
    x = np.random.default_rng(0).standard_normal((2, 3, 3, 2))
    gradcheck(lambda x: ops.concat([ops.reshape(op([x, x]), (-1,)), ops.reshape(x * x, (-1,))]), [x])


def test_backward_leaves_the_cotangent_alone():
    x, dy = leaf(1.0, 2.0), np.array([3.0, 4.0])
    (x + 0.0).backward(dy)
    x.grad[0] = 9.0
    assert dy.tolist() == [3.0, 4.0] and dy.flags.writeable


def test_gradients_follow_the_order_of_the_signature(own_primitive):
    @own_primitive
    def scaled(a, b=None, c=None):
        return a * c, lambda dy: (dy * c, None, dy * a)
    x, y = leaf(2.0), leaf(3.0)
    scaled(c=y, a=x).backward()
    assert (x.grad, y.grad) == (3.0, 2.0)


# Values changed after forward

def test_data_is_read_only_and_copied():
    array = np.array([1.0, 2.0])
    x = Tensor(array, requires_grad=True)
    array[0] = 99
    np.testing.assert_array_equal(x.data, [1.0, 2.0])
    for tensor in (x, x * 2.0):
        with pytest.raises(ValueError, match="read-only"):
            tensor.data[0] = 1
    with pytest.raises(AttributeError):
        x.dat = np.ones(2)


def write(x):
    x.writable()[...] = 5.0


def assign(x):
    x.data = np.full(x.shape, 5.0)


@pytest.mark.parametrize("change", [write, assign])
@pytest.mark.parametrize("of", [lambda w: w, lambda w: w[:1], lambda w: ops.reshape(w, (1, 2))])      # the values, or a view of them
@pytest.mark.parametrize("requires_grad", [True, False])
def test_backward_over_changed_values_raises_and_changes_nothing(change, of, requires_grad):
    x, w = leaf(3.0), Tensor([1.0, 2.0], requires_grad)
    y = ops.sum(of(w) * x)
    change(w)
    with pytest.raises(GraphError, match="'(mul|getitem|reshape)' was changed in place after forward; call forward again"):
        y.backward()
    assert x.grad is None
    ops.sum(of(w) * x).backward()   # a new forward sees the new values
    np.testing.assert_array_equal(x.grad, [5.0 * of(w).size])


def test_only_tensors_made_from_data_can_be_written():
    x = leaf(1.0)
    with no_grad():
        without_graph = ops.reshape(x, (1, 1))
    for result in (x * 2.0, without_graph):
        with pytest.raises(ValueError, match="the result of an op"):
            result.writable()
    with pytest.raises(ValueError, match=r"expects float64 \(1,\), got float32 \(1,\)"):
        x.data = np.ones(1, np.float32)
    with pytest.raises(ValueError, match=r"expects float64 \(1,\), got float64 \(2,\)"):
        x.data = np.ones(2)


def test_a_copy_is_apart():
    x = leaf(1.0)
    other = copy.deepcopy(x)
    other.writable()[0] = 2.0
    assert x.data[0] == 1.0 and other.requires_grad


# What memory holds

class Tracked(np.ndarray):
    """An array that can be watched."""


def test_a_graph_keeps_what_closures_name_and_nothing_else(own_primitive):
    watched = []

    @own_primitive
    def keeps(x):
        y = (x + 1).view(Tracked)
        watched.append(weakref.ref(y))

        def backward(dy):
            return (dy * (y is not None),)
        return y, backward

    @own_primitive
    def keeps_nothing(x):
        y = (x + 1).view(Tracked)
        watched.append(weakref.ref(y))
        return y, lambda dy: (dy,)

    gc.disable()                    # no cycles: arrays go the moment that they are let go
    try:
        y = ops.sum(keeps_nothing(keeps(leaf(1.0))) + 1.0)
        assert [w() is not None for w in watched] == [True, False]
        y.backward()
        assert [w() is not None for w in watched] == [False, False]     # though y is still there
    finally:
        gc.enable()


def test_backward_frees_as_it_goes(own_primitive):
    alive = []

    @own_primitive
    def step(x):
        kept = np.ones(3).view(Tracked)
        ref = weakref.ref(kept)

        def backward(dy):
            alive.append(sum(other() is not None for other in refs))
            given = (dy * kept).view(Tracked)
            gradients.append(weakref.ref(given))
            most.append(sum(g() is not None for g in gradients))
            return (lambda: given,)
        refs.append(ref)
        return x * 1.0, backward
    refs, gradients, most = [], [], []
    y = leaf(1.0, 1.0, 1.0)
    for _ in range(6):
        y = step(y)
    y.backward(np.ones(3))
    assert alive == [6, 5, 4, 3, 2, 1]              # each closure is gone when the next is called
    assert max(most) == 2                           # the gradient that comes in and the one that goes out


def test_a_graph_that_is_dropped_is_freed_without_the_garbage_collector():
    gc.disable()
    try:
        y = ops.exp(leaf(1.0)) * 2.0
        closure = weakref.ref(y.node.closure)
        del y
        assert closure() is None
    finally:
        gc.enable()


def test_a_graph_of_100_000_ops():
    x = leaf(1.0)
    y = x
    for _ in range(100_000):
        y = -y
    y.backward()
    np.testing.assert_array_equal(x.grad, [1.0])
    y = x
    for _ in range(30_000):         # and one that is dropped, never used: as long a chain of destructors would overflow the stack
        y = -y
    del y
    gc.collect()
