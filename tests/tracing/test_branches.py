"""cond and switch: the branch taken is recorded, the others are marked as not reached."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jax_leaky._tracing import list_sites, observe
from tests.tracing.oracle import (
    W,
    X,
    by_kind,
    count,
    layer,
    looped,
    merge,
    numpy_count,
    plain,
    unchanged,
)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_cond_records_the_branch_taken(sign):
    def fn(x, s):
        return lax.cond(s > 0, lambda y: jax.nn.relu(y) * 2, lambda y: jnp.tanh(y[:, :2]).sum() + y, x)

    seen = unchanged(lambda x: fn(x, sign), X)
    no, yes = by_kind(seen)["tanh"], by_kind(seen)["relu"]
    assert [name.split("/")[0] for name in seen] == ["branch_0", "branch_1"]
    assert (int(no.times), int(yes.times)) == ((0, 1) if sign > 0 else (1, 0))
    expected = numpy_count(X if sign > 0 else X[:, :2])
    record, other = (yes.record, no.record) if sign > 0 else (no.record, yes.record)
    assert plain(record) == expected
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(other))
    assert all(site.conditional for site in list_sites(fn, X, sign))


def test_a_switch_and_branches_without_sites():
    def fn(i, x):
        return lax.switch(i, [jnp.sin, jax.nn.relu, lambda y: jax.nn.relu(-y) + jnp.tanh(y)], x)

    for i in range(3):
        seen = jax.jit(observe(fn, count))(i, X)[1]
        assert [int(reached.times) for reached in seen.values()] == [[0, 0, 0], [1, 0, 0], [0, 1, 1]][i]


def test_a_cond_in_a_scan_tells_the_steps_on_which_it_was_taken():
    def fn(x, w):
        def step(c, i):
            return lax.cond(i % 2 == 0, lambda y: layer(y, w), lambda y: y + 0.125, c), None

        return lax.scan(step, x, jnp.arange(4))[0]

    (stacked,) = unchanged(fn, X, W).values()
    assert stacked.times.tolist() == [1, 0, 1, 0]
    assert stacked.record["n"].tolist() == [4, 0, 4, 0]
    (merged,) = unchanged(fn, X, W, merge=merge).values()
    assert (int(merged.times), int(merged.record["n"])) == (2, 8)
    assert merged.record["fired"].tolist() == stacked.record["fired"].sum(0).tolist()
    assert merged.record["top"] == max(stacked.record["top"][0], stacked.record["top"][2])


def test_a_step_that_is_not_reached_leaves_the_merged_record_alone():
    def fn(x):
        def step(c, reached):
            return lax.cond(reached, jax.nn.relu, lambda y: y, c - 1) - 4, None

        return lax.scan(step, x, jnp.array([False, True, False]))[0]

    observed = jax.jit(observe(fn, lambda _, z: z.max(), merge=jnp.maximum))
    (reached,) = observed(jnp.array([-1.0, 1.0]))[1].values()
    assert (int(reached.times), float(reached.record)) == (1, -5.0)


def test_a_scan_and_a_while_in_a_cond():
    def fn(x, w, n):
        def scanned(y):
            return lax.scan(lambda c, _: (layer(c, w), None), y, None, length=3)[0]

        return lax.cond(n > 2, scanned, lambda y: looped(y, w, n), x)

    for n, expected in [(5, (3, 0)), (2, (0, 2))]:
        out, seen = jax.jit(observe(fn, count, merge=merge))(X, W, jnp.int32(n))
        times = {name.split("/")[1]: int(reached.times) for name, reached in seen.items()}
        # Each step of the scan in the branch is one visit that was merged.
        assert (times["scan"], times["while"]) == expected
        assert out.tobytes() == jax.jit(fn)(X, W, jnp.int32(n)).tobytes()
    with pytest.warns(UserWarning, match="does not record"):
        seen = observe(fn, count)(X, W, jnp.int32(5))[1]
    (reached,) = seen.values()
    assert reached.times.tolist() == [1, 1, 1]


def test_a_vmapped_cond():
    def fn(x):
        return lax.cond(x.sum() > 0, jax.nn.relu, lambda y: y, x)

    out, (reached,) = (lambda o, s: (o, s.values()))(*jax.vmap(observe(fn, lambda _, z: z.max()))(X))
    assert out.tobytes() == jax.vmap(fn)(X).tobytes()
    assert reached.times.tolist() == (np.asarray(X).sum(1) > 0).astype(int).tolist()
