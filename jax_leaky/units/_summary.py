"""From counts to measures: the definitions, one line each, and the row they make."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jax_leaky.units import _inputs, _pair, _wide
from jax_leaky.units._counts import UnitCounts
from jax_leaky.units._pair import Pair
from jax_leaky.units._rows import plain
from jax_leaky.units._wide import Wide

_ORDER = (
    *("act_freq", "dead", "always_negative", "always_on", "linear", "rare", "dormant_score", "dormant"),
    *("dormant_pos", "slope", "grad_dead", "grad_score", "since_fired", "rule_of_three", "z_min", "z_max"),
)


class Summary(NamedTuple):
    """Every measure of a layer, per unit and for the whole of it, under the same names.

    A property such as `always_negative` is 1.0 where it holds, 0.0 where not, and NaN where it is unknown: no float
    sum or mean of it can hide a diverged layer. All of a layer is NaN when any of its values was not finite, or when
    it saw no sample; `dead` is NaN for a slope other than 0, and `grad_dead` and `grad_score` without gradients.

    Attributes:
        per_unit: measure -> (units,), float32; also `z_min` and `z_max`.
        layer: measure -> (), float32. A property: the share of the units. `act_freq` and `slope`: the mean over the
            units. The scores, whose mean is 1 by definition: their median. `since_fired`: the longest silence.
        n: samples counted, exact.
        grad_n: samples counted with a gradient, exact.
        nonfinite: (units,), samples with a non-finite value, exact.
        since_fired: (units,), samples since the last z > 0, exact; since the start of the stream for a unit that
            never fired.
        negative_slope: () or (units,), that of the activation.
    """

    per_unit: dict[str, Array]
    layer: dict[str, Array]
    n: Wide
    grad_n: Wide
    nonfinite: Wide
    since_fired: Wide
    negative_slope: Array

    def to_row(self) -> dict[str, Any]:
        """The layer's measures as plain Python values, for JSON, with the keys of the definitions.

        None stands where a measure has no value; `notes` says why, by measure.

        Raises:
            ValueError: if the summary is a stack of several.

        Example:
            >>> import jax.numpy as jnp
            >>> import jax_leaky.units as units
            >>> counts = units.update(units.init(2), jnp.array([[1.0, -1.0], [-3.0, -2.0]]))
            >>> row = units.summarize(counts, negative_slope=0.5).to_row()
            >>> row["n"], row["act_freq"], row["always_negative"], row["slope"], row["dead"]
            (2, 0.25, 0.5, 0.625, None)
            >>> row["notes"]["dead"]
            'n/a by construction: with a slope other than 0 no output is 0'
        """
        if self.n.low.ndim:
            raise ValueError(
                f"the summary is a stack of shape {self.n.low.shape}: take one of it, "
                "jax.tree.map(lambda x: x[i], summary), before to_row or to_columns."
            )
        nonfinite = sum(map(int, self.nonfinite.to_numpy()))
        row: dict[str, Any] = {"n": int(self.n), "nonfinite": nonfinite}
        row |= {name: plain(self.layer[name]) for name in sorted(self.layer, key=_place)}
        notes: dict[str, str] = {}
        if nonfinite or not row["n"]:
            notes["layer"] = f"invalid: {nonfinite} non-finite values" if nonfinite else "invalid: no sample was seen"
        else:
            row["since_fired"] = int(self.since_fired.to_numpy().max())
            if np.any(np.asarray(self.negative_slope) != 0):
                notes["dead"] = "n/a by construction: with a slope other than 0 no output is 0"
            if not int(self.grad_n):
                notes["grad_dead"] = notes["grad_score"] = "no gradient was counted"
        return row | {"notes": notes}

    def to_columns(self) -> dict[str, list[Any]]:
        """The measures of every unit as lists of plain Python values, one list a measure, for a table or an export.

        Raises:
            ValueError: if the summary is a stack of several.

        Example:
            >>> import jax.numpy as jnp
            >>> import jax_leaky.units as units
            >>> counts = units.update(units.init(2), jnp.array([[1.0, -1.0], [-3.0, -2.0]]))
            >>> units.summarize(counts).to_columns()["act_freq"]
            [0.5, 0.0]
        """
        valid = not self.to_row()["notes"].get("layer")
        columns: dict[str, list[Any]] = {
            name: [plain(value) for value in np.asarray(self.per_unit[name])]
            for name in sorted(self.per_unit, key=_place)
        }
        if valid:
            columns["since_fired"] = self.since_fired.to_numpy().tolist()
        return {"unit": list(range(len(columns["act_freq"]))), "nonfinite": self.nonfinite.to_numpy().tolist()} | columns

    def __str__(self) -> str:
        """A plain table of the layer's measures; the repr for a stack, and inside jit."""
        try:
            row = self.to_row()
        except Exception:  # traced or stacked
            return repr(self)
        notes = row.pop("notes")
        lines = [f"{name:<19}{'n/a' if value is None else f'{value:g}'}" for name, value in row.items()]
        return "\n".join(lines + [f"{name}: {note}" for name, note in notes.items()])


