"""What each residual of leaky_relu costs on CPU, H100 and TPU: memory, traffic, kernels, cycles and time.

One gradient of each block of benchmarks/blocks.py is compiled for each platform, with no activation at all, with
jax.nn.relu, with jax.nn.leaky_relu, and with jax_leaky's op and each residual. The H100 and the TPU need not be there,
only their compilers: pip install "jax_leaky[deviceless]". On the CPU each gradient is also run.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform as system
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

from experiments.benchmarks import deviceless
from experiments.benchmarks.residual_figures import DTYPES, ROWS, TIMED_ROWS
from experiments.benchmarks.residual_tables import to_markdown
from experiments.lab import devices, store
from experiments.lab.errors import LabError

RESULTS = Path(__file__).parent.parent / "results"
TRIED = Path(__file__).with_name("residuals_tried.md")
_COMPILERS = {"cpu": "jaxlib", "cuda": "jax-cuda12-pjrt", "tpu": "libtpu"}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """This benchmark's flags."""
    parser.add_argument(
        "--platforms",
        nargs="+",
        choices=deviceless.DEVICES,
        default=list(deviceless.DEVICES),
        help="which to compile for; default: all, less those whose compiler is absent",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=5,
        help="how often each is timed; 0 for not at all; default: %(default)s",
    )
    parser.add_argument(
        "--record", action="store_true", help="write these platforms' part of experiments/results/residuals.*"
    )


def run(flags: argparse.Namespace) -> None:
    """Measures, prints, and writes the results where asked."""
    found: dict[str, Any] = {}
    for platform in flags.platforms:
        if reason := deviceless.missing(platform):
            print(f"{platform} is left out: {reason}")
            continue
        rounds = flags.rounds if platform == "cpu" else 0
        found[platform] = describe(platform, rounds) | {"figures": measure(platform, rounds)}
        if flags.record:  # at once: what is measured is not lost when the next compiler fails
            found = record(found)
    print(to_markdown(found, TRIED.read_text()))


def describe(platform: str, rounds: int) -> dict[str, Any]:
    """What the figures of a platform were measured with."""
    compiler = _COMPILERS[platform]
    timed = f" --rounds {rounds}" if rounds else ""
    return {
        "command": f"python -m experiments.benchmark residuals --platforms {platform}{timed} --record",
        "date": datetime.date.today().isoformat(),
        "python": system.python_version(),
        "device": deviceless.DEVICES[platform],
        "processor": f"{devices.cores()} cores of {devices.processor()}",
        "versions": {name: metadata.version(name) for name in dict.fromkeys(("jax", "jaxlib", compiler))},
        "dtype": DTYPES[platform].__name__,
        "rows": ROWS[platform],
        "timed_rows": TIMED_ROWS if rounds else None,
        "rounds": rounds,
    }


def measure(platform: str, rounds: int) -> list[dict[str, Any]]:
    """All figures of a platform, from a process of its own."""
    command = [
        sys.executable,
        "-m",
        "experiments.benchmarks.residual_figures",
        platform,
        "--rounds",
        str(rounds),
    ]
    figures = []
    with tempfile.TemporaryFile("w+") as errors:  # the compilers complain that their devices are not there
        process = subprocess.Popen(
            command,
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        assert process.stdout is not None
        for line in process.stdout:
            figures.append(json.loads(line))
            print(f"{platform}: {figures[-1]['block']}, {figures[-1]['activation']}", flush=True)
        if process.wait():
            errors.seek(0)
            last = errors.read().strip().splitlines()[-1:] or [f"exit status {process.returncode}"]
            raise LabError(f"the measurements for {platform} ended early: {last[0]}")
    return figures


def record(found: dict[str, Any]) -> dict[str, Any]:
    """Writes the results, keeping those of platforms that were not measured now, and returns all of them."""
    path = RESULTS / "residuals.json"
    earlier = json.loads(path.read_text()) if path.exists() else {}
    both = {name: (earlier | found)[name] for name in deviceless.DEVICES if name in earlier | found}
    RESULTS.mkdir(exist_ok=True)
    store.write(path, store.dump(both, indent=1) + "\n")
    store.write(RESULTS / "residuals.md", to_markdown(both, TRIED.read_text()))
    return both
