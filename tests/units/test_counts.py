import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax

from jax_leaky import units
from jax_leaky.units._wide import Wide

# Three units, five samples. Unit 0 fires on samples 0 and 3, unit 1 never (its zeros are 0 and -0), unit 2
# always.
Z = np.array(
    [[1.0, -1.0, 2.0], [-2.0, 0.0, 0.5], [0.0, -0.0, 1.0], [3.0, -4.0, 4.0], [-1.0, -2.0, 0.25]], np.float32
)


def integers(counts):
    fields = counts.to_dict().items()
    return {name: value.to_numpy().tolist() for name, value in fields if isinstance(value, Wide)}


def total(pair):
    return np.asarray(pair.high, np.float64) + np.asarray(pair.low, np.float64)


def assert_same_bits(first, second):
    for one, other in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        assert one.dtype == other.dtype
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


def test_counts_of_a_hand_made_layer():
    counts = units.update(units.init(3), Z)
    assert integers(counts) == {
        "n": 5,
        "nonfinite": [0, 0, 0],
        "fired": [2, 0, 5],
        "nonzero": [2, 0, 5],
        "end": 5,
        "last_fired": [4, 0, 5],
        "grad_n": 0,
        "grad_nonzero": [0, 0, 0],
    }
    np.testing.assert_array_equal(total(counts.abs_sum), [4.0, 0.0, 7.75])
    np.testing.assert_array_equal(total(counts.positive_sum), [4.0, 0.0, 7.75])
    np.testing.assert_array_equal(counts.z_min, [-2.0, -4.0, 0.25])
    np.testing.assert_array_equal(counts.z_max, [3.0, 0.0, 4.0])


def test_the_default_output_is_the_leaky_relu():
    counts = units.update(units.init(3), Z, negative_slope=0.5)
    np.testing.assert_array_equal(total(counts.abs_sum), [4.0 + 1.5, 3.5, 7.75])
    np.testing.assert_array_equal(total(counts.positive_sum), [4.0, 0.0, 7.75])
    assert counts.nonzero.to_numpy().tolist() == [4, 3, 5]


def test_units_along_two_axes_are_counted_as_if_they_lay_last():
    z = np.random.default_rng(2).normal(size=(2, 3, 5, 3)).astype(np.float32)
    keep, slope = np.arange(10).reshape(2, 5) % 3 > 0, np.linspace(0, 0.5, 9).reshape(3, 3)
    counts = units.update(
        units.init((3, 3)), z, gradient=z - 0.5, where=keep, negative_slope=slope, unit_axis=(1, -1)
    )
    last = np.moveaxis(z, 1, 2).reshape(10, 9)
    expected = units.update(
        units.init(9), last, gradient=last - 0.5, where=keep.ravel(), negative_slope=slope.ravel()
    )
    assert_same_bits(counts, expected)
    assert units.summarize(counts).units_to_dict((3, 3))["unit"][4] == [1, 1]
    with pytest.raises(ValueError, match=r"unit_shape=\(2, 3\) is not that of the 9 units"):
        units.summarize(counts).units_to_dict((2, 3))
    with pytest.raises(ValueError, match=r"unit_axis=\(1, 1\) are no different axes of z, whose shape is"):
        units.update(counts, z, unit_axis=(1, 1))
    with pytest.raises(ValueError, match=r"counts holds 9 units: \(3, 5\) lie along unit_axis=\(1, 2\)"):
        units.update(counts, z, unit_axis=(1, 2))


def test_a_slope_for_each_unit():
    counts = units.update(units.init(3), Z, negative_slope=np.array([0.0, 1.0, 0.5]))
    np.testing.assert_array_equal(total(counts.abs_sum), [4.0, 7.0, 7.75])


def test_a_given_output_is_taken_as_it_is():
    counts = units.update(units.init(3), Z, np.tile(np.float32([0.0, -3.0, 1.0]), (5, 1)), negative_slope=0.5)
    np.testing.assert_array_equal(total(counts.abs_sum), [0.0, 15.0, 5.0])
    assert counts.nonzero.to_numpy().tolist() == [0, 5, 5]
    assert counts.fired.to_numpy().tolist() == [2, 0, 5]


def test_every_position_of_a_convolution_is_a_sample():
    z = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    counts = units.update(units.init(5), z)
    assert int(counts.n) == 24
    np.testing.assert_array_equal(counts.fired.to_numpy(), (z > 0).sum((0, 1, 2)))
    one_sample = units.update(units.init(5), z[0, 0, 0])
    assert int(one_sample.n) == 1


def test_no_samples_change_nothing():
    counts = units.update(units.init(3), Z)
    assert_same_bits(units.update(counts, Z[:0]), counts)


