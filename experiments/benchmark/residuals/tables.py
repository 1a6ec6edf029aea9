"""The figures of the residual suite, for people."""

from __future__ import annotations

import math
from typing import Any

from experiments.benchmark.residuals.blocks import ACTIVATIONS, BLOCKS, LAYERS
from experiments.lab.show.table import markdown

Figures = dict[tuple[str, str], dict[str, Any]]
_NAMES = {name: name for name in ACTIVATIONS} | {
    "none": "no activation",
    "nothing": "keeps nothing",
    "relu": "ReLU",
}
_MEMORY_NOISE = 1.01
_LEAST = 0.01  # of bytes per element: a ratio to less says nothing
_PLAIN = [block.name for block in BLOCKS]
_TITLES = {"cpu": "CPU", "cuda": "H100", "tpu": "TPU v5e"}


def to_markdown(found: dict[str, Any], tried: str) -> str:
    """One section per platform, after the ratios that the default is chosen by.

    Args:
        found: results of the benchmark's `describe` and `measure`, by platform.
        tried: other ideas that were measured, in Markdown.
    """
    lines = ["# What the backward pass of a leaky ReLU costs", "", _answer(found), "", *_verdict(found)]
    for platform, part in found.items():
        lines += ["", *_section(platform, part)]
    return "\n".join([*lines, "", tried.strip()]) + "\n"


def ratio(figures: Figures, key: str, activation: str, baseline: str) -> tuple[float, float, str] | None:
    """Geometric mean and greatest of the ratios over all blocks without remat, and the block of the greatest."""
    ratios = {}
    for block in _PLAIN:
        pair = figures.get((block, activation)), figures.get((block, baseline))
        if pair[0] is None or pair[1] is None or not pair[1].get(key):
            continue
        least = _LEAST if key == "temporary" else 0
        ratios[block] = max(pair[0][key], least) / max(pair[1][key], least)
    if not ratios:
        return None
    worst = max(ratios, key=lambda block: ratios[block])
    return math.exp(sum(map(math.log, ratios.values())) / len(ratios)), ratios[worst], worst


def by_block(part: dict[str, Any]) -> Figures:
    """The figures of a platform by block and activation, in the order of the suite."""
    return {(row["block"], row["activation"]): _with_time(row) for row in part["figures"]}


def _with_time(row: dict[str, Any]) -> dict[str, Any]:
    return row | ({"time": row["times_jax_nn"][0]} if "times_jax_nn" in row else {})


def _answer(found: dict[str, Any]) -> str:
    needs, more, blocks = list[str](), list[str](), 0
    for platform, part in found.items():
        figures = by_block(part)
        ours, theirs = (ratio(figures, "temporary", activation, "none") for activation in ("bits", "jax.nn"))
        if ours and theirs:
            needs.append(
                f"{ours[0]:.2f} with bits and {theirs[0]:.2f} with jax.nn on the {_TITLES[platform]}"
            )
        both = [block for block in _PLAIN if {(block, "bits"), (block, "jax.nn")} <= {*figures}]
        blocks += len(both)
        for block in both:
            times = figures[block, "bits"]["temporary"] / figures[block, "jax.nn"]["temporary"]
            if times > _MEMORY_NOISE:
                more.append(f"{block}, on the {_TITLES[platform]}, {times:.2f} times")
    if not needs:
        return "No block without remat was measured."
    where = f": {'; '.join(more)}" if more else ""
    return (
        f"Memory relative to no activation is {', '.join(needs)}; bits need over 1 % more than jax.nn in {len(more)} "
        f"of {blocks} blocks{where}."
    )


def _verdict(found: dict[str, Any]) -> list[str]:
    lines = [
        "Geometric means over the blocks without remat, and the worst block (least favourable ratio).",
        "",
    ]
    header = [
        "platform",
        "activation",
        "memory / none",
        "memory / jax.nn, worst block",
        "traffic / jax.nn",
        "cycles / jax.nn (worst)",
        "time / jax.nn (worst)",
    ]
    rows = []
    for platform, part in found.items():
        figures = by_block(part)
        for activation, name in _NAMES.items():
            cells = [_TITLES[platform], name]
            over = ratio(figures, "temporary", activation, "none")
            worst = ratio(figures, "temporary", activation, "jax.nn")
            moved = ratio(figures, "moved", activation, "jax.nn")
            cells.append(f"{over[0]:.3f}" if over else "-")
            cells.append(f"{worst[1]:.3f} ({worst[2]})" if worst else "-")
            cells.append(f"{moved[0]:.3f}" if moved else "-")
            for key in ("megacycles", "time"):
                spread = ratio(figures, key, activation, "jax.nn")
                cells.append(f"{spread[0]:.3f} ({spread[1]:.3f})" if spread else "-")
            rows.append(cells)
    return [*lines, *markdown(header, rows, 2)]


def _section(platform: str, part: dict[str, Any]) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in part["versions"].items())
    blocks = list(dict.fromkeys(row["block"] for row in part["figures"]))
    figures = by_block(part)
    lines = [
        f"## {_TITLES[platform]}",
        "",
        f"`{part['command']}`, {part['date']}; {part['device']}, {part['dtype']}, {part['rows']} rows of 1024 units "
        f"(a convolution: as many elements); {versions}, Python {part['python']}.",
        *(f"Again: `{note['command']}`, {note['date']}." for note in part.get("again", ())),
        "",
        f"{LAYERS} layers: temporary bytes per activation element and layer / bytes moved likewise / kernels"
        + (" / millions of cycles, as the compiler estimates" if platform == "tpu" else "")
        + ".",
        "",
    ]
    rows = [
        [block, *(_cell(figures.get((block, activation)), platform) for activation in _NAMES)]
        for block in blocks
    ]
    lines += markdown(["block", *_NAMES.values()], rows)
    if timed := part.get("timed"):
        lines += [
            "",
            f"Time of {timed['rows']} rows (a convolution in a scan: {timed['rows_of_scanned_convolutions']}) on "
            f"{part['processor']}, in turns, a measurement at least {timed['seconds']:g} seconds of calls: jax.nn's "
            "milliseconds, and for each "
            f"the ratio to jax.nn in the same round, the median of {timed['rounds']} rounds; over {timed['processes']} "
            "processes the median (least to greatest).",
            "",
        ]
        header = ["block", "jax.nn, ms", *(_NAMES[name] for name in _NAMES if name != "jax.nn")]
        rows = []
        for block in _PLAIN:
            if (block, "jax.nn") not in figures:
                continue
            median = figures[block, "jax.nn"]["seconds"][0] * 1e3
            timed_here = (figures.get((block, name), {}) for name in _NAMES if name != "jax.nn")
            ratios = [
                "{:.2f} ({:.2f} to {:.2f})".format(*row["times_jax_nn"]) if "times_jax_nn" in row else "-"
                for row in timed_here
            ]
            rows.append([block, f"{median:,.0f}", *ratios])
        lines += markdown(header, rows)
    return lines


def _cell(row: dict[str, Any] | None, platform: str) -> str:
    if row is None:
        return "-"
    cells = [f"{row['temporary']:.2f}", f"{row['moved']:.1f}", str(row["kernels"])]
    return " / ".join([*cells, f"{row['megacycles']:.2f}"] if platform == "tpu" else cells)
