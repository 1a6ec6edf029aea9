"""`census` counts the activations of a function over a stream of batches, `value_and_census` those of one call."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax

from jax_leaky._census._result import Census
from jax_leaky._census._stream import arguments, stream
from jax_leaky._census._visit import UnitAxis, choose, run
from jax_leaky._tracing import Traced
from jax_leaky._tracing._nnx import Pure, take_apart

# Batches that may wait on the device, so that loading and counting overlap and memory stays bounded.
_AHEAD = 2


def census(
    fn: Callable[..., Any],
    batches: Iterable[Any],
    *,
    sites: str | Sequence[str] | None = None,
    unit_axis: int | Mapping[str, int] = -1,
    gradients: bool = False,
    rare_below: float = 0.01,
    scan_rows: bool | None = None,
    sample_axes: str | Sequence[str] | None = None,
    progress: bool | None = None,
) -> Census:
    """Counts what the activations of a function see, over all batches: which units are dead, rare, always active.

    Nothing of the model is edited: the activations are found by tracing (`jax_leaky._tracing.list_sites` shows
    which). A unit is an index of the last axis of an activation's input z, a convolution's channel; every other
    index is a sample. `unit_axis` names another axis, for channels that come first and for what vmap puts last.
    Batches are streamed: memory is O(units) whatever their number. The function is traced and compiled once per shape
    of batch in every census, since nothing of a Python function tells whether it still computes what it did. A
    function that is jitted, `jax.jit(model.apply)` or a `functools.partial` of it, says so by that: its program
    serves every later census too. The measures are those of `jax_leaky.units.summarize`.

    Args:
        fn: function to count, as `list_sites` takes it: `functools.partial(model.apply, variables)` of Flax Linen or
            Haiku, an NNX or Equinox module, any function. Set dropout and batch norm to evaluation; an NNX module is
            left unchanged.
        batches: an iterable (a generator, a data loader, a list), or one batch by itself: an array, a dict or a
            tuple (of several arguments, not of several batches). A batch that is a tuple or a list is spread,
            `fn(*batch)`; any other (an array, a dict, a NamedTuple) is `fn`'s one argument. Arrays of NumPy, PyTorch
            and others become JAX arrays. Batches may be sharded over a mesh: the counts are the same on any.
        sites: names of sites, or patterns with `*`; all sites if None.
        unit_axis: the axis of z that holds the units, -1 for the last: one for all sites, or a dict from names or
            patterns of sites to theirs, the others' being -1. With channels first, (samples, channels, height,
            width), it is 1. Under `jax.vmap(lambda x: relu(weights @ x))` z is (units, samples), so it is 0 there:
            `list_sites` shows each shape.
        gradients: `fn` is then a loss: dL/dz of each sample is counted too (`grad_dead`, `grad_score`). The loss
            is a scalar, an array with a value per sample, or either in a tuple `(loss, auxiliary)`; a sum or mean
            over samples that do not meet each other, as they do in a batch norm in training mode.
        rare_below: share of samples; a unit that fires on fewer is rare.
        scan_rows: whether each step of a scan has a row of its own: True for every scan, False for none, None for a
            scan over layers (`jax_leaky._tracing.Loop` has the rule).
        sample_axes: name or names of the mesh axes along which the shards of a shard_map hold other samples of the
            same units; any other axis is judged by how the arrays are split.
        progress: a bar on stderr: None shows it in a terminal after three seconds, True at once, False never.

    Returns:
        A `Census`; printed, it is a table.

    Raises:
        TypeError: `fn` is not callable or does not trace, a batch holds what is no number, or with `gradients`
            the output of `fn` is no loss.
        ValueError: there is no batch, no activation, or none that `sites` names; `unit_axis` is no axis of an
            input, or holds another number of units in another batch.

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
    along = sample_axes if sample_axes is None or isinstance(sample_axes, str) else tuple(sample_axes)
    step = _step(fn, patterns, unit_axis, gradients, rare_below, scan_rows, along)
    total: Census | None = None
    ahead: deque[Census] = deque()
    blank: ValueError | None = None
    for batch in stream(batches, progress):
        given = arguments(batch)
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
    scan_rows: bool | None,
    sample_axes: str | tuple[str, ...] | None,
) -> Callable[[tuple[Any, ...]], Census]:
    """The function from a batch to its census."""
    pure, arrays = take_apart(fn)
    axes = tuple(unit_axis.items()) if isinstance(unit_axis, Mapping) else unit_axis
    settings = pure, sites, axes, gradients, rare_below, scan_rows, sample_axes
    # 1, True and 1.0 are equal, and three arguments all the same.
    kept = *settings, tuple(map(type, pure.leaves))
    count = _kept_program(*kept) if _is_jitted(fn) and _is_hashable(kept) else _program(*settings)
    return functools.partial(count, arrays)


def _is_jitted(fn: Any) -> bool:
    return isinstance(fn.func if isinstance(fn, functools.partial) else fn, jax.stages.Wrapped)


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _program(
    pure: Pure,
    sites: str | tuple[str, ...] | None,
    axes: int | tuple[tuple[str, int], ...],
    gradients: bool,
    rare_below: float,
    scan_rows: bool | None,
    sample_axes: str | tuple[str, ...] | None,
    types: tuple[type, ...] = (),
) -> Callable[..., Census]:
    del types  # for the cache alone

    @jax.jit
    def count(arrays: Any, batch: tuple[Any, ...]) -> Census:
        traced = Traced(
            "census", pure.rebuilt(arrays), batch, {}, scan_rows=scan_rows, sample_axes=sample_axes
        )
        chosen = choose("census", traced, sites, dict(axes) if isinstance(axes, tuple) else axes)
        _, records = run(traced, chosen, gradients=gradients)
        return Census(records, chosen.sites.opaque, rare_below)

    return count


