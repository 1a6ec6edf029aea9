"""How likely is a network to be dead before it is trained?

Draws very many random networks (He normal weights, zero biases) over width, depth, input dimension and activation. It
counts those whose output is the same for every input and those that lose one given input, and compares the counts with
the exact formulas and bounds of Lu et al. One pass through a deep network gives all depths of a width, as its layers.
Whether a network is constant is decided over all inputs in dimensions 1 and 2, and over sampled inputs in more.

    python -m experiments.born_dead --smoke                           a few seconds
    python -m experiments.born_dead                                   the default: 10^6 networks per cell, minutes
    python -m experiments.born_dead --widths 8 --depths 20 --input-dims 3
    python -m experiments.born_dead --full                            more widths, dimensions and depths

References:
    Lu, Shin, Su and Karniadakis: Dying ReLU and Initialization: Theory and Numerical Examples, arXiv:1903.06733.
"""

from __future__ import annotations

import functools
import itertools
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from experiments.born_dead.random_networks import AT_ONCE, Counts, Part, draw, is_exact, probes_of
from experiments.born_dead.report import report
from experiments.born_dead.theory import lower_bound, point_death
from experiments.lab.run import cli, store
from experiments.lab.run.experiment import Outcome, carry_out
from experiments.lab.run.settings import Count, Finite, Flags, Seed, Several
from experiments.lab.run.sweep import Group

NAME = "born_dead"


@dataclass(frozen=True)
class Config(Flags):
    """Which networks are drawn, how many, and where the counts are written."""

    out: Path = Path("runs/born_dead")
    """The folder of the run: rows, plots and page.
    A folder that holds a run of other settings is refused, not overwritten."""

    widths: Several[Count] = (2, 3, 4, 5)
    """Units of each hidden layer."""

    depths: Several[Annotated[int, Field(ge=2)]] = (3, 5, 10, 20, 50)
    """Layers with weights: depth 10 has 9 hidden layers."""

    input_dims: Several[Count] = (1, 2)
    """Dimensions of the input."""

    negative_slopes: Several[Finite] = (0.0, 0.01)
    """The slopes of LeakyReLU; 0 is ReLU."""

    networks: Annotated[int, Field(ge=1, lt=2**31)] = 1_000_000
    """Networks per cell. The depths and slopes of one width and input dimension share their weights."""

    probes: Annotated[int, Field(ge=2)] = 64
    """Inputs, in opposite pairs, on which a network of input dimension 3 or more, or of dimension 2 and more than 6
    units, must be constant to count as born dead: an upper estimate, exact at depth 3 where inputs are no fewer than
    units. Dimension 1 and narrower networks of dimension 2 are decided exactly and without them. In dimension 4, 64
    find up to 0.009 more than 512 do (width 4, depth 10; 25,000 networks)."""

    seed: Seed = 0
    """Seed of the weights."""


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {"widths": (2, 3), "depths": (3, 10), "networks": 20_000},
    "full": {
        "widths": (2, 3, 4, 5, 6, 8),
        "depths": (3, 5, 10, 20, 50, 100),
        "input_dims": (1, 2, 8),
    },
}


def groups_of(config: Config) -> list[Group]:
    """One compiled program per width and input dimension; its parts share out the networks."""
    firsts = range(0, config.networks, AT_ONCE)
    parts = [Part(np.uint32(config.seed), np.int32(first), np.int32(config.networks)) for first in firsts]
    return [
        Group(
            f"width {width}, input dimension {input_dim}",
            functools.partial(
                draw,
                width=width,
                input_dim=input_dim,
                hidden=max(config.depths) - 1,
                negative_slopes=config.negative_slopes,
            ),
            parts,
            functools.partial(to_records, config, width, input_dim),
        )
        for width, input_dim in itertools.product(config.widths, config.input_dims)
    ]


def to_records(config: Config, width: int, input_dim: int, part: Part, counts: Counts) -> list[store.Record]:
    """A part's counts for each depth and slope."""
    return [
        {
            "width": width,
            "depth": depth,
            "input_dim": input_dim,
            "negative_slope": slope,
            "networks": min(AT_ONCE, config.networks - int(part.first)),
            **{f"{name}_count": int(count[depth - 2, place]) for name, count in counts._asdict().items()},
        }
        for depth, (place, slope) in itertools.product(config.depths, enumerate(config.negative_slopes))
    ]


def cells_of(records: list[store.Record]) -> list[store.Record]:
    """The rows of rows.jsonl: one per width, input dimension, depth and slope, with the theory's bounds.

    born_dead, point_dead and collapsed are shares, and left_out is a number of pieces for each network; lower and upper
    bound the probability that born_dead estimates, and upper is exactly the probability that point_dead estimates.
    exact is whether born_dead counts what is constant on all inputs; where it is false, born_dead is an upper estimate.
    """
    cells: dict[tuple[Any, ...], dict[str, int]] = {}
    for record in records:
        key = tuple(record[name] for name in ("width", "depth", "input_dim", "negative_slope"))
        into = cells.setdefault(
            key, dict.fromkeys(("networks", *(f"{name}_count" for name in Counts._fields)), 0)
        )
        for name in into:
            into[name] += record[name]
    return [
        {
            "width": width,
            "depth": depth,
            "input_dim": input_dim,
            "negative_slope": slope,
            "networks": sums["networks"],
            **{name: sums[f"{name}_count"] / sums["networks"] for name in Counts._fields},
            "exact": bool(slope) or (is_exact(width, input_dim, depth) and not sums["left_out_count"]),
            # A unit with a slope is never dead: there the probability is 0, and needs no bounds.
            "lower": 0.0 if slope else lower_bound(width, depth, input_dim),
            "upper": 0.0 if slope else point_death([width] * (depth - 1)),
        }
        for (width, depth, input_dim, slope), sums in cells.items()
    ]


def run(config: Config) -> None:
    """The experiment from its settings to its report."""
    probes = {str(dim): probes_of(dim, config.probes) for dim in config.input_dims}
    outcome = carry_out(NAME, config, groups_of(config), probes, "parts")
    cells = cells_of(outcome.records)
    store.write(config.out / store.ROWS, "".join(store.dump(cell) + "\n" for cell in cells))
    report(config, Outcome(cells, outcome.seconds, outcome.missing))


def main() -> None:
    """The command line."""
    cli.start(NAME, run, Config, PRESETS, __doc__)
