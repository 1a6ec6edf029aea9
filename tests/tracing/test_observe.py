"""observe: the records are those of NumPy, and the function stays what it was, to the bit."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental import checkify

from jax_leaky import value_and_census
from jax_leaky._tracing import Site, list_sites, observe, swap
from tests.tracing.small_network import KEY, W, X, firing, mlp


def same(a, b):
    """Whether two pytrees are the same to the bit, dtypes and weak types included."""
    leaves = jax.tree.leaves(jax.tree.map(lambda x, y: _same_leaf(x, y), a, b))
    return all(leaves) and jax.tree.structure(a) == jax.tree.structure(b)


def _same_leaf(x, y):
    x_type, y_type = (jax.typeof(v) if isinstance(v, jax.Array) else type(v) for v in (x, y))
    return str(x_type) == str(y_type) and np.asarray(x).tobytes() == np.asarray(y).tobytes()


def test_records_are_what_numpy_sees():
    out, seen = observe(mlp, lambda _, z: z)(W, X)
    z = np.asarray(X, np.float64) @ np.asarray(W[0], np.float64)
    z_next = np.maximum(z, 0) @ np.asarray(W[1], np.float64)
    assert list(seen) == ["layer/relu", "layer/relu_1"]
    np.testing.assert_allclose(seen["layer/relu"], z, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(seen["layer/relu_1"], z_next, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(out, np.maximum(z_next, 0), rtol=1e-5, atol=1e-6)


def test_record_is_given_the_site():
    met = []

    def record(site, z):
        met.append((site, z.shape))
        return {"scaled": z.sum() * 2}

    _, seen = observe(mlp, record)(W, X)
    assert [site for site, _ in met] == list(list_sites(mlp, W, X))
    assert all(isinstance(site, Site) and site.shape == shape for site, shape in met)
    assert set(seen["layer/relu"]) == {"scaled"}


@pytest.mark.parametrize("compile_it", [False, True])
def test_value_and_gradient_stay_the_same_bits(compile_it):
    wrap = jax.jit if compile_it else lambda f: f

    def loss(weights, x):
        return (mlp(weights, x) ** 2).sum()

    def observed_loss(weights, x):
        out, seen = observe(mlp, firing)(weights, x)
        return (out**2).sum(), seen

    value, gradient = wrap(jax.value_and_grad(loss))(W, X)
    (observed_value, seen), observed_gradient = wrap(jax.value_and_grad(observed_loss, has_aux=True))(W, X)
    assert same(value, observed_value)
    assert same(gradient, observed_gradient)
    assert seen["layer/relu"].tolist() == (np.asarray(X @ W[0]) > 0).sum(0).tolist()


def test_no_gradient_flows_through_a_record():
    def loss(x):
        out, seen = observe(jax.nn.relu, lambda _, z: jnp.sqrt(z - z))(x)  # its derivative is not finite
        return out.sum() + sum(r.sum() for r in seen.values())

    for gradient in (jax.grad(loss), jax.jit(jax.grad(loss))):
        assert gradient(X).tolist() == (np.asarray(X) > 0).astype(np.float32).tolist()


@pytest.mark.parametrize(
    "transform", ["vmap", "scan", "jvp", "hessian", "linearize", "checkpoint", "grad of vmap"]
)
def test_it_composes(transform):
    def fn(x):
        return jnp.tanh(jax.nn.leaky_relu(x * 1.5 - 0.2, 0.1)).sum()

    def observed(x):
        return observe(fn, lambda _, z: z.max())(x)

    if transform == "vmap":
        expected, (out, seen) = jax.vmap(fn)(X), jax.vmap(observed)(X)
        np.testing.assert_array_equal(seen[_leaky_name(fn)], (X * 1.5 - 0.2).max(1))
    elif transform == "scan":
        expected = lax.scan(lambda c, x: (c + fn(x), None), 0.0, X)[0]
        out, seen = lax.scan(lambda c, x: _add(c, observed(x)), 0.0, X)
        np.testing.assert_array_equal(seen[_leaky_name(fn)], (X * 1.5 - 0.2).max(1))
    elif transform == "jvp":
        expected, out = jax.jvp(fn, (X,), (X,)), jax.jvp(lambda x: observed(x)[0], (X,), (X,))
    elif transform == "hessian":
        expected, out = jax.hessian(fn)(X), jax.hessian(lambda x: observed(x)[0])(X)
    elif transform == "linearize":
        expected = jax.linearize(fn, X)[1](X)
        out = jax.linearize(lambda x: observed(x)[0], X)[1](X)
    elif transform == "checkpoint":
        expected, out = jax.grad(jax.checkpoint(fn))(X), jax.grad(lambda x: jax.checkpoint(observed)(x)[0])(X)
    else:
        expected = jax.grad(lambda x: jax.vmap(fn)(x).sum())(X)
        out = jax.grad(lambda x: jax.vmap(observed)(x)[0].sum())(X)
    assert same(expected, out)


def _add(carry, result):
    return carry + result[0], result[1]


def _leaky_name(fn):
    return next(site.name for site in list_sites(fn, X[0]) if site.kind == "leaky_relu")


def test_observing_what_is_observed():
    (out, inner), outer = observe(observe(mlp, firing), firing)(W, X)
    assert same(out, mlp(W, X))
    assert same(inner, outer)


def test_arguments_and_results_of_every_sort():
    def fn(x, *, scale, flag, how="sum", table=None):
        if flag:
            x = jax.nn.relu(x)
        if how == "sum":
            x = x.sum() * scale
        return {
            "out": x,
            "how": how,
            "scale": scale,
            "none": None,
            "table": table,
            "weak": jnp.asarray(2.0) * 3,
        }

    kwargs = {"scale": 2, "flag": True, "how": "mean", "table": np.arange(3)}
    out, seen = observe(fn, firing)(X, **kwargs)
    expected = fn(X, **kwargs)
    assert same(expected.pop("out"), out.pop("out"))
    assert isinstance(out["table"], np.ndarray)
    assert same(expected, out)
    assert len(seen) == 1
    assert observe(fn, firing)(X, scale=2, flag=False)[1] == {}


def test_dtypes_and_weak_types_stay():
    def fn(x, n):
        return jax.nn.relu(x), jax.nn.relu(x) * n, n + 1, (x > 0), x.astype("bfloat16")

    weak = jnp.asarray(1.5)
    for args in [(X, 2), (weak, 2), (jnp.asarray(2.0), jnp.asarray(3)), (X.astype("float16"), jnp.int8(3))]:
        assert same(fn(*args), observe(fn, firing_of_any_rank)(*args)[0])


def firing_of_any_rank(_, z):
    return (z > 0).sum()


def test_random_keys_and_closed_over_arrays():
    bias = jnp.arange(3.0)

    def fn(key, x):
        return jax.nn.relu(x + bias + jax.random.normal(key, x.shape)), jax.random.split(key)

    out, _ = observe(fn, firing)(KEY, X)
    expected = fn(KEY, X)
    assert same(out[0], expected[0])
    assert same(jax.random.key_data(out[1]), jax.random.key_data(expected[1]))


def test_effects_take_place_once_and_in_order(capfd):
    def fn(x):
        jax.debug.print("before {}", x.sum(), ordered=True)
        x = jax.jit(lambda y: _say(jax.nn.relu(y)))(x)
        x, _ = lax.scan(lambda c, i: (_say(jax.nn.relu(c) + i), None), x, jnp.arange(2.0))
        return lax.cond(x.sum() > 0, lambda y: _say(jnp.tanh(y)), lambda y: y, x)

    def _say(x):
        jax.debug.print("inside {}", x.sum(), ordered=True)
        return x

    jax.jit(fn)(X)
    jax.effects_barrier()
    expected = capfd.readouterr().out
    jax.jit(observe(fn, firing_of_any_rank))(X)
    jax.effects_barrier()
    assert capfd.readouterr().out == expected
    assert expected.count("\n") == 5


@pytest.mark.parametrize("way", [observe, swap, value_and_census])
def test_fn_is_called_once_so_that_result_and_records_belong_to_one_draw(way):
    draws = np.random.default_rng(5)
    noise = []

    def fn(x):
        noise.append(draws.normal(size=x.shape).astype(np.float32))
        return jax.nn.relu(x + noise[-1])

    wrapped = {observe: (firing,), swap: ({"relu": jnp.tanh},), value_and_census: ()}[way]
    result = way(fn, *wrapped)(X)
    (drawn,) = noise
    z = np.asarray(X) + drawn
    if way is swap:
        np.testing.assert_allclose(result, np.tanh(z), rtol=1e-5)
        return
    out, seen = result
    np.testing.assert_array_equal(out, np.maximum(z, 0))
    (fired,) = seen.values() if way is observe else [site.per_unit("act_freq") * len(z) for site in seen]
    assert np.asarray(fired).tolist() == (z > 0).sum(0).tolist()


class Result:
    """A result that JAX does not know."""

    def __init__(self, value):
        self.value = value


@pytest.mark.parametrize("way", ["attribute", "nested", "closure", "partial"])
def test_arrays_in_an_object_that_is_no_pytree_are_refused(way):
    hide = {
        "attribute": Result,
        "nested": lambda y: Result([{"inner": Result(y)}]),
        "closure": lambda y: lambda: y,
        "partial": lambda y: functools.partial(jnp.add, y),
    }[way]
    kind = {"closure": "function", "partial": "partial"}.get(way, "Result")

    def fn(x):
        return hide(jax.nn.relu(x))

    for call in (observe(fn, firing), swap(fn, {"relu": jnp.tanh}), value_and_census(fn)):
        with pytest.raises(
            TypeError, match=f"fn returns an object of type {kind} that holds arrays.* register {kind} as"
        ):
            call(X)


def test_an_object_without_arrays_of_the_call_passes():
    table = Result(np.arange(3))

    def fn(x):
        return jax.nn.relu(x), table

    assert observe(fn, firing)(X)[0][1] is table

    def outer(x):  # an array of the trace around it is none of the call's
        (_, back), _ = observe(lambda y: (jax.nn.relu(y), Result(x)), firing)(2 * x)
        return back.value

    assert same(jax.jit(outer)(X), X)


def test_a_jitted_function_with_donated_and_static_arguments():
    fn = jax.jit(lambda x, how: jax.nn.relu(x) if how == "relu" else x, static_argnums=1, donate_argnums=0)
    x = X + 1
    out, seen = observe(fn, firing)(x, "relu")
    assert not x.is_deleted()  # the caller may still read what a record was made of
    assert same(out, fn(x, "relu"))
    assert next(iter(seen.values())).tolist() == (np.asarray(X + 1) > 0).sum(0).tolist()


def test_under_vmap_with_an_axis_name():
    def fn(x):
        return jax.nn.relu(x - lax.pmean(x, "batch"))

    out, (seen,) = (lambda out, seen: (out, seen.values()))(
        *jax.vmap(observe(fn, firing_of_any_rank), axis_name="batch")(X)
    )
    assert same(out, jax.vmap(fn, axis_name="batch")(X))
    assert seen.tolist() == (np.asarray(out) > 0).sum(1).tolist()


def test_checkify_finds_what_it_found():
    def fn(x):
        checkify.check(jnp.all(x > -10), "too low")
        return jax.nn.relu(x)

    checked = jax.jit(checkify.checkify(observe(fn, firing)))
    error, (out, _) = checked(X)
    error.throw()
    assert same(out, jax.nn.relu(X))
    assert "too low" in checked(X - 100)[0].get()


def test_the_name_of_the_function_stays():
    assert observe(mlp, firing).__name__ == "mlp"
    jitted = jax.jit(observe(lambda x, how: jax.nn.relu(x) if how else x, firing), static_argnames="how")
    assert same(jitted(X, how="any")[0], jax.nn.relu(X))
