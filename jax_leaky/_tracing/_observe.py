"""`list_sites`, `observe` and `swap`: what activations a function has, what they see, and others in their place."""

import functools
import inspect
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array

from jax_leaky._tracing._activations import KINDS, canonical
from jax_leaky._tracing._program import UNDER_DERIVATIVE
from jax_leaky._tracing._site import Site, SiteList
from jax_leaky._tracing._trace import Traced, check_callable, name_of
from jax_leaky._tracing._visitor import Visit, Visitor


def list_sites(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> SiteList:
    """The activations of a function that nobody edited.

    The function is traced, not run. An activation is recognised by what it computes: `jax.nn.relu(x)`,
    `jnp.maximum(x, 0)`, `jnp.where(x > 0, x, 0)` and a `jax.jit` of any of them are all "relu", and a function
    called relu that computes something else is none. Loops, branches, jit, remat, shard_map, pmap and functions with
    a custom rule are entered; what is not is listed as opaque. Inside a shard_map, units that are spread over shards
    are brought together (their count then costs the exchange of z). Whether they are follows from how the arrays are
    split; where that is lost on the way, the activation is listed as opaque, and `sample_axes` of `observe` and of the
    census says that a mesh axis holds samples.

    A nonlinear operation that is none of these activations (a sine, a clip to [0, 1], a threshold) is listed as opaque
    too, with one entry for each line of source, and `register_kind` makes it a kind. What is no activation has no
    entry: products, whole powers and quotients; softmax, norms and guards of a root or a logarithm; what ends in one
    number, as a loss does, and all that stands in a loss of optax's or a distribution of NumPyro's or distrax's; pools,
    sorts and other choices between elements; gradients and what an optimiser makes of them; functions of a parameter;
    positions, masks and random numbers. A derivative that `fn` takes itself holds some activations in other words than
    the user's, or their derivative alone: where one may be hidden there, one entry says so.

    A loss that computes an activation is a site like any other: the hinge `jnp.maximum(0, 1 - t * out)`, written by
    hand, is a relu. Leave it out by `sites=`.

    Args:
        fn: any function that JAX can trace: `functools.partial(model.apply, variables)` of Flax Linen or Haiku, an
            NNX or Equinox module, a loss.
        *args: its arguments; `jax.ShapeDtypeStruct` will do for an array. Arrays of JAX and NumPy are traced, as by
            `jax.jit`; numbers, flags and text reach `fn` as they are. Bind an array that must be known while tracing,
            such as a mask to index by: `functools.partial(fn, mask=mask)`.
        **kwargs: its keyword arguments.

    Returns:
        The sites in the order of the program. Printed, it is a table.

    Raises:
        TypeError: `fn` is not callable or does not trace, or it returns arrays in an object that is no pytree.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jax_leaky import list_sites
        >>> def mlp(params, x):
        ...     with jax.named_scope("hidden"):
        ...         h = jax.nn.leaky_relu(x @ params[0], 0.2)
        ...     return jnp.maximum(h, 0) @ params[1]
        >>> params = [jnp.ones((3, 4)), jnp.ones((4, 1))]
        >>> sites = list_sites(mlp, params, jax.ShapeDtypeStruct((8, 3), "float32"))
        >>> len(sites), sites[0].name, sites[0].negative_slope, sites[1].kind
        (2, 'hidden/leaky_relu', 0.2, 'relu')
    """
    return Traced("list_sites", fn, args, kwargs).sites


def observe(
    fn: Callable[..., Any],
    record: Callable[[Site, Array], Any],
    *,
    sites: str | Sequence[str] | None = None,
    merge: Callable[[Any, Any], Any] | None = None,
    sample_axes: str | Sequence[str] | None = None,
) -> Callable[..., tuple[Any, dict[str, Any]]]:
    """The same function, which also returns what its activations see.

    Values and gradients are those of `fn`. Under jit every equation stands as before, and what a record adds is one
    more use of z, as if it were written into the model by hand; outside jit the equations run one by one, where JAX
    compiles some functions as one (`jnp.var`) and may round otherwise in the last digit. The result composes with jit,
    grad, vmap and scan like `fn` itself; put it in a `jax.jit` if it is called more than once, since each call traces
    `fn` again. A call runs the Python code of `fn` once. No gradient flows through the records.

    Args:
        fn: function to trace, as `list_sites` takes it.
        record: `record(site, z)` gives a pytree of arrays for the input z of an activation. It is traced, and
            called once per site.
        sites: names of sites, or patterns with `*`; all sites if None.
        merge: `merge(older, newer)` makes one record out of two. With it the records of loops and shards are
            folded into one; without it they are stacked (`Site.stacked`), and sites in a while loop are left out
            with a warning.
        sample_axes: name or names of the mesh axes along which the shards of a shard_map hold other samples of the
            same units; any other axis is judged by how the arrays are split (`list_sites`).

    Returns:
        A function of the arguments of `fn` that returns `(fn(*args), {site name: record})`, in the order of the
        program; a jit around it sorts the names, as it does with every dict. A site that is only reached at times
        (`Site.conditional`) has a `Reached(times, record)`. A NumPy array that `fn` returns comes back as it was
        given, also by way of `jnp.asarray` or of a cast to the dtype that JAX holds it in.

    Raises:
        TypeError: `fn` or `record` is not callable; from the returned function: `fn` does not trace, or it returns
            arrays in an object that is no pytree.
        ValueError: from the returned function: a pattern in `sites` matches no site, a merged record has another
            type than a record, or `sample_axes` names an axis that no shard_map is over.

    NNX modules may be `fn` itself, the owner of the method `fn`, or arguments: what their call changes (batch
    statistics, random counters) is written back. A module that `fn` closes over cannot change: pass it as an
    argument, or use `nnx.split` and `nnx.merge`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jax_leaky import observe
        >>> def net(w, x):
        ...     with jax.named_scope("net"):
        ...         return jax.nn.relu(x @ w).sum()
        >>> x = jnp.array([[1.0, -1.0], [2.0, 0.5]])
        >>> out, seen = jax.jit(observe(net, lambda site, z: (z > 0).mean(axis=0)))(jnp.eye(2), x)
        >>> float(out), seen["net/relu"].tolist()
        (3.5, [1.0, 0.5])
    """
    check_callable("observe", fn)
    if not callable(record):
        raise TypeError(
            f"observe: record must be callable, got {type(record).__name__}: give a function of the site and its "
            "input, such as lambda site, z: z."
        )

    @functools.wraps(fn, assigned=("__module__", "__name__", "__qualname__"), updated=())
    def observed(*args: Any, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        traced = Traced("observe", fn, args, kwargs, sample_axes=sample_axes)
        chosen = traced.sites if sites is None else traced.sites.select(sites)
        if traced.plan is not None and not chosen and chosen.opaque:
            warnings.warn(
                f"observe records nothing: {chosen.vocabulary()}; list_sites shows what is opaque, and why.",
                stacklevel=2,
            )
        if merge is None:
            left_out = [site.name for site in chosen if site.needs_merge]
            if left_out:
                warnings.warn(
                    f"observe does not record {', '.join(left_out)}: the number of steps of a while loop is not "
                    "known, so give merge=, which makes one record out of two.",
                    stacklevel=2,
                )
        names = {site.name for site in chosen if merge is not None or not site.needs_merge}
        visitor = Visitor(
            wants=lambda site: site.name in names,
            record=lambda site, visit: record(site, visit.z),
            merge=merge,
        )
        return traced.run(visitor)

    return observed


Activation = Callable[[Array], Array]

_INSTEAD = "give the loss to swap and differentiate the result"


def swap(
    fn: Callable[..., Any],
    activations: Mapping[str, Activation],
    *,
    sites: str | Sequence[str] | None = None,
) -> Callable[..., Any]:
    """The same function with some of its activations replaced.

    Value and gradient are those of a model edited by hand. The result composes with jit, grad, vmap and scan.

    Give it the model or the loss, and differentiate the result: `jax.grad(swap(loss, ...))`. A training step holds
    the backward pass of the old activations, written out, beside the forward pass; swap refuses to replace one
    without the other. In a function that takes a derivative of something else besides, choose the sites.

    Args:
        fn: function to trace, as `list_sites` takes it.
        activations: for each kind to replace (`"relu"`), the function that takes its place. It is given the input z
            and returns an array of the same shape, which is cast to the dtype of the activation's output.
        sites: names of sites, or patterns with `*`, to which the replacement is confined; all sites if None. Swap
            the result again for other activations at other sites.

    Returns:
        A function of the arguments of `fn`, with the same outputs.

    Raises:
        TypeError: `fn` is not callable, `activations` is no dictionary, or one of them is not callable or is a partial
            that binds the input; from the returned function: `fn` does not trace, or it returns arrays in an object
            that is no pytree.
        ValueError: a key is no kind of activation; from the returned function: a kind is at no site, a pattern in
            `sites` matches none, an activation returns another shape, or a site cannot be replaced (`Site.fixed`: it
            stands in a function with a custom derivative rule, or in a derivative that `fn` takes itself).

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jax_leaky import swap
        >>> def net(w, x):
        ...     return jax.nn.relu(x @ w).sum()
        >>> x = jnp.array([[1.0, -1.0]])
        >>> leaky = swap(net, {"relu": lambda z: jax.nn.leaky_relu(z, 0.5)})
        >>> float(net(jnp.eye(2), x)), float(leaky(jnp.eye(2), x))
        (1.0, 0.5)
    """
    check_callable("swap", fn)
    if not isinstance(activations, Mapping):
        raise TypeError(
            f"swap: activations must be a dictionary from kinds to functions, got {type(activations).__name__}: give "
            '{"relu": jax.nn.gelu}, for example.'
        )
    for kind, activation in activations.items():
        if canonical(kind) not in KINDS:
            raise ValueError(
                f"swap: {kind!r} is no kind of activation; the kinds are {', '.join(sorted(KINDS))}, and a name or "
                "pattern of sites goes into sites=."
            )
        if not callable(activation):
            raise TypeError(
                f"swap: the activation for {kind!r} must be callable, got {type(activation).__name__}."
            )
        if _binds_its_input(activation):
            raise TypeError(
                f"swap: the activation for {kind!r} is a partial that binds its input, the first argument of "
                f"{name_of(activation)}: bind the others by name, as in partial(leaky_relu, negative_slope=0.2)."
            )
    of_kind = {canonical(kind): activation for kind, activation in activations.items()}

    @functools.wraps(fn, assigned=("__module__", "__name__", "__qualname__"), updated=())
    def swapped(*args: Any, **kwargs: Any) -> Any:
        traced = Traced("swap", fn, args, kwargs)
        chosen = traced.sites if sites is None else traced.sites.select(sites)
        for kind in of_kind:
            _check(
                kind, [site for site in chosen if site.kind == kind], chosen, traced.hides and sites is None
            )
        names = {site.name for site in chosen if site.kind in of_kind}

        def replace(site: Site, visit: Visit) -> Array:
            a = jnp.asarray(of_kind[site.kind](visit.z))
            if a.shape != visit.z.shape:
                raise ValueError(
                    f"swap: the activation for {site.name} must return the shape {visit.z.shape} of its input, "
                    f"got {a.shape}."
                )
            return a

        result, _ = traced.run(Visitor(wants=lambda site: site.name in names, replace=replace))
        return result

    return swapped


def _binds_its_input(activation: Callable[..., Any]) -> bool:
    """Whether a partial binds, by its place, the only argument that its function needs."""
    if not (isinstance(activation, functools.partial) and activation.args):
        return False
    try:
        first, *others = inspect.signature(activation.func).parameters.values()
    except (TypeError, ValueError):  # of some built-in functions, or one without parameters
        return False
    needed = first.kind is not first.VAR_POSITIONAL and first.default is first.empty
    return needed and all(other.default is not other.empty for other in others)


def _check(kind: str, hits: Sequence[Site], sites: SiteList, hides: bool) -> None:
    """Raises ValueError unless the activations of a kind can be replaced; `hides` as in `Traced`."""
    for site in hits:
        if site.fixed:
            remedy = _INSTEAD if site.fixed == UNDER_DERIVATIVE else "choose the others by sites="
            raise ValueError(f"swap: {site.name} cannot be replaced, since {site.fixed}; {remedy}.")
    if hides:
        # A kind stands for all of its activations, and these would be replaced outside of the derivative alone.
        raise ValueError(
            f"swap: the function itself takes a derivative, in which not every {kind} may be recognised; {_INSTEAD}, "
            "or choose the sites outside of it by sites=."
        )
    if not hits:
        # A step that returns no loss needs of the forward pass what the gradient reads: of a gelu, its tanh.
        derives = any(site.fixed == UNDER_DERIVATIVE for site in sites)
        remedy = f"; since it takes a derivative itself, {_INSTEAD}" if derives else ""
        raise ValueError(f"swap: no site is a {kind}; {_kinds_of(sites)}{remedy}.")


def _kinds_of(sites: SiteList) -> str:
    counts = Counter(site.kind for site in sites)
    held = ", ".join(f"{kind} ({count})" for kind, count in counts.items())
    return f"the function has {held}" if held else "the function has no activation site"
