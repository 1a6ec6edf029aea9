"""Sharded over four devices, a census counts the same."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jax_leaky import Census, census, value_and_census

X = np.random.default_rng(4).normal(size=(3, 8, 5, 5, 2)).astype(np.float32)


class CNN(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(nn.Conv(6, (3, 3))(x))
        return nn.Dense(1)(nn.leaky_relu(nn.Dense(6)(x.mean((1, 2))), 0.1))


MODEL = CNN()
VARIABLES = jax.jit(MODEL.init)(jax.random.key(0), X[0])
FN = functools.partial(MODEL.apply, VARIABLES)


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
def test_the_counts_of_a_mesh_are_those_of_one_device(axis_type: AxisType) -> None:
    mesh = jax.make_mesh((4,), ("data",), axis_types=(axis_type,))
    alone = census(FN, list(X))
    placed = [jax.device_put(x, NamedSharding(mesh, P("data"))) for x in X]
    with jax.set_mesh(mesh):
        variables = jax.device_put(VARIABLES, NamedSharding(mesh, P()))
        found = census(functools.partial(MODEL.apply, variables), placed)
    for one, other in zip(alone, found, strict=True):
        for name in ("fired", "nonzero", "nonfinite", "last_fired", "n"):
            ours, theirs = (getattr(site.counts, name).to_numpy() for site in (one, other))
            np.testing.assert_array_equal(ours, theirs, err_msg=name)
        np.testing.assert_allclose(one.counts.abs_sum.high, other.counts.abs_sum.high, rtol=1e-5)


def test_a_sharded_training_step_counts_the_same() -> None:
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    counted = jax.jit(value_and_census(MODEL.apply))
    placed = jax.device_put(X[0], NamedSharding(mesh, P("data")))
    alone, spread = counted(VARIABLES, jnp.asarray(X[0]))[1], counted(VARIABLES, placed)[1]
    for one, other in zip(alone, spread, strict=True):
        np.testing.assert_array_equal(one.counts.fired.to_numpy(), other.counts.fired.to_numpy())


SLOPES = jnp.array([0.1, 0.2, 0.3, 0.4])
BATCH = np.random.default_rng(9).normal(size=(32, 6)).astype(np.float32)
WEIGHTS = np.random.default_rng(8).normal(size=(6, 6)).astype(np.float32)
BATCH[:, 4], WEIGHTS[4, :] = 0, 0
BATCH[:, 5], WEIGHTS[5] = 1, [-9, 0, 0, 0, 0, 0]


def of_all_devices(how: str) -> Census:
    """The census of a batch that is spread over four devices, each with a slope of its own."""

    def share(x: jax.Array, slope: jax.Array) -> Census:
        def layers(x: jax.Array) -> jax.Array:
            def layer(x: jax.Array, w: jax.Array) -> tuple[jax.Array, None]:
                z = x @ w
                return jnp.where(z > 0, z, slope.reshape(()) * z), None

            return jax.lax.scan(layer, jnp.tanh(x), jnp.stack([jnp.asarray(WEIGHTS), jnp.eye(6)]))[0]

        return value_and_census(layers)(x)[1].all_reduce("d")

    if how == "pmap":
        found = jax.pmap(share, axis_name="d")(BATCH.reshape(4, 8, 6), SLOPES)
        return jax.tree.map(lambda leaf: leaf[0], found)
    mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Auto,))
    mapped = functools.partial(jax.shard_map, mesh=mesh, in_specs=P("d"), out_specs=P())
    return jax.jit(mapped(share, check_vma=how == "shard_map"))(BATCH, SLOPES)


@pytest.mark.parametrize(
    "how",
    [
        "shard_map",
        pytest.param("shard_map without types", marks=pytest.mark.slow),
        pytest.param("pmap", marks=pytest.mark.slow),
    ],
)
def test_the_shares_of_devices_come_together_as_numpy_counts_the_batch(how: str) -> None:
    found = of_all_devices(how)
    slope = np.repeat(np.asarray(SLOPES, np.float64), 8)[:, None]
    a = np.tanh(BATCH.astype(np.float64))
    sites = [site for site in found if site.kind != "tanh"]
    assert len(sites) == 2
    for site, w in zip(sites, [WEIGHTS.astype(np.float64), np.eye(6)], strict=True):
        z = a @ w
        a = np.where(z > 0, z, slope * z)
        assert site.n == 32
        np.testing.assert_array_equal(site.per_unit("act_freq"), (z > 0).mean(0).astype(np.float32))
        expected = np.where(z > 0, 1, slope).mean(0)
        np.testing.assert_allclose(site.per_unit("mean_slope"), expected, rtol=1e-6)
        np.testing.assert_allclose(site.counts.slope_min, 0.1, rtol=1e-6)
        np.testing.assert_allclose(site.counts.slope_max, 0.4, rtol=1e-6)
        np.testing.assert_allclose(site.counts.abs_sum.high, np.abs(a).sum(0), rtol=1e-5)
        # Known to a device's batch of 8: the last device on which the unit fires.
        last = [8 * (1 + max(np.flatnonzero(column) // 8, default=-1)) for column in (z > 0).T]
        np.testing.assert_array_equal(site.counts.last_fired.to_numpy(), last)


def own(x: jax.Array) -> Census:
    return value_and_census(jax.nn.relu)(x)[1]


COLLECTIVES = {
    "psum": jax.lax.psum,
    "pmean": jax.lax.pmean,
    "pmax": jax.lax.pmax,
    "pmin": jax.lax.pmin,
    "pmax, then all_reduce": lambda found, axis: jax.lax.pmax(found, axis).all_reduce(axis),
    "pmax, then added up": lambda found, axis: jax.lax.pmax(found, axis) + found.all_reduce(axis),
}


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(how, marks=[pytest.mark.slow] * (how not in ("psum", "pmean", "pmax")))
        for how in COLLECTIVES
    ],
)
def test_a_census_over_which_a_collective_went_refuses_to_be_read(how: str) -> None:
    @functools.partial(jax.vmap, axis_name="d")
    def mistaken(x: jax.Array) -> tuple[Census, dict[str, jax.Array]]:
        found = COLLECTIVES[how](own(x), "d")
        return found, found.scalars() if how == "pmax" else {}

    found, scalars = jax.tree.map(lambda leaf: leaf[0], jax.jit(mistaken)(BATCH.reshape(4, 8, 6)))
    for read in (
        str,
        Census.scalars,
        Census.to_json,
        lambda census: next(iter(census)).where("never_active"),
    ):
        with pytest.raises(ValueError, match=r"psum.*Bring the shares of devices together by all_reduce"):
            read(found)
    assert np.isnan(list(scalars.values())).all()


@pytest.mark.parametrize("how", ["side by side", "copies", "layers side by side"])
def test_shares_that_nothing_brought_together_refuse_to_be_read(how: str) -> None:
    def layers(x: jax.Array) -> Census:
        weights = jnp.asarray(np.stack([WEIGHTS, WEIGHTS]))
        deep = value_and_census(
            lambda x: jax.lax.scan(lambda h, w: (jax.nn.relu(h @ w), None), x, weights)[0]
        )
        return deep(x)[1]

    mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Auto,))
    spec = P() if how == "copies" else P("d")
    count = layers if how.startswith("layers") else own
    mapped = jax.shard_map(count, mesh=mesh, in_specs=P("d"), out_specs=spec, check_vma=how != "copies")
    found = jax.jit(mapped)(BATCH)
    reason = "differ from device to device" if how == "copies" else "several devices side by side"
    for read in (str, Census.scalars, Census.to_json):
        with pytest.raises(ValueError, match=rf"{reason}.*together by all_reduce"):
            read(found)


def test_copies_refuse_to_be_read_though_units_fire_as_often_on_each_device() -> None:
    mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Auto,))
    mapped = jax.shard_map(own, mesh=mesh, in_specs=P("d"), out_specs=P(), check_vma=False)
    found = jax.jit(mapped)(np.arange(1, 9, dtype=np.float32)[:, None])
    with pytest.raises(ValueError, match=r"the counts of relu differ from device to device.*all_reduce"):
        str(found)


def test_shares_of_a_pmap_are_rows_that_add_up() -> None:
    found = jax.pmap(own)(BATCH.reshape(4, 8, 6))
    assert found.names == [f"relu[{device}]" for device in range(4)]
    (total,) = found.sum_steps()
    assert total.n == 32
    np.testing.assert_array_equal(total.counts.fired.to_numpy(), (BATCH > 0).sum(0))


def test_all_reduce_needs_an_axis_along_which_the_census_differs() -> None:
    with pytest.raises(NameError, match="axis_name='d' names no axis here"):
        own(BATCH).all_reduce("d")
    mesh = jax.make_mesh((2, 2), GRID, axis_types=(AxisType.Auto,) * 2)
    mapped = functools.partial(jax.shard_map, mesh=mesh, in_specs=P("d"), out_specs=P())
    for names, count in ((GRID, own), ("d", lambda x: own(x).all_reduce("d"))):
        with pytest.raises(ValueError, match=r"the same on every device along '[md]'.*call all_reduce once"):
            jax.eval_shape(mapped(lambda x, n=names, f=count: f(x).all_reduce(n)), BATCH)


GRID = ("d", "m")
OUT = np.array([1.0, 0.0, -2.0, 0.5, 1.0, -1.0], np.float32)


def loss(x: jax.Array, w: jax.Array = WEIGHTS, out: jax.Array = OUT) -> jax.Array:  # type: ignore[assignment] # NumPy's do
    return jnp.sum(jax.nn.relu(x @ w) @ out)


def gradients_of(how: str) -> Census:
    """The census of `loss` with its gradients, over a mesh of two by two devices."""
    mesh = jax.make_mesh((2, 2), GRID, axis_types=(AxisType.Auto,) * 2)
    mapped = functools.partial(jax.shard_map, mesh=mesh, in_specs=P("d"), out_specs=P())

    def share(x: jax.Array) -> Census:
        return value_and_census(loss, gradients=True)(x)[1].all_reduce("d")

    if how in ("inside", "inside, without types"):
        return jax.jit(mapped(share, check_vma=how == "inside"))(BATCH)
    if how == "pmap":
        return jax.tree.map(lambda leaf: leaf[0], jax.pmap(share, axis_name="d")(BATCH.reshape(4, 8, 6)))
    if how == "units over devices":
        specs = P("d"), P(None, "m"), P("m")
        whole = jax.shard_map(
            lambda *given: jax.lax.psum(loss(*given), GRID), mesh=mesh, in_specs=specs, out_specs=P()
        )
        return census(whole, [(BATCH, WEIGHTS, OUT)], gradients=True)
    of_shard = {
        "around": lambda x: jax.lax.psum(loss(x), "d"),
        "copies": lambda x: jax.lax.psum(loss(jax.lax.pcast(x, "m", to="varying")), GRID),
        "layers": lambda x: jax.lax.psum(
            jax.lax.scan(lambda h, w: (jax.nn.relu(h @ w) + 0.0, None), x, jnp.asarray(WEIGHTS)[None])[0]
            @ OUT,
            "d",
        ).sum(),
    }[how]
    return census(mapped(of_shard), BATCH, gradients=True)


@pytest.mark.parametrize(
    "how",
    ["inside", "units over devices"]
    + [
        pytest.param(how, marks=pytest.mark.slow)
        for how in ("inside, without types", "pmap", "around", "copies", "layers")
    ],
)
def test_gradients_inside_a_shard_map_are_those_of_the_batch(how: str) -> None:
    (site,) = gradients_of(how)
    g = np.where(BATCH @ WEIGHTS > 0, OUT, 0)
    assert (site.n, int(site.counts.grad_n)) == (32, 32)
    np.testing.assert_array_equal(site.counts.grad_nonzero.to_numpy(), (g != 0).sum(0))
    np.testing.assert_allclose(site.counts.grad_sum.high, np.abs(g).sum(0), rtol=1e-6)
    np.testing.assert_array_equal(site.where("grad_dead"), np.flatnonzero((g == 0).all(0)))
