"""Which units died and which revived between two counts of a layer."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jax_leaky.units._summary import known, nothing, plain


class Transitions(NamedTuple):
    """What changed between two counts; every field is a float32 scalar, NaN where it has no value.

    As in `Summary`, the scalars are NumPy's outside of jit.

    Attributes:
        died: units that were alive before and are never active now.
        revived: units that were never active before and are alive now.
        died_share: died over all units.
        revived_share: revived over all units; the never-active share rose by died_share - revived_share.
        overlap: the share of the now never-active units that were so at step 0; NaN where none is now.
        jaccard: units never active both now and at step 0 over those that were at either; NaN where none
            was.
    """

    died: Array
    revived: Array
    died_share: Array
    revived_share: Array
    overlap: Array
    jaccard: Array

    def to_dict(self) -> dict[str, float | int | None]:
        """Plain Python values on the host; None where there is no value.

        Example:
            >>> import jax.numpy as jnp
            >>> import jax_leaky.units as units
            >>> units.transitions(jnp.array([False, True]), jnp.array([True, True])).to_dict()["died"]
            1
        """
        row: dict[str, Any] = {name: plain(value) for name, value in self._asdict().items()}
        for name in ("died", "revived"):
            row[name] = None if row[name] is None else int(row[name])
        return row


def transitions(before: ArrayLike, after: ArrayLike, initial: ArrayLike | None = None) -> Transitions:
    """Units that died and revived between two counts, and how far the set is still that of step 0.

    Args:
        before: (units,), which units were never active at the earlier count: bool, or the 1, 0 and NaN of
            `Summary.per_unit["never_active"]`; with any NaN, every measure that needs it is NaN.
        after: (units,), which units are never active now.
        initial: (units,), which units were never active at step 0; without it `overlap` and `jaccard` are NaN.

    Raises:
        TypeError: if a mask is neither bool nor floating point.
        ValueError: if the shapes differ or are not (units,).

    Example:
        >>> import jax.numpy as jnp
        >>> import jax_leaky.units as units
        >>> before, after = jnp.array([True, False, False, True]), jnp.array([False, True, False, True])
        >>> change = units.transitions(before, after, initial=before)
        >>> float(change.died_share), float(change.revived), float(change.overlap)
        (0.25, 1.0, 0.5)
    """
    masks = {"before": _mask("before", before), "after": _mask("after", after)}
    unknown = np.full(masks["before"].shape, np.nan, np.float32)
    masks["initial"] = unknown if initial is None else _mask("initial", initial)
    for name, mask in masks.items():
        if mask.shape != masks["before"].shape:
            raise ValueError(
                f"{name} has the shape {mask.shape}, but before has {masks['before'].shape}: give the same units."
            )
    traced = any(isinstance(mask, jax.core.Tracer) for mask in masks.values())
    xp: Any = jnp if traced else np
    missing = nothing() if traced else None
    no_value = np.float32(math.nan if missing is None else missing)
    complete = {name: xp.all(known(xp, mask)) for name, mask in masks.items()}
    was, now, start = (xp.where(complete[name], mask, np.float32(0)) for name, mask in masks.items())

    def of(holds: Any, value: Any) -> Array:
        return xp.where(holds, value, no_value).astype(np.float32)

    changed, lasting = complete["before"] & complete["after"], complete["after"] & complete["initial"]
    died, revived = xp.sum(now * (1 - was)), xp.sum(was * (1 - now))
    both, either, silent = xp.sum(now * start), xp.sum(xp.maximum(now, start)), xp.sum(now)
    return Transitions(
        died=of(changed, died),
        revived=of(changed, revived),
        died_share=of(changed, died / was.size),
        revived_share=of(changed, revived / was.size),
        overlap=of(lasting & (silent > 0), both / xp.maximum(silent, 1)),
        jaccard=of(lasting & (either > 0), both / xp.maximum(either, 1)),
    )


def _mask(name: str, value: ArrayLike) -> Any:
    mask: Any = value if isinstance(value, jax.core.Tracer) else np.asarray(value)
    if mask.dtype != np.bool_ and not jnp.issubdtype(mask.dtype, jnp.floating):
        raise TypeError(f"{name} has the dtype {mask.dtype}: give the bool mask of the never-active units.")
    if mask.ndim != 1 or mask.size == 0:
        raise ValueError(
            f"{name} has the shape {mask.shape}: give (units,), and use jax.vmap for more layers."
        )
    return mask.astype(np.float32)
