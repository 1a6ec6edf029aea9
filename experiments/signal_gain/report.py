"""What the signal-gain experiment shows: the growth through the layers beside the expectation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from experiments.lab.analysis import Estimate, Finding, Runs, estimate
from experiments.lab.run.experiment import Outcome, write_up
from experiments.lab.show import plots
from experiments.lab.show.table import Table, listed, verdict_table

TITLE = "Does the signal keep its size through a deep network?"
TOLERANCE = 0.15  # of a factor
CLOSE = 1.2  # the factor either way from 1 that the axis of the right gain shows at least
_GAINS = {"own": "its own gain", "relu": "ReLU's gain"}


def report(config: Any, outcome: Outcome) -> None:
    """Prints the table and writes everything but the rows."""
    runs = runs_of(outcome.records)
    lead = [
        "With weights of variance 2 / ((1 + a²) fan_in) the second moment of the activations stays level from layer to "
        "layer, and so does the square of the gradient's norm on the way back. With ReLU's variance, 2 / fan_in, both "
        "grow by the factor 1 + a² a layer: nothing at slope 0.01, 7 at slope 0.2 after 50 layers.",
        f"Networks of {config.layers} layers of {config.width} units, {config.samples} normal inputs; the expectation "
        f"is exact at every width, single networks scatter around it (the intervals are over {config.seeds} draws).",
    ]
    write_up(
        "signal_gain",
        config,
        outcome,
        title=TITLE,
        answer=answer(runs),
        lead=lead,
        tables=[verdicts(runs)],
        figures=[
            (
                "over_layers.png",
                "Growth of the signal forward and of the gradient backward, each column on its own scale; points are "
                "means over the draws with 95 % intervals, lines the expectation. All slopes share the draws, so that "
                "their points move together.",
                lambda: over_layers(runs),
            )
        ],
    )


def runs_of(records: Any) -> Runs:
    """The draws, compared by slope with ReLU under the same gain; the gradient's norms are squared."""
    frame = pd.DataFrame(records)
    frame["gradient"] = [
        [None if one is None else one**2 for one in norms] for norms in frame["gradient_norm"]
    ]
    return Runs(frame, "negative_slope", ("gain",))


def answer(runs: Runs) -> str:
    """The factors of slope 0.2, or of the greatest slope."""
    slope = 0.2 if 0.2 in runs.arms else max(runs.arms)
    factors = [
        f"{growth_of(runs, slope, gain, 'second_moment')[-1].mean:.2f} with {_GAINS[gain]}"
        for gain in _GAINS
        if (gain, slope) in runs.cells
    ]
    layers = runs.records["layers"].iloc[0][-1]
    return f"Through {layers} layers of slope {slope:g} the signal grew by a factor of {listed(factors)}."


def growth_of(runs: Runs, slope: float, gain: str, name: str) -> list[Estimate]:
    """The mean over the draws at each recorded layer, (layers,); NaN without a draw."""
    return runs.layers((gain, slope), name) or [estimate([])] * len(runs.records["layers"].iloc[0])


def expected(slope: float, gain: str, layers: int) -> float:
    """The factor by which a second moment grows through so many layers."""
    return 1.0 if gain == "own" else (1 + slope**2) ** layers


def verdicts(runs: Runs) -> Table:
    """The factors through all layers beside the expected ones."""
    layers = runs.records["layers"].iloc[0]
    findings = []
    for gain, slope in runs.cells:
        for name, place, what in (
            ("second_moment", -1, "signal"),
            ("gradient", 0, "gradient"),
        ):
            factor = expected(slope, gain, layers[-1])
            ours = growth_of(runs, slope, gain, name)[place]
            findings.append(
                Finding(
                    f"{plots.activation_name(slope)}, {_GAINS[gain]}, {what}",
                    f"{factor:.4g}",
                    ours,
                    factor * (1 - TOLERANCE),
                    factor * (1 + TOLERANCE),
                    2 if factor < 1000 else 0,
                )
            )
    return verdict_table(
        f"Factor through {layers[-1]} layers: second moment of the signal, squared norm of the gradient",
        findings,
        [f"Reproduced: within {100 * TOLERANCE:.0f} % of the expected factor."],
    )


