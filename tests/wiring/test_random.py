"""Random networks against finite changes, and the algebra of sets against Python's."""

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from jax_leaky._wiring._sets import EMPTY, EVERYTHING, Sets
from tests.wiring.networks import Network
from tests.wiring.test_truth import test_of_each_network as check

MOVES = [
    "nothing",
    "reverse",
    "roll",
    "permute",
    "pad",
    "concatenate",
    "reshape",
    "slice_and_join",
    "scale",
    "pool",
]


def moved(kind, x, rng):
    """Values (batch, features) moved about, so that each feature still comes from one unit."""
    width = x.shape[1]
    if kind == "reverse":
        return x[:, ::-1]
    if kind == "roll":
        return jnp.roll(x, 1, axis=1)
    if kind == "permute":
        return x[:, rng.permutation(width)]
    if kind == "pad":
        return jnp.pad(x, ((0, 0), (1, 2)))
    if kind == "concatenate":
        return jnp.concatenate([x, 2 * x], axis=1)
    if kind == "reshape" and width % 2 == 0:
        return x.reshape(-1, 2, width // 2).transpose(0, 2, 1).reshape(-1, width)
    if kind == "slice_and_join":
        return jnp.concatenate([x[:, 1:], x[:, :1]], axis=1)
    if kind == "scale":
        return x * rng.normal(size=width)
    if kind == "pool":
        doubled = jnp.repeat(x, 2, axis=0)
        return doubled.reshape(-1, 2, width).max(axis=1)
    return x


def _width(width, kinds):
    for kind in kinds:
        width = {"pad": width + 3, "concatenate": 2 * width}.get(kind, width)
    return width


@st.composite
def networks(draw):
    layers = draw(
        st.lists(
            st.tuples(st.integers(1, 4), st.lists(st.sampled_from(MOVES), max_size=2)), min_size=1, max_size=3
        )
    )
    seed = draw(st.integers(0, 99))
    conv = draw(st.booleans())
    rng = np.random.default_rng(seed)
    params, width = {}, 2
    if conv:
        # Two channels on a map of 2 x 3, flattened in the order that is drawn.
        channels_first = draw(st.booleans())
        params["conv"] = rng.normal(size=(2, 2, 1, 2))
        width = 12
    plan = []
    for index, (units, kinds) in enumerate(layers):
        order = np.random.default_rng([seed, index])
        width_after = _width(units, kinds)
        params[f"{9 - index}"] = {"w": rng.normal(size=(width, units)), "b": rng.normal(size=units)}
        plan.append((f"h{index}", kinds, order))
        width = width_after
    params["out"] = rng.normal(size=(width, 1))

    def apply(p, x, act):
        if conv:
            image = x.reshape(1, 2, 3, 1)
            x = jax.lax.conv_general_dilated(
                image, p["conv"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            x = act("conv", x)
            x = x.transpose(0, 3, 1, 2).reshape(1, 12) if channels_first else x.reshape(1, 12)
        for index, (name, kinds, _) in enumerate(plan):
            q = p[f"{9 - index}"]
            x = act(name, x @ q["w"] + q["b"])
            for kind in kinds:
                x = moved(kind, x, np.random.default_rng([seed, index]))
        return x @ p["out"]

    reasons = {name: "" for name, _, _ in plan} | ({"conv": ""} if conv else {})
    x = rng.normal(size=(1, 6) if conv else (2, 2))
    return Network(f"random {seed}", apply, params, x, reasons, {}, frozenset(), frozenset())


@hypothesis.settings(max_examples=8, deadline=None, derandomize=True, database=None)
@hypothesis.given(networks())
def test_of_random_networks(network):
    check(network)


@hypothesis.settings(max_examples=60, deadline=None, derandomize=True, database=None)
@hypothesis.given(st.data())
def test_the_algebra_of_sets(data):
    sets = Sets(6)
    as_python = {EMPTY: frozenset(), EVERYTHING: frozenset(range(6))}
    members = data.draw(st.lists(st.frozensets(st.integers(0, 4)), min_size=8, max_size=8))
    numbers = [sets.number(sorted(each)) for each in members]
    as_python |= dict(zip(numbers, members, strict=True))
    chosen = np.array(
        data.draw(st.lists(st.sampled_from([EMPTY, EVERYTHING, *numbers]), min_size=12, max_size=12))
    )
    a, b = chosen[:6].reshape(2, 3).astype(np.int32), chosen[6:].reshape(2, 3).astype(np.int32)

    def python(number):
        return as_python.get(number, frozenset(sets.members(number).tolist()))

    for operation, expected in ((sets.union, frozenset.union), (sets.intersection, frozenset.intersection)):
        result = operation(a, b)
        for place in np.ndindex(2, 3):
            assert python(int(result[place])) == expected(python(int(a[place])), python(int(b[place])))
    # `together` has no name for a set of all that is not EVERYTHING, so the full rows are left out.
    for over, expected in (
        (sets.union_over, frozenset.union),
        (sets.intersection_over, frozenset.intersection),
    ):
        result = over(a, (1,))
        for row in range(2):
            assert python(int(result[row])) == expected(*(python(int(n)) for n in a[row]))
    uniform = sets.is_uniform(a, (1,))
    assert uniform.tolist() == [len({int(n) for n in row} - {EMPTY}) <= 1 for row in a]
