"""What the image classification shows: each activation against ReLU, pair by pair, in each network."""

from __future__ import annotations

from typing import Any

from experiments.image_classification.plots import against_relu, over_layers
from experiments.lab.analysis.compared import (
    ACTIVATIONS,
    NETWORKS,
    Cells,
    cells_of,
    last,
    learned_slope,
    share,
)
from experiments.lab.analysis.paired import is_shown
from experiments.lab.analysis.verdict import Finding, verdict_table
from experiments.lab.run.experiment import Outcome, write_up
from experiments.lab.show.table import Table

TITLE = "Does a slope help convolutional networks to classify images?"
FEW = "too few pairs"  # fewer than three networks of one seed that both did not diverge


def report(config: Any, outcome: Outcome, source: str) -> None:
    """Prints the tables and writes everything but the rows."""
    cells = cells_of(outcome.records)
    samples = min(min(record["samples"]) for record in outcome.records)
    lead = [
        "Networks of one seed share their first weights (He's for ReLU) and their batches, and differ in the "
        "activation alone; each is compared with ReLU pair by pair. A difference is shown where its interval leaves "
        f"out 0; the intervals are corrected (Bonferroni) for the {cells.comparisons} comparisons of each measure.",
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
        lead=lead,
        tables=[verdicts(cells), main_table(cells)],
        figures=[
            (
                "against_relu.png",
                "Difference from ReLU, mean over paired seeds, with intervals corrected for the number of comparisons.",
                lambda: against_relu(config, cells),
            ),
            (
                "over_layers.png",
                "Never-active channels of each layer after training; bars: 95 % intervals over seeds.",
                lambda: over_layers(config, cells),
            ),
        ],
    )


def verdicts(cells: Cells) -> Table:
    """What was published of the activations, beside the plain network without normalisation."""
    findings = [
        Finding(
            f"{ACTIVATIONS[activation]} - ReLU, plain CNN at {rate:g}",
            published,
            cells.against_relu(("cnn", rate, activation), last("test_accuracy")),
            low,
            high,
            1,
            100,
            whole=low == 0,
        )
        for rate in sorted({rate for _, rate, _ in cells.lives})
        for activation, published, low, high in (
            ("leaky_0.01", "-0.21; like ReLU (Xu et al.; Maas et al.)", -0.01, 0.01),
            ("leaky_0.2", "+1.25 at slope 1/5.5 (Xu et al.)", 0.0, 1.0),
            ("prelu", "+0.66 (Xu et al.)", 0.0, 1.0),
        )
        if cells.against_relu(("cnn", rate, activation), last("test_accuracy")).values >= 3
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


def main_table(cells: Cells) -> Table:
    """One line per network and activation."""
    lines = []
    most = max((len(cells.activations(*setting)) for setting in cells.settings), default=0)
    for network, rate in cells.settings:
        for activation in cells.activations(network, rate):
            cell = network, rate, activation
            life = cells.lives[cell]
            line = [NETWORKS[network], f"{rate:g}", ACTIVATIONS[activation]]
            for measure, scale, digits in (
                (last("test_accuracy"), 100, 1),
                (last("steps_to_target"), 1, 0),
            ):
                line.append(cells.mean(cell, measure).format(scale, digits))
                difference = cells.against_relu(cell, measure)
                text = difference.format(scale, digits, sign=True) if difference.values >= 3 else FEW
                line.append("" if activation == "relu" else text + ("*" if is_shown(difference) else ""))
            reached = sum(records[-1]["steps_to_target"] is not None for records in life.values())
            line.append(f"{reached}/{len(life)}")
            line.append(cells.mean(cell, share("never_active")).format(100))
            line.append("n/a" if activation != "relu" else cells.mean(cell, share("dead")).format(100))
            line.append(cells.mean(cell, share("rare")).format(100))
            line.append(cells.mean(cell, learned_slope).format(1, 2) if activation == "prelu" else "")
            line.append(f"{sum(records[-1]['diverged'] for records in life.values())}/{len(life)}")
            lines.append(line)
    header = [
        "network",
        "learning\nrate",
        "activation",
        "test\naccuracy, %",
        "- ReLU's",
        "steps to\ntarget",
        "- ReLU's",
        "reached",
        "always\nnegative, %",
        "dead, %",
        "rare, %",
        "learned\nslope",
        "diver-\nged",
    ]
    return Table(
        "Means ± 95 % intervals over seeds; differences from ReLU with corrected intervals, * where shown",
        header,
        lines,
        text_columns=3,
        sections=most,
        notes=[
            "Never active, dead and rare (fires on less than 1 % of samples) are shares of all channels at the end. "
            f"Dead is n/a by construction for a leaky unit. {FEW.capitalize()}: of fewer than three seeds both "
            "networks have the measure; a network that diverges has none."
        ],
    )
