"""Does a network lose its ability to learn over hundreds of tasks, and do its never-active units come back?

Trains one network on a sequence of tasks without an end between them: each is the same images with their pixels in a
new random order, seen once. Counts never-active units at the start of every task and at its end, layer by layer, so
that a unit that comes back by learning is told from one that a new task's inputs have woken, and one that moves itself
from one whose inputs the layers below have moved.

    python -m experiments.plasticity --smoke                          a few seconds, on scikit-learn's digits
    python -m experiments.plasticity                                  the default: minutes
    python -m experiments.plasticity --tasks 800 --step-size 0.1      longer and harder
    python -m experiments.plasticity --full                           all images, width 2000, 800 tasks; a GPU's work

A finished network is kept. One that a kill interrupts begins anew: what is lost is, for each device, one network's
time, seconds by default and hours with --full.

References:
    Dohare et al.: Loss of plasticity in deep continual learning, Nature 632, 2024.
    Sokar, Agarwal, Castro and Evci: The dormant neuron phenomenon in deep reinforcement learning, ICML 2023.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from experiments.lab.data import batches
from experiments.lab.data import datasets as data
from experiments.lab.run import cli, devices, interrupt, store
from experiments.lab.run.errors import LabError
from experiments.lab.run.experiment import Flags, carry_out, check_hidden, settings_of
from experiments.lab.run.loop import Loop, loop
from experiments.plasticity.permuted_tasks import Record, Row, Setting, begin, look, step
from experiments.plasticity.report import report

NAME = "plasticity"
Arm = Literal["relu", "leaky_0.01", "leaky_0.2", "relu_redo", "leaky_0.2_leaky_he"]
_NEVER = -1.0  # a threshold that no dormant score is under
# Slope, whether the gain is made for it, and whether dormant units begin anew.
ARMS = {
    "relu": (0.0, False, False),
    "leaky_0.01": (0.01, False, False),
    "leaky_0.2": (0.2, False, False),
    "relu_redo": (0.0, False, True),
    "leaky_0.2_leaky_he": (0.2, True, False),
}


@dataclasses.dataclass(frozen=True)
class Config(Flags):
    """Which networks are trained, on what, and where it is written."""

    out: Path = Path("runs/plasticity")
    """The folder of the run: rows, plots and page.
    A folder that holds a run of other settings is refused, not overwritten."""

    seeds: int = 10
    """Networks, of seed 0, 1, 2, ..., per arm."""

    tasks: int = 400
    """Random orders of the pixels, one after the other."""

    data: str = "auto"
    """Where the images come from: auto, embedded, system, digits, or a folder of IDX files with MNIST's names."""

    arms: tuple[Arm, ...] = ("relu", "leaky_0.01", "leaky_0.2", "relu_redo", "leaky_0.2_leaky_he")
    """relu_redo: after each task, ReLU units whose dormant score is at most --tau begin anew.
    leaky_0.2_leaky_he: slope 0.2 with He's variance for that slope; the others have ReLU's."""

    images: int = 1000
    """Images of each task; with --full all."""

    hidden: tuple[int, ...] = (100, 100, 100)
    """The widths of the hidden layers."""

    batch_size: int = 10
    """Images per training step."""

    step_size: float = 0.03
    """Of stochastic gradient descent without momentum; with --full 0.01."""

    tau: float = 0.025
    """The dormant score up to which ReDo takes a unit as dormant."""

    probe: int = 0
    """Units are counted on the first so many images of the task; 0 for all of them.
    On all, a never-active ReLU unit is one that receives no gradient from any image of the task."""

    every: int = 10
    """Tasks that are taken together in one record."""


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {
        "seeds": 1,
        "tasks": 6,
        "data": "digits",
        "images": 400,
        "hidden": (32, 32),
        "every": 2,
    },
    "full": {
        "seeds": 10,
        "tasks": 800,
        "hidden": (2000, 2000, 2000),
        "batch_size": 1,
        "images": 60_000,
        "step_size": 0.01,
    },
}


