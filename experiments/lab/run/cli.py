"""Command lines made of dataclasses: each field a flag, the text under it the flag's help."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def parse(
    config: type[T], presets: Mapping[str, Mapping[str, Any]], *, prog: str, description: str | None
) -> T:
    """The configuration that the command line asks for.

    Args:
        config: a dataclass with a default for each field.
        presets: other defaults by the name of a flag: `--smoke` takes those of "smoke". What is given beside the flag
            is taken as given.
        prog: the command, as it is shown in the help.
        description: the text above the flags.
    """
    if importlib.util.find_spec("tyro") is None:
        sys.exit(
            "The experiments read their flags with tyro, which is missing: pip install 'jax_leaky[experiments]'."
        )
    import tyro

    chosen = [name for name in presets if f"--{name}" in sys.argv[1:]]
    if len(chosen) > 1:
        sys.exit(f"--{chosen[0]} and --{chosen[1]} ask for opposite things: choose one.")
    defaults: Any = config()
    if chosen:
        defaults = dataclasses.replace(defaults, **presets[chosen[0]])
    options = (tyro.conf.FlagCreatePairsOff,)
    return tyro.cli(config, prog=prog, description=description, default=defaults, config=options)
