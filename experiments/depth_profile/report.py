"""What the depth-profile experiment shows: shares per layer, before training and after."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.lab.analysis import Estimate, Finding, Measure, Runs, first, last, share
from experiments.lab.nets.initialisations import NAMES
from experiments.lab.run.experiment import Outcome, write_up
from experiments.lab.show import plots
from experiments.lab.show.table import Table, listed, verdict_table

TITLE = "In which layers are units dead, before training and after?"
CHANCE = math.log(10)  # the loss of ten equal probabilities
ABOUT_TEN = 0.05, 0.15
FROM_LAYER = 5  # the published mean is over hidden layers 5 to 10


def report(config: Any, outcome: Outcome, source: str, samples: int) -> None:
    """Prints the tables and writes everything but the rows."""
    runs = runs_of(outcome.records)
    trained = int(runs.records["step"].max())
    lead = [
        "The deeper a layer, the more of its units are negative for every input before training: the images' variety "
        "shrinks from layer to layer relative to their mean, so that a unit's sign comes to be the same for all. "
        "It depends on the initialisation far more than on the slope. Under ReLU such a unit is dead, with a slope it "
        "is linear and learns.",
        f"Hidden layers {'-'.join(map(str, config.hidden))}, inputs in [-1, 1], counted on n = {samples:,} train "
        f"images: never active there shows a frequency below {300 / samples:.2g} % (rule of three, 95 %).",
        f"Data: {source}.",
    ]
    write_up(
        "depth_profile",
        config,
        outcome,
        title=TITLE,
        answer=answer(runs),
        lead=lead,
        tables=[verdicts(runs), main_table(runs)],
        figures=[
            (
                "over_layers.png",
                "Never-active units per hidden layer, by initialisation, before training"
                f"{f' and after {trained} steps' if trained else ''}; bars are 95 % intervals over seeds.",
                lambda: over_layers(runs, config.hidden),
            )
        ],
    )


def _deep(name: str) -> Any:
    """The mean share over hidden layers 5 and deeper; over the deeper half of a network that has fewer than 6."""

    def cut(values: Sequence[float]) -> Sequence[float]:
        return values[FROM_LAYER - 1 :] if len(values) > FROM_LAYER else values[len(values) // 2 :]

    return lambda records: share(name)(records[[name]].map(cut))


BEFORE = Measure("never active before", first(_deep("never_active")), more_is_better=False)
_COLUMNS = {
    "never active\nbefore": BEFORE,
    "dead\nbefore": Measure("dead before", first(_deep("dead"))),
    "never active\nafter": Measure("never active after", last(_deep("never_active"))),
    "dead\nafter": Measure("dead after", last(_deep("dead"))),
    "gradient-dead\nafter": Measure("gradient-dead after", last(_deep("grad_dead"))),
    "train loss\nafter": Measure("train loss after", last("loss"), 1, 2),
    "test accuracy\nafter": Measure("test accuracy after", last("test_accuracy")),
}


def runs_of(records: Any) -> Runs:
    """The runs, compared by slope with ReLU under the same initialisation."""
    return Runs(records, "negative_slope", ("initialisation",))


def answer(runs: Runs) -> str:
    """The share of ReLU's units that are never active before training, by initialisation."""
    shares = [
        f"{BEFORE.text(runs.mean(cell, BEFORE))} % with {NAMES[cell[0]]} initialisation"
        for cell in runs.cells
        if cell[-1] == runs.baseline
    ]
    if not shares:
        return ""
    return f"Of ReLU's units in the deep layers, {listed(shares)} are never active before training."


