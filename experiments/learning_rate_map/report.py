"""What the learning-rate map shows: each slope against ReLU, pair by pair, over optimiser and learning rate."""

from __future__ import annotations

import math
from typing import Any

from experiments.lab.analysis.learning_rate_map_cells import MEASURES, Cells, cells_of, relu_of
from experiments.lab.analysis.paired import is_shown
from experiments.lab.analysis.verdict import Finding, verdict_table
from experiments.lab.run.experiment import Outcome, write_up
from experiments.lab.show import plots
from experiments.lab.show.table import Table
from experiments.learning_rate_map.plots import maps

TITLE = "Where does LeakyReLU learn faster or better than ReLU?"
_HEADERS = [measure.name.replace(" ", "\n", 1) for measure in MEASURES.values()]
_CAPTION = (
    "Difference from ReLU, mean over seeds. Coloured, bold and with a star: the corrected interval leaves out 0; green "
    "is better than ReLU, brown worse; the scale is logarithmic. Hatched: no difference is shown, whatever its sign."
)


def report(config: Any, outcome: Outcome, source: str, samples: int) -> None:
    """Prints the tables and writes everything but the rows."""
    cells = cells_of(outcome.records, config.steps)
    lead = [
        "Each slope is compared with ReLU at the same optimiser and learning rate, pair by pair: networks of one seed "
        "share their first weights and their batches. A difference is shown where its interval leaves out 0; the "
        f"intervals of each measure are corrected (Bonferroni) for its {cells.comparisons} comparisons, not for those "
        "of all measures together.",
        f"Hidden layers {'-'.join(map(str, config.hidden))}, {config.steps:,} steps of batch {config.batch_size}, "
        f"{cells.seeds} of each combination; never active and accuracy on n = {samples:,} test images at the end, "
        "of networks that did not diverge.",
        f"Steps to a test loss of {config.target_loss:g}: a network that does not reach it, or diverges, counts as one "
        f"that takes {config.steps:,} (the restricted mean of survival analysis), so that no failure is left out. The "
        f"loss is looked at every {config.every} steps: a smaller difference in a pair is not seen, and "
        f"+0 ± 0 means that each pair reached it between the same two looks.",
        f"Data: {source}.",
    ]
    tables = [
        verdicts(cells),
        counts_table(cells),
        differences_table(cells),
        means_table(cells),
    ]
    write_up(
        "learning_rate_map",
        config,
        outcome,
        title=TITLE,
        lead=lead,
        tables=[table for table in tables if table.rows],
        figures=[("maps.png", _CAPTION, lambda: maps(cells))] if cells.slopes else [],
    )


def verdicts(cells: Cells) -> Table:
    """What was published of the slopes, at each optimiser's best learning rate for ReLU."""
    findings = []
    for optimizer in cells.optimizers:
        best = max(cells.rates(optimizer), key=lambda rate: _accuracy(cells, optimizer, rate))
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
            "Like ReLU: our mean within 1 point. Better: the whole interval above 0; where it holds 0, no difference "
            "is shown. Xu et al. gained 1.25 points on CIFAR-10 with a slope of 1/5.5: an interval that holds both 0 "
            "and 1.25 excludes neither. They trained convolutional networks to the end; this is a small MLP, trained "
            "briefly. That the learning rate is ReLU's best favours ReLU."
        ],
    )