def test_padding_is_not_counted_and_takes_no_position():
    padded = np.insert(Z, [0, 2, 5], np.nan, axis=0)
    where = ~np.isnan(padded[:, 0])
    assert_same_bits(units.update(units.init(3), padded, where=where), units.update(units.init(3), Z))
    images = np.stack([Z, Z + 1])[:, :, None, :]
    counts = units.update(units.init(3), images, where=np.array([True, False])[:, None, None])
    assert_same_bits(counts, units.update(units.init(3), Z))


def test_gradients_are_counted_sample_by_sample():
    # Unit 0's gradients cancel in the sum over the batch; unit 1's are exactly 0.
    gradient = np.float32([[1.0, 0.0, 0.5], [-1.0, -0.0, 0.0]])
    counts = units.update(units.init(3), Z[:2], gradient=gradient)
    counts = units.update(counts, Z[2:])
    assert (int(counts.n), int(counts.grad_n)) == (5, 2)
    assert counts.grad_nonzero.to_numpy().tolist() == [2, 0, 1]
    np.testing.assert_array_equal(total(counts.grad_sum), [2.0, 0.0, 0.5])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", ["z", "a", "gradient"])
def test_a_non_finite_value_is_counted_once_for_its_sample_and_unit(bad, place):
    arrays = {"z": Z.copy(), "a": np.maximum(Z, 0), "gradient": np.ones_like(Z)}
    arrays[place][3, 0] = bad
    counts = units.update(units.init(3), arrays["z"], arrays["a"], gradient=arrays["gradient"])
    assert counts.nonfinite.to_numpy().tolist() == [1, 0, 0]
    assert counts.fired.to_numpy().tolist() == [1, 0, 5]
    assert int(counts.n) == 5
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(counts))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float8_e4m3fn])
def test_narrow_inputs_are_summed_in_float32(dtype):
    # In bfloat16 the sum would stop at 256, in float16 at 2048.
    z = jnp.ones((5000, 2), dtype).at[:, 1].set(-0.5)
    counts = units.update(units.init(2), z, negative_slope=0.5)
    np.testing.assert_array_equal(total(counts.abs_sum), [5000.0, 1250.0])
    assert counts.fired.to_numpy().tolist() == [5000, 0]
    assert counts.abs_sum.high.dtype == jnp.float32


def test_double_precision_is_compared_as_such_and_counts_keep_their_types():
    with jax.enable_x64(True):
        z = jnp.array([[1e-60, -1e-60, 1e60]])
        assert z.dtype == jnp.float64
        counts = units.update(units.init(3, start=jnp.int64(2**33)), z)
    assert counts.fired.to_numpy().tolist() == [1, 0, 0]
    assert counts.nonzero.to_numpy().tolist() == [1, 0, 0]
    assert counts.nonfinite.to_numpy().tolist() == [0, 0, 1]  # beyond what float32 sums can hold
    assert int(counts.end) == 2**33 + 1
    assert {leaf.dtype for leaf in jax.tree.leaves(counts)} == {jnp.dtype("uint32"), jnp.dtype("float32")}


def test_the_start_of_a_shard_places_its_samples():
    whole = units.update(units.init(3), Z)
    left, right = units.update(units.init(3), Z[:2]), units.update(units.init(3, start=2), Z[2:])
    assert integers(units.merge(left, right)) == integers(units.merge(right, left)) == integers(whole)
    after = units.update(units.init(3, start=left.end), Z[2:])
    assert integers(units.merge(after, left)) == integers(whole)


def test_start_at_the_far_end_of_the_stream():
    counts = units.update(units.init(1, start=2**64 - 2), np.float32([[1.0]]))
    assert (int(counts.end), int(counts.last_fired.to_numpy()[0])) == (2**64 - 1, 2**64 - 1)
    counts = units.update(units.init(1, start=2**32 - 1), np.float32([[1.0], [1.0], [-1.0]]))
    assert (int(counts.end), int(counts.last_fired.to_numpy()[0])) == (2**32 + 2, 2**32 + 1)


def test_counts_pass_2_to_the_32_without_overflow():
    counts = units.update(units.init(3), Z, gradient=np.ones_like(Z))
    for _ in range(40):
        counts = units.merge(counts, counts)
    assert int(counts.n) == 5 * 2**40
    assert counts.fired.to_numpy().tolist() == [2 * 2**40, 0, 5 * 2**40]
    assert int(counts.grad_n) == 5 * 2**40
    np.testing.assert_array_equal(total(counts.abs_sum), np.array([4.0, 0.0, 7.75]) * 2**40)
    summary = units.summarize(counts)
    np.testing.assert_array_equal(summary.per_unit["always_active"], [0, 0, 1])


