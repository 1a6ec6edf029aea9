"""Lists the experiments: `python -m experiments`."""

from __future__ import annotations

import ast
from pathlib import Path


def experiments() -> dict[str, str]:
    """Each experiment's name and the first line of its text, read without running anything."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("[!_]*.py")):
        if path.stem == "benchmark":
            continue
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        found[path.stem] = text.partition("\n")[0]
    return found


def main() -> None:
    """Prints a line for each experiment."""
    found = experiments()
    width = max(map(len, found))
    for name, line in found.items():
        print(f"{name:<{width}}  {line}")
    print("\npython -m experiments.NAME --help says more of one, and with --smoke it runs in seconds.")
    print("python -m experiments.benchmark measures speed and memory.")


if __name__ == "__main__":
    main()
