from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from jax_leaky import units
from jax_leaky.units._wide import Pair, Wide

Z = (np.exp(np.random.default_rng(0).normal(scale=4, size=(32, 3))) * [1, -1, 1]).astype(np.float32)
Z[::3] *= -1


@pytest.fixture(scope="module")
def mesh():
    assert jax.device_count() >= 4
    return jax.make_mesh((4,), ("data",), (AxisType.Auto,), devices=jax.devices()[:4])


def assert_equal_counts(actual, expected):
    for name, value in expected.to_dict().items():
        other = getattr(actual, name)
        if isinstance(value, Wide):
            np.testing.assert_array_equal(other.to_numpy(), value.to_numpy(), err_msg=name)
        elif isinstance(value, Pair):
            first = np.asarray(other.high, np.float64) + np.asarray(other.low, np.float64)
            second = np.asarray(value.high, np.float64) + np.asarray(value.low, np.float64)
            np.testing.assert_allclose(first, second, rtol=1e-12, err_msg=name)
        else:
            np.testing.assert_array_equal(other, value, err_msg=name)


def test_shards_are_counted_as_one_stream(mesh):
    @jax.jit
    @partial(jax.shard_map, mesh=mesh, in_specs=P("data"), out_specs=P())
    def count(z):
        start = lax.axis_index("data") * z.shape[0]
        counts = units.update(units.init(3, start=start), z, gradient=z, negative_slope=0.5)
        return units.all_reduce(counts, "data")

    whole = units.update(units.init(3), Z, gradient=Z, negative_slope=0.5)
    assert_equal_counts(count(Z), whole)
    # What was counted before is merged with what all devices counted since.
    assert int(units.merge(whole, count(Z)).n) == 64


def test_every_device_holds_the_same_bits(mesh):
    @jax.jit
    @partial(jax.shard_map, mesh=mesh, in_specs=P("data"), out_specs=P("data"), check_vma=False)
    def count(z):
        counts = units.all_reduce(units.update(units.init(3), z), "data")
        return jax.tree.map(lambda leaf: leaf[None], counts)

    for leaf in jax.tree.leaves(count(Z)):
        assert leaf.shape[0] == 4
        assert len({np.asarray(row).tobytes() for row in leaf}) == 1


def test_a_summary_inside_shard_map(mesh):
    @jax.jit
    @partial(jax.shard_map, mesh=mesh, in_specs=P("data"), out_specs=P())
    def summarize(z):
        return units.summarize(units.all_reduce(units.update(units.init(3), z), "data"))

    expected = units.summarize(units.update(units.init(3), Z)).to_dict()
    actual = summarize(Z).to_dict()
    assert {**actual, "since_fired": 0} == {**expected, "since_fired": 0}  # no start was given: no one stream


def test_over_two_mesh_axes():
    mesh = jax.make_mesh((2, 2), ("replica", "data"), (AxisType.Auto,) * 2, devices=jax.devices()[:4])

    @jax.jit
    @partial(jax.shard_map, mesh=mesh, in_specs=P(("replica", "data")), out_specs=P())
    def count(z):
        return units.all_reduce(units.update(units.init(3), z), ("replica", "data"))

    whole = units.update(units.init(3), Z)
    assert_equal_counts(count(Z).replaced(end=whole.end, last_fired=whole.last_fired), whole)


@jax.jit
@partial(jax.vmap, axis_name="d", out_axes=None)
def all_reduced(counts):
    return units.all_reduce(counts, "d")


def test_the_sum_of_limbs_carries():
    @jax.jit
    def doubled(times):
        counts = units.update(units.init(1), np.ones((3, 1), np.float32))
        return jax.lax.fori_loop(0, times, lambda _, counts: units.merge(counts, counts), counts)

    # Four devices with 3 x 2^31, 3 x 2^31, 3 x 2^30 and 3 x 2^60: the lower limbs alone pass 2^32 three times
    # over.
    parts = [doubled(times) for times in (31, 31, 30, 60)]
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts)
    reduced = all_reduced(stack)
    expected = 3 * (2 * 2**31 + 2**30 + 2**60)
    assert int(reduced.n) == expected
    assert reduced.fired.to_numpy().tolist() == [expected]


