"""The part of an optimiser's state that belongs to some entries of the parameters, begun anew."""

from __future__ import annotations

import sys
from typing import Any

import jax
import jax.numpy as jnp


def restarted(optimizer: Any, state: Any, params: Any, masks: Any) -> Any:
    """The state with the masked entries as `optimizer.init` gives them.

    A part of the state is per parameter if it has the parameters' structure, with `optax.MaskedNode` in the place of
    those that it leaves out; of these, arrays of the parameter's own shape are per entry.
    """
    fresh = optimizer.init(params)
    own: Any = jax.tree.structure(state)
    if own != jax.tree.structure(fresh):
        raise ValueError(
            "restart: the state is none of this optimizer with these parameters: its structure differs from that of "
            "optimizer.init(params)."
        )

    def part(old: Any, new: Any) -> Any:
        if not _is_like(old, params):
            return old
        structure: Any
        leaves, structure = jax.tree.flatten(old, is_leaf=_is_left_out)
        new_leaves = jax.tree.leaves(new, is_leaf=_is_left_out)
        own = structure.flatten_up_to(masks)
        return structure.unflatten(map(_chosen, leaves, new_leaves, own))

    return jax.tree.map(part, state, fresh, is_leaf=lambda node: _is_like(node, params))


def _chosen(old: Any, new: Any, mask: Any) -> Any:
    if _is_left_out(old) or jnp.shape(old) != jnp.shape(mask) or jnp.shape(new) != jnp.shape(old):
        return old
    return jnp.where(mask, new, old)


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
