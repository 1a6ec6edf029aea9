"""Faults of the counters and of the census: a check dropped, maxima merged as minima, a carry lost, ..."""

from tests.mutation.fault import Fault

COUNTS = "units/test_counts.py"
DEFINITIONS = "units/test_definitions.py"
TALLY = "census/test_tally.py"
SLOPES = "census/test_slopes.py"
GRADIENTS = "census/test_gradients.py"

UNITS = [
    Fault(
        "0 fires",
        "units/_tally.py",
        "fired = counted & (z > 0)",
        "fired = counted & (z >= 0)",
        f"{COUNTS}::test_counts_of_a_hand_made_layer",
    ),
    Fault(
        "a NaN in z counts as a unit that is not active",
        "units/_tally.py",
        "finite = jnp.isfinite(z.astype(jnp.float32))",
        "finite = jnp.isfinite(z.astype(jnp.float32)) | jnp.isnan(z)",
        f"{COUNTS}::test_a_non_finite_value_is_counted_once_for_its_sample_and_unit",
    ),
    Fault(
        "a NaN in the gradient is not seen",
        "units/_tally.py",
        "    for values in (output, gradient):\n",
        "    for values in (output,):\n",
        f"{COUNTS}::test_a_non_finite_value_is_counted_once_for_its_sample_and_unit",
    ),
    Fault(
        "padding counts as not finite",
        "units/_tally.py",
        "nonfinite, counted = nonfinite & (place > 0), counted & (place > 0)",
        "counted = counted & (place > 0)",
        f"{COUNTS}::test_padding_is_not_counted_and_takes_no_position",
    ),
    Fault(
        "padding takes a position",
        "units/_tally.py",
        "jnp.cumsum(keep, axis=0, dtype=jnp.uint32)",
        "jnp.arange(1, rows + 1, dtype=jnp.uint32)[:, None]",
        f"{COUNTS}::test_padding_is_not_counted_and_takes_no_position",
    ),
    Fault(
        "positions begin at 0",
        "units/_tally.py",
        "place = row + 1",
        "place = row",
        f"{COUNTS}::test_counts_of_a_hand_made_layer",
    ),
    Fault(
        "a row is counted twice where pieces overlap",
        "units/_tally.py",
        "is_new = row >= seen",
        "is_new = row + 1 >= seen",
        f"{TALLY}::test_narrow_layers_whose_rows_lie_side_by_side",
    ),
    Fault(
        "the greatest of two chunks is their least",
        "units/_tally.py",
        "(jnp.minimum if FIELDS[name] is LEAST else jnp.maximum)",
        "(jnp.minimum if FIELDS[name].holds is None else jnp.maximum)",
        f"{TALLY}::test_relu_equals_numpy",
    ),
    Fault(
        "the greatest of two counts is their least",
        "units/_fields.py",
        "GREATEST = Field(None, -LARGEST, _greatest, lax.pmax)",
        "GREATEST = Field(None, -LARGEST, _least, lax.pmax)",
        f"{TALLY}::test_appending_is_counting_on",
    ),
    Fault(
        "merging forgets the later firing",
        "units/_fields.py",
        "LATEST = Field(Wide, 0, maximum, _latest)",
        "LATEST = Field(Wide, 0, lambda first, second: first, _latest)",
        "units/test_properties.py::test_any_split_and_any_order_of_merging",
    ),
    Fault(
        "devices' extremes are not brought together",
        "units/_fields.py",
        "LEAST = Field(None, LARGEST, _least, lax.pmin)",
        "LEAST = Field(None, LARGEST, _least, lax.pmax)",
        "units/test_all_reduce.py::test_shards_are_counted_as_one_stream",
    ),
    Fault(
        "two figures share a row",
        "units/_fields.py",
        "taken[stack] += 1 if field.holds is None else 2",
        "taken[stack] += 1",
        f"{COUNTS}::test_counts_of_a_hand_made_layer",
    ),
    Fault(
        "a later batch without a firing moves the last firing",
        "units/_counts.py",
        "limb * fired",
        "limb",
        f"{COUNTS}::test_no_samples_change_nothing",
    ),
    Fault(
        "appending forgets what came before",
        "units/_counts.py",
        "counts.replaced(end=counts.end + start, last_fired=last_fired)",
        "counts.replaced(last_fired=last_fired)",
        "census/test_properties.py::test_censuses_add_up_and_the_brackets_do_not_matter",
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
        "units/_wide.py",
        "error = error + (first.low + second.low)",
        "error = first.low + second.low",
        "units/test_properties.py::test_a_long_sum_in_any_order_is_the_same_to_1e_10",
    ),
    Fault(
        "a layer with non-finite values is valid",
        "units/_summary.py",
        "_wide.is_zero(counts.nonfinite) & are_numbers_of_samples(counts)",
        "are_numbers_of_samples(counts)",
        "units/test_properties.py::test_one_non_finite_value_anywhere_makes_the_row_null",
    ),
    Fault(
        "a layer without samples is valid",
        "units/_summary.py",
        "valid = seen & xp.all",
        "valid = xp.all",
        f"{DEFINITIONS}::test_without_samples_nothing_is_claimed",
    ),
    Fault(
        "dormancy is exclusive",
        "units/_summary.py",
        "(score <= tau, applies)",
        "(score < tau, applies)",
        f"{DEFINITIONS}::test_dormancy_is_inclusive",
    ),
    Fault(
        "a leaky unit is called dead",
        "units/_summary.py",
        "(least == 0) & (greatest == 0)",
        "(least >= 0) & (greatest >= 0)",
        "units/test_summary.py::test_dead_is_not_claimed_for_a_leaky_layer",
    ),
    Fault(
        "the mean slope forgets the slope",
        "units/_summary.py",
        "p + least * (1 - p), own",
        "p, own",
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
        "xp.sum(now * (1 - was)), xp.sum(was * (1 - now))",
        "xp.sum(was * (1 - now)), xp.sum(now * (1 - was))",
        "units/test_transitions.py::test_died_revived_and_overlap_on_paper",
    ),
]

