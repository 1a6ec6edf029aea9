"""What each way of keeping the sign of x costs in a user's own loss, which nobody edits for it."""

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jax_leaky._op._leaky_relu import DEFAULT, leaky_relu
from jax_leaky._op._residual import Residual
from jax_leaky._tracing import Site, SiteList, Traced, Visit, Visitor

AS_WRITTEN = "as written"
JAX_NN = "jax.nn"
CHOICES = (AS_WRITTEN, JAX_NN, *get_args(Residual))
_KINDS = ("leaky_relu", "prelu")
_NOISE = 1.01  # two sizes that differ by less are the same: compilers align and reorder
_FASTER = 1.1  # a median of few runs says no more
_ROUNDS = 5
_NO_EXCEPTIONS: Mapping[str, Residual] = {}


@dataclasses.dataclass(frozen=True)
class ResidualComparison:
    """What a gradient needs under each choice; printed, a table.

    Attributes:
        sites: list of the leaky ReLUs that were replaced, in the order of the program.
        temporary_bytes: memory in bytes, by choice, that the compiled gradient allocates besides its arguments and its
            results. The choices are "as written", "jax.nn" and the three residuals.
        seconds: median time of a call, by choice; None if no time was asked for.
        exceptions: pairs of a residual and the memory in bytes once it is taken, by the name of the site that should
            take that residual instead of the recommended one; None if no single sites were asked for.
        recommendation: sentence that says what to write.
    """

    sites: SiteList
    temporary_bytes: Mapping[str, int]
    seconds: Mapping[str, float] | None
    exceptions: Mapping[str, tuple[Residual, int]] | None
    recommendation: str

    def __str__(self) -> str:
        """The choices, the sites and the recommendation."""
        today = self.temporary_bytes[AS_WRITTEN]
        lines = [
            f"{'choice':<12}{'temporary':>12}{'of today':>10}" + f"{'time':>12}" * (self.seconds is not None)
        ]
        for choice, needed in self.temporary_bytes.items():
            share = f"{needed / today:.0%}" if today else "-"
            line = f"{choice:<12}{_in_units(needed):>12}{share:>10}"
            lines.append(line + (f"{self.seconds[choice] * 1e3:>9.2f} ms" if self.seconds else ""))
        if self.exceptions is not None:
            lines += [
                "",
                *(f"{name}: {kept}, {_in_units(needed)}" for name, (kept, needed) in self.exceptions.items()),
            ]
            lines += [] if self.exceptions else ["no single site gains by another residual"]
        return "\n".join([*lines, "", str(self.sites), "", self.recommendation])


def compare_residuals(
    fn: Callable[..., Any],
    *args: Any,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    measure_time: bool = False,
    by_site: bool = False,
    **kwargs: Any,
) -> ResidualComparison:
    """What each residual of `leaky_relu` costs in a loss, and which one to choose.

    The gradient of the loss is compiled as it is written and with its leaky ReLUs (any `leaky_relu` or `prelu` that
    `jax_leaky.list_sites` finds, hand-written ones too) replaced by `jax.nn.leaky_relu` and by
    `jax_leaky.leaky_relu` with each `residual`. `fn` is the loss and not the training step around it: an activation
    is seen in the forward function, and not in its gradient.

    Args:
        fn: loss function; it returns a real scalar, or `(scalar, auxiliary)` with `has_aux`.
        *args: arguments of `fn`. `jax.ShapeDtypeStruct` will do for an array, with the sharding of a device if another
            than the default one is asked about; then nothing is run and no memory is needed.
        argnums: number, or numbers, of the arguments whose floating-point arrays are differentiated.
        has_aux: whether `fn` returns a pair, as in `jax.grad`.
        measure_time: whether to run each gradient as well, in turns.
        by_site: whether to search for single sites that need less with another residual than the best one for all:
            in the order of the program, each keeps what saves more than 1 % of the memory. Two more compilations
            for each site.
        **kwargs: keyword arguments of `fn`.

    Returns:
        The comparison; print it.

    Raises:
        TypeError: `fn` does not trace, its result is no real scalar, or there is nothing to differentiate.
        ValueError: `fn` has no leaky ReLU, `argnums` names no argument, or `measure_time` is asked for without arrays.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jax_leaky import compare_residuals
        >>> def loss(weights, x):
        ...     for w in weights:
        ...         x = jax.nn.leaky_relu(x @ w)
        ...     return x.sum()
        >>> weights = [jax.ShapeDtypeStruct((256, 256), jnp.float32)] * 4
        >>> found = compare_residuals(loss, weights, jax.ShapeDtypeStruct((4096, 256), jnp.float32))
        >>> found.temporary_bytes["bits"] < found.temporary_bytes["as written"]
        True
        >>> len(found.sites)
        4
    """
    traced = Traced("compare_residuals", fn, args, kwargs)
    sites = SiteList(
        (site for site in traced.sites if site.kind in _KINDS and not site.fixed), traced.sites.opaque
    )
    if not sites:
        raise ValueError(
            "compare_residuals: fn must contain a leaky ReLU that can be replaced, got none; "
            f"{traced.sites.vocabulary()}. If fn is a training step, give the loss instead."
        )
    gradient, leaves = _gradient(fn, args, kwargs, argnums, has_aux)
    compiled = {
        choice: jax.jit(functools.partial(gradient, choice)).lower(leaves).compile() for choice in CHOICES
    }
    temporary = {choice: _temporary_bytes(program) for choice, program in compiled.items()}
    seconds = _times(compiled, leaves) if measure_time else None
    best = _best_of(temporary, seconds)
    exceptions = _exceptions(gradient, leaves, sites, best, temporary[best]) if by_site else None
    recommendation = _recommend(best, temporary, seconds, exceptions or {})
    return ResidualComparison(sites, temporary, seconds, exceptions, recommendation)


