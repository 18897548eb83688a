"""Winograd's transforms for F(4x4, 3x3), in one dimension and in two, on lists of arrays or vectors: the reference and the kernel in one.

Where they come from (the matrices are those of Lavin and Gray 2015, arXiv:1509.09308, section 4.3; the derivation is Toom and Cook's, transposed):

1. A product of polynomials by points. Let a have 4 coefficients, w 3; the product's 6 are sums of a_k w_i with k + i = n. At a point p the
   product's value is a(p) w(p): one multiplication. Six values fix six coefficients, so 6 multiplications do, where the sums take 12. The points
   here are p = 0, 1, -1, 2, -2, and "infinity", where a polynomial's value is its highest coefficient.
2. From values back to coefficients (Lagrange): product(z) = sum over p of a(p) w(p) M_p(z) / N_p, where M_p(z) = product of (z - q) over the
   other four points q, and N_p = M_p(p), so that the fraction is 1 at p and 0 at the others; for infinity it is z (z^2 - 1) (z^2 - 4).
3. Turned around. Take any 6 numbers x and weigh the product's coefficients with them: sum over k, i of x_{k+i} a_k w_i. What multiplies a_k is
   y_k = sum over i of x_{k+i} w_i: the convolution. By step 2 the same number is the sum over p of a(p) w(p) / N_p (sum over n of M_p's
   coefficient n times x_n). Since a(p) = sum over k of a_k p^k, what multiplies a_k is now

    y_k = sum over p of p^k [w(p) / N_p] [sum over n of (M_p)_n x_n],     that is     y = A^T [(G w) * (B^T x)]

   with a row for each point in B^T, the coefficients of M_p, and in G, (1, p, p^2) / N_p, and a column in A^T, (1, p, p^2, p^3). At infinity:
   (0, 4, 0, -5, 0, 1), (0, 0, 1) and (0, 0, 0, 1). For p = 1: M_p = z (z + 1) (z^2 - 4) = z^4 + z^3 - 4 z^2 - 4 z, and N_p = -6.

Written out below, with the sums that two rows share taken once.
Checked by `tests/kernels/test_winograd.py::test_the_matrices_are_those_of_the_points` and
`tests/kernels/test_winograd.py::test_six_products_make_four_outputs`.

Read first: `convolution.py`, `vector.py`.
"""
from .vector import I64, Int, choose, emitter


def input_transform(x):
    """B^T x: 6 -> 6."""
    a, b, c, d = x[4] - 4 * x[2], x[3] - 4 * x[1], x[4] - x[2], 2 * (x[3] - x[1])
    return [4 * x[0] - 5 * x[2] + x[4], a + b, a - b, c + d, c - d, 4 * x[1] - 5 * x[3] + x[5]]


def weight_transform(w):
    """G w: 3 -> 6."""
    a, b = (w[0] + w[2]) * (-1 / 6), w[1] * (1 / 6)
    c, d = w[0] * (1 / 24) + w[2] * (1 / 6), w[1] * (1 / 12)
    return [w[0] * (1 / 4), a - b, a + b, c + d, c - d, w[2]]


def output_transform(m):
    """A^T m: 6 -> 4."""
    a, b, c, d = m[1] + m[2], m[1] - m[2], m[3] + m[4], m[3] - m[4]
    return [m[0] + a + c, b + 2 * d, a + 4 * c, b + 8 * d + m[5]]


def output_adjoint(dy):
    """A dy: 4 -> 6, the gradient of output_transform."""
    a, b, c, d = dy[0] + dy[2], dy[1] + dy[3], dy[0] + 4 * dy[2], 2 * dy[1] + 8 * dy[3]
    return [dy[0], a + b, a - b, c + d, c - d, dy[3]]


def weight_adjoint(du):
    """G^T du: 6 -> 3, the gradient of weight_transform."""
    a, b, c, d = du[1] + du[2], du[2] - du[1], du[3] + du[4], du[3] - du[4]
    return [du[0] * (1 / 4) - a * (1 / 6) + c * (1 / 24), b * (1 / 6) + d * (1 / 12), (c - a) * (1 / 6) + du[5]]


