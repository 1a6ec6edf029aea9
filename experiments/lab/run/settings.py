"""The constraints of an experiment's settings, which stand beside the fields of its `Config`, and their sentences."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

import pydantic
from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from experiments.lab.run.errors import LabError

T = TypeVar("T")

_REMEDIES = {
    "greater_than_equal": "give {ge} or more",
    "greater_than": "give more than {gt}",
    "less_than_equal": "give {le} or less",
    "less_than": "give less than {lt}",
    "multiple_of": "give a multiple of {multiple_of}",
    "finite_number": "give a finite number",
    "literal_error": "give {expected}",
    "too_short": "give one or more values",
}


def _distinct(values: tuple[T, ...]) -> tuple[T, ...]:
    if len(set(values)) < len(values):
        raise ValueError("give each value once")
    return values


Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Widths = Annotated[tuple[Count, ...], Field(min_length=1)]
Distinct = Annotated[tuple[T, ...], AfterValidator(_distinct)]
Several = Annotated[tuple[T, ...], Field(min_length=1), AfterValidator(_distinct)]


@dataclass(frozen=True)
class Settings:
    """A dataclass of settings; a value that is not allowed is a LabError, however the dataclass is made."""

    @pydantic.model_validator(mode="wrap")
    @classmethod
    def _checked(cls, values: Any, validate: pydantic.ModelWrapValidatorHandler[Any]) -> Any:
        try:
            return validate(values)
        except pydantic.ValidationError as error:
            # LabError is no ValueError, so that neither pydantic nor tyro puts words of its own around it.
            raise LabError(sentence(error)) from None


@dataclass(frozen=True)
class Flags(Settings):
    """The flags that every experiment has."""

    out: Path
    """The folder of the run: rows, plots and page.
    A folder that holds a run of other settings is refused, not overwritten."""

    smoke: bool = False
    """Run for a few seconds, to see that everything works."""

    full: bool = False
    """Run at the published scale."""

    fresh: bool = False
    """Remove what an earlier run has left in the folder, and start over."""

    so_far: bool = False
    """Compute nothing: report on what a run that was stopped has finished."""


def sentence(error: pydantic.ValidationError) -> str:
    """The first wrong setting, its value and the remedy, as in "--seeds is 0: give 1 or more."."""
    first = error.errors()[0]
    name, *place = first["loc"]
    verb = "holds" if place else "is"
    remedy = _REMEDIES.get(first["type"], first["msg"][:1].lower() + first["msg"][1:])
    remedy = remedy.removeprefix("value error, ").format(**first.get("ctx", {}))
    return f"{flag(str(name))} {verb} {first['input']}: {remedy}."


def flag(name: str) -> str:
    """The flag of a field."""
    return f"--{name.replace('_', '-')}"
