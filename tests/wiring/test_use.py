"""What is done with a wiring: entries, recycled and removed units, and what is refused."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_leaky import list_sites, observe, wiring
from tests.wiring.networks import NETWORKS, relu


def perceptron(params, x):
    for name in sorted(params)[:-1]:
        x = relu(name, x @ params[name]["kernel"] + params[name]["bias"])
    return x @ params[sorted(params)[-1]]["kernel"] + params[sorted(params)[-1]]["bias"]


def drawn(seed, widths=(5, 12, 9, 3)):
    rng = np.random.default_rng(seed)
    return {
        f"layer{i}": {
            "kernel": jnp.asarray(rng.normal(size=(here, there)), jnp.float32),
            "bias": jnp.asarray(rng.normal(size=there), jnp.float32),
        }
        for i, (here, there) in enumerate(itertools.pairwise(widths))
    }


PARAMS, FRESH = drawn(0), drawn(1)
X = jnp.asarray(np.random.default_rng(9).normal(size=(2, 5)), jnp.float32)
WIRES = wiring(perceptron, PARAMS, X)
FIRST, SECOND = WIRES.units


def output_and_dead(fn):
    """A function that gives the output of `fn`, and for each site the units that are active on none of the data."""
    return jax.jit(observe(fn, lambda _, z: ~(z > 0).any(axis=tuple(range(z.ndim - 1)))))


def dead(fn, *args):
    return jax.tree.map(np.asarray, output_and_dead(fn)(*args)[1])


def same_bits(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert np.asarray(a).dtype == np.asarray(b).dtype
        bits = [np.frombuffer(np.asarray(leaf).tobytes(), np.uint8) for leaf in (a, b)]
        np.testing.assert_array_equal(
            *bits
        )  # a comparison of bytes would take hours to explain where CI is set


def test_the_table():
    assert str(WIRES).splitlines() == [
        "site         units  incoming  outgoing  reason",
        "layer0/relu  12     72        108",
        "layer1/relu  9      117       27",
    ]
    assert list(WIRES.units) == list_sites(perceptron, PARAMS, X).names
    assert WIRES.reasons == {FIRST: "", SECOND: ""}


def test_recycled_entries_are_fresh_or_0_and_all_others_untouched():
    masks = {FIRST: np.arange(12) == 3, SECOND: np.isin(np.arange(9), (0, 8))}
    after = WIRES.recycle(PARAMS, masks, FRESH)
    expected = jax.tree.map(lambda leaf: np.array(leaf), PARAMS)
    for layer, units in (("layer0", [3]), ("layer1", [0, 8])):
        expected[layer]["kernel"][:, units] = FRESH[layer]["kernel"][:, units]
        expected[layer]["bias"][units] = FRESH[layer]["bias"][np.array(units)]
    expected["layer1"]["kernel"][3] = 0
    expected["layer2"]["kernel"][[0, 8]] = 0
    same_bits(after, expected)
    assert (
        WIRES.recycle(PARAMS, {SECOND: masks[SECOND]}, FRESH)["layer0"]["kernel"]
        is PARAMS["layer0"]["kernel"]
    )


def test_recycling_is_the_same_in_a_jit_with_traced_masks():
    masks = {FIRST: np.arange(12) % 3 == 0, SECOND: np.arange(9) > 6}
    jitted = jax.jit(lambda params, masks, fresh: WIRES.recycle(params, masks, fresh))
    same_bits(jitted(PARAMS, masks, FRESH), WIRES.recycle(PARAMS, masks, FRESH))
    static = jax.jit(lambda wires, masks: wires.entries(PARAMS, masks), static_argnums=0)
    same_bits(static(WIRES, masks), WIRES.entries(PARAMS, masks))


def test_recycling_on_a_mesh_is_that_on_one_device():
    mesh = jax.make_mesh((4,), ("units",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("units"))
    sharded = jax.tree.map(lambda leaf: jax.device_put(leaf, spread) if len(leaf) % 4 == 0 else leaf, PARAMS)
    masks = {FIRST: np.arange(12) % 2 == 0}
    on_mesh = jax.tree.map(lambda leaf: jax.device_put(leaf, spread), masks)
    step = jax.jit(lambda params, masks: WIRES.recycle(params, masks, FRESH))
    same_bits(step(sharded, on_mesh), WIRES.recycle(PARAMS, masks, FRESH))


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2, 3))])
def test_resetting_dead_units_moves_no_output_to_the_bit(seed):
    params = drawn(seed)
    masks = dead(perceptron, params, X)
    assert all(mask.any() for mask in masks.values())
    after = WIRES.recycle(params, masks, drawn(seed + 10))
    same_bits(jax.jit(perceptron)(after, X), jax.jit(perceptron)(params, X))
    # A unit that is not dead does move it, so the test can fail.
    living = {FIRST: ~masks[FIRST]}
    assert not np.array_equal(perceptron(WIRES.recycle(params, living, drawn(9)), X), perceptron(params, X))


class Head(nn.Module):
    """The convolutional head of ReDo, smaller, with names that sort wrongly left to Linen."""

    @nn.compact
    def __call__(self, x):
        for features, kernel, stride in ((8, 8, 4), (16, 4, 2), (16, 3, 1)):
            x = nn.relu(nn.Conv(features, (kernel, kernel), strides=(stride, stride))(x))
        x = nn.relu(nn.Dense(24)(x.reshape(x.shape[0], -1)))
        return nn.Dense(4)(x)


def test_the_atari_head_has_every_right_row_and_no_other():
    rng = np.random.default_rng(0)
    x = np.float32(rng.normal(size=(1, 44, 44, 4)))
    shapes = jax.eval_shape(lambda: Head().init(jax.random.key(1), x)["params"])
    params, fresh = (
        jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) / 9, jnp.float32), shapes)
        for _ in "ab"
    )
    fn = lambda params, x: Head().apply({"params": params}, x)  # noqa: E731 a formula in one line
    wires = wiring(fn, params, x)
    assert set(wires.reasons.values()) == {""}
    mask = np.arange(16) % 3 == 0  # of the last convolution, whose map is 6 x 6 with 16 channels
    incoming, outgoing = wires.entries(params, {"Head/relu_2": mask})
    rows = np.tile(mask, 36)  # channels are fastest
    same_bits(outgoing["Dense_0"]["kernel"], np.broadcast_to(rows[:, None], (576, 24)))
    same_bits(incoming["Conv_2"]["kernel"], np.broadcast_to(mask, (3, 3, 16, 16)))
    same_bits(incoming["Conv_2"]["bias"], mask)
    assert sum(int(leaf.sum()) for leaf in jax.tree.leaves(outgoing)) == rows.sum() * 24
    assert sum(int(leaf.sum()) for leaf in jax.tree.leaves(incoming)) == mask.sum() * (9 * 16 + 1)
    shifted = {
        **params,
        "Conv_2": {**params["Conv_2"], "bias": jnp.where(mask, -1e3, params["Conv_2"]["bias"])},
    }
    run = output_and_dead(fn)
    before, masks = run(shifted, x)
    assert np.asarray(masks["Head/relu_2"])[mask].all()
    after, _ = run(wires.recycle(shifted, masks, fresh), x)
    same_bits(after, before)


def test_with_channels_first_the_rows_are_repeated_instead():
    network = NETWORKS["conv_flatten_dense_channels_first"]()
    wires = wiring(lambda p, x: network.apply(p, x, relu), network.params, jnp.asarray(network.x))
    mask = np.array([False, True, False, True])
    _, outgoing = wires.entries(network.params, {"conv/relu": mask})
    same_bits(outgoing["dense"], np.broadcast_to(np.repeat(mask, 9)[:, None], (36, 3)))


def test_the_unit_axis_can_be_given():
    fn = lambda w, x: relu("h", x @ w["in"]).sum(axis=0) @ w["out"]  # noqa: E731 a formula in one line
    params = {"in": jnp.ones((2, 3)), "out": jnp.ones((3, 1))}
    x = jnp.ones((4, 2))
    assert wiring(fn, params, x).units == {"h/relu": (3,)}
    for axis in (0, -2, {"h/relu": 0}):
        wires = wiring(fn, params, x, unit_axis=axis)
        assert wires.units == {"h/relu": (4,)}
        assert wires.reasons["h/relu"]
    with pytest.raises(
        ValueError, match=r"unit_axis=2 is no axis of the input of h/relu, whose shape is \(4, 3\)"
    ):
        wiring(fn, params, x, unit_axis=2)
    with pytest.raises(ValueError, match="unit_axis names 'g', which is none of the sites h/relu"):
        wiring(fn, params, x, unit_axis={"g": 0})
    with pytest.raises(TypeError, match=r"unit_axis=1.5 at h/relu is no integer"):
        wiring(fn, params, x, unit_axis=1.5)


def test_the_largest_along_an_axis_other_than_the_last():
    def fn(params, x):
        best, _ = jax.lax.top_k(relu("h", x @ params["in"]), 1, axis=0)
        return best @ params["out"]

    params = {"in": jnp.ones((2, 3)), "out": jnp.ones((3, 1))}
    assert wiring(fn, params, jnp.ones((4, 2))).reasons == {"h/relu": ""}


def test_shared_units_are_refused_unless_told_to_go_on():
    network = NETWORKS["group_norms_and_layer_norm"]()
    wires = wiring(lambda p, x: network.apply(p, x, relu), network.params, jnp.asarray(network.x))
    masks = {"Normed/layer/relu": np.array([False, True, False])}
    with pytest.raises(
        ValueError, match="the units of Normed/layer/relu cannot be told from others: Dense_1/bias, "
    ):
        wires.recycle(network.params, masks, network.params)
    incoming, outgoing = wires.entries(network.params, masks, even_if_shared=True)
    counts = {
        jax.tree_util.keystr(path, simple=True, separator="/"): int(leaf.sum())
        for path, leaf in jax.tree_util.tree_leaves_with_path(incoming)
        if leaf.any()
    }
    assert counts == {
        "Dense_1/kernel": 4, "Dense_1/bias": 1, "LayerNorm_0/scale": 1, "LayerNorm_0/bias": 1
    }  # fmt: skip
    assert outgoing["Dense_0"]["kernel"].sum() == 2
    assert sum(int(leaf.sum()) for leaf in jax.tree.leaves(outgoing)) == 2


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_without_its_dead_units_a_network_gives_the_same(seed):
    params = drawn(seed)
    masks = dead(perceptron, params, X)
    small, left = WIRES.remove(params, masks)
    assert left == {name: int((~mask).sum()) for name, mask in masks.items()}
    assert small["layer1"]["kernel"].shape == (left[FIRST], left[SECOND])
    after = jax.jit(perceptron)(small, X)
    np.testing.assert_allclose(after, jax.jit(perceptron)(params, X), rtol=1e-5, atol=1e-5)


def test_removal_through_convolution_norm_and_flatten():
    class Net(nn.Module):
        widths: tuple[int, int]

        @nn.compact
        def __call__(self, x):
            norm = nn.BatchNorm(use_running_average=True)
            x = nn.relu(norm(nn.Conv(self.widths[0], (3, 3))(x)))
            x = nn.max_pool(x, (2, 2), (2, 2)).reshape(x.shape[0], -1)
            return nn.Dense(2)(nn.relu(nn.Dense(self.widths[1])(x)))

    rng = np.random.default_rng(0)
    x = np.float32(rng.normal(size=(2, 6, 6, 2)))
    shapes = jax.eval_shape(Net((6, 8)).init, jax.random.key(1), x)
    variables = jax.tree.map(lambda leaf: np.float32(rng.normal(size=leaf.shape) ** 2 - 0.5), shapes)
    run = lambda variables, x: Net((6, 8)).apply(variables, x)  # noqa: E731 a formula in one line
    # The running statistics have a place per channel, so they are among the parameters.
    variables["batch_stats"] = jax.tree.map(np.abs, variables["batch_stats"])
    variables["params"]["BatchNorm_0"]["bias"] = np.float32([-99, 0, 0, -99, 1, 1])
    wires = wiring(run, variables, x)
    masks = dead(run, variables, x)
    assert masks["Net/relu"][[0, 3]].all()
    assert not masks["Net/relu"].all()
    small, left = wires.remove(variables, masks)
    assert small["batch_stats"]["BatchNorm_0"]["var"].shape == (left["Net/relu"],)
    widths = (left["Net/relu"], left["Net/relu_1"])
    after = jax.jit(Net(widths).apply)(small, x)
    np.testing.assert_allclose(after, jax.jit(run)(variables, x), rtol=1e-5, atol=1e-5)


def named(name):
    network = NETWORKS[name]()
    return wiring(lambda p, x: network.apply(p, x, relu), network.params, jnp.asarray(network.x)), network


def test_removal_refuses_what_would_not_fit():
    wires, network = named("depthwise_and_grouped_convolutions")
    with pytest.raises(
        ValueError, match="remove: depthwise reads one/relu in groups, so that no single unit can be"
    ):
        wires.remove(network.params, {"one/relu": np.arange(4) == 1})
    wires, network = named("gated_units")
    one = {"one/relu": np.array([True, False])}
    with pytest.raises(ValueError, match="the units of one/relu and two/relu are multiplied by each other"):
        wires.remove(network.params, one)
    small, left = wires.remove(network.params, one | {"two/relu": np.array([True, False])})
    assert left == {"gate/relu": 4, "one/relu": 1, "two/relu": 1}
    assert {name: leaf.shape for name, leaf in small.items()} == {
        "gate": (3, 4), "up": (3, 4), "down": (4, 3), "one": (3, 1), "two": (3, 1), "scale": (1,), "out": (1, 1)
    }  # fmt: skip
    small, _ = wires.remove(network.params, {"gate/relu": np.arange(4) < 2})
    assert (small["gate"].shape, small["up"].shape, small["down"].shape) == ((3, 2), (3, 2), (2, 3))
    wires, network = named("a_scan_over_layers")
    mask = np.zeros((3, 4), bool)
    mask[:, 1] = True
    small, _ = wires.remove(network.params, {"scan/layer/relu": mask})
    assert small["layers"]["up"].shape == (3, 2, 3)
    mask[0, 1] = False
    with pytest.raises(ValueError, match="the entries of layers/bias to be cut are no whole slices of it"):
        wires.remove(network.params, {"scan/layer/relu": mask})
    with pytest.raises(ValueError, match="all units of layer0/relu would go; at least one has to stay"):
        WIRES.remove(PARAMS, {FIRST: np.ones(12, bool)})


def test_removal_from_traced_parameters_by_masks_that_are_not():
    mask = {FIRST: np.arange(12) == 3}
    same_bits(jax.jit(lambda params: WIRES.remove(params, mask)[0])(PARAMS), WIRES.remove(PARAMS, mask)[0])
    for how in (lambda mask: WIRES.remove(PARAMS, mask)[0], lambda mask: WIRES.waste(mask).parameters):
        with pytest.raises(
            TypeError, match=r"the mask of layer0/relu is traced, but what (remove|waste) gives depends on it"
        ):
            jax.jit(how)(mask)


BAD = [
    ({"nowhere": np.ones(3, bool)}, "no site is named 'nowhere'; the sites are layer0/relu, layer1/relu"),
    ({FIRST: np.ones(11, bool)}, r"the mask of layer0/relu must have shape \(12,\), got \(11,\)"),
    ({FIRST: np.ones(12)}, "the mask of layer0/relu must hold booleans, one for each unit, got float64"),
    (
        {FIRST: np.array([3])},
        r"the mask .* got int64; of indices it is jnp.zeros\(\(12,\), bool\).at\[indices\]",
    ),
    ([FIRST], "masks must be a dictionary from sites to booleans, got list"),
]


@pytest.mark.parametrize(("masks", "words"), BAD)
@pytest.mark.parametrize("how", ["entries", "recycle", "remove"])
def test_bad_masks(masks, words, how):
    arguments = (FRESH,) if how == "recycle" else ()
    with pytest.raises((ValueError, TypeError), match=f"{how}: {words}"):
        getattr(WIRES, how)(PARAMS, masks, *arguments)


def test_bad_parameters():
    with pytest.raises(ValueError, match="recycle: fresh has another structure"):
        WIRES.recycle(PARAMS, {}, {})
    with pytest.raises(
        ValueError, match=r"params has shape \(11,\) at layer0/bias, where the wiring has \(12,\)"
    ):
        WIRES.entries(drawn(0, (5, 11, 9, 3)), {})
    with pytest.raises(TypeError, match=r"wiring: \['a'\] is a float, no array"):
        wiring(lambda params, x: x @ params["a"], {"a": 1.0}, X)
    with pytest.raises(TypeError, match="wiring could not trace"):
        wiring(lambda params, x: x @ params["a"], {"a": jnp.ones((7, 7))}, X)


def test_entries_that_serve_too_many_units_are_refused_in_any_case():
    def fn(params, x):
        z = jax.lax.conv_general_dilated(
            x, params["conv"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return relu("flat", z.reshape(1, -1)) @ params["out"]

    params = {"conv": jnp.ones((1, 1, 1, 2)), "out": jnp.ones((162, 1))}
    wires = wiring(fn, params, jnp.ones((1, 9, 9, 1)))
    assert wires.reasons == {"flat/relu": "the entries that feed it serve more than 64 of its units each"}
    with pytest.raises(ValueError, match=r"serve more than 64 of its units each\.$"):
        wires.entries(params, {"flat/relu": np.ones(162, bool)}, even_if_shared=True)


def test_an_example_of_zeros_is_as_good_as_any():
    zeros = np.zeros((1, 5), np.float32)
    assert str(wiring(perceptron, PARAMS, zeros)) == str(WIRES)
    assert str(wiring(lambda params: perceptron(params, jnp.asarray(zeros)), PARAMS)) == str(WIRES)
    closed_over = jnp.asarray(zeros)
    assert str(wiring(lambda params: perceptron(params, closed_over), PARAMS)) == str(WIRES)


def test_a_site_that_nothing_depends_on():
    def fn(w, x):
        relu("unused", x @ w)
        jax.debug.print("{}", relu("printed", x @ w))
        return x @ w

    wires = wiring(fn, jnp.ones((5, 2)), X)
    # What nothing uses at all is no site.
    assert wires.reasons == {"printed/relu": "no output of the function depends on it"}
    with pytest.raises(
        ValueError, match="cannot be told from others: no output of the function depends on it"
    ):
        wires.entries(jnp.ones((5, 2)), {"printed/relu": np.ones(2, bool)})


def test_what_is_only_printed_changes_nothing():
    def fn(params, x):
        @jax.jit
        def first(x):
            h = relu("layer0", x @ params["layer0"]["kernel"] + params["layer0"]["bias"])
            jax.debug.print("{} {}", h.mean(), h @ params["layer1"]["kernel"])
            return h

        h = relu("layer1", first(x) @ params["layer1"]["kernel"] + params["layer1"]["bias"])
        jax.debug.print("{}", h.max())
        return h @ params["layer2"]["kernel"] + params["layer2"]["bias"]

    assert str(wiring(fn, PARAMS, X)) == str(WIRES)
