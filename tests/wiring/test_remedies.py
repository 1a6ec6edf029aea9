"""The remedies, step by step beside NumPy implementations in float64 that are written from the papers' formulas.

The network holds what went wrong elsewhere: channels that are flattened, and units with two readers. The faults that
others published are options of the NumPy implementations; with each of them the comparison fails.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jax_leaky import observe, remedies, wiring
from tests.wiring.networks import conv, relu

CHANNELS, UNITS, STEPS = 5, 6, 60
SHAPES = {
    "kernel": (2, 2, 1, CHANNELS),
    "channel_bias": (CHANNELS,),
    "dense": (4 * CHANNELS, UNITS),
    "bias": (UNITS,),
    "last": (UNITS, 2),
    "pooled": (CHANNELS, 2),
    "offset": (2,),
}
RNG = np.random.default_rng(3)
PARAMS = {name: RNG.normal(size=shape) / 2 for name, shape in SHAPES.items()}
PARAMS["channel_bias"] -= np.array([0, 9, 0, 0, 0])  # one channel and one unit begin dead
PARAMS["bias"] -= np.array([0, 0, 9, 0, 0, 0])
FRESH = {name: RNG.normal(size=shape) / 2 for name, shape in SHAPES.items()}
X, Y = RNG.normal(size=(STEPS, 8, 3, 3, 1)) + 1, RNG.normal(size=(STEPS, 8, 2))
SAMPLES = {
    "self_normalized_resets": 2
}  # of each batch, so that more units are silent at times; otherwise all
# What runs once on a few numbers costs more to compile than any gain in speed.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
SITES = {"conv/relu": CHANNELS, "dense/relu": UNITS}


def loss(params, x, y):
    h = relu("conv", conv(x, params["kernel"], padding="VALID") + params["channel_bias"])
    out = h.mean(axis=(1, 2)) @ params["pooled"]
    h = relu("dense", h.reshape(len(x), -1) @ params["dense"] + params["bias"])
    return jnp.square(out + h @ params["last"] + params["offset"] - y).mean()


# The same in NumPy


def gradients(params, x, y):
    """The gradients of the loss, and what each activation gave."""
    patches = np.stack([x[:, i : i + 2, j : j + 2, 0].reshape(-1, 4) for i in (0, 1) for j in (0, 1)], axis=1)
    one = patches @ params["kernel"].reshape(4, CHANNELS) + params["channel_bias"]  # (batch, 4, channels)
    h = np.maximum(one, 0)
    flat, pooled = h.reshape(len(x), -1), h.mean(axis=1)
    two = flat @ params["dense"] + params["bias"]
    k = np.maximum(two, 0)
    error = 2 * (pooled @ params["pooled"] + k @ params["last"] + params["offset"] - y) / y.size
    to_two = (error @ params["last"].T) * (two > 0)
    to_one = (to_two @ params["dense"].T).reshape(h.shape) + (error @ params["pooled"].T)[:, None] / 4
    to_one = to_one * (one > 0)
    found = {
        "kernel": np.einsum("bpi,bpc->ic", patches, to_one).reshape(2, 2, 1, CHANNELS),
        "channel_bias": to_one.sum(axis=(0, 1)),
        "dense": flat.T @ to_two,
        "bias": to_two.sum(axis=0),
        "last": k.T @ error,
        "pooled": pooled.T @ error,
        "offset": error.sum(axis=0),
    }
    return found, {"conv/relu": h.reshape(-1, CHANNELS), "dense/relu": k}


class Adam:
    def __init__(self):
        self.m, self.v, self.count = (
            {name: np.zeros(shape) for name, shape in SHAPES.items()} for _ in range(3)
        )

    def step(self, params, found):
        for name, g in found.items():
            self.count[name] += 1
            self.m[name] = 0.9 * self.m[name] + 0.1 * g
            self.v[name] = 0.999 * self.v[name] + 0.001 * g * g
            m, v = (
                average / (1 - decay ** self.count[name])
                for average, decay in ((self.m[name], 0.9), (self.v[name], 0.999))
            )
            params[name] = params[name] - 0.02 * m / (np.sqrt(v) + 1e-8)

    def restart(self, name, entries, counts):
        self.m[name][entries] = self.v[name][entries] = 0
        if counts:
            self.count[name][entries] = 0


class Gradient:
    def step(self, params, found):
        for name, g in found.items():
            params[name] = params[name] - 0.03 * g

    def restart(self, name, entries, counts):
        pass


def begin_anew(params, optimizer, masks, fault, counts=False):
    """Dense, conv and pooled kernels written out: in NHWC channels are fastest, so rows come in turns."""
    channels, units = masks["conv/relu"], masks["dense/relu"]
    rows = np.repeat(channels, 4) if fault == "rows repeated, not tiled" else np.tile(channels, 4)
    incoming = [("kernel", (..., channels)), ("channel_bias", channels), ("dense", (slice(None), units))]
    incoming.append(("bias", units))
    outgoing = [("dense", (rows,)), ("last", (units,))]
    if fault != "one reader of two":
        outgoing.append(("pooled", (channels,)))
    for name, entries in incoming:
        params[name][entries] = FRESH[name][entries] * (1 + (fault == "another initialiser"))
    for name, entries in outgoing if fault != "outgoing entries kept" else []:
        params[name][entries] = 0
    for name, entries in incoming + outgoing if fault != "moments kept" else []:
        if fault != "moments of biases kept" or "bias" not in name:
            optimizer.restart(name, entries, counts and fault != "counts kept")


class ReDo:
    def __init__(self, fault):
        self.fault = fault

    def step(self, count, params, optimizer, outputs):
        masks = {}
        for site, h in outputs.items():
            score = np.abs(h).mean(axis=0) / (np.abs(h).mean() + 1e-9)
            masks[site] = (score <= 0.3) & (count % 10 == 0)
        begin_anew(params, optimizer, masks, self.fault)
        return masks


class ContinualBackprop:
    adaptable = False

    def __init__(self, fault):
        self.fault = fault
        self.age, self.use, self.mean = ({site: np.zeros(n) for site, n in SITES.items()} for _ in range(3))
        self.due = dict.fromkeys(SITES, 0.0)

    def step(self, count, params, optimizer, outputs):
        del count
        masks, begun = {}, []
        # All that reads a channel: four rows of the dense kernel, and its row behind the pooling.
        rows = np.concatenate([*params["dense"].reshape(4, CHANNELS, UNITS), params["pooled"]], axis=1)
        readers = {"conv/relu": rows, "dense/relu": params["last"]}
        if self.fault == "one reader of two":
            readers["conv/relu"] = readers["conv/relu"][:, :-2]
        for site, h in outputs.items():
            self.age[site] += 1
            self.mean[site] = 0.9 * self.mean[site] + 0.1 * h.mean(axis=0)
            correction = 1 - 0.9 ** self.age[site]
            y = np.abs(readers[site]).mean(axis=1)
            if self.adaptable:
                usual = 0 if self.fault == "outputs not centred" else self.mean[site] / correction
                kernel = {"conv/relu": "kernel", "dense/relu": "dense"}[site]
                feeding = np.abs(params[kernel].reshape(-1, SITES[site])).mean(axis=0)
                if self.fault == "incoming weights left out":
                    feeding = 1
                y = y * np.abs(h - usual).mean(axis=0) / feeding
            else:
                y = y * np.abs(h).mean(axis=0)
            self.use[site] = 0.9 * self.use[site] + 0.1 * y
            use = self.use[site] / (1 if self.fault == "age not corrected" else correction)
            mature = np.flatnonzero(self.age[site] > 4)
            self.due[site] += 0.043 * len(mature)  # whole numbers are not met, which rounding would decide
            number = int(self.due[site])
            self.due[site] -= number
            masks[site] = np.zeros(SITES[site], bool)
            masks[site][mature[np.argsort(use[mature], kind="stable")[:number]]] = True
            begun.append((site, np.where(masks[site], self.mean[site] / correction, 0)))
        for site, mean in begun:
            if self.fault == "means forgotten before they are used":
                mean = 0 * mean
            if site == "conv/relu":
                params["bias"] = params["bias"] + np.tile(mean, 4) @ params["dense"]
                params["offset"] = params["offset"] + mean @ params["pooled"]
            else:
                params["offset"] = params["offset"] + mean @ params["last"]
            for kept in (self.age, self.use, self.mean):
                kept[site][masks[site]] = 0
        begin_anew(params, optimizer, masks, self.fault, counts=True)
        return masks


class AdaptableContribution(ContinualBackprop):
    adaptable = True


class SelfNormalizedResets:
    def __init__(self, fault):
        self.fault = fault
        self.age = {site: np.zeros(n, int) for site, n in SITES.items()}
        self.limit = {site: np.full(n, 12) for site, n in SITES.items()}
        self.runs = {site: [[] for _ in range(n)] for site, n in SITES.items()}

    def step(self, count, params, optimizer, outputs):
        masks = {}
        for site, h in outputs.items():
            masks[site] = np.zeros(SITES[site], bool)
            for unit, fires in enumerate((h > 0).any(axis=0)):
                if not fires:
                    self.age[site][unit] += 1
                masks[site][unit] = not fires and self.age[site][unit] >= self.limit[site][unit]
                if fires or masks[site][unit]:
                    if self.age[site][unit]:
                        self.runs[site][unit].append(self.age[site][unit])
                    self.age[site][unit] = 0
                if count % 15 == 0:
                    self.limit[site][unit] = self.estimate(self.runs[site][unit], self.limit[site][unit])
                    self.runs[site][unit] = []
        begin_anew(params, optimizer, masks, self.fault)
        return masks

    def estimate(self, runs, limit):
        if not runs:
            return 1 if self.fault == "no run counts as the shortest" else limit
        quantile = np.quantile(runs, 1 - 0.2, method="inverted_cdf")
        if self.fault == "limits never widen":
            return min(limit, quantile)
        return quantile if quantile < limit else min(2 * limit, 12)


EVERYWHERE = ["rows repeated, not tiled", "one reader of two", "another initialiser", "outgoing entries kept"]
CASES = {
    "redo": (ReDo, Adam, [*EVERYWHERE, "moments kept", "moments of biases kept"]),
    "continual_backprop": (
        ContinualBackprop,
        Adam,
        [*EVERYWHERE, "moments kept", "counts kept", "age not corrected", "means forgotten before they are used"],
    ),
    "continual_backprop, adaptable": (
        AdaptableContribution,
        Adam,
        ["one reader of two", "age not corrected", "outputs not centred", "incoming weights left out"],
    ),
    "self_normalized_resets": (
        SelfNormalizedResets,
        Gradient,
        [*EVERYWHERE, "no run counts as the shortest", "limits never widen"],
    ),
}  # fmt: skip


def in_numpy(case, fault=""):
    """The parameters after each step, and which units were begun anew."""
    build, optimiser, _ = CASES[case]
    params = {name: leaf.copy() for name, leaf in PARAMS.items()}
    optimizer, remedy = optimiser(), build(fault)
    history = []
    for step in range(STEPS):
        found, outputs = gradients(params, *(part[step, : SAMPLES.get(case)] for part in (X, Y)))
        optimizer.step(params, found)
        masks = remedy.step(step + 1, params, optimizer, outputs)
        history.append(({name: leaf.copy() for name, leaf in params.items()}, masks))
    return history


def in_jax(case):
    wires = wiring(loss, PARAMS, X[0], Y[0])
    options = {
        "redo": {"every": 10, "threshold": 0.3},
        "continual_backprop": {"replacement_rate": 0.043, "decay": 0.9, "maturity": 4},
        "continual_backprop, adaptable": {
            "replacement_rate": 0.043,
            "decay": 0.9,
            "maturity": 4,
            "adaptable": True,
        },
        "self_normalized_resets": {"rejection": 0.2, "every": 15, "longest": 12},
    }[case]
    remedy, _, _ = case.partition(",")
    inner = {"redo": optax.adam(0.02), "continual_backprop": remedies.entrywise_adam(0.02)}.get(
        remedy, optax.sgd(0.03)
    )
    initialize = lambda _: jax.tree.map(jnp.asarray, FRESH)  # noqa: E731 a formula in one line
    optimizer = getattr(remedies, remedy)(inner, wires, initialize, jax.random.key(0), **options)

    def step(carry, batch):
        params, state = carry
        observed = observe(loss, lambda _, z: jax.nn.relu(z))
        (_, outputs), found = jax.value_and_grad(observed, has_aux=True)(params, *batch)
        updates, state = optimizer.update(found, state, params, outputs=outputs)
        params = optax.apply_updates(params, updates)
        return (params, state), (params, state.reset)

    params = jax.tree.map(jnp.asarray, PARAMS)
    batches = tuple(part[:, : SAMPLES.get(case)] for part in (X, Y))
    run = jax.jit(
        lambda params: jax.lax.scan(step, (params, optimizer.init(params)), batches)[1],
        compiler_options=QUICK,
    )
    history, masks = jax.tree.map(np.asarray, run(params))
    return [jax.tree.map(lambda leaf, at=step: leaf[at], (history, masks)) for step in range(STEPS)]


def farthest(one, other):
    return max(
        np.abs(a[name] - b[name]).max() for (a, _), (b, _) in zip(one, other, strict=True) for name in SHAPES
    )


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=[] if case == "continual_backprop" else pytest.mark.slow) for case in CASES],
)
def test_each_step_is_that_of_the_paper_and_published_faults_are_told_apart(case):
    with jax.enable_x64(True):
        ours = in_jax(case)
    reference = in_numpy(case)
    resets = {site: sum(masks[site].sum() for _, masks in reference) for site in SITES}
    assert all(number >= 3 for number in resets.values()), resets
    for (_, masks), (_, expected) in zip(ours, reference, strict=True):
        for site in SITES:
            np.testing.assert_array_equal(masks[site], expected[site])
    assert farthest(ours, reference) < 1e-9
    for fault in CASES[case][2]:
        assert farthest(ours, in_numpy(case, fault)) > 1e-3, fault


def net(params, x):
    h = relu("first", x @ params["in"])
    return relu("last", h @ params["out"])


SMALL = {"in": jnp.ones((2, 3)), "out": jnp.ones((3, 1))}
WIRES = wiring(net, SMALL, jnp.ones((1, 2)))
KEY = jax.random.key(0)
ZEROS = {"first/relu": jnp.zeros((4, 3)), "last/relu": jnp.zeros((4, 1))}


def drawn(key):
    return jax.tree.map(lambda leaf: jax.random.normal(key, leaf.shape), SMALL)


def test_outputs_are_left_alone_and_new_parameters_are_new_each_time():
    optimizer = remedies.redo(optax.sgd(0.0), WIRES, drawn, KEY, every=2, threshold=0.0)
    params, state, seen = SMALL, optimizer.init(SMALL), []
    update = jax.jit(optimizer.update, compiler_options=QUICK)
    for _ in range(4):
        updates, state = update(SMALL, state, params, outputs=ZEROS)
        params = optax.apply_updates(params, updates)
        seen.append(np.asarray(params["in"]))
        assert list(state.reset) == ["first/relu"]
    np.testing.assert_array_equal(seen[0], SMALL["in"])
    assert (seen[1] != seen[0]).all()
    np.testing.assert_array_equal(seen[2], seen[1])
    assert (seen[3] != seen[2]).all()
    # Of a unit that is silent on all data the outgoing entries are 0 exactly.
    np.testing.assert_array_equal(params["out"], np.zeros((3, 1)))
    # A network that has diverged is left alone.
    outputs = ZEROS | {"first/relu": ZEROS["first/relu"].at[0, 0].set(jnp.nan)}
    for _ in range(2):
        _, state = update(SMALL, state, params, outputs=outputs)
        assert not state.reset["first/relu"].any()


def test_only_a_bias_behind_the_kernel_itself_takes_over_what_a_unit_gave():
    def normed(params, x):
        h = relu("first", x @ params["in"])
        z = h @ params["kernel"]
        z = (z - z.mean(axis=0)) / (z.std(axis=0) + 1) * params["scale"] + params["offset"]
        return relu("second", z) @ params["out"] + h @ params["aside"] + params["bias"]

    params = {
        "in": jnp.ones((2, 3)), "kernel": jnp.ones((3, 2)), "bias": jnp.ones(1), "scale": jnp.ones(2),
        "offset": jnp.ones(2), "out": jnp.ones((2, 1)), "aside": jnp.ones((3, 1)),
    }  # fmt: skip
    wires = wiring(normed, params, jnp.ones((4, 2)))
    optimizer = remedies.continual_backprop(
        optax.sgd(0.0),
        wires,
        lambda _: jax.tree.map(jnp.zeros_like, params),
        KEY,
        replacement_rate=0.5,
        maturity=0,
    )
    # Half of three units is one whole unit, and half of two another: the least useful, here the first of each layer.
    outputs = {"first/relu": jnp.array([[1.0, 2, 3]] * 4), "second/relu": jnp.zeros((4, 2))}
    update = jax.jit(optimizer.update, compiler_options=QUICK)
    updates, state = update(params, optimizer.init(params), params, outputs=outputs)
    assert state.reset["first/relu"].tolist() == [True, False, False]
    assert state.reset["second/relu"].tolist() == [True, False]
    # The norm takes away whatever constant its input has.
    np.testing.assert_allclose(updates["bias"], [1], rtol=1e-5)
    np.testing.assert_array_equal(updates["offset"], [-1, 0])
    np.testing.assert_array_equal(updates["scale"], [-1, 0])


def test_the_adaptable_contribution_leaves_biases_and_scales_out():
    fn = lambda p, x: relu("h", x @ p["in"] * p["scale"] + p["bias"]) @ p["out"]  # noqa: E731 a formula in one line
    params = {"in": jnp.array([[1.0, 1, 2]] * 2), "scale": jnp.full(3, 7.0), "bias": jnp.full(3, 9.0)}
    params["out"] = jnp.ones((3, 1))
    wires, decay = wiring(fn, params, jnp.ones((2, 2))), 0.9
    optimizer = remedies.continual_backprop(
        optax.sgd(0.0), wires, lambda _: params, KEY, decay=decay, adaptable=True
    )
    update = jax.jit(optimizer.update, compiler_options=QUICK)
    outputs = {"h/relu": jnp.array([[1.0, 2, 3], [3, 2, 1]])}  # 2 on average, 1, 0 and 1 away from that
    _, state = update(params, optimizer.init(params), params, outputs=outputs)
    np.testing.assert_allclose(state.units["h/relu"].utility / (1 - decay), [1, 0, 1 / 2], atol=1e-5)


def test_a_unit_that_no_weight_feeds_is_of_no_use_and_divides_nothing_by_0():
    def network(p, x):
        fed = jnp.concatenate([x @ p["in"], jnp.broadcast_to(p["constant"], (len(x), 1))], axis=1)
        return relu("h", fed) @ p["out"]

    params = {"in": jnp.ones((2, 2)).at[:, 0].set(0), "constant": jnp.ones(1), "out": jnp.ones((3, 1))}
    wires = wiring(network, params, jnp.ones((4, 2)))
    optimizer = remedies.continual_backprop(
        optax.sgd(0.0), wires, lambda _: params, KEY, decay=0.5, adaptable=True
    )
    (site,) = wires.units
    outputs = {site: jnp.arange(12.0).reshape(4, 3)}
    with jax.debug_nans(True):
        state = optimizer.init(params)
        _, state = optimizer.update(jax.tree.map(jnp.zeros_like, params), state, params, outputs=outputs)
    # The outputs of each unit are 3 away from their mean, on average; the second unit's weights are all 1.
    np.testing.assert_allclose(state.units[site].utility, [0, 0.5 * 3, 0], rtol=1e-6)


def test_new_parameters_of_16_bits_arrive_whole():
    params = jax.tree.map(lambda leaf: (leaf * 1000).astype(jnp.bfloat16), SMALL)
    fresh = jax.tree.map(lambda leaf: (leaf / 77).astype(jnp.bfloat16), SMALL)
    optimizer = remedies.redo(optax.sgd(1.0), WIRES, lambda _: fresh, KEY, every=1)
    update = jax.jit(optimizer.update, compiler_options=QUICK)
    updates, _ = update(params, optimizer.init(params), params, outputs=ZEROS)
    after = optax.apply_updates(params, updates)
    assert after["in"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(after["in"], fresh["in"])
    np.testing.assert_array_equal(after["out"], np.zeros((3, 1)))


def test_the_inner_optimiser_gets_its_own_extra_arguments():
    def update(updates, state, params=None, *, value):
        del params
        return optax.tree.scale(value, updates), state

    inner = optax.GradientTransformationExtraArgs(lambda _: (), update)
    optimizer = remedies.redo(inner, WIRES, drawn, KEY)
    update = jax.jit(optimizer.update, compiler_options=QUICK)
    updates, _ = update(SMALL, optimizer.init(SMALL), SMALL, outputs=ZEROS, value=3.0)
    np.testing.assert_array_equal(updates["in"], np.full((2, 3), 3.0))


def test_entrywise_adam_is_adam_until_an_entry_is_begun_anew():
    ours, theirs = remedies.entrywise_adam(0.1), optax.adam(0.1)
    states = [ours.init(SMALL), theirs.init(SMALL)]
    update = jax.jit(
        lambda found, states: [o.update(found, s) for o, s in zip((ours, theirs), states, strict=True)],
        compiler_options=QUICK,
    )
    for step in range(3):
        found = jax.tree.map(lambda leaf, n=step: leaf * (0.5 - n), SMALL)
        (mine, states[0]), (other, states[1]) = update(found, states)
        for name, expected in other.items():
            np.testing.assert_allclose(mine[name], expected, rtol=1e-5)
    begun = WIRES.restart(ours, states[0], SMALL, {"first/relu": np.array([False, True, False])})
    assert begun[0].count["in"].tolist() == [[3, 0, 3]] * 2
    (mine, _), _ = update(SMALL, [begun, states[1]])
    # As of a new parameter, the first step is the learning rate.
    np.testing.assert_allclose(mine["in"][:, 1], [-0.1, -0.1], rtol=1e-5)


def test_entrywise_adam_of_16_bits_counts_beyond_what_they_hold():
    ours = remedies.entrywise_adam(0.1)
    gradients = {"w": jnp.asarray([2.0, 0.0, -0.5], jnp.bfloat16)}
    state = ours.init(gradients)
    for count in (0, 999):
        moments = state[0]._replace(
            count={"w": jnp.full(3, count)},
            mu={"w": (gradients["w"] * (1 - 0.9**count)).astype(jnp.bfloat16)},
            nu={"w": (gradients["w"] ** 2 * (1 - 0.999**count)).astype(jnp.bfloat16)},
        )
        updates, _ = ours.update(gradients, (moments, *state[1:]))
        assert updates["w"].dtype == jnp.bfloat16
        # Under a steady gradient every corrected step is the learning rate.
        np.testing.assert_allclose(np.float32(updates["w"]), [-0.1, 0, 0.1], rtol=0.03)


def test_a_state_that_is_donated_leaves_the_key_that_the_optimiser_was_made_with():
    key = jax.random.key(3)
    optimizer = remedies.redo(optax.sgd(0.1), WIRES, drawn, key)
    jax.jit(lambda state: state._replace(step=state.step + 1), donate_argnums=0)(optimizer.init(SMALL))
    assert optimizer.init(SMALL).key == key == jax.random.key(3)


def test_bad_input():
    with pytest.raises(ValueError, match=r"redo: every must be at least 1, got 0"):
        remedies.redo(optax.sgd(0.1), WIRES, drawn, KEY, every=0)
    with pytest.raises(
        ValueError, match="continual_backprop: decay must be at least 0 and less than 1, got 1"
    ):
        remedies.continual_backprop(optax.sgd(0.1), WIRES, drawn, KEY, decay=1)
    with pytest.raises(
        ValueError, match="self_normalized_resets: rejection must be at least 0 and at most 1, got nan"
    ):
        remedies.self_normalized_resets(optax.sgd(0.1), WIRES, drawn, KEY, rejection=float("nan"))
    ending = wiring(lambda w, x: relu("end", x @ w), jnp.ones((2, 3)), jnp.ones((1, 2)))
    with pytest.raises(
        ValueError, match=r"redo: no site has units that can be told from others \(end/relu: its output"
    ):
        remedies.redo(optax.sgd(0.1), ending, drawn, KEY)
    for wrong, words in (
        ((optax.sgd(0.1), WIRES, drawn, 0), "key must be one key of JAX, got int; give jax.random.key"),
        (
            (optax.sgd(0.1), WIRES, drawn, jnp.zeros(2)),
            r"key must be one key of JAX, got float32 of shape \(2,\)",
        ),
        ((0.1, WIRES, drawn), "inner must be an optax optimiser, got float"),
        ((optax.sgd(0.1), SMALL, drawn), "wires must be a Wiring, got dict"),
        ((optax.sgd(0.1), WIRES, SMALL), "initialize must be a function from a key to parameters, got dict"),
    ):
        with pytest.raises(TypeError, match=f"redo: {words}"):
            remedies.redo(*wrong, *[KEY] * (4 - len(wrong)))
    optimizer = remedies.redo(optax.sgd(0.1), WIRES, drawn, KEY)
    state = optimizer.init(SMALL)
    with pytest.raises(ValueError, match=r"redo: update needs outputs=, what each activation gave"):
        optimizer.update(SMALL, state, SMALL)
    with pytest.raises(ValueError, match="redo: give the parameters"):
        optimizer.update(SMALL, state, outputs=ZEROS)
    with pytest.raises(
        TypeError, match=r"redo: outputs must be a dictionary from sites .*, got float; jax_leaky"
    ):
        optimizer.update(SMALL, state, SMALL, outputs=0.5)
    with pytest.raises(
        TypeError, match=r"redo: state must be a ResetState, as init\(params\) gives it, got tuple"
    ):
        optimizer.update(SMALL, optax.sgd(0.1).init(SMALL), SMALL, outputs=ZEROS)
    with pytest.raises(ValueError, match=r"redo: outputs has nothing for first/relu; it has last/relu"):
        optimizer.update(SMALL, state, SMALL, outputs={"last/relu": jnp.ones((4, 1))})
    with pytest.raises(
        ValueError, match=r"redo: outputs at first/relu must have shape \(..., 3\), got \(3, 4\)"
    ):
        optimizer.update(SMALL, state, SMALL, outputs={"first/relu": jnp.ones((3, 4))})
    with pytest.raises(
        ValueError, match=r"redo: initialize\(key\) gives shape \(3,\) at in, where params has \(2, 3\)"
    ):
        remedies.redo(optax.sgd(0.1), WIRES, lambda _: SMALL | {"in": jnp.ones(3)}, KEY).init(SMALL)
    with pytest.raises(
        ValueError, match=r"redo: initialize\(key\) must give a pytree of the structure of params"
    ):
        remedies.redo(optax.sgd(0.1), WIRES, lambda _: jnp.ones(3), KEY).init(SMALL)
