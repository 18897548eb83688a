"""A small vector language: Python objects whose ordinary arithmetic emits vector instructions.

A processor core adds or multiplies 4, 8 or 16 float32 numbers in one instruction, if the code says so. Numba compiles plain loops and hopes
that LLVM finds the vectors; for convolutions it does not. Numba also lets Python write LLVM's intermediate code itself
(`numba.extending.intrinsic`). Here that is dressed as arithmetic: a `Vec` stands for one vector register, and `a + b * c` on Vecs emits the
instructions. So a formula is written once, in plain Python, and serves twice: on NumPy arrays, and as a kernel.

    @emitter                                      # callable from jitted code
    def add_one(code, y, x, n):                   # arrays arrive as Ptr, integers as Int
        def body(k, _):
            (y + k * code.lanes).store((x + k * code.lanes).load() + 1)
            return []
        code.loop(n, body)                        # emits a loop of n rounds

The width follows the host: 64 bytes with AVX-512, 32 with AVX2, else 16 (SSE, NEON); `NUMBA_CPU_FEATURES` overrides what the host has. LLVM
makes any width legal, so a kernel is correct everywhere.

Read first: `registry.py`, `elementwise.py` for what a kernel looks like that is written in this language.
"""
import inspect

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.core.errors import TypingError
from numba.extending import intrinsic

from .jit import FLAGS

I32, I64 = ir.IntType(32), ir.IntType(64)
CACHE_LINE = 64                         # bytes


def host_features() -> set[str]:
    """Names of the instruction sets to compile for: what NUMBA_CPU_FEATURES says, else what the host has."""
    if config.CPU_FEATURES is not None:
        return {name[1:] for name in config.CPU_FEATURES.split(",") if name.startswith("+")}
    return {name for name, present in llvmlite.binding.get_host_cpu_features().items() if present}


# Vector bytes, and rows of the register tile. Rows x 2 sums, 2 vectors of B and 1 of A must fit the host's 32 or 16 registers. With 32, 12 rows
# would fit too, but do not run faster than 8, which divide the work of small pictures better.
if "avx512f" in host_features():
    VECTOR_BYTES, TILE_ROWS = 64, 8
elif "avx2" in host_features():
    VECTOR_BYTES, TILE_ROWS = 32, 6
else:
    VECTOR_BYTES, TILE_ROWS = 16, 6


def lanes(dtype) -> int:
    """Numbers of this dtype in one vector."""
    return VECTOR_BYTES // np.dtype(dtype).itemsize


