"""What the image classification shows: each activation against ReLU, pair by pair, in each network."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from experiments.image_classification.plots import ACTIVATIONS, NETWORKS, against_relu, over_layers
from experiments.lab.analysis import Cell, Finding, Measure, Runs, last, share
from experiments.lab.run.experiment import Outcome, write_up
from experiments.lab.show.table import Table, answer_of, verdict_table

TITLE = "Does a slope help convolutional networks to classify images?"
FEW = "too few pairs"  # fewer than three networks of one seed that both did not diverge
MEASURES = {
    "accuracy": Measure("test accuracy", last("test_accuracy")),
    "steps": Measure("steps to the target loss", last("steps_to_target"), 1, 0, more_is_better=False),
    "never_active": Measure("never-active channels", last(share("never_active")), more_is_better=False),
}
_DEAD, _RARE = (Measure(name, last(share(name)), more_is_better=False) for name in ("dead", "rare"))


def runs_of(records: Any) -> Runs:
    """The runs, compared by activation with ReLU in the same network at the same learning rate."""
    return Runs(records, "activation", ("network", "learning_rate"), "relu")


def _reached(records: pd.DataFrame) -> Any:
    """Whether each run reaches the target loss."""
    return last("steps_to_target")(records).notna()


def _learned(records: pd.DataFrame) -> Any:
    """The mean learned slope over the layers; none where no slope is learned."""
    slopes = records["learned_slope"].map(lambda one: one if isinstance(one, list) else [math.nan])
    return share("learned_slope")(slopes.to_frame())


_LEARNED = Measure("learned slope", last(_learned), 1, 2)


def report(config: Any, outcome: Outcome, source: str) -> None:
    """Prints the tables and writes everything but the rows."""
    runs = runs_of(outcome.records)
    samples = min(min(record["samples"]) for record in outcome.records)
    lead = [
        "Networks of one seed share their first weights (He's for ReLU) and their batches, and differ in the "
        "activation alone; each is compared with ReLU pair by pair. A difference is shown where its interval leaves "
        f"out 0; the intervals are {runs.corrected}.",
        f"{config.steps:,} steps of batch {config.batch_size}, SGD with momentum 0.9 and a learning rate that falls "
        f"to 0 as a cosine, {config.seeds} seeds. Accuracy is of all test images; steps to a training loss of "
        f"{config.target_loss:g}, as the mean of about the last 50 batches, are of pairs that both reach it. A channel "
        f"is a unit and each position of its map on each test image a sample, at least n = {samples:,}: the census of "
        "the unmodified model.",
        f"Data: {source}.",
    ]
    write_up(
        "image_classification",
        config,
        outcome,
        title=TITLE,
        answer=answer_of(
            runs,
            MEASURES["accuracy"],
            lambda cell: f"{ACTIVATIONS[cell[-1]]} in a {NETWORKS[cell[0]]} at {cell[1]:g}",
        ),
        lead=lead,
        tables=[verdicts(runs), main_table(runs)],
        figures=[
            (
                "against_relu.png",
                "Difference from ReLU, mean over paired seeds, with intervals corrected for the number of comparisons.",
                lambda: against_relu(config, runs, list(MEASURES.values())),
            ),
            (
                "over_layers.png",
                "Never-active channels of each layer after training; bars: 95 % intervals over seeds.",
                lambda: over_layers(config, runs),
            ),
        ],
    )


def verdicts(runs: Runs) -> Table:
    """What was published of the activations, beside the plain network without normalisation."""
    accuracy = MEASURES["accuracy"]
    findings = [
        Finding(
            f"{ACTIVATIONS[activation]} - ReLU, plain CNN at {rate:g}",
            published,
            runs.difference(("cnn", rate, activation), accuracy),
            low,
            high,
            1,
            100,
            whole=low == 0,
        )
        for rate in sorted({rate for _, rate, _ in runs.cells})
        for activation, published, low, high in (
            ("leaky_0.01", "-0.21; like ReLU (Xu et al.; Maas et al.)", -0.01, 0.01),
            ("leaky_0.2", "+1.25 at slope 1/5.5 (Xu et al.)", 0.0, 1.0),
            ("prelu", "+0.66 (Xu et al.)", 0.0, 1.0),
        )
        if runs.difference(("cnn", rate, activation), accuracy).values >= 3
    ]
    return verdict_table(
        "Published and ours, in percentage points of test accuracy",
        findings,
        [
            "Like ReLU: our mean is within 1 point. Better: the whole interval above 0; where it holds 0, no "
            "difference is shown. Xu et al. report single test errors on CIFAR-10, of networks in network trained to "
            "the end (ReLU 12.45, slope 0.01 12.66, slope 1/5.5 11.20, PReLU 11.79 %): the direction is compared. "
            "Learning rates at which fewer than three pairs of networks survive are left out."
        ],
    )


def main_table(runs: Runs) -> Table:
    """One line per network and activation."""
    lines = [
        [
            NETWORKS[network],
            f"{rate:g}",
            ACTIVATIONS[activation],
            *_both(runs, (network, rate, activation), MEASURES["accuracy"]),
            *_both(runs, (network, rate, activation), MEASURES["steps"]),
            "{}/{}".format(*runs.count(_reached, (network, rate, activation))),
            *_units(runs, (network, rate, activation)),
            "{}/{}".format(*runs.diverged((network, rate, activation))),
        ]
        for network, rate, activation in runs.cells
    ]
    header = [
        "network",
        "learning\nrate",
        "activation",
        "test\naccuracy, %",
        "- ReLU's",
        "steps to\ntarget",
        "- ReLU's",
        "reached",
        "never\nactive, %",
        "dead, %",
        "rare, %",
        "learned\nslope",
        "diverged",
    ]
    return Table(
        "Means ± 95 % intervals over seeds; differences from ReLU with corrected intervals, * where shown",
        header,
        lines,
        text_columns=3,
        sections=len(runs.arms),
        notes=[
            "Never active, dead and rare (active on less than 1 % of samples) are shares of all channels at the end. "
            f"Dead is n/a by construction for a leaky unit. {FEW.capitalize()}: of fewer than three seeds both "
            "networks have the measure; a network that diverges has none."
        ],
    )


def _both(runs: Runs, cell: Cell, one: Measure) -> tuple[str, str]:
    """The mean, and the difference from ReLU."""
    found = runs.difference(cell, one)
    difference = one.text(found, sign=True) if found.values >= 3 else FEW
    return one.text(runs.mean(cell, one)), "" if cell[-1] == runs.baseline else difference


def _units(runs: Runs, cell: Cell) -> list[str]:
    """Shares of never active, dead and rare channels, and the learned slope."""
    never_active, dead, rare, learned = (
        one.text(runs.mean(cell, one)) for one in (MEASURES["never_active"], _DEAD, _RARE, _LEARNED)
    )
    activation = cell[-1]
    return [
        never_active,
        dead if activation == "relu" else "n/a",
        rare,
        learned if activation == "prelu" else "",
    ]
