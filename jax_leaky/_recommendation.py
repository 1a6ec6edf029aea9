"""Which residual to choose, from the memory and the time that each one takes."""

from collections.abc import Mapping
from typing import cast, get_args

from jax_leaky._op._leaky_relu import DEFAULT
from jax_leaky._op._residual import Residual

AS_WRITTEN = "as written"
NOISE = 1.01  # two sizes that differ by less are the same: compilers align and reorder
_FASTER = 1.1  # a median of few runs says no more


def best_of(temporary: Mapping[str, int], seconds: Mapping[str, float] | None) -> Residual:
    """The residual of the least memory; of those that need as little the default, or one that is much faster."""
    ours = (DEFAULT, *(choice for choice in get_args(Residual) if choice != DEFAULT))
    least = min(temporary[choice] for choice in ours)
    near = [choice for choice in ours if temporary[choice] <= NOISE * least]
    best = near[0]
    if seconds:
        fastest = min(near, key=lambda choice: seconds[choice])
        best = fastest if _FASTER * seconds[fastest] < seconds[best] else best
    return cast(Residual, best)


def recommend(
    best: Residual,
    temporary: Mapping[str, int],
    seconds: Mapping[str, float] | None,
    exceptions: Mapping[str, tuple[Residual, int]],
) -> str:
    """What to write, in one sentence."""
    today, least = temporary[AS_WRITTEN], temporary[best]
    apart = ""
    for site, (residual, needed) in exceptions.items():
        apart += f", but residual={residual!r} at {site}"
        least = needed
    if today <= NOISE * least:
        return f"Leave it as it is: no choice needs noticeably less than the {in_units(today)} of today."
    name = "leaky_relu" if best == DEFAULT else f"leaky_relu(residual={best!r})"
    paced = (
        f", in {seconds[best] / seconds[AS_WRITTEN]:.2f} of the time" if seconds and not exceptions else ""
    )
    return (
        f"Use jax_leaky's {name}{apart}: {in_units(least)} of temporary memory, "
        f"{1 - least / today:.0%} less than as written{paced}."
    )


def in_units(count: int) -> str:
    """Bytes as a person reads them."""
    value, units = float(count), iter(("B", "kB", "MB", "GB", "TB"))
    unit = next(units)
    while value >= 1000:
        value, unit = value / 1000, next(units)
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
