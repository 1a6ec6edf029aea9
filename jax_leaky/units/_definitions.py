"""From counts to measures: every definition in a line."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jax_leaky.units import _inputs, _pair, _wide
from jax_leaky.units._counts import UnitCounts
from jax_leaky.units._pair import Pair
from jax_leaky.units._summary import Summary


def summarize(
    counts: UnitCounts,
    *,
    negative_slope: ArrayLike = 0.0,
    rare_below: float = 0.01,
    taus: tuple[float, ...] = (0.0, 0.025, 0.1),
) -> Summary:
    """Every measure of a layer from its counts.

    With p the share of samples with z > 0, a the activation's output and s its slope:
    `act_freq` = p; `dead`: a = 0 always; `never_active`: p = 0; `always_active`: p = 1; `linear`: p in {0, 1};
    `rare`: p < rare_below; `dormant_score` = mean abs(a) over the layer mean of that, and `dormant@tau`:
    score <= tau; `dormant_pos` and `dormant_pos@tau`: the same with max(z, 0); `mean_slope` = p + s (1 - p);
    `grad_dead`: dL/dz = 0 always; `grad_score` = mean abs(dL/dz) over the layer mean; `since_fired`: samples
    since the last z > 0; `rule_of_three` = 3 / n, the p that silence on n samples excludes at 95 %.
    Properties other than those of the scores are decided in integers. A layer whose mean is 0 has the score 0
    in every unit, so that all of them are dormant at every tau.

    Args:
        counts: of one layer.
        negative_slope: the activation's: a number, a traced scalar (ReLU is 0, so that one compiled program
            serves every slope), or (units,).
        rare_below: a share in [0, 1], static; taken as the decimal it is written as, to nine places.
        taus: the thresholds of dormancy, inclusive, static.

    Raises:
        TypeError: if negative_slope is not a real number.
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
    if counts.fired.low.ndim != 1:
        raise ValueError(
            f"counts is a stack of shape {counts.fired.low.shape}: use jax.vmap(units.summarize)."
        )
    if not 0 <= rare_below <= 1:
        raise ValueError(f"rare_below={rare_below!r} is not a share: give a number from 0 to 1.")
    for tau in taus:
        if not 0 <= tau < math.inf:
            raise ValueError(f"taus holds {tau!r}: give finite thresholds of 0 or more.")
    slope = _inputs.slope_of(negative_slope, counts.fired.low.shape[0], jnp.float32)
    rare = Fraction(str(float(rare_below))).limit_denominator(2**32 - 1)
    return _measure(counts, slope, rare, tuple(float(tau) for tau in taus))


@partial(jax.jit, static_argnums=(2, 3))
def _measure(counts: UnitCounts, slope: Array, rare: Fraction, taus: tuple[float, ...]) -> Summary:
    """Every definition, of counts of one layer."""
    n = counts.n.to_float()
    p = counts.fired.to_float() / n
    never_active, always_active = _wide.is_zero(counts.fired), _wide.equal(counts.fired, counts.n)
    since_fired = counts.end - counts.last_fired
    seen_gradient = ~_wide.is_zero(counts.grad_n)
    scores = {
        "dormant_score": _score(counts.abs_sum),
        "dormant_pos": _score(counts.positive_sum),
        "grad_score": jnp.where(seen_gradient, _score(counts.grad_sum), jnp.nan),
    }
    properties = {
        "dead": jnp.where(slope == 0, _wide.is_zero(counts.nonzero).astype(jnp.float32), jnp.nan),
        "never_active": never_active,
        "always_active": always_active,
        "linear": never_active | always_active,
        "rare": _wide.below_share(counts.fired, counts.n, rare.numerator, rare.denominator),
        "grad_dead": jnp.where(
            seen_gradient, _wide.is_zero(counts.grad_nonzero).astype(jnp.float32), jnp.nan
        ),
    }
    for tau in taus:
        for name, score in (("dormant", scores["dormant_score"]), ("dormant_pos", scores["dormant_pos"])):
            low = jnp.where(jnp.isnan(score), jnp.nan, (score <= tau).astype(jnp.float32))
            properties[f"{name}@{repr(tau).removesuffix('.0')}"] = low
    means = {"act_freq": p, "mean_slope": p + slope * (1 - p)}
    others = {"since_fired": since_fired.to_float(), "z_min": counts.z_min, "z_max": counts.z_max}

    valid = ~_wide.is_zero(counts.n) & jnp.all(_wide.is_zero(counts.nonfinite))
    per_unit = {
        name: jnp.where(valid, value.astype(jnp.float32), jnp.nan)
        for name, value in (means | properties | scores | others).items()
    }
    layer = {name: jnp.mean(per_unit[name]) for name in (*means, *properties)}
    medians = jnp.median(jnp.stack([per_unit[name] for name in scores]), axis=1)
    layer |= dict(zip(scores, medians, strict=True))
    layer |= {
        "since_fired": jnp.max(per_unit["since_fired"]),
        "rule_of_three": jnp.where(valid, 3 / n, jnp.nan),
    }
    return Summary(per_unit, layer, counts.n, counts.grad_n, counts.nonfinite, since_fired, slope)


def _score(sums: Pair) -> Array:
    """Each unit's sum over the mean of the layer's; 0 where that mean is 0, NaN where a sum overflowed."""
    # Scaled by a power of two, which is exact: the total of huge sums cannot overflow and make every score 0.
    _, exponent = jnp.frexp(jnp.max(sums.high))
    scaled = jnp.ldexp(sums.high, -exponent)
    mean = _pair.sum_pairs(Pair(scaled, jnp.zeros_like(scaled))).high / scaled.size
    score = jnp.where(mean == 0, 0.0, scaled / jnp.where(mean == 0, 1.0, mean))
    return jnp.where(jnp.all(jnp.isfinite(sums.high)), score, jnp.nan)
