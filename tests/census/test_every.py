"""Counting every k-th step inside one jitted function: as many counts, and the plain step between."""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_leaky import census_every, value_and_census

RNG = np.random.default_rng(5)
BATCHES = RNG.normal(size=(7, 4, 3)).astype(np.float32)
W = RNG.normal(size=(3, 3)).astype(np.float32)


def net(w: jax.Array, x: jax.Array) -> jax.Array:
    with jax.named_scope("net"):
        x = jax.nn.leaky_relu(x @ w, 0.25)
        layers = jnp.stack([w, -w])  # records of a scan are carried by its loop
        return jnp.sum(jax.lax.scan(lambda h, w: (jax.nn.relu(h @ w) + 0.1, None), x, layers)[0])


def step(w: jax.Array, x: jax.Array, count: Callable[..., Any] = value_and_census) -> tuple[Any, Any]:
    def loss_of(w: jax.Array) -> tuple[jax.Array, Any]:
        return count(net)(w, x)

    (loss, counts), gradient = jax.value_and_grad(loss_of, has_aux=True)(w)
    return (w - 0.1 * gradient, loss), counts


def plain(w: jax.Array, x: jax.Array) -> Any:
    return step(w, x, lambda fn: lambda *args: (fn(*args), ()))[0]


def test_the_counts_are_those_of_every_third_step() -> None:
    counted = census_every(3, step)

    @jax.jit
    def epoch(w: jax.Array) -> Any:
        def body(carry: Any, x: jax.Array) -> Any:
            (w, loss), state = counted(carry[1], carry[0], x)
            return (w, state), loss

        return jax.lax.scan(body, (w, counted.init(w, BATCHES[0])), BATCHES)

    (w, state), losses = epoch(W)
    assert int(state.steps) == 7
    expected, true, true_losses = jnp.asarray(W), [], []
    one = jax.jit(step)
    for number, x in enumerate(BATCHES):
        (expected, loss), seen = one(expected, x)
        true_losses.append(loss)
        true += [seen] if number % 3 == 0 else []
    np.testing.assert_allclose(w, expected, rtol=1e-6)
    np.testing.assert_allclose(losses, jnp.stack(true_losses), rtol=1e-6)
    total = true[0] + true[1] + true[2]
    assert {site.n for site in state.census} == {12}
    assert str(state.census) == str(total)
    for site, other in zip(state.census, total, strict=True):
        np.testing.assert_array_equal(site.counts.whole, other.counts.whole)


def equations(jaxpr: Any) -> list[str]:
    """The primitives of a jaxpr and of all inside it."""
    names = []
    for eqn in jaxpr.eqns:
        inner = [
            x for x in jax.tree.leaves(list(eqn.params.values())) if hasattr(getattr(x, "jaxpr", x), "eqns")
        ]
        found = [name for one in inner for name in equations(getattr(one, "jaxpr", one))]
        names += found if eqn.primitive.name in ("jit", "pjit") else [eqn.primitive.name, *found]
    return sorted(names)


def test_a_step_between_is_the_plain_step() -> None:
    counted = census_every(3, step)
    jaxpr = jax.make_jaxpr(counted)(counted.init(W, BATCHES[0]), W, BATCHES[0]).jaxpr
    (cond,) = (eqn for eqn in jaxpr.eqns if eqn.primitive.name == "cond")
    between, counting = cond.params["branches"]
    written = equations(jax.make_jaxpr(plain)(W, BATCHES[0]).jaxpr)
    assert equations(between.jaxpr) == ["optimization_barrier"]
    # Of the step only the choice stands outside of the branch besides, and inside of it no backward pass.
    outside = len(equations(jaxpr)) - len(equations(counting.jaxpr))
    assert outside <= len(written) + 20
    assert equations(counting.jaxpr).count("dot_general") == 2 < written.count("dot_general")


def test_donated_parameters_are_updated_in_place() -> None:
    def mlp(params: Any, x: jax.Array) -> jax.Array:
        return jnp.square(jax.nn.relu(x @ params["first"]) @ params["second"]).sum()

    @jax.jit  # what the results depend on is seen inside of it
    def updated(params: Any, gradient: Any) -> Any:
        return jax.tree.map(lambda w, g: w - 0.1 * g, params, gradient)

    def step(params: Any, x: jax.Array) -> Any:
        counts_of = jax.grad(value_and_census(mlp), has_aux=True)
        gradient, counts = counts_of(params, x)
        return updated(params, gradient), counts

    params = {"first": jnp.ones((37, 41)), "second": jnp.ones((41, 2))}
    x, counted = jnp.ones((5, 37)), census_every(3, step)
    text = jax.jit(counted, donate_argnums=1).lower(counted.init(params, x), params, x).compile().as_text()
    assert "f32[37,41]" in text
    assert not re.search(r"f32\[37,41\]\S* copy\(", text)


def test_what_is_no_step_gets_one_sentence() -> None:
    with pytest.raises(ValueError, match="every=0 is not a number of steps: give 1 or more"):
        census_every(0, step)
    with pytest.raises(TypeError, match=r"every=1\.5 is not an integer"):
        census_every(1.5, step)  # type: ignore[arg-type] # on purpose
    with pytest.raises(TypeError, match=r"step must return \(result, census\).*but it returned no pair"):
        census_every(2, net).init(W, BATCHES[0])  # type: ignore[arg-type] # on purpose
    with pytest.raises(
        TypeError, match="returned a pair whose second part holds none, or something else too"
    ):
        census_every(2, lambda w, x: (w, {"counts": step(w, x)[1], "loss": 0.0})).init(W, BATCHES[0])
    with pytest.raises(TypeError, match=r"state must be the CensusState that init.* got .*: give it first"):
        census_every(2, step)(W, BATCHES[0])  # type: ignore[arg-type] # on purpose
