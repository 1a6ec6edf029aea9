"""Does the signal keep its size through 50 layers, forward and backward, with the right gain and with the wrong one?

Sends random inputs through deep random networks and a random gradient back, once initialised for the slope that the
activation has, with variance 2 / ((1 + a^2) fan_in), and once with ReLU's 2 / fan_in. The same random numbers serve
both. In expectation the second moment is level with the first and grows by 1 + a^2 a layer with the second.

    python -m experiments.signal_gain --smoke                         a few seconds
    python -m experiments.signal_gain                                 the default: two minutes
    python -m experiments.signal_gain --width 2048 --layers 100       wider and deeper
    python -m experiments.signal_gain --full                          width 2048, 500 seeds

References:
    He, Zhang, Ren and Sun: Delving Deep into Rectifiers, ICCV 2015, equations 10 to 15.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from pydantic.dataclasses import dataclass

from experiments.lab.run import cli, store
from experiments.lab.run.experiment import carry_out
from experiments.lab.run.settings import Count, Finite, Flags, Several
from experiments.lab.run.sweep import Group
from experiments.signal_gain.report import report
from jax_leaky import leaky_relu

NAME = "signal_gain"


@dataclass(frozen=True)
class Config(Flags):
    """Which networks are drawn, and where the measures are written."""

    out: Path = Path("runs/signal_gain")
    """The folder of the run: rows, plots and page.
    A folder that holds a run of other settings is refused, not overwritten."""

    seeds: Count = 400
    """Number of networks that are drawn; the second moment of one differs much from the expectation."""

    layers: Count = 50
    """Layers of each network."""

    width: Count = 512
    """Units of each layer."""

    samples: Count = 16
    """Inputs, drawn from the standard normal distribution."""

    negative_slopes: Several[Finite] = (0.0, 0.01, 0.1, 0.2, 0.3, 0.5)
    """The slopes of LeakyReLU; 0 is ReLU."""

    every: Count = 5
    """Layers between two that are recorded."""


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {"seeds": 4, "width": 64, "layers": 20, "negative_slopes": (0.0, 0.2)},
    "full": {"seeds": 500, "width": 2048},
}


class Run(NamedTuple):
    """One draw of the weights."""

    seed: np.uint32


class Sizes(NamedTuple):
    """Measures of a network's signals at each layer from the input to the last: (variants, layers + 1).

    Attributes:
        second_moment: the mean square of the activations, relative to the input's.
        gradient_norm: the norm of the gradient, relative to that at the last layer.
    """

    second_moment: Array
    gradient_norm: Array


def variants(slopes: tuple[float, ...]) -> list[tuple[float, float]]:
    """(slope of the activation, slope that the gain is made for): its own, and ReLU's where that is another."""
    return [pair for slope in slopes for pair in ((slope, slope), (slope, 0.0))[: 2 if slope else 1]]


def train(run: Run, _data: Any, *, config: Config) -> Sizes:
    """Draws one network per variant, all from the same random numbers; nothing is trained here."""
    pairs, shape = variants(config.negative_slopes), (config.samples, config.width)
    input_key, top_key, weights_key = jax.random.split(jax.random.key(run.seed), 3)
    slopes, made_for = jnp.array(pairs, jnp.float32).T[:, :, None, None]
    sizes = 1 / jnp.sqrt(1 + made_for**2)
    x, top = jax.random.normal(input_key, shape), jax.random.normal(top_key, shape)

    def forward(nudges: Array) -> tuple[Array, tuple[Array, Array]]:
        """The nudges, (layers, variants, ...), are 0 and added before each layer: their gradients are the signals'."""

        def layer(h: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
            key, nudge = step
            weights = jax.nn.initializers.he_normal()(key, (config.width, config.width))
            # One product for all variants: what leaky_he_normal draws is this, divided by sqrt(1 + a^2).
            z = ((h + nudge).reshape(-1, config.width) @ weights).reshape(h.shape) * sizes
            return leaky_relu(z, slopes), (h**2).mean((1, 2))

        start = jnp.broadcast_to(x, (len(pairs), *shape))
        last, squares = lax.scan(layer, start, (jax.random.split(weights_key, config.layers), nudges))
        return (last * top).sum(), (last, squares)

    gradients, (last, squares) = jax.grad(forward, has_aux=True)(
        jnp.zeros((config.layers, len(pairs), *shape))
    )
    moments = jnp.concatenate([squares, (last**2).mean((1, 2))[None]])
    norms = jnp.sqrt((gradients**2).sum((2, 3)) / (top**2).sum())
    norms = jnp.concatenate([norms, jnp.ones((1, len(pairs)))])
    return Sizes((moments / moments[0]).T, norms.T)


def to_records(config: Config, run: Run, sizes: Sizes) -> list[store.Record]:
    """A record for each variant: lists with a value for each recorded layer."""
    return [
        {
            "negative_slope": slope,
            "gain": "own" if slope == made_for else "relu",
            "seed": int(run.seed),
            "layers": recorded(config),
            "second_moment": [
                store.number(sizes.second_moment[place, layer], 5) for layer in recorded(config)
            ],
            "gradient_norm": [
                store.number(sizes.gradient_norm[place, layer], 5) for layer in recorded(config)
            ],
        }
        for place, (slope, made_for) in enumerate(variants(config.negative_slopes))
    ]


def recorded(config: Config) -> list[int]:
    """The layers of the records; 0 is the input."""
    return sorted({*range(0, config.layers, config.every), config.layers})


def run(config: Config) -> None:
    """The experiment from its settings to its report."""
    runs = [Run(np.uint32(seed)) for seed in range(config.seeds)]
    life = functools.partial(train, config=config)
    group = Group("networks", life, runs, functools.partial(to_records, config))
    outcome = carry_out(NAME, config, [group], np.float32(0), "draws")
    report(config, outcome)


def main() -> None:
    """The command line."""
    cli.start(NAME, run, Config, PRESETS, __doc__)
