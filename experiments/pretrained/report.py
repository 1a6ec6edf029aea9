"""What the experiment on published networks shows: how often channels are active, and what becomes of a photograph."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from experiments.lab.run.experiment import Outcome, write_up
from experiments.lab.run.store import Record
from experiments.lab.show import plots
from experiments.lab.show.table import Table
from experiments.pretrained.photographs import CREDITS
from experiments.pretrained.weights import NETWORKS

TITLE = "Do the LeakyReLU networks that people use have channels that are never active?"
_KINDS = ("small", "bicubic", "network", "original")
_MEASURES = ("never_active", "always_active", "rare", "act_freq", "mean_slope")

Pictures = Callable[[], dict[str, dict[str, np.ndarray]]]


def report(config: Any, outcome: Outcome, pictures: Pictures) -> None:
    """Prints the tables and writes everything but the rows."""
    counted = [record for record in outcome.records if record["what"] == "census"]
    titles = ", ".join(f"{NETWORKS[name].title} ({NETWORKS[name].authors})" for name in config.networks)
    photographers = "; ".join(f"{photo}.jpg by {CREDITS[photo]}" for photo in config.photographs)
    lead = [
        "A channel is never active when it is above zero at no position of any image; under ReLU it would be dead. It "
        "is always active when it is above zero at every position, and rare when it is so at fewer than 1 % of them. "
        "The column active has the mean share of positions above zero, and the mean slope is 1 at these and the slope "
        "elsewhere.",
        f"Published weights: {titles}. The channels are counted on {config.crops} pieces of {config.crop} x "
        f"{config.crop} pixels of each of {len(config.photographs)} photographs. A "
        "channel that is never active on n positions has a share below 3/n, at 95 %, were the positions independent, "
        "which neighbours are not.",
        f"Photographs (CC BY 2.0, as scikit-learn ships them; here cut and changed in size): {photographers}.",
    ]
    write_up(
        "pretrained",
        config,
        outcome,
        title=TITLE,
        answer=answer(counted),
        lead=lead,
        tables=[
            networks_table(counted),
            layers_table(counted),
            fidelity_table(outcome),
            agreement_table(outcome),
        ],
        figures=[
            (
                "channels.png",
                "How often each channel is above zero, in the order of the layers; a dot is a channel.",
                lambda: channels(config, counted),
            ),
            (
                "before_and_after.png",
                f"A piece of the photograph {config.photographs[0]}, made smaller and enlarged again. Photograph by "
                f"{CREDITS[config.photographs[0]]}, CC BY 2.0, cut and changed in size.",
                lambda: before_and_after(config, pictures()),
            ),
        ],
    )


def answer(rows: Sequence[Record]) -> str:
    """How many channels of each network are never active."""
    parts = []
    for name in dict.fromkeys(row["network"] for row in rows):
        some = [row for row in rows if row["network"] == name]
        channels = sum(row["units"] for row in some)
        share = of_channels(some, "never_active")
        parts.append(
            f"of the {channels:,} channels of {NETWORKS[name].title}, {round(share * channels):,} are never active"
        )
    text = ", and ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def part_of(row: Record) -> tuple[int, str]:
    """Where a layer is: its place for sorting, and the name of the part; the blocks of a loop are numbered."""
    step = re.search(r"\[(\d+)\]$", row["site"])
    if step:
        return int(step[1]), f"RRDB {int(step[1]) + 1}"
    return 1000 + row["layer"], f"layer {row['layer']}"


def in_depth(rows: Sequence[Record]) -> list[Record]:
    """The layers in the order in which they run."""
    return sorted(rows, key=lambda row: (part_of(row)[0], row["layer"]))


def of_channels(rows: Sequence[Record], measure: str) -> float:
    """The mean of a measure over the channels of some layers."""
    return float(np.average([row[measure] for row in rows], weights=[row["units"] for row in rows]))


def _cells(rows: Sequence[Record]) -> list[str]:
    channels = sum(row["units"] for row in rows)
    shares = [of_channels(rows, measure) for measure in _MEASURES]
    counts = [f"{round(share * channels):,} ({100 * share:.1f} %)" for share in shares[:3]]
    return [f"{channels:,}", f"{min(row['n'] for row in rows):,}", *counts, *(f"{x:.3f}" for x in shares[3:])]


_HEADER = ["channels", "n\nat least", "never\nactive", "always\nactive", "rare", "active", "mean\nslope"]


def networks_table(rows: Sequence[Record]) -> Table:
    """One line per network."""
    lines = [
        [
            NETWORKS[name].title,
            f"{NETWORKS[name].negative_slope:g}",
            f"{len(some)}",
            *_cells(some),
        ]
        for name in dict.fromkeys(row["network"] for row in rows)
        for some in [[row for row in rows if row["network"] == name]]
    ]
    return Table("Channels of whole networks", ["network", "slope", "layers", *_HEADER], lines)


def layers_table(rows: Sequence[Record]) -> Table:
    """One line per layer, or per block of 12 layers."""
    lines = []
    for name in dict.fromkeys(row["network"] for row in rows):
        ordered = in_depth([row for row in rows if row["network"] == name])
        for part in dict.fromkeys(part_of(row)[1] for row in ordered):
            some = [row for row in ordered if part_of(row)[1] == part]
            lines.append([name, part, f"{len(some)}", *_cells(some)])
    return Table(
        "Channels in the order of the layers",
        ["network", "part", "layers", *_HEADER],
        lines,
        text_columns=2,
        notes=["rows.jsonl has every layer of an RRDB, of which there are 12, and every channel."],
    )


def fidelity_table(outcome: Outcome) -> Table:
    """The photograph made smaller and enlarged again, against itself."""
    lines = [
        [
            NETWORKS[row["network"]].title,
            row["photograph"],
            f"{NETWORKS[row['network']].scale}",
            f"{row['psnr_bicubic']:.2f}",
            f"{row['psnr']:.2f}",
        ]
        for row in outcome.records
        if row["what"] == "fidelity"
    ]
    return Table(
        "Peak signal to noise against the original, in decibels",
        ["network", "photograph", "factor", "bicubic", "network"],
        lines,
        text_columns=2,
        notes=[
            "Made smaller by averaging bicubically. Real-ESRGAN is trained to look real rather than to be near: the "
            "detail that it invents counts against it."
        ],
    )


def agreement_table(outcome: Outcome) -> Table:
    """The largest difference from what ncnn computes."""
    lines = [
        [
            NETWORKS[row["network"]].title,
            f"{row['ncnn']}",
            f"{row['side']} x {row['side']}",
            f"{row['largest_output']:.3f}",
            f"{row['largest_difference']:.1e}",
        ]
        for row in outcome.records
        if row["what"] == "agreement"
    ]
    return Table(
        "The same output as ncnn's, in float32 on the CPU",
        ["network", "ncnn", "input", "largest output", "largest difference"],
        lines,
        notes=[
            "Where a picture has 256 levels, a step is 3.9e-03."
            if lines
            else "ncnn is not installed: not compared."
        ],
    )


def channels(config: Any, rows: Sequence[Record]) -> Any:
    """A dot for each channel: the layer's place to the right, the share of positions above zero upwards."""
    figure, axes = plots.panels(
        len(config.networks),
        1,
        "How often the channels of published networks are active",
        f"{len(config.photographs) * config.crops} pieces of photographs, {config.crop} x {config.crop} pixels each",
        width=8.5,
        height=1.2 + 2.7 * len(config.networks),
    )
    for panel, name in zip(axes[:, 0], config.networks, strict=True):
        ordered = in_depth([row for row in rows if row["network"] == name])
        rng = np.random.default_rng(0)
        for color, label, belongs in (
            ("#0072B2", "active", lambda share: share > 0),
            ("#D55E00", "never active", lambda share: share == 0),
        ):
            points = [
                (place + rng.uniform(-0.35, 0.35), 100 * share)
                for place, row in enumerate(ordered, start=1)
                for share in row["act_freq_of_units"]
                if belongs(share)
            ]
            x, y = zip(*points, strict=True) if points else ((), ())
            size = 60 / len(ordered) ** 0.5 if label == "active" else 20
            panel.scatter(x, y, s=size, color=color, label=label, alpha=0.45, linewidths=0, clip_on=False)
        panel.set_title(f"{NETWORKS[name].title}, slope {NETWORKS[name].negative_slope:g}", loc="left")
        panel.set_ylabel("positions above zero, %")
        panel.set_ylim(0, 100)
        panel.set_xlim(0, len(ordered) + 1)
        panel.set_xlabel("layer")
    plots.legend(figure)
    return figure


def before_and_after(config: Any, pictures: dict[str, dict[str, np.ndarray]]) -> Any:
    """A line of four pictures for each network."""
    figure, axes = plots.panels(
        len(pictures),
        len(_KINDS),
        "A photograph made smaller and enlarged again",
        f"{config.detail} x {config.detail} pixels of the photograph {config.photographs[0]}",
        width=6.4,
        height=0.8 + 1.75 * len(pictures),
    )
    for line, (name, kinds) in zip(axes, pictures.items(), strict=True):
        for panel, kind in zip(line, _KINDS, strict=True):
            panel.imshow(kinds[kind], interpolation="nearest")
            panel.set_axis_off()
            title = f"{kinds[kind].shape[0]} pixels" if kind == "small" else kind
            panel.set_title(name if kind == "network" else title, fontsize=8)
    return figure
