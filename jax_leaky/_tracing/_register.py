"""`register_kind`: an activation of the user's own."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jax_leaky._tracing import _activations as activations
from jax_leaky._tracing import _jax_internals as internals
from jax_leaky._tracing._jax_internals import Atom
from jax_leaky._tracing._values import DENSE, Value, Z, constant, evaluate, may_be_elementwise

_SHAPE = (2, 3)


def register_kind(name: str, fn: Callable[[Array], Array] | None) -> None:
    """Teaches this process an activation that it does not know.

    From then on `list_sites`, `observe`, `swap` and `census` find it, under its name, wherever a function computes what
    `fn` computes, in whatever words. Until then `list_sites` lists it as opaque. A known activation that `fn` is made
    of is a part of it from then on, and no site of its own: once `2 * leaky_relu(x)` is registered, its leaky_relu is
    listed no more.

    A function that was compiled around one of these before, such as a jitted training step with `value_and_census` in
    it, keeps what it saw then: register a kind before that function is first called.

    Args:
        name: name of the kind, by which `swap` and the tables call it.
        fn: function of one array that the activation computes, element by element, without parameters; or None,
            which forgets the kind of that name.

    Raises:
        TypeError: `name` is not a string, or `fn` is not callable or does not trace.
        ValueError: `name` belongs to a built-in kind or to another function, or there is none of it to forget; `fn`
            is not elementwise, is linear, or computes what a known kind computes.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jax_leaky import list_sites, register_kind
        >>> register_kind("swish_1.5", lambda x: x * jax.nn.sigmoid(1.5 * x))
        >>> def net(x):
        ...     return x / (1 + jnp.exp(-1.5 * x))
        >>> [site.kind for site in list_sites(net, jnp.ones((8, 3)))]
        ['swish_1.5']
        >>> register_kind("swish_1.5", None)
    """
    if not isinstance(name, str):
        raise TypeError(f"register_kind: name must be a string, got {type(name).__name__}.")
    if not name:
        raise ValueError("register_kind: name must not be empty.")
    known = activations.added(name)
    if known is None and activations.canonical(name) in activations.KINDS:
        raise ValueError(f"register_kind: the name {name!r} is taken by a built-in kind; choose another one.")
    if fn is None:
        if known is None:
            raise ValueError(f"register_kind: there is no registered kind {name!r} to forget.")
        activations.remove(name)
        return
    value, dense = _values(name, fn)
    if known is not None and np.array_equal(known, dense.at_probes, equal_nan=True):
        return  # a cell of a notebook that runs again
    if known is not None:
        raise ValueError(
            f"register_kind: the name {name!r} is taken by another function; choose another one, or forget that one "
            f"by register_kind({name!r}, None)."
        )
    with np.errstate(all="ignore"):
        same = activations.classify(value, "", float(jnp.finfo(jnp.float32).eps))
    if same is not None and (activations.added(same.name) is None or _same_on_dense(same.name, dense)):
        raise ValueError(f"register_kind: fn of {name!r} computes what the kind {same.name!r} computes.")
    activations.add(name, value.at_probes, dense.at_probes)


def _same_on_dense(kind: str, dense: Value) -> bool:
    return not activations.differs(kind, dense.at_probes, float(jnp.finfo(jnp.float32).eps))


def _values(name: str, fn: Callable[[Array], Array]) -> tuple[Value, Value]:
    """What a function is at the probes, and on `DENSE`. Raises the errors of `register_kind`."""
    if not callable(fn):
        raise TypeError(f"register_kind: fn of {name!r} must be callable, got {type(fn).__name__}.")
    spec = jax.ShapeDtypeStruct(_SHAPE, jnp.float32)
    try:
        closed = jax.make_jaxpr(fn)(spec)
    except Exception as error:  # whatever the user's function raises
        first = (str(error).strip().splitlines() or [""])[0]
        raise TypeError(f"register_kind: fn of {name!r} does not trace: {first}") from error
    if [(out.shape, out.dtype) for out in closed.out_avals] != [(spec.shape, spec.dtype)]:
        got = ", ".join(out.str_short() for out in closed.out_avals) or "nothing"
        raise ValueError(
            f"register_kind: fn of {name!r} must be elementwise, and return an array of the shape and dtype of its "
            f"input: of float32[2,3] it makes {got}."
        )
    with np.errstate(all="ignore"):
        value, culprit = _evaluated(closed, Z)
        if value is None or not value.depends_on_z:
            why = (
                f"of operations that are known here; {culprit} is not"
                if culprit
                else "and depend on its input"
            )
            raise ValueError(f"register_kind: fn of {name!r} must be elementwise, {why}.")
        dense, _ = _evaluated(closed, Value(DENSE, depends_on_z=True))
        assert dense is not None
        bent = np.diff(dense.at_probes[:_EVENLY], 2)
    if np.all(np.abs(bent) <= 1e-9):
        raise ValueError(f"register_kind: fn of {name!r} is linear, and so no activation.")
    return value, dense


_EVENLY = 1801
"""How many points of `DENSE` lie evenly side by side."""


def _evaluated(closed: Any, z: Value) -> tuple[Value | None, str]:
    """What a jaxpr of one argument computes of z, and the operation that is not elementwise, "" if all are."""
    body = internals.body(closed)
    known: dict[Atom, Value | None] = dict(zip(body.invars, (*map(constant, body.consts), z), strict=True))

    def read(atom: Atom) -> Value | None:
        return constant(atom.val) if internals.is_literal(atom) else known.get(atom)

    culprit = ""
    for eqn in body.jaxpr.eqns:
        inputs = list(map(read, eqn.invars))
        is_elementwise = may_be_elementwise(eqn)
        outputs = evaluate(eqn, inputs, _SHAPE) if is_elementwise else [None] * len(eqn.outvars)
        known |= zip(eqn.outvars, outputs, strict=True)
        if None in outputs and not culprit:
            culprit = internals.call_name(eqn) or eqn.primitive.name
    return read(body.jaxpr.outvars[0]), culprit
