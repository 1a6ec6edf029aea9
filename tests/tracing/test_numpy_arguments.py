"""NumPy arrays as arguments are traced, as jax.jit traces them: what NumPy could compute by itself is seen too."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_leaky import compare_residuals, list_sites, observe, swap, value_and_census

W = [np.float32([[1, 2], [0, 1]]), np.float32([[1, 0], [-1, 1]])]
X = np.float32([[-1, 1], [2, -3], [0, 5]])
# By hand: X @ W[0] = [[-1, -1], [2, 1], [0, 5]], after relu [[0, 0], [2, 1], [0, 5]], and times W[1] the second z.
Z = [[[-1, -1], [2, 1], [0, 5]], [[0, 0], [1, 1], [-5, 5]]]
# With slope 1/2 the first layer gives [[-0.5, -0.5], [2, 1], [0, 5]]; that times W[1] is [[0, -0.5], [1, 1], [-5, 5]].
SWAPPED = [[0, -0.25], [1, 1], [-2.5, 5]]


def where(h):
    return jnp.where(h > 0, h, 0)


def net(w, x):
    return where(where(x @ w[0]) @ w[1])


class Net(nnx.Module):
    def __init__(self):
        self.w = nnx.List([nnx.Param(w) for w in W])

    def __call__(self, x):
        return net([w[...] for w in self.w], x)


CALLS = {
    "arguments": (net, (W, X), {}),
    "keywords": (net, (), {"w": W, "x": X}),
    "dict": (lambda given: net(given["w"], given["x"]), ({"w": W, "x": X},), {}),
    "partial": (functools.partial(net, W), (X,), {}),
    "module": (Net(), (X,), {}),
    "module as argument": (lambda module, x: module(x), (Net(), X), {}),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_every_activation_is_seen_and_swapped(call):
    fn, args, kwargs = call
    assert [site.shape for site in list_sites(fn, *args, **kwargs)] == [(3, 2)] * 2
    out, seen = observe(fn, lambda _, z: z)(*args, **kwargs)
    assert [z.tolist() for z in seen.values()] == Z
    assert out.tolist() == np.maximum(Z[1], 0).tolist()
    leaky = swap(fn, {"relu": lambda z: jnp.where(z > 0, z, z / 2)})
    assert leaky(*args, **kwargs).tolist() == SWAPPED
    _, found = value_and_census(fn)(*args, **kwargs)
    assert [site.counts.fired.to_numpy().tolist() for site in found] == [[1, 2], [1, 2]]


def test_a_gradient_beside_a_numpy_batch():
    loss = swap(lambda b, x: where(where(x @ W[0]) + b).sum(), {"relu": lambda z: jnp.where(z > 0, z, z / 2)})
    # The slopes of the second activation at the columns [-0.5, 2, 0] and [-0.5, 1, 5].
    assert jax.grad(loss)(jnp.zeros(2), X).tolist() == [0.5 + 1 + 0.5, 0.5 + 1 + 1]


def test_residuals_are_compared_at_every_activation():
    found = compare_residuals(
        lambda w, x: jax.nn.leaky_relu(where(x @ w[0]) - jnp.where(x > 0, x, 0.1 * x)).sum(), W, X
    )
    assert [site.kind for site in found.sites] == ["leaky_relu"] * 2


def test_what_is_passed_through_stays_what_it_was():
    names, double = np.array(["a", "b"]), np.arange(3.0)
    given = [X, double, np.int64(3), np.float64(0.5), names, 2, "mode", np.ma.masked_array(X), True]
    out, _ = observe(lambda *parts: [*parts, jnp.maximum(parts[0], 0)], lambda _, z: z)(*given)
    assert all(a is b for a, b in zip(out[:-1], given, strict=True))
    assert isinstance(out[-1], jax.Array)
    for cast in (
        jnp.asarray,
        lambda x: x.astype(np.float32),
    ):  # JAX holds it so, and to JAX this is no operation
        assert observe(cast, lambda _, z: z)(double)[0] is double


def test_numbers_flags_and_bound_arrays_are_known_in_python():
    def fn(x, rows, mask=None, train=False):
        x = x.reshape(rows, -1)
        return jax.nn.relu(x[:, mask] if train else x)

    mask = np.array([True, False])
    (site,) = list_sites(functools.partial(fn, mask=mask), X, np.int64(3), train=True)
    assert site.shape == (3, 1)
    for call in (lambda: list_sites(fn, X, 3, mask, True), lambda: list_sites(fn, X, np.array(3))):
        with pytest.raises(TypeError, match="or bind what must be known while tracing"):
            call()
    with pytest.raises(TypeError, match=r"__array__.*Use jax.numpy there"):
        list_sites(lambda x: jax.nn.relu(jnp.asarray(np.sqrt(np.asarray(x)))), X)
