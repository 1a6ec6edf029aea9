"""Under `jax_debug_nans` and `jax_debug_infs` everything counts as ever: no value is "not applicable" as a NaN.

Under `jax_disable_jit` too, where loops run step by step.
"""

import contextlib
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_leaky import Census, census, leaky_relu, units, value_and_census

X = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)
X[:, 3] = -1


def net(x: jax.Array) -> jax.Array:
    with jax.named_scope("net"):
        h = jax.nn.relu(x)
        return jnp.sum(jnp.tanh(leaky_relu(h - 0.5, 0.2)))


@contextlib.contextmanager
def debugged(how: str) -> Iterator[None]:
    with jax.debug_nans("nans" in how), jax.debug_infs("infs" in how):
        yield


@debugged("nans and infs")
def test_a_census_is_counted_and_printed() -> None:
    found = census(net, [X[:8], X[8:], X[:0]], gradients=True)
    assert found["net/relu"].where("never_active").tolist() == [3]
    assert found["net/leaky_relu"].measures["dead"] is None
    assert found["net/tanh"].measures["mean_slope"] is None
    assert "n/a" in str(found)
    assert str(found.compare(found + found)).count("net/") == 3
    assert str(Census.from_json(found.to_json())) == str(found)


@pytest.mark.parametrize("how", ["nans", pytest.param("nans and infs", marks=pytest.mark.slow)])
def test_measures_are_made_inside_a_step(how: str) -> None:
    def step(x: jax.Array) -> tuple[Census, dict[str, jax.Array], jax.Array, units.Transitions]:
        _, counts = value_and_census(net)(x)
        site = counts["net/relu"]
        silent = site.summary.per_unit["never_active"]
        return counts, counts.scalars(), site.summary, units.transitions(silent, silent)

    with debugged(how):
        counts, scalars, summary, change = jax.jit(step)(X)
    assert counts["net/relu"].where("never_active").tolist() == [3]
    assert float(scalars["net/relu/never_active"]) == 0.25
    assert summary.to_dict() == units.summarize(counts["net/relu"].counts).to_dict()
    assert summary.to_dict()["grad_dead"] is None
    assert not np.isfinite(scalars["net/tanh/mean_slope"]) or scalars["net/tanh/mean_slope"] < -1e38
    assert np.isnan(counts["net/relu"].per_unit("z_min")).all()
    assert (change.to_dict()["died"], change.to_dict()["overlap"]) == (0, None)


def by_fori_loop(x: jax.Array) -> jax.Array:
    return jax.lax.fori_loop(0, 3, lambda _, h: jax.nn.relu(h - 0.5) + h, x)


def by_while_loop(x: jax.Array) -> jax.Array:
    return jax.lax.while_loop(
        lambda s: s[0] < 3, lambda s: (s[0] + 1, jax.nn.relu(s[1] - 0.5) + s[1]), (0, x)
    )[1]


def by_scan(x: jax.Array) -> jax.Array:
    return jax.lax.scan(lambda h, _: (jax.nn.relu(h - 0.5) + h, None), x, length=3)[0]


def by_cond_in_scan(x: jax.Array) -> jax.Array:
    """The same with two steps more, in which the activation is not reached: the first and the last."""

    def step(h: jax.Array, index: jax.Array) -> tuple[jax.Array, None]:
        is_counted = (index > 0) & (index < 4)
        return jax.lax.cond(is_counted, lambda h: jax.nn.relu(h - 0.5) + h, lambda h: h, h), None

    return jax.lax.scan(step, x, jnp.arange(5))[0]


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("loop", [by_fori_loop, by_while_loop, by_scan, by_cond_in_scan])
def test_loops_that_run_step_by_step_are_counted(
    loop: Callable[[jax.Array], jax.Array], gradients: bool
) -> None:
    h, seen = X, []
    for _ in range(3):
        seen.append(h - np.float32(0.5))
        h = np.maximum(seen[-1], 0) + h
    active = (np.concatenate(seen) > 0).mean(axis=0)

    def loss(x: jax.Array) -> jax.Array:
        return loop(x).sum()

    with jax.disable_jit():
        found = census(loss, [X], gradients=gradients), value_and_census(loss, gradients=gradients)(X)[1]
    for (site,) in found:
        assert site.n == 3 * len(X)
        np.testing.assert_allclose(site.per_unit("act_freq"), active, rtol=1e-6)
        assert site.where("never_active").tolist() == np.flatnonzero(active == 0).tolist()
        if gradients:  # where a unit is active, the gradient of the sum is 1 or more
            assert site.where("grad_dead").tolist() == np.flatnonzero(active == 0).tolist()
