"""The state of every optimiser of optax, begun anew for the entries of some units."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jax_leaky import wiring
from tests.wiring.networks import relu

RNG = np.random.default_rng(0)
PARAMS = {
    "in": jnp.asarray(RNG.normal(size=(3, 4)), jnp.float32),
    "bias": jnp.asarray(RNG.normal(size=4), jnp.float32),
    "out": jnp.asarray(RNG.normal(size=(4, 2)), jnp.float32),
}
GRADIENTS = [
    jax.tree.map(lambda leaf: jnp.asarray(RNG.normal(size=leaf.shape), jnp.float32), PARAMS) for _ in "abc"
]
WIRES = wiring(lambda p, x: relu("h", x @ p["in"] + p["bias"]) @ p["out"], PARAMS, jnp.ones((1, 3)))
MASKS = {"h/relu": np.array([True, False, False, True])}
UNITS = [0, 3]
BIASES = {"in": False, "bias": True, "out": False}

OPTIMISERS = {
    "adam": optax.adam(0.1),
    "adamw": optax.adamw(0.1),
    "sgd with momentum": optax.sgd(0.1, momentum=0.9),
    "rmsprop": optax.rmsprop(0.1, centered=True, momentum=0.9),
    "adagrad": optax.adagrad(0.1),
    "adafactor": optax.adafactor(0.1),
    "lion": optax.lion(0.1),
    "lamb": optax.lamb(0.1),
    "nadam": optax.nadam(0.1),
    "yogi": optax.yogi(0.1),
    "adadelta": optax.adadelta(0.1),
    "amsgrad": optax.amsgrad(0.1),
    "novograd": optax.novograd(0.1),
    "rprop": optax.rprop(0.1),
    "chained": optax.chain(
        optax.clip_by_global_norm(1.0), optax.trace(0.9), optax.ema(0.9), optax.scale(-0.1)
    ),
    "masked": optax.masked(optax.adam(0.1), {"in": True, "bias": False, "out": True}),
    "multi_transform": optax.multi_transform(
        {"kernels": optax.adam(0.1), "biases": optax.sgd(0.1, momentum=0.9)},
        {"in": "kernels", "bias": "biases", "out": "kernels"},
    ),
    "inject_hyperparams": optax.inject_hyperparams(optax.adam)(learning_rate=optax.constant_schedule(0.1)),
    "MultiSteps": optax.MultiSteps(optax.adam(0.1), every_k_schedule=2),
    "frozen parts": optax.partition(
        {"kernels": optax.adam(0.1), "frozen": optax.set_to_zero()},
        {"in": "kernels", "bias": "frozen", "out": "kernels"},
    ),
    "moments of 16 bits": optax.adam(0.1, mu_dtype=jnp.bfloat16),
    "muon": optax.contrib.muon(0.1),
    "schedule-free": optax.contrib.schedule_free_adamw(0.1),
    "noise": optax.chain(optax.add_noise(0.1, 0.5, jax.random.key(0)), optax.adam(0.1)),
}


ALWAYS = {"adam", "adamw", "sgd with momentum"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in ALWAYS else pytest.mark.slow) for name in OPTIMISERS]
)
def test_entries_are_as_init_gives_them_and_all_others_untouched(name):
    optimizer = OPTIMISERS[name]

    @jax.jit
    def step(gradients, state, params):
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    state, params = optimizer.init(PARAMS), PARAMS
    for gradients in GRADIENTS:
        params, state = step(gradients, state, params)
    after = jax.jit(lambda state, params: WIRES.restart(optimizer, state, params, MASKS))(state, params)
    fresh = optimizer.init(params)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    per_entry = 0
    for (path, old), new, begun in zip(
        jax.tree_util.tree_leaves_with_path(state),
        jax.tree.leaves(after),
        jax.tree.leaves(fresh),
        strict=True,
    ):
        if jax.dtypes.issubdtype(old.dtype, jax.dtypes.prng_key):
            continue
        expected = np.array(old)
        # A leaf that belongs to a parameter is known by its path, one per entry by its shape.
        last = getattr(path[-1], "key", None)
        if last in PARAMS and old.shape == PARAMS[last].shape:
            place = (slice(None), UNITS) if last == "in" else (UNITS,)
            expected[place] = np.asarray(begun)[place]
            per_entry += 1
        np.testing.assert_array_equal(np.asarray(new), expected, err_msg=jax.tree_util.keystr(path))
    assert per_entry or name == "novograd"  # which keeps one second moment per array
    if name != "novograd":
        assert any(not np.array_equal(a, b) for a, b in zip(*map(_arrays, (after, state)), strict=True))
    jax.eval_shape(optimizer.update, GRADIENTS[0], after, params)


def _arrays(state):
    return [
        leaf for leaf in jax.tree.leaves(state) if not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    ]


@pytest.mark.slow
def test_factored_moments_and_counts_stay():
    # A moment that is the outer product of a row and a column has no place per entry.
    optimizer = optax.adafactor(0.1, min_dim_size_to_factor=2)
    state = optimizer.init(PARAMS)
    _, state = jax.jit(optimizer.update)(GRADIENTS[0], state, PARAMS)
    after = WIRES.restart(optimizer, state, PARAMS, MASKS)
    factored = next(part for part in after if hasattr(part, "v_row"))
    before = next(part for part in state if hasattr(part, "v_row"))
    for key in ("in", "out"):
        assert factored.v_row[key] is before.v_row[key]
        assert factored.v_col[key] is before.v_col[key]
    assert factored.v["bias"][1] == before.v["bias"][1] != 0
    assert factored.v["bias"][0] == 0
    assert factored.count == before.count == 1


@pytest.mark.slow
def test_moments_in_one_row_are_those_of_each_parameter():
    after = []
    for optimizer in (optax.adam(0.1), optax.flatten(optax.adam(0.1))):
        _, state = optimizer.update(GRADIENTS[0], optimizer.init(PARAMS), PARAMS)
        after.append(WIRES.restart(optimizer, state, PARAMS, MASKS)[0])
    for name in ("mu", "nu"):
        each, row = (getattr(part, name) for part in after)
        np.testing.assert_array_equal(row, np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(each)]))
        assert (row == 0).sum() == 3 * 2 + 2 + 2 * 2


@pytest.mark.slow
def test_a_state_keeps_its_dtypes():
    params = {name: leaf.astype(jnp.bfloat16) for name, leaf in PARAMS.items()}
    optimizer = optax.adam(0.1, mu_dtype=jnp.float32)
    state = optimizer.init(params)
    wide = jax.tree.map(lambda leaf: leaf if leaf.dtype == jnp.int32 else leaf.astype(jnp.float32), state)
    narrow = jax.tree.map(lambda leaf: leaf if leaf.dtype == jnp.int32 else leaf.astype(jnp.bfloat16), state)
    for old in (state, wide, narrow):
        after = WIRES.restart(optimizer, old, params, MASKS)
        assert jax.tree.map(lambda leaf: leaf.dtype, after) == jax.tree.map(lambda leaf: leaf.dtype, old)


@pytest.mark.slow
def test_a_bare_array_of_parameters():
    w = jnp.ones((3, 3))
    wires = wiring(lambda w, x: relu("h", x @ w).sum(), w, jnp.ones((1, 3)))
    optimizer = optax.adam(0.1)
    _, state = optimizer.update(w, optimizer.init(w), w)
    mask = {"h/relu": np.array([False, True, False])}
    after = wires.restart(optimizer, state, w, mask, even_if_shared=True)
    assert after[0].count == 1
    np.testing.assert_array_equal(after[0].mu[0], np.float32([0.1, 0, 0.1]))


class Perceptron(nnx.Module):
    def __init__(self, rngs):
        self.hidden, self.out = nnx.Linear(3, 4, rngs=rngs), nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x):
        return self.out(nnx.relu(self.hidden(x)))


def test_the_state_of_an_nnx_optimizer_which_keeps_each_array_in_a_variable():
    net, x = Perceptron(nnx.Rngs(0)), jnp.ones((1, 3))
    wires = wiring(lambda net, x: net(x), net, x)
    optimizer = nnx.Optimizer(net, optax.adam(0.1), wrt=nnx.Param)
    for _ in range(2):
        optimizer.update(net, jax.tree.map(jnp.ones_like, nnx.state(net, nnx.Param)))
    masks = dict.fromkeys(wires.units, MASKS["h/relu"])

    @nnx.jit
    def restart(net, optimizer):
        optimizer.opt_state = wires.restart(optimizer.tx, optimizer.opt_state, net, masks)

    restart(net, optimizer)
    adam = optimizer.opt_state[0]
    assert adam.count[...] == 2
    for moments, full in ((adam.mu, 1 - 0.9**2), (adam.nu, 1 - 0.999**2)):
        row = np.array([0, full, full, 0])  # units 0 and 3 begin anew
        np.testing.assert_allclose(moments.hidden.kernel[...], np.tile(row, (3, 1)), rtol=1e-3)
        np.testing.assert_allclose(moments.hidden.bias[...], row, rtol=1e-3)
        np.testing.assert_allclose(moments.out.kernel[...], np.tile(row, (2, 1)).T, rtol=1e-3)
        np.testing.assert_allclose(moments.out.bias[...], [full, full], rtol=1e-3)
    optimizer.update(net, jax.tree.map(jnp.ones_like, nnx.state(net, nnx.Param)))
    assert optimizer.opt_state[0].count[...] == 3


def test_a_state_of_another_optimiser_is_refused():
    with pytest.raises(
        ValueError, match="restart: the state does not belong to this optimizer and these parameters"
    ):
        WIRES.restart(optax.adam(0.1), optax.sgd(0.1).init(PARAMS), PARAMS, MASKS)
    wider = optax.adam(0.1).init(PARAMS | {"in": jnp.ones((3, 5))})
    with pytest.raises(
        ValueError,
        match=r"restart: .*: \[0\]\.mu\['in'\] has shape \(3, 5\), and in optimizer.init\(params\) \(3, 4\)",
    ):
        WIRES.restart(optax.adam(0.1), wider, PARAMS, MASKS)
    with pytest.raises(TypeError, match="restart: optimizer must be an optax optimiser, got int"):
        WIRES.restart(3, wider, PARAMS, MASKS)


@pytest.mark.slow
@pytest.mark.parametrize("axis_type", ["Auto", "Explicit"])
def test_eight_devices_recycle_restart_and_train_with_each_remedy_as_one(axis_type):
    subprocess.run([sys.executable, "-m", "tests.wiring.eight_devices", axis_type], check=True)
