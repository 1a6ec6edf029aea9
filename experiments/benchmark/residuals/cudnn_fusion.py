"""Which activations XLA fuses into a cuDNN convolution on an H100.

    python -m experiments.benchmark.residuals.cudnn_fusion

Two half-precision convolutions with bias, forward and in training, compiled with JAX_PLATFORMS=cpu for a card that
need not be there. The flag that matters, xla_gpu_use_runtime_fusion, is off by default.
"""

from __future__ import annotations

import json
import re

import jax
import jax.numpy as jnp
from jax import Array

from experiments.benchmark import deviceless
from experiments.benchmark.residuals.blocks import ACTIVATIONS

LAYERS = 2


def modes(activation: str, training: bool, runtime_fusion: bool) -> list[str]:
    """The activation that cuDNN applies in each forward convolution, by cuDNN's name ("None", "LeakyRelu")."""

    def forward(weights: list[Array], biases: list[Array], x: Array) -> Array:
        for w, b in zip(weights, biases, strict=True):
            layout = ("NHWC", "HWIO", "NHWC")
            y = jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=layout)
            x = ACTIVATIONS[activation](y + b)
        return x

    def struct(*shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, jnp.float16, sharding=sharding)

    sharding = deviceless.sharding("cuda")
    arguments = [struct(3, 3, 64, 64)] * LAYERS, [struct(64)] * LAYERS, struct(8, 32, 32, 64)
    gradient = jax.grad(lambda *a: forward(*a).astype(jnp.float32).sum(), argnums=(0, 1))
    lowered = jax.jit(gradient if training else forward).lower(*arguments)
    text = lowered.compile(compiler_options={"xla_gpu_use_runtime_fusion": runtime_fusion}).as_text()
    assert text is not None
    calls = [line for line in text.splitlines() if "__cudnn$convBiasActivationForward" in line]
    return [found[1] for call in calls if (found := re.search(r'"activation_mode":"k(\w+)"', call))]


def main() -> None:
    """Prints one JSON line per program."""
    for runtime_fusion in (True, False):
        for training in (False, True):
            for activation in ACTIVATIONS:
                found = {
                    "activation": activation,
                    "training": training,
                    "xla_gpu_use_runtime_fusion": runtime_fusion,
                    "modes": modes(activation, training, runtime_fusion),
                }
                print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
