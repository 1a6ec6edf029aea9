"""Lists the experiments: `python -m experiments`."""

from __future__ import annotations

import ast
import json
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from experiments.lab.run import interrupt
from experiments.lab.run.errors import LabError


def experiments() -> dict[str, str]:
    """Each experiment's name and the first line of its text, read without running anything."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("*/experiment.py")):
        if path.parent.name == "claims":
            continue
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        found[path.parent.name] = text.partition("\n")[0]
    return found


def took(name: str) -> str:
    """What the recorded run of an experiment took, and its flags; empty where none is noted."""
    try:
        noted = json.loads((Path(__file__).parent / name / "results" / "environment.json").read_text())
    except OSError:
        return ""
    seconds = noted.get("seconds")
    if not seconds:
        return ""
    minutes = f"{seconds / 60:.0f} min" if seconds >= 60 else "less than 1 min"
    flags = noted["command"].partition(f"experiments.{name}")[2]
    return f"{minutes} on {noted['cores']} cores{' with' * bool(flags)}{flags}"


def main(arguments: Sequence[str] = ()) -> None:
    """Prints each experiment with its question, and what its recorded run took.

    Raises:
        LabError: an argument is given, other than a request for help.
    """
    found = experiments()
    if wrong := [word for word in arguments if word not in {"-h", "--help"}]:
        name = wrong[0] if wrong[0] in {*found, "claims", "benchmark"} else "dead_neurons"
        raise LabError(
            f"python -m experiments takes no argument, got {wrong[0]}: give python -m experiments.{name}, for example."
        )
    for name, line in found.items():
        head = f"{name}, {took(name)}" if took(name) else name
        print(textwrap.fill(head, 80, subsequent_indent="    ", break_on_hyphens=False))
        print(textwrap.fill(line, 80, initial_indent="    ", subsequent_indent="    "))
    print("\nGive python -m experiments.NAME: --help explains one, --smoke takes seconds.")
    print("python -m experiments.claims      judges common claims by the recorded runs")
    print("python -m experiments.benchmark   measures speed and memory")


if __name__ == "__main__":
    interrupt.enter(lambda: main(sys.argv[1:]))
