"""Functions of whole vectors: multiply-add, square root, maximum, and e^x, which no processor has an instruction for.

Each takes Vecs, one number a lane; sqrt and exp take NumPy arrays too, so that a formula which calls them serves as reference and as kernel.

Read first: `vector.py`.
"""
import math

import numpy as np
from llvmlite import ir

from .vector import I32, I64, Vec


def fma(a, b, c):
    """a b + c, a being a Vec: rounded once where the processor can."""
    return a.code.call("fmuladd", a, a._lift(b), a._lift(c))


def sqrt(x):
    """Square root, of a Vec or an array."""
    return x.code.call("sqrt", x) if isinstance(x, Vec) else np.sqrt(x)


def maximum(a, b):
    """The larger of two Vecs, lane by lane."""
    return a.code.call("maxnum", a, b)


def exp(x):
    """e^x, of a Vec or an array. Relative error of a Vec's below 2e-7 in float32 and 3e-14 in float64, for x from -87 to 88 (float64: -708 to
    709).

    x = n ln 2 + r with |r| <= ln 2 / 2, so e^x = 2^n e^r: e^r is Taylor's sum, and n goes straight into the exponent bits. Where 2^n is no normal
    number, the result is 0 or infinity: x is first brought into a range at whose ends n has just the bits that stand for these.
    """
    if not isinstance(x, Vec):
        return np.exp(x)
    code, b = x.code, x.code.builder
    # ln 2 in two parts, the first with so few bits that n times it is exact; 1.5 * 2^mantissa, which rounds a number added to it
    ln2_high, bits, bias, terms, lowest, highest = (
        (0.693145751953125, 52, 1023, 13, -709.0, 710.0) if code.double else (0.693359375, 23, 127, 7, -88.0, 89.0))
    integer = ir.VectorType(I64 if code.double else I32, code.lanes)
    rounder = code.constant(1.5 * 2.0 ** bits)
    inside = -(-x.where_above(highest, highest)).where_above(-lowest, -lowest)
    shifted = fma(inside, 1 / math.log(2), rounder)                       # n, in the low bits of the mantissa
    n_bits = b.sub(b.bitcast(shifted.value, integer), b.bitcast(rounder.value, integer))      # LLVM would drop `shifted - rounder`, of floats
    n = Vec(code, b.sitofp(n_bits, code.vector))
    r = fma(n, -(math.log(2) - ln2_high), fma(n, -ln2_high, inside))
    taylor = code.constant(1 / math.factorial(terms))
    for k in reversed(range(terms)):
        taylor = fma(taylor, r, 1 / math.factorial(k))
    exponent = b.shl(b.add(n_bits, ir.Constant(integer, [bias] * code.lanes)), ir.Constant(integer, [bits] * code.lanes))
    return taylor * Vec(code, b.bitcast(exponent, code.vector))           # a product, not a sum of bits: NaN stays NaN