def test_the_latest_position_wins_in_both_limbs():
    starts = (5, 2**32 + 1, 2**32 + 7, 2**32 - 5)
    parts = [units.update(units.init(1, start=start), np.ones((1, 1), np.float32)) for start in starts]
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts)
    reduced = all_reduced(stack)
    assert (int(reduced.end), reduced.last_fired.to_numpy().tolist()) == (2**32 + 8, [2**32 + 8])


def test_float_sums_keep_what_float32_drops():
    # 2^24 and three ones: a float32 sum over the devices gives 2^24 or 2^24 + 2 or 4, as the order falls.
    z = np.float32([[2.0**24], [1.0], [1.0], [1.0]])

    def count(z):
        return units.all_reduce(units.update(units.init(1), z), "d")

    pair = jax.vmap(count, axis_name="d", out_axes=None)(z).abs_sum
    assert float(pair.high[0]) + float(pair.low[0]) == 2**24 + 3


def test_a_non_finite_value_on_one_device_is_seen_on_all(mesh):
    z = Z.copy()
    z[9, 1] = np.nan

    @jax.jit
    @partial(jax.shard_map, mesh=mesh, in_specs=P("data"), out_specs=P())
    def count(z):
        return units.all_reduce(units.update(units.init(3), z), "data")

    assert units.summarize(count(z)).to_dict()["notes"] == {"layer": "invalid: 1 non-finite value"}


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("masked", [False, True])
def test_sharded_arrays_need_no_call(axis_type, masked):
    mesh = jax.make_mesh((4,), ("data",), (axis_type,), devices=jax.devices()[:4])
    z, where = Z.reshape(4, 2, 4, 3), np.arange(32).reshape(4, 2, 4) % 5 > 0
    sharded, sharded_where = jax.device_put((z, where), jax.NamedSharding(mesh, P("data")))
    actual = jax.jit(units.update)(
        units.init(3), sharded, gradient=sharded, where=sharded_where if masked else None
    )
    expected = units.update(units.init(3), z, gradient=z, where=where if masked else None)
    assert_equal_counts(actual, expected)
    assert units.summarize(actual).to_dict() == units.summarize(expected).to_dict()


# What goes over the arrays as if they were numbers, and is no count any more.
NO_COUNTS = {
    "psum": lambda counts: lax.psum(counts, "d"),
    "pmean": lambda counts: lax.pmean(counts, "d"),
    "added": lambda counts: jax.tree.map(jnp.add, counts, counts),
    "zeros": lambda counts: jax.tree.map(jnp.zeros_like, counts),
    "psum, then merged": lambda counts: units.merge(counts, lax.psum(counts, "d")),
    "psum, then reduced": lambda counts: units.all_reduce(lax.psum(counts, "d"), "d"),
}


def test_counts_that_were_taken_for_numbers_are_refused():
    z = Z.reshape(4, 8, 3)

    @jax.jit
    @partial(jax.vmap, axis_name="d")
    def spoilt(z):
        counts = units.update(units.init(3), z)
        found = {name: spoil(counts) for name, spoil in NO_COUNTS.items()}
        measured = {name: units.summarize(found[name]).layer["act_freq"] for name in found if name != "pmean"}
        return found, measured

    found, measured = spoilt(z)
    for name, counts in found.items():
        for read in (lambda one: one.fired, lambda one: one.z_min, units.summarize):
            with pytest.raises(ValueError, match="Bring the shares of devices together by all_reduce"):
                read(jax.tree.map(lambda leaf: leaf[0], counts))
        if name in measured:  # in a trace no one can raise: there is no measure
            assert np.isnan(measured[name]).all(), name


def test_an_unknown_axis_gets_one_sentence():
    with pytest.raises(NameError, match="axis_name='batch' names no axis here: call all_reduce inside"):
        units.all_reduce(units.init(3), "batch")
