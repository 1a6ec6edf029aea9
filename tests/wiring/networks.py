"""Small networks for the tests of wiring: each takes its activation as an argument, so that a test can put its own in.

`act(name, z)` is applied at each site. A network that loops calls `loop`, which a test unrolls.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

NORM = "moves several of its units"
SUM = "summed with something else"
DIRECT = "with no weights between"
USED = "also used for something else"


class Network(NamedTuple):
    """A network and what is expected of its wiring.

    `reasons` holds for each site a part of the reason why its units cannot be told apart, "" where they can;
    `axes` the axis of the units where it is not the last; `layered` the sites in a scan over layers; `bent` those
    behind whose readers something bends (a norm), so that a change of any entry there changes what others do.
    """

    name: str
    apply: Callable[..., Any]
    params: Any
    x: Any
    reasons: dict[str, str]
    axes: dict[str, int]
    layered: frozenset[str]
    bent: frozenset[str]


NETWORKS: dict[str, Callable[[], Network]] = {}


def network(reasons, axes=None, layered=(), bent=()):
    """Adds a network to the table, built when it is asked for.

    The function gives its `apply`, its parameters' shapes and its input's.
    """

    def made(build, seed):
        apply, shapes, x = build()
        rng = np.random.default_rng(seed)
        is_shape = lambda leaf: isinstance(leaf, tuple) and all(isinstance(n, int) for n in leaf)  # noqa: E731 a formula in one line
        params = jax.tree.map(
            lambda leaf: leaf if hasattr(leaf, "dtype") else rng.normal(size=leaf), shapes, is_leaf=is_shape
        )
        if isinstance(x, tuple):
            x = rng.normal(size=x)
        return Network(
            build.__name__, apply, params, x, reasons, axes or {}, frozenset(layered), frozenset(bent)
        )

    def add(build):
        NETWORKS[build.__name__] = functools.cache(functools.partial(made, build, len(NETWORKS)))
        return build

    return add


def relu(name, z):
    with jax.named_scope(name):
        return jax.nn.relu(z)


def loop(act, body, carry, xs):
    """`lax.scan` without outputs, or what it stands for."""
    if not getattr(act, "unrolls", False):
        return lax.scan(lambda state, each: (body(state, each), None), carry, xs)[0]
    for step in range(len(jax.tree.leaves(xs)[0])):
        carry = body(carry, jax.tree.map(lambda leaf, step=step: leaf[step], xs))
    return carry


def linen(module, x, seed=0, **kwargs):
    """A Linen module with an attribute `act`, as an entry of the table."""
    variables = jax.eval_shape(lambda: module.clone(act=relu).init(jax.random.key(seed), x, **kwargs))
    rest = {
        name: jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), collection)
        for name, collection in variables.items()
        if name != "params"
    }
    shapes = jax.tree.map(lambda leaf: leaf.shape, variables["params"])

    def apply(params, x, act):
        rngs = {"dropout": jax.random.key(1)}
        return module.clone(act=act).apply(
            {"params": params, **rest}, x, rngs=rngs, mutable=["batch_stats"], **kwargs
        )[0]

    return apply, shapes, np.random.default_rng(seed).normal(size=x.shape)


def conv(x, kernel, layout="NHWC", **options):
    options = {"window_strides": (1, 1), "padding": "SAME"} | options
    return lax.conv_general_dilated(x, kernel, dimension_numbers=(layout, "HWIO", layout), **options)


@network({"one": "", "two": ""})
def mlp():
    def apply(p, x, act):
        h = act("one", x @ p["b"]["w"] + p["b"]["b"])
        h = act("two", h @ p["a"]["w"] + p["a"]["b"])
        return h @ p["c"]

    return apply, {"b": {"w": (3, 4), "b": (4,)}, "a": {"w": (4, 5), "b": (5,)}, "c": (5, 2)}, (2, 3)


@network({f"at{i}": "" for i in range(11)})
def twelve_dense_layers_whose_names_sort_wrongly():
    class Chain(nn.Module):
        act: Any = None

        @nn.compact
        def __call__(self, x):
            for i in range(11):
                x = self.act(f"at{i}", nn.Dense(2 + i % 2)(x))
            return nn.Dense(2)(x)

    return linen(Chain(), jnp.ones((2, 3)))


@network({"conv": "", "dense": ""})
def conv_flatten_dense_channels_last():
    def apply(p, x, act):
        x = act("conv", conv(x, p["conv"]) + p["bias"])
        x = act("dense", x.reshape(x.shape[0], -1) @ p["dense"])
        return x @ p["out"]

    return apply, {"conv": (3, 3, 2, 4), "bias": (4,), "dense": (36, 3), "out": (3, 1)}, (2, 3, 3, 2)


@network({"conv": "", "dense": ""}, axes={"conv": 1})
def conv_flatten_dense_channels_first():
    def apply(p, x, act):
        x = act("conv", conv(x, p["conv"], "NCHW") + p["bias"][:, None, None])
        x = act("dense", x.reshape(x.shape[0], -1) @ p["dense"])
        return x @ p["out"]

    return apply, {"conv": (3, 3, 2, 4), "bias": (4,), "dense": (36, 3), "out": (3, 1)}, (2, 2, 3, 3)


@network({"one": "", "two": ""})
def strided_and_dilated_convolutions():
    def apply(p, x, act):
        x = act("one", conv(x, p["one"], window_strides=(2, 1)))
        x = act("two", conv(x, p["two"], rhs_dilation=(1, 2), padding="VALID"))
        return conv(x, p["three"], window_strides=(2, 2))

    return apply, {"one": (3, 2, 2, 3), "two": (2, 2, 3, 2), "three": (3, 3, 2, 2)}, (1, 6, 5, 2)


@network({"one": "", "two": ""})
def kernels_that_overhang_the_image():
    def apply(p, x, act):
        x = act("one", conv(x, p["one"]))
        x = act("two", conv(x, p["two"], window_strides=(2, 2)))
        return conv(x, p["three"]).sum(axis=(1, 2))

    return apply, {"one": (3, 3, 1, 2), "two": (5, 5, 2, 2), "three": (3, 3, 2, 2)}, (1, 2, 2, 1)


@network({"one": "", "two": "", "three": ""})
def depthwise_and_grouped_convolutions():
    def apply(p, x, act):
        x = act("one", conv(x, p["one"]))
        x = act("two", conv(x, p["depthwise"], feature_group_count=4) + p["bias"])
        x = act("three", conv(x, p["grouped"], feature_group_count=2))
        return x.mean(axis=(1, 2)) @ p["out"]

    shapes = {
        "one": (1, 1, 2, 4), "depthwise": (3, 3, 1, 8), "bias": (8,), "grouped": (2, 2, 4, 6), "out": (6, 1)
    }  # fmt: skip
    return apply, shapes, (1, 3, 3, 2)


@network({"one": "", "two": ""})
def an_ensemble_of_convolutions():
    def apply(p, x, act):
        x = act("one", jax.vmap(conv, in_axes=(None, 0))(x, p["one"]))
        x = act("two", jax.vmap(conv)(x, p["two"]) + p["bias"][:, None, None, None])
        return jax.vmap(lambda x, kernel: x.reshape(len(x), -1) @ kernel)(x, p["out"])

    return (
        apply,
        {"one": (2, 2, 2, 1, 3), "two": (2, 1, 2, 3, 2), "bias": (2, 2), "out": (2, 12, 1)},
        (1, 2, 3, 1),
    )


@network({"dense": USED, "up": ""})
def a_view_before_a_transposed_convolution():
    class Generator(nn.Module):
        act: Any = None

        @nn.compact
        def __call__(self, x):
            x = self.act("dense", nn.Dense(12)(x)).reshape(-1, 2, 2, 3)
            x = self.act("up", nn.ConvTranspose(2, (3, 3), strides=(2, 2))(x))
            return nn.ConvTranspose(1, (2, 2), strides=(2, 2), padding="VALID")(x)

    return linen(Generator(), jnp.ones((1, 2)))


@network({"one": "", "two": ""})
def batch_norm_between():
    class Normed(nn.Module):
        act: Any = None

        @nn.compact
        def __call__(self, x):
            x = self.act(
                "one", nn.BatchNorm(use_running_average=False)(nn.Conv(3, (2, 2), use_bias=False)(x))
            )
            x = self.act(
                "two", nn.BatchNorm(use_running_average=True)(nn.Dense(2)(x.reshape(x.shape[0], -1)))
            )
            return nn.Dense(1)(x)

    return linen(Normed(), jnp.ones((3, 2, 2, 1)))


@network({"one": "", "two": ""})
def running_statistics_among_the_parameters():
    def apply(p, x, act):
        for name in ("one", "two"):
            q = p[name]
            x = (x @ q["w"] - q["mean"]) / jnp.sqrt(jnp.square(q["var"]) + 1e-5) * q["scale"] + q["offset"]
            x = act(name, x)
        return x @ p["out"]

    norm = {"mean": (3,), "var": (3,), "scale": (3,), "offset": (3,)}
    return apply, {"one": norm | {"w": (2, 3)}, "two": norm | {"w": (3, 3)}, "out": (3, 1)}, (2, 2)


@network({"before": "", "behind": SUM})
def batch_norm_behind_an_activation():
    class Normed(nn.Module):
        act: Any = None

        @nn.compact
        def __call__(self, x):
            x = self.act("before", nn.Dense(4)(x))
            x = nn.Dense(3)(nn.BatchNorm(use_running_average=False, use_bias=False)(x))
            x = nn.BatchNorm(use_running_average=False)(self.act("behind", x))
            return nn.Dense(2)(x)

    return linen(Normed(), jnp.ones((3, 2)))


@network({"instance": "", "group": NORM, "layer": NORM}, bent=["instance"])
def group_norms_and_layer_norm():
    class Normed(nn.Module):
        act: Any = None

        @nn.compact
        def __call__(self, x):
            x = self.act("instance", nn.GroupNorm(num_groups=4)(nn.Conv(4, (2, 2))(x)))
            x = self.act("group", nn.GroupNorm(num_groups=2)(nn.Conv(4, (2, 2))(x)))
            return nn.Dense(2)(self.act("layer", nn.LayerNorm()(nn.Dense(3)(x))))

    return linen(Normed(), jnp.ones((1, 2, 3, 1)))


@network({"one": "", "two": "mixes its units"})
def layer_norm_behind_an_activation():
    def apply(p, x, act):
        x = act("one", x @ p["one"])
        x = act("two", x @ p["two"])
        x = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-3)
        return x @ p["out"]

    return apply, {"one": (2, 3), "two": (3, 4), "out": (4, 1)}, (2, 2)


@network({"one": "", "two": ""})
def dropout_and_pooling():
    class Pooled(nn.Module):
        act: Any = None

        @nn.compact
        def __call__(self, x):
            x = nn.max_pool(self.act("one", nn.Conv(3, (2, 2))(x)), (2, 2), strides=(2, 2), padding="SAME")
            x = nn.Dropout(0.3, deterministic=False)(x)
            x = nn.avg_pool(self.act("two", nn.Conv(2, (2, 2))(x)), (2, 2), padding="SAME")
            return nn.Dense(2)(x.mean(axis=(1, 2)))

    return linen(Pooled(), jnp.ones((2, 4, 3, 1)))


@network({"left": "", "right": "", "doubled": ""})
def concatenated_branches_and_a_value_with_itself():
    def apply(p, x, act):
        h = jnp.concatenate([act("left", x @ p["left"]), x, act("right", x @ p["right"])], axis=-1)
        h = act("doubled", h @ p["middle"])
        return jnp.concatenate([h, h], axis=-1) @ p["out"]

    return apply, {"left": (2, 3), "right": (2, 2), "middle": (7, 3), "out": (6, 2)}, (2, 2)


@network({"all": "", "padded": ""})
def split_slice_pad_reverse_and_transpose():
    def apply(p, x, act):
        h = act("all", x @ p["w"]).T
        first, second = jnp.split(h, [2])
        second = jnp.flip(second, 0)[:, ::-1]
        h = jnp.pad(act("padded", first.T @ p["first"]), ((0, 0), (1, 2)))
        tail = lax.dynamic_slice(second, (1, 0), (2, 2)).T @ p["second"] + second[:1].T @ p["third"]
        return h @ p["padded"] + tail

    return apply, {"w": (3, 5), "first": (2, 2), "padded": (5, 1), "second": (2, 1), "third": (1, 1)}, (2, 3)


@network({"values": "", "mlp": "", "tokens": ""}, bent=["values"])
def attention_heads_through_reshape():
    def apply(p, x, act):
        batch, time, _ = x.shape
        heads = 2
        q, k = ((x @ p[name]).reshape(batch, time, heads, -1) for name in "qk")
        v = act("values", x @ p["v"]).reshape(batch, time, heads, -1)
        weights = jax.nn.softmax(jnp.einsum("bthd,bshd->bhts", q, k) / 2, axis=-1)
        x = x + jnp.einsum("bhts,bshd->bthd", weights, v).reshape(batch, time, -1) @ p["o"]
        x = x / jnp.sqrt(jnp.square(x).mean(-1, keepdims=True) + 1) * p["scale"]
        x = x + act("mlp", x @ p["up"] + p["bias"]) @ p["down"]
        mixed = act("tokens", jnp.swapaxes(x, 1, 2) @ p["mix"]) @ p["unmix"]
        return jnp.swapaxes(mixed, 1, 2) @ p["out"]

    shapes = {
        "q": (4, 4), "k": (4, 4), "v": (4, 6), "o": (6, 4), "scale": (4,), "up": (4, 5), "bias": (5,),
        "down": (5, 4), "mix": (3, 4), "unmix": (4, 3), "out": (4, 1),
    }  # fmt: skip
    return apply, shapes, (1, 3, 4)


@network({"heads": ""})
def attention_heads_with_an_axis_of_their_own():
    class Heads(nn.Module):
        act: Any = None

        @nn.compact
        def __call__(self, x):
            h = self.act("heads", nn.DenseGeneral((2, 3))(x))
            return nn.DenseGeneral(2, axis=(-2, -1))(h)

    return linen(Heads(), jnp.ones((1, 2, 2)))


@network({"gate": "", "one": "", "two": ""})
def gated_units():
    def apply(p, x, act):
        h = act("gate", x @ p["gate"]) * (x @ p["up"])
        x = x + h @ p["down"]
        return act("one", x @ p["one"]) * act("two", x @ p["two"]) * p["scale"] @ p["out"]

    shapes = {
        "gate": (3, 4), "up": (3, 4), "down": (4, 3), "one": (3, 2), "two": (3, 2), "scale": (2,), "out": (2, 1)
    }  # fmt: skip
    return apply, shapes, (2, 3)


@network({"inner": "", "outer": DIRECT, "last": SUM, "head": ""})
def a_residual_stream():
    def apply(p, x, act):
        x = x @ p["embed"]
        x = x + act("inner", x @ p["up"]) @ p["down"]
        x = act("outer", x @ p["first"])
        x = act("last", x + x @ p["second"])
        return act("head", (x + x @ p["third"]) @ p["head"]) @ p["out"] + x.sum()

    square = (3, 3)
    shapes = {
        "embed": (2, 3), "up": (3, 4), "down": (4, 3), "first": square, "second": square, "third": square,
        "head": (3, 2), "out": (2, 1),
    }  # fmt: skip
    return apply, shapes, (2, 2)


@network({"stream": SUM, "head": ""})
def a_stream_that_activations_write_into():
    def apply(p, x, act):
        x = x @ p["embed"]
        x = x + act("stream", x @ p["w"])
        return act("head", x @ p["head"]) @ p["out"]

    return apply, {"embed": (2, 3), "w": (3, 3), "head": (3, 2), "out": (2, 1)}, (2, 2)


@network({"cell": ""})
def a_recurrent_cell():
    def apply(p, x, act):
        def step(h, x):
            return act("cell", x @ p["in"] + h @ p["again"] + p["bias"])

        return loop(act, step, jnp.zeros((x.shape[1], 3)), x) @ p["out"]

    return apply, {"in": (2, 3), "again": (3, 3), "bias": (3,), "out": (3, 1)}, (4, 2, 2)


@network({"reset": DIRECT, "update": SUM, "new": ""})
def a_gated_recurrent_cell():
    def apply(p, x, act):
        def step(h, x):
            reset = act("reset", x @ p["xr"] + h @ p["hr"])
            update = act("update", x @ p["xu"] + h @ p["hu"])
            new = act("new", x @ p["xn"] + reset * (h @ p["hn"]))
            return (1 - update) * new + update * h

        return loop(act, step, jnp.zeros((x.shape[1], 2)), x) @ p["out"]

    return (
        apply,
        {**{f"x{g}": (3, 2) for g in "run"}, **{f"h{g}": (2, 2) for g in "run"}, "out": (2, 1)},
        (3, 1, 3),
    )


@network({"layer": ""}, layered=["layer"])
def a_scan_over_layers():
    def apply(p, x, act):
        def step(x, q):
            return x + act("layer", x @ q["up"] + q["bias"]) @ q["down"]

        return loop(act, step, x @ p["embed"], p["layers"]) @ p["out"]

    layers = {"up": (3, 2, 4), "bias": (3, 4), "down": (3, 4, 2)}
    return apply, {"embed": (3, 2), "layers": layers, "out": (2, 1)}, (2, 3)


@network({"code": USED})
def tied_weights():
    return lambda p, x, act: act("code", x @ p["w"] + p["b"]) @ p["w"].T, {"w": (3, 4), "b": (4,)}, (2, 3)


@network({"inner": ""})
def a_table_of_tokens_read_at_both_ends():
    def apply(p, tokens, act):
        x = p["table"][tokens]
        x = x + act("inner", x @ p["up"]) @ p["down"]
        return x @ p["table"].T

    return apply, {"table": (5, 3), "up": (3, 4), "down": (4, 3)}, np.array([[0, 3, 1]])


@network({"one": "", "two": "not as it is"})
def standardised_weights():
    def apply(p, x, act):
        def standardised(w):
            return (w - w.mean(axis=0)) / (w.std(axis=0) + 0.1)

        x = act("one", x @ standardised(p["one"]))
        x = act("two", x @ p["two"])
        return x @ standardised(p["out"])

    # The readers of "one" are plain, those of "two" are standardised over it.
    return apply, {"one": (3, 4), "two": (4, 3), "out": (3, 2)}, (2, 3)


@network({"one": "moves all of its units", "two": ""})
def weights_under_a_spectral_norm():
    def apply(p, x, act):
        u = p["one"] @ (p["one"].T @ jnp.ones(3, x.dtype))
        norm = jnp.sqrt(jnp.square(p["one"].T @ u).sum() / jnp.square(u).sum())
        x = act("one", x @ (p["one"] / norm) + p["bias"])
        return act("two", x @ p["two"]) @ p["out"]

    return apply, {"one": (3, 4), "bias": (4,), "two": (4, 3), "out": (3, 1)}, (2, 3)


@network({"first": "", "second": ""})
def scaled_cast_transposed_masked_and_low_rank_weights():
    def apply(p, x, act):
        mask = jnp.array([[1.0, 0, 1, 0], [0, 1, 1, 1], [1, 1, 0, 0]], x.dtype)
        x = act("first", x @ (p["first"] * mask) * 2)
        w = p["second"].T.astype(x.dtype) / 3
        x = act("second", p["temperature"] * (x @ w) + x @ (p["a"] @ p["b"]))
        return x @ p["out"]

    shapes = {
        "first": (3, 4), "second": (3, 4), "a": (4, 1), "b": (1, 3), "temperature": (), "out": (3, 1)
    }  # fmt: skip
    return apply, shapes, (2, 3)


@network({"one": "", "two": "", "three": ""})
def calls_of_every_kind():
    @jax.custom_vjp
    def scaled(x, w):
        return x @ w

    scaled.defvjp(lambda x, w: (scaled(x, w), (x, w)), lambda kept, g: (g @ kept[1].T, kept[0].T @ g))

    def apply(p, x, act):
        plain = getattr(act, "unrolls", False)
        x = (lambda f: f if plain else jax.jit(f))(lambda w, x: act("one", x @ w))(p["one"], x)
        x = (lambda f: f if plain else jax.checkpoint(f))(lambda w, x: act("two", x @ w))(p["two"], x)
        return act("three", scaled(x, p["three"])) @ p["out"]

    return apply, {"one": (2, 3), "two": (3, 2), "three": (2, 4), "out": (4, 1)}, (2, 2)


@network({"squeezed": "", "excited": "", "gate": ""})
def squeeze_and_excitation():
    def apply(p, x, act):
        x = act("squeezed", conv(x, p["conv"]))
        gate = act("gate", act("excited", x.mean(axis=(1, 2)) @ p["down"]) @ p["up"])
        return conv(x * gate[:, None, None, :], p["out"])

    return apply, {"conv": (2, 2, 1, 3), "down": (3, 2), "up": (2, 3), "out": (2, 2, 3, 1)}, (1, 2, 3, 1)


@network({"h": ""})
def a_branch_that_data_choose():
    def apply(p, x, act):
        h = act("h", x @ p["w"])
        if getattr(act, "unrolls", False):
            return jnp.concatenate([h @ p["left"], h @ p["right"]])
        return lax.cond(x.sum() > 0, lambda h: h @ p["left"], lambda h: h @ p["right"], h)

    return apply, {"w": (2, 3), "left": (3, 1), "right": (3, 1)}, (2, 2)


@network({"one": "", "two": ""})
def an_nnx_module():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(1, 3, (2, 2), rngs=rngs)
            self.norm = nnx.BatchNorm(3, rngs=rngs)
            self.dense = nnx.Linear(12, 4, rngs=rngs)
            self.out = nnx.Linear(4, 1, rngs=rngs)

        def __call__(self, x, act):
            x = act("one", self.norm(self.conv(x)))
            return self.out(act("two", self.dense(x.reshape(x.shape[0], -1))))

    graph, params, rest = nnx.split(Net(nnx.Rngs(0)), nnx.Param, ...)

    def apply(params, x, act):
        cast = jax.tree.map(lambda leaf: leaf.astype(x.dtype), rest)
        return nnx.merge(graph, params, cast)(x, act)

    shapes = jax.tree.map(lambda leaf: leaf.shape, params)
    return apply, shapes, (2, 2, 2, 1)


@network({"flat": NORM, "out": ""})
def flattened_before_the_activation():
    def apply(p, x, act):
        x = act("flat", conv(x, p["conv"]).reshape(x.shape[0], -1))
        return act("out", x @ p["dense"]) @ p["out"]

    return apply, {"conv": (2, 2, 1, 3), "dense": (12, 2), "out": (2, 1)}, (1, 2, 2, 1)


@network({"once": USED, "twice": USED, "again": "also feeds", "last": "the function's output"})
def layers_used_twice_and_an_activation_at_the_end():
    def apply(p, x, act):
        z = x @ p["once"]
        x = act("once", z) @ p["a"] + z @ p["a"]
        x = act("again", act("twice", x @ p["shared"]) @ p["shared"])
        return act("last", x @ p["out"])

    return apply, {"once": (2, 3), "a": (3, 2), "shared": (2, 2), "out": (2, 2)}, (2, 2)
