"""The measures of a layer: every definition in a line, and the measures as the row of a table."""

from __future__ import annotations

import functools
import math
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jax_leaky.units import _inputs, _wide
from jax_leaky.units._fields import LARGEST, UnitCounts, are_numbers_of_samples
from jax_leaky.units._wide import Pair, Wide

_ORDER = (
    *("act_freq", "dead", "never_active", "always_active", "linear", "rare", "dormant_score", "dormant"),
    *(
        "dormant_pos",
        "mean_slope",
        "grad_dead",
        "grad_score",
        "since_fired",
        "rule_of_three",
        "z_min",
        "z_max",
    ),
)


class Summary(NamedTuple):
    """Every measure of a layer, per unit and for the whole of it, under the same names.

    A property such as `never_active` is 1.0 where it holds, 0.0 where not, and NaN where it is unknown: no
    float sum or mean of it can hide a diverged layer. All of a layer is NaN when any of its values was not
    finite, or when it saw no sample; `dead` is NaN for a slope other than 0, `mean_slope` where no slope is known,
    and `grad_dead` and `grad_score` without gradients. The arrays are NumPy's outside of jit, and JAX's inside. In a
    program that is traced under `jax_debug_nans` minus infinity stands for NaN, and under `jax_debug_infs` besides the
    least float32.

    Attributes:
        per_unit: measure -> (units,), float32; also `z_min` and `z_max`.
        layer: measure -> (), float32. A property: the share of the units. `act_freq`, `mean_slope`: their mean.
            The scores, whose mean is 1 by definition: their median. `since_fired`: the longest silence.
        n: samples counted, exact.
        grad_n: samples counted with a gradient, exact.
        nonfinite: (units,), samples with a non-finite value, exact.
        since_fired: (units,), samples since the last z > 0, exact; since the start of the stream for a unit
            that was never active.
    """

    per_unit: dict[str, Array]
    layer: dict[str, Array]
    n: Wide
    grad_n: Wide
    nonfinite: Wide
    since_fired: Wide

    def to_dict(self) -> dict[str, Any]:
        """The layer's measures as plain Python values, for JSON, with the keys of the definitions.

        None stands where a measure has no value; `notes` says why, by measure.

        Raises:
            ValueError: if the summary is a stack of several.

        Example:
            >>> import jax.numpy as jnp
            >>> import jax_leaky.units as units
            >>> z = jnp.array([[1.0, -1.0], [-3.0, -2.0]])
            >>> row = units.summarize(units.update(units.init(2), z, negative_slope=0.5)).to_dict()
            >>> row["n"], row["act_freq"], row["never_active"], row["mean_slope"], row["dead"]
            (2, 0.25, 0.5, 0.625, None)
            >>> row["notes"]["dead"]
            'n/a by construction: with a slope other than 0 no output is 0'
        """
        if self.n.low.ndim:
            raise ValueError(
                f"the summary is a stack of shape {self.n.low.shape}: take one of it, "
                "jax.tree.map(lambda x: x[i], summary), before to_dict or units_to_dict."
            )
        nonfinite = sum(map(int, self.nonfinite.to_numpy()))
        row: dict[str, Any] = {"n": int(self.n), "nonfinite": nonfinite}
        row |= {name: plain(self.layer[name]) for name in sorted(self.layer, key=_place)}
        notes: dict[str, str] = {}
        if nonfinite or not row["n"]:
            reason = (
                f"{nonfinite} non-finite value{'s' * (nonfinite > 1)}" if nonfinite else "no sample was seen"
            )
            notes["layer"] = f"invalid: {reason}"
        else:
            row["since_fired"] = int(self.since_fired.to_numpy().max())
            if not known(np, self.per_unit["dead"]).all():
                notes["dead"] = "n/a by construction: with a slope other than 0 no output is 0"
            if not known(np, self.per_unit["mean_slope"]).all():
                notes["mean_slope"] = "n/a: the activation has no one slope below 0"
            if not int(self.grad_n):
                notes["grad_dead"] = notes["grad_score"] = "no gradient was counted"
        return row | {"notes": notes}

    def units_to_dict(self, unit_shape: tuple[int, ...] | None = None) -> dict[str, list[Any]]:
        """The measures of every unit, a list of plain Python values for each, to export or to tabulate.

        Args:
            unit_shape: lengths of the axes that hold the units, where these are several: a unit is then named by its
                indices, `[head, feature]`, and not by its number.

        Raises:
            ValueError: if the summary is a stack of several, or `unit_shape` has another number of units.

        Example:
            >>> import jax.numpy as jnp
            >>> import jax_leaky.units as units
            >>> counts = units.update(units.init(2), jnp.array([[1.0, -1.0], [-3.0, -2.0]]))
            >>> units.summarize(counts).units_to_dict()["act_freq"]
            [0.5, 0.0]
        """
        valid = not self.to_dict()["notes"].get("layer")
        columns: dict[str, list[Any]] = {
            name: [plain(value) for value in np.asarray(self.per_unit[name])]
            for name in sorted(self.per_unit, key=_place)
        }
        if valid:
            columns["since_fired"] = self.since_fired.to_numpy().tolist()
        nonfinite = self.nonfinite.to_numpy().tolist()
        names: list[Any] = list(range(len(nonfinite)))
        if unit_shape is not None:
            names = [list(index) for index in np.ndindex(*unit_shape)]
            if len(names) != len(nonfinite):
                raise ValueError(
                    f"unit_shape={unit_shape} is not that of the {len(nonfinite)} units of the summary."
                )
        return {"unit": names, "nonfinite": nonfinite} | columns

    def __str__(self) -> str:
        """A plain table of the layer's measures; the repr for a stack, and inside jit."""
        try:
            row = self.to_dict()
        except (TypeError, ValueError):  # traced or stacked
            return repr(self)
        notes = row.pop("notes")
        lines = [f"{name:<19}{'n/a' if value is None else f'{value:g}'}" for name, value in row.items()]
        return "\n".join(lines + [f"{name}: {note}" for name, note in notes.items()])


