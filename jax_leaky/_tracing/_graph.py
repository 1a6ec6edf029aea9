"""The whole traced function as one graph of array operations: where each value comes from, and where it goes.

Calls, branches and loops are entered, so that what a jaxpr alone does not show is known of each of its values: whether
it is a gradient that the function has taken itself, a statistic over an axis, or a sample on its way to the next
product. A variable is a number in the graph; the same jaxpr called twice has two frames, and so two sets of numbers.
"""

import enum
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jax_leaky._tracing import _jax_internals as internals
from jax_leaky._tracing._activations import KINDS, canonical
from jax_leaky._tracing._jax_internals import Atom, ClosedJaxpr, Equation, Jaxpr, Variable
from jax_leaky._tracing._values import CALLS

PRODUCTS = frozenset({"dot_general", "conv_general_dilated"})
BITS = "bitcast_convert_type"
"""The primitive that gives the bits of numbers, as `jnp.signbit` reads them."""

_REDUCTIONS = frozenset({"reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or"})
_ROOTS = frozenset({"sqrt", "rsqrt", "cbrt", "pow", "log"})
_JOINING = frozenset(
    {"concatenate", "stack", "pad", "gather", "dynamic_update_slice", "scatter", "scatter-add"}
)
_PICKS = frozenset({"gather", "dynamic_slice", "scan", "while", "cond"})


class Origin(enum.IntFlag):
    """What a value is made of.

    A value without FLOATS depends on no floating-point argument: positions, masks, random numbers, closed-over arrays.
    """

    FLOATS = enum.auto()
    PRODUCT = enum.auto()
    GRADIENT = enum.auto()
    STATISTIC = enum.auto()


class Use(enum.IntFlag):
    """What becomes of a value, by way of operations on elements.

    PRODUCT and OUTPUT: it reaches a matrix product or convolution, or the function's result, as more than one number.
    NUMBER: a result is made of it by a reduction, as a loss is. BACKWARD: a backward pass uses it.
    ROOT: a root, a logarithm or a quotient is taken of it. NORMALIZES: one is taken of its sum.
    PARAMETER: it is used as parameters are: as the weights of a product, broadcast to a batch, updated by a gradient.
    SAMPLES: it is used as parameters are not.
    """

    PRODUCT = enum.auto()
    OUTPUT = enum.auto()
    NUMBER = enum.auto()
    BACKWARD = enum.auto()
    ROOT = enum.auto()
    NORMALIZES = enum.auto()
    PARAMETER = enum.auto()
    SAMPLES = enum.auto()


ONWARD = Use.PRODUCT | Use.OUTPUT
PARAMETRIC = Use.PARAMETER | Use.SAMPLES


class Frame:
    """A jaxpr at one place where it is called.

    Attributes:
        ids: the number of each of its variables.
        inner: by index of an equation, the frames of the jaxprs in it that are entered.
        covered: indices of the equations that are sites, parts of one, or listed as opaque.
        kind: the activation by whose name the outermost call around it goes, "" if by none.
    """

    def __init__(self, kind: str = "") -> None:
        self.kind = kind
        self.ids: dict[Atom, int] = {}
        self.inner: dict[int, list[Frame]] = {}
        self.covered: set[int] = set()

    def cover(self, index: int) -> None:
        """Marks an equation, with all inside it, as accounted for."""
        self.covered.add(index)
        for frame in self.inner.get(index, ()):
            frame.cover_all()

    def cover_all(self) -> None:
        """Marks all equations as accounted for."""
        self.covered.add(-1)
        for frames in self.inner.values():
            for frame in frames:
                frame.cover_all()

    def is_covered(self, index: int) -> bool:
        """Whether an equation is accounted for."""
        return index in self.covered or -1 in self.covered


class Node(NamedTuple):
    """An operation, or a place where values meet (the carry of a loop, the outputs of branches).

    Attributes:
        eqn: the equation; None where values meet.
        inputs: the numbers of its inputs; None for one that is written into the jaxpr.
        outputs: the numbers of its outputs.
        frame: the frame of its jaxpr.
        position: index among the equations of the jaxpr.
        caller: the call of one of JAX's own functions around it that the user wrote; else None.
        around: the calls, branches and loops around it, outermost first.
        derivative: whether it belongs to a derivative that the function takes itself.
        backward: whether it belongs to the backward pass of one.
    """

    eqn: Equation | None
    inputs: list[int | None]
    outputs: list[int]
    frame: Frame
    position: int
    caller: Equation | None
    around: tuple[Equation, ...]
    derivative: bool
    backward: bool

    @property
    def name(self) -> str:
        """The primitive's name, "" where values meet."""
        return self.eqn.primitive.name if self.eqn is not None else ""


