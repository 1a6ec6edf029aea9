"""Lists the experiments: `python -m experiments`."""

from __future__ import annotations

import ast
import json
from pathlib import Path

from experiments.lab.run import interrupt


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
    """What the recorded default run of an experiment took; empty where none is noted."""
    try:
        noted = json.loads((Path(__file__).parent / name / "results" / "environment.json").read_text())
    except OSError:
        return ""
    seconds = noted.get("seconds")
    if not seconds:
        return ""
    minutes = f"{seconds / 60:.0f} min" if seconds >= 60 else "less than 1 min"
    return f"{minutes} on {noted['cores']} cores"


def main() -> None:
    """Prints a line for each experiment, and what its recorded run took."""
    found = experiments()
    width, longest = max(map(len, found)), max(map(len, found.values()))
    for name, line in found.items():
        print(f"{name:<{width}}  {line:<{longest}}  {took(name)}".rstrip())
    print("\npython -m experiments.NAME --help says more of one, and with --smoke it runs in seconds.")
    print("python -m experiments.claims judges what is said of LeakyReLU by the recorded runs.")
    print("python -m experiments.benchmark measures speed and memory.")


if __name__ == "__main__":
    interrupt.enter(main)
