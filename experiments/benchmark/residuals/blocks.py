"""The blocks that the residual choices are judged by: what surrounds an activation in networks, one gradient each."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, get_args

import jax
import jax.numpy as jnp
from jax import Array

from jax_leaky import leaky_relu
from jax_leaky._op._residual import Residual

Activation = Callable[[Array], Array]
UNITS = 1024
LAYERS = 4
_SIDE, _CHANNELS = 16, 256  # of the convolution's images: 64 rows of UNITS elements each


def _leaky(x: Array) -> Array:
    return jax.lax.select(x > 0, x, x * jnp.asarray(0.01, x.dtype))


@jax.custom_vjp
def keeps_nothing(x: Array) -> Array:
    """The value of a leaky ReLU with a derivative that is wrong on purpose, so that nothing has to be kept for it.

    It differs from element to element as the right one does, which a program without any activation is spared: there
    the gradient after the activation is that before it, here both are arrays. What a block needs with this is what no
    activation can undercut by what it keeps.
    """
    return _leaky(x)


def _keeps_nothing_backward(_: None, cotangent: Array) -> tuple[Array]:
    # A chessboard: it costs nothing to have, and no product before or after it can absorb it. Made of two vectors,
    # because XLA's TPU compiler fails on whole arrays of places inside a matrix product.
    rows = jnp.arange(len(cotangent)).reshape(-1, *[1] * (cotangent.ndim - 1))
    dark = (rows + jnp.arange(cotangent.shape[-1])) % 2 == 0
    return (jnp.where(dark, cotangent, cotangent * jnp.asarray(0.01, cotangent.dtype)),)


keeps_nothing.defvjp(lambda x: (_leaky(x), None), _keeps_nothing_backward)

ACTIVATIONS: dict[str, Activation] = {
    "none": lambda x: x,
    "nothing": keeps_nothing,
    "relu": jax.nn.relu,
    "jax.nn": jax.nn.leaky_relu,
    **{residual: functools.partial(leaky_relu, residual=residual) for residual in get_args(Residual)},
}


def _mlp(activation: Activation, x: Array, weights: dict[str, Array]) -> Array:
    return activation(x @ weights["w"])


def _feed_forward(activation: Activation, x: Array, weights: dict[str, Array]) -> Array:
    return x + activation(x @ weights["w"]) @ weights["out"]


def _residual_norm(activation: Activation, x: Array, weights: dict[str, Array]) -> Array:
    y = (x + activation(x @ weights["w"])).astype(jnp.float32)
    return (y * jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + 1e-6)).astype(x.dtype)


def _convolution(activation: Activation, x: Array, weights: dict[str, Array]) -> Array:
    layout = ("NHWC", "HWIO", "NHWC")
    y = jax.lax.conv_general_dilated(x, weights["w"], (1, 1), "SAME", dimension_numbers=layout)
    return activation(y + weights["bias"])


_SQUARE = (UNITS, UNITS)
_BODIES: dict[str, tuple[Callable[..., Array], dict[str, tuple[int, ...]]]] = {
    "MLP": (_mlp, {"w": _SQUARE}),
    "feed-forward": (_feed_forward, {"w": _SQUARE, "out": _SQUARE}),
    "residual + norm": (_residual_norm, {"w": _SQUARE}),
    "conv + bias": (_convolution, {"w": (3, 3, _CHANNELS, _CHANNELS), "bias": (_CHANNELS,)}),
}
_POLICIES = {"remat": None, "dots saveable": jax.checkpoint_policies.dots_saveable}


@dataclasses.dataclass(frozen=True)
class Block:
    """`LAYERS` of one kind, and the gradient of the sum of their output.

    Attributes:
        body: kind of the layers, one of `_BODIES`.
        scanned: True for a `jax.lax.scan` over stacked weights, False for layers one after the other, each with weights
            of its own.
        frozen: True for the gradient with respect to the input, with constant weights; False for that of the weights.
        remat: name of the rematerialisation of each layer, one of `_POLICIES`; "" for none.
    """

    body: str
    scanned: bool
    frozen: bool = False
    remat: str = ""

    @property
    def name(self) -> str:
        """The name of the block in the tables."""
        parts = (
            self.body,
            "frozen" * self.frozen,
            self.remat,
            "in scan" if self.scanned else "unrolled",
        )
        return ", ".join(filter(None, parts))

    def gradient(self, activation: Activation) -> Callable[[Array, Any], Any]:
        """The function that is measured: `(x, weights) -> gradient`."""
        layer: Callable[..., Any] = functools.partial(_BODIES[self.body][0], activation)
        if self.remat:
            layer = jax.checkpoint(layer, policy=_POLICIES[self.remat], prevent_cse=not self.scanned)

        def loss(x: Array, weights: Any) -> Array:
            if self.scanned:
                x, _ = jax.lax.scan(lambda x, weights: (layer(x, weights), None), x, weights)
            else:
                for of_layer in weights:
                    x = layer(x, of_layer)
            return x.astype(jnp.float32).sum()

        return jax.grad(loss, argnums=0 if self.frozen else 1)

    def arguments(self, rows: int, dtype: Any, sharding: Any = None) -> tuple[jax.ShapeDtypeStruct, Any]:
        """The shapes of x, `rows` times UNITS elements, and of the weights: stacked, or a list of each layer's own."""
        x = (rows * UNITS // (_SIDE**2 * _CHANNELS), _SIDE, _SIDE, _CHANNELS)
        struct = functools.partial(jax.ShapeDtypeStruct, dtype=dtype, sharding=sharding)
        stack = (LAYERS,) if self.scanned else ()
        weights = {name: struct((*stack, *shape)) for name, shape in _BODIES[self.body][1].items()}
        inputs = struct(x if self.body == "conv + bias" else (rows, UNITS))
        return inputs, weights if self.scanned else [weights] * LAYERS


# The geometric means are over these; under remat all choices are alike, which only thins the differences.
BLOCKS = tuple(
    [Block(body, scanned) for body in _BODIES for scanned in (False, True)]
    + [Block(body, scanned, frozen=True) for body in ("MLP", "residual + norm") for scanned in (False, True)]
)
REMAT_BLOCKS = tuple(
    Block(body, scanned, remat=remat)
    for body, remat in (("MLP", "remat"), ("feed-forward", "remat"), ("feed-forward", "dots saveable"))
    for scanned in (False, True)
)
