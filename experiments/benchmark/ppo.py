"""What counting costs PPO: the script of docs/ppo_script.md as it is and with its ten lines, in turns.

Both trainings run in turns in one process on one core, so that a neighbour on the machine disturbs them alike and no
thread spends time in waiting for another; each ratio is of one round, and times are the processor's. The counted one
counts every tenth update. With --record the counted script also trains to its end, and its picture is drawn.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import time
import types
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.benchmark.tracing import spread
from experiments.lab.run import devices, store
from experiments.lab.run.progress import progress
from experiments.lab.show import plots
from experiments.lab.show.table import markdown, show_markdown
from experiments.reinforcement_learning.games import load

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results"
COMMAND = "python -m experiments.benchmark ppo --record"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """This benchmark's flags."""
    parser.set_defaults(prepare=devices.use_one_core)
    parser.add_argument("--rounds", type=int, default=31, help="timings of each script; default: %(default)s")
    parser.add_argument(
        "--iterations", type=int, default=5, help="iterations of a timed training; default: %(default)s"
    )
    parser.add_argument(
        "--record", action="store_true", help="write results/ppo.md and .json, and docs/ppo_script.png"
    )


def sources() -> dict[str, str]:
    """The script as it is, and with the changes that its page shows."""
    plain = (ROOT / "docs" / "ppo_script.py").read_text(encoding="utf-8")
    page = (ROOT / "docs" / "ppo_script.md").read_text(encoding="utf-8")
    counted = plain
    changes = re.search(r"```diff\n(.*?)```", page, re.DOTALL)
    assert changes
    for change in changes[1].split("@@\n")[1:]:
        lines = change.splitlines(keepends=True)
        old, new = ("".join(line[1:] or "\n" for line in lines if line[0] in kinds) for kinds in (" -", " +"))
        assert counted.count(old) == 1, f"docs/ppo_script.py must hold once what the page changes:\n{old}"
        counted = counted.replace(old, new)
    return {"plain": plain, "counted": counted}


def script(source: str) -> dict[str, Any]:
    """The names that a script defines."""
    module = types.ModuleType("ppo_script")
    sys.modules[module.__name__] = module  # where Flax's modules, being dataclasses, look for it
    exec(compile(source, "ppo_script.py", "exec"), module.__dict__)  # noqa: S102 - a file of this repository
    return module.__dict__


def run(flags: argparse.Namespace) -> None:
    """Measures, prints, and writes the results where asked."""
    load("gymnax")
    scripts = {way: script(source) for way, source in sources().items()}
    config = scripts["plain"]["CONFIG"]
    frames = flags.iterations * config["NUM_ENVS"] * config["NUM_STEPS"]
    key = jax.random.key(config["SEED"])
    times: dict[str, list[float]] = {way: [] for way in scripts}
    with progress("rounds", flags.rounds) as advance:
        compiled: dict[str, Any] = {
            way: jax.jit(names["make_train"](config | {"TOTAL_FRAMES": frames})).lower(key).compile()
            for way, names in scripts.items()
        }
        for index in range(flags.rounds):
            for way in [*compiled][:: 1 if index % 2 else -1]:  # neither always follows the other
                began = time.process_time()
                jax.block_until_ready(compiled[way](key))
                times[way].append(time.process_time() - began)
            advance(1)
    ratios = [counted / plain for plain, counted in zip(times["plain"], times["counted"], strict=True)]
    results = {
        "command": COMMAND,
        "rounds": flags.rounds,
        "environment": devices.environment(),
        "frames": frames,
        "frames_a_second": {way: frames / statistics.median(values) for way, values in times.items()},
        "ratio": spread(ratios),
        "temporary_bytes": {way: one.memory_analysis().temp_size_in_bytes for way, one in compiled.items()},
        "units": 2 * config["WIDTH"],
    }
    text = to_markdown(results)
    show_markdown(text)
    if flags.record:
        store.write(RESULTS / "ppo.json", store.dump(results, indent=2) + "\n")
        store.write(RESULTS / "ppo.md", text)
        _, metrics = jax.jit(scripts["counted"]["make_train"](config))(key)
        plots.save(picture(jax.device_get(metrics), config), ROOT / "docs" / "ppo_script.png")


def to_markdown(results: dict[str, Any]) -> str:
    """The results for people."""
    about, ratio, memory = results["environment"], results["ratio"], results["temporary_bytes"]
    more = memory["counted"] - memory["plain"]
    rows = [
        [
            f"{results['frames_a_second']['plain']:,.0f}",
            f"{results['frames_a_second']['counted']:,.0f}",
            f"{ratio['median']:.3f} ({ratio['low']:.3f} to {ratio['high']:.3f})",
            f"{memory['plain'] / 1e6:.1f} MB",
            f"{more / 1e3:+.1f} kB ({more / results['units']:+.0f} bytes a unit)",
        ]
    ]
    header = (
        "frames a second of one core, plain",
        "counted",
        "processor time, counted / plain",
        "temporary memory",
        "more for counting",
    )
    lines = [
        "# What counting costs PPO",
        "",
        f"With every tenth update counted, the script takes {ratio['median']:.2f} times the processor time "
        f"({ratio['low']:.2f} to {ratio['high']:.2f}) and {more / 1e3:.1f} kB more temporary memory.",
        "",
        f"`{results['command']}`, {about['date'][:10]}, one core of {about['processor']}, "
        f"jax {about['packages']['jax']}, Python {about['python']}; medians over {results['rounds']} rounds, in "
        "brackets the quartiles. The script of docs/ppo_script.md, every tenth update counted; games, updates and "
        f"counts in one compiled scan over {results['frames']:,} frames.",
        "",
        *markdown(header, rows, 0),
    ]
    return "\n".join(lines) + "\n"


def picture(metrics: dict[str, np.ndarray], config: dict[str, Any]) -> Any:
    """The share of dormant units in each layer and the return, over the frames."""
    figure, axes = plots.panels(
        1,
        2,
        "Which units of a PPO script die",
        f"{config['ENV_NAME']}, 2 x {config['WIDTH']} ReLU, seed {config['SEED']}",
        width=9,
        height=3.8,
    )
    frames = config["NUM_ENVS"] * config["NUM_STEPS"] / 1000 * (1 + np.arange(len(metrics["return"])))
    for name, values in metrics.items():
        if name != "return":
            axes[0, 0].plot(frames, 100 * values, label=name.rpartition("/")[0])
    axes[0, 0].set_title("dormant units, %", loc="left", fontweight="bold")
    axes[0, 0].set_ylim(0, 100)
    axes[0, 0].legend(frameon=False)
    axes[0, 1].plot(frames, metrics["return"], color=plots.INK)
    axes[0, 1].set_title("return", loc="left", fontweight="bold")
    axes[0, 1].set_ylim(bottom=0)
    for panel in axes[0]:
        panel.set_xlabel("thousand frames")
    return figure
