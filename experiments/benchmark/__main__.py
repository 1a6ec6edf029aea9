"""Measures on this machine what the README says of speed and memory: `python -m experiments.benchmark NAME`."""

from __future__ import annotations

import argparse
import importlib
import importlib.util

from experiments.lab import interrupt

# Each is a module in benchmarks/ with `add_flags(parser)`, `run(flags)` and a first line that says what it measures.
# `add_flags` may set the default `prepare`, which is called first and in the main thread, the only one in which Python
# lets signal handlers be installed.
NAMES = ("networks", "residuals", "scaling", "sweep", "tracing", "widths")


def main() -> None:
    """The command line: a subcommand per benchmark."""
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmark", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="NAME")
    for name in NAMES:
        if importlib.util.find_spec(f"experiments.benchmarks.{name}") is None:
            continue
        module = importlib.import_module(f"experiments.benchmarks.{name}")
        text = module.__doc__ or ""
        command = commands.add_parser(name, help=text.partition("\n")[0], description=text)
        module.add_flags(command)
        command.set_defaults(run=module.run)
    flags = parser.parse_args()
    if prepare := getattr(flags, "prepare", None):
        prepare()
    interrupt.enter(lambda: interrupt.interruptible(lambda: flags.run(flags)))


if __name__ == "__main__":
    main()