def test_the_carry_at_the_edge_of_the_lower_limb():
    counts = units.update(units.init(1), np.ones((1, 1), np.float32))
    for _ in range(32):
        counts = units.merge(counts, counts)
    less_one = units.init(1)
    for power in range(32):  # 1 + 2 + ... + 2^31 = 2^32 - 1
        part = units.update(units.init(1), np.ones((1, 1), np.float32))
        for _ in range(power):
            part = units.merge(part, part)
        less_one = units.merge(less_one, part)
    assert (int(counts.n), int(less_one.n)) == (2**32, 2**32 - 1)
    assert int(units.update(less_one, np.ones((3, 1), np.float32)).n) == 2**32 + 2
    assert int(units.merge(less_one, less_one).n) == 2**33 - 2


def test_the_same_under_jit_and_in_a_scan():
    whole = units.update(units.init(3), Z, gradient=Z)
    assert_same_bits(jax.jit(units.update)(units.init(3), Z, gradient=Z), whole)

    @jax.jit
    def stream(batches):
        return lax.scan(
            lambda counts, z: (units.update(counts, z, gradient=z), None), units.init(3), batches
        )[0]

    assert_same_bits(stream(Z[:, None]), whole)


def test_vmap_over_networks():
    z = np.stack([Z, -Z, Z * 2])
    stack = jax.jit(jax.vmap(lambda z: units.update(units.init(3), z)))(z)
    for index in range(3):
        one = jax.tree.map(lambda leaf, index=index: leaf[index], stack)
        assert_same_bits(one, units.update(units.init(3), z[index]))
    both = jax.jit(jax.vmap(units.merge))(stack, stack)
    assert both.n.to_numpy().tolist() == [10, 10, 10]


def test_the_slope_may_be_traced():
    compiled = jax.jit(lambda slope: units.update(units.init(3), Z, negative_slope=slope))
    assert_same_bits(compiled(0.5), units.update(units.init(3), Z, negative_slope=0.5))
    assert_same_bits(compiled(0.0), units.update(units.init(3), Z))


def test_counting_inside_a_loss_leaves_its_gradient_alone():
    def loss(z, counts):
        return jnp.sum(z**2), units.update(counts, z, negative_slope=z[0, 0], gradient=z)

    gradient, counts = jax.grad(loss, has_aux=True)(jnp.asarray(Z), units.init(3))
    np.testing.assert_array_equal(gradient, 2 * Z)
    assert int(counts.n) == 5


@pytest.mark.parametrize("rank", ["raise"])
def test_no_implicit_promotion(rank):
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion(rank):
        counts = units.update(units.init(3), Z, negative_slope=0.5, gradient=Z, where=np.ones(5, bool))
        units.summarize(units.merge(counts, counts))


def test_the_arguments_are_not_changed():
    before = units.init(3)
    units.update(before, Z)
    assert int(before.n) == 0


def test_merging_adds_the_non_finite_values_of_both():
    bad = Z.copy()
    bad[1, 2] = np.nan
    sound, broken = units.update(units.init(3), Z), units.update(units.init(3), bad)
    for first, second in ((sound, broken), (broken, sound)):
        assert units.merge(first, second).nonfinite.to_numpy().tolist() == [0, 0, 1]
    assert units.merge(broken, broken).nonfinite.to_numpy().tolist() == [0, 0, 2]


def test_a_symbolic_number_of_samples():
    batch, length = export.symbolic_shape("batch, length")

    @jax.jit
    def count(z, keep):
        counts = units.update(units.init(3), z, where=keep[:, None], negative_slope=0.5)
        return counts, units.constant_output(z[:, 0])

    spec = (jax.ShapeDtypeStruct((batch, length, 3), "float32"), jax.ShapeDtypeStruct((batch,), "bool"))
    z, keep = np.stack([Z, -Z, 2 * Z, 0 * Z]), np.array([True, False, True, True])
    counts, constant = export.export(count)(*spec).call(z, keep)
    kept = z[keep].reshape(-1, 3)
    assert int(counts.n) == len(kept)
    np.testing.assert_array_equal(counts.fired.to_numpy(), (kept > 0).sum(0))
    np.testing.assert_array_equal(counts.nonzero.to_numpy(), (kept != 0).sum(0))
    np.testing.assert_allclose(total(counts.abs_sum), np.where(kept > 0, kept, -0.5 * kept).sum(0), rtol=1e-6)
    assert float(constant) == 0.0


def test_counts_without_a_number_of_samples_are_printed_by_their_units():
    counts, gone = units.init(2), jax.tree.map(jnp.array, units.init(2))
    gone.scalars.delete()
    for without in (
        jax.eval_shape(lambda: counts),
        jax.tree.map(jnp.add, counts, counts),
        jax.tree.map(lambda leaf: leaf.astype(jnp.float32), counts),
        gone,
    ):
        assert repr(without) == "<UnitCounts: 2 units>"
    assert repr(jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), counts)) == "<UnitCounts: 3 x 2 units>"
    assert repr(jax.tree.map(jnp.sum, counts)).startswith("UnitCounts(whole=")
    assert repr(counts) == "<UnitCounts: 2 units, n = 0>"