def summarize(
    counts: UnitCounts,
    *,
    rare_below: float = 0.01,
    taus: tuple[float, ...] = (0.0, 0.025, 0.1),
) -> Summary:
    """Every measure of a layer from its counts.

    With p the share of samples with z > 0, a the activation's output and s its slope below 0:
    `act_freq` = p; `dead`: a = 0 always; `never_active`: p = 0; `always_active`: p = 1; `linear`: p in {0, 1};
    `rare`: p < rare_below; `dormant_score` = mean abs(a) over the layer mean of that, and `dormant@tau`:
    score <= tau; `dormant_pos` and `dormant_pos@tau`: the same with max(z, 0); `mean_slope`: the mean of
    the derivative, p + s (1 - p), and where samples met different slopes the mean over each sample's own;
    `grad_dead`: dL/dz = 0 always; `grad_score` = mean abs(dL/dz) over the layer mean; `since_fired`: samples
    since the last z > 0; `rule_of_three` = 3 / n, the p that silence on n samples excludes at 95 %.
    Properties other than those of the scores are decided in integers. A layer whose mean is 0 has the score 0
    in every unit, so that all of them are dormant at every tau.

    Args:
        counts: the counts of one layer.
        rare_below: a share in [0, 1], static; taken as the decimal it is written as, to nine places.
        taus: the thresholds of dormancy, inclusive, static.

    Raises:
        TypeError: if counts is no `UnitCounts`.
        ValueError: if rare_below is not in [0, 1], a tau is not a finite number >= 0, or counts is a stack.

    References:
        Sokar et al., "The dormant neuron phenomenon in deep reinforcement learning", ICML 2023: the dormant
        score.
        Dohare et al., "Loss of plasticity in deep continual learning", Nature 632, 2024: the rare units.
        Hanley and Lippman-Hand, "If nothing goes wrong, is everything all right?", JAMA 249, 1983: 3 / n.

    Example:
        >>> import jax.numpy as jnp
        >>> import jax_leaky.units as units
        >>> counts = units.update(units.init(2), jnp.array([[3.0, -1.0], [-3.0, -2.0]]))
        >>> summary = units.summarize(counts)
        >>> summary.per_unit["dead"].tolist(), float(summary.layer["dead"])
        ([0.0, 1.0], 0.5)
    """
    _inputs.check_counts("counts", counts)
    if len(counts.shape) != 1:
        raise ValueError(f"counts is a stack of shape {counts.shape}: use jax.vmap(units.summarize).")
    if not 0 <= rare_below <= 1:
        raise ValueError(f"rare_below={rare_below!r} is not a share: give a number from 0 to 1.")
    for tau in taus:
        if not 0 <= tau < math.inf:
            raise ValueError(f"taus holds {tau!r}: give finite thresholds of 0 or more.")
    rare = Fraction(str(float(rare_below))).limit_denominator(2**32 - 1)
    taus = tuple(float(tau) for tau in taus)
    if any(isinstance(stack, jax.core.Tracer) for stack in counts):
        return _measure(counts, rare, taus, nothing())
    # Compiled, this would take half a second for each number of units.
    with np.errstate(all="ignore"):
        return _definitions(np, jax.tree.map(np.asarray, counts), rare, taus, None)


def nothing() -> float | None:
    """What stands in a trace for a measure that has no value: None for NaN, unless JAX is told to stop at it."""
    if not jax.config.jax_debug_nans:  # type: ignore[attr-defined] # JAX makes them as it starts
        return None
    return -LARGEST if jax.config.jax_debug_infs else -math.inf  # type: ignore[attr-defined] # likewise


def known(xp: Any, values: Any) -> Any:
    """Where there is a value, whichever of `nothing` stands for none."""
    return xp.isfinite(values) & (values != -LARGEST)


