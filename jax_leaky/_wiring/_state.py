"""The part of an optimiser's state that belongs to some entries of the parameters, reset."""

from __future__ import annotations

import sys
from typing import Any

import jax
import jax.numpy as jnp

from jax_leaky._wiring._program import structure_of


def begun(optimizer: Any, state: Any, params: Any) -> Any:
    """The state as `optimizer.init` gives it.

    Raises:
        TypeError: `optimizer` is none.
        ValueError: it has another structure, or another shape, than `state`.
    """
    if not callable(getattr(optimizer, "init", None)):
        raise TypeError(
            f"restart: optimizer must be an optax optimiser, got {type(optimizer).__name__}; give that of the state."
        )
    fresh = optimizer.init(params)
    if structure_of(state) != structure_of(fresh):
        raise ValueError(
            "restart: the state does not belong to this optimizer and these parameters: its structure differs from "
            "that of optimizer.init(params)."
        )
    for (path, old), new in zip(
        jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(fresh), strict=True
    ):
        if jnp.shape(old) != jnp.shape(new):
            raise ValueError(
                "restart: the state does not belong to this optimizer and these parameters: "
                f"{jax.tree_util.keystr(path)} has shape {jnp.shape(old)}, and in optimizer.init(params) "
                f"{jnp.shape(new)}."
            )
    return fresh


def restarted(state: Any, fresh: Any, params: Any, masks: Any) -> Any:
    """The state with the masked entries of a fresh one.

    A part of the state is per parameter if it has the parameters' structure, with `optax.MaskedNode` in the place of
    those that it leaves out; of these, arrays of the parameter's own shape are per entry. An array of all entries in
    one row, as under `optax.flatten`, is per entry too.
    """
    entries = sum(jnp.size(mask) for mask in jax.tree.leaves(masks))

    def part(old: Any, new: Any) -> Any:
        if not _is_like(old, params):
            if jnp.shape(old) != (entries,):
                return old
            return _chosen(old, new, jnp.concatenate([jnp.ravel(mask) for mask in jax.tree.leaves(masks)]))
        structure: Any
        leaves, structure = jax.tree.flatten(old, is_leaf=_is_left_out)
        new_leaves = jax.tree.leaves(new, is_leaf=_is_left_out)
        own = structure.flatten_up_to(masks)
        return structure.unflatten(map(_chosen, leaves, new_leaves, own))

    return jax.tree.map(part, state, fresh, is_leaf=lambda node: _is_like(node, params))


def _chosen(old: Any, new: Any, mask: Any) -> Any:
    if _is_left_out(old) or jnp.shape(old) != jnp.shape(mask) or jnp.shape(new) != jnp.shape(old):
        return old
    return jnp.where(mask, new if new.dtype == old.dtype else new.astype(old.dtype), old)


def _is_left_out(node: Any) -> bool:
    optax = sys.modules.get("optax")  # whoever has an optimiser has imported it
    return optax is not None and isinstance(node, optax.MaskedNode)


def _is_like(node: Any, params: Any) -> bool:
    structure: Any
    leaves, structure = jax.tree.flatten(node, is_leaf=_is_left_out)
    try:
        parts = structure.flatten_up_to(params)
    except (ValueError, TypeError, KeyError):  # another structure
        return False
    pairs = zip(leaves, parts, strict=True)
    return bool(leaves) and all(
        _is_left_out(leaf) or jax.tree_util.all_leaves([part]) for leaf, part in pairs
    )
