"""Faults made by hand, each of which the named test must catch: a comparison turned round, a check dropped, ..."""

from typing import NamedTuple


class Fault(NamedTuple):
    """One text put in place of another.

    Attributes:
        what: is broken.
        file: in jax_leaky/.
        old: the text, of which there is one in the file.
        new: what stands in its place.
        test: that must fail, below tests/.
    """

    what: str
    file: str
    old: str
    new: str
    test: str


VALUES = "op/test_op_values.py::test_cotangents_are_scaled_by_the_derivative"
AT_ZERO = "op/test_op_values.py::test_the_derivative_at_zero_is_the_slope_where_jax_nn_gives_one"
SLOPE = "op/test_op_slope_gradients.py::TestGradients"
COUNTS = "units/test_units_counts.py"
DEFINITIONS = "units/test_units_definitions.py"
TALLY = "census/test_census_tally.py"

OP = [
    Fault(
        "the comparison of the value is turned round",
        "_rules.py",
        "return lax.select(x > 0, x, x * jnp",
        "return lax.select(x < 0, x, x * jnp",
        VALUES,
    ),
    Fault(
        "the branches of the derivative are swapped",
        "_rules.py",
        "residual), tangent, scaled)",
        "residual), scaled, tangent)",
        VALUES,
    ),
    Fault(
        "the sign is read from y under a negative slope",
        "_rules.py",
        "source = y if slope >= 0 else x",
        "source = y",
        VALUES,
    ),
    Fault(
        "the branches of an array slope's cotangents are swapped",
        "_rules.py",
        "None, None, lax.select(positive, cotangent, zero), lax.select(positive, zero, cotangent)",
        "None, None, lax.select(positive, zero, cotangent), lax.select(positive, cotangent, zero)",
        f"{SLOPE}::test_per_channel",
    ),
    Fault(
        "the tangents of an array slope are swapped",
        "_rules.py",
        "lambda kept, p, n: lax.select(was_positive(kept, p, residual), p, n)",
        "lambda kept, p, n: lax.select(was_positive(kept, p, residual), n, p)",
        "op/test_op_forward_mode.py::test_the_tangent_of_a_differentiated_slope",
    ),
    Fault(
        "an infinite x reaches the slope's gradient",
        "_rules.py",
        "return choose(positive, kept, x, slope * below)",
        "return choose(positive, kept, x, slope * x)",
        f"{SLOPE}::test_infinities_and_nan",
    ),
    Fault(
        "the residual has no name",
        "_rules.py",
        "return y, checkpoint_name(keep_sign(source, residual), RESIDUAL_NAME)",
        "return y, keep_sign(source, residual)",
        "op/test_op_remat.py::test_the_residual_can_be_saved_by_its_name",
    ),
    Fault(
        "0 counts as above zero where bits are kept",
        "_sign.py",
        "return _pack(value > 0, axis)",
        "return _pack(value >= 0, axis)",
        AT_ZERO,
    ),
    Fault(
        "0 counts as above zero where a mask is kept",
        "_sign.py",
        'if residual == "mask" or axis is None:\n        return value > 0',
        'if residual == "mask" or axis is None:\n        return value >= 0',
        AT_ZERO,
    ),
    Fault(
        "0 counts as above zero where the output is kept",
        "_sign.py",
        "return kept > 0",
        "return kept >= 0",
        AT_ZERO,
    ),
    Fault(
        "bits are read one place off",
        "_sign.py",
        "& (jnp.uint8(1) << _places",
        "& (jnp.uint8(2) << _places",
        VALUES,
    ),
    Fault(
        "bits are read the wrong way", "_sign.py", "padded = (octets != 0)", "padded = (octets == 0)", VALUES
    ),
    Fault(
        "bits are added before they are shifted apart",
        "_sign.py",
        "octets.astype(jnp.uint8) << _places(octets.ndim, axis + 1)",
        "octets.astype(jnp.uint8)",
        VALUES,
    ),
    Fault(
        "a batch is packed across devices",
        "_sign.py",
        "return axis == last or value.ndim > 2 or value.shape[axis] % 64 == 0",
        "return True",
        "op/test_op_sharding.py::test_devices_exchange_nothing",
    ),
    Fault(
        "the output is kept under a negative slope",
        "_leaky_relu.py",
        "number is not None and number < 0",
        "number is not None and number < -1",
        "op/test_op_errors.py::test_a_number_below_zero_with_the_output",
    ),
    Fault(
        "the slope decides the dtype",
        "_leaky_relu.py",
        "x = jnp.broadcast_to(jnp.asarray(x, dtype), shape)",
        "x = jnp.broadcast_to(jnp.asarray(x, jnp.result_type(x, slope, 0.0)), shape)",
        "op/test_op_dtypes.py::test_a_float_keeps_its_dtype",
    ),
    Fault(
        "the output is kept by default",
        "_leaky_relu.py",
        'DEFAULT: Residual = "bits"',
        'DEFAULT: Residual = "output"',
        "op/test_op_memory.py::test_the_arrays_that_are_held_have_these_bytes",
    ),
    Fault(
        "a dtype without zero is taken",
        "_leaky_relu.py",
        "if dtype == jnp.float8_e8m0fnu:",
        "if False:",
        "op/test_op_errors.py::test_not_a_real_number",
    ),
    Fault(
        "forward mode is refused where it was asked for",
        "_leaky_relu.py",
        "(number_forward if forward_mode else number_reverse)",
        "(number_reverse if forward_mode else number_forward)",
        "op/test_op_forward_mode.py::TestWithForwardMode::test_jvp",
    ),
    Fault(
        "the gain takes the slope instead of its square",
        "_initializers.py",
        "2.0 / (1.0 + negative_slope**2)",
        "2.0 / (1.0 + negative_slope)",
        "op/test_op_initializers.py::test_mean_and_variance",
    ),
    Fault(
        "evaluation takes the lower bound for the mean",
        "_rrelu.py",
        "return (lower + upper) / 2",
        "return lower",
        "op/test_op_rrelu.py::test_evaluation_has_the_mean_slope",
    ),
]