def groups_of(config: Config) -> list[Loop]:
    """One compiled step for all arms; seeds outermost."""
    rows = []
    for seed, arm in itertools.product(range(config.seeds), config.arms):
        slope, own_gain, redo = ARMS[arm]
        gain, tau = slope if own_gain else 0.0, config.tau if redo else _NEVER
        rows.append(Row(np.float32(slope), np.float32(gain), np.float32(tau), np.uint32(seed)))
    setting = Setting(**{name: getattr(config, name) for name in Setting._fields})
    setting = setting._replace(probe=config.probe or config.images)
    return [
        Loop(
            "networks",
            functools.partial(begin, setting=setting),
            functools.partial(step, setting=setting),
            look,
            range(1, config.tasks // config.every + 1),
            rows,
            functools.partial(to_records, config),
        )
    ]


def to_records(config: Config, row: Row, life: Sequence[Record]) -> list[store.Record]:
    """A row for every few tasks of a network; what is counted in all hidden layers and, as a list, in each."""
    key = float(row.negative_slope), bool(row.gain_slope), bool(row.tau >= 0)
    arm = next(name for name, (slope, *rest) in ARMS.items() if (float(np.float32(slope)), *rest) == key)
    records: list[store.Record] = []
    for place, record in enumerate(life):
        shares = {name: store.number(value, 6) for name, value in record.shares._asdict().items()}
        counts = record.counts._asdict()
        totals = {name: _whole(counts[name].sum()) for name in ("never_active_at_start", "revived", "died")}
        records.append(
            {
                "arm": arm,
                "negative_slope": store.number(row.negative_slope),
                "seed": int(row.seed),
                "task": (place + 1) * config.every,
                **shares,
                "dead": None if row.negative_slope else shares["never_active"],
                **totals,
                "restarted": _whole(record.restarted),
                **{f"{name}_by_layer": [_whole(one) for one in layers] for name, layers in counts.items()},
                "diverged": None in shares.values() or bool(records and records[-1]["diverged"]),
            }
        )
    return records


def _whole(value: Any) -> int | None:
    """A count that came as a float32; None where it is not finite."""
    return int(value) if math.isfinite(value) else None


def check(config: Config) -> None:
    """Raises a LabError that says what is wrong with a configuration, if anything is."""
    at_least_one = (lambda value: value >= 1, "give 1 or more")
    positive = (lambda value: 0 < value < math.inf, "give a positive number")
    settings_of(
        config,
        dict.fromkeys(("seeds", "tasks", "images", "batch_size", "every"), at_least_one)
        | {
            "step_size": positive,
            "tau": (lambda value: 0 <= value < math.inf, "give 0 or more"),
            "probe": (lambda value: 0 <= value <= config.images, f"give 0 to {config.images}, the images"),
            "arms": (lambda value: value in ARMS, f"give some of {', '.join(ARMS)}"),
        },
    )
    if config.tasks % config.every:
        raise LabError(f"--tasks is {config.tasks}: give a multiple of --every, {config.every}.")
    check_hidden(config.hidden)


def run(config: Config) -> None:
    """The experiment from its settings to its report."""
    check(config)
    dataset = data.load(config.data, full=config.full)
    if not config.batch_size <= config.images <= len(dataset.train_labels):
        raise LabError(
            f"--images is {config.images}: give {config.batch_size} to {len(dataset.train_labels)}, the train images."
        )
    images = batches.images_of(dataset)
    outcome = carry_out(NAME, config, groups_of(config), images, "networks", loop, data_sha256=dataset.sha256)
    report(config, outcome, dataset.describe())


def main() -> None:
    """The command line."""
    config = cli.parse(Config, PRESETS, prog=f"python -m experiments.{NAME}", description=__doc__)
    devices.use_all_cores()
    interrupt.enter(lambda: interrupt.interruptible(lambda: run(config)))
