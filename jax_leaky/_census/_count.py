"""`value_and_census`: the counts of one call, inside a training step."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jax_leaky._census import _gradient, _visit
from jax_leaky._census._result import Census
from jax_leaky._tracing import Traced


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
        fn: as for `census`; the changes of an NNX module are kept, as in any call of it.
        sites: names of sites, or patterns with `*`; all sites if None.
        unit_axis: as for `census`.
        gradients: whether dL/dz of each sample is counted too (`grad_dead`, `grad_score`); `fn` is then a loss. It
            returns a scalar, an array with a value for each sample, or either in a tuple `(loss, auxiliary)`: a sum
            or mean over samples that do not meet each other. This runs the backward pass of `fn` down to its
            first activation, whatever the caller differentiates.
        rare_below: a unit is rare that fires on less than this share of samples.
        scan_rows: as for `census`.
        sample_axes: as for `census`.

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
        ['MLP/relu/act_freq', 'MLP/relu/never_active', 'MLP/relu/always_active']

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
        chosen = _visit.choose("value_and_census", traced, sites, unit_axis)
        run = _gradient.run if gradients else _visit.run
        out, records = run(traced, chosen, lean=True)
        return out, Census(records, chosen.sites.opaque, rare_below)

    return counted
