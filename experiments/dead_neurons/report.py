"""What the dead-neuron experiment shows: the table, the paired differences, three plots and a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from experiments.dead_neurons import plots as dead_neurons_plots
from experiments.lab.analysis.cells import Cell, Measure, Units, accuracy, cells_of
from experiments.lab.analysis.statistics import Estimate, estimate
from experiments.lab.run.experiment import Outcome, write_up
from experiments.lab.show import plots
from experiments.lab.show.table import Table

_COLUMNS = (
    "learning\nrate",
    "activation",
    "always\nnegative",
    "change\nfrom start",
    "mean\nslope",
    "dead",
    "gradient-\ndead",
    "test\naccuracy",
    "diver-\nged",
)
TITLE = "How many neurons die under ReLU and LeakyReLU?"


def main_table(cells: Sequence[Cell], hidden: Sequence[int], samples: int) -> Table:
    """One line per combination: mean and 95 % interval over the seeds that did not diverge."""
    of = Units(hidden)
    lines = [
        [
            f"{cell.optimizer} {cell.learning_rate:g}",
            plots.activation_name(cell.slope),
            cell.estimate(of.share("never_active")).format(100),
            cell.estimate(of.change("never_active")).format(100, sign=True),
            cell.estimate(of.share("mean_slope")).format(1, 2),
            "n/a" if cell.slope else cell.estimate(of.share("dead")).format(100),
            cell.estimate(of.share("grad_dead")).format(100),
            cell.estimate(accuracy).format(100),
            f"{cell.diverged}/{len(cell.lives)}",
        ]
        for cell in cells
    ]
    seeds, step = max(len(cell.lives) for cell in cells), next(iter(cells[0].lives.values()))[-1]["step"]
    return Table(
        f"After {step:,} steps: % of the {sum(hidden)} hidden units, mean ± 95 % interval over {seeds} seeds",
        _COLUMNS,
        lines,
        text_columns=2,
        sections=len({cell.slope for cell in cells}),
        notes=[
            f"Counted on n = {samples:,} test images: a unit that is negative on all of them fires on fewer than "
            f"{300 / samples:.2g} % of such images (rule of three, 95 %).",
            "dead is n/a by construction for a leaky unit: its output is 0 only where its input is; compare always "
            "negative.",
            "Means are over the networks that did not diverge.",
        ],
    )


def paired_table(cells: Sequence[Cell], hidden: Sequence[int]) -> Table | None:
    """Each slope's difference from ReLU, seed by seed; None where ReLU is not in the grid or is alone."""
    of = Units(hidden)
    relu = {(cell.optimizer, cell.learning_rate): cell for cell in cells if cell.slope == 0}
    leaky = [cell for cell in cells if cell.slope != 0]
    if not relu or not leaky:
        return None

    def difference(cell: Cell, measure: Measure) -> Estimate:
        ours, theirs = cell.by_seed(measure), relu[cell.optimizer, cell.learning_rate].by_seed(measure)
        pairs = [(ours[seed], theirs[seed]) for seed in ours]
        return estimate([None if one is None or other is None else one - other for one, other in pairs])

    lines = [
        [
            f"{cell.optimizer} {cell.learning_rate:g}",
            plots.activation_name(cell.slope),
            difference(cell, of.share("never_active")).format(100, sign=True),
            difference(cell, of.share("grad_dead")).format(100, sign=True),
            difference(cell, accuracy).format(100, sign=True),
            str(difference(cell, accuracy).values),
        ]
        for cell in leaky
    ]
    return Table(
        "Difference from ReLU in percentage points, paired by seed: same start, same batches",
        ["optimizer, rate", "activation", "never active", "gradient-dead", "test accuracy", "pairs"],
        lines,
        text_columns=2,
        sections=len({cell.slope for cell in leaky}),
        notes=["Intervals are of single comparisons, not corrected for their number."],
    )


def report(config: Any, outcome: Outcome, source: str, samples: int) -> None:
    """Prints the tables and writes everything but the rows."""
    cells = cells_of(outcome.records)
    table, paired = main_table(cells, config.hidden, samples), paired_table(cells, config.hidden)
    lead = [
        f"A hidden unit is called never active when its input is not above zero for any of {samples:,} test images: "
        "under ReLU such a unit is dead, under LeakyReLU it has become linear and still learns. "
        f"{len(config.hidden)} hidden layers; networks of one seed share their first weights and their batches, and "
        "differ in the activation alone.",
        f"Data: {source}.",
    ]
    write_up(
        "dead_neurons",
        config,
        outcome,
        title=TITLE,
        lead=lead,
        tables=[table, *([paired] if paired else [])],
        figures=dead_neurons_plots.figures(cells, config.hidden, samples),
    )
