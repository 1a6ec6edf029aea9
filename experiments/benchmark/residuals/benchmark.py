"""What each residual of leaky_relu costs on CPU, H100 and TPU: memory, traffic, kernels, cycles and time.

One gradient of each block of the suite (blocks.py beside this file) is compiled for each platform, with no activation
at all, with jax.nn.relu, with jax.nn.leaky_relu, and with jax_leaky's op and each residual. The H100 and the TPU need
not be there, only their compilers: pip install -e ".[deviceless]". On the CPU each gradient is also run.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform as system
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from experiments.benchmark import deviceless
from experiments.benchmark.residuals import times
from experiments.benchmark.residuals.blocks import ACTIVATIONS, BLOCKS, REMAT_BLOCKS
from experiments.benchmark.residuals.figures import DTYPES, ROWS
from experiments.benchmark.residuals.tables import to_markdown
from experiments.lab.run import devices, store
from experiments.lab.run.errors import LabError
from experiments.lab.run.progress import progress
from experiments.lab.show.table import show_markdown

RESULTS = Path(__file__).parents[1] / "results"
TRIED = Path(__file__).with_name("tried.md")
PROCESSES = 5  # that time the blocks; see experiments.benchmark.residuals.times
BLOCK_NAMES = [block.name for block in BLOCKS + REMAT_BLOCKS]
_COMPILERS = {"cpu": "jaxlib", "cuda": "jax-cuda12-pjrt", "tpu": "libtpu"}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """This benchmark's flags."""
    parser.add_argument(
        "--platforms",
        nargs="+",
        choices=deviceless.DEVICES,
        metavar="NAME",
        default=list(deviceless.DEVICES),
        help=f"platforms to compile for, of {', '.join(deviceless.DEVICES)}; default: all whose compiler is installed",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=3,
        help=f"timings of each gradient in each of {PROCESSES} processes; 0 times none; default: %(default)s",
    )
    parser.add_argument(
        "--blocks",
        nargs="+",
        choices=BLOCK_NAMES,
        metavar="NAME",
        help="blocks to compile, by their names in the table; default: all",
    )
    parser.add_argument(
        "--record",
        action="store_true",
        help="write these platforms' part of experiments/benchmark/results/residuals.*",
    )


def run(flags: argparse.Namespace) -> None:
    """Measures, prints, and writes the results where asked."""
    found: dict[str, Any] = {}
    for platform in flags.platforms:
        if reason := deviceless.missing(platform):
            print(f"{platform} is left out: {reason}")
            continue
        rounds = flags.rounds if platform == "cpu" else 0
        about = describe(platform, rounds, flags.blocks)
        if flags.record and flags.blocks:  # before the minutes that it takes to measure
            check_alike(recorded().get(platform, {}), about)
        found[platform] = about | {"figures": measure(platform, rounds, flags.blocks or BLOCK_NAMES)}
        if flags.record:  # at once: what is measured is not lost when the next compiler fails
            found = record(found)
    show_markdown(to_markdown(found, TRIED.read_text()))


def describe(platform: str, rounds: int, blocks: list[str] | None) -> dict[str, Any]:
    """Command, date, machine and versions with which the figures of a platform were measured."""
    compiler = _COMPILERS[platform]
    timed = f" --rounds {rounds}" if rounds else ""
    some = "".join([" --blocks", *(f' "{block}"' for block in blocks)]) if blocks else ""
    return {
        "command": f"python -m experiments.benchmark residuals --platforms {platform}{timed}{some} --record",
        "date": datetime.date.today().isoformat(),
        "python": system.python_version(),
        "device": deviceless.DEVICES[platform],
        "processor": f"{devices.cores()} cores of {devices.processor()}",
        "versions": {name: metadata.version(name) for name in dict.fromkeys(("jax", "jaxlib", compiler))},
        "dtype": DTYPES[platform].__name__,
        "rows": ROWS[platform],
        "timed": {
            "rows": times.ROWS,
            "rows_of_scanned_convolutions": times.ROWS_OF_SCANNED_CONVOLUTIONS,
            "seconds": times.LEAST_SECONDS,
            "processes": PROCESSES,
            "rounds": rounds,
        }
        if rounds
        else None,
    }


