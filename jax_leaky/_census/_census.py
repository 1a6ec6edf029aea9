"""`census` counts the activations of a function over a stream of batches, `value_and_census` those of one call."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jax_leaky._census._result import Census
from jax_leaky._census._site import LAST
from jax_leaky._census._stream import arguments, stream
from jax_leaky._census._visit import UnitAxis, choose, completed_record, run
from jax_leaky._tracing import Traced
from jax_leaky._tracing._activations import registry
from jax_leaky._tracing._nnx import Pure, take_apart
from jax_leaky._tracing._trace import check_callable

# Batches that may wait on the device, so that loading and counting overlap and memory stays bounded.
_AHEAD = 2


def census(
    fn: Callable[..., Any],
    batches: Iterable[Any],
    *,
    sites: str | Sequence[str] | None = None,
    unit_axis: int | Sequence[int] | Mapping[str, int | Sequence[int]] = -1,
    gradients: bool = False,
    rare_below: float = 0.01,
    scan_rows: bool | None = None,
    sample_axes: str | Sequence[str] | None = None,
    where: Callable[..., Any] | None = None,
    progress: bool | None = None,
) -> Census:
    """Counts what the activations of a function see, over all batches: which units are dead, rare, always active.

    Nothing of the model is edited: the activations are found by tracing (`list_sites` shows which). A unit is an
    index of the last axis of an activation's input z, a convolution's channel; every other index is a sample.
    `unit_axis` names another axis, for channels that come first and for what vmap puts last.
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
            and others become JAX arrays; text may stand beside them, as long as `fn` does not use it. Batches may be
            sharded over a mesh: the counts are the same on any.
        sites: names of sites, or patterns with `*`; all sites if None.
        unit_axis: the axis of z that holds the units, -1 for the last: one for all sites, or a dict from names or
            patterns of sites to theirs, the others' being -1. With channels first, (samples, channels, height,
            width), it is 1. Of units along several axes it is a tuple of these: with (1, 3) the units of a gate on
            (batch, heads, length, features) are pairs of a head and a feature, and `where` gives both indices. Under
            `jax.vmap(lambda x: relu(weights @ x))` z is (units, samples), so it is 0 there: `list_sites` shows each
            shape.
        gradients: `fn` is then a loss: dL/dz of each sample is counted too (`grad_dead`, `grad_score`). It returns
            an array of floats of any shape, a scalar or a value per sample for example, alone or first in a pair
            `(loss, auxiliary)`, and L is its sum. Samples must not meet each other, as they do in a batch norm in
            training mode. A mean divides the gradients by the size of the batch: with it, take batches of one size, or
            else a sum or a value per sample, so that `grad_score` weighs all samples alike.
        rare_below: share of samples; a unit that fires on fewer is rare.
        scan_rows: whether each step of a scan has a row of its own: True for every scan, False for none, None for a
            scan over layers: one whose every step has weights of its own.
        sample_axes: name or names of the mesh axes along which the shards of a shard_map hold other samples of the
            same units; any other axis is judged by how the arrays are split.
        where: function from the arguments of `fn` to a bool array that is False for padding, such as
            `lambda x, mask: mask`. Its axes are the first ones of each activation's samples: (batch,) keeps or leaves
            out whole examples, (batch, length) tokens, also of inputs in which these two are one axis.
        progress: a bar on stderr: None shows it in a terminal after three seconds, True at once, False never.

    Returns:
        A `Census`; printed, it is a table.

    Raises:
        TypeError: `fn` is not callable or does not trace, it uses what is no number in a batch, or with `gradients`
            the output of `fn` is no loss.
        ValueError: there is no batch, no activation, or none that `sites` names; `unit_axis` is no axis of an
            input, or holds another number of units in another batch; `where` does not fit the samples of a site.

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
    _check("census", fn, sites, rare_below, scan_rows, where)
    patterns = sites if sites is None or isinstance(sites, str) else tuple(sites)
    along = sample_axes if sample_axes is None or isinstance(sample_axes, str) else tuple(sample_axes)
    step = _step(fn, patterns, unit_axis, gradients, rare_below, scan_rows, along, where)
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
            if len(given) < 2 or "positional argument" not in str(error):
                raise
            remedy = (
                "A tuple is one batch of several arguments: give a list of batches."
                if isinstance(batches, tuple)
                else f"A batch that is a tuple or a list is spread, fn(*batch), and this one gives {len(given)} "
                "arguments: take what fn takes, as in census(fn, (x for x, y in batches))."
            )
            raise TypeError(f"{error} {remedy}") from error
        ahead.append(seen)
        if len(ahead) > _AHEAD:
            total = _with(total, ahead.popleft())
    for seen in ahead:
        total = _with(total, seen)
    if total is None and blank is not None:
        raise blank
    if total is None:
        raise ValueError(
            "census: batches gave no batch; a generator that was read before has to be made anew."
        )
    return total


def _with(total: Census | None, seen: Census) -> Census:
    """The census of one more batch, from what the program returned of it: on the host, which need not compile."""
    newer = jax.device_get(seen)._map(completed_record)
    return newer if total is None else total._joined(newer)


