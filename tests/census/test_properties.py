"""Of any samples: JSON brings a census back whole, two add up to the census of all, and counting changes nothing."""

import json

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jax_leaky import Census, census, leaky_relu, value_and_census

check = settings(max_examples=20, deadline=None, derandomize=True)
values = st.sampled_from([0.0, -0.0, 1.0, -1.0]) | st.floats(-1e3, 1e3, width=32, allow_subnormal=False)
any_value = values | st.sampled_from([np.nan, np.inf, -np.inf])


@jax.jit  # so that its censuses share one program
def network(x):
    with jax.named_scope("first"):
        h = leaky_relu(x, 0.25)
    with jax.named_scope("second"):
        return jax.nn.relu(h[:, :2] - h[:, 1:])


def samples(elements):
    """The first sample of each unit is finite."""
    first = hnp.arrays(np.float32, (1, 3), elements=values)
    others = hnp.arrays(np.float32, (3, 3), elements=elements)
    return st.tuples(first, others).map(np.concatenate)


counted = jax.jit(value_and_census(network))
plain = jax.jit(network)


def assert_same(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(samples(any_value))
def test_json_brings_it_back_whole(x):
    found = census(network, [x], progress=False)
    text = found.to_json()
    again = Census.from_json(text)
    assert_same(found, again)
    assert (str(again), again.to_json()) == (str(found), text)
    json.loads(text, parse_constant=lambda word: (_ for _ in ()).throw(AssertionError(word)))  # no NaN in it


@check
@given(samples(values), samples(values), samples(values))
def test_censuses_add_up_and_the_brackets_do_not_matter(x, y, z):
    one, two, three = (census(network, [batch], progress=False) for batch in (x, y, z))
    left, right = (one + two) + three, one + (two + three)
    whole = census(network, [np.concatenate([x, y, z])], progress=False)
    for name in whole.sites:
        for measure in ("act_freq", "never_active", "always_active", "rare", "since_fired", "z_min", "z_max"):
            expected = whole[name].per_unit(measure)
            np.testing.assert_array_equal(left[name].per_unit(measure), expected)
            np.testing.assert_array_equal(right[name].per_unit(measure), expected)
        np.testing.assert_allclose(
            left[name].per_unit("dormant_score"), whole[name].per_unit("dormant_score"), rtol=1e-5
        )


@check
@given(samples(any_value))
def test_counting_changes_no_bit(x):
    out, found = counted(x)
    assert out.tobytes() == plain(x).tobytes()
    z = x.astype(np.float64)
    finite = np.isfinite(z)
    site = found["first/leaky_relu"]
    np.testing.assert_array_equal(site.counts.fired.to_numpy(), (finite & (z > 0)).sum(0))
    np.testing.assert_array_equal(site.counts.nonfinite.to_numpy(), (~finite).sum(0))


@check
@given(samples(values))
def test_counting_changes_no_gradient(x):
    observed = jax.grad(lambda x: counted(x)[0].sum())(jnp.asarray(x))
    np.testing.assert_array_equal(observed, jax.grad(lambda x: plain(x).sum())(jnp.asarray(x)))
