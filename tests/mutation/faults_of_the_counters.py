"""Faults of the counters and of the census: a check dropped, maxima merged as minima, a carry lost, ..."""

from tests.mutation.fault import Fault

COUNTS = "units/test_counts.py"
DEFINITIONS = "units/test_definitions.py"
TALLY = "census/test_tally.py"

UNITS = [
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
        "units/test_properties.py::test_the_counts_are_those_of_the_definitions",
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
        "units/test_properties.py::test_any_split_and_any_order_of_merging",
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
        "units/test_properties.py::test_a_long_sum_in_any_order_is_the_same_to_1e_10",
    ),
    Fault(
        "a layer with non-finite values is valid",
        "units/_definitions.py",
        "valid = ~_wide.is_zero(counts.n) & jnp.all(_wide.is_zero(counts.nonfinite))",
        "valid = ~_wide.is_zero(counts.n)",
        "units/test_properties.py::test_one_non_finite_value_anywhere_makes_the_row_null",
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
        "units/test_summary.py::test_dead_is_not_claimed_for_a_leaky_layer",
    ),
    Fault(
        "the mean slope forgets the slope",
        "units/_definitions.py",
        '"mean_slope": p + slope * (1 - p)',
        '"mean_slope": p',
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
        "units/test_transitions.py::test_died_revived_and_overlap_on_paper",
    ),
]

CENSUS = [
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
        "census/test_properties.py::test_censuses_add_up_and_the_brackets_do_not_matter",
    ),
    Fault(
        "what is packed is unpacked in another order",
        "_census/_packed.py",
        "index, taken[field] = taken[field], taken[field] + 1",
        "index, taken[field] = -1 - taken[field], taken[field] + 1",
        "census/test_measures.py",
    ),
]
