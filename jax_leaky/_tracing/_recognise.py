"""Which values of a jaxpr are activations of which others.

One walk forward: for every value that elementwise equations make, the function it is of each of its nearest
ancestors is kept as numbers at the probe points (`_activations`), and compared with the known formulas
there. Where a value is an activation of several ancestors the nearest counts: `relu(relu(x))` is two.
An activation that only serves inside a larger one (the tanh of a gelu, the relu6 of a hard_silu) is part of it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jax_leaky._tracing import _jax_internals as internals
from jax_leaky._tracing._activations import Kind, added, classify, differs, hinted
from jax_leaky._tracing._graph import ONWARD, PARAMETRIC, Frame, Graph, Origin, Use
from jax_leaky._tracing._jax_internals import Atom, Equation, Jaxpr, Variable
from jax_leaky._tracing._values import (
    CALLS,
    DENSE,
    Value,
    Z,
    constant,
    evaluate,
    may_be_elementwise,
    parameter,
    shapes_of_z,
)

MOST_ANCESTORS = 12
"""How many ancestors of a value are kept. Between the z and the result of a gelu lie eight equations."""


class Match(NamedTuple):
    """An activation found: the equation at `position` computes a `kind` of the variable `z`.

    Attributes:
        position: index of the equation whose output is the activation's.
        z: the variable that holds its input.
        a: the variable that holds its output; a derivative has calls of more outputs than this one.
        kind: activation that it computes.
        interior: indices of the equations between z and the output, the last included.
    """

    position: int
    z: Variable
    a: Variable
    kind: Kind
    interior: frozenset[int]


class Recognition(NamedTuple):
    """What one jaxpr holds, its inner jaxprs apart.

    Attributes:
        matches: activations by the index of their last equation.
        absorbed: indices of the equations that are part of a match, and so hold no site of their own.
        copies: indices of the equations that change nothing: a cast, a clip of what lies within its bounds.
        constants: the numbers that some variables are known to hold.
    """

    matches: dict[int, Match]
    absorbed: frozenset[int]
    copies: frozenset[int]
    constants: Mapping[Atom, Value]


def recognise(jaxpr: Jaxpr, constants: Mapping[Atom, Value], is_of_jax: bool = False) -> "Walk":
    """Finds what may be activations among a jaxpr's own equations; `Walk.result` tells which of them are.

    Args:
        jaxpr: an open jaxpr.
        constants: numbers that some of its inputs are known to hold.
        is_of_jax: whether it is that of one of JAX's own functions: an activation then counts only where a function of
            its name is called, or on a line of the user's, whose function JAX's own calls, as `odeint` does.
    """
    with np.errstate(all="ignore"):
        walk = Walk(jaxpr, dict(constants))
        for index, eqn in enumerate(jaxpr.eqns):
            is_named = eqn.primitive.name in CALLS and hinted(internals.call_name(eqn)) != ""
            if not is_of_jax or is_named or internals.source(eqn) is not None:
                walk.step(index)
    return walk


class Walk:
    """The walk over the equations of one jaxpr. A variable is in one of four states.

        a number        in `constants`; equations among numbers are evaluated to numbers
        a source        in neither table: an argument, or made by an equation that is not elementwise; it can be a z
        a function      in `functions`, of each of its nearest ancestors: sources, and functions that lie between
        a parameter     for the moment of one product: a source that scales a function of another z, as a slope does

        w ----- mul --> s * z      functions[out] = {z: 0.37 z | -0.61 z, with w as its parameter}
        z --/       \
        z ------------ max --> a   functions[a] = {z: ...}, which `classify` calls a prelu

    `made_by` says which equation a variable comes from, so that the nearest of the ancestors goes first; `found` holds
    what was recognised, larger activations over the parts that they are made of.
    """

    def __init__(self, jaxpr: Jaxpr, constants: dict[Atom, Value]) -> None:
        self.eqns = jaxpr.eqns
        self.outvars = jaxpr.outvars
        self.constants = constants
        self.functions: dict[
            Atom, dict[Variable, Value]
        ] = {}  # variable -> ancestor -> the function between them
        self.made_by: dict[Atom, int] = {}
        self.found: dict[int, Match] = {}
        self.copies: set[int] = set()

    def step(self, index: int) -> None:
        eqn = self.eqns[index]
        for variable in eqn.outvars:
            self.made_by[variable] = index
        if not may_be_elementwise(eqn):
            return
        known = [self._known(atom) for atom in eqn.invars]
        numbers = [value for value in known if value is not None]
        if len(numbers) == len(known):
            results = zip(eqn.outvars, evaluate(eqn, numbers, ()), strict=True)
            self.constants |= {variable: value for variable, value in results if value is not None}
            return
        made: list[tuple[Variable, Variable, Value]] = []
        is_copy = False
        for z in self._ancestors(eqn, known):
            inputs = self._inputs(eqn, known, z)
            if inputs is None:
                continue
            for out, value in zip(eqn.outvars, evaluate(eqn, inputs, internals.shape_of(z)), strict=True):
                if value is not None and value.depends_on_z:
                    self.functions.setdefault(out, {})[z] = value
                    made.append((z, out, value))
                    is_copy |= any(_equal(value, old) for old in inputs)
        if is_copy:
            self.copies.add(index)
        if len(eqn.outvars) > 1 and not internals.is_plumbing(internals.inner_jaxprs(eqn)[0]):
            return  # what a derivative makes of a call; its activations are found inside
        named = eqn.primitive.name in CALLS and hinted(internals.call_name(eqn)) != ""
        for z, out, value in made:
            # A cast of an activation is not another one, nor is a clip of what lies within its bounds in any case.
            if index not in self.found and (named or not is_copy):
                self._match(index, z, out, value)

    def _known(self, atom: Atom) -> Value | None:
        return constant(atom.val) if internals.is_literal(atom) else self.constants.get(atom)

    def _ancestors(self, eqn: Equation, known: list[Value | None]) -> list[Variable]:
        """The variables of which the output may be a function, the nearest first."""
        candidates: dict[Variable, None] = {}
        for atom, number in zip(eqn.invars, known, strict=True):
            if number is None and isinstance(atom, Variable):
                candidates |= dict.fromkeys((atom, *self.functions.get(atom, ())))
        shapes = shapes_of_z(eqn)
        floats = [z for z in candidates if internals.shape_of(z) in shapes and _is_float(z)]
        return sorted(floats, key=lambda z: self.made_by.get(z, -1), reverse=True)[:MOST_ANCESTORS]

    def _inputs(self, eqn: Equation, known: list[Value | None], z: Variable) -> list[Value] | None:
        """The inputs of an equation as functions of z; None if one is neither that, a number nor a parameter."""
        name = internals.call_name(eqn) if eqn.primitive.name in CALLS else ""
        may_scale = eqn.primitive.name == "mul" or hinted(name) != "" or name == "_piecewise"
        inputs = []
        for atom, number in zip(eqn.invars, known, strict=True):
            if number is not None:
                inputs.append(number)
            elif atom is z:
                inputs.append(Z)
            elif z in self.functions.get(atom, ()):
                inputs.append(self.functions[atom][z])
            elif may_scale and isinstance(atom, Variable) and _is_float(atom):
                inputs.append(parameter(atom))
            else:
                return None
        return inputs

    def _match(self, index: int, z: Variable, out: Variable, value: Value) -> None:
        eqn = self.eqns[index]
        if not _is_float(out):
            return
        is_call = eqn.primitive.name in CALLS
        hint = internals.call_name(eqn) if is_call else ""
        eps = max(float(jnp.finfo(internals.dtype_of(v)).eps) for v in (z, out))
        kind = classify(value, hint, eps)
        if kind is None:
            return
        jaxprs = internals.inner_jaxprs(eqn)
        entered = eqn.primitive.name in {"jit", "closed_call"} and not internals.is_plumbing(jaxprs[0])
        if entered and hinted(hint) != kind.name:
            return  # a function of the user's: its activations are found inside it, by their own lines
        interior = self._interior(index, z)
        if added(kind.name) is not None and differs(kind.name, self._on_dense(interior, z, out), eps):
            return
        if kind.parameter is not None:
            # vmap puts an axis in front of a slope, which a call moves inside of it.
            calls = (self.eqns[i] for i in sorted(interior) if self.eqns[i].primitive.name in CALLS)
            kind = kind._replace(axes=_axes(calls, kind.parameter, len(internals.shape_of(z))))
        self.found[index] = Match(index, z, out, kind, interior)

    def _on_dense(self, interior: frozenset[int], z: Variable, out: Variable) -> Any:
        """The values of an activation on `DENSE`."""
        known: dict[Atom, Value | None] = {z: Value(DENSE, depends_on_z=True)}
        for index in sorted(interior):
            eqn = self.eqns[index]
            inputs = [self._known(atom) or known.get(atom) for atom in eqn.invars]
            known |= zip(eqn.outvars, evaluate(eqn, inputs, internals.shape_of(z)), strict=True)
        value = known.get(out)
        return np.full_like(DENSE, np.nan) if value is None else value.at_probes

    def _interior(self, index: int, z: Variable) -> frozenset[int]:
        interior, todo = set(), [index]
        while todo:
            here = todo.pop()
            interior.add(here)
            for atom in self.eqns[here].invars:
                inner = not internals.is_literal(atom) and atom is not z and z in self.functions.get(atom, ())
                if inner and self.made_by[atom] not in interior:
                    todo.append(self.made_by[atom])
        return frozenset(interior)

    def result(self, under_derivative: bool, graph: Graph | None, frame: Frame | None) -> Recognition:
        """The activations.

        Args:
            under_derivative: whether the jaxpr belongs to a derivative that the traced function takes itself.
            graph: graph of the whole function; None where the jaxpr is judged alone.
            frame: place of the jaxpr in it; None likewise.
        """
        users = self._users()
        matches: dict[int, Match] = {}
        absorbed: set[int] = set()
        for index in sorted(self.found, reverse=True):
            match = self.found[index]
            eqn = self.eqns[index]
            # What a backward pass keeps of the inside of an activation (the tanh of a gelu) is no further use of it.
            kept = under_derivative or internals.is_of_derivative(eqn)
            if index in absorbed and (kept or not _escapes(match.a, absorbed, users)):
                continue
            if match.kind.name == "relu" and is_guard(self.eqns, index, users, self._known, kept):
                continue
            if graph is not None and frame is not None:
                if kept and {match.kind.name, frame.kind} == {"elu", "celu"}:  # one function at alpha 1
                    match = match._replace(kind=match.kind._replace(name=frame.kind))
                if self._is_clip_of_another_thing(match, graph, frame):
                    continue
                if kept and self._is_left_over(match, graph, frame):
                    continue
            matches[index] = match
            absorbed |= match.interior
        ordered = dict(sorted(matches.items()))
        return Recognition(ordered, frozenset(absorbed), frozenset(self.copies), self.constants)

    def _is_clip_of_another_thing(self, match: Match, graph: Graph, frame: Frame) -> bool:
        """Whether a clip that goes by no name is one of a gradient, a parameter, or a statistic before its root."""
        eqn, kind = self.eqns[match.position], match.kind.name
        if kind not in _CLIPS or (eqn.primitive.name in CALLS and hinted(internals.call_name(eqn)) == kind):
            return False
        origin, use = graph.origin(frame, match.z), graph.use(frame, match.a)
        is_statistic = bool(origin & Origin.STATISTIC) and bool(use & Use.ROOT)
        is_parameter = kind != "relu" and not origin & Origin.PRODUCT and use & PARAMETRIC == Use.PARAMETER
        return bool(origin & Origin.GRADIENT) or is_statistic or is_parameter

    def _is_left_over(self, match: Match, graph: Graph, frame: Frame) -> bool:
        """Whether a derivative that the traced function takes itself has left this behind of something else.

        That is so where it is the derivative of an activation found beside it (sigmoid of softplus), where the call
        around it goes by the name of another one, and where only a backward pass uses it, which multiplies by z too:
        a sigmoid alone has a derivative of its own value, and silu's has z in it.
        """
        kind = match.kind.name
        if frame.kind and kind != frame.kind:
            return True
        if graph.use(frame, match.a) & ONWARD:
            return False
        beside = (other.kind.name for other in self.found.values() if other.z is match.z)
        if any(kind in _DERIVATIVES.get(other, ()) for other in beside):
            return True
        before = [z for z, value in self.functions.get(match.z, {}).items() if value.parameter is None]
        numbers = {frame.ids.get(z) for z in (match.z, *before)} - {None}
        return kind in _OF_THEIR_VALUE and not numbers.isdisjoint(graph.multiplied)

    def _users(self) -> dict[Atom, set[int]]:
        users: dict[Atom, set[int]] = {
            v: {len(self.eqns)} for v in self.outvars if not internals.is_literal(v)
        }
        for index, eqn in enumerate(self.eqns):
            for atom in eqn.invars:
                if not internals.is_literal(atom):
                    users.setdefault(atom, set()).add(index)
        return users


def _axes(eqns: Iterable[Equation], variable: Atom, rank: int) -> tuple[int, ...] | None:
    """The axes of an array of `rank` beside which equations put those of a variable; None if they are the last."""
    for eqn in eqns:
        if variable not in eqn.invars:
            continue
        if eqn.primitive.name == "broadcast_in_dim" and len(internals.shape_of(eqn.outvars[0])) == rank:
            return tuple(map(int, eqn.params["broadcast_dimensions"]))
        if eqn.primitive.name in CALLS:
            inner = internals.body(internals.inner_jaxprs(eqn)[0])
            place = len(inner.consts) + eqn.invars.index(variable)
            found = _axes(inner.jaxpr.eqns, inner.invars[place], rank)
            if found is not None:
                return found
    return None


def _escapes(variable: Atom, absorbed: set[int], users: dict[Atom, set[int]]) -> bool:
    return not users.get(variable, set()) <= absorbed


def _is_float(variable: Atom) -> bool:
    dtype = internals.dtype_of(variable)
    return dtype is not None and jnp.issubdtype(dtype, np.floating)


def _equal(value: Value, other: Value) -> bool:
    return (
        other.depends_on_z
        and np.asarray(other.at_probes).dtype == np.asarray(value.at_probes).dtype  # a mask as numbers bends
        and value.parameter is other.parameter
        and (value.at_probes is other.at_probes or bool(np.array_equal(value.at_probes, other.at_probes)))
    )


_CLIPS = frozenset({"relu", "relu6", "hard_tanh"})
_DERIVATIVES = {"softplus": {"sigmoid", "log_sigmoid"}, "sparse_plus": {"sparse_sigmoid"}}
"""The derivative of a kind, or what JAX takes on the way to it: exp(z - softplus(z)) is softplus's."""
_OF_THEIR_VALUE = frozenset(
    {"tanh", "sigmoid", "softplus", "relu6", "hard_tanh", "hard_sigmoid", "sparse_sigmoid"}
)
"""Kinds in whose derivative z itself is no factor."""

