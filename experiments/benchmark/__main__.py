"""Measures on this machine what the README says of speed and memory: `python -m experiments.benchmark NAME`."""

from __future__ import annotations

import argparse
import importlib

from experiments.lab.run import interrupt

# Each is a module with `add_flags(parser)`, `run(flags)` and a first line that says what it measures.
# `add_flags` may set the default `prepare`, which is called before anything else of the benchmark.
MODULES = {
    "device": "device",
    "networks": "networks.benchmark",
    "ppo": "ppo",
    "residuals": "residuals.benchmark",
    "scaling": "sweep.scaling",
    "sweep": "sweep.benchmark",
    "tracing": "tracing",
    "widths": "sweep.widths",
}


def main() -> None:
    """The command line: a subcommand per benchmark."""
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmark", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="NAME")
    for name, place in MODULES.items():
        module = importlib.import_module(f"experiments.benchmark.{place}")
        text = module.__doc__ or ""
        command = commands.add_parser(name, help=text.partition("\n")[0], description=text)
        module.add_flags(command)
        command.set_defaults(run=module.run)
    flags = parser.parse_args()

    def run() -> None:
        if prepare := getattr(flags, "prepare", None):
            prepare()
        flags.run(flags)

    interrupt.enter(run)


if __name__ == "__main__":
    main()
