"""Every formula of the definitions on arrays whose answer is known on paper."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_leaky import units

# Four samples, four units: one that fires half the time, one never (all negative), one always, one never active at
# 0.
Z = np.float32(
    [[2.0, -1.0, 1.0, 0.0], [-4.0, -3.0, 3.0, -0.0], [6.0, -2.0, 2.0, 0.0], [-8.0, -2.0, 6.0, 0.0]]
)
RELU, LEAKY = 0.0, 0.5


def summary_of(z, slope=0.0, **options):
    counts = units.update(
        units.init(z.shape[-1]), z, negative_slope=slope, gradient=options.pop("gradient", None)
    )
    return units.summarize(counts, **options)


PER_UNIT = [
    ("act_freq", RELU, [0.5, 0, 1, 0]),
    ("dead", RELU, [0, 1, 0, 1]),
    ("dead", LEAKY, [np.nan] * 4),
    ("never_active", RELU, [0, 1, 0, 1]),
    ("never_active", LEAKY, [0, 1, 0, 1]),
    ("always_active", RELU, [0, 0, 1, 0]),
    ("linear", RELU, [0, 1, 1, 1]),
    ("rare", RELU, [0, 1, 0, 1]),
    # ReLU: mean abs(a) is 2, 0, 3, 0; their mean 1.25.
    ("dormant_score", RELU, [1.6, 0, 2.4, 0]),
    ("dormant_pos", RELU, [1.6, 0, 2.4, 0]),
    ("dormant@0", RELU, [0, 1, 0, 1]),
    # Slope 1/2: mean abs(a) is (2 + 2 + 6 + 4)/4 = 3.5, 8/2/4 = 1, 3, 0; their mean 1.875.
    ("dormant_score", LEAKY, [3.5 / 1.875, 1 / 1.875, 1.6, 0]),
    ("dormant@0", LEAKY, [0, 0, 0, 1]),
    ("dormant_pos", LEAKY, [1.6, 0, 2.4, 0]),
    ("dormant_pos@0.1", LEAKY, [0, 1, 0, 1]),
    ("mean_slope", RELU, [0.5, 0, 1, 0]),
    ("mean_slope", LEAKY, [0.75, 0.5, 1, 0.5]),
    ("since_fired", RELU, [1, 4, 0, 4]),
    ("z_min", RELU, [-8, -3, 1, 0]),
    ("z_max", RELU, [6, -1, 6, 0]),
]
LAYER = [
    ("act_freq", RELU, 0.375),
    ("dead", RELU, 0.5),
    ("dead", LEAKY, np.nan),
    ("never_active", LEAKY, 0.5),
    ("always_active", RELU, 0.25),
    ("linear", RELU, 0.75),
    ("rare", RELU, 0.5),
    ("dormant_score", RELU, 0.8),  # the median of 0, 0, 1.6, 2.4
    ("dormant@0", LEAKY, 0.25),
    ("dormant_pos@0", LEAKY, 0.5),
    ("mean_slope", LEAKY, 0.6875),
    ("since_fired", RELU, 4),
    ("rule_of_three", RELU, 0.75),
    ("grad_dead", RELU, np.nan),
    ("grad_score", RELU, np.nan),
]


@pytest.mark.parametrize(("name", "slope", "expected"), PER_UNIT)
def test_measures_of_a_unit(name, slope, expected):
    np.testing.assert_allclose(summary_of(Z, slope).per_unit[name], expected, rtol=2e-7)


@pytest.mark.parametrize(("name", "slope", "expected"), LAYER)
def test_measures_of_a_layer(name, slope, expected):
    np.testing.assert_allclose(summary_of(Z, slope).layer[name], expected, rtol=2e-7)


def test_every_measure_that_is_known_per_unit_is_known_for_the_layer():
    summary = summary_of(Z)
    assert set(summary.layer) - {"rule_of_three"} == set(summary.per_unit) - {"z_min", "z_max"}


@pytest.mark.parametrize(
    ("fired", "n", "rare"), [(0, 100, 1), (1, 100, 0), (1, 101, 1), (9, 1000, 1), (10, 1000, 0)]
)
def test_rare_is_strict_and_decided_in_integers(fired, n, rare):
    z = np.full((n, 1), -1, np.float32)
    z[:fired] = 1
    assert float(summary_of(z).layer["rare"]) == rare


def doubled(counts, times):
    for _ in range(times):
        counts = units.merge(counts, counts)
    return counts


def ones(sign, rows=1):
    return units.update(units.init(1), np.full((rows, 1), sign, np.float32))


@pytest.mark.parametrize("times", [31, 40])
@pytest.mark.parametrize(("extra", "rare"), [(0, 0), (1, 1)])
def test_rare_at_the_very_edge_of_huge_counts(extra, rare, times):
    # 3 x 2^40 firings in 300 x 2^40 samples are not below 0.01; one more sample without a firing makes them so.
    counts = units.merge(doubled(ones(1, 3), times), doubled(ones(-1, 297), times))
    counts = units.merge(counts, ones(-1)) if extra else counts
    assert float(units.summarize(counts).layer["rare"]) == rare


@pytest.mark.parametrize(
    ("share", "fired", "n", "rare"),
    [(0.0, 0, 3, 0), (1.0, 3, 3, 0), (1.0, 2, 3, 1), (0.3, 3, 10, 0), (0.3, 2, 10, 1)],
)
def test_the_bound_of_rare_is_the_decimal_as_written(share, fired, n, rare):
    z = np.where(np.arange(n)[:, None] < fired, 1, -1).astype(np.float32)
    assert float(summary_of(z, rare_below=share).layer["rare"]) == rare


def test_always_active_and_never_active_are_not_fooled_by_rounding():
    # p = 1 - 2^-40 rounds to 1 in float32, and is not always active.
    counts = units.merge(doubled(ones(1), 40), ones(-1))
    summary = units.summarize(counts)
    assert float(summary.layer["act_freq"]) == 1.0
    assert (float(summary.layer["always_active"]), float(summary.layer["linear"])) == (0, 0)


def test_dormancy_is_inclusive():
    z = np.float32([[1.0, 10.0, 19.0]])  # the mean is 10, so the first unit's score is 0.1 exactly as tau is
    assert summary_of(z).per_unit["dormant@0.1"].tolist() == [1, 0, 0]
    assert summary_of(z, taus=(0.09, 0.1)).per_unit["dormant@0.09"].tolist() == [0, 0, 0]
    z = np.float32([[1.0, 40.0, 79.0]])
    assert summary_of(z).per_unit["dormant@0.025"].tolist() == [1, 0, 0]


def test_the_mean_of_the_scores_is_1():
    z = np.random.default_rng(0).normal(size=(50, 7)).astype(np.float32)
    summary = summary_of(z, 0.1, gradient=z)
    for name in ("dormant_score", "dormant_pos", "grad_score"):
        np.testing.assert_allclose(np.mean(summary.per_unit[name]), 1, rtol=1e-6)


@pytest.mark.parametrize("tau", ["0", "0.025", "0.1"])
def test_where_the_layer_is_silent_every_unit_is_dormant(tau):
    summary = summary_of(-np.ones((3, 2), np.float32))
    assert summary.per_unit["dormant_score"].tolist() == [0, 0]
    assert float(summary.layer[f"dormant@{tau}"]) == 1


@pytest.mark.parametrize("scale", [1e38, 1e-30])
def test_scores_do_not_overflow_nor_underflow(scale):
    summary = summary_of(np.float32([[1, 1, 1, 3]]) * np.float32(scale))
    np.testing.assert_allclose(summary.per_unit["dormant_score"], np.float32([2, 2, 2, 6]) / 3, rtol=1e-6)


def test_a_sum_that_overflows_gives_no_score():
    summary = summary_of(np.float32([[3e38, 1.0], [3e38, 1.0]]))
    assert np.isnan(summary.per_unit["dormant_score"]).all()
    assert np.isnan(summary.layer["dormant@0.1"])
    assert float(summary.layer["act_freq"]) == 1


def test_gradients_that_cancel_are_not_dead():
    # Per-sample gradients of a real layer: unit 0's cancel over the batch, unit 1 never passes any.
    x = jnp.float32([[1.0], [1.0]])
    target = jnp.float32([2.0, 0.0])

    def loss(z, target):
        return (jnp.maximum(z, 0).sum() - target) ** 2 / 2

    z = x @ jnp.float32([[1.0, -1.0]])
    gradient = jax.vmap(jax.grad(loss))(z, target)
    assert gradient.sum(0).tolist() == [0, 0]
    summary = summary_of(z, gradient=gradient)
    assert summary.per_unit["grad_dead"].tolist() == [0, 1]
    assert summary.per_unit["grad_score"].tolist() == [2, 0]
    assert float(summary.layer["grad_dead"]) == 0.5
    assert float(summary.layer["grad_score"]) == 1


def test_one_program_serves_every_slope():
    traces = 0

    @jax.jit
    def program(z, slope):
        nonlocal traces
        traces += 1
        return summary_of(z, slope)

    for slope in (0.0, 0.01, 0.5):
        compiled, eager = program(Z, slope), summary_of(Z, slope)
        for one, other in zip(jax.tree.leaves(compiled), jax.tree.leaves(eager), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6)
        assert np.isnan(compiled.layer["dead"]) == (slope != 0)
    assert traces == 1


def test_a_slope_for_each_unit():
    summary = summary_of(Z, np.float32([0, 0, 0.5, 0.5]))
    np.testing.assert_array_equal(summary.per_unit["dead"], [0, 1, np.nan, np.nan])
    np.testing.assert_array_equal(summary.per_unit["mean_slope"], [0.5, 0, 1, 0.5])
    assert np.isnan(summary.layer["dead"])


def test_without_samples_nothing_is_claimed():
    summary = units.summarize(units.init(2))
    assert all(np.isnan(value).all() for value in summary.layer.values())
    assert summary.to_dict()["notes"] == {"layer": "invalid: no sample was seen"}


def test_silence_is_measured_across_batches_and_exactly():
    counts = units.update(units.init(2, start=2**40), np.float32([[1, -1]]))
    counts = units.update(counts, np.full((3, 2), -1, np.float32))
    assert units.summarize(counts).since_fired.to_numpy().tolist() == [3, 2**40 + 4]
    late = units.update(units.init(1, start=2**32 + 5), np.float32([[-1]]))
    early = units.update(units.init(1, start=2**32 - 3), np.float32([[1]]))
    assert units.summarize(units.merge(late, early)).since_fired.to_numpy().tolist() == [8]


@pytest.mark.slow
def test_summaries_of_many_networks_by_vmap():
    stack = jax.vmap(lambda z: units.update(units.init(4), z))(np.stack([Z, -Z]))
    summaries = jax.vmap(units.summarize)(stack)
    np.testing.assert_array_equal(summaries.layer["never_active"], [0.5, 0.5])
    np.testing.assert_array_equal(summaries.per_unit["always_active"], [[0, 0, 1, 0], [0, 1, 0, 0]])
