"""Lists the experiments: `python -m experiments`."""

from __future__ import annotations

import ast
from pathlib import Path


def experiments() -> dict[str, str]:
    """Each experiment's name and the first line of its text, read without running anything."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("[!_]*.py")):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        found[path.stem] = text.partition("\n")[0]
    return found


def main() -> None:
    """Prints a line for each experiment."""
    found = experiments()
    width = max(map(len, found))
    for name, line in found.items():
        print(f"{name:<{width}}  {line}")
    print(f"\npython -m experiments.{next(iter(found))} --help says more; --smoke takes seconds.")


if __name__ == "__main__":
    main()