# Nearest upsampling by 2 in front of a convolution doubles each input: x0 x1 x1 x2 x2 x3. Then entry 2 of B^T x is 0, and so are all products with
# it: 25 of the 36 are left. Its gradient adds the outputs up in pairs, and again does not need entry 2.

SKIPPED = 2


def doubled_input_transform(x):
    """B^T of four inputs, the middle ones twice: 4 -> 6, of which number SKIPPED is 0."""
    return input_transform([x[0], x[1], x[1], x[2], x[2], x[3]])


def doubled_output_transform(m):
    """output_transform where m[SKIPPED] is 0."""
    c, d = m[3] + m[4], m[3] - m[4]
    return [m[0] + m[1] + c, m[1] + 2 * d, m[1] + 4 * c, m[1] + 8 * d + m[5]]


def paired_output_transform(m):
    """The sums of output_transform's first two and last two: 6 -> 2."""
    c, d = m[3] + m[4], m[3] - m[4]
    return [m[0] + 2 * m[1] + c + 2 * d, 2 * m[1] + 4 * c + 8 * d + m[5]]


def two_dimensional(transform, grid):
    """The transform along both axes of a grid (a list of rows): T grid T^T."""
    columns = [transform(column) for column in zip(*grid)]
    return [transform(row) for row in zip(*columns)]


# The same as kernels: a grid of vectors is loaded, transformed in registers and stored.


def make_transform(transform, size, source_edges=False, target_edges=False, output=False):
    """Emitter of: target grid = transform of the size x size source grid, all strides given; of an output also + bias + a grid of `more`.

    source_edges: rows outside [top, bottom) and columns outside [left, right) are read at `outside`, where zeros are, and of each vector only the
    first `channels` numbers, zeros for the rest. target_edges: rows and columns outside are written to `outside`, a dustbin, and of each vector
    only so many numbers.
    """
    @emitter
    def run(code, source, s, s_row, s_column, target, t, t_row, t_column, outside, o, top, bottom, left, right, channels, biases, b,
            more, r, r_row, r_column):
        source, target, outside, more = source + s, target + t, outside + o, more + r
        part = code.first(channels) if source_edges or target_edges else code

        def at(grid, i, j, i_stride, j_stride, edges):
            place = grid + i * i_stride + j * j_stride
            if not edges:
                return place
            inside = code.builder.and_(Int(code, I64(i)).between(top, bottom), Int(code, I64(j)).between(left, right))
            return choose(inside, place, outside)

        def write(result, code):
            for i, row in enumerate(result):
                for j, vec in enumerate(row):
                    if output:
                        vec = vec + (biases + b).load() + at(more, i, j, r_row, r_column, target_edges).on(code).load()
                    at(target, i, j, t_row, t_column, target_edges).on(code).store(vec)

        reader = part if source_edges else code
        grid = [[at(source, i, j, s_row, s_column, source_edges).on(reader).load() for j in range(size)] for i in range(size)]
        result = two_dimensional(transform, grid)
        if target_edges:                                                        # a store of some lanes takes long on some processors
            code.either(channels.above(code.lanes - 1), lambda: write(result, code), lambda: write(result, part))
        else:
            write(result, code)
    return run


transform_weight = make_transform(weight_transform, 3)
transform_input = make_transform(input_transform, 6)
transform_input_edge = make_transform(input_transform, 6, source_edges=True)
transform_doubled_input = make_transform(doubled_input_transform, 4)
transform_doubled_input_edge = make_transform(doubled_input_transform, 4, source_edges=True)
transform_doubled_output = make_transform(doubled_output_transform, 6, target_edges=True, output=True)
transform_paired_output = make_transform(paired_output_transform, 6, target_edges=True, output=True)
transform_output = make_transform(output_transform, 6, output=True)
transform_output_edge = make_transform(output_transform, 6, target_edges=True, output=True)
transform_gradient = make_transform(output_adjoint, 4)
transform_gradient_edge = make_transform(output_adjoint, 4, source_edges=True)
