"""The command line of an experiment: each field of its `Config` a flag, the text under it the flag's help."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax

from experiments.lab.run import devices, interrupt

T = TypeVar("T")


def start(
    name: str,
    run: Callable[[T], None],
    config: type[T],
    presets: Mapping[str, Mapping[str, Any]],
    description: str | None,
    *,
    all_cores: bool = True,
) -> None:
    """Runs an experiment as its command line asks.

    Args:
        name: name of the experiment.
        run: the experiment, from its settings to its report.
        config: dataclass of its settings, each with a default.
        presets: other defaults by the name of a flag: `--smoke` takes those of "smoke". What is given beside the flag
            is taken as given.
        description: text above the flags.
        all_cores: whether each core becomes a CPU device.
    """

    def main() -> None:
        settings = parse(config, presets, prog=f"python -m experiments.{name}", description=description)
        # Whatever the environment asks of promotions: the bias correction of optax's Adam needs them.
        jax.config.update("jax_numpy_dtype_promotion", "standard")
        jax.config.update("jax_numpy_rank_promotion", "allow")
        if all_cores:
            devices.use_all_cores()
        run(settings)

    interrupt.enter(main)


def parse(
    config: type[T], presets: Mapping[str, Mapping[str, Any]], *, prog: str, description: str | None
) -> T:
    """The configuration that the command line asks for; the arguments are those of `start`."""
    if importlib.util.find_spec("tyro") is None:
        sys.exit(
            "The experiments read their flags with tyro, which is missing: pip install -e '.[experiments]' in the "
            "folder of the clone."
        )
    import tyro

    chosen = [name for name in presets if f"--{name}" in sys.argv[1:]]
    if len(chosen) > 1:
        sys.exit(f"--{chosen[0]} and --{chosen[1]} ask for opposite things: choose one.")
    defaults: Any = config()
    if chosen:
        defaults = dataclasses.replace(defaults, **presets[chosen[0]])
    if {"-h", "--help"} & {*sys.argv[1:]}:
        # tyro breaks no line of a description.
        print(fitted(description or "", shutil.get_terminal_size().columns))
        description = ""
    options = (tyro.conf.FlagCreatePairsOff,)
    return tyro.cli(config, prog=prog, description=description, default=defaults, config=options)


def fitted(text: str, width: int) -> str:
    """A docstring in lines of at most so many columns, where its words allow.

    A line of a command says after two spaces or more what it does: that moves to a line of its own where there is no
    room. A reference ends with a full stop.
    """

    def fill(words: str, indent: int = 0) -> str:
        first, rest = " " * indent, " " * 2 * indent
        return textwrap.fill(" ".join(words.split()), width, initial_indent=first, subsequent_indent=rest)

    parts = []
    for part in re.split(r"\n{2,}", text.strip("\n")):
        if part.startswith("References:"):
            title, _, entries = part.partition("\n")
            parts.append("\n".join([title, *(fill(entry, 4) for entry in re.split(r"(?<=\.)\n", entries))]))
        elif part.startswith(" "):
            if max(map(len, part.splitlines())) > width:
                part = re.sub(r"(?<=\S) {2,}", "\n        ", part)
            parts.append(part)
        else:
            parts.append(fill(part))
    return "\n\n".join(parts) + "\n"
