"""Does a network lose its ability to learn over hundreds of tasks, and do its never-active units come back?

Trains one network on one task after another: each is the same images with their pixels in a
new random order, seen once. Counts never-active units at the start of every task and at its end, layer by layer, so
that a unit that comes back by learning is told from one that a new task's inputs have woken, and one that moves itself
from one whose inputs the layers below have moved.

    python -m experiments.plasticity --smoke                          a few seconds, on scikit-learn's digits
    python -m experiments.plasticity                                  the default: minutes
    python -m experiments.plasticity --tasks 800 --step-size 0.1      longer and harder
    python -m experiments.plasticity --full                           all images, width 2000, 800 tasks; for a GPU

A finished network is kept, and so is the state of an unfinished one every minute: a kill costs no more than that, or
one step of the loop, which is --every tasks.

References:
    Dohare et al.: Loss of plasticity in deep continual learning, Nature 632, 2024.
    Sokar, Agarwal, Castro and Evci: The dormant neuron phenomenon in deep reinforcement learning, ICML 2023.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from experiments.lab.data import batches
from experiments.lab.data import datasets as data
from experiments.lab.run import cli, store
from experiments.lab.run.errors import LabError
from experiments.lab.run.experiment import carry_out
from experiments.lab.run.loop import Loop, loop
from experiments.lab.run.settings import Count, Flags, Positive, Several, Widths
from experiments.plasticity.permuted_tasks import Record, Run, Setting, evaluate, initialise, step
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


@dataclass(frozen=True)
class Config(Flags):
    """Which networks are trained, on what, and where it is written."""

    out: Path = Path("runs/plasticity")
    """The folder of the run: rows, plots and page.
    A folder that holds a run of other settings is refused, not overwritten."""

    seeds: Count = 10
    """Number of networks, with the seeds 0, 1, 2, ..., per arm."""

    tasks: Count = 400
    """Random orders of the pixels, one after the other."""

    data: str = "auto"
    """Where the images come from: auto, embedded, system, digits, or a folder of IDX files with MNIST's names."""

    arms: Several[Arm] = ("relu", "leaky_0.01", "leaky_0.2", "relu_redo", "leaky_0.2_leaky_he")
    """relu_redo: after each task, ReLU units whose dormant score is at most --tau are reset.
    leaky_0.2_leaky_he: slope 0.2 with He's variance for that slope; the others have ReLU's."""

    images: Count = 1000
    """Number of images of each task; with --full all of them."""

    hidden: Widths = (100, 100, 100)
    """The widths of the hidden layers."""

    batch_size: Count = 10
    """Images per training step."""

    step_size: Positive = 0.03
    """Learning rate of stochastic gradient descent without momentum; with --full 0.01."""

    tau: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.025
    """Highest dormant score of a unit that ReDo resets."""

    probe: Annotated[int, Field(ge=0)] = 0
    """Units are counted on the first so many images of the task; 0 for all of them.
    On all, a never-active ReLU unit is one that receives no gradient from any image of the task."""

    every: Count = 10
    """Tasks that are taken together in one record."""

    def __post_init__(self) -> None:
        if self.probe > self.images:
            raise LabError(f"--probe is {self.probe}: give 0 to {self.images}, the images.")
        if self.tasks % self.every:
            raise LabError(f"--tasks is {self.tasks}: give a multiple of --every, {self.every}.")


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
    runs = []
    for seed, arm in itertools.product(range(config.seeds), config.arms):
        slope, own_gain, redo = ARMS[arm]
        gain, tau = slope if own_gain else 0.0, config.tau if redo else _NEVER
        runs.append(Run(np.float32(slope), np.float32(gain), np.float32(tau), np.uint32(seed)))
    setting = Setting(**{name: getattr(config, name) for name in Setting._fields})
    setting = setting._replace(probe=config.probe or config.images)
    return [
        Loop(
            "networks",
            functools.partial(initialise, setting=setting),
            functools.partial(step, setting=setting),
            evaluate,
            range(1, config.tasks // config.every + 1),
            runs,
            functools.partial(to_records, config),
        )
    ]


def to_records(config: Config, run: Run, life: Sequence[Record]) -> list[store.Record]:
    """A record for every few tasks of a network; what is counted in all hidden layers and, as a list, in each."""
    key = float(run.negative_slope), bool(run.gain_slope), bool(run.tau >= 0)
    arm = next(name for name, (slope, *rest) in ARMS.items() if (float(np.float32(slope)), *rest) == key)
    records: list[store.Record] = []
    for place, record in enumerate(life):
        shares = {name: store.number(value, 6) for name, value in record.shares._asdict().items()}
        counts = record.counts._asdict()
        totals = {name: _whole(counts[name].sum()) for name in ("never_active_at_start", "revived", "died")}
        records.append(
            {
                "arm": arm,
                "negative_slope": store.number(run.negative_slope),
                "seed": int(run.seed),
                "task": (place + 1) * config.every,
                **shares,
                "dead": None if run.negative_slope else shares["never_active"],
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


def run(config: Config) -> None:
    """The experiment from its settings to its report."""
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
    cli.start(NAME, run, Config, PRESETS, __doc__)