class Code:
    """Where instructions are emitted: LLVM's builder, the element type (float32 or float64), the number of lanes, and which of them are read from
    memory and written to it (mask; None: all)."""

    def __init__(self, context, builder, element, lanes, mask=None):
        self.context, self.builder, self.element, self.lanes, self.mask = context, builder, element, lanes, mask
        self.vector = ir.VectorType(element, lanes)
        self.double = isinstance(element, ir.DoubleType)
        self.itemsize = 8 if self.double else 4
        self.kind = f"v{lanes}f{8 * self.itemsize}"             # as LLVM calls such vectors

    def constant(self, number) -> "Vec":
        return Vec(self, ir.Constant(self.vector, [float(number)] * self.lanes))

    def zeros(self, count) -> list["Vec"]:
        return [self.constant(0)] * count

    def one_lane(self) -> "Code":
        """The same place with vectors of one lane."""
        return Code(self.context, self.builder, self.element, 1)

    def first(self, count: "Int") -> "Code":
        """The same place, where only the first `count` lanes are read (0 for the others) and written: none if that is 0 or negative, or all."""
        numbers = ir.Constant(ir.VectorType(I64, self.lanes), list(range(self.lanes)))
        mask = self.builder.icmp_signed("<", numbers, self.copies(count.value))
        return Code(self.context, self.builder, self.element, self.lanes, mask)

    def address(self, number: "Int") -> "Ptr":
        """The array whose address is this number."""
        return Ptr(self, self.builder.inttoptr(number.value, self.element.as_pointer()))

    def loop(self, rounds, body, state=(), unroll=1):
        """Emit `for k in range(rounds): state = body(k, state)`; the state, a list of Vecs, stays in registers. Returns its last value.

        unroll: bodies between two jumps, a divisor of rounds. Few: LLVM moves the loads of a long body to its beginning, where they overflow
        the registers (16 bodies of the register tile ran at 0.6 times the speed of 2).
        """
        b = self.builder
        before, head = b.block, b.append_basic_block("head")
        inside, after = b.append_basic_block("body"), b.append_basic_block("after")
        b.branch(head)
        b.position_at_end(head)
        k, registers = b.phi(I64), [b.phi(vec.value.type) for vec in state]
        b.cbranch(b.icmp_signed("<", k, as_int(self, rounds).value), inside, after)
        b.position_at_end(inside)
        result = [Vec(vec.code, register) for vec, register in zip(state, registers)]
        for i in range(unroll):
            result = body(Int(self, k) + i, result)
        k.add_incoming(I64(0), before)
        k.add_incoming(b.add(k, I64(unroll)), b.block)
        for register, first, again in zip(registers, state, result, strict=True):
            register.add_incoming(first.value, before)
            register.add_incoming(again.value, b.block)
        b.branch(head)
        b.position_at_end(after)
        return [Vec(vec.code, register) for vec, register in zip(state, registers)]

    def each(self, n, body):
        """Emit body(code, offset) for every whole vector of n elements, then for the elements that are left."""
        whole = as_int(self, n) // self.lanes * self.lanes
        self.loop(whole // self.lanes, lambda k, _: body(self, k * self.lanes) or [])
        with self.builder.if_then((n - whole).above(0)):
            body(self.first(n - whole), whole)

    def copies(self, number):
        """LLVM's vector with this number in every lane."""
        b, undefined = self.builder, ir.Constant(ir.VectorType(number.type, self.lanes), ir.Undefined)
        first = b.insert_element(undefined, number, I32(0))
        return b.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(I32, self.lanes), [0] * self.lanes))

    def llvm(self, name, result, *arguments):
        """Call LLVM's intrinsic of this name."""
        function = cgutils.get_or_insert_function(self.builder.module, ir.FunctionType(result, [a.type for a in arguments]), f"llvm.{name}")
        return self.builder.call(function, arguments)

    def either(self, condition, then, otherwise):
        """Emit a branch: then() where the condition holds, else otherwise()."""
        with self.builder.if_else(condition) as (yes, no):
            with yes:
                then()
            with no:
                otherwise()

    def call(self, name, *vecs) -> "Vec":
        """LLVM's intrinsic of this name, such as fma or sqrt, lane by lane."""
        return Vec(self, self.llvm(f"{name}.{self.kind}", self.vector, *(vec.value for vec in vecs)))


def as_int(code, number) -> "Int":
    return number if isinstance(number, Int) else Int(code, I64(number))


class Int:
    """A 64-bit integer: a size, an offset or a loop's counter."""

    def __init__(self, code, value):
        self.code, self.value = code, value

    def _emit(name):
        def method(self, other):
            return Int(self.code, getattr(self.code.builder, name)(self.value, as_int(self.code, other).value))
        return method

    __add__ = __radd__ = _emit("add")
    __mul__ = __rmul__ = _emit("mul")
    __sub__, __floordiv__ = _emit("sub"), _emit("sdiv")      # // of numbers that are not negative

    def between(self, low, high):
        """low <= self < high, as LLVM's truth value."""
        b = self.code.builder
        return b.and_(b.icmp_signed(">=", self.value, as_int(self.code, low).value),
                      b.icmp_signed("<", self.value, as_int(self.code, high).value))

    def above(self, number):
        """self > number, as LLVM's truth value."""
        return self.code.builder.icmp_signed(">", self.value, as_int(self.code, number).value)


class Ptr:
    """The address of an array's element; adding an integer moves it by so many elements."""

    def __init__(self, code, value):
        self.code, self.value = code, value

    def __add__(self, offset) -> "Ptr":
        return Ptr(self.code, self.code.builder.gep(self.value, [as_int(self.code, offset).value]))

    def on(self, code) -> "Ptr":
        """The same address, loading and storing vectors of `code`'s lanes."""
        return Ptr(code, self.value)

    def load(self) -> "Vec":
        code, place = self.code, self.code.builder.bitcast(self.value, self.code.vector.as_pointer())
        if code.mask is None:
            return Vec(code, code.builder.load(place, align=code.itemsize))
        return Vec(code, code.llvm(f"masked.load.{code.kind}.p0", code.vector, place, I32(code.itemsize), code.mask, code.constant(0).value))

    def store(self, vec):
        code, place = self.code, self.code.builder.bitcast(self.value, self.code.vector.as_pointer())
        if code.mask is None:
            code.builder.store(vec.value, place, align=code.itemsize)
        else:
            code.llvm(f"masked.store.{code.kind}.p0", ir.VoidType(), vec.value, place, I32(code.itemsize), code.mask)

    def splat(self) -> "Vec":
        """One number, copied to all lanes."""
        return Vec(self.code, self.code.copies(self.code.builder.load(self.value)))

    def fetch(self):
        """Ask for this address's cache line, which will be needed later, to be brought into the second-level cache meanwhile."""
        place = self.code.builder.bitcast(self.value, ir.IntType(8).as_pointer())
        self.code.llvm("prefetch.p0", ir.VoidType(), place, I32(0), I32(2), I32(1))     # to read; into the second level; data

    def integer(self) -> Int:
        """The element of an array of int64."""
        return Int(self.code, self.code.builder.load(self.value))