class _Around(NamedTuple):
    equations: tuple[Equation, ...] = ()
    kind: str = ""
    caller: Equation | None = None
    derivative: bool = False
    backward: bool = False


class Graph:
    """The graph of a traced function.

    Attributes:
        nodes: operations in the order of the program.
        frame: frame of the whole function.
        origins: origin of each value, by its number.
        uses: uses of each value, by its number.
        multiplied: numbers of the values that a backward pass multiplies by as they are.

    Args:
        body: the function's jaxpr.
        entered: names of the primitives whose jaxprs are entered.
    """

    def __init__(self, body: internals.Body, entered: frozenset[str]) -> None:
        self.nodes: list[Node] = []
        self._entered = entered
        self._shapes: list[tuple[int, ...]] = []
        self._dtypes: list[Any] = []
        given: list[int | None] = [self._new(variable) for variable in body.invars]
        self.frame, outputs = self._enter(body, given, _Around())
        self.origins = [Origin(0)] * len(self._shapes)
        floats = [number for number in given if number is not None and self.is_float(number)]
        # A function without such an argument has closed over its parameters and its batch.
        arguments = [number for number in floats if number >= len(body.consts)] or floats
        for number in arguments:
            self.origins[number] = Origin.FLOATS | (self._is_single(number) * Origin.STATISTIC)
        self._settle(self._spread_origins)
        self.uses = [Use(0)] * len(self._shapes)
        self.multiplied: set[int | None] = set()
        for result in outputs:
            if result is not None:
                self.uses[result] = Use.NUMBER if self._is_single(result) else Use.OUTPUT | Use.SAMPLES
        self._settle(self._spread_uses)

    def is_float(self, number: int) -> bool:
        """Whether a value holds floating-point numbers."""
        dtype = self._dtypes[number]
        return dtype is not None and jnp.issubdtype(dtype, np.inexact)

    def origin(self, frame: Frame | None, variable: Atom) -> Origin:
        """The origin of a jaxpr's variable; none of all where there is no graph."""
        number = frame.ids.get(variable) if frame is not None else None
        return self.origins[number] if number is not None else Origin(0)

    def use(self, frame: Frame | None, variable: Atom) -> Use:
        """The uses of a jaxpr's variable; none of all where there is no graph."""
        number = frame.ids.get(variable) if frame is not None else None
        return self.uses[number] if number is not None else Use(0)

    # Building

    def _new(self, atom: Atom) -> int:
        self._shapes.append(internals.shape_of(atom))
        self._dtypes.append(internals.dtype_of(atom))
        return len(self._shapes) - 1

    def _enter(
        self, jaxpr: Jaxpr | ClosedJaxpr | internals.Body, given: Sequence[int | None], around: _Around
    ) -> tuple[Frame, list[int | None]]:
        body = internals.body(jaxpr)
        frame = Frame(around.kind)
        consts: list[int | None] = [self._new(v) for v in body.invars[: len(body.invars) - len(given)]]
        for variable, number in zip(body.invars, [*consts, *given], strict=True):
            frame.ids[variable] = self._new(variable) if number is None else number
        for index, eqn in enumerate(body.jaxpr.eqns):
            here = around._replace(
                derivative=around.derivative or internals.is_of_derivative(eqn),
                backward=(around.backward and not internals.is_recomputed(eqn)) or internals.is_backward(eqn),
            )
            inputs = [None if internals.is_literal(atom) else frame.ids[atom] for atom in eqn.invars]
            if eqn.primitive.name in self._entered:
                self._call(eqn, inputs, frame, index, here)
            else:
                outputs = [self._new(variable) for variable in eqn.outvars]
                frame.ids |= dict(zip(eqn.outvars, outputs, strict=True))
                self._add(eqn, inputs, outputs, frame, index, here)
        return frame, [None if internals.is_literal(v) else frame.ids[v] for v in body.jaxpr.outvars]

    def _add(
        self,
        eqn: Equation | None,
        inputs: list[int | None],
        outputs: list[int],
        frame: Frame,
        index: int,
        around: _Around,
    ) -> None:
        self.nodes.append(
            Node(
                eqn,
                inputs,
                outputs,
                frame,
                index,
                around.caller,
                around.equations,
                around.derivative,
                around.backward,
            )
        )

    def _call(
        self, eqn: Equation, inputs: list[int | None], frame: Frame, index: int, around: _Around
    ) -> None:
        """Enters the jaxprs of an equation. Their last inputs and outputs are the equation's last ones."""
        jaxprs = internals.inner_jaxprs(eqn)
        handed_on: range | tuple[()] = ()
        if eqn.primitive.name == "while":
            loop = internals.while_loop(eqn)
            jaxprs, handed_on = [loop.step], range(loop.tested + loop.held, len(inputs))
        elif eqn.primitive.name == "scan":
            scan = internals.scan(eqn)
            handed_on = range(scan.consts, scan.consts + scan.carried)
        # Inside one of JAX's own functions a call with a line of the user's is in a function that it was given.
        of_user = around.caller is None or internals.source(eqn) is not None
        own = of_user and len(jaxprs) == 1 and internals.is_plumbing(jaxprs[0])
        name = canonical(internals.call_name(eqn)) if eqn.primitive.name in CALLS else ""
        inside = around._replace(
            equations=(*around.equations, eqn),
            kind=around.kind or (name if name in KINDS else ""),
            caller=eqn if own and not handed_on else around.caller,
        )
        meeting: dict[Variable, list[int | None]] = {v: [] for v in eqn.outvars}
        for jaxpr in jaxprs:
            arguments = internals.body(jaxpr).arguments
            first = len(inputs) - len(arguments)
            given: list[int | None] = []
            joins: list[list[int | None]] = []
            for position, variable in enumerate(arguments, first):
                number = inputs[position] if position >= 0 else None
                if number is None or (
                    position not in handed_on and self._shapes[number] == internals.shape_of(variable)
                ):
                    given.append(number)
                    continue
                new = self._new(variable)
                joined: list[int | None] = [number]
                self._add(None, joined, [new], frame, index, inside)
                given.append(new)
                if position in handed_on:
                    joins.append(joined)
            inner, outputs = self._enter(jaxpr, given, inside)
            frame.inner.setdefault(index, []).append(inner)
            for carried, handed in zip(joins, outputs, strict=False):
                carried.append(handed)
            for variable, made in zip(reversed(eqn.outvars), reversed(outputs), strict=False):
                meeting[variable].append(made)
        for position, (variable, numbers) in enumerate(meeting.items()):
            # A loop without a step hands on what it is given.
            held = [inputs[handed_on[position]]] if position < len(handed_on) else []
            alone = numbers[0] if len(numbers) == 1 and not held else None
            if alone is not None and self._shapes[alone] == internals.shape_of(variable):
                frame.ids[variable] = alone
            else:
                frame.ids[variable] = self._new(variable)
                self._add(None, [*held, *numbers], [frame.ids[variable]], frame, index, inside)

    # Where values come from and where they go

    def _is_single(self, number: int) -> bool:
        return math.prod(self._shapes[number]) <= 1

    @staticmethod
    def _settle(spread: Any) -> None:
        """Sweeps over the nodes until nothing changes; a loop in a loop asks for a few sweeps."""
        for _ in range(8):
            if not spread():
                return

    def _spread_origins(self) -> bool:
        changed = False
        for node in self.nodes:
            made = self._made(node)
            for number in node.outputs:
                single = Origin.STATISTIC if made and self._is_single(number) else Origin(0)
                own = Origin(0) if self._is_count(node, number) else made | single
                if self.origins[number] != own:
                    self.origins[number], changed = own, True
        return changed

    def _is_count(self, node: Node, number: int) -> bool:
        """Whether an output is an integer made of floating-point numbers: an index, a token, a position.

        One of eight bits or fewer is none of these, but a quantised number.
        """
        dtype = self._dtypes[number]
        if dtype is None or not jnp.issubdtype(dtype, np.integer) or node.name == BITS:
            return False
        if jnp.iinfo(dtype).bits <= 8:
            return False
        return any(i is not None and self.is_float(i) for i in node.inputs)

    def _made(self, node: Node) -> Origin:
        if node.backward:
            return Origin.FLOATS | Origin.GRADIENT
        if _is_check(node):
            return Origin(0)
        varying = [
            (self.origins[i], i) for i in node.inputs if i is not None and self.origins[i] & Origin.FLOATS
        ]
        if not varying:
            return Origin(0)
        # A single number (a learning rate, a loss) that scales an array does not make it what it is.
        counted = [origin for origin, i in varying if not self._is_single(i)] or [o for o, _ in varying]
        any_product = any(origin & Origin.PRODUCT for origin in counted)
        all_gradients = all(origin & Origin.GRADIENT for origin in counted)
        if node.name in PRODUCTS:
            is_gradient = all_gradients and not node.derivative
            return Origin.FLOATS | (Origin.GRADIENT if is_gradient else Origin.PRODUCT)
        made = Origin.FLOATS
        if any_product:
            made |= Origin.PRODUCT
        elif any(origin & Origin.GRADIENT and not self._is_set_to_work(node, i) for origin, i in varying):
            made |= Origin.GRADIENT
        if node.name in _REDUCTIONS or all(origin & Origin.STATISTIC for origin, _ in varying):
            made |= Origin.STATISTIC
        return made

    def _is_set_to_work(self, node: Node, number: int) -> bool:
        """Whether a parameter, updated by a gradient, is used here: broadcast to a batch, or looked up in a table."""
        return node.name in _PICKS or self._is_widened(node, number)

    def _is_widened(self, node: Node, number: int) -> bool:
        """Whether the output has more elements than an input that is more than one number."""
        if self._is_single(number) or not node.outputs or node.eqn is None or node.name in _JOINING:
            return False
        return math.prod(self._shapes[node.outputs[0]]) > math.prod(self._shapes[number])

    def _spread_uses(self) -> bool:
        changed = False
        for node in reversed(self.nodes):
            onward = Use(0)
            for number in node.outputs:
                onward |= self.uses[number]
                if self._is_single(number):
                    onward &= ~ONWARD
            for position, taken in enumerate(node.inputs):
                if taken is None:
                    continue
                own = self.uses[taken] | self._used(node, position, onward)
                if self.uses[taken] != own:
                    self.uses[taken], changed = own, True
        return changed

    def _used(self, node: Node, position: int, onward: Use) -> Use:
        if node.backward:
            if node.name == "mul":
                self.multiplied.add(node.inputs[position])
            return Use.BACKWARD | (Use.ROOT if node.name == "div" and position == 1 else Use(0))
        if node.eqn is None:
            return onward
        if node.name in PRODUCTS:
            weights = weights_of(node.eqn)
            if is_of_last_axes(node.eqn) and not any(map(internals.is_mapped, (node.eqn, *node.around))):
                weights = 1
            return Use.PRODUCT | (Use.SAMPLES if position != weights else Use.PARAMETER)
        if node.name in _ROOTS or (node.name == "div" and position == 1):
            return Use.ROOT | (onward & (PARAMETRIC | Use.NUMBER | Use.BACKWARD))
        if node.name in _REDUCTIONS:
            through = onward & (Use.PRODUCT | Use.NUMBER | Use.BACKWARD)
            through |= Use.NUMBER if onward & Use.OUTPUT else Use(0)
            return through | (Use.NORMALIZES if onward & Use.ROOT else Use(0))
        if all(self._is_count(node, number) for number in node.outputs):
            return Use(0)
        number = node.inputs[position]
        assert number is not None
        if self._is_widened(node, number) or self.origins[node.outputs[0]] & Origin.GRADIENT:
            return (onward & ~Use.SAMPLES) | Use.PARAMETER
        return onward


