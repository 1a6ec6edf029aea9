"""How the sweep's rate and rows depend on the number of devices and processes.

The networks of experiments.dead_neurons with Adam, in a process of its own per case: 1, 2, 4 and 8 CPU devices, and two
processes of one device each. The rows must be the same to the byte. XLA is told of 8 threads in every case, because it
splits elementwise work by their number, which rounds differently. More threads than cores halve the rate of two devices
on two cores, so the rate can grow beyond the number of cores, and is none of the default, a thread per core.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax

from experiments.dead_neurons import experiment as dead_neurons
from experiments.lab.data import batches
from experiments.lab.data import datasets as data
from experiments.lab.run import devices, processes, store
from experiments.lab.run.errors import LabError
from experiments.lab.run.progress import progress
from experiments.lab.run.sweep import compile_groups, execute
from experiments.lab.show.table import markdown, show_markdown

RESULTS = Path(__file__).parents[1] / "results"
DEVICES = (1, 2, 4, 8)
_EVERYWHERE = {"JAX_PLATFORMS": "cpu", "NPROC": str(max(DEVICES))}
CONFIG = dataclasses.replace(dead_neurons.Config(), seeds=2, steps=128, optimizers=("adam",))


def add_flags(parser: argparse.ArgumentParser) -> None:
    """This benchmark's flags."""
    parser.add_argument(
        "--rounds", type=int, default=3, help="measurements of each case; default: %(default)s"
    )
    parser.add_argument(
        "--devices",
        type=int,
        nargs="+",
        default=DEVICES,
        help="numbers of CPU devices; default: 1 2 4 8",
    )
    parser.add_argument(
        "--record", action="store_true", help="write experiments/benchmark/results/scaling.md and .json"
    )


def run(flags: argparse.Namespace) -> None:
    """Measures the cases in turns, prints, and writes the results where asked."""
    cases = {f"{count} device{'s' * (count > 1)}": (1, count) for count in flags.devices}
    cases["2 processes, 1 device each"] = (2, 1)
    rates: dict[str, list[float]] = {name: [] for name in cases}
    rows: dict[str, list[str]] = {name: [] for name in cases}
    with progress("measurements", flags.rounds * len(cases)) as advance:
        for _ in range(flags.rounds):
            for name, (count, each) in cases.items():
                found = _measure(count, each)
                rates[name].append(found["rate"])
                rows[name].append(found["rows"])
                advance(1)
    results = {
        "command": "python -m experiments.benchmark scaling --record",
        "environment": devices.environment(),
        "rates": rates,
        "rows_sha256": rows,
    }
    text = to_markdown(results)
    show_markdown(text)
    if flags.record:
        store.write(RESULTS / "scaling.json", store.dump(results, indent=2) + "\n")
        store.write(RESULTS / "scaling.md", text)
    if not _equal(rows):
        raise LabError("the rows differ between the cases: see rows_sha256.")


def to_markdown(results: dict[str, Any]) -> str:
    """The results for people."""
    about, rates = results["environment"], results["rates"]
    one = statistics.median(next(iter(rates.values())))
    equal = _equal(results["rows_sha256"])
    many = [name for name in rates if "process" not in name][-1]
    lines = [
        "# How the sweep scales",
        "",
        f"The rows of all cases are {'equal to the byte' if equal else 'NOT equal'}, and {many} on {about['cores']} "
        f"cores train {statistics.median(rates[many]) / one:.2f} times as many network steps a second as one device.",
        "",
        f"`{results['command']}`, {about['date'][:10]}, {about['cores']} cores of {about['processor']}, "
        f"jax {about['packages']['jax']}, Python {about['python']}; medians over {len(next(iter(rates.values())))} "
        "rounds in turns, without compilation. XLA has 8 threads in every case, which slows few devices on few cores.",
        "",
    ]
    rows = []
    for name, values in rates.items():
        median = statistics.median(values)
        extremes = f"{min(values):,.0f} to {max(values):,.0f}"
        rows.append([name, f"{median:,.0f}", extremes, f"{median / one:.2f}"])
    header = ["case", "network steps/s", "least to greatest", "of one device"]
    return "\n".join([*lines, *markdown(header, rows)]) + "\n"


def _equal(rows: dict[str, list[str]]) -> bool:
    """Whether every case had the same rows in every round."""
    return len(set().union(*rows.values())) == 1


def _measure(count: int, each: int) -> dict[str, Any]:
    """The rate and the rows' checksum of one case, from `count` processes with `each` devices."""
    with tempfile.TemporaryDirectory() as place, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        free.close()
        started = []
        for index in range(count):
            names = {
                "JAX_COORDINATOR_ADDRESS": address,
                "JAX_NUM_PROCESSES": str(count),
                "JAX_PROCESS_ID": str(index),
            }
            started.append(
                subprocess.Popen(
                    [sys.executable, "-m", "experiments.benchmark.sweep.scaling", str(each), place],
                    env=os.environ | _EVERYWHERE | (names if count > 1 else {}),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        said = [process.communicate() for process in started]
        for process, (_, errors) in zip(started, said, strict=True):
            if process.returncode:
                last = errors.strip().splitlines()[-1:] or [f"exit status {process.returncode}"]
                raise LabError(f"a process with {each} device(s) of {count} ended early: {last[0]}")
    return json.loads(said[0][0].splitlines()[-1])


def main() -> None:
    """One process of one case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("devices", type=int)
    parser.add_argument("place", type=Path)
    flags = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", flags.devices)
    processes.join()
    images = batches.images_of(data.load("embedded"))
    groups = dead_neurons.groups_of(CONFIG)
    programs, placed = compile_groups(groups, images)
    with store.open_run(flags.place / "run", {}) as folder:
        began = time.perf_counter()
        for program in programs:
            mine = list(filter(processes.is_mine, range(len(program.group.runs))))
            execute(program, placed, folder, lambda _: None, 0, mine)
        processes.meet("all rows are computed")
        seconds = time.perf_counter() - began
        folder.load()
        rows = store.dump(folder.records()).encode()
    steps = CONFIG.steps * sum(len(group.runs) for group in groups)
    if processes.leads():
        print(json.dumps({"rate": steps / seconds, "rows": hashlib.sha256(rows).hexdigest()}))


if __name__ == "__main__":
    main()