def counts_table(cells: Cells) -> Table:
    """In how many combinations a slope is shown to be better or worse."""
    lines = []
    for slope in cells.slopes:
        here = [cell for cell in cells.lives if cell[2] == slope]
        line = [plots.activation_name(slope)]
        line += ["{} better, {} worse".format(*cells.shown(slope, name)) for name in MEASURES]
        # Fewer or more of them than ReLU's.
        sides = [_share(cells.diverged(cell)) - _share(cells.diverged(relu_of(cell))) for cell in here]
        shown = [
            side for cell, side in zip(here, sides, strict=True) if side and cells.divergence(cell) < 0.05
        ]
        worse = sum(side > 0 for side in shown)
        counts = [cells.diverged(cell) for cell in here]
        diverged = f"{sum(count for count, _ in counts)}/{sum(total for _, total in counts)}"
        lines.append([*line, f"{len(shown) - worse} better, {worse} worse", diverged])
    widths = ", ".join(
        f"{cells.typical_half_width(name):.{measure.digits}f} {measure.unit} in {measure.name}"
        for name, measure in MEASURES.items()
        if not math.isnan(cells.typical_half_width(name))
    )
    notes = [
        "Better: fewer never-active units, a smaller rise of their share from step 0, a higher accuracy, fewer "
        "steps, fewer networks that diverge.",
        *([f"Typical (median) half-widths of the corrected intervals: {widths}."] if widths else []),
        "0 better and 0 worse is no proof of equality: a difference of that size can have been missed.",
    ]
    return Table(
        f"Shown differences from ReLU, of {len(cells.settings)} combinations of optimiser and learning rate",
        ["activation", *(measure.name for measure in MEASURES.values()), "divergence", "networks\ndiverged"],
        lines,
        notes=notes,
    )


def differences_table(cells: Cells) -> Table:
    """One line per combination: each measure's difference from ReLU."""
    lines, counts, most = [], (cells.reached, cells.diverged), max(map(len, cells.lives.values()))
    for optimizer, rate in cells.settings:
        for slope in cells.slopes:
            cell = optimizer, rate, slope
            if cell not in cells.lives:
                continue
            line = [f"{optimizer} {rate:g}", plots.activation_name(slope)]
            for name, measure in MEASURES.items():
                difference = cells.against_relu(cell, name)
                text = difference.format(measure.scale, measure.digits, sign=True)
                line.append(text + ("*" if is_shown(difference) else ""))
            both = cell, relu_of(cell)
            reached, diverged = (", ".join(_of(count(one)) for one in both) for count in counts)
            p_value = cells.divergence(cell)
            line += [reached, diverged, f"{p_value:.2g}{'*' if p_value < 0.05 else ''}"]
            lines.append(line)
    return Table(
        "Leaky minus ReLU, over pairs of one seed: means with corrected intervals; * where a difference is shown",
        [
            "learning\nrate",
            "activation",
            *(f"{header}\n- ReLU's" for header in _HEADERS),
            "reached,\nReLU's",
            "diverged,\nReLU's",
            "divergence,\ncorrected p",
        ],
        lines,
        text_columns=2,
        sections=len(cells.slopes),
        notes=[
            "Never active, change and accuracy: of the pairs in which neither network diverged. Where many diverge "
            "the survivors are compared, which can flatter the slope that diverges more.",
            f"Divergence: Fisher's exact test of the two counts, its p-value times the {cells.comparisons} "
            "comparisons. It takes the networks for unpaired, which errs on the side of showing nothing if those of "
            "one seed tend to diverge together. McNemar's exact test of the pairs could give no corrected p-value "
            f"below {min(1.0, cells.comparisons * 2.0 ** (1 - most)):.2g} with {most} of them.",
        ],
    )


def means_table(cells: Cells) -> Table:
    """One line per combination: the measures themselves."""
    lines = []
    for optimizer, rate in cells.settings:
        for slope in (0.0, *cells.slopes):
            cell = optimizer, rate, slope
            if cell not in cells.lives:
                continue
            line = [f"{optimizer} {rate:g}", plots.activation_name(slope)]
            line += [
                cells.mean(cell, name).format(measure.scale, measure.digits, sign=name == "change")
                for name, measure in MEASURES.items()
            ]
            lines.append([*line, _of(cells.reached(cell)), _of(cells.diverged(cell))])
    return Table(
        "Means ± 95 % intervals over seeds, not corrected",
        [
            "learning\nrate",
            "activation",
            *_HEADERS,
            "reached",
            "diverged",
        ],
        lines,
        text_columns=2,
        sections=len(cells.slopes) + 1,
    )


def _accuracy(cells: Cells, optimizer: str, rate: float) -> float:
    mean = cells.mean((optimizer, rate, 0.0), "accuracy").mean
    return -1.0 if math.isnan(mean) else mean


def _of(count: tuple[int, int]) -> str:
    return f"{count[0]}/{count[1]}" if count[1] else "\N{EN DASH}"


def _share(count: tuple[int, int]) -> float:
    return count[0] / count[1] if count[1] else 0.0
