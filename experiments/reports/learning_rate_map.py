"""What the learning-rate map shows: each slope against ReLU, pair by pair, over optimiser and learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.lab import plots
from experiments.lab.experiment import Outcome, write_up
from experiments.lab.paired import differences, is_shown, simultaneous
from experiments.lab.statistics import Estimate, estimate
from experiments.lab.store import Record
from experiments.lab.table import Table
from experiments.lab.verdict import Finding, verdict_table
from experiments.reports.learning_rate_map_plots import maps

TITLE = "Where does LeakyReLU learn faster or better than ReLU?"
# Measure: name, scale, decimals, and whether more is better.
MEASURES = {
    "always_negative": ("always-negative units, points", 100, 1, False),
    "accuracy": ("test accuracy, points", 100, 1, True),
    "steps_to_target": ("steps to the target loss", 1, 0, False),
}


class Cells(NamedTuple):
    """The networks, by what was varied.

    Attributes:
        lives: (optimizer, learning rate, slope) -> the records by seed.
    """

    lives: dict[tuple[str, float, float], dict[int, Record]]

    def by_seed(self, cell: tuple[str, float, float], name: str) -> dict[int, float | None]:
        """A measure of each seed."""
        return {seed: record[name] for seed, record in self.lives[cell].items()}

    def mean(self, cell: tuple[str, float, float], name: str) -> Estimate:
        """Over the seeds that have it."""
        return estimate(list(self.by_seed(cell, name).values()))

    def against_relu(self, cell: tuple[str, float, float], name: str) -> Estimate:
        """The mean difference from ReLU, with an interval corrected for all differences of that measure."""
        relu = self.by_seed((cell[0], cell[1], 0.0), name)
        comparisons = sum(slope != 0 for _, _, slope in self.lives)
        return simultaneous(differences(self.by_seed(cell, name), relu), comparisons)

    @property
    def slopes(self) -> list[float]:
        """Those that are compared with ReLU."""
        return sorted({slope for _, _, slope in self.lives if slope != 0})

    def rates(self, optimizer: str) -> list[float]:
        """In ascending order."""
        return sorted({rate for name, rate, _ in self.lives if name == optimizer})

    @property
    def optimizers(self) -> list[str]:
        """In the order of the records."""
        return list(dict.fromkeys(name for name, _, _ in self.lives))


def cells_of(records: Sequence[Record]) -> Cells:
    """The records, by what was varied."""
    lives: dict[tuple[str, float, float], dict[int, Record]] = {}
    for record in records:
        key = record["optimizer"], record["learning_rate"], record["negative_slope"]
        lives.setdefault(key, {})[record["seed"]] = record
    return Cells(lives)


def report(config: Any, outcome: Outcome, source: str, samples: int) -> None:
    """Prints the tables and writes everything but the rows."""
    cells = cells_of(outcome.records)
    comparisons = sum(slope != 0 for _, _, slope in cells.lives)
    lead = [
        "Each slope is compared with ReLU at the same optimiser and learning rate, pair by pair: networks of one seed "
        "share their first weights and their batches. A difference is shown where its interval leaves out 0; the "
        f"intervals are corrected (Bonferroni) for the {comparisons} comparisons of each measure.",
        f"Hidden layers {'-'.join(map(str, config.hidden))}, {config.steps:,} steps of batch {config.batch_size}, "
        f"{config.seeds} seeds; always negative and accuracy on n = {samples:,} test images at the end; steps to a "
        f"test loss of {config.target_loss:g}, looked at every {config.every} steps, of pairs that both reach it.",
        f"Data: {source}.",
    ]
    write_up(
        "learning_rate_map",
        config,
        outcome,
        title=TITLE,
        lead=lead,
        tables=[verdicts(cells), counts_table(cells), main_table(cells)],
        figures=[
            (
                "maps.png",
                "Difference from ReLU, mean over seeds; bold with a star where the corrected interval leaves out 0. "
                "Green is better, brown worse.",
                lambda: maps(config, cells, MEASURES),
            )
        ],
    )


def verdicts(cells: Cells) -> Table:
    """What was published of the slopes, at each optimiser's best learning rate for ReLU."""
    findings = []
    for optimizer in cells.optimizers:
        best = max(
            cells.rates(optimizer), key=lambda rate: _accuracy(cells.mean((optimizer, rate, 0.0), "accuracy"))
        )
        for slope, published, low, high in (
            (0.01, "like ReLU (Maas et al.)", -0.01, 0.01),
            (0.2, "better than ReLU (Xu et al.)", 0.0, 1.0),
        ):
            if (optimizer, best, slope) in cells.lives:
                ours = cells.against_relu((optimizer, best, slope), "accuracy")
                what = f"leaky {slope:g} - ReLU, test accuracy, {optimizer} at {best:g}"
                findings.append(Finding(what, published, ours, low, high, 1, 100, whole=slope == 0.2))
    return verdict_table(
        "Published and ours, at the learning rate that is best for ReLU, in percentage points",
        findings,
        [
            "Like ReLU: within 1 point. Better: the whole interval above 0; where it holds 0, no difference is shown. "
            "Xu et al. trained convolutional networks on CIFAR to the end; this is a small MLP, trained briefly."
        ],
    )


