"""The figures of the networks, for people."""

from __future__ import annotations

from typing import Any

from experiments.benchmark.networks.cases import ACTIVATIONS, NETWORKS
from experiments.lab.show.table import markdown

_TITLES = {"cpu": "CPU", "cuda": "H100"}
_NAMES = {
    "none": "no activation",
    "jax.nn": "jax.nn",
    "bits": "jax_leaky (bits)",
    "output": "jax_leaky, output",
}
_MEMORY_NOISE, _TIME_NOISE = 1.01, 1.02

Parts = dict[str, dict[str, Any]]  # by network


def to_markdown(found: dict[str, Parts], remarks: str) -> str:
    """Memory at the published shapes for each platform, time and memory of the steps that ran, and where ours loses.

    Args:
        found: results of the benchmark's `describe` and `measure`, by platform and network.
        remarks: explanations of the figures, in Markdown.
    """
    lines = [
        "# Networks in the wild",
        "",
        _answer(found),
        "",
        "One training step (gradient, and plain gradient descent in donated buffers) of published networks, with no "
        "activation at all, `jax.nn.leaky_relu`, and `jax_leaky.leaky_relu` keeping bits (the default) or the output.",
    ]
    for platform, parts in found.items():
        lines += ["", f"## Memory at the published shapes: {_TITLES[platform]}", "", *_about(parts), ""]
        lines += _memory(parts)
    if any("seconds" in figure for part in found.get("cpu", {}).values() for figure in part["figures"]):
        lines += ["", "## Time and memory of the steps that ran: CPU", "", *_times(found["cpu"])]
    lines += ["", "## Where jax_leaky's default loses", "", *(_losses(found) or ["Nowhere in these tables."])]
    return "\n".join([*lines, "", remarks.strip()]) + "\n"


def _answer(found: dict[str, Parts]) -> str:
    memory = []
    for platform, parts in found.items():
        ratios = [(one := _temporary(part))["bits"] / one["jax.nn"] for part in parts.values()]
        memory.append(f"{min(ratios):.2f} to {max(ratios):.2f} times the memory on the {_TITLES[platform]}")
    times = [
        figure["times_jax_nn"][0]
        for part in found.get("cpu", {}).values()
        for figure in part["figures"]
        if figure["way"] == "bits" and "times_jax_nn" in figure
    ]
    took = f", and takes {min(times):.2f} to {max(times):.2f} times as long on the CPU" if times else ""
    return f"Relative to jax.nn's step, the step with bits needs {' and '.join(memory)}{took}."


def _about(parts: Parts) -> list[str]:
    sentences = []
    for part in parts.values():
        about = part["about"]
        versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
        sentences.append(
            f"`{about['command']}`, {about['date']}: {about['device']}, {about['processor']}, {about['dtype']}, "
            f"{versions}, Python {about['python']}."
        )
    return list(dict.fromkeys(sentences))


def _memory(parts: Parts) -> list[str]:
    lines = [
        "Temporary MB of the compiled step; parameters, batch and, on the H100, cuDNN's workspaces come on top.",
        "",
    ]
    header = ["network", "batch", *_NAMES.values(), "bits / jax.nn", "bits / no activation"]
    rows = []
    for name, part in parts.items():
        found = _temporary(part)
        megabytes = [f"{found[way] / 1e6:,.1f}" for way in ACTIVATIONS]
        ratios = [f"{found['bits'] / found[way]:.2f}" for way in ("jax.nn", "none")]
        rows.append([name, _batch(name, NETWORKS[name].batch), *megabytes, *ratios])
    return [*lines, *markdown(header, rows, 2)]


def _times(parts: Parts) -> list[str]:
    rounds = " or ".join(str(count) for count in sorted({part["about"]["rounds"] for part in parts.values()}))
    lines = [
        f"Medians over {rounds} rounds, in brackets the quartiles; all ways of a network run in turns, and each ratio "
        "is of one round. Memory is the compiled step's temporary bytes for JAX; for PyTorch, the greatest sum of "
        "bytes allocated over a step beyond parameters and batch, from its profiler (oneDNN's scratch "
        "memory is not among them). PyTorch applies the leaky ReLU in place wherever autograd allows it.",
        "",
    ]
    rows = []
    for name, part in parts.items():
        for figure in part["figures"]:
            if "peak" not in figure and "failed" not in figure:
                continue
            batch, published = figure["batch"], NETWORKS[name].batch
            cells = [name, _batch(name, batch) + (f", published {published}" if batch != published else "")]
            cells.append(_NAMES.get(figure["way"], figure["way"]))
            if "failed" in figure:
                cells += [f"failed: {figure['failed']}", "", ""]
            else:
                cells += [_spread(figure["seconds"], 1e3, 1), _spread(figure["times_jax_nn"], 1, 2)]
                cells.append(f"{figure['peak'] / 1e6:,.1f}")
            rows.append(cells)
    return [*lines, *markdown(["network", "batch", "step of", "ms", "times jax.nn's time", "MB"], rows, 3)]


def _losses(found: dict[str, Parts]) -> list[str]:
    lines = []
    for platform, parts in found.items():
        for name, part in parts.items():
            temporary = _temporary(part)
            ratio = temporary["bits"] / temporary["jax.nn"]
            if ratio > _MEMORY_NOISE:
                lines.append(f"* {name}, {_TITLES[platform]}: {ratio:.2f} times jax.nn's memory.")
            ran = {figure["way"]: figure for figure in part["figures"] if "seconds" in figure}
            lines += [
                f"* {name}, {_TITLES[platform]}: {ratio:.2f} times jax.nn's time."
                for ratio in ([ran["bits"]["times_jax_nn"][0]] if "bits" in ran else [])
                if ratio > _TIME_NOISE
            ]
            for way, figure in ran.items():
                if way in ACTIVATIONS:
                    continue
                if (ratio := ran["bits"]["seconds"][0] / figure["seconds"][0]) > _TIME_NOISE:
                    lines.append(f"* {name}, {_TITLES[platform]}: {ratio:.2f} times the time of {way}.")
                if (ratio := ran["bits"]["peak"] / figure["peak"]) > _MEMORY_NOISE:
                    lines.append(f"* {name}, {_TITLES[platform]}: {ratio:.2f} times the memory of {way}.")
    return lines


def _temporary(part: dict[str, Any]) -> dict[str, int]:
    return {figure["way"]: figure["temporary"] for figure in part["figures"] if "temporary" in figure}


def _batch(name: str, batch: int) -> str:
    return f"{batch} x {NETWORKS[name].example}"


def _spread(values: list[float], scale: float, digits: int) -> str:
    middle, low, high = (f"{value * scale:,.{digits}f}" for value in values)
    return f"{middle} ({low} to {high})"