CENSUS = [
    Fault(
        "the mean slope of samples with slopes of their own is that of one",
        "units/_summary.py",
        "xp.where(least == greatest, p",
        "xp.where(least <= greatest, p",
        f"{SLOPES}::test_batches_with_slopes_of_their_own",
    ),
    Fault(
        "a slope counts for samples that fired too",
        "units/_tally.py",
        'multiple(samples - fired - seen["nonfinite"], slope)',
        'multiple(samples - seen["nonfinite"], slope)',
        f"{SLOPES}::test_batches_with_slopes_of_their_own",
    ),
    Fault(
        "a branch that is not taken has counts of zeros",
        "_census/_visit.py",
        "== 0, start, stack)",
        "== 0, stack, stack)",
        f"{SLOPES}::test_a_branch_that_is_not_taken_says_nothing_of_its_slope",
    ),
    Fault(
        "gradients of samples that are not finite are counted",
        "_census/_visit.py",
        "nonfinite=counts.nonfinite + _whole(figures[..., 2], figures[..., 3]),",
        "",
        f"{GRADIENTS}::test_a_gradient_that_is_not_finite_makes_the_site_invalid",
    ),
    Fault(
        "the upper part of a gradient's count is lost",
        "_census/_visit.py",
        "return Wide(high >> (32 - _PART), high << _PART) + low",
        "return Wide(high >> (32 - _PART), high) + low",
        f"{GRADIENTS}::test_counts_of_gradients_pass_the_lower_part",
    ),
    Fault(
        "1, True and 1.0 are one argument",
        "_census/_census.py",
        "tuple(map(type, pure.leaves))",
        "()",
        "census/test_programs.py::test_one_and_true_and_one_point_zero_are_three_arguments",
    ),
]