def _definitions(
    xp: Any, counts: UnitCounts, rare: Fraction, taus: tuple[float, ...], missing: float | None
) -> Summary:
    """Every definition, of counts of one layer, in JAX's or NumPy's arrays."""
    no_value = np.float32(math.nan if missing is None else missing)
    n = counts.n[..., None]
    seen = ~_wide.is_zero(n)
    samples = xp.where(seen, n.to_float(), np.float32(1))
    p = counts.fired.to_float() / samples
    never_active, always_active = _wide.is_zero(counts.fired), _wide.equal(counts.fired, n)
    since_fired = counts.end[..., None] - counts.last_fired
    seen_gradient = ~_wide.is_zero(counts.grad_n[..., None])
    least, greatest = counts.slope_min, counts.slope_max
    has_slope = ~(least > greatest)  # NaN is a slope
    own = p + (counts.slope_sum.high + counts.slope_sum.low) / samples
    dormant, positive, gradient = (
        _score(xp, sums) for sums in (counts.abs_sum, counts.positive_sum, counts.grad_sum)
    )
    # Each measure of every unit, and where it applies.
    scores = {
        "dormant_score": dormant,
        "dormant_pos": positive,
        "grad_score": (gradient[0], gradient[1] & seen_gradient),
    }
    properties = {
        "dead": (_wide.is_zero(counts.nonzero), ~has_slope | ((least == 0) & (greatest == 0))),
        "never_active": (never_active, True),
        "always_active": (always_active, True),
        "linear": (never_active | always_active, True),
        "rare": (_wide.below_share(counts.fired, n, rare.numerator, rare.denominator), True),
        "grad_dead": (_wide.is_zero(counts.grad_nonzero), seen_gradient),
    }
    for tau in taus:
        for name, (score, applies) in (("dormant", dormant), ("dormant_pos", positive)):
            properties[f"{name}@{repr(tau).removesuffix('.0')}"] = (score <= tau, applies)
    # Of one slope exactly that slope in a unit that is never active, which a quotient of sums would not be.
    mean_slope = xp.where(least == greatest, p + least * (1 - p), own)
    means = {"act_freq": (p, True), "mean_slope": (mean_slope, has_slope)}
    has_extremes = (counts.z_min <= counts.z_max) & ~((counts.z_min == -LARGEST) & (counts.z_max == LARGEST))
    others = {
        "since_fired": (since_fired.to_float(), True),
        "z_min": (counts.z_min, has_extremes),
        "z_max": (counts.z_max, has_extremes),
    }

    valid = seen & xp.all(_wide.is_zero(counts.nonfinite) & are_numbers_of_samples(counts))
    per_unit, layer = {}, {}
    for name, (values, applies) in (means | properties | scores | others).items():
        holds = xp.broadcast_to(valid & applies, values.shape)
        filled = xp.where(holds, values.astype(np.float32), np.float32(0))
        per_unit[name] = xp.where(holds, filled, no_value)
        of_layer = xp.median if name in scores else xp.max if name in others else functools.partial(_mean, xp)
        layer[name] = xp.where(xp.all(holds), of_layer(filled), no_value)
    del layer["z_min"], layer["z_max"]
    layer["rule_of_three"] = xp.where(valid, 3 / samples, no_value)[0]
    return Summary(per_unit, layer, counts.n, counts.grad_n, counts.nonfinite, since_fired)


_measure = jax.jit(functools.partial(_definitions, jnp), static_argnums=(1, 2, 3))


def _mean(xp: Any, values: Any) -> Any:
    """The mean, corrected by what rounding left: of units that all have the slope 0.2 it is 0.2, not 0.20000002."""
    mean = xp.mean(values)
    return mean + xp.mean(values - mean)


def _score(xp: Any, sums: Pair) -> tuple[Any, Any]:
    """Each unit's sum over the mean of the layer's, 0 where that mean is 0; and whether no sum overflowed."""
    finite = xp.all(xp.isfinite(sums.high))
    high = xp.where(finite, sums.high, np.float32(0))
    # Scaled by a power of two, which is exact: the total of huge sums cannot overflow and make every score 0.
    _, exponent = xp.frexp(xp.max(high))
    scaled = xp.ldexp(high, -exponent)
    mean = _total(xp, scaled) / np.float32(scaled.size)
    return xp.where(mean == 0, np.float32(0), scaled / xp.where(mean == 0, np.float32(1), mean)), finite


def _total(xp: Any, values: Any) -> Any:
    if xp is np:
        return np.sum(values, dtype=np.float64).astype(np.float32)
    return _wide.sum_pairs(Pair(values, jnp.zeros_like(values))).high


def plain(value: ArrayLike) -> float | None:
    """A scalar as a Python float, None where it has no value.

    By way of the shortest text that float32 reads back: 0.1 in a row, not 0.10000000149011612.
    """
    number = np.asarray(value, np.float32)[()]
    return float(str(number)) if known(np, number) else None


def _place(name: str) -> tuple[int, float]:
    """Where a measure stands in a row: the order of the definitions, thresholds ascending."""
    base, _, tau = name.partition("@")
    return _ORDER.index(base), float(tau or -1)