def choose(condition, a: Ptr, b: Ptr) -> Ptr:
    """a where the condition holds, else b: how a pixel outside the picture is read as zero without padding the picture."""
    return Ptr(a.code, a.code.builder.select(condition, a.value, b.value))


class Vec:
    """One vector register. Python numbers in its arithmetic become constants."""

    def __init__(self, code, value):
        self.code, self.value = code, value

    def _lift(self, other) -> "Vec":
        return other if isinstance(other, Vec) else self.code.constant(other)

    def _emit(name, reverse=False):
        def method(self, other):
            a, b = (self._lift(other), self) if reverse else (self, self._lift(other))
            return Vec(self.code, getattr(self.code.builder, name)(a.value, b.value, flags=sorted(FLAGS)))
        return method

    __add__ = __radd__ = _emit("fadd")
    __mul__ = __rmul__ = _emit("fmul")
    __sub__, __rsub__ = _emit("fsub"), _emit("fsub", reverse=True)
    __truediv__, __rtruediv__ = _emit("fdiv"), _emit("fdiv", reverse=True)

    def __neg__(self):
        return Vec(self.code, self.code.builder.fneg(self.value))

    def where_above(self, limit, there) -> "Vec":
        """`there` in the lanes that are above the limit, this vector's own number (or NaN) in the others."""
        b = self.code.builder
        above = b.fcmp_ordered(">", self.value, self.code.constant(limit).value)
        return Vec(self.code, b.select(above, self._lift(there).value, self.value))

    def first_lane(self) -> "Vec":
        """The first lane, as a vector of one lane."""
        one, b = self.code.one_lane(), self.code.builder
        return Vec(one, b.insert_element(ir.Constant(one.vector, ir.Undefined), b.extract_element(self.value, I32(0)), I32(0)))

    def to(self, code) -> "Vec":
        """The first lane, copied to all lanes of `code`'s vectors."""
        return Vec(code, code.copies(code.builder.extract_element(self.value, I32(0))))

    def across(self, combine) -> "Vec":
        """All lanes combined by a function of two Vecs, in every lane of the result: halves are combined until one is left."""
        result, b, lanes = self, self.code.builder, self.code.lanes
        shift = lanes // 2
        while shift:
            order = ir.Constant(ir.VectorType(I32, lanes), [(i + shift) % lanes for i in range(lanes)])
            result = combine(result, Vec(self.code, b.shuffle_vector(result.value, result.value, order)))
            shift //= 2
        return result


def emitter(body):
    """Make a function callable from jitted code out of `body(code, *arguments)`, which emits what the function does.

    Arrays arrive as Ptr to their first element, integers as Int. The first array of floats decides dtype and lanes.
    """
    parameters = list(inspect.signature(body).parameters.values())[1:]

    def typed(typing_context, *arguments):
        arguments = [t if isinstance(t, types.Array) else types.intp for t in arguments]
        dtype = next((t.dtype for t in arguments if isinstance(t, types.Array) and t.dtype in (types.float32, types.float64)), None)
        if dtype is None:
            raise TypingError(f"{body.__name__}: no array of float32 or float64 among {arguments}")
        element = ir.DoubleType() if dtype.bitwidth == 64 else ir.FloatType()

        def codegen(context, builder, signature, values):
            code = Code(context, builder, element, VECTOR_BYTES * 8 // dtype.bitwidth)
            body(code, *(pointer(code, t, v) if isinstance(t, types.Array) else Int(code, v) for t, v in zip(signature.args, values)))
            return context.get_dummy_value()

        return types.void(*arguments), codegen

    context = inspect.Parameter("typing_context", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    typed.__signature__ = inspect.Signature([context, *parameters])
    typed.__name__ = body.__name__
    return intrinsic(typed)


def pointer(code, array_type, value) -> Ptr:
    return Ptr(code, cgutils.create_struct_proxy(array_type)(code.context, code.builder, value=value).data)
