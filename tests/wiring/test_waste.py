"""What dead units cost, against networks whose parameters and multiplications are counted by hand."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_leaky import census, wiring
from tests.wiring.networks import relu
from tests.wiring.test_use import FIRST, PARAMS, SECOND, WIRES, named, perceptron


def numbers(waste):
    return waste.parameters, waste.all_parameters, waste.multiplications, waste.all_multiplications


def test_a_perceptron():
    # 5 - 12 - 9 - 3 with biases, on two samples; two units of the first layer are dead, three of the second.
    waste = WIRES.waste({FIRST: np.arange(12) < 2, SECOND: np.arange(9) < 3})
    first, second = waste.sites[FIRST], waste.sites[SECOND]
    assert (first.dead, first.units, first.parameters) == (2, 12, 2 * (5 + 1 + 9))
    assert (second.dead, second.units, second.parameters) == (3, 9, 3 * (12 + 1 + 3))
    assert (first.multiplications, second.multiplications) == (2 * 2 * (5 + 9), 2 * 3 * (12 + 3))
    whole = 5 * 12 + 12 * 9 + 9 * 3
    dead = 2 * 5 + 2 * 9 + 3 * 12 - 2 * 3 + 3 * 3
    assert numbers(waste) == (dead + 2 + 3, whole + 12 + 9 + 3, 2 * dead, 2 * whole)
    assert str(waste).splitlines() == [
        "site         dead     parameters         multiplications     reason",
        "layer0/relu  2 of 12  30                 56",
        "layer1/relu  3 of 9   48                 90",
        "in all                72 of 219 (32.9%)  134 of 390 (34.4%)",
    ]
    nothing = WIRES.waste({})
    assert (nothing.sites, nothing.parameters, nothing.multiplications) == ({}, 0, 0)


def test_what_is_cut_out_is_what_was_wasted():
    masks = {FIRST: np.arange(12) % 3 == 0, SECOND: np.arange(9) % 4 == 0}
    waste, (small, _) = WIRES.waste(masks), WIRES.remove(PARAMS, masks)
    left = wiring(perceptron, small, jnp.ones((2, 5))).waste({})
    assert waste.all_parameters - waste.parameters == sum(leaf.size for leaf in jax.tree.leaves(small))
    assert waste.all_multiplications - waste.multiplications == left.all_multiplications


class Normed(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(6, (3, 3), strides=(2, 1), use_bias=False)(x)
        x = nn.relu(nn.BatchNorm(use_running_average=True)(x))
        return nn.Dense(4)(x.reshape(x.shape[0], -1))


def test_a_convolution_with_batch_norm_from_its_census():
    x = np.float32(np.random.default_rng(0).normal(size=(3, 8, 5, 2)))
    shapes = jax.eval_shape(Normed().init, jax.random.key(0), x)
    variables = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), shapes)
    variables["params"]["BatchNorm_0"]["bias"] = np.float32([9, -99, 9, -99, 9, 9])
    run = lambda variables, x: Normed().apply(variables, x)  # noqa: E731 a formula in one line
    wires = wiring(run, variables, x)
    waste = wires.waste(census(run, [(variables, x)]))
    # A channel has 3 x 3 x 2 weights, scale, offset, mean and variance, and is read at 4 x 5 places by 4 units.
    assert waste.sites["Normed/relu"].dead == 2
    products = 3 * (20 * 18 + 20 * 4)
    assert numbers(waste) == (2 * (18 + 4 + 80), 6 * (18 + 4 + 80) + 4, 2 * products, 6 * products)


def test_a_residual_stream_a_scan_over_layers_and_one_over_time():
    wires, _ = named("a_scan_over_layers")
    masks = {"scan/layer/relu": np.array([[True, False, False, True], [False] * 4, [True] * 4])}
    # Two samples; embed 3 -> 2, three layers 2 -> 4 -> 2 with biases in the middle, out 2 -> 1.
    assert numbers(wires.waste(masks)) == (6 * 5, 6 + 3 * 20 + 2, 2 * 6 * 4, 2 * (6 + 3 * 16 + 2))
    wires, _ = named("a_recurrent_cell")
    waste = wires.waste({"scan/cell/relu": np.array([True, False, False])})
    # Four steps of two samples, then 3 -> 1; a unit is read by its cell, itself included, and at the end.
    assert numbers(waste) == (2 + 5 + 1 + 1, 6 + 9 + 3 + 3, 4 * 2 * (2 + 5) + 2, 4 * 2 * 15 + 2 * 3)
    wires, _ = named("depthwise_and_grouped_convolutions")
    waste = wires.waste({"two/relu": np.arange(8) == 7})
    # 3 x 3 places: 9 depthwise weights and a bias, then 3 of the group's 6 channels of a 2 x 2 kernel.
    assert (waste.parameters, waste.multiplications) == (9 + 1 + 12, 9 * (9 + 12))
    assert waste.all_multiplications == 9 * (2 * 4 + 8 * 9 + 6 * 4 * 4) + 6


def test_what_is_not_known_has_a_reason():
    wires, _ = named("a_residual_stream")
    masks = {name: np.zeros(shape, bool) for name, shape in wires.units.items()}
    waste = wires.waste(masks | {"inner/relu": np.arange(4) == 0})
    assert waste.sites["last/relu"].reason == wires.reasons["last/relu"] != ""
    assert waste.sites["last/relu"].parameters == 0
    assert (waste.parameters, waste.multiplications) == (6, 2 * 6)
    assert "last/relu   -       -" in str(waste)
    leaky = lambda w, x: jax.nn.leaky_relu(x @ w, 0.1) @ w  # noqa: E731 a formula in one line
    params, x = jnp.ones((2, 2)), jnp.ones((1, 2))
    (only,) = wiring(leaky, params, x).waste(census(leaky, [(params, x)])).sites.values()
    assert only.reason.startswith("n/a by construction")
    other = lambda p, x: relu("first", x @ p["in"]) @ p["out"]  # noqa: E731 a formula in one line
    small = {"in": jnp.ones((2, 3)), "out": jnp.ones((3, 1))}
    found = census(other, [(small, x)])
    wide = wiring(other, {"in": jnp.ones((2, 4)), "out": jnp.ones((4, 1))}, x)
    with pytest.raises(ValueError, match="waste: first/relu has 3 units in the census and 4 in the wiring"):
        wide.waste(found)
    assert WIRES.waste(found).sites[FIRST].reason == "the census has no such site"
    with pytest.raises(TypeError, match="waste: dead must be a census or a dictionary of masks, got list"):
        WIRES.waste([True])
    with pytest.raises(ValueError, match="waste: no site is named 'nowhere'"):
        WIRES.waste({"nowhere": np.ones(1, bool)})