_ROOTS = frozenset({"sqrt", "rsqrt", "log"})
_SAME_NUMBERS = frozenset(
    {
        "broadcast_in_dim",
        "reshape",
        "squeeze",
        "expand_dims",
        "convert_element_type",
        "stop_gradient",
        "pvary",
    }
)


def is_guard(
    eqns: Sequence[Equation],
    index: int,
    users: Mapping[Atom, set[int]],
    known: Callable[[Atom], Value | None],
    differentiated: bool,
) -> bool:
    """Whether all that is made of a hand-written ReLU is a root or a logarithm, and a running average at most.

    Args:
        eqns: equations of the jaxpr.
        index: index of the ReLU among them.
        users: the equations that use a variable; `len(eqns)` stands for the outputs of the jaxpr.
        known: the number that an equation's input is, if it is one.
        differentiated: whether a backward pass is among the users, which uses every value: then a root is enough.
    """
    if eqns[index].primitive.name in CALLS and hinted(internals.call_name(eqns[index])) == "relu":
        return False
    rooted = False
    todo = [(eqns[index].outvars[0], False)]
    seen: set[tuple[int, bool]] = set()
    while todo:
        variable, averaged = todo.pop()
        for user in users.get(variable, set()):
            if (user, averaged) in seen:
                continue
            seen.add((user, averaged))
            if user == len(eqns):
                ends = averaged
            elif eqns[user].primitive.name in _ROOTS:
                ends = rooted = True
            else:
                ends = False
                follows = _follows(eqns[user], averaged, known)
                if follows is not None:
                    todo.append((eqns[user].outvars[0], follows))
                    continue
            if not (ends or differentiated):
                return False
    return rooted


def _follows(eqn: Equation, averaged: bool, known: Callable[[Atom], Value | None]) -> bool | None:
    """Whether what a user makes of a guard is part of a running average; None if it is something else."""
    name = eqn.primitive.name
    numbers = [value.at_probes for value in map(known, eqn.invars) if value is not None]
    number = numbers[0] if len(numbers) == 1 else -1.0
    if name in _SAME_NUMBERS or (name == "add" and 0 <= number < 0.1):
        return averaged
    chosen = name == "select_n" or (name in CALLS and internals.call_name(eqn) == "_where")
    weighted = (name == "mul" and 0 < number < 1) or (averaged and name in {"add", "sub", "mul"})
    return True if chosen or weighted else None
