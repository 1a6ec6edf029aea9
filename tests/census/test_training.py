"""`value_and_census` in jitted training steps: the step stays what it was, the counts are those of its batch."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jax_leaky import Census, census, leaky_relu, value_and_census

X = jnp.asarray(np.random.default_rng(0).normal(size=(64, 6)), jnp.float32)
Y = jnp.asarray(np.asarray(X).sum(axis=1, keepdims=True))
OPTIMIZER = optax.sgd(0.1)


class Linen(nn.Module):
    """With batch statistics and dropout, the two states that a step hands on."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.BatchNorm(use_running_average=False)(nn.Dense(6)(x))
        x = nn.Dropout(0.5, deterministic=False)(nn.relu(x))
        return nn.Dense(1)(nn.leaky_relu(nn.Dense(6)(x), 0.1))


def linen_step(model: Any, variables: Any, counted: bool) -> Any:
    def apply(variables: Any, x: jax.Array, key: jax.Array) -> Any:
        return model.apply(variables, x, rngs={"dropout": key}, mutable=["batch_stats"])

    @jax.jit
    def step(variables: Any, key: jax.Array) -> Any:
        def loss_of(params: Any) -> Any:
            inputs = ({**variables, "params": params}, X, key)
            (out, state), counts = value_and_census(apply)(*inputs) if counted else (apply(*inputs), None)
            return jnp.mean((out - Y) ** 2), (state, counts)

        (loss, (state, counts)), gradient = jax.value_and_grad(loss_of, has_aux=True)(variables["params"])
        params = jax.tree.map(lambda p, g: p - 0.1 * g, variables["params"], gradient)
        return {"params": params, **state}, loss, counts

    return step(variables, jax.random.key(2))


def test_a_linen_step_is_the_same_to_the_bit_and_counts_its_batch() -> None:
    model = Linen()
    variables = model.init({"params": jax.random.key(1), "dropout": jax.random.key(2)}, X)
    plain, observed = (linen_step(model, variables, counted) for counted in (False, True))
    jax.tree.map(np.testing.assert_array_equal, plain[:2], observed[:2])
    counts = observed[2]
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    z = np.asarray(X, np.float64) @ params["Dense_0"]["kernel"]
    z = (z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5)
    np.testing.assert_array_equal(counts["Linen/relu"].counts.fired.to_numpy(), (z > 0).sum(0))
    assert [site.name for site in counts] == ["Linen/relu", "Linen/leaky_relu"]


