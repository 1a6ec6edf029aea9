"""Units that are dead by their bounds, against interval arithmetic in NumPy and against data drawn from the range."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_leaky import census, leaky_relu, observe, wiring
from tests.wiring.networks import NETWORKS, relu
from tests.wiring.test_use import FIRST, SECOND, drawn, perceptron

RNG = np.random.default_rng(5)
LOW, HIGH = np.float32([-1, 0, 0, -0.5, 0]), np.float32([1, 1, 3, 0.5, 0])
PARAMS = drawn(2)
PARAMS["layer0"]["bias"] -= 3.0
PARAMS["layer1"]["bias"] -= jnp.linspace(0, 25, 9)
X = np.float32(RNG.uniform(LOW, HIGH, size=(2, 5)))
WIRES = wiring(perceptron, PARAMS, X)
CERTAIN = WIRES.dead_by_bounds(PARAMS, LOW, HIGH)


def by_hand(layers, low, high):
    """For each layer of a chain (kernel, bias) the units whose z is at most 0."""
    low, high = (np.broadcast_to(np.float64(end), len(layers[0][0])) for end in (low, high))
    dead = []
    for kernel, bias in layers:
        rising, falling = np.maximum(kernel, 0).T, np.minimum(kernel, 0).T
        most, least = rising @ high + falling @ low + bias, rising @ low + falling @ high + bias
        dead.append(most <= 0)
        low, high = np.maximum(least, 0), np.maximum(most, 0)
    return dead


def test_each_unit_of_a_perceptron_is_that_of_numpy():
    layers = [[np.asarray(PARAMS[name][part], np.float64) for part in ("kernel", "bias")] for name in PARAMS]
    for ends in ((LOW, HIGH), (-0.5, 0.5), (0.0, 2.0)):
        found = WIRES.dead_by_bounds(PARAMS, *ends)
        for site, expected in zip((FIRST, SECOND), by_hand(layers[:2], *ends), strict=True):
            np.testing.assert_array_equal(found[site], expected)
    assert all(0 < int(mask.sum()) < mask.size for mask in CERTAIN.values())
    with jax.debug_nans(True), jax.debug_infs(True):
        nothing = WIRES.dead_by_bounds(PARAMS)
    assert not nothing[FIRST].any()
    # Behind a ReLU there is a lower end: a unit that is only ever lowered is dead whatever comes.
    lowered = PARAMS | {
        "layer1": {"kernel": -jnp.abs(PARAMS["layer1"]["kernel"]), "bias": jnp.zeros(9) - 1e-3}
    }
    assert WIRES.dead_by_bounds(lowered)[SECOND].all()


def test_without_them_outputs_are_the_same_wherever_data_are_in_range():
    dead = {site.name: site.per_unit("dead") == 1 for site in census(perceptron, [(PARAMS, X)])}
    assert all((~mask | dead[site]).all() for site, mask in CERTAIN.items())
    assert any((dead[site] & ~np.asarray(mask)).any() for site, mask in CERTAIN.items())
    run, anywhere = jax.jit(perceptron), np.float32(RNG.uniform(LOW, HIGH, size=(500, 5)))
    small, _ = WIRES.remove(PARAMS, CERTAIN)
    np.testing.assert_allclose(run(small, anywhere), run(PARAMS, anywhere), rtol=1e-5, atol=1e-5)
    # Those that are dead on the data of the census alone are missed elsewhere.
    smaller, _ = WIRES.remove(PARAMS, dead)
    np.testing.assert_allclose(run(smaller, X), run(PARAMS, X), rtol=1e-5, atol=1e-5)
    assert np.abs(run(smaller, anywhere) - run(PARAMS, anywhere)).max() > 0.1


def test_the_table_says_apart_which_are_dead_on_all_data():
    waste = WIRES.waste(census(perceptron, [(PARAMS, X)]), CERTAIN)
    for site in (FIRST, SECOND):
        assert waste.sites[site].by_bounds == CERTAIN[site].sum() <= waste.sites[site].dead
    first, second = waste.sites[FIRST], waste.sites[SECOND]
    header, *rows = str(waste).splitlines()
    assert header.split() == ["site", "dead", "by", "bounds", "parameters", "multiplications", "reason"]
    assert rows[0].split()[:5] == [FIRST, str(first.dead), "of", "12", str(first.by_bounds)]
    assert rows[1].split()[:5] == [SECOND, str(second.dead), "of", "9", str(second.by_bounds)]


FORMS = [
    jax.nn.relu,
    jax.nn.relu6,
    lambda z: leaky_relu(z, 0.0),
    lambda z: jax.nn.leaky_relu(z, 0.0),
    lambda z: jnp.where(z > 0, z, 0),
    lambda z: jnp.where(~(z > 0), 0, z),
    lambda z: z * (z > 0),
    lambda z: jnp.square(jax.nn.relu(z)),
]


@pytest.mark.parametrize("form", range(len(FORMS)))
def test_however_the_activation_is_written(form):
    fn = lambda p, x: FORMS[form](jnp.tanh(x) @ p["in"] + p["bias"]) @ p["out"]  # noqa: E731 a formula in one line
    params = {"in": jnp.ones((2, 3)), "bias": jnp.array([-1.9, -2.1, 5.0]), "out": jnp.ones((3, 1))}
    (dead,) = wiring(fn, params, jnp.ones((1, 2))).dead_by_bounds(params).values()
    assert dead.tolist() == [False, True, False]


# What becomes of unbounded data, and the least and the greatest that it can be.
RANGES = [
    (lambda x: jnp.tanh(x)[:, ::-1] / -2, -0.5, 0.5),
    (lambda x: 0.25 - jax.nn.sigmoid(x), -0.75, 0.25),
    (lambda x: jnp.square(jnp.tanh(x) - 0.5) - 1, -1, 1.25),
    (lambda x: jnp.abs(jnp.tanh(x) + 0.5), 0, 1.5),
    (lambda x: jnp.abs(jnp.tanh(x) - 3), 2, 4),
    (lambda x: jax.lax.rsqrt(4 + jnp.exp(x)), 0, 0.5),
    (lambda x: 1 / (2 + jax.nn.sigmoid(x)), 1 / 3, 0.5),
    (lambda x: jnp.clip(x, -2, 1) ** 3, -8, 1),
    (lambda x: (2 + jax.nn.sigmoid(x)) ** -2, 1 / 9, 1 / 4),
    (lambda x: jnp.clip(x, -2, 1) ** 2, 0, 4),
    (lambda x: jnp.where(x < 0, -12, jnp.clip(x, -9, 3)), -12, 3),  # an open test: either case
    (lambda x: jnp.where(jnp.tanh(x) <= 1, -1, x), -1, -1),  # one that holds
    (lambda x: jnp.where(jnp.tanh(x) > 1, x, -jnp.tanh(x)), -1, 1),  # one that does not
    (lambda x: jnp.tanh(x) * jax.nn.sigmoid(x) * -2, -2, 2),
    (lambda x: jnp.concatenate([jnp.tanh(x[:, :1]), jnp.ones((1, 1))], axis=1), 0, 1),  # (-1 + 1) / 2
    (lambda x: jax.lax.cond(x.sum() > 0, jnp.tanh, lambda x: jax.nn.sigmoid(x) + 1, x), -1, 2),
    (lambda x: jnp.broadcast_to(jnp.tanh(x).sum(axis=1, keepdims=True), x.shape), -2, 2),
    (lambda x: jnp.log1p(jnp.exp(x)), 0, np.inf),
    (lambda x: jnp.tanh(x).astype(bool) * 1.0, 0, 1),  # 0 lies between -1 and 1
    (lambda x: (jnp.tanh(x) - 2).astype(bool) * 1.0, 1, 1),
    (lambda x: jnp.sin(x), -np.inf, np.inf),  # not followed
]


@pytest.mark.parametrize("case", range(len(RANGES)))
def test_each_operation(case):
    prepare, low, high = RANGES[case]
    fn = lambda p, x: relu("h", prepare(x) @ p["in"] + p["bias"]) @ p["out"]  # noqa: E731 a formula in one line
    kernel = jnp.array([[1.0, 1, -1, -1]] * 2)
    # z is at most 0.1 above 0, or below it, where the ends are finite.
    bias = np.nan_to_num(
        np.float32([0.1 - 2 * high, -0.1 - 2 * high, 2 * low + 0.1, 2 * low - 0.1]), neginf=-9.0
    )
    params = {"in": kernel, "bias": jnp.asarray(bias), "out": jnp.ones((4, 1))}
    (dead,) = wiring(fn, params, jnp.ones((1, 2))).dead_by_bounds(params).values()
    assert dead.tolist() == [False, np.isfinite(high), False, np.isfinite(low)]


@pytest.mark.parametrize("over_layers", [True, False])
def test_loops(over_layers):
    rng = np.random.default_rng(1)
    kernels, biases = rng.normal(size=(3, 4, 4)), rng.normal(size=(3, 4)) - 1

    def fn(p, x):
        layer = lambda h, q: (relu("h", h @ q["in"] + q["bias"]), None)  # noqa: E731 a formula in one line
        if over_layers:
            return jax.lax.scan(layer, x, p["layers"])[0] @ p["out"]
        held = jax.tree.map(lambda leaf: leaf[0], p["layers"])
        step = lambda h, x: layer(h * 0 + jnp.tanh(x), held)  # noqa: E731 a formula in one line
        return jax.lax.scan(step, x, jnp.stack([x] * 5))[0] @ p["out"]

    params = {"layers": {"in": jnp.asarray(kernels), "bias": jnp.asarray(biases)}, "out": jnp.ones((4, 1))}
    wires = wiring(fn, params, jnp.ones((2, 4)))
    (found,) = wires.dead_by_bounds(params, -1.0, 1.0).values()
    expected = np.array(by_hand(list(zip(kernels, biases, strict=True)), -1, 1))
    assert len({*map(tuple, expected)}) > 1
    np.testing.assert_array_equal(found, expected if over_layers else expected[0])


# Inputs of a unit, and by which share of the sum of its terms it must be dead to be found so.
PRECISIONS = [(jnp.float32, 512, 0.01), (jnp.bfloat16, 32, 0.35), (jnp.float16, 32, 0.05)]
SUMS = [lambda x, w: x @ w, lambda x, w: (x[..., None] * w).sum(axis=-2)]


@pytest.mark.parametrize("add", SUMS)
@pytest.mark.parametrize(("dtype", "inputs", "share"), PRECISIONS)
def test_the_program_rounds(dtype, inputs, share, add):
    fn = lambda p, x: jax.nn.relu(add(x, p["in"]) + p["bias"]) @ p["out"]  # noqa: E731 a formula in one line
    kernel = jnp.asarray(np.random.default_rng(7).normal(size=(inputs, 64)), dtype)
    exact = np.asarray(kernel, np.float64)
    most = np.abs(exact).sum(axis=0)  # of data between -1 and 1
    worst = jnp.asarray(np.sign(exact).T, dtype)
    near = most * (1 + np.linspace(-2, 2, 64) * float(jnp.finfo(dtype).eps))
    params = {"in": kernel, "bias": jnp.asarray(-near, dtype), "out": jnp.ones((64, 1), dtype)}
    wires, run = wiring(fn, params, worst[:1]), jax.jit(lambda p, x: add(x, p["in"]) + p["bias"])
    z = np.asarray(run(params, worst), np.float64).diagonal()
    assert (z > 0).any()
    (dead,) = wires.dead_by_bounds(params, -1, 1).values()
    assert not (np.asarray(dead) & (z > 0)).any()
    for factor, expected in ((1 + share, True), (1 - share, False)):
        moved = params | {"bias": jnp.asarray(-factor * most, dtype)}
        (dead,) = wires.dead_by_bounds(moved, -1, 1).values()
        assert (np.asarray(dead) == expected).all()


ENDS = {"in": jnp.ones((1, 2)), "bias": jnp.array([-2.5, 5.0]), "out": jnp.ones((2, 1))}
ZERO = np.zeros((1, 1), np.float32)


@pytest.mark.parametrize("flag", [False, 2.0, np.float32(2), "text", np.array(["text"])])
def test_the_ends_are_those_of_the_arrays_of_the_first_argument(flag):
    def fn(p, batch, y):
        assert batch["flag"] is flag
        return relu("h", (batch["x"] + y) @ p["in"] + p["bias"]) @ p["out"]

    batch = {"flag": flag, "x": ZERO}
    (dead,) = wiring(fn, ENDS, batch, ZERO).dead_by_bounds(ENDS, 0, 1).values()
    assert dead.tolist() == [False, False]
    (dead,) = wiring(fn, ENDS, batch, 0.25).dead_by_bounds(ENDS, 0, 1).values()
    assert dead.tolist() == [True, False]


@pytest.mark.parametrize(
    "ends", [(-1, 255), (0, 256), (0, 300.0), (-1.5, np.inf), (None, None), (None, 1000)]
)
def test_ends_beyond_those_of_integer_data(ends):
    fn = lambda p, x: relu("h", x.astype(jnp.float32) @ p["in"] + p["bias"]) @ p["out"]  # noqa: E731 a formula in one line
    biases = jnp.array([-100.0, 100.0, -256, -1])
    params = {"in": jnp.array([[1.0, -1, 1, -1]]), "bias": biases, "out": jnp.ones((4, 1))}
    wires = wiring(fn, params, jnp.zeros((1, 1), jnp.uint8))
    (dead,) = wires.dead_by_bounds(params, *ends).values()
    known = ends != (None, None)
    assert dead.tolist() == [False, False, known, known]


@pytest.mark.parametrize(("args", "kwargs"), [((), {"x": X}), ((0.5, X), {}), ((), {})])
def test_ends_without_data(args, kwargs):
    fn = lambda p, scale=1.0, x=X: perceptron(p, x * scale)  # noqa: E731 a formula in one line
    wires = wiring(fn, PARAMS, *args, **kwargs)
    for ends in ((None, 1.0), (LOW, None)):
        with pytest.raises(
            ValueError, match="first argument after the parameters, in which there is no array"
        ):
            wires.dead_by_bounds(PARAMS, *ends)
    wires.dead_by_bounds(PARAMS)


def test_what_has_no_order_has_no_bounds():
    def fn(p, x, flag):
        key = jax.lax.cond(flag, lambda: jax.random.key(0), lambda: jax.random.key(1))
        turned = jax.lax.cond(flag, lambda: jnp.complex64(1), lambda: jnp.complex64(1j))
        noise = jax.random.uniform(key) + jnp.abs(turned)
        return relu("h", jnp.tanh(jnp.abs(x)) @ p["in"] + p["bias"]) @ p["out"] + noise

    wires = wiring(fn, ENDS, jnp.ones((1, 1), jnp.complex64), jnp.array(True))
    (dead,) = wires.dead_by_bounds(ENDS, 0, 1).values()
    assert dead.tolist() == [True, False]  # tanh has bounds of its own


@pytest.mark.parametrize(
    ("dtype", "weights"), [(jnp.float32, [2.0**24, -(2.0**25), 1]), (jnp.bfloat16, [256, 1, -512])]
)
def test_terms_that_cancel(dtype, weights):
    fn = lambda p, x: jax.nn.relu(x @ p["in"]) @ p["out"]  # noqa: E731 a formula in one line
    params = {"in": jnp.asarray(weights, dtype)[:, None], "out": jnp.ones((1, 1), dtype)}
    assert sum(weight * (1 if weight > 0 else 0.5) for weight in weights) == 1
    (dead,) = wiring(fn, params, jnp.ones((1, 3), dtype)).dead_by_bounds(params, 0.5, 1).values()
    assert not dead.any()


QUICK = {"squeeze_and_excitation", "a_scan_over_layers"}
DRAWN = [name for name in NETWORKS if name != "a_table_of_tokens_read_at_both_ends"]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in DRAWN]
)
def test_no_data_in_range_wake_them(name):
    network = NETWORKS[name]()
    to_float32 = lambda leaf: jnp.asarray(leaf, jnp.float32) if leaf.dtype == float else leaf  # noqa: E731 a formula in one line
    params, x = jax.tree.map(to_float32, (network.params, network.x))
    fn = lambda p, x: network.apply(p, x, relu)  # noqa: E731 a formula in one line
    wires = wiring(fn, params, x)
    certain = wires.dead_by_bounds(params, -0.2, 0.7)
    ends, between = (
        RNG.choice([-0.2, 0.7], size=(100, *x.shape)),
        RNG.uniform(-0.2, 0.7, size=(100, *x.shape)),
    )
    outputs = jax.jit(jax.vmap(observe(fn, lambda _, z: jax.nn.relu(z)), (None, 0)))
    _, given = outputs(params, np.float32(np.concatenate([ends, between])))
    for site, mask in certain.items():
        scope = site.split("/")[-2]
        values, layers = np.asarray(given[site]), mask.ndim - 1
        values = np.moveaxis(values, (network.axes.get(scope, -1) + 1) or -1, -1)
        if layers:
            values = np.moveaxis(values, 1, 0)
        most = values.max(axis=tuple(range(layers, values.ndim - 1)))
        assert (most[np.asarray(mask)] <= 1e-6).all(), site


@pytest.mark.parametrize(
    ("ends", "words"),
    [
        (("a", None), "low must be a number or an array, got str"),
        (
            (None, np.ones(4)),
            r"high has shape \(4,\), which does not broadcast to that of the data, \(2, 5\)",
        ),
        ((np.ones((1, 1, 5)), None), r"low has shape \(1, 1, 5\), which does not"),
        ((1.0, LOW), "low must be at most high everywhere"),
    ],
)
def test_bad_bounds(ends, words):
    with pytest.raises((TypeError, ValueError), match=f"dead_by_bounds: {words}"):
        WIRES.dead_by_bounds(PARAMS, *ends)