def _exceptions(
    gradient: Callable[..., Any], leaves: dict[int, Any], sites: SiteList, best: Residual, least: int
) -> dict[str, tuple[Residual, int]]:
    """The sites that save memory by another residual than `best`, which all others take."""
    found: dict[str, tuple[Residual, int]] = {}
    for site in sites:
        for residual in get_args(Residual):
            if residual == best:
                continue
            kept = {name: choice for name, (choice, _) in found.items()} | {site.name: residual}
            program = jax.jit(functools.partial(gradient, best, kept=kept)).lower(leaves).compile()
            needed = _temporary_bytes(program)
            if _NOISE * needed < least:
                found[site.name], least = (residual, needed), needed
    return found


def _gradient(
    fn: Callable[..., Any],
    args: Sequence[Any],
    kwargs: dict[str, Any],
    argnums: int | Sequence[int],
    has_aux: bool,
) -> tuple[Callable[[str, dict[int, Any]], Any], dict[int, Any]]:
    """`(choice, arrays) -> gradient`, and the arrays, or their shapes, by their place among the leaves."""
    leaves, structure = jax.tree.flatten((tuple(args), kwargs))
    arrays = {place: leaf for place, leaf in enumerate(leaves) if _is_array(leaf)}
    chosen = _chosen(args, kwargs, argnums)
    wanted = {
        place for place in arrays if chosen[place] and jnp.issubdtype(leaves[place].dtype, jnp.floating)
    }
    if not wanted:
        raise TypeError(
            f"compare_residuals: argnums must name an argument with floating-point arrays, got argnums={argnums}; "
            "name the argument that holds the parameters."
        )

    def gradient(choice: str, arrays: dict[int, Any], kept: Mapping[str, Residual] = _NO_EXCEPTIONS) -> Any:
        def loss(differentiated: dict[int, Any]) -> tuple[Array, Any]:
            filled = [(arrays | differentiated).get(place, leaf) for place, leaf in enumerate(leaves)]
            arguments, keywords = jax.tree.unflatten(structure, filled)
            result = _call(choice, kept, fn, arguments, keywords)
            value, auxiliary = result if has_aux else (result, None)
            return _scalar(value), jax.tree.map(lambda leaf: leaf if _is_array(leaf) else None, auxiliary)

        return jax.grad(loss, has_aux=True)({place: arrays[place] for place in sorted(wanted)})

    return gradient, arrays


