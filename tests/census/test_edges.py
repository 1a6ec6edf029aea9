"""No sample, no unit, a symbolic number of samples, and what one may try to add up."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from jax_leaky import Census, census, value_and_census

X = np.random.default_rng(5).normal(size=(30, 6)).astype(np.float32)


def layer(x: jax.Array) -> jax.Array:
    with jax.named_scope("layer"):
        return jax.nn.relu(x)


@pytest.mark.parametrize("activation", [jax.nn.relu, jax.nn.gelu, lambda x: jax.nn.leaky_relu(x, 0.1)])
@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
def test_an_empty_batch_counts_no_sample(activation: object, order: slice) -> None:
    batches = [X, X[:0]][order]
    (found,) = census(activation, batches)  # type: ignore[arg-type] # one of the above
    assert found.n == 30
    np.testing.assert_array_equal(found.counts.fired.to_numpy(), (X > 0).sum(0))
    np.testing.assert_array_equal(found.per_unit("z_min"), X.min(0))
    np.testing.assert_array_equal(found.per_unit("z_max"), X.max(0))


def test_only_empty_batches_make_the_site_invalid() -> None:
    for found in (census(layer, X[:0]), value_and_census(layer)(jnp.asarray(X[:0]))[1]):
        (site,) = found
        assert (site.n, site.units, site.invalid) == (0, 6, "invalid: no sample was seen")


def test_an_empty_batch_has_no_gradient() -> None:
    (found,) = census(lambda x: jnp.sum(layer(x)), [X, X[:0]], gradients=True)
    np.testing.assert_array_equal(found.counts.grad_nonzero.to_numpy(), (X > 0).sum(0))


@pytest.mark.parametrize("count", [lambda fn, x: census(fn, [x]), lambda fn, x: value_and_census(fn)(x)[1]])
def test_a_site_with_no_unit_is_left_out_and_listed(count: object) -> None:
    x = jnp.asarray(X)
    with pytest.raises(ValueError, match=r"input of layer/relu has the shape \(30, 0\), which has no units"):
        count(layer, x[:, :0])  # type: ignore[operator] # one of the above
    found = count(lambda x: layer(x).sum() + jnp.sum(jax.nn.gelu(x[:, :0])), x)  # type: ignore[operator] # as above
    assert list(found.sites) == ["layer/relu"]
    assert [part.why for part in found.opaque] == ["its input has the shape (30, 0)"]


@pytest.mark.parametrize("activation", [jax.nn.relu, jax.nn.gelu, lambda x: jax.nn.leaky_relu(x, 0.1)])
def test_a_symbolic_number_of_samples(activation: object) -> None:
    def fired(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        counts = next(iter(value_and_census(activation)(x)[1])).counts  # type: ignore[arg-type] # one of the above
        return counts.n.low, counts.fired.low, counts.last_fired.low

    (batch,) = export.symbolic_shape("batch")
    exported = export.export(jax.jit(fired))(jax.ShapeDtypeStruct((batch, 6), jnp.float32))
    for x in (X, X[:7]):
        n, found, last = exported.call(x)
        assert int(n) == len(x)
        np.testing.assert_array_equal(found, (x > 0).sum(0))
        np.testing.assert_array_equal(last, np.where((x > 0).any(0), len(x), 0))


def test_sum_adds_up_censuses() -> None:
    parts = [census(layer, X[:10]), census(layer, X[10:]), census(layer, X)]
    total = sum(parts)
    assert isinstance(total, Census)
    np.testing.assert_array_equal(total["layer/relu"].counts.fired.to_numpy(), 2 * (X > 0).sum(0))
    with pytest.raises(TypeError):
        sum(parts, 1)
    with pytest.raises(TypeError):
        "" + parts[0]  # type: ignore[operator] # the error is what is tested


def test_censuses_that_differ_in_rare_below_do_not_add_up() -> None:
    one, other = census(layer, X), census(layer, X, rare_below=0.1)
    with pytest.raises(ValueError, match=r"rare_below is 0.01 in one census and 0.1 in the other"):
        one + other


def test_a_tuple_of_batches_is_told_from_a_list() -> None:
    with pytest.raises(TypeError, match="A tuple is one batch of several arguments: give a list of batches"):
        census(layer, (X, X))
    with pytest.raises(TypeError) as raised:
        census(layer, [(X, X)])
    assert "list of batches" not in str(raised.value)


@pytest.mark.parametrize(("n", "share"), [(1, "100 %"), (3, "100 %"), (4, "75 %"), (30, "10 %")])
def test_a_few_samples_exclude_no_more_than_all(n: int, share: str) -> None:
    note = next(line for line in str(census(layer, X[:n])).splitlines() if line.startswith("never active on"))
    assert (
        note
        == f"never active on n = {n} sample{'s' * (n > 1)}: active on less than 3/n = {share} of all, at 95 %"
    )