def counts_table(cells: Cells) -> Table:
    """In how many combinations a slope is shown to be better or worse."""
    lines = []
    for slope in cells.slopes:
        line = [plots.activation_name(slope)]
        for name, (_, _, _, more_is_better) in MEASURES.items():
            shown = [
                cells.against_relu(cell, name).mean
                for cell in cells.lives
                if cell[2] == slope and is_shown(cells.against_relu(cell, name))
            ]
            better = sum((mean > 0) == more_is_better for mean in shown)
            line.append(f"{better} better, {len(shown) - better} worse")
        diverged = sum(
            record["diverged"]
            for cell, life in cells.lives.items()
            if cell[2] == slope
            for record in life.values()
        )
        lines.append([*line, str(diverged)])
    total = len(cells.lives) // (len(cells.slopes) + 1)
    return Table(
        f"Shown differences from ReLU, of {total} combinations of optimiser and learning rate",
        ["activation", "always negative", "test accuracy", "steps to target", "networks\ndiverged"],
        lines,
        notes=["Better: fewer always-negative units, a higher accuracy, fewer steps."],
    )


def main_table(cells: Cells) -> Table:
    """One line per combination: the means, and the differences from ReLU."""
    lines = []
    for optimizer in cells.optimizers:
        for rate in cells.rates(optimizer):
            for slope in (0.0, *cells.slopes):
                cell = optimizer, rate, slope
                if cell not in cells.lives:
                    continue
                life = cells.lives[cell]
                line = [f"{optimizer} {rate:g}", plots.activation_name(slope)]
                line.append(cells.mean(cell, "always_negative").format(100))
                line.append(cells.mean(cell, "change").format(100, sign=True))
                line.append(cells.mean(cell, "accuracy").format(100))
                line.append(cells.mean(cell, "steps_to_target").format(1, 0))
                reached = sum(record["steps_to_target"] is not None for record in life.values())
                line.append(f"{reached}/{len(life)}")
                for name in ("accuracy", "steps_to_target"):
                    _, scale, digits, _ = MEASURES[name]
                    line.append(
                        cells.against_relu(cell, name).format(scale, digits, sign=True) if slope else ""
                    )
                line.append(f"{sum(record['diverged'] for record in life.values())}/{len(life)}")
                lines.append(line)
    header = [
        "learning\nrate",
        "activation",
        "always\nnegative",
        "change\nfrom start",
        "test\naccuracy",
        "steps to\ntarget",
        "reached",
        "accuracy\n- ReLU's",
        "steps\n- ReLU's",
        "diver-\nged",
    ]
    return Table(
        "Means ± 95 % intervals over seeds; differences from ReLU with corrected intervals",
        header,
        lines,
        text_columns=2,
        sections=len(cells.slopes) + 1,
    )


def _accuracy(one: Estimate) -> float:
    return -1.0 if np.isnan(one.mean) else one.mean
