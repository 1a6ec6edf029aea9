"""A `maximum(v, 0)` that is no activation: it keeps rounding from taking a root or a logarithm below 0.

Every batch and layer norm of Flax and Equinox holds one: rsqrt(maximum(variance, 0) + 1e-5). A batch norm takes a
running average of the variance besides.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jax_leaky._tracing import _jax_internals as internals
from jax_leaky._tracing._activations import CALLS, Value, hinted

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
    eqns: Sequence[Any],
    index: int,
    users: Mapping[Any, set[int]],
    known: Callable[[Any], Value | None],
    differentiated: bool,
) -> bool:
    """Whether all that is made of a hand-written ReLU is a root or a logarithm, and a running average at most.

    Args:
        eqns: of the jaxpr.
        index: of the ReLU among them.
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


def _follows(eqn: Any, averaged: bool, known: Callable[[Any], Value | None]) -> bool | None:
    """Whether what a user makes of a guard is part of a running average; None if it is something else."""
    name = eqn.primitive.name
    numbers = [value.at_probes for value in map(known, eqn.invars) if value is not None]
    number = numbers[0] if len(numbers) == 1 else -1.0
    if name in _SAME_NUMBERS or (name == "add" and 0 <= number < 0.1):
        return averaged
    chosen = name == "select_n" or (name in CALLS and internals.call_name(eqn) == "_where")
    weighted = (name == "mul" and 0 < number < 1) or (averaged and name in {"add", "sub", "mul"})
    return True if chosen or weighted else None
