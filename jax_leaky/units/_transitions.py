"""Which units died and which revived between two looks at a layer."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jax_leaky.units._summary import plain


class Transitions(NamedTuple):
    """What changed between two looks; every field is a float32 scalar, NaN where it has no value.

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
    """Units that died and revived between two looks, and how far the set is still that of step 0.

    Args:
        before: (units,), which units were never active at the look before: bool, or the 1, 0 and NaN of
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
    was, now = _mask("before", before), _mask("after", after)
    start = jnp.full_like(now, jnp.nan) if initial is None else _mask("initial", initial)
    for name, mask in (("after", now), ("initial", start)):
        if mask.shape != was.shape:
            raise ValueError(
                f"{name} has the shape {mask.shape}, but before has {was.shape}: give the same units."
            )
    died, revived = jnp.sum(now * (1 - was)), jnp.sum(was * (1 - now))
    both = jnp.sum(now * start)
    # 0 / 0 is NaN, as it should be: no unit, no share.
    return Transitions(
        died=died,
        revived=revived,
        died_share=died / was.size,
        revived_share=revived / was.size,
        overlap=both / jnp.sum(now),
        jaccard=both / jnp.sum(jnp.maximum(now, start)),
    )


def _mask(name: str, value: ArrayLike) -> Array:
    mask = jnp.asarray(value)
    if mask.dtype != jnp.bool_ and not jnp.issubdtype(mask.dtype, jnp.floating):
        raise TypeError(f"{name} has the dtype {mask.dtype}: give the bool mask of the never-active units.")
    if mask.ndim != 1 or mask.size == 0:
        raise ValueError(
            f"{name} has the shape {mask.shape}: give (units,), and use jax.vmap for more layers."
        )
    return mask.astype(jnp.float32)
