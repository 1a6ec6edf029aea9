"""The module that a site is named after, where no named scope names one.

An NNX or Equinox module leaves no name in a jaxpr, but its parameters have paths in the arguments' pytree, such as
`layers/3/bn/scale`. A site is named after the parameter that entered its input last: `layers/3/bn/relu`. One with a
parameter of its own, a learned slope, is named after the module that holds it.
"""

import contextlib
import itertools
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.tree_util import GetAttrKey, keystr, tree_flatten_with_path

from jax_leaky._tracing import _jax_internals as internals
from jax_leaky._tracing._jax_internals import Atom, Body, Equation
from jax_leaky._tracing._nnx import Pure, arrays_in, is_array

_CLOCK = itertools.count(1)


class Origin(NamedTuple):
    """The parameter that entered last into a value.

    Attributes:
        time: number that grows with the program; 0 for what is made of one parameter alone and has met no other value.
        path: path of the module that holds the parameter, "" for the outermost one.
    """

    time: int
    path: str


Origins = Sequence[Origin | None]


def of_arguments(arguments: Any, pure: Pure | None) -> Origins:
    """The origins of the arrays in `(args, kwargs)`; `pure` says what a first argument was taken out of."""
    found = []
    for keys, leaf in tree_flatten_with_path(arguments)[0]:
        if is_array(leaf):
            if pure is not None and keystr(keys[:2]) == "[0][0]":  # its arrays, and the state of its modules
                plain = keys[2].idx == 0
                keys = pure.paths[keys[3].idx] if plain else (*pure.module_paths[keys[3].key], *keys[4:])
            else:  # the number or the name of an argument; a pure's stand in a tuple or a dict of their own
                keys = keys[2 if pure is None else 3 :]
            found.append(_origin(keys, leaf))
    return found


def of_constants(fn: Any) -> Mapping[int, Origin]:
    """By id the origins of the arrays that a callable holds: an Equinox module, a partial, a closure or a global."""
    found: dict[int, Origin] = {}
    while fn is not None:
        arrays = [pair for value in (fn, *_reads(fn)) for pair in arrays_in(value)]
        origins = {id(array): _origin(keys, array) for keys, array in arrays}
        found |= {array: origin for array, origin in origins.items() if origin is not None}
        fn = getattr(fn, "__wrapped__", None)  # jax.vmap(model) is a function around it
    return found


def _reads(fn: Any) -> list[Any]:
    """What a function reads that is no argument: its closure and its globals."""
    if not isinstance(fn, types.FunctionType):
        return []
    values = [fn.__globals__[name] for name in fn.__code__.co_names if name in fn.__globals__]
    for cell in fn.__closure__ or ():
        with contextlib.suppress(ValueError):  # a cell that is empty yet
            values.append(cell.cell_contents)
    return [value for value in values if not isinstance(value, types.ModuleType)]


def _origin(keys: Sequence[Any], leaf: Any) -> Origin | None:
    """The origin of a parameter; None for what is none: keys of random numbers, counters, arguments by themselves."""
    if keys and keys[-1] == GetAttrKey("value"):  # of an NNX variable, which may be an argument by itself
        keys = keys[:-1]
    if not keys or not jnp.issubdtype(leaf.dtype, jnp.inexact):
        return None
    if keys[0] == GetAttrKey("__self__"):  # of a method of an Equinox module
        keys = keys[1:]
    module = [str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in keys[:-1]]
    named = any(
        isinstance(key, GetAttrKey) or isinstance(getattr(key, "key", None), str) for key in keys[:-1]
    )
    return Origin(0, "/".join(module) if named else "")


def of_variables(body: Body, arguments: Origins, held: Mapping[int, Origin]) -> dict[Atom, Origin]:
    """The origins of all variables of a jaxpr, given those of its arguments and of what the function holds."""
    constants = [held.get(id(const)) for const in body.consts]
    given = zip(body.invars, (*constants, *arguments), strict=False)
    known: dict[Atom, Origin] = {variable: origin for variable, origin in given if origin is not None}
    for eqn in body.jaxpr.eqns:
        outputs = zip(eqn.outvars, _outputs(eqn, inputs_of(eqn, known), held), strict=True)
        known |= {variable: origin for variable, origin in outputs if origin is not None}
    return known


def inputs_of(eqn: Equation, known: Mapping[Atom, Origin]) -> Origins:
    """The origins of an equation's inputs."""
    return [None if internals.is_literal(atom) else known.get(atom) for atom in eqn.invars]


def of_inner(eqn: Equation, inputs: Origins) -> list[Origins]:
    """The origins of the arguments of an equation's jaxprs, in a loop as its first step has them."""
    name = eqn.primitive.name
    if name == "cond":
        return [inputs[1:]] * len(internals.branches(eqn))
    if name == "while":
        return [inputs[internals.while_loop(eqn).tested :]]
    return [inputs] * len(internals.inner_jaxprs(eqn))


def _outputs(eqn: Equation, inputs: Origins, held: Mapping[int, Origin]) -> Origins:
    jaxprs = (
        [internals.while_loop(eqn).step] if eqn.primitive.name == "while" else internals.inner_jaxprs(eqn)
    )
    bodies = [internals.body(jaxpr) for jaxpr in jaxprs]
    given = of_inner(eqn, inputs)
    fits = all(
        (len(body.arguments), len(body.jaxpr.outvars)) == (len(arguments), len(eqn.outvars))
        for body, arguments in zip(bodies, given, strict=True)
    )
    if not bodies or not fits:
        return [_met(eqn, inputs)] * len(eqn.outvars)
    results = []
    for body, arguments in zip(bodies, given, strict=True):
        known = of_variables(body, arguments, held)
        results.append(
            [None if internals.is_literal(atom) else known.get(atom) for atom in body.jaxpr.outvars]
        )
    return [_latest(alternatives) for alternatives in zip(*results, strict=True)]


def _latest(origins: Iterable[Origin | None]) -> Origin | None:
    return max((origin for origin in origins if origin is not None), default=None)


def _met(eqn: Equation, inputs: Origins) -> Origin | None:
    """The origin of what an equation makes of its inputs: a parameter enters where it meets another value."""
    alone = [origin for origin in inputs if origin is not None and origin.time == 0]
    if not alone:
        return _latest(inputs)
    values = sum(not internals.is_literal(atom) for atom in eqn.invars)
    if len(alone) == values and len(set(alone)) == 1:
        return alone[0]
    return Origin(next(_CLOCK), alone[-1].path)
