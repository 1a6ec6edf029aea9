"""What the remedies share: an inner optimiser, units reset on top of its step, and the state of both."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jax_leaky._wiring import Wiring
from jax_leaky._wiring._mesh import placed_as
from jax_leaky._wiring._program import parameters_of, structure_of
from jax_leaky._wiring._sums import absorbed

Shape = tuple[int, ...]


class ResetState(NamedTuple):
    """The state of a remedy around an optimiser.

    Attributes:
        inner: state of the inner optimiser.
        step: (), number of updates so far.
        key: key that `initialize` draws from, together with `step`.
        units: what the remedy keeps of each unit, by the site's name.
        reset: (units,) by the site's name, whether the last update reset a unit.
    """

    inner: Any
    step: Array
    key: Array
    units: dict[str, Any]
    reset: dict[str, Array]


class Remedy(NamedTuple):
    """How units are chosen.

    Attributes:
        name: name of the remedy, for errors.
        begin: function from the shape of a site's units to what is kept of them.
        choose: function `choose(kept, outputs, params, step)`, with `params` as the inner optimiser's step leaves them
            and `step` of this update. It gives, by site, the units to reset, what is kept from now on, and what the
            biases behind these units take over from each; of no site where they take over nothing.
    """

    name: str
    begin: Callable[[Shape], Any]
    choose: Callable[..., tuple[dict[str, Array], dict[str, Any], dict[str, Array]]]


def wrapped(
    remedy: Remedy, inner: optax.GradientTransformation, wires: Wiring, initialize: Any, key: Array
) -> optax.GradientTransformationExtraArgs:
    """The optimiser with a remedy."""
    if not (hasattr(inner, "init") and hasattr(inner, "update")):
        raise TypeError(
            f"{remedy.name}: inner must be an optax optimiser, got {type(inner).__name__}; give optax.adam(1e-3), for "
            "example."
        )
    if not isinstance(wires, Wiring):
        raise TypeError(
            f"{remedy.name}: wires must be a Wiring, got {type(wires).__name__}; give wiring(loss, params, ...)."
        )
    if not callable(initialize):
        raise TypeError(
            f"{remedy.name}: initialize must be a function from a key to parameters, got {type(initialize).__name__}; "
            "give lambda key: model.init(key, x), for example."
        )
    if not _is_key(key):
        given = type(key).__name__ if not hasattr(key, "dtype") else f"{key.dtype} of shape {key.shape}"
        raise TypeError(
            f"{remedy.name}: key must be one key of JAX, got {given}; give jax.random.key(0), for example."
        )
    optimizer = optax.with_extra_args_support(inner)
    sites = {name: shape for name, shape in wires.units.items() if not wires.reasons[name]}
    if not sites:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in wires.reasons.items())
        raise ValueError(
            f"{remedy.name}: no site has units that can be told from others ({reasons or 'there is no site'})."
        )

    def drawn(key: Array) -> Any:
        return parameters_of(initialize(key))

    def init(params: Any) -> ResetState:
        _check_fresh(remedy.name, jax.eval_shape(drawn, key), params)
        units = {name: remedy.begin(shape) for name, shape in sites.items()}
        none = {name: jnp.zeros(shape, bool) for name, shape in sites.items()}
        # A copy: a step to which the state is donated deletes its arrays, and the caller's key stays.
        return ResetState(optimizer.init(params), jnp.zeros((), jnp.int32), jnp.array(key), units, none)

    def update(
        updates: Any,
        state: ResetState,
        params: Any = None,
        *,
        outputs: Mapping[str, Array] | None = None,
        **extra: Any,
    ) -> tuple[Any, ResetState]:
        if params is None:
            raise ValueError(
                f"{remedy.name}: give the parameters: update(gradients, state, params, outputs=...)."
            )
        if not isinstance(state, ResetState):
            raise TypeError(
                f"{remedy.name}: state must be a ResetState, as init(params) gives it, got {type(state).__name__}."
            )
        of_units = _of_units(remedy.name, sites, outputs)
        updates, inner_state = optimizer.update(updates, state.inner, params, **extra)
        # A difference of 16 bits could not carry a small new weight over a large old one.
        updates = jax.tree.map(_widened, updates)
        step = state.step + 1
        after = optax.apply_updates(params, updates)
        masks, units, given = placed_as(None, remedy.choose, state.units, of_units, after, step)

        def reset_units(updates: Any, inner_state: Any) -> tuple[Any, Any]:
            start = after
            if given:
                start = placed_as(after, functools.partial(absorbed, wires), after, given)
                updates = jax.tree.map(
                    lambda u, new, old: u if new is old else u + _difference(new, old),
                    updates,
                    start,
                    after,
                )
            recycled = wires.recycle(start, masks, drawn(jax.random.fold_in(state.key, step)))
            incoming, outgoing = wires.entries(params, masks)
            updates = jax.tree.map(
                lambda feeds, reads, new, old, u: jnp.where(
                    feeds | reads, _difference(new, old).astype(u.dtype), u
                ),
                incoming,
                outgoing,
                recycled,
                params,
                updates,
            )
            return updates, wires.restart(optimizer, inner_state, recycled, masks)

        any_unit = jnp.any(jnp.stack([mask.any() for mask in masks.values()]))
        # In a training step that is compiled, drawing new parameters then costs nothing in all other steps.
        updates, inner_state = jax.lax.cond(any_unit, reset_units, lambda *same: same, updates, inner_state)
        return updates, ResetState(inner_state, step, state.key, units, masks)

    return optax.GradientTransformationExtraArgs(init, update)


def _is_key(key: Any) -> bool:
    if not isinstance(key, jax.Array | np.ndarray):
        return False
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        return key.shape == ()
    return key.dtype == jnp.uint32 and key.ndim == 1  # jax.random.PRNGKey


def mean_over_samples(shape: Shape, values: Array) -> Array:
    """The mean of what is known of each sample, for each unit; of bfloat16 in float32."""
    return _widened(values).mean(axis=sample_axes(shape, values))


def sample_axes(shape: Shape, values: Array) -> tuple[int, ...]:
    """The axes of an activation's output that hold samples: behind the layers of a scan and before the units."""
    return tuple(range(len(shape) - 1, values.ndim - 1))


