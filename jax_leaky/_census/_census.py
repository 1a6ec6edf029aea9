"""`census`: a function, a stream of batches, and the counts of every activation."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax

from jax_leaky._census import _gradient, _visit
from jax_leaky._census._axes import UnitAxis
from jax_leaky._census._programs import compiled, placed
from jax_leaky._census._result import Census
from jax_leaky._census._stream import arguments, stream
from jax_leaky._tracing import Traced
from jax_leaky._tracing._nnx import take_apart

_AHEAD = (
    2  # batches that may wait on the device, so that loading and counting overlap and memory stays bounded
)


def census(
    fn: Callable[..., Any],
    batches: Iterable[Any],
    *,
    sites: str | Sequence[str] | None = None,
    unit_axis: int | Mapping[str, int] = -1,
    every: int = 1,
    gradients: bool = False,
    rare_below: float = 0.01,
    scan_rows: bool | None = None,
    sample_axes: str | Sequence[str] | None = None,
    progress: bool | None = None,
    sharding: Any = None,
) -> Census:
    """Counts what the activations of a function see, over all batches: which units are dead, rare, always active.

    Nothing of the model is edited: the activations are found by tracing (`jax_leaky._tracing.list_sites` shows
    which). A unit is an index of the last axis of an activation's input z, a convolution's channel; every other
    index is a sample. `unit_axis` names another axis, for channels that come first and for what vmap puts last.
    Batches are streamed: memory is O(units) whatever their number, and the function is traced once per shape of
    batch in every census, but not compiled again where its program is that of an earlier one. The measures are
    those of `jax_leaky.units.summarize`.

    Args:
        fn: as for `list_sites`: `functools.partial(model.apply, variables)` of Flax Linen or Haiku, an NNX or
            Equinox module, any function. Set dropout and batch norm to evaluation; an NNX module stays as it is.
        batches: an iterable (a generator, a data loader, a list), or one batch by itself: an array, a dict or a
            tuple (of several arguments, not of several batches). A batch that is a tuple or a list is spread,
            `fn(*batch)`; any other (an array, a dict, a NamedTuple) is `fn`'s one argument. Arrays of NumPy, PyTorch
            and others become JAX arrays.
        sites: names of sites, or patterns with `*`; all sites if None.
        unit_axis: the axis of z that holds the units, -1 for the last: one for all sites, or a dict from names or
            patterns of sites to theirs, the others' being -1. With channels first, (samples, channels, height,
            width), it is 1. Under `jax.vmap(lambda x: relu(weights @ x))` z is (units, samples), so it is 0 there:
            `list_sites` shows each shape.
        every: counts every k-th batch, the first one included.
        gradients: `fn` is then a loss: dL/dz of each sample is counted too (`grad_dead`, `grad_score`). The loss
            is a scalar, an array with a value per sample, or either in a tuple `(loss, auxiliary)`; a sum or mean
            over samples that do not meet each other, as they do in a batch norm in training mode.
        rare_below: a unit is rare that fires on less than this share of samples.
        scan_rows: whether each step of a scan has a row of its own: True for every scan, False for none, None for a
            scan over layers (`jax_leaky._tracing.Loop` has the rule).
        sample_axes: name or names of the mesh axes along which the shards of a shard_map hold other samples of the
            same units; any other axis is judged by how the arrays are split.
        progress: a bar on stderr: None shows it in a terminal after three seconds, True at once, False never.
        sharding: where the arrays of a batch are put, for a mesh: `NamedSharding(mesh, PartitionSpec("data"))`.
            Batches that are sharded already need none. The counts are the same on any mesh.

    Returns:
        A `Census`; printed, it is a table.

    Raises:
        TypeError: `fn` is not callable or does not trace, a batch holds what is no number, or with `gradients`
            the output of `fn` is no loss.
        ValueError: there is no batch, no activation, or none that `sites` names; `unit_axis` is no axis of an
            input, or holds another number of units in another batch; or `every` is less than 1.

    A scan over layers, whose steps have weights of their own, has a row per layer; any other loop (over time, over
    minibatches) has one row for all its steps, unless `scan_rows` says otherwise. The branch of a cond that is not
    taken has no samples.
    Integers are exact; sums of floats are float32 within a batch and compensated between batches.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jax_leaky import census
        >>> weights = jnp.array([[1.0, -1.0, 1.0], [1.0, -1.0, -1.0]])
        >>> def layer(x):
        ...     with jax.named_scope("layer"):
        ...         return jax.nn.relu(x @ weights)
        >>> positive = (jax.random.uniform(jax.random.key(i), (100, 2)) for i in range(10))
        >>> found = census(layer, positive)
        >>> found["layer/relu"].n, found["layer/relu"].where("dead").tolist()
        (1000, [1])
    """
    if not callable(fn):
        raise TypeError(f"census: fn must be callable, got {type(fn).__name__}.")
    if not 0 <= rare_below <= 1:
        raise ValueError(f"census: rare_below={rare_below!r} is not a share: give a number from 0 to 1.")
    patterns = sites if sites is None or isinstance(sites, str) else tuple(sites)
    axes = sample_axes if sample_axes is None or isinstance(sample_axes, str) else tuple(sample_axes)
    decided = {"scan_rows": scan_rows, "sample_axes": axes}
    step = _step(fn, patterns, unit_axis, gradients, rare_below, decided)
    total: Census | None = None
    ahead: deque[Census] = deque()
    blank: ValueError | None = None
    for batch in stream(batches, every, progress):
        given = arguments(batch, sharding)
        try:
            seen = step(given)
        except ValueError as error:
            if all(leaf.size for leaf in jax.tree.leaves(given)):
                raise
            blank = error  # JAX leaves `where` out of a function of no sample, and the activation with it
            continue
        except TypeError as error:
            if isinstance(batches, tuple) and len(batches) > 1 and "positional argument" in str(error):
                raise TypeError(
                    f"{error} A tuple is one batch of several arguments: give a list of batches."
                ) from error
            raise
        total = seen if total is None else _joined(total, seen)
        ahead.append(total)
        if len(ahead) > _AHEAD:
            jax.block_until_ready(ahead.popleft())
    if total is None and blank is not None:
        raise blank
    if total is None:
        raise ValueError(
            "census: batches gave no batch; a generator that was read before has to be made anew."
        )
    return jax.device_get(total)


def _step(
    fn: Callable[..., Any],
    sites: str | tuple[str, ...] | None,
    unit_axis: UnitAxis,
    gradients: bool,
    rare_below: float,
    decided: Mapping[str, Any],
) -> Callable[[tuple[Any, ...]], Census]:
    """The function from a batch to its census, traced once for each kind of batch."""
    pure, arrays = take_apart(fn)
    visit = _gradient.run if gradients else _visit.run
    ready: dict[Any, Callable[..., Census]] = {}

    def count(structure: Any, *leaves: Any) -> Census:
        arrays, batch = jax.tree.unflatten(structure, leaves)
        traced = Traced("census", pure.rebuilt(arrays), batch, {}, **decided)
        chosen = _visit.choose("census", traced, sites, unit_axis)
        _, records = visit(traced, chosen)
        return Census(records, chosen.sites.opaque, rare_below)

    def step(batch: tuple[Any, ...]) -> Census:
        leaves, structure = jax.tree.flatten((arrays, batch))
        kind = structure, tuple((jax.typeof(leaf), *placed(leaf)) for leaf in jax.tree.leaves(batch))
        if kind not in ready:
            ready[kind] = compiled(functools.partial(count, structure), leaves)
        return ready[kind](*leaves)

    return step


@jax.jit
def _joined(total: Census, newer: Census) -> Census:
    return total._joined(newer)
