"""Winograd's transforms for F(4x4, 3x3), in one dimension and in two, on lists of arrays or vectors: the reference and the kernel in one.

What they are for and where they come from is told in `winograd.py`.
"""

# The matrices are Lavin and Gray's, with the sums in common taken once.


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