def _is_check(node: Node) -> bool:
    """Whether a node asks for numbers that are not finite."""
    if node.name == "is_finite":
        return True
    if node.name not in {"eq", "ne"} or node.eqn is None:
        return False
    first, second = node.eqn.invars
    return first is second or any(_is_infinite(atom) for atom in (first, second))


def _is_infinite(atom: Atom) -> bool:
    if not internals.is_literal(atom) or not jnp.issubdtype(internals.dtype_of(atom), np.floating):
        return False
    return bool(np.all(np.isinf(np.asarray(atom.val, np.float64))))


def weights_of(eqn: Equation) -> int:
    """Which input of a product holds the weights: the second in `x @ w` and a convolution, the first in `w @ x`."""
    if eqn.primitive.name == "conv_general_dilated":
        return 1
    (_, contracted), _ = eqn.params["dimension_numbers"]
    # vmap of `w @ x` contracts the last axis of both.
    return 0 if len(internals.shape_of(eqn.invars[1])) - 1 in contracted else 1


def is_of_last_axes(eqn: Equation) -> bool:
    """Whether a product contracts the last axis of both: vmap of `w @ x`, and `jnp.inner(x, w)` or an einsum."""
    if eqn.primitive.name == "conv_general_dilated":
        return False
    contracted, _ = eqn.params["dimension_numbers"]
    return all(
        len(internals.shape_of(atom)) - 1 in axes for atom, axes in zip(eqn.invars, contracted, strict=True)
    )
