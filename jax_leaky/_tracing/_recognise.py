"""Which values of a jaxpr are activations of which others.

One walk forward: for every value that elementwise equations make, the function it is of each of its nearest
ancestors is kept as numbers at the probe points (`_activations`), and compared with the known formulas
there. Where a value is an activation of several ancestors the nearest counts: `relu(relu(x))` is two.
An activation that only serves inside a larger one (the tanh of a gelu, the relu6 of a hard_silu) is part of it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jax_leaky._tracing import _jax_internals as internals
from jax_leaky._tracing._activations import (
    CALLS,
    Kind,
    Value,
    Z,
    classify,
    constant,
    evaluate,
    hinted,
    may_be_elementwise,
    parameter,
)
from jax_leaky._tracing._jax_internals import Atom, Equation, Jaxpr, Variable

MOST_ANCESTORS = 12
"""How many ancestors of a value are kept. Between the z and the result of a gelu lie eight equations."""


class Match(NamedTuple):
    """An activation found: the equation at `position` computes a `kind` of the variable `z`.

    Attributes:
        position: index of the equation whose output is the activation's.
        z: the variable that holds its input.
        kind: activation that it computes.
        interior: indices of the equations between z and the output, the last included.
    """

    position: int
    z: Variable
    kind: Kind
    interior: frozenset[int]


class Recognition(NamedTuple):
    """What one jaxpr holds, its inner jaxprs apart.

    Attributes:
        matches: activations by the index of their last equation.
        absorbed: indices of the equations that are part of a match, and so hold no site of their own.
        constants: the numbers that some variables are known to hold.
    """

    matches: dict[int, Match]
    absorbed: frozenset[int]
    constants: Mapping[Atom, Value]


def recognise(
    jaxpr: Jaxpr, constants: Mapping[Atom, Value], only_named: bool = False, under_derivative: bool = False
) -> Recognition:
    """Finds the activations among a jaxpr's own equations.

    Args:
        jaxpr: an open jaxpr.
        constants: numbers that some of its inputs are known to hold.
        only_named: whether an activation counts only where a function of its name is called.
        under_derivative: whether the jaxpr belongs to a derivative that the traced function takes itself.
    """
    with np.errstate(all="ignore"):
        walk = _Walk(jaxpr, dict(constants))
        for index, eqn in enumerate(jaxpr.eqns):
            if not only_named or (eqn.primitive.name in CALLS and hinted(internals.call_name(eqn))):
                walk.step(index)
    return walk.result(under_derivative)


class _Walk:
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

    def step(self, index: int) -> None:
        eqn = self.eqns[index]
        for variable in eqn.outvars:
            self.made_by[variable] = index
        if not may_be_elementwise(eqn):
            return
        known = [self._known(atom) for atom in eqn.invars]
        numbers = [value for value in known if value is not None]
        out = eqn.outvars[0]
        if len(numbers) == len(known):
            value = evaluate(eqn, numbers, ())
            if value is not None:
                self.constants[out] = value
            return
        shape = internals.shape_of(out)
        functions: dict[Variable, Value] = {}
        for z in self._ancestors(eqn, known, shape):
            inputs = self._inputs(eqn, known, z)
            value = evaluate(eqn, inputs, shape) if inputs is not None else None
            if value is None or not value.depends_on_z:
                continue
            functions[z] = value
            if index in self.found or any(_equal(value, old) for old in inputs or ()):
                continue  # a cast or a copy of an activation is not another one
            self._match(index, z, value)
        if functions:
            self.functions[out] = functions

    def _known(self, atom: Atom) -> Value | None:
        return constant(atom.val) if internals.is_literal(atom) else self.constants.get(atom)

    def _ancestors(self, eqn: Equation, known: list[Value | None], shape: tuple[int, ...]) -> list[Variable]:
        """The variables of which the output may be a function, the nearest first."""
        candidates: dict[Variable, None] = {}
        for atom, number in zip(eqn.invars, known, strict=True):
            if number is None and isinstance(atom, Variable):
                candidates |= dict.fromkeys((atom, *self.functions.get(atom, ())))
        floats = [z for z in candidates if internals.shape_of(z) == shape and _is_float(z)]
        return sorted(floats, key=lambda z: self.made_by.get(z, -1), reverse=True)[:MOST_ANCESTORS]

    def _inputs(self, eqn: Equation, known: list[Value | None], z: Variable) -> list[Value] | None:
        """The inputs of an equation as functions of z; None if one is neither that, a number nor a parameter."""
        may_scale = eqn.primitive.name == "mul" or (
            eqn.primitive.name in CALLS and hinted(internals.call_name(eqn)) != ""
        )
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

    def _match(self, index: int, z: Variable, value: Value) -> None:
        eqn = self.eqns[index]
        out = eqn.outvars[0]
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
        self.found[index] = Match(index, z, kind, self._interior(index, z))

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

    def result(self, under_derivative: bool) -> Recognition:
        users = self._users()
        matches: dict[int, Match] = {}
        absorbed: set[int] = set()
        for index in sorted(self.found, reverse=True):
            match = self.found[index]
            eqn = self.eqns[index]
            # What a backward pass keeps of the inside of an activation (the tanh of a gelu) is no further use of it.
            kept = under_derivative or internals.is_of_derivative(eqn)
            if index in absorbed and (kept or not _escapes(eqn.outvars[0], absorbed, users)):
                continue
            if match.kind.name == "relu" and is_guard(self.eqns, index, users, self._known, kept):
                continue
            matches[index] = match
            absorbed |= match.interior
        return Recognition(dict(sorted(matches.items())), frozenset(absorbed), self.constants)

    def _users(self) -> dict[Atom, set[int]]:
        users: dict[Atom, set[int]] = {
            v: {len(self.eqns)} for v in self.outvars if not internals.is_literal(v)
        }
        for index, eqn in enumerate(self.eqns):
            for atom in eqn.invars:
                if not internals.is_literal(atom):
                    users.setdefault(atom, set()).add(index)
        return users


def _escapes(variable: Atom, absorbed: set[int], users: dict[Atom, set[int]]) -> bool:
    return not users.get(variable, set()) <= absorbed


def _is_float(variable: Atom) -> bool:
    dtype = internals.dtype_of(variable)
    return dtype is not None and jnp.issubdtype(dtype, np.floating)


def _equal(value: Value, other: Value) -> bool:
    return (
        other.depends_on_z
        and value.parameter is other.parameter
        and (value.at_probes is other.at_probes or bool(np.array_equal(value.at_probes, other.at_probes)))
    )


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
