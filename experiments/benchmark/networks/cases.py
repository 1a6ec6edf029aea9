"""The networks that are measured, and one training step of each."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from experiments.models import activation, darknet19, dcgan, esrgan, graph_attention, hifigan
from experiments.models.activation import Activation
from jax_leaky import leaky_relu

LEARNING_RATE = 1e-5  # so small that a step may be timed hundreds of times

ACTIVATIONS: dict[str, Activation] = {
    "none": activation.none,
    "jax.nn": jax.nn.leaky_relu,
    "bits": functools.partial(leaky_relu, residual="bits"),
    "output": functools.partial(leaky_relu, residual="output"),
}


class Network(NamedTuple):
    """A network at its published shape.

    Attributes:
        model: function from the activation to the Flax model.
        shape: shape of one example, without the batch axis; for the graph, its number of nodes.
        batch: number of examples in a batch, as published.
        timed_batch: number of examples with which a step takes about a second on two cores.
        example: name of one example in the tables.
    """

    model: Callable[[Activation], nn.Module]
    shape: tuple[int, ...]
    batch: int
    timed_batch: int
    example: str

    def arguments(self, batch: int) -> tuple[Array, ...]:
        """Random inputs."""
        if self.example == "graph":
            return graph_attention.random_graph(jax.random.key(0))
        return (jax.random.normal(jax.random.key(0), (batch, *self.shape)),)

    def variables(self, batch: int) -> Any:
        """Parameters and running statistics at the start."""
        return jax.jit(self.model(activation.none).init)(jax.random.key(1), *self.arguments(batch))

    def compile(self, name: str, batch: int, dtype: Any = jnp.float32, sharding: Any = None) -> Any:
        """The compiled training step `(variables, *inputs) -> variables`; its first argument is donated.

        Args:
            name: name of the activation, one of `ACTIVATIONS`.
            batch: number of examples in the batch.
            dtype: data type of parameters and inputs; running statistics stay in float32.
            sharding: sharding of the arguments; None for the default device.
        """

        def struct(dtype: Any, leaf: Any) -> Any:
            floating = jnp.issubdtype(leaf.dtype, jnp.floating)
            return jax.ShapeDtypeStruct(leaf.shape, dtype if floating else leaf.dtype, sharding=sharding)

        variables = jax.eval_shape(functools.partial(self.variables, batch))
        inputs = jax.eval_shape(functools.partial(self.arguments, batch))
        variables = {
            collection: jax.tree.map(
                functools.partial(struct, dtype if collection == "params" else jnp.float32), tree
            )
            for collection, tree in variables.items()
        }
        inputs = jax.tree.map(functools.partial(struct, dtype), inputs)
        return (
            jax.jit(train_step(self.model(ACTIVATIONS[name])), donate_argnums=0)
            .lower(variables, *inputs)
            .compile()
        )


def train_step(model: nn.Module) -> Callable[..., Any]:
    """A step of gradient descent on the mean square of the output, which costs next to nothing itself."""

    def step(variables: Any, *inputs: Array) -> Any:
        def loss(params: Any) -> Any:
            out, updated = model.apply({**variables, "params": params}, *inputs, mutable=["batch_stats"])
            return jnp.square(out.astype(jnp.float32)).mean(), updated

        gradient, updated = jax.grad(loss, has_aux=True)(variables["params"])
        params = jax.tree.map(lambda p, g: p - LEARNING_RATE * g, variables["params"], gradient)
        return {"params": params, **updated}

    return step


NETWORKS = {
    "DCGAN discriminator": Network(dcgan.Discriminator, (64, 64, 3), 128, 64, "image of 64x64"),
    "Darknet-19": Network(darknet19.Darknet19, (224, 224, 3), 128, 2, "image of 224x224"),
    "ESRGAN RRDB block": Network(esrgan.RRDB, (32, 32, 64), 16, 8, "patch of 32x32"),
    "HiFi-GAN V1 generator": Network(hifigan.Generator, (32, 80), 16, 1, "segment of 8192 samples"),
    "graph attention layer": Network(graph_attention.GraphAttention, (2708,), 1, 1, "graph"),
}