class Net(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.dense, self.norm = nnx.Linear(6, 6, rngs=rngs), nnx.BatchNorm(6, rngs=rngs)
        self.dropout, self.out = nnx.Dropout(0.5, rngs=rngs), nnx.Linear(6, 1, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.out(self.dropout(nnx.relu(self.norm(self.dense(x)))))


def nnx_steps(counted: bool) -> tuple[Net, list[Any]]:
    model = Net(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, OPTIMIZER, wrt=nnx.Param)

    @nnx.jit
    def step(model: Net, optimizer: Any) -> Any:
        def loss_of(model: Net) -> Any:
            out, counts = value_and_census(model)(X) if counted else (model(X), None)
            return jnp.mean((out - Y) ** 2), counts

        (loss, counts), gradient = nnx.value_and_grad(loss_of, has_aux=True)(model)
        optimizer.update(model, gradient)
        return loss, counts

    return model, [step(model, optimizer) for _ in range(3)]


def test_nnx_steps_are_the_same_to_the_bit_with_their_state() -> None:
    (plain, losses), (observed, seen) = nnx_steps(False), nnx_steps(True)
    assert [float(loss) for loss, _ in losses] == [float(loss) for loss, _ in seen]
    # Parameters, batch statistics and the counters of the random numbers.
    states = (jax.tree.leaves(nnx.to_pure_dict(nnx.state(m, nnx.Not(nnx.RngKey)))) for m in (plain, observed))
    jax.tree.map(np.testing.assert_array_equal, *states)
    assert {int(site.n) for _, counts in seen for site in counts} == {64}


def mlp(params: list[jax.Array], x: jax.Array) -> jax.Array:
    with jax.named_scope("mlp"):
        return jax.nn.relu(x @ params[0]) @ params[1]


PARAMS = [jnp.asarray(np.random.default_rng(3).normal(size=(6, 6)), jnp.float32), jnp.ones((6, 1))]


def test_censuses_of_steps_add_up() -> None:
    counted = jax.jit(value_and_census(mlp))
    total = counted(PARAMS, X[:16])[1]
    for start in (16, 32, 48):
        total += counted(PARAMS, X[start : start + 16])[1]
    fired = (np.asarray(X, np.float64) @ np.asarray(PARAMS[0], np.float64) > 0).sum(0)
    np.testing.assert_array_equal(total["mlp/relu"].counts.fired.to_numpy(), fired)
    assert total["mlp/relu"].n == 64


def test_a_census_is_carried_by_scan() -> None:
    batches = X.reshape(4, 16, 6)

    @jax.jit
    def epoch() -> Census:
        _, first = value_and_census(mlp)(PARAMS, batches[0])
        return jax.lax.scan(
            lambda total, x: (total + value_and_census(mlp)(PARAMS, x)[1], None), first, batches[1:]
        )[0]

    assert epoch()["mlp/relu"].n == 64


def test_scalars_are_made_inside_the_step_and_only_what_is_returned_is_counted() -> None:
    def step(x: jax.Array, key: str) -> jax.Array:
        _, counts = value_and_census(mlp)(PARAMS, x)
        return counts.scalars()[f"mlp/relu/{key}"]

    share = float(jax.jit(step, static_argnums=1)(X, "act_freq"))
    z = np.asarray(X, np.float64) @ np.asarray(PARAMS[0], np.float64)
    assert share == pytest.approx((z > 0).mean(), rel=1e-6)
    costs = [
        jax.jit(step, static_argnums=1).lower(X, key).compile().cost_analysis()["flops"]
        for key in ("never_active", "dormant_score")
    ]
    assert costs[0] < costs[1]


def test_what_a_step_cannot_afford_is_not_known_rather_than_wrong() -> None:
    _, counts = value_and_census(mlp)(PARAMS, X)
    site = counts["mlp/relu"]
    assert np.isnan(site.per_unit("z_min")).all()
    restored = Census.from_json(counts.to_json())["mlp/relu"]
    assert np.isnan(restored.per_unit("z_min")).all()


def test_sites_are_chosen_and_errors_name_the_function() -> None:
    assert len(value_and_census(mlp, sites="mlp/*")(PARAMS, X)[1]) == 1
    with pytest.raises(ValueError, match="no site is named 'encoder'"):
        value_and_census(mlp, sites="encoder")(PARAMS, X)
    with pytest.raises(TypeError, match="value_and_census: fn must be callable, got int"):
        value_and_census(3)
    with pytest.raises(ValueError, match="value_and_census: rare_below=2 is not a share"):
        value_and_census(mlp, rare_below=2)
    with pytest.raises(ValueError, match="value_and_census: the function has no activation site"):
        value_and_census(jnp.sin)(X)


@pytest.mark.parametrize(
    "activation", [nn.relu, lambda z: nn.leaky_relu(z, 0.2), leaky_relu], ids=["relu", "jax.nn", "ours"]
)
def test_counts_on_the_output_are_those_on_the_input(activation: Any) -> None:
    z = np.random.default_rng(0).normal(size=(300, 70)).astype(np.float32)
    z[:, 3], z[7, 6] = -np.abs(z[:, 3]), 0
    spoilt = z.copy()
    spoilt[5, 4], spoilt[6, 5] = np.nan, np.inf
    for values in (z, spoilt):
        _, counted = value_and_census(activation)(jnp.asarray(values))
        (found,), (expected,) = counted, census(activation, [jnp.asarray(values)])
        for field in ("n", "nonfinite", "fired", "nonzero"):
            of = (np.asarray(getattr(site.counts, field).to_numpy()) for site in (found, expected))
            np.testing.assert_array_equal(*of, err_msg=field)
        for field in ("abs_sum", "positive_sum"):
            of = (np.asarray(getattr(site.counts, field).high) for site in (found, expected))
            np.testing.assert_allclose(*of, rtol=1e-6, err_msg=field)
        assert found.invalid == expected.invalid
    assert found.invalid
