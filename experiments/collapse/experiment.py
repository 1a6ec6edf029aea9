"""How often does a deep and narrow network collapse to a constant when it is trained?

Trains many networks of 10 layers and a few units each on functions of one variable and sorts them by what they have
learned: collapsed ones output the mean of the function everywhere, half-trained ones follow it in a part, trained ones
follow it. Networks of one seed begin with the same weights whatever their slope. Long after ReLU networks have settled,
leaky ones still leave the collapse one by one, so every network is also evaluated on the way.

    python -m experiments.collapse --smoke                            a few seconds
    python -m experiments.collapse                                    the default: 1000 seeds, minutes
    python -m experiments.collapse --functions abs --steps 30000      one function, longer
    python -m experiments.collapse --full                             ten times the steps at a third of the step size

References:
    Lu, Shin, Su and Karniadakis: Dying ReLU and Initialization: Theory and Numerical Examples, arXiv:1903.06733.
    Lu, Su and Karniadakis: Collapse of Deep and Narrow Neural Nets, arXiv:1808.04947.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from pydantic import Field
from pydantic.dataclasses import dataclass

from experiments.collapse.narrow_networks import draw, outputs
from experiments.collapse.report import report
from experiments.lab.run import cli, store
from experiments.lab.run.experiment import carry_out
from experiments.lab.run.settings import Count, Finite, Flags, Positive, Several
from experiments.lab.run.sweep import Group

NAME = "collapse"
FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "abs": lambda x: np.abs(x),
    "sine": lambda x: x * np.sin(5 * x),
    "step": lambda x: (x > 0) + 0.2 * np.sin(5 * x),
}
# Of the function's variance: explained by less than the one, by more than the other.
COLLAPSED, TRAINED = 0.05, 0.9


@dataclass(frozen=True)
class Config(Flags):
    """Which networks are trained on which functions, and where it is written."""

    out: Path = Path("runs/collapse")
    """The folder of the run: rows, plots and page.
    A folder that holds a run of other settings is refused, not overwritten."""

    seeds: Count = 1000
    """Number of networks, with the seeds 0, 1, 2, ..., per combination."""

    steps: Count = 10_000
    """Training steps, of Adam on all points; the networks are evaluated after a tenth and three tenths of them too."""

    functions: Several[Literal["abs", "sine", "step"]] = ("abs", "sine", "step")
    """abs: |x|; sine: x sin 5x; step: 1 for x > 0, plus 0.2 sin 5x; on [-sqrt 3, sqrt 3]."""

    initialisations: Several[Literal["he", "asymmetric"]] = ("he", "asymmetric")
    """he: symmetric weights, zero biases; asymmetric: one parameter of each unit is drawn from Beta(2, 1)."""

    negative_slopes: Several[Finite] = (0.0, 0.01, 0.2)
    """The slopes of LeakyReLU; 0 is ReLU."""

    width: Count = 2
    """Units of each hidden layer."""

    depth: Annotated[int, Field(ge=2)] = 10
    """Layers with weights."""

    points: Annotated[int, Field(ge=2)] = 64
    """Points of each function, equally spaced."""

    learning_rate: Positive = 0.01
    """Learning rate of Adam."""

    block: Count = 100
    """Networks that are trained side by side."""

    @property
    def evaluations(self) -> list[int]:
        """Steps after which the networks are evaluated; the last is the end."""
        return sorted({max(1, self.steps // 10), max(1, 3 * self.steps // 10), self.steps})


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {"seeds": 100, "steps": 100, "functions": ("abs",), "initialisations": ("he",), "block": 50},
    "full": {"steps": 100_000, "learning_rate": 0.003},
}


class Block(NamedTuple):
    """A block of networks."""

    negative_slope: np.float32
    first: np.uint32


class Fate(NamedTuple):
    """Measures of each network of a block, before training and at each evaluation: (1 + evaluations, networks).

    Attributes:
        explained: the share of the function's variance that the output explains; below 0 where it is worse than the
            mean, NaN where it is not finite.
        constant: whether the output is numerically constant on all points.
    """

    explained: Array
    constant: Array


def explained_share(output: Array, y: Array) -> Array:
    """1 - (mean square error) / (variance of y) for each network; output: (points, networks)."""
    return 1 - ((output - y[:, None]) ** 2).mean(0) / y.var()


def train(
    block: Block, samples: dict[str, Array], *, config: Config, function: str, initialisation: str
) -> Fate:
    """A block of networks' whole life."""
    x, y = samples["x"], samples[function]
    keys = jax.vmap(jax.random.key)(block.first + jnp.arange(config.block, dtype=jnp.uint32))
    params = draw(initialisation, keys, config.width, config.depth)
    rule = optax.adam(config.learning_rate)

    def loss(params: Any) -> Array:
        # A sum over the networks: their gradients do not mix.
        return ((outputs(params, x, block.negative_slope) - y[:, None]) ** 2).mean(0).sum()

    def step(_number: Array, carry: tuple[Any, Any]) -> tuple[Any, Any]:
        params, state = carry
        updates, state = rule.update(jax.grad(loss)(params), state)
        return optax.apply_updates(params, updates), state

    def fate(params: Any) -> Fate:
        output = outputs(params, x, block.negative_slope)
        # Relative to its own size: a deep leaky network's output can be tiny and yet no constant.
        constant = jnp.ptp(output, axis=0) <= 1e-5 * jnp.abs(output).max(0)
        return Fate(explained_share(output, y), constant)

    def until_next_evaluation(
        carry: tuple[Any, Any], span: tuple[Array, Array]
    ) -> tuple[tuple[Any, Any], Fate]:
        carry = lax.fori_loop(*span, step, carry)
        return carry, fate(carry[0])

    steps = jnp.array([0, 0, *config.evaluations])
    _, fates = lax.scan(until_next_evaluation, (params, rule.init(params)), (steps[:-1], steps[1:]))
    return fates