COUNTERS = [
    Fault(
        "0 fires",
        "units/_tally.py",
        "fired = counted & (z > 0)",
        "fired = counted & (z >= 0)",
        f"{COUNTS}::test_counts_of_a_hand_made_layer",
    ),
    Fault(
        "a NaN in z counts as silence",
        "units/_tally.py",
        "finite = jnp.isfinite(z32) & jnp.isfinite(a.astype(jnp.float32))",
        "finite = jnp.isfinite(a.astype(jnp.float32)) | jnp.isnan(z32)",
        f"{COUNTS}::test_a_non_finite_value_is_counted_once_for_its_sample_and_unit",
    ),
    Fault(
        "a NaN in the gradient is not seen",
        "units/_tally.py",
        "    if gradient is not None:\n        finite &= jnp.isfinite(gradient.astype(jnp.float32))\n",
        "",
        f"{COUNTS}::test_a_non_finite_value_is_counted_once_for_its_sample_and_unit",
    ),
    Fault(
        "padding counts as not finite",
        "units/_tally.py",
        "nonfinite=(~finite & keep)",
        "nonfinite=(~finite | ~keep)",
        f"{COUNTS}::test_counts_of_a_hand_made_layer",
    ),
    Fault(
        "padding takes a position",
        "units/_tally.py",
        "place = jnp.cumsum(keep, axis=0, dtype=jnp.uint32)",
        "place = jnp.arange(1, rows + 1, dtype=jnp.uint32)[:, None]",
        f"{COUNTS}::test_padding_is_not_counted_and_takes_no_position",
    ),
    Fault(
        "positions begin at 0",
        "units/_tally.py",
        "place = jnp.arange(1, rows + 1, dtype=jnp.uint32)",
        "place = jnp.arange(0, rows, dtype=jnp.uint32)",
        f"{COUNTS}::test_counts_of_a_hand_made_layer",
    ),
    Fault(
        "the greatest of two blocks is their least",
        "units/_tally.py",
        "z_max=jnp.maximum(first.z_max, second.z_max)",
        "z_max=jnp.minimum(first.z_max, second.z_max)",
        "units/test_units_properties.py::test_the_counts_are_those_of_the_definitions",
    ),
    Fault(
        "the greatest of two counts is their least",
        "units/_counts.py",
        "        z_max=jnp.maximum(first.z_max, second.z_max),",
        "        z_max=jnp.minimum(first.z_max, second.z_max),",
        f"{TALLY}::test_appending_is_counting_on",
    ),
    Fault(
        "merging takes the first one's non-finite values alone",
        "units/_counts.py",
        "nonfinite=first.nonfinite + second.nonfinite",
        "nonfinite=first.nonfinite",
        f"{COUNTS}::test_merging_adds_the_non_finite_values_of_both",
    ),
    Fault(
        "merging forgets the later firing",
        "units/_counts.py",
        "last_fired=_wide.maximum(first.last_fired, second.last_fired)",
        "last_fired=first.last_fired",
        "units/test_units_properties.py::test_any_split_and_any_order_of_merging",
    ),
    Fault(
        "a later batch without a firing moves the last firing",
        "units/_counts.py",
        "jnp.where(seen.last > 0, limb, jnp.uint32(0))",
        "limb",
        f"{COUNTS}::test_no_samples_change_nothing",
    ),
    Fault(
        "the carry is taken where nothing is carried",
        "units/_wide.py",
        "carry = (low < self.low)",
        "carry = (low <= self.low)",
        f"{COUNTS}::test_counts_of_a_hand_made_layer",
    ),
    Fault(
        "the carry is lost",
        "units/_wide.py",
        "Wide(self.high + other.high + carry, low)",
        "Wide(self.high + other.high, low)",
        f"{COUNTS}::test_counts_pass_2_to_the_32_without_overflow",
    ),
    Fault(
        "the rounding error of a sum is dropped",
        "units/_pair.py",
        "error = error + (first.low + second.low)",
        "error = first.low + second.low",
        "units/test_units_properties.py::test_a_long_sum_in_any_order_is_the_same_to_1e_10",
    ),
    Fault(
        "a layer with non-finite values is valid",
        "units/_definitions.py",
        "valid = ~_wide.is_zero(counts.n) & jnp.all(_wide.is_zero(counts.nonfinite))",
        "valid = ~_wide.is_zero(counts.n)",
        "units/test_units_properties.py::test_one_non_finite_value_anywhere_makes_the_row_null",
    ),
    Fault(
        "a layer without samples is valid",
        "units/_definitions.py",
        "valid = ~_wide.is_zero(counts.n) & jnp.all",
        "valid = jnp.all",
        f"{DEFINITIONS}::test_without_samples_nothing_is_claimed",
    ),
    Fault(
        "dormancy is exclusive",
        "units/_definitions.py",
        "(score <= tau)",
        "(score < tau)",
        f"{DEFINITIONS}::test_dormancy_is_inclusive",
    ),
    Fault(
        "a leaky unit is called dead",
        "units/_definitions.py",
        '"dead": jnp.where(slope == 0,',
        '"dead": jnp.where(slope >= 0,',
        "units/test_units_summary.py::test_dead_is_not_claimed_for_a_leaky_layer",
    ),
    Fault(
        "the mean slope forgets the slope",
        "units/_definitions.py",
        '"slope": p + slope * (1 - p)',
        '"slope": p',
        f"{DEFINITIONS}::test_measures_of_a_unit",
    ),
    Fault(
        "rare is not strict",
        "units/_wide.py",
        "less = left[0] < right[0]",
        "less = left[0] <= right[0]",
        f"{DEFINITIONS}::test_rare_is_strict_and_decided_in_integers",
    ),
    Fault(
        "died and revived are swapped",
        "units/_transitions.py",
        "jnp.sum(now * (1 - was)), jnp.sum(was * (1 - now))",
        "jnp.sum(was * (1 - now)), jnp.sum(now * (1 - was))",
        "units/test_units_transitions.py::test_died_revived_and_overlap_on_paper",
    ),
    Fault(
        "0 fires in the census",
        "_census/_tally.py",
        "fired = counted & (z > 0)",
        "fired = counted & (z >= 0)",
        f"{TALLY}::test_relu_equals_numpy",
    ),
    Fault(
        "the census takes a NaN for silence",
        "_census/_tally.py",
        "finite = jnp.isfinite(z32)\n",
        "finite = jnp.isfinite(z32) | jnp.isnan(z32)\n",
        f"{TALLY}::test_values_that_are_not_finite_count_as_that_alone",
    ),
    Fault(
        "the census counts a row twice where chunks meet",
        "_census/_tally.py",
        "counted & (row < kept)",
        "counted & (row <= kept)",
        f"{TALLY}::test_relu_equals_numpy",
    ),
    Fault(
        "the greatest of two chunks is their least",
        "_census/_tally.py",
        "jnp.maximum(one.z_max, two.z_max)",
        "jnp.minimum(one.z_max, two.z_max)",
        f"{TALLY}::test_relu_equals_numpy",
    ),
    Fault(
        "appending forgets what came before",
        "_census/_tally.py",
        "newer._replace(end=older.end + newer.end, last_fired=last_fired)",
        "newer._replace(end=newer.end, last_fired=last_fired)",
        "census/test_census_properties.py::test_censuses_add_up_and_the_brackets_do_not_matter",
    ),
    Fault(
        "what is packed is unpacked in another order",
        "_census/_packed.py",
        "index, taken[field] = taken[field], taken[field] + 1",
        "index, taken[field] = -1 - taken[field], taken[field] + 1",
        "census/test_census_measures.py",
    ),
]

FAULTS = OP + COUNTERS