_kept_program = functools.lru_cache(maxsize=32)(_program)


@jax.jit
def _joined(total: Census, newer: Census) -> Census:
    return total._joined(newer)


def value_and_census(
    fn: Callable[..., Any],
    *,
    sites: str | Sequence[str] | None = None,
    unit_axis: int | Mapping[str, int] = -1,
    gradients: bool = False,
    rare_below: float = 0.01,
    scan_rows: bool | None = None,
    sample_axes: str | Sequence[str] | None = None,
) -> Callable[..., tuple[Any, Census]]:
    """The same function, which also returns the census of its call: one line in a jitted train step.

    Values and gradients are those of `fn`; no gradient flows through the counts. It composes with jit, grad, vmap
    and scan. What the step returns is all that is counted: return the `Census` to add them up over steps, or
    `Census.scalars()` for a logger, or only some of those. In a trace the measures of a site are arrays, in
    `census[name].summary.layer` and `.per_unit`: return those that are wanted, and XLA counts no others.

    A step has no room to spare, so this counts on the output of a relu or leaky_relu where `census` counts on its
    input: NaN and infinity are non-finite in both, but minus infinity, which a relu turns into 0, counts here as not
    firing. The extremes of z are left out (NaN), and `since_fired` is known to the batch.

    Args:
        fn: function to count, as `census` takes it; the changes of an NNX module are kept, as in any call of it.
        sites: names of sites, or patterns with `*`; all sites if None.
        unit_axis: axis of the units in an activation's input, as `census` takes it.
        gradients: whether dL/dz of each sample is counted too (`grad_dead`, `grad_score`); `fn` is then a loss. It
            returns a scalar, an array with a value for each sample, or either in a tuple `(loss, auxiliary)`: a sum
            or mean over samples that do not meet each other. This runs the backward pass of `fn` down to its
            first activation, whatever the caller differentiates.
        rare_below: share of samples; a unit that fires on fewer is rare.
        scan_rows: choice of the scans whose steps have rows of their own, as `census` takes it.
        sample_axes: names of mesh axes that hold samples, as `census` takes them.

    Returns:
        A function of the arguments of `fn` that returns `(fn(*args), census)`.

    Raises:
        TypeError: from the returned function: `fn` is not callable or does not trace, or with `gradients` its
            output is no loss.
        ValueError: from the returned function: `fn` has no activation, none that `sites` names, or `unit_axis`
            is no axis of an input.

    Example:
        Flax Linen, the counts as the auxiliary output of the loss:

        >>> import flax.linen as nn, jax, jax.numpy as jnp, optax
        >>> from jax_leaky import value_and_census
        >>> class MLP(nn.Module):
        ...     @nn.compact
        ...     def __call__(self, x):
        ...         return nn.Dense(1)(nn.relu(nn.Dense(8)(x)))
        >>> model, optimizer = MLP(), optax.sgd(0.1)
        >>> @jax.jit
        ... def train_step(params, state, x, y):
        ...     def loss_of(params):
        ...         out, counts = value_and_census(model.apply)(params, x)
        ...         return jnp.mean((out - y) ** 2), counts
        ...     (loss, counts), gradient = jax.value_and_grad(loss_of, has_aux=True)(params)
        ...     updates, state = optimizer.update(gradient, state)
        ...     return optax.apply_updates(params, updates), state, loss, counts
        >>> x, y = jnp.ones((32, 4)), jnp.ones((32, 1))
        >>> params = model.init(jax.random.key(0), x)
        >>> state = optimizer.init(params)
        >>> params, state, loss, counts = train_step(params, state, x, y)
        >>> counts["MLP/relu"].n, counts["MLP/relu"].units
        (32, 8)
        >>> sorted(counts.scalars())[:3]
        ['MLP/relu/act_freq', 'MLP/relu/always_active', 'MLP/relu/dead']

        Flax NNX, whose batch statistics and random counters change as ever:

        >>> from flax import nnx
        >>> class Net(nnx.Module):
        ...     def __init__(self, rngs):
        ...         self.dense, self.norm = nnx.Linear(4, 8, rngs=rngs), nnx.BatchNorm(8, rngs=rngs)
        ...     def __call__(self, x):
        ...         return nnx.relu(self.norm(self.dense(x))).sum(axis=1, keepdims=True)
        >>> @nnx.jit
        ... def train_step(model, optimizer, x, y):
        ...     def loss_of(model):
        ...         out, counts = value_and_census(model)(x)
        ...         return jnp.mean((out - y) ** 2), counts
        ...     (loss, counts), gradient = nnx.value_and_grad(loss_of, has_aux=True)(model)
        ...     optimizer.update(model, gradient)
        ...     return loss, counts
        >>> model = Net(nnx.Rngs(0))
        >>> optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
        >>> loss, counts = train_step(model, optimizer, x, y)
        >>> len(counts), bool(jnp.any(model.norm.mean[...] != 0))
        (1, True)
    """

    @functools.wraps(fn, assigned=("__module__", "__name__", "__qualname__"), updated=())
    def counted(*args: Any, **kwargs: Any) -> tuple[Any, Census]:
        traced = Traced("value_and_census", fn, args, kwargs, scan_rows=scan_rows, sample_axes=sample_axes)
        chosen = choose("value_and_census", traced, sites, unit_axis)
        out, records = run(traced, chosen, gradients=gradients, lean=True)
        return out, Census(records, chosen.sites.opaque, rare_below)

    return counted
