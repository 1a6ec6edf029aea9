"""A training step of published networks with leaky ReLUs: memory on CPU and H100, time on the CPU beside PyTorch.

Each network of experiments/models is compiled at its published shape with no activation at all, with
jax.nn.leaky_relu, and with jax_leaky's op keeping bits (the default) or the output. The H100 need not be there, only
its compiler: pip install -e ".[deviceless]". On the CPU the steps also run, in turns with PyTorch's, eager with
activations in place and through torch.compile, where PyTorch is installed; with a smaller batch where a step would
take longer than about a second.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import os
import platform as system
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

from experiments.benchmark import deviceless
from experiments.benchmark.networks.cases import ACTIVATIONS, NETWORKS
from experiments.benchmark.networks.figures import DTYPES
from experiments.benchmark.networks.tables import to_markdown
from experiments.lab.run import devices, store
from experiments.lab.run.errors import LabError
from experiments.lab.run.progress import progress
from experiments.lab.show.table import show_markdown

RESULTS = Path(__file__).parents[1] / "results"
FOUND = Path(__file__).with_name("found.md")
NO_TORCH = "No comparison with PyTorch, which is not installed: pip install torch."
_COMPILERS = {"cpu": "jaxlib", "cuda": "jax-cuda12-pjrt"}
_KEYS = {network: network.split()[0].lower() for network in NETWORKS}  # what --networks takes


def add_flags(parser: argparse.ArgumentParser) -> None:
    """This benchmark's flags."""
    parser.add_argument(
        "--platforms",
        nargs="+",
        choices=DTYPES,
        metavar="NAME",
        default=list(DTYPES),
        help=f"platforms to compile for, of {', '.join(DTYPES)}; default: all whose compiler is installed",
    )
    parser.add_argument(
        "--networks",
        nargs="+",
        choices=_KEYS.values(),
        default=list(_KEYS.values()),
        metavar="NAME",
        help=f"networks to compile, of {', '.join(_KEYS.values())}; default: all",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=7,
        help="timings of each step on the CPU; 0 times none; default: %(default)s",
    )
    parser.add_argument(
        "--record", action="store_true", help="write these parts of experiments/benchmark/results/networks.*"
    )


def run(flags: argparse.Namespace) -> None:
    """Measures, prints, and writes the results where asked."""
    names = [name for name, key in _KEYS.items() if key in flags.networks]
    found: dict[str, Any] = {}
    for platform in flags.platforms:
        if reason := deviceless.missing(platform):
            print(f"{platform} is left out: {reason}")
            continue
        rounds = flags.rounds if platform == "cpu" else 0
        if rounds and not importlib.util.find_spec("torch"):
            print(NO_TORCH)
        about, figures = describe(platform, rounds), measure(platform, names, rounds)
        found[platform] = {name: {"about": about, "figures": figures[name]} for name in names}
    if flags.record:
        found = record(found)
    show_markdown(to_markdown(found, FOUND.read_text()))


def describe(platform: str, rounds: int) -> dict[str, Any]:
    """Command, date, machine and versions with which the figures of a platform were measured."""
    packages = ["jax", "flax", _COMPILERS[platform]]
    if rounds and importlib.util.find_spec("torch"):
        packages.append("torch")
    timed = f" --rounds {rounds}" if rounds else ""
    return {
        "command": f"python -m experiments.benchmark networks --platforms {platform}{timed} --record",
        "date": datetime.date.today().isoformat(),
        "python": system.python_version(),
        "device": deviceless.DEVICES[platform],
        "processor": f"{devices.cores()} cores of {devices.processor()}",
        "versions": {name: metadata.version(name) for name in packages},
        "dtype": DTYPES[platform].__name__,
        "rounds": rounds,
    }


def measure(platform: str, names: list[str], rounds: int) -> dict[str, list[dict[str, Any]]]:
    """All figures of a platform, by network, from a process of its own."""
    command = [sys.executable, "-m", "experiments.benchmark.networks.figures", platform]
    figures: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    timed = len(ACTIVATIONS) + 2 * bool(importlib.util.find_spec("torch")) if rounds else 0
    with tempfile.TemporaryFile("w+") as errors:  # the compilers complain that their devices are not there
        process = subprocess.Popen(
            [*command, "--rounds", str(rounds), "--networks", *names],
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        assert process.stdout is not None
        with progress(f"steps on {platform}", len(names) * (len(ACTIVATIONS) + timed)) as advance:
            for line in process.stdout:
                if not line.startswith("{"):  # PyTorch's profiler says when it begins and ends
                    continue
                figure = json.loads(line)
                figures[figure.pop("network")].append(figure)
                advance(1)
        if process.wait():
            errors.seek(0)
            last = errors.read().strip().splitlines()[-1:] or [f"exit status {process.returncode}"]
            raise LabError(f"the measurements for {platform} ended early: {last[0]}")
    return figures


def record(found: dict[str, Any]) -> dict[str, Any]:
    """Writes the results, keeping those of platforms and networks that were not measured now; returns all of them."""
    path = RESULTS / "networks.json"
    earlier = json.loads(path.read_text()) if path.exists() else {}
    both: dict[str, Any] = {}
    for platform in DTYPES:
        parts = earlier.get(platform, {}) | found.get(platform, {})
        if parts:
            both[platform] = {name: parts[name] for name in NETWORKS if name in parts}
    RESULTS.mkdir(exist_ok=True)
    store.write(path, store.dump(both, indent=1) + "\n")
    store.write(RESULTS / "networks.md", to_markdown(both, FOUND.read_text()))
    return both
