"""Measures what the experiments' machinery reaches on this machine: `python -m experiments.benchmark NAME`."""

from __future__ import annotations

import argparse
import importlib
import pkgutil

from experiments import benchmarks
from experiments.lab import devices, interrupt


def main() -> None:
    """The command line: one subcommand per file in benchmarks/."""
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmark", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="NAME")
    for found in pkgutil.iter_modules(benchmarks.__path__):
        module = importlib.import_module(f"{benchmarks.__name__}.{found.name}")
        if hasattr(module, "run"):
            text = module.__doc__ or ""
            command = commands.add_parser(found.name, help=text.partition("\n")[0], description=text)
            module.add_flags(command)
            command.set_defaults(run=module.run)
    flags = parser.parse_args()
    devices.use_all_cores()
    interrupt.enter(lambda: interrupt.interruptible(lambda: flags.run(flags)))


if __name__ == "__main__":
    main()
