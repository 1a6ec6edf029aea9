"""Whatever the order, the split and the merging: the same counts. The oracle is NumPy on the whole array."""

import itertools
import math

import jax
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jax_leaky import units
from jax_leaky.units._wide import Wide

ROWS, UNITS = 6, 3
update = jax.jit(units.update)
merge = jax.jit(units.merge)

magnitude = st.floats(2.0**-60, 2.0**60, width=32)
finite = magnitude | magnitude.map(lambda x: -x)
samples = hnp.arrays(np.float32, (ROWS, UNITS), elements=st.sampled_from([0.0, -0.0, 1.0, -1.0]) | finite)
splits = st.lists(st.booleans(), min_size=ROWS - 1, max_size=ROWS - 1)
check = settings(max_examples=40, deadline=None, derandomize=True)


def count(z, gradient, start=0):
    return update(units.init(UNITS, start=start), z, gradient=gradient, negative_slope=0.5)


def integers(counts):
    fields = counts.to_dict().items()
    return {name: value.to_numpy().tobytes() for name, value in fields if isinstance(value, Wide)}


def assert_sums_close(counts, oracle):
    for name, expected in oracle.items():
        pair = getattr(counts, name)
        actual = np.asarray(pair.high, np.float64) + np.asarray(pair.low, np.float64)
        np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=0)


def oracle_sums(z, gradient):
    z, gradient = z.astype(np.float64), gradient.astype(np.float64)
    a = np.where(z > 0, z, z / 2)

    def exact(terms):
        return [math.fsum(column) for column in np.abs(terms).T]

    return {"abs_sum": exact(a), "positive_sum": exact(np.maximum(z, 0)), "grad_sum": exact(gradient)}


@check
@given(samples, samples)
def test_the_counts_are_those_of_the_definitions(z, gradient):
    counts = count(z, gradient)
    expected_last = [max((i + 1 for i in range(ROWS) if z[i, unit] > 0), default=0) for unit in range(UNITS)]
    assert (int(counts.n), int(counts.end), int(counts.grad_n)) == (ROWS, ROWS, ROWS)
    np.testing.assert_array_equal(counts.fired.to_numpy(), (z > 0).sum(0))
    np.testing.assert_array_equal(counts.nonzero.to_numpy(), (z != 0).sum(0))
    np.testing.assert_array_equal(counts.grad_nonzero.to_numpy(), (gradient != 0).sum(0))
    np.testing.assert_array_equal(counts.last_fired.to_numpy(), expected_last)
    np.testing.assert_array_equal(counts.z_min, z.min(0))
    np.testing.assert_array_equal(counts.z_max, z.max(0))
    assert_sums_close(counts, oracle_sums(z, gradient))


@check
@given(samples, samples, splits, st.randoms(use_true_random=False), st.integers(0, 2**63))
def test_any_split_and_any_order_of_merging(z, gradient, cuts, random, start):
    edges = [0, *(i + 1 for i, cut in enumerate(cuts) if cut), ROWS]
    parts = [count(z[low:high], gradient[low:high], start + low) for low, high in itertools.pairwise(edges)]
    while len(parts) > 1:
        random.shuffle(parts)
        parts.append(merge(parts.pop(), parts.pop()))
    assert integers(parts[0]) == integers(count(z, gradient, start))
    assert_sums_close(parts[0], oracle_sums(z, gradient))


@check
@given(samples, st.permutations(range(ROWS)))
def test_the_order_of_samples_matters_to_the_last_firing_alone(z, order):
    first, second = count(z, z), count(z[order], z[order])
    first, second = (counts.replaced(last_fired=first.last_fired) for counts in (first, second))
    assert integers(first) == integers(second)
    assert_sums_close(second, oracle_sums(z, z))


@check
@given(samples, samples)
def test_merging_commutes_to_the_bit(z, other):
    first, second = count(z, z), count(other, other, ROWS)
    for one, two in zip(
        jax.tree.leaves(merge(first, second)), jax.tree.leaves(merge(second, first)), strict=True
    ):
        np.testing.assert_array_equal(one, two)


@check
@given(samples, st.integers(0, ROWS * UNITS - 1), st.sampled_from([np.nan, np.inf, -np.inf]), splits)
def test_one_non_finite_value_anywhere_makes_the_row_null(z, place, bad, cuts):
    z = z.copy()
    z.flat[place] = bad
    edges = [0, *(i + 1 for i, cut in enumerate(cuts) if cut), ROWS]
    counts = units.init(UNITS)
    for low, high in itertools.pairwise(edges):
        counts = update(counts, z[low:high], gradient=z[low:high], negative_slope=0.5)
    summary = units.summarize(counts)
    row = summary.to_dict()
    assert row["nonfinite"] == 1
    assert "invalid" in row["notes"]["layer"]
    assert all(row[name] is None for name in summary.layer)
    assert all(np.isnan(value).all() for value in summary.layer.values())
    assert all(np.isnan(value).all() for value in summary.per_unit.values())


def test_a_long_sum_in_any_order_is_the_same_to_1e_10():
    rng = np.random.default_rng(0)
    z = (np.exp(rng.normal(scale=6, size=(20_000, 1))) * rng.choice([-1, 1], (20_000, 1))).astype(np.float32)
    a = np.where(z > 0, z, z / 2).astype(np.float64)
    expected = math.fsum(np.abs(a[:, 0]))
    for order in (np.arange(20_000), np.argsort(z[:, 0]), rng.permutation(20_000)):
        counts = units.init(1)
        for batch in np.split(z[order], 8):
            counts = update(counts, batch, negative_slope=0.5)
        pair = counts.abs_sum
        assert abs(float(pair.high[0]) + float(pair.low[0]) - expected) < 1e-10 * expected