def _call(
    choice: str,
    kept: Mapping[str, Residual],
    fn: Callable[..., Any],
    args: Sequence[Any],
    kwargs: dict[str, Any],
) -> Any:
    if choice == AS_WRITTEN:
        return fn(*args, **kwargs)

    def replace(site: Site, visit: Visit) -> Array:
        slope: Any = site.negative_slope if visit.parameter is None else visit.parameter
        if choice == JAX_NN:
            return jax.nn.leaky_relu(visit.z, slope)
        residual = kept.get(site.name, cast(Residual, choice))
        if residual == "output" and (site.negative_slope or 0) < 0:  # leaky_relu would refuse
            residual = "bits"
        return leaky_relu(visit.z, slope, residual=residual)

    visitor = Visitor(wants=lambda site: site.kind in _KINDS and not site.fixed, replace=replace)
    result, _ = Traced("compare_residuals", fn, args, kwargs).run(visitor)
    return result


def _chosen(args: Sequence[Any], kwargs: dict[str, Any], argnums: int | Sequence[int]) -> list[bool]:
    """For each leaf of the arguments, whether its argument is named."""
    numbers = [argnums] if isinstance(argnums, int) else list(argnums)
    for number in numbers:
        if not -len(args) <= number < len(args):
            raise ValueError(
                f"compare_residuals: argnums must name one of the {len(args)} arguments in *args, got {argnums}; "
                "count from 0, and pass what is differentiated by its place."
            )
    named = {number % len(args) for number in numbers}
    marks = (tuple(jax.tree.map(lambda _, here=n in named: here, arg) for n, arg in enumerate(args)), kwargs)
    return [mark is True for mark in jax.tree.leaves(marks)]


def _scalar(value: Any) -> Array:
    shape, dtype = jnp.shape(value), jnp.result_type(value)
    if shape or not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(
            f"compare_residuals: fn must return a real scalar, got {dtype}{list(shape)}; "
            "give the loss and not the training step, or sum the result."
        )
    return value


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | jax.ShapeDtypeStruct | np.ndarray)


def _temporary_bytes(program: Any) -> int:
    analysis = program.memory_analysis()
    if analysis is None:
        raise NotImplementedError(
            "compare_residuals: the backend must tell how much memory a program needs, got nothing from "
            f"{jax.default_backend()!r}; compile for another device."
        )
    return int(analysis.temp_size_in_bytes)


def _times(compiled: Mapping[str, Any], leaves: dict[int, Any]) -> dict[str, float]:
    """Median seconds; in turns, so that whatever else the machine does disturbs all alike."""
    shapes = [leaf for leaf in leaves.values() if isinstance(leaf, jax.ShapeDtypeStruct)]
    if shapes:
        raise ValueError(
            f"compare_residuals: with measure_time=True every argument must be an array, got {shapes[0]}; "
            "without it shapes will do."
        )
    found: dict[str, list[float]] = {choice: [] for choice in compiled}
    for _ in range(_ROUNDS + 1):
        for choice, program in compiled.items():
            began = time.perf_counter()
            jax.block_until_ready(program(leaves))
            found[choice].append(time.perf_counter() - began)
    return {
        choice: statistics.median(seconds[1:]) for choice, seconds in found.items()
    }  # the first is a warm-up


def _best_of(temporary: Mapping[str, int], seconds: Mapping[str, float] | None) -> Residual:
    """The residual of the least memory; of those that need as little the default, or one that is much faster."""
    ours = (DEFAULT, *(choice for choice in get_args(Residual) if choice != DEFAULT))
    least = min(temporary[choice] for choice in ours)
    near = [choice for choice in ours if temporary[choice] <= _NOISE * least]
    best = near[0]
    if seconds:
        fastest = min(near, key=lambda choice: seconds[choice])
        best = fastest if _FASTER * seconds[fastest] < seconds[best] else best
    return cast(Residual, best)


def _recommend(
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
    if today <= _NOISE * least:
        return f"Leave it as it is: no choice needs noticeably less than the {_in_units(today)} of today."
    name = "leaky_relu" if best == DEFAULT else f"leaky_relu(residual={best!r})"
    paced = (
        f", in {seconds[best] / seconds[AS_WRITTEN]:.2f} of the time" if seconds and not exceptions else ""
    )
    return (
        f"Use jax_leaky's {name}{apart}: {_in_units(least)} of temporary memory, "
        f"{1 - least / today:.0%} less than as written{paced}."
    )


def _in_units(count: int) -> str:
    """Bytes as a person reads them."""
    value, units = float(count), iter(("B", "kB", "MB", "GB", "TB"))
    unit = next(units)
    while value >= 1000:
        value, unit = value / 1000, next(units)
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
