"""The gradient of each sample by itself, against backpropagation by hand in NumPy."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from jax_leaky import census, leaky_relu, list_sites, value_and_census

RNG = np.random.default_rng(3)
X = RNG.normal(size=(20, 5))
FIRST = RNG.normal(size=(5, 6))
SECOND = RNG.normal(size=(6, 6))
OUT = RNG.normal(size=(6, 3))
FIRST[:, 1] = 0.0
BIAS = np.array([0.0, -1.0, 0.0, 0.0, 0.0, 0.0])  # unit 1 is never active
SECOND[2] = 0.0  # unit 2 of the first layer leads nowhere


def outputs(x: jax.Array) -> jax.Array:
    w1, w2, w3, bias = (jnp.asarray(w, jnp.float32) for w in (FIRST, SECOND, OUT, BIAS))
    with jax.named_scope("net"):
        h = jax.nn.relu(x @ w1 + bias)
        return jax.nn.leaky_relu(h @ w2, 0.1) @ w3


def loss(x: jax.Array) -> jax.Array:
    return jnp.sum(outputs(x) ** 2)


def backward() -> tuple[np.ndarray, np.ndarray]:
    """dL/dz of every sample at both sites."""
    z1 = X @ FIRST + BIAS
    h1 = np.maximum(z1, 0)
    z2 = h1 @ SECOND
    out = np.where(z2 > 0, z2, 0.1 * z2) @ OUT
    g2 = 2 * out @ OUT.T * np.where(z2 > 0, 1, 0.1)
    return g2 @ SECOND.T * (z1 > 0), g2


GRADIENTS = dict(zip(["net/relu", "net/leaky_relu"], backward(), strict=True))


@pytest.mark.parametrize("form", ["sum", "per sample", "auxiliary"])
def test_measures_equal_numpy(form: str) -> None:
    fn = {
        "sum": loss,
        "per sample": lambda x: jnp.sum(outputs(x) ** 2, axis=1),
        "auxiliary": lambda x: (loss(x), {"anything": x}),
    }[form]
    found = census(fn, [X[:8], X[8:]], gradients=True)
    for name, g in GRADIENTS.items():
        np.testing.assert_array_equal(found[name].where("grad_dead"), np.flatnonzero((g == 0).all(0)))
        np.testing.assert_array_equal(found[name].counts.grad_nonzero.to_numpy(), (g != 0).sum(0))
        score = np.abs(g).mean(0) / np.abs(g).mean()
        np.testing.assert_allclose(found[name].per_unit("grad_score"), score, rtol=1e-4, atol=1e-7)
        assert int(found[name].counts.grad_n) == 20
    assert found["net/relu"].where("grad_dead").tolist() == [1, 2]
    np.testing.assert_allclose(found["net/relu"].per_unit("act_freq"), (X @ FIRST + BIAS > 0).mean(0))


def test_a_mean_over_samples_gives_the_same_measures() -> None:
    found = census(lambda x: jnp.mean(outputs(x) ** 2), X, gradients=True)
    assert found["net/relu"].where("grad_dead").tolist() == [1, 2]
    score = np.abs(GRADIENTS["net/relu"]).mean(0) / np.abs(GRADIENTS["net/relu"]).mean()
    np.testing.assert_allclose(found["net/relu"].per_unit("grad_score"), score, rtol=1e-4, atol=1e-7)


def test_samples_whose_gradients_cancel_are_not_dead() -> None:
    signs = jnp.array([[1.0], [-1.0]])
    found = census(lambda x: jnp.sum(signs * jax.nn.relu(x)), jnp.ones((2, 6)), gradients=True)
    assert next(iter(found)).where("grad_dead").size == 0


def test_counts_of_gradients_pass_the_lower_part() -> None:
    (site,) = census(lambda x: jnp.sum(jax.nn.relu(x)), jnp.ones((5000, 6)), gradients=True)
    assert site.counts.grad_nonzero.to_numpy().tolist() == [5000] * 6


def test_a_unit_behind_stop_gradient_is_dead() -> None:
    (site,) = census(lambda x: jnp.sum(lax.stop_gradient(jax.nn.relu(x))), jnp.ones((2, 6)), gradients=True)
    assert site.where("grad_dead").tolist() == list(range(6))


def test_each_layer_of_a_scan_has_gradients_of_its_own() -> None:
    weights = np.stack([SECOND, np.eye(6), np.diag([1.0, 1, 1, 0, 0, 0])]).astype(np.float32)

    def fn(x: jax.Array) -> jax.Array:
        h, _ = lax.scan(lambda h, w: (jax.nn.relu(h @ w) + 0.0, None), x, jnp.asarray(weights))
        return jnp.sum(h * jnp.arange(6.0))

    x = np.abs(RNG.normal(size=(20, 6)))
    found = list(census(fn, x, gradients=True))
    h, zs = x, []
    for w in weights.astype(np.float64):
        zs.append(h @ w)
        h = np.maximum(zs[-1], 0)
    g, true = np.arange(6.0) * np.ones((20, 6)), []
    for w, z in zip(weights[::-1].astype(np.float64), zs[::-1], strict=True):
        true.append(g * (z > 0))
        g = true[-1] @ w.T
    for site, expected in zip(found, true[::-1], strict=True):
        np.testing.assert_array_equal(site.counts.grad_nonzero.to_numpy(), (expected != 0).sum(0))


def test_remat_and_branches_let_the_gradient_through() -> None:
    def fn(x: jax.Array) -> jax.Array:
        h = jax.checkpoint(jax.nn.relu)(x)
        return jnp.sum(lax.cond(x[0, 0] > 0, lambda h: jnp.tanh(h), lambda h: jax.nn.silu(h), h))

    x = np.abs(X[:, :1]) * np.ones((20, 6))
    found = {site.kind: site for site in census(fn, x, gradients=True)}
    assert [int(found[kind].counts.grad_n) for kind in ("relu", "tanh", "silu")] == [20, 20, 0]
    np.testing.assert_array_equal(found["relu"].counts.grad_nonzero.to_numpy(), np.full(6, 20))
    assert found["silu"].invalid == "invalid: no sample was seen"


def test_a_gradient_that_is_not_finite_makes_the_site_invalid() -> None:
    found = census(lambda x: jnp.sum(jax.nn.silu(x) * jnp.inf), jnp.zeros((3, 6)), gradients=True)
    (site,) = found
    assert site.invalid == "invalid: 18 non-finite values"
    assert json.loads(found.to_json())["sites"][0]["grad_dead"] is None


def test_without_gradients_nothing_is_said_about_them() -> None:
    found = census(loss, X)
    assert found["net/relu"].measures["grad_dead"] is None
    assert "gradient dead" not in str(found)
    assert "net/relu/grad_dead" not in found.scalars()


def test_a_site_that_a_derivative_rule_fixes_has_no_gradient_and_says_so() -> None:
    @jax.custom_vjp
    def loss(x: jax.Array) -> jax.Array:
        return jax.nn.relu(x).sum()

    loss.defvjp(lambda x: (loss(x), x), lambda x, g: (g * jnp.ones_like(x),))
    x = jnp.ones((4, 3))
    assert list_sites(loss, x)[0].fixed
    (site,) = census(loss, [x], gradients=True)
    with pytest.raises(ValueError, match=r"gradients=True, which leaves out .* \(Site\.fixed says why\)\.$"):
        site.where("grad_dead")


SLOPES = (0.0, 0.01, 0.2)
MEASURES = ("never_active", "dead", "rare", "mean_slope", "grad_dead", "grad_score")


def test_one_compiled_program_counts_gradients_at_every_slope() -> None:
    def losses(x: jax.Array, slope: jax.Array) -> tuple[jax.Array, jax.Array]:
        with jax.named_scope("net"):
            h = leaky_relu(x @ jnp.asarray(FIRST, jnp.float32) + jnp.asarray(BIAS, jnp.float32), slope)
            out = leaky_relu(h @ jnp.asarray(SECOND, jnp.float32), slope) @ jnp.asarray(OUT, jnp.float32)
        return jnp.sum(out**2, axis=1), out

    def evaluate(slope: jax.Array) -> tuple[jax.Array, list[dict[str, jax.Array]]]:
        def step(number: jax.Array, _: object) -> tuple[jax.Array, object]:
            (_, out), found = value_and_census(losses, gradients=True)(jnp.asarray(X, jnp.float32), slope)
            return number + 1, (out, [{m: site.summary.per_unit[m] for m in MEASURES} for site in found])

        return lax.scan(step, jnp.int32(0), length=2)[1]

    outs, layers = jax.jit(jax.vmap(evaluate))(jnp.array(SLOPES))
    for place, slope in enumerate(SLOPES):
        np.testing.assert_allclose(outs[place][1], losses(X, slope)[1], rtol=1e-5, atol=1e-6)
        expected = census(losses, (X, jnp.float32(slope)), gradients=True)
        for layer, site in zip(layers, expected, strict=True):
            for measure in MEASURES:
                got = layer[measure][place][1]
                np.testing.assert_allclose(got, site.per_unit(measure), rtol=1e-5, err_msg=measure)


def test_a_derivative_taken_outside_is_that_of_the_function() -> None:
    def step(x: jax.Array) -> jax.Array:
        (value, _), found = value_and_census(lambda x: (loss(x), x), gradients=True)(x)
        return value + found["net/relu"].summary.layer["grad_score"]

    x = jnp.asarray(X, jnp.float32)
    np.testing.assert_array_equal(jax.jit(jax.grad(step))(x), jax.jit(jax.grad(loss))(x))


def test_an_nnx_module_takes_the_state_that_the_counted_call_leaves() -> None:
    class Net(nnx.Module):
        def __init__(self) -> None:
            self.norm = nnx.BatchNorm(5, rngs=nnx.Rngs(0))

        def __call__(self, x: jax.Array) -> jax.Array:
            return nnx.relu(self.norm(x)).sum(axis=1)

    counted, plain = Net(), Net()
    value, found = value_and_census(counted, gradients=True)(jnp.asarray(X, jnp.float32))
    np.testing.assert_array_equal(value, plain(jnp.asarray(X, jnp.float32)))
    np.testing.assert_array_equal(counted.norm.mean[...], plain.norm.mean[...])
    assert next(iter(found)).per_unit("grad_dead").tolist() == [0] * 5


@pytest.mark.parametrize(
    ("fn", "error", "sentence"),
    [
        (lambda x: {"loss": loss(x)}, TypeError, "takes fn for a loss, but it returned a dict"),
        (lambda x: (jax.nn.relu(x) > 0).sum(), TypeError, "it returned an array of int32"),
        (
            lambda x: lax.while_loop(lambda h: h.max() > 1, lambda h: jax.nn.relu(h - 1), x).sum(),
            ValueError,
            "there is none through a while loop",
        ),
    ],
)
def test_bad_input_gets_one_sentence(fn: object, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        census(fn, X, gradients=True)  # type: ignore[arg-type] # a lambda of the table above
