"""What the object detection shows: each slope against ReLU, pair by pair, and boxes drawn on canvases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from experiments.lab.analysis import Measure, Runs, last, share
from experiments.lab.run.experiment import Outcome, write_up
from experiments.lab.show import plots
from experiments.lab.show.table import Table, answer_of
from experiments.object_detection.canvases import Canvases

TITLE = "Does a slope help a single-stage detector?"
_NAMES = ("top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
MEASURES = {"map50": Measure("mAP 0.5", last("map50")), "map": Measure("mAP 0.5:0.95", last("map"))}
_NEVER_ACTIVE, _DEAD, _RARE = (
    Measure(name, last(share(name)), more_is_better=False) for name in ("never_active", "dead", "rare")
)


def runs_of(records: Any) -> Runs:
    """The runs, compared by slope with ReLU."""
    return Runs(records, "negative_slope")


def report(config: Any, outcome: Outcome, source: str, test: Canvases) -> None:
    """Prints the tables and writes everything but the rows."""
    runs = runs_of(outcome.records)
    samples = min(min(record["samples"]) for record in outcome.records)
    lead = [
        "Networks of one seed share their first weights (He's for ReLU) and their batches, and differ in the slope "
        "alone; each slope is compared with ReLU pair by pair. A difference is shown where its interval leaves out 0; "
        f"the intervals are {runs.corrected}. YOLO's authors "
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
        answer=answer_of(runs, MEASURES["map"], lambda cell: plots.activation_name(cell[-1])),
        lead=lead,
        tables=[main_table(runs)],
        figures=[
            (
                "over_steps.png",
                "mAP over the training, and the difference from ReLU at the end with corrected intervals.",
                lambda: over_steps(config, runs),
            ),
            (
                "boxes.png",
                "The first test canvases with the boxes that the networks of seed 0 find (score 0.3 or more), and "
                "what stands there (dashed).",
                lambda: boxes(runs, test),
            ),
        ],
    )


def main_table(runs: Runs) -> Table:
    """One line per slope."""
    lines = []
    for slope in runs.arms:
        cell, line = (slope,), [plots.activation_name(slope)]
        for one in MEASURES.values():
            difference = one.text(runs.difference(cell, one), sign=True)
            line += [one.text(runs.mean(cell, one)), difference if slope else ""]
        line.append(_NEVER_ACTIVE.text(runs.mean(cell, _NEVER_ACTIVE)))
        line.append("n/a" if slope else _DEAD.text(runs.mean(cell, _DEAD)))
        line.append(_RARE.text(runs.mean(cell, _RARE)))
        lines.append([*line, "{}/{}".format(*runs.diverged(cell))])
    header = [
        "activation",
        "mAP at\n0.5, %",
        "- ReLU's",
        "mAP 0.5 to\n0.95, %",
        "- ReLU's",
        "never\nactive, %",
        "dead, %",
        "rare, %",
        "diverged",
    ]
    return Table(
        "Means ± 95 % intervals over seeds; differences from ReLU with corrected intervals, * where shown",
        header,
        lines,
        notes=[
            "Never active, dead and rare (active on less than 1 % of samples) are shares of all channels at the end. "
            "Dead is n/a by construction for a leaky unit."
        ],
    )


def over_steps(config: Any, runs: Runs) -> Any:
    """MAP over the steps, and the differences at the end."""
    figure, axes = plots.panels(
        1,
        1 + len(MEASURES),
        "A detector with ReLU and with slopes",
        f"{config.test_canvases:,} test canvases, {config.seeds} paired seeds; bands: 95 % intervals",
        width=12.5,
        height=4.4,
    )
    styles = plots.activation_styles(runs.arms)
    plots.curves(axes[0, 0], runs, (), "map", styles, 100)
    axes[0, 0].set_title("mAP 0.5:0.95, %", loc="left", fontweight="bold")
    axes[0, 0].set_xlabel("step")
    cells = {(slope,): (plots.activation_name(slope), styles[slope]["color"]) for slope in runs.arms if slope}
    plots.differences(axes[0, 1:], runs, list(MEASURES.values()), cells)
    for panel, one in zip(axes[0, 1:], MEASURES.values(), strict=True):
        panel.set_title(f"{one.name} - ReLU's, points", loc="left", fontweight="bold")
    plots.legend(figure)
    return figure


def boxes(runs: Runs, test: Canvases) -> Any:
    """A row per slope, a column per canvas."""
    from matplotlib.patches import Rectangle

    drawn = {slope: found for slope in runs.arms if (found := runs.kept((slope,), "boxes"))}
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

    styles = plots.activation_styles(runs.arms)
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
