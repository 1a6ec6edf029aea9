"""`swap`: the same function with other activations."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from jax import Array

from jax_leaky._tracing._activations import KINDS, canonical
from jax_leaky._tracing._program import UNDER_DERIVATIVE
from jax_leaky._tracing._site import Site, SiteList, matches
from jax_leaky._tracing._trace import Traced
from jax_leaky._tracing._visitor import Visit, Visitor

Activation = Callable[[Array], Array]

_INSTEAD = "give the loss to swap and differentiate the result"


def swap(fn: Callable[..., Any], activations: Mapping[str, Activation]) -> Callable[..., Any]:
    """The same function with some of its activations replaced.

    Value and gradient are those of a model edited by hand. The result composes with jit, grad, vmap and scan.

    Give it the model or the loss, and differentiate the result: `jax.grad(swap(loss, ...))`. A training step holds
    the backward pass of the old activations, written out, beside the forward pass; swap refuses to replace one
    without the other. In a function that takes a derivative of something else besides, name the sites.

    Args:
        fn: as for `list_sites`.
        activations: for a kind (`"relu"`), a site's name or a pattern of names (`"Block_*/relu"`) the function
            that takes its place. It is given the input z and returns an array of the same shape, which is cast
            to the dtype of the activation's output. A name goes before a pattern, a pattern before a kind.

    Returns:
        A function of the arguments of `fn`, with the same outputs.

    Raises:
        TypeError: an activation is not callable; from the returned function: `fn` does not trace.
        ValueError: from the returned function: a key matches no site, an activation returns another shape, or a
            site cannot be replaced (`Site.fixed`: it stands in a function with a custom derivative rule, or in a
            derivative that `fn` takes itself).

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jax_leaky._tracing import swap
        >>> def net(w, x):
        ...     return jax.nn.relu(x @ w).sum()
        >>> x = jnp.array([[1.0, -1.0]])
        >>> leaky = swap(net, {"relu": lambda z: jax.nn.leaky_relu(z, 0.5)})
        >>> float(net(jnp.eye(2), x)), float(leaky(jnp.eye(2), x))
        (1.0, 0.5)
    """
    for key, activation in activations.items():
        if not callable(activation):
            raise TypeError(
                f"swap: the activation for {key!r} must be callable, got {type(activation).__name__}."
            )

    @functools.wraps(fn, assigned=("__module__", "__name__", "__qualname__"), updated=())
    def swapped(*args: Any, **kwargs: Any) -> Any:
        traced = Traced("swap", fn, args, kwargs)
        chosen = _assign(traced.sites, activations, traced.hides)

        def replace(site: Site, visit: Visit) -> Array:
            a = jnp.asarray(chosen[site.name](visit.z))
            if a.shape != visit.z.shape:
                raise ValueError(
                    f"swap: the activation for {site.name} must return the shape {visit.z.shape} of its input, "
                    f"got {a.shape}."
                )
            return a

        result, _ = traced.run(Visitor(wants=lambda site: site.name in chosen, replace=replace))
        return result

    return swapped


def _assign(sites: SiteList, activations: Mapping[str, Activation], hides: bool) -> dict[str, Activation]:
    """The activation that goes to each site, by name; `hides` as in `Traced`."""
    chosen: dict[str, Activation] = {}
    ranks: dict[str, int] = {}
    for key, activation in activations.items():
        hits = [(site, _rank(key, site)) for site in sites if _rank(key, site)]
        if hides and canonical(key) in KINDS and not any(site.fixed for site, _ in hits):
            # A kind stands for all of its activations, and these would be replaced outside of the derivative alone.
            raise ValueError(
                f"swap: the function itself takes a derivative, in which not every {key} may be recognised; "
                f"{_INSTEAD}, or choose the sites outside of it by name."
            )
        if not hits:
            raise ValueError(f"swap: no site is of kind or name {key!r}; {_kinds_of(sites)}.")
        for site, rank in hits:
            if site.fixed:
                remedy = _INSTEAD if site.fixed == UNDER_DERIVATIVE else "choose the others by name"
                raise ValueError(f"swap: {site.name} cannot be replaced, since {site.fixed}; {remedy}.")
            if rank > ranks.get(site.name, 0):
                ranks[site.name], chosen[site.name] = rank, activation
    return chosen


def _rank(key: str, site: Site) -> int:
    if key == site.name:
        return 3
    if canonical(key) in KINDS:
        return int(canonical(key) == site.kind)
    return 2 * matches(site.name, key)


def _kinds_of(sites: SiteList) -> str:
    counts: dict[str, int] = {}
    for site in sites:
        counts[site.kind] = counts.get(site.kind, 0) + 1
    held = ", ".join(f"{kind} ({count})" for kind, count in counts.items())
    return f"the function has {held}" if held else "the function has no activation site"