def verdicts(runs: Runs) -> Table:
    """The published shares beside ours."""
    he = runs.mean(("he", 0.0), BEFORE)
    findings = [
        Finding(
            "default uniform, ReLU (tutorial, one network)",
            "45.8 %",
            runs.mean(("uniform", 0.0), BEFORE),
            0.428,
            0.488,
            scale=100,
        ),
        Finding("He, ReLU", "about 10 %", he, *ABOUT_TEN, scale=100),
    ]
    notes = [
        "Reproduced: within 3 points of 45.8 %. The interval is over seeds.",
        "For 'about 10 %' we chose 5 to 15 % to count as reproduced: the tutorial gives no more than that."
        + _beside(he),
    ]
    return verdict_table("Dead units before training: mean share over hidden layers 5 to 10", findings, notes)


def _beside(ours: Estimate) -> str:
    """What is to be said where 10 % itself is outside our interval."""
    if not abs(ours.mean - 0.1) > ours.half_width:
        return ""
    if ours.mean > 0.1:
        return " 10 % itself is below our interval: ours is high."
    return (
        " 10 % itself is above our interval: ours is low. The number of images does not explain it: more images "
        "can only leave fewer units never active."
    )


def main_table(runs: Runs) -> Table:
    """One line per initialisation and activation."""
    lines = []
    steps = int(runs.records["step"].max())
    for cell in runs.cells:
        initialisation, slope = cell
        texts = {
            name: "n/a" if slope and name.startswith("dead") else one.text(runs.mean(cell, one))
            for name, one in _COLUMNS.items()
        }
        lines.append([NAMES[initialisation], plots.activation_name(slope), *texts.values()])
    header = ["initialisation", "activation", *_COLUMNS]
    return Table(
        f"Deeper layers before training and after {steps} steps: % of units, mean ± 95 % interval over seeds",
        header,
        lines,
        text_columns=2,
        notes=[
            "Dead is n/a by construction for a leaky unit. He and leaky He are one for ReLU.",
            *_untrained(runs),
        ],
    )


def _untrained(runs: Runs) -> list[str]:
    """Names the initialisations under which no network has learned anything."""
    names = []
    losses = runs.records["loss"][runs.records["step"] > 0].astype(float)
    for initialisation, found in losses.groupby(level="initialisation", sort=False):
        if (abs(found - CHANCE) < 0.01).all():
            names.append(NAMES[initialisation])
    return [
        f"The networks of {name} initialisation did not train in these steps: the loss is that of a guess, ln 10 = "
        f"{CHANCE:.2f}, and the accuracy 10 %. Their figures 'after' show nothing of training."
        for name in names
    ]


def over_layers(runs: Runs, hidden: Sequence[int]) -> Any:
    """A column per initialisation; before training above, after it below."""
    initialisations = [initialisation for (initialisation,) in runs.settings]
    styles, layers = plots.activation_styles(runs.arms), list(range(1, len(hidden) + 1))
    steps = int(runs.records["step"].max())
    times = (False, True) if steps else (False,)
    figure, axes = plots.panels(
        len(times),
        len(initialisations),
        "Never-active units by depth and initialisation",
        f"MLP, hidden layers {'-'.join(map(str, hidden))}; {runs.seeds}, bars: 95 % intervals",
        width=max(7.5, 0.8 + 3.6 * len(initialisations)),
        height=1.2 + 2.9 * len(times),
        sharex=True,
        sharey="row",
    )
    for (row, column), panel in np.ndenumerate(axes):
        for place, (slope, style) in enumerate(styles.items()):
            found = runs.layers((initialisations[column], slope), "never_active", first=not times[row])
            if not found:
                continue
            shares = [one.scaled(100) for one in found]
            beside = [layer + 0.12 * (place - (len(styles) - 1) / 2) for layer in layers]
            plots.points_with_bars(panel, beside, shares, style, [False] * len(layers))
        panel.set_xticks(layers)
    for column, initialisation in enumerate(initialisations):
        axes[0, column].set_title(NAMES[initialisation], loc="left", fontweight="bold")
        axes[-1, column].set_xlabel("hidden layer")
    for row, late in enumerate(times):
        axes[row, 0].set_ylim(bottom=0)
        axes[row, 0].set_ylabel(f"units after {steps:,} steps, %" if late else "units before training, %")
    plots.legend(figure)
    return figure
