"""What the object detection shows: each slope against ReLU, pair by pair, and boxes drawn on canvases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from experiments.lab.analysis.paired import differences, is_shown, simultaneous
from experiments.lab.analysis.statistics import Estimate, estimate
from experiments.lab.run.experiment import Outcome, write_up
from experiments.lab.run.store import Record
from experiments.lab.show import plots
from experiments.lab.show.table import Table
from experiments.object_detection.canvases import Canvases

TITLE = "Does a slope help a single-stage detector?"
_NAMES = ("top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
Measure = Callable[[list[Record]], float | None]  # of one network's records, in the order of the steps
Lives = dict[float, dict[int, list[Record]]]  # slope -> the records by seed


def lives_of(records: Sequence[Record]) -> Lives:
    """The records, by what was varied."""
    lives: Lives = {}
    for record in records:
        lives.setdefault(record["negative_slope"], {}).setdefault(record["seed"], []).append(record)
    return lives


def by_seed(lives: Lives, slope: float, measure: Measure) -> dict[int, float | None]:
    """A measure of each seed; None of a diverged network."""
    return {
        seed: None if life[-1]["diverged"] else measure(life) for seed, life in lives.get(slope, {}).items()
    }


def mean(lives: Lives, slope: float, measure: Measure) -> Estimate:
    """Over the seeds that have it."""
    return estimate(list(by_seed(lives, slope, measure).values()))


def against_relu(lives: Lives, slope: float, measure: Measure) -> Estimate:
    """The mean difference from ReLU of the same seed; the interval is corrected for all slopes."""
    pairs = differences(by_seed(lives, slope, measure), by_seed(lives, 0.0, measure))
    return simultaneous(pairs, max(1, len(lives) - 1))


def last(name: str) -> Measure:
    """A measure at the end."""
    return lambda life: life[-1][name]


def share(name: str) -> Measure:
    """Of all channels, at the end."""

    def measure(life: list[Record]) -> float | None:
        values, widths = life[-1][name], np.array(life[-1]["channels"])
        return None if None in values else float(widths @ np.array(values) / widths.sum())

    return measure


def report(config: Any, outcome: Outcome, source: str, test: Canvases) -> None:
    """Prints the tables and writes everything but the rows."""
    lives = lives_of(outcome.records)
    comparisons = max(1, len(lives) - 1)
    samples = min(min(record["samples"]) for record in outcome.records)
    lead = [
        "Networks of one seed share their first weights (He's for ReLU) and their batches, and differ in the slope "
        "alone; each slope is compared with ReLU pair by pair. A difference is shown where its interval leaves out 0; "
        f"the intervals are corrected (Bonferroni) for the {comparisons} comparisons of each measure. YOLO's authors "
        "chose the slope 0.1 and published no comparison with ReLU.",
        f"{config.steps:,} steps of batch {config.batch_size}, Adam from {config.learning_rate:g} on a cosine, "
        f"{config.seeds} seeds, on {config.train_canvases:,} canvases of 64x64 with one to four items each. Scored on "
        f"{config.test_canvases:,} canvases of items that are in no train canvas; mAP is COCO's mean over IoU 0.5 to "
        "0.95, by pycocotools. A channel is a unit and each position of its map on each test canvas a sample, at least "
        f"n = {samples:,}: the census of the unmodified model.",
        f"Data: {source}.",
    ]
    write_up(
        "object_detection",
        config,
        outcome,
        title=TITLE,
        lead=lead,
        tables=[main_table(lives)],
        figures=[
            (
                "over_steps.png",
                "mAP over the training, and the difference from ReLU at the end with corrected intervals.",
                lambda: over_steps(config, lives),
            ),
            (
                "boxes.png",
                "The first test canvases with the boxes that the networks of seed 0 find (score 0.3 or more), and "
                "what stands there (dashed).",
                lambda: boxes(lives, test),
            ),
        ],
    )


def main_table(lives: Lives) -> Table:
    """One line per slope."""
    lines = []
    for slope, life in lives.items():
        line = [plots.activation_name(slope)]
        for name in ("map50", "map"):
            line.append(mean(lives, slope, last(name)).format(100))
            difference = against_relu(lives, slope, last(name))
            text = difference.format(100, sign=True) + ("*" if is_shown(difference) else "")
            line.append(text if slope else "")
        line.append(mean(lives, slope, share("never_active")).format(100))
        line.append("n/a" if slope else mean(lives, slope, share("dead")).format(100))
        line.append(mean(lives, slope, share("rare")).format(100))
        line.append(f"{sum(records[-1]['diverged'] for records in life.values())}/{len(life)}")
        lines.append(line)
    header = [
        "activation",
        "mAP at\n0.5, %",
        "- ReLU's",
        "mAP 0.5 to\n0.95, %",
        "- ReLU's",
        "always\nnegative, %",
        "dead, %",
        "rare, %",
        "diver-\nged",
    ]
    return Table(
        "Means ± 95 % intervals over seeds; differences from ReLU with corrected intervals, * where shown",
        header,
        lines,
        notes=[
            "Never active, dead and rare (fires on less than 1 % of samples) are shares of all channels at the end. "
            "Dead is n/a by construction for a leaky unit."
        ],
    )


def over_steps(config: Any, lives: Lives) -> Any:
    """MAP over the steps, and the differences at the end."""
    figure, axes = plots.panels(
        1,
        2,
        "A detector with ReLU and with slopes",
        f"{config.test_canvases:,} test canvases, {config.seeds} paired seeds; bands: 95 % intervals",
        width=10.5,
        height=4.4,
    )
    styles = plots.activation_styles(list(lives))
    for slope, life in lives.items():
        steps = [record["step"] for record in next(iter(life.values()))]
        values = [mean(lives, slope, at("map", place)).scaled(100) for place in range(len(steps))]
        plots.line_with_band(axes[0, 0], steps, values, styles[slope])
    axes[0, 0].set_title("mAP 0.5 to 0.95, %", loc="left", fontweight="bold")
    axes[0, 0].set_xlabel("step")
    slopes = [slope for slope in lives if slope]
    panel = axes[0, 1]
    panel.axhline(0, color=plots.SOFT, linewidth=1)
    for name, shift, hollow in (("map50", -0.1, True), ("map", 0.1, False)):
        for place, slope in enumerate(slopes):
            one = against_relu(lives, slope, last(name)).scaled(100)
            panel.errorbar(
                place + shift,
                one.mean,
                np.nan_to_num(one.half_width),
                fmt="o",
                color=styles[slope]["color"],
                markerfacecolor="white" if hollow else styles[slope]["color"],
                capsize=3,
            )
    panel.set_xticks(range(len(slopes)), [plots.activation_name(slope) for slope in slopes])
    panel.set_title("- ReLU, points; open: at 0.5", loc="left", fontweight="bold")
    plots.legend(figure, axes[0, 0])
    return figure


def at(name: str, place: int) -> Measure:
    """A measure at a look."""
    return lambda life: life[place][name]


def boxes(lives: Lives, test: Canvases) -> Any:
    """A row per slope, a column per canvas."""
    from matplotlib.patches import Rectangle

    drawn = {
        slope: life[0][-1]["boxes"]
        for slope, life in lives.items()
        if 0 in life and life[0][-1]["boxes"] is not None
    }
    columns = max((len(found) for found in drawn.values()), default=1)
    figure, axes = plots.panels(
        max(1, len(drawn)),
        columns,
        "What the detectors find",
        "seed 0; dashed: what stands there",
        width=1.95 * columns,
        height=0.9 + 2.05 * max(1, len(drawn)),
    )
    for panel in axes.flat:
        panel.set_xticks([])
        panel.set_yticks([])
        panel.grid(visible=False)
        panel.spines[:].set_visible(False)

    def frame(panel: Any, box: Sequence[float], **style: Any) -> None:
        left, top, right, bottom = box
        panel.add_patch(Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, **style))

    styles = plots.activation_styles(list(lives))
    for row, (slope, found) in enumerate(drawn.items()):
        for column, detections in enumerate(found):
            panel = axes[row, column]
            panel.imshow(test.pixels[column], cmap="gray")
            for box, kind in zip(test.boxes[column], test.classes[column], strict=True):
                if kind >= 0:
                    frame(panel, box, edgecolor="white", linestyle=":", linewidth=1)
            for *box, score, kind in detections:
                frame(panel, box, edgecolor=styles[slope]["color"], linewidth=1.6)
                panel.text(
                    box[0],
                    box[1],
                    f"{_NAMES[kind]} {score:.2f}",
                    color="white",
                    fontsize=6,
                    va="top",
                    ha="left",
                    bbox={"facecolor": styles[slope]["color"], "edgecolor": "none", "pad": 0.6},
                )
        axes[row, 0].set_ylabel(plots.activation_name(slope))
    return figure
