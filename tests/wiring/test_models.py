"""The wiring of models as they are written: Flax's own layers, networks of this project, constructs not entered."""

import flax.linen as nn
import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax
from jax.sharding import PartitionSpec

from jax_leaky import observe, remedies, wiring
from tests.wiring.networks import relu


def wired(module, x, *args):
    variables = jax.eval_shape(lambda key, x: module.init(key, x, *args), jax.random.key(0), x)
    rest = {
        name: jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), tree)
        for name, tree in variables.items()
    }
    return wiring(
        lambda params, x: module.apply({**rest, "params": params}, x, *args), variables["params"], x
    )


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        h = nn.LayerNorm()(x)
        x = x + nn.MultiHeadDotProductAttention(num_heads=2)(h, h)
        h = nn.gelu(nn.Dense(6)(nn.LayerNorm()(x)))
        return x + nn.Dense(x.shape[-1])(h)


class Transformer(nn.Module):
    scanned: bool

    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(7, 4)(tokens)
        if self.scanned:
            step = lambda block, x, _: (block(x), None)  # noqa: E731 a formula in one line
            layers = nn.scan(step, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
            x, _ = layers(nn.remat(Block)(), x, None)
        else:
            for _ in range(2):
                x = Block()(x)
        return nn.Dense(7)(nn.LayerNorm()(x))


def test_transformers():
    tokens = np.zeros((1, 5), int)
    wires = wired(Transformer(scanned=False), tokens)
    assert str(wires).splitlines() == [
        "site                      units  incoming  outgoing  reason",
        "Transformer/Block_0/gelu  6      30        24",
        "Transformer/Block_1/gelu  6      30        24",
    ]
    scanned = wired(Transformer(scanned=True), tokens)
    assert list(scanned.units.values()) == [(3, 6)]
    assert list(scanned.reasons.values()) == [""]
    assert "3 x 6  90        72" in str(scanned)


@pytest.mark.parametrize(
    ("cell", "reasons"),
    [
        pytest.param(nn.SimpleCell, ["the function's output"], marks=pytest.mark.slow),
        (nn.GRUCell, ["no weights between", "summed with something else", "the function's output"]),
        pytest.param(
            nn.OptimizedLSTMCell,
            [*["no weights between"] * 3, *["the function's output"] * 2],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_recurrent_cells_whose_states_are_the_output(cell, reasons):
    wires = wired(nn.RNN(cell(3)), jnp.ones((1, 4, 2)))
    for reason, expected in zip(wires.reasons.values(), reasons, strict=True):
        assert expected in reason


def test_a_recurrent_network_with_a_head():
    class Tagger(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(2)(nn.RNN(nn.OptimizedLSTMCell(3))(x))

    wires = wired(Tagger(), jnp.ones((1, 4, 2)))
    reasons = {site.rsplit("/", 1)[1]: reason for site, reason in wires.reasons.items()}
    # The output gate is a factor of the state, and nothing else passes it.
    assert reasons["sigmoid_2"] == ""
    assert reasons["tanh_1"] == "no weights of its own feed it"
    assert all("tanh_1 with no weights between" in reasons[name] for name in ("sigmoid", "sigmoid_1", "tanh"))


@pytest.mark.slow
def test_a_residual_network():
    from experiments.image_classification.resnet import ResNet

    wires = wired(ResNet(stages=((2,), (3,))), jnp.ones((1, 8, 8, 3)), 0.1, False)
    clear = [reason == "" for reason in wires.reasons.values()]
    # The first activation is added to the next block's sum, the one inside a block is not, the last meets the head; the
    # second shortcut has weights of its own, so that the activation in front of it is read by them.
    assert clear == [False, True, True, True, True]


@pytest.mark.slow
def test_an_nnx_module_is_recycled():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(1, 4, (2, 2), rngs=rngs)
            self.norm = nnx.BatchNorm(4, rngs=rngs)
            self.dense = nnx.Linear(16, 3, rngs=rngs)

        def __call__(self, x):
            return self.dense(nnx.relu(self.norm(self.conv(x))).reshape(x.shape[0], -1))

    model, x = Net(nnx.Rngs(0)), jnp.ones((2, 2, 2, 1))
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    wires = wiring(lambda params, rest, x: nnx.merge(graph, params, rest)(x), params, rest, x)
    (site,) = wires.units
    mask = {site: np.array([True, False, False, False])}
    fresh = nnx.state(Net(nnx.Rngs(1)), nnx.Param)
    after = wires.recycle(params, mask, fresh)
    assert (after["dense"]["kernel"][...][0::4] == 0).all()
    np.testing.assert_array_equal(after["conv"]["kernel"][..., 0], fresh["conv"]["kernel"][..., 0])
    np.testing.assert_array_equal(after["conv"]["kernel"][..., 1:], params["conv"]["kernel"][..., 1:])
    optimizer = optax.adam(1e-3)
    state = wires.restart(optimizer, optimizer.init(params), after, mask)
    assert jax.tree.structure(state) == jax.tree.structure(optimizer.init(params))
    nnx.update(model, after)


@pytest.mark.slow
def test_the_optimizer_of_nnx_takes_a_remedy():
    model, x, y = nnx.Linear(3, 4, rngs=nnx.Rngs(0)), jnp.ones((5, 3)), jnp.ones((5, 2))
    model.readout = nnx.Linear(4, 2, rngs=nnx.Rngs(1))
    model.bias[...] = jnp.array([9.0, -9, 9, 9])
    model.readout.kernel[...] += 1.0
    run = lambda model, x, y: jnp.square(model.readout(relu("h", model(x))) - y).mean()  # noqa: E731 a formula in one line
    graph, params = nnx.split(model, nnx.Param)
    wires = wiring(lambda params, x, y: run(nnx.merge(graph, params), x, y), params, x, y)
    fresh = lambda key: jax.tree.map(lambda leaf: jnp.full(leaf.shape, 7.0), params)  # noqa: ARG005, E731 a formula in one line
    remedy = remedies.redo(optax.sgd(0.1), wires, fresh, jax.random.key(0), every=1, threshold=0.0)
    optimizer = nnx.Optimizer(model, remedy, wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        observed = observe(run, lambda _, z: jax.nn.relu(z))
        gradients, outputs = nnx.grad(lambda model: observed(model, x, y), has_aux=True)(model)
        optimizer.update(model, gradients, outputs=outputs)

    step(model, optimizer)
    dead = np.array([False, True, False, False])
    np.testing.assert_array_equal(np.isclose(model.bias[...], 7), dead)
    np.testing.assert_array_equal(np.isclose(model.kernel[...], 7).all(axis=0), dead)
    np.testing.assert_array_equal((model.readout.kernel[...] == 0).all(axis=1), dead)


def test_a_norm_over_many_units():
    """All entries of a kernel reach all 512 units; one at a time, that took minutes."""

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            for _ in range(2):
                x = nn.relu(nn.LayerNorm()(nn.Dense(512)(x)))
            return nn.Dense(3)(x)

    wires = wired(Net(), np.zeros((2, 300)))
    of_norm = "moves several of its units (a norm over units, or weights used at several places)"
    assert [line.split(maxsplit=4) for line in str(wires).splitlines()[1:]] == [
        [
            "Net/relu",
            "512",
            "155,136",
            "262,144",
            f"Dense_0/bias, which feeds it, {of_norm}",
        ],  # 300 + bias, scale, offset
        ["Net/relu_1", "512", "263,680", "1,536", f"Dense_1/bias, which feeds it, {of_norm}"],
    ]


def test_an_nnx_module_stands_for_its_parameters():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.hidden, self.norm = nnx.Linear(3, 4, rngs=rngs), nnx.BatchNorm(4, rngs=rngs)
            self.readout = nnx.Linear(4, 2, rngs=rngs)

        def __call__(self, x):
            return self.readout(nnx.relu(self.norm(self.hidden(x))))

    model, x = Net(nnx.Rngs(0)), jnp.ones((5, 3))
    wires = wiring(lambda model, x: model(x), model, x)
    (site,) = wires.units
    dead = {site: np.array([True, False, False, False])}
    params = nnx.state(model, nnx.Param)
    assert jax.tree.structure(wires.entries(model, dead)[0]) == jax.tree.structure(params)
    after = wires.recycle(model, dead, Net(nnx.Rngs(1)))
    fresh = Net(nnx.Rngs(1))
    np.testing.assert_array_equal(after["hidden"]["kernel"][..., 0], fresh.hidden.kernel[..., 0])
    np.testing.assert_array_equal(after["hidden"]["kernel"][..., 1:], model.hidden.kernel[..., 1:])
    assert (after["readout"]["kernel"][0] == 0).all()
    assert model.norm.mean[...].sum() == 0  # nothing was written into the module
    optimizer = optax.adam(1e-3)
    state = wires.restart(optimizer, optimizer.init(params), model, dead)
    assert jax.tree.structure(state) == jax.tree.structure(optimizer.init(params))


def test_an_nnx_module_among_other_things_is_refused():
    with pytest.raises(TypeError, match="wiring: params holds an NNX module among other things"):
        wiring(lambda models, x: models[0](x), [nnx.Linear(1, 2, rngs=nnx.Rngs(0))], jnp.ones((2, 1)))
    with pytest.raises(TypeError, match="wiring: fn must be a function of its parameters, got an NNX module"):
        wiring(nnx.Linear(1, 2, rngs=nnx.Rngs(0)), jnp.ones((2, 1)))


def test_a_shard_map_is_not_entered():
    mesh = jax.make_mesh((2,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = PartitionSpec("batch")

    def fn(params, x):
        return relu("inside", x @ params["a"])

    inner = jax.shard_map(fn, mesh=mesh, in_specs=(PartitionSpec(), rows), out_specs=rows)
    params = {"a": jnp.ones((2, 3)), "b": jnp.ones((3, 3)), "c": jnp.ones((3, 1))}
    outer = lambda p, x: relu("outside", inner({"a": p["a"]}, x) @ p["b"]) @ p["c"]  # noqa: E731 a formula in one line
    wires = wiring(outer, params, jnp.ones((4, 2)))
    inside, outside = wires.reasons
    assert wires.reasons[inside] == "wiring does not enter a shard_map over batch"
    assert wires.reasons[outside] == ""


def test_what_depends_on_a_unit_without_reading_it():
    def fn(params, x):
        h = relu("h", x @ params["a"])
        steps = lambda state: state[0] < h.sum()  # noqa: E731 a formula in one line
        _, y = lax.while_loop(steps, lambda state: (state[0] + 1, state[1] * 2), (0.0, x[:, :1]))
        return (
            y + lax.cond(h[0, 0] > 0, lambda: 1.0, lambda: 2.0) + x[:, h.argmax(axis=1)] * 0 + h @ params["b"]
        )

    wires = wiring(fn, {"a": jnp.ones((2, 3)), "b": jnp.ones((3, 1))}, jnp.ones((1, 2)))
    assert "mixes its units before weights read them" in wires.reasons["h/relu"]
