"""Command lines made of dataclasses: each field a flag, its docstring the help."""

from __future__ import annotations

import importlib.util
import sys
from typing import TypeVar

T = TypeVar("T")


def parse(config: type[T], *, prog: str, description: str | None) -> T:
    """The configuration that the command line asks for.

    Args:
        config: a dataclass; a string under a field is that flag's help.
        prog: the command, as it is shown in the help.
        description: the text above the flags.
    """
    if importlib.util.find_spec("tyro") is None:
        sys.exit(
            "The experiments read their flags with tyro, which is not installed: pip install 'jax_leaky[experiments]'."
        )
    import tyro

    return tyro.cli(config, prog=prog, description=description)