def measure(platform: str, rounds: int, blocks: list[str]) -> list[dict[str, Any]]:
    """All figures of a platform, each kind from processes of its own.

    Times are medians over the processes, with the least and the greatest, of each process's median over its rounds:
    the rounds of a process are not independent.
    """
    gradients = f"gradients compiled for {platform}"
    figures = list(_lines(gradients, len(blocks), "residuals.figures", platform, "--blocks", *blocks))
    if rounds:
        arguments = ("residuals.times", "--rounds", str(rounds), "--blocks", *blocks)
        timed = sum(block.name in blocks for block in BLOCKS)
        runs = [
            {
                (line["block"], line["activation"]): line["seconds"]
                for line in _lines(title, timed, *arguments)
            }
            for title in (
                f"gradients timed, process {number + 1} of {PROCESSES}" for number in range(PROCESSES)
            )
        ]
        for figure in figures:
            ours, theirs = (figure["block"], figure["activation"]), (figure["block"], "jax.nn")
            if ours in runs[0]:
                figure["seconds"] = _spread([statistics.median(run[ours]) for run in runs])
                figure["times_jax_nn"] = _spread(
                    [
                        statistics.median(one / two for one, two in zip(run[ours], run[theirs], strict=True))
                        for run in runs
                    ]
                )
    return figures


def _lines(title: str, blocks: int, module: str, *arguments: str) -> Iterator[dict[str, Any]]:
    """The JSON lines that a module of the benchmark prints in a process of its own: one for each way of each block."""
    command = [sys.executable, "-m", f"experiments.benchmark.{module}", *arguments]
    with tempfile.TemporaryFile("w+") as errors:  # the compilers complain that their devices are not there
        process = subprocess.Popen(
            command,
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        assert process.stdout is not None
        with progress(title, blocks * len(ACTIVATIONS)) as advance:
            for line in process.stdout:
                advance(1)
                yield json.loads(line)
        if process.wait():
            errors.seek(0)
            last = errors.read().strip().splitlines()[-1:] or [f"exit status {process.returncode}"]
            raise LabError(f"the measurements of {title} ended early: {last[0]}")


def _spread(values: list[float]) -> list[float]:
    return [statistics.median(values), min(values), max(values)]


def recorded() -> dict[str, Any]:
    """The results recorded before, by platform."""
    path = RESULTS / "residuals.json"
    return json.loads(path.read_text()) if path.exists() else {}


def check_alike(part: dict[str, Any], about: dict[str, Any]) -> None:
    """Raises a LabError unless blocks that are measured as `about` says may stand among those of a recorded part."""
    for key in ("processor", "versions", "dtype", "rows", "timed"):
        if part.get(key) != about[key]:
            raise LabError(f"The recorded blocks have another {key}: record all of them, without --blocks.")


def record(found: dict[str, Any]) -> dict[str, Any]:
    """Writes the results, keeping those of platforms and blocks that were not measured now, and returns all of them."""
    earlier = recorded()
    both = {name: (earlier | found)[name] for name in deviceless.DEVICES if name in earlier | found}
    for name, part in found.items():
        measured = {figure["block"] for figure in part["figures"]}
        if measured < set(BLOCK_NAMES):
            both[name] = _with_blocks(earlier[name], part, measured)
    text = to_markdown(both, TRIED.read_text())
    RESULTS.mkdir(exist_ok=True)
    store.write(RESULTS / "residuals.json", store.dump(both, indent=1) + "\n")
    store.write(RESULTS / "residuals.md", text)
    return both


def _with_blocks(part: dict[str, Any], again: dict[str, Any], blocks: set[str]) -> dict[str, Any]:
    """A platform's results with some blocks measured again."""
    figures = {
        (figure["block"], figure["activation"]): figure for figure in (*part["figures"], *again["figures"])
    }
    note = {"blocks": sorted(blocks), "command": again["command"], "date": again["date"]}
    return part | {"figures": list(figures.values()), "again": [*part.get("again", []), note]}