def summarize(
    counts: UnitCounts,
    *,
    negative_slope: ArrayLike = 0.0,
    rare_below: float = 0.01,
    taus: tuple[float, ...] = (0.0, 0.025, 0.1),
) -> Summary:
    """Every measure of a layer from its counts.

    With p the share of samples with z > 0, a the activation's output and s its slope:
    `act_freq` = p; `dead`: a = 0 always; `always_negative`: p = 0; `always_on`: p = 1; `linear`: p in {0, 1};
    `rare`: p < rare_below; `dormant_score` = mean abs(a) over the layer mean of that, and `dormant@tau`: score <= tau;
    `dormant_pos` and `dormant_pos@tau`: the same with max(z, 0); `slope` = p + s (1 - p); `grad_dead`: dL/dz = 0
    always; `grad_score` = mean abs(dL/dz) over the layer mean; `since_fired`: samples since the last z > 0;
    `rule_of_three` = 3 / n, the p that silence on n samples excludes at 95 %.
    Properties other than those of the scores are decided in integers. A layer whose mean is 0 has the score 0 in
    every unit, so that all of them are dormant at every tau.

    Args:
        counts: of one layer.
        negative_slope: the activation's: a number, a traced scalar (ReLU is 0, so that one compiled program serves
            every slope), or (units,).
        rare_below: a share in [0, 1], static; taken as the decimal it is written as.
        taus: the thresholds of dormancy, inclusive, static.

    Raises:
        TypeError: if negative_slope is not a real number.
        ValueError: if rare_below is not in [0, 1], a tau is not a finite number >= 0, or counts is a stack.

    References:
        Sokar et al., "The dormant neuron phenomenon in deep reinforcement learning", ICML 2023: the dormant score.
        Dohare et al., "Loss of plasticity in deep continual learning", Nature 632, 2024: the rare units.
        Hanley and Lippman-Hand, "If nothing goes wrong, is everything all right?", JAMA 249, 1983: the rule of three.

    Example:
        >>> import jax.numpy as jnp
        >>> import jax_leaky.units as units
        >>> counts = units.update(units.init(2), jnp.array([[3.0, -1.0], [-3.0, -2.0]]))
        >>> summary = units.summarize(counts)
        >>> summary.per_unit["dead"].tolist(), float(summary.layer["dead"])
        ([0.0, 1.0], 0.5)
    """
    if counts.fired.low.ndim != 1:
        raise ValueError(f"counts is a stack of shape {counts.fired.low.shape}: use jax.vmap(units.summarize).")
    if not 0 <= rare_below <= 1:
        raise ValueError(f"rare_below={rare_below!r} is not a share: give a number from 0 to 1.")
    for tau in taus:
        if not 0 <= tau < math.inf:
            raise ValueError(f"taus holds {tau!r}: give finite thresholds of 0 or more.")
    slope = _inputs.slope_of(negative_slope, counts.fired.low.shape[0], jnp.float32)
    n, grad_n = counts.n.to_float(), counts.grad_n.to_float()
    rare = Fraction(str(float(rare_below))).limit_denominator(2**32 - 1)

    p = counts.fired.to_float() / n
    always_negative, always_on = _wide.is_zero(counts.fired), _wide.equal(counts.fired, counts.n)
    since_fired = counts.end - counts.last_fired
    seen_gradient = ~_wide.is_zero(counts.grad_n)
    scores = {
        "dormant_score": _score(counts.abs_sum),
        "dormant_pos": _score(counts.positive_sum),
        "grad_score": jnp.where(seen_gradient, _score(counts.grad_sum), jnp.nan),
    }
    properties = {
        "dead": jnp.where(slope == 0, _wide.is_zero(counts.nonzero), jnp.nan),
        "always_negative": always_negative,
        "always_on": always_on,
        "linear": always_negative | always_on,
        "rare": _wide.below_share(counts.fired, counts.n, rare.numerator, rare.denominator),
        "grad_dead": jnp.where(seen_gradient, _wide.is_zero(counts.grad_nonzero), jnp.nan),
    }
    for tau in taus:
        for name, score in (("dormant", scores["dormant_score"]), ("dormant_pos", scores["dormant_pos"])):
            low = jnp.where(jnp.isnan(score), jnp.nan, score <= tau)
            properties[f"{name}@{repr(float(tau)).removesuffix('.0')}"] = low
    means = {"act_freq": p, "slope": p + slope * (1 - p)}
    others = {"since_fired": since_fired.to_float(), "z_min": counts.z_min, "z_max": counts.z_max}

    valid = ~_wide.is_zero(counts.n) & jnp.all(_wide.is_zero(counts.nonfinite))
    per_unit = {
        name: jnp.where(valid, value.astype(jnp.float32), jnp.nan)
        for name, value in (means | properties | scores | others).items()
    }
    layer = {name: jnp.mean(per_unit[name]) for name in (*means, *properties)}
    layer |= {name: jnp.median(per_unit[name]) for name in scores}
    layer |= {"since_fired": jnp.max(per_unit["since_fired"]), "rule_of_three": jnp.where(valid, 3 / n, jnp.nan)}
    return Summary(per_unit, layer, counts.n, counts.grad_n, counts.nonfinite, since_fired, slope)


def _score(sums: Pair) -> Array:
    """Each unit's sum over the mean of the layer's; 0 where that mean is 0."""
    # Scaled by a power of two, which is exact: the total of huge sums cannot overflow and turn every score into 0.
    _, exponent = jnp.frexp(jnp.max(sums.high))
    scaled = jnp.ldexp(sums.high, -exponent)
    mean = _pair.sum_rows(scaled).high / scaled.size
    return jnp.where(mean == 0, 0.0, scaled / jnp.where(mean == 0, 1.0, mean))


def _place(name: str) -> tuple[int, float]:
    """Where a measure stands in a row: the order of the definitions, thresholds ascending."""
    base, _, tau = name.partition("@")
    return _ORDER.index(base), float(tau or -1)