def _widened(array: Array) -> Array:
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def _difference(new: Array, old: Array) -> Array:
    return _widened(new) - _widened(old)


def check_between(name: str, argument: str, value: float, least: float, most: float) -> None:
    """Refuses a number that is out of range.

    Raises:
        ValueError: it is.
    """
    if not least <= value <= most:
        upper = "" if math.isinf(most) else f" and at most {most:g}"
        raise ValueError(f"{name}: {argument} must be at least {least:g}{upper}, got {value:g}.")


def _of_units(name: str, sites: Mapping[str, Shape], outputs: Mapping[str, Array] | None) -> dict[str, Array]:
    if outputs is None:
        raise ValueError(
            f"{name}: update needs outputs=, what each activation gave: jax_leaky.observe(loss, lambda site, z: "
            "jax.nn.relu(z)) returns them beside the loss."
        )
    if not isinstance(outputs, Mapping):
        raise TypeError(
            f"{name}: outputs must be a dictionary from sites to what each activation gave, got "
            f"{type(outputs).__name__}; jax_leaky.observe(loss, lambda site, z: jax.nn.relu(z)) returns it beside the "
            "loss."
        )
    found = {}
    for site, shape in sites.items():
        if site not in outputs:
            raise ValueError(
                f"{name}: outputs has nothing for {site}; it has {', '.join(outputs) or 'nothing'}."
            )
        values = jnp.asarray(outputs[site])
        layers = len(shape) - 1
        if values.ndim < len(shape) or (*values.shape[:layers], values.shape[-1]) != shape:
            form = ", ".join([*map(str, shape[:-1]), "...", str(shape[-1])])
            raise ValueError(f"{name}: outputs at {site} must have shape ({form}), got {values.shape}.")
        found[site] = values
    return found


def _check_fresh(name: str, fresh: Any, params: Any) -> None:
    if structure_of(params) != structure_of(fresh):
        raise ValueError(f"{name}: initialize(key) must give a pytree of the structure of params.")
    for (path, new), old in zip(
        jax.tree_util.tree_leaves_with_path(fresh), jax.tree.leaves(params), strict=True
    ):
        if new.shape != jnp.shape(old):
            where = jax.tree_util.keystr(path, simple=True, separator="/") or "params"
            raise ValueError(
                f"{name}: initialize(key) gives shape {new.shape} at {where}, where params has {jnp.shape(old)}."
            )
