"""Random networks against finite changes, and the algebra of sets against Python's."""

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from jax import lax

from jax_leaky._wiring._records import Records
from jax_leaky._wiring._sets import EMPTY, EVERYTHING, Sets
from tests.wiring.networks import Network
from tests.wiring.oracle import Oracle
from tests.wiring.test_truth import check, wired

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


@hypothesis.settings(max_examples=6, deadline=None, derandomize=True, database=None)
@hypothesis.given(networks())
def test_of_random_networks(network):
    with jax.enable_x64(True):
        wires, oracle = wired(network), Oracle(network)
        for name in network.reasons:
            assert wires.reasons[f"{name}/relu"] == "", str(wires)
            check(network, wires, f"{name}/relu", name, oracle)


MIXES = {
    "nothing": lambda x: x,
    "neighbours": lambda x: x + jnp.roll(x, 1, axis=1),
    "centred": lambda x: x - x.mean(axis=1, keepdims=True),
    "softmax": lambda x: x * jax.nn.softmax(x, axis=1),
    "cumsum": lambda x: jnp.cumsum(x, axis=1),
    "sorted": lambda x: jnp.sort(x, axis=1),
    "logsumexp": lambda x: lax.cumlogsumexp(x, axis=0),
    "over the batch": lambda x: x - x.mean(axis=0),
    "shifted": lambda x: x + 1.0,
    "cosine": jnp.cos,
    "squared": jnp.square,
    "first unit": lambda x: x * x[:, :1],
    "first unit's sign": lambda x: jnp.where(x[:, :1] > 0, x, 2 * x),
    "blurred": lambda x: jax.vmap(lambda row: jnp.convolve(row, jnp.ones(2), "same"))(x),
    "blurred over the batch": lambda x: jnp.array([[1.0, 2.0], [0.5, 1.0]], x.dtype) @ x,
    "clipped": lambda x: jnp.clip(x, -1, 2),
    "clipped above 0": lambda x: jnp.clip(x, 0.5, 2),
    "scattered": lambda x: x.at[:, 0].set(0.0),
    "taken": lambda x: jnp.take(x, jnp.array([1, 0]), axis=0),
    "twice itself": lambda x: x * x + x,
    "largest": lambda x: x * x.max(axis=1, keepdims=True),
    "of rank 1": lambda x: x[:, 0][:, None] * jnp.ones_like(x),
}


@st.composite
def hostile_networks(draw):
    mixes = st.one_of(st.just("nothing"), st.sampled_from(sorted(MIXES)))
    layers = draw(st.lists(st.tuples(mixes, mixes, st.booleans()), min_size=2, max_size=3))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    params = {f"h{i}": {"w": rng.normal(size=(3, 3)), "b": rng.normal(size=3)} for i in range(len(layers))}
    params["out"] = rng.normal(size=(3, 1))

    def apply(p, x, act):
        for index, (before, behind, is_residual) in enumerate(layers):
            q = p[f"h{index}"]
            y = MIXES[behind](act(f"h{index}", MIXES[before](x @ q["w"] + q["b"])))
            x = x + y if is_residual else y
        return x @ p["out"]

    names = {f"h{index}" for index in range(len(layers))}
    note = " ".join(map(str, layers))
    return Network(
        note, apply, params, rng.normal(size=(2, 3)), dict.fromkeys(names, ""), {}, frozenset(), names
    )


@pytest.mark.slow
@hypothesis.settings(max_examples=10, deadline=None, derandomize=True, database=None)
@hypothesis.given(hostile_networks())
def test_what_mixes_units_is_told_or_harmless(network):
    with jax.enable_x64(True):
        wires = wired(network)
        oracle = None
        for name in network.reasons:
            if not wires.reasons[f"{name}/relu"]:
                oracle = oracle or Oracle(network)
                check(network, wires, f"{name}/relu", name, oracle)


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


def test_what_stands_in_a_thousand_places_is_noted_once():
    records = Records(["kernel"], [3], 2)
    first, second = records.sets.singles([3, 4]).tolist()
    sizes = []

    def fold(a, b):
        sizes.append(len(b))
        return records.sets.union(a, b)

    table = np.zeros(6, np.int32)
    # Entry 0 stands beside the one unit, entry 1 beside the other, entry 2 beside each in turn.
    places = [(0, first), (1, second), (2, first), (2, second)] * 1000
    things, units = np.array(places).T
    records._update(table, things, units.astype(np.int32), fold)
    assert [records.sets.members(number).tolist() for number in table.tolist()] == [
        [3],
        [4],
        [3, 4],
        [],
        [],
        [],
    ]
    assert sizes == [3, 1]


def test_sets_beside_the_same_unit_are_expanded_as_one():
    records = Records(["kernel"], [12], 1)
    places = np.array([records.sets.number([0, 1, place]) for place in range(2, 11)], np.int32)
    units = np.broadcast_to(records.sets.singles(12), places.shape)
    one, other = records._one_beside_each(places, units, records.sets.together)
    assert [records.sets.members(number).tolist() for number in one.tolist()] == [list(range(11))]
    assert other.tolist() == [int(records.sets.singles(12))]
