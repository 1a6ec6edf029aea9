"""Remedies that need no wiring, as wrappers of an optax optimiser, and Adam's count reset by the others.

References:
    Kumar, Marklund and Van Roy: Maintaining plasticity in continual learning via regenerative regularization,
    arXiv 2308.11958 (L2 init).
    Ash and Adams: On warm-starting neural network training, NeurIPS 2020 (shrink and perturb).
    Elsayed, Lan, Lyle and Mahmood: Weight clipping for deep continual and reinforcement learning, RLC 2024.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array


def l2_init(inner: optax.GradientTransformation, strength: float) -> optax.GradientTransformation:
    """The gradient of strength / 2 |params - their first values|^2 is added to the loss's."""

    def init(params: Any) -> tuple[Any, Any]:
        return params, inner.init(params)

    def update(gradient: Any, state: tuple[Any, Any], params: Any = None) -> tuple[Any, tuple[Any, Any]]:
        first, of_inner = state
        pulled = jax.tree.map(lambda g, now, start: g + strength * (now - start), gradient, params, first)
        updates, of_inner = inner.update(pulled, of_inner, params)
        return updates, (first, of_inner)

    return optax.GradientTransformation(init, update)


def shrink_and_perturb(
    inner: optax.GradientTransformation,
    initialize: Callable[[Array], Any],
    key: Array,
    *,
    keep: float,
    every: int,
) -> optax.GradientTransformation:
    """Every so many updates the parameters become keep x params + (1 - keep) x newly initialised ones."""

    def init(params: Any) -> tuple[Array, Any]:
        return jnp.int32(0), inner.init(params)

    def update(gradient: Any, state: tuple[Array, Any], params: Any = None) -> tuple[Any, tuple[Array, Any]]:
        step, of_inner = state[0] + 1, state[1]
        updates, of_inner = inner.update(gradient, of_inner, params)

        def mixed(updates: Any) -> Any:
            fresh = initialize(jax.random.fold_in(key, step))
            return jax.tree.map(
                lambda u, old, new: keep * (old + u) + (1 - keep) * new - old, updates, params, fresh
            )

        return jax.lax.cond(step % every == 0, mixed, lambda same: same, updates), (step, of_inner)

    return optax.GradientTransformation(init, update)


def weight_clipping(inner: optax.GradientTransformation, bound: float) -> optax.GradientTransformation:
    """After each update every weight and bias of a layer is cut to +-bound / sqrt(fan_in)."""

    def update(gradient: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        updates, state = inner.update(gradient, state, params)

        def cut(of_layer: Any, layer: Any) -> Any:
            limit = bound * (layer["kernel"].size // layer["kernel"].shape[-1]) ** -0.5
            return jax.tree.map(lambda u, old: jnp.clip(old + u, -limit, limit) - old, of_layer, layer)

        return {name: cut(updates[name], layer) for name, layer in params.items()}, state

    return optax.GradientTransformation(inner.init, update)


def count_reset(
    remedy: optax.GradientTransformationExtraArgs,
) -> optax.GradientTransformationExtraArgs:
    """A remedy of `jax_leaky.remedies` around Adam; whenever it resets a unit, Adam's count starts at 0."""

    def update(gradient: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        updates, state = remedy.update(gradient, state, params, **extra)
        any_unit = jnp.any(jnp.concatenate([jnp.ravel(mask) for mask in state.reset.values()]))
        count = jnp.where(any_unit, 0, optax.tree.get(state.inner, "count"))
        return updates, state._replace(inner=optax.tree.set(state.inner, count=count))

    return optax.GradientTransformationExtraArgs(remedy.init, update)