def groups_of(config: Config) -> list[Group]:
    """One compiled program per function and initialisation."""
    table = itertools.product(range(0, config.seeds, config.block), config.negative_slopes)
    runs = [Block(np.float32(slope), np.uint32(first)) for first, slope in table]
    return [
        Group(
            f"{function}, {initialisation}",
            functools.partial(train, config=config, function=function, initialisation=initialisation),
            runs,
            functools.partial(to_records, function, initialisation, config),
        )
        for function, initialisation in itertools.product(config.functions, config.initialisations)
    ]


def end_of(explained: float) -> str:
    """`collapsed`, `half-trained`, `trained` or `diverged`."""
    if not math.isfinite(explained):
        return "diverged"
    if explained < COLLAPSED:
        return "collapsed"
    return "trained" if explained > TRAINED else "half-trained"


def to_records(
    function: str, initialisation: str, config: Config, block: Block, fate: Fate
) -> list[store.Record]:
    """A record for each network: `collapsed` tells of each evaluation, the other fields of the last."""
    return [
        {
            "function": function,
            "initialisation": initialisation,
            "negative_slope": store.number(block.negative_slope),
            "seed": int(block.first) + place,
            "born_constant": bool(fate.constant[0, place]),
            "constant": bool(fate.constant[-1, place]),
            "explained": store.number(fate.explained[-1, place], 4),
            "end": end_of(float(fate.explained[-1, place])),
            "collapsed": [end_of(float(share)) == "collapsed" for share in fate.explained[1:, place]],
        }
        for place in range(min(config.block, config.seeds - int(block.first)))
    ]


def samples_of(config: Config) -> dict[str, np.ndarray]:
    """The points and each function's values there."""
    x = np.linspace(-math.sqrt(3), math.sqrt(3), config.points)
    values = {name: function(x) for name, function in FUNCTIONS.items()}
    return {name: np.asarray(value, np.float32) for name, value in {"x": x, **values}.items()}


def run(config: Config) -> None:
    """The experiment from its settings to its report."""
    report(config, carry_out(NAME, config, groups_of(config), samples_of(config), "blocks of networks"))


def main() -> None:
    """The command line."""
    cli.start(NAME, run, Config, PRESETS, __doc__)
