"""What the dead-neuron experiment shows: the table, the paired differences, three plots and a page."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.lab import plots, store
from experiments.lab.cells import Cell, Measure, Units, accuracy, cells_of
from experiments.lab.devices import environment
from experiments.lab.page import Page
from experiments.lab.statistics import Estimate, estimate
from experiments.lab.store import Record
from experiments.lab.table import Table
from experiments.reports import dead_neurons_plots

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
            cell.estimate(of.share("always_negative")).format(100),
            cell.estimate(of.change("always_negative")).format(100, sign=True),
            cell.estimate(of.share("slope")).format(1, 2),
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
            difference(cell, of.share("always_negative")).format(100, sign=True),
            difference(cell, of.share("grad_dead")).format(100, sign=True),
            difference(cell, accuracy).format(100, sign=True),
            str(difference(cell, accuracy).values),
        ]
        for cell in leaky
    ]
    return Table(
        "Difference from ReLU in percentage points, paired by seed: same start, same batches",
        ["optimizer, rate", "activation", "always negative", "gradient-dead", "test accuracy", "pairs"],
        lines,
        text_columns=2,
        sections=len({cell.slope for cell in leaky}),
        notes=["Intervals are of single comparisons, not corrected for their number."],
    )


def report(records: list[Record], config: Any, source: str, samples: int) -> None:
    """Prints the table and writes everything but the rows into the run folder."""
    cells, folder = cells_of(records), Path(config.out)
    table, paired = main_table(cells, config.hidden, samples), paired_table(cells, config.hidden)
    about = environment() | {
        "data": source,
        "command": " ".join(["python -m experiments.dead_neurons", *sys.argv[1:]]),
    }
    store.write(folder / "environment.json", store.dump(about, indent=2) + "\n")
    lead = (
        f"A hidden unit is called always negative when its input is not above zero for any of {samples:,} test images: "
        "under ReLU such a unit is dead, under LeakyReLU it has become linear and still learns. "
        f"{len(records[0]['always_negative'])} hidden layers; networks of one seed share their first weights and "
        "their batches, and differ in the activation alone."
    )
    pictures = dead_neurons_plots.draw(cells, config.hidden, samples, folder) if plots.available() else []

    page = Page(TITLE, lead)
    page.paragraph(f"Data: {source}.", "facts")
    for picture, caption in pictures:
        page.figure(folder / picture, caption)
    if not pictures:
        page.paragraph(plots.MISSING, "note")
    page.heading("What was measured")
    page.table(table)
    if paired is not None:
        page.table(paired)
    page.heading("How to repeat it")
    page.listing(about["command"])
    versions = ", ".join(f"{name} {version}" for name, version in about["packages"].items())
    page_footer = [
        f"{about['date']}, {about['cores']} cores of {about['processor']}, {about['platform']}; {versions}."
    ]
    store.write(folder / "report.html", page.to_html(page_footer))

    parts = [f"# {TITLE}", lead, f"Data: {source}.", table.to_markdown()]
    parts += [paired.to_markdown()] if paired else []
    parts += [f"![{caption}]({picture})" for picture, caption in pictures] or [plots.MISSING]
    store.write(folder / "summary.md", "\n\n".join(part.strip() for part in parts) + "\n")

    table.show()
    if not pictures:
        print(plots.MISSING)
    print(f"\nrows, plots and page: {folder / 'report.html'}")