def over_layers(runs: Runs) -> Any:
    """Two rows, forward and backward; two columns, the right gain, seen closely, and the wrong one over decades."""
    slopes = runs.arms
    layers, styles = runs.records["layers"].iloc[0], plots.activation_styles(slopes)
    figure, axes = plots.panels(
        2,
        2,
        "The signal through a deep network",
        f"points: mean over the draws of {runs.seeds} with 95 % intervals; lines: expectation",
        width=11.0,
        height=7.4,
        sharex=True,
        sharey="col",
    )
    apart = 0.12 * (layers[1] - layers[0])  # of the slopes at one layer, so that no interval hides another
    extremes = [1 / CLOSE, CLOSE]
    for column, gain in enumerate(_GAINS):
        for row, name in enumerate(("second_moment", "gradient")):
            panel = axes[row, column]
            for place, (slope, style) in enumerate(styles.items()):
                shown = gain if slope else "own"  # for ReLU the two are one
                growth = [expected(slope, shown, layer) for layer in layers]
                panel.plot(
                    layers,
                    growth if row == 0 else growth[::-1],
                    color=style["color"] if gain == "relu" else plots.SOFT,
                    linewidth=1.2,
                    alpha=0.6,
                    zorder=1,
                )
                estimates = growth_of(runs, slope, shown, name)
                means = [one.mean for one in estimates]
                half = [0 if math.isnan(one.half_width) else one.half_width for one in estimates]
                if gain == "own":
                    extremes += [m - h for m, h in zip(means, half, strict=True)]
                    extremes += [m + h for m, h in zip(means, half, strict=True)]
                shift = apart * (place - (len(styles) - 1) / 2)
                panel.errorbar(
                    [layer + shift for layer in layers] if gain == "own" else layers,
                    means,
                    half,
                    fmt=style["marker"],
                    color=style["color"],
                    markersize=8.5 if gain == "relu" and not slope else 5,  # leaky 0.01 lies on it
                    markeredgecolor="white",
                    markeredgewidth=0.6,
                    elinewidth=1.3,
                    label=style["label"],
                )
            panel.set_yscale("log")
            panel.set_xlim(-0.05 * layers[-1], 1.05 * layers[-1])
            panel.set_xticks(layers[:: max(1, len(layers) // 5)])
    axes[0, 0].set_title("variance 2 / ((1 + a²) fan_in), the slope's own", loc="left", fontweight="bold")
    axes[0, 1].set_title("variance 2 / fan_in, ReLU's; another scale", loc="left", fontweight="bold")
    for panel in axes[1]:
        panel.set_xlabel("layer")
    axes[0, 0].set_ylabel("second moment of the signal\nrelative to the input's")
    axes[1, 0].set_ylabel("squared norm of the gradient\nrelative to the last layer's")
    _close_axis(axes[0, 0], extremes)
    _close_axis(axes[1, 0], extremes)
    # Level or not is the question: the axis shows a factor of 3 either way at least.
    highest = max(expected(slope, "relu", layers[-1]) for slope in slopes)
    axes[0, 1].set_ylim(0.5, max(3, 3 * highest))
    plots.legend(figure)
    return figure


def _close_axis(panel: Any, extremes: Sequence[float]) -> None:
    """A logarithmic axis as far up as down from 1, that holds the extremes up to a factor of 10."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    widest = max(max(one, 1 / max(one, 0.1)) for one in extremes if math.isfinite(one))
    limit = min(10.0, 1.02 * widest)
    ticks = (0.1, 0.2, 0.5, 1, 2, 5, 10) if limit > 2 else (0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.4, 1.6, 2)
    panel.set_ylim(1 / limit, limit)
    panel.yaxis.set_major_locator(FixedLocator([tick for tick in ticks if 1 / limit <= tick <= limit]))
    panel.yaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