def _step(
    fn: Callable[..., Any],
    sites: str | tuple[str, ...] | None,
    unit_axis: UnitAxis,
    gradients: bool,
    rare_below: float,
    scan_rows: bool | None,
    sample_axes: str | tuple[str, ...] | None,
    where: Callable[..., Any] | None,
) -> Callable[[tuple[Any, ...]], Census]:
    """The function from a batch to its census."""
    pure, arrays = take_apart(fn)
    # Hashable, as pairs; an empty dict names none.
    axes = (tuple(unit_axis.items()) or LAST) if isinstance(unit_axis, Mapping) else unit_axis
    settings = pure, sites, axes, gradients, rare_below, scan_rows, sample_axes, where
    # 1, True and 1.0 are equal, and three arguments all the same; a kind that is registered since is one to count.
    kept = *settings, (tuple(map(type, pure.leaves)), registry())
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
    axes: Any,
    gradients: bool,
    rare_below: float,
    scan_rows: bool | None,
    sample_axes: str | tuple[str, ...] | None,
    where: Callable[..., Any] | None,
    other: tuple[Any, ...] = (),
) -> Callable[..., Census]:
    del other  # for the cache alone

    @jax.jit
    def count(arrays: Any, batch: tuple[Any, ...]) -> Census:
        traced = Traced(
            "census", pure.rebuilt(arrays), batch, {}, scan_rows=scan_rows, sample_axes=sample_axes
        )
        by_site = isinstance(axes, tuple) and axes and isinstance(axes[0], tuple)
        chosen = choose("census", traced, sites, dict(axes) if by_site else axes)
        kept = None if where is None else where(*batch)
        _, records = run(traced, chosen, gradients=gradients, whole=False, where=kept)
        return Census(records, chosen.sites.opaque, rare_below)

    return count


_kept_program = functools.lru_cache(maxsize=32)(_program)


def value_and_census(
    fn: Callable[..., Any],
    *,
    sites: str | Sequence[str] | None = None,
    unit_axis: int | Sequence[int] | Mapping[str, int | Sequence[int]] = -1,
    gradients: bool = False,
    rare_below: float = 0.01,
    scan_rows: bool | None = None,
    sample_axes: str | Sequence[str] | None = None,
    where: Callable[..., Any] | None = None,
) -> Callable[..., tuple[Any, Census]]:
    """The same function, which also returns the census of its call: one line in a jitted train step.

    Values and gradients are those of `fn`; no gradient flows through the counts. It composes with jit, grad, vmap
    and scan. What the step returns is all that is counted: return the `Census` to add them up over steps, or
    `Census.scalars()` for a logger, or only some of those. A sum tells which units were active in any of its steps: of
    the units that died on the way, only the census of the last steps knows. In a trace the measures of a site are
    arrays, in `census[name].summary.layer` and `.per_unit`: return those that are wanted, and XLA counts no others.

    A step has no room to spare, so this counts on the output of a relu or leaky_relu where `census` counts on its
    input: NaN and infinity are non-finite in both, but minus infinity, which a relu turns into 0, counts here as not
    firing. The extremes of z are left out (NaN), and `since_fired` counts whole batches only: it is 0 for a
    unit that was active anywhere in the last one.

    Args:
        fn: function to count, as `census` takes it; the changes of an NNX module are kept, as in any call of it.
        sites: names of sites, or patterns with `*`; all sites if None.
        unit_axis: axis of the units in an activation's input, as `census` takes it.
        gradients: whether dL/dz of each sample is counted too (`grad_dead`, `grad_score`); `fn` is then a loss, as
            `census` takes it. This runs the backward pass of `fn` down to its first activation, whatever the caller
            differentiates.
        rare_below: share of samples; a unit that fires on fewer is rare.
        scan_rows: choice of the scans whose steps have rows of their own, as `census` takes it.
        sample_axes: names of mesh axes that hold samples, as `census` takes them.
        where: function from the arguments of `fn` to the bool array that is False for padding, as `census` takes it.

    Returns:
        A function of the arguments of `fn` that returns `(fn(*args), census)`.

    Raises:
        TypeError: `fn` or `where` is not callable, or `sites`, `rare_below` or `scan_rows` is of another type; from the
            returned function: `fn` does not trace, or with `gradients` its output is no loss.
        ValueError: `rare_below` is no share; from the returned function: `fn` has no activation, none that `sites`
            names, `unit_axis` is no axis of an input, or `where` does not fit the samples of a site.

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
    _check("value_and_census", fn, sites, rare_below, scan_rows, where)

    @functools.wraps(fn, assigned=("__module__", "__name__", "__qualname__"), updated=())
    def counted(*args: Any, **kwargs: Any) -> tuple[Any, Census]:
        traced = Traced("value_and_census", fn, args, kwargs, scan_rows=scan_rows, sample_axes=sample_axes)
        chosen = choose("value_and_census", traced, sites, unit_axis)
        kept = None if where is None else where(*args, **kwargs)
        out, records = run(traced, chosen, gradients=gradients, lean=True, where=kept)
        return out, Census(records, chosen.sites.opaque, rare_below)

    return counted


def _check(who: str, fn: Any, sites: Any, rare_below: Any, scan_rows: Any, where: Any) -> None:
    check_callable(who, fn)
    if not (sites is None or isinstance(sites, str | Iterable)):
        raise TypeError(f"{who}: sites must be a name, a pattern or several of these, got {sites!r}.")
    if not isinstance(rare_below, float | int | np.number):
        raise TypeError(f"{who}: rare_below={rare_below!r} is not a share: give a number from 0 to 1.")
    if not 0 <= rare_below <= 1:
        raise ValueError(f"{who}: rare_below={rare_below!r} is not a share: give a number from 0 to 1.")
    if not (scan_rows is None or isinstance(scan_rows, bool)):
        raise TypeError(f"{who}: scan_rows={scan_rows!r} is neither None, True nor False.")
    if where is not None and not callable(where):
        raise TypeError(
            f"{who}: where is of type {type(where).__name__}: give a function from the arguments of fn to the mask, "
            "such as lambda x, mask: mask."
        )
