"""The life of one network over tasks without an end: the same images, their pixels in a new order for each task.

References:
    Dohare et al.: Loss of plasticity in deep continual learning, Nature 632, 2024.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from jax.typing import ArrayLike

from experiments.lab import batches
from experiments.lab.initialisations import initial_params
from experiments.lab.redo import Params, restart
from jax_leaky import leaky_relu, units


class Row(NamedTuple):
    """One network.

    Attributes:
        negative_slope: of its activation.
        gain_slope: that its first weights are made for.
        tau: up to which dormant score a unit begins anew after a task; negative for never.
        seed: of weights, tasks and batches.
    """

    negative_slope: np.float32
    gain_slope: np.float32
    tau: np.float32
    seed: np.uint32


class Setting(NamedTuple):
    """What all networks share.

    Attributes:
        hidden: the widths of the hidden layers.
        tasks: random orders of the pixels, one after the other.
        every: how many tasks one record takes together; divides `tasks`.
        images: of each task.
        batch_size: images per step.
        step_size: of stochastic gradient descent without momentum.
        probe: images of the task on which units are counted.
    """

    hidden: tuple[int, ...]
    tasks: int
    every: int
    images: int
    batch_size: int
    step_size: float
    probe: int


class Record(NamedTuple):
    """One task; several, along the first axis, or taken together: the mean of shares, the sum of counts.

    Attributes:
        online_accuracy: of the predictions before each update.
        always_negative: the share of hidden units at the task's end.
        silent: always-negative units at the task's start, on its inputs.
        revived: how many of those are so no more at its end.
        died: units that are so at its end alone.
        restarted: units that ReDo began anew.
        effective_rank: of the last hidden layer's activations at the task's end.
    """

    online_accuracy: Array
    always_negative: Array
    silent: Array
    revived: Array
    died: Array
    restarted: Array
    effective_rank: Array


def forward(params: Params, x: Array, negative_slope: ArrayLike) -> tuple[Array, list[Array]]:
    """The logits and each hidden layer's pre-activations."""
    seen: list[Array] = []
    for place in range(len(params)):
        z = x @ params[f"Dense_{place}"]["kernel"] + params[f"Dense_{place}"]["bias"]
        seen.append(z)
        x = leaky_relu(z, negative_slope)
    return seen[-1], seen[:-1]


def look(params: Params, probe: Array, negative_slope: ArrayLike) -> tuple[list[Array], list[Array], Array]:
    """Per hidden layer which units are always negative and their dormant scores; the last one's effective rank."""
    _, seen = forward(params, probe, negative_slope)
    summaries = [
        units.summarize(
            units.update(units.init(z.shape[1]), z, negative_slope=negative_slope),
            negative_slope=negative_slope,
        )
        for z in seen
    ]
    masks = [summary.per_unit["always_negative"] for summary in summaries]
    scores = [summary.per_unit["dormant_score"] for summary in summaries]
    return masks, scores, units.effective_rank(leaky_relu(seen[-1], negative_slope))


def live(row: Row, images: batches.Images, *, setting: Setting) -> Record:
    """One network's whole life: a record for every `setting.every` tasks, along the first axis."""
    slope = row.negative_slope
    everything, labels = images.train_images[: setting.images], images.train_labels[: setting.images]
    widths = (everything.shape[1], *setting.hidden, 10)
    start_key, tasks_key = jax.random.split(jax.random.key(row.seed))
    steps = len(everything) // setting.batch_size

    def loss(params: Params, x: Array, y: Array) -> tuple[Array, Array]:
        logits, _ = forward(params, x, slope)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), logits

    def step(params: Params, batch: tuple[Array, Array]) -> tuple[Params, Array]:
        x, y = images.standardize(batch[0]), batch[1]
        gradient, logits = jax.grad(loss, has_aux=True)(params, x, y)
        after = jax.tree.map(lambda value, change: value - setting.step_size * change, params, gradient)
        return after, (logits.argmax(-1) == y).mean()

    def task(params: Params, key: Array) -> tuple[Params, Record]:
        pixels_key, order_key, fresh_key = jax.random.split(key, 3)
        pixels = jax.random.permutation(pixels_key, everything.shape[1])
        order = jax.random.permutation(order_key, len(everything))[: steps * setting.batch_size]
        # Rows are copied whole, and all batches of the task laid out before: picking single numbers in every step takes
        # longer than the training.
        ordered = jnp.asarray(everything)[order].T[pixels].T.reshape(steps, setting.batch_size, -1)
        probe = images.standardize(jnp.asarray(everything)[: setting.probe].T[pixels].T)

        before, _, _ = look(params, probe, slope)
        params, correct = lax.scan(step, params, (ordered, jnp.asarray(labels)[order].reshape(steps, -1)))
        after, scores, rank = look(params, probe, slope)
        changes = [units.transitions(*layer) for layer in zip(before, after, strict=True)]
        dormant = [score <= row.tau for score in scores]
        record = Record(
            online_accuracy=correct.mean(),
            always_negative=jnp.concatenate(after).mean(),
            silent=jnp.concatenate(before).sum(),
            revived=jnp.stack([change.revived for change in changes]).sum(),
            died=jnp.stack([change.died for change in changes]).sum(),
            restarted=jnp.concatenate(dormant).sum().astype(jnp.float32),
            effective_rank=rank,
        )
        return restart(params, initial_params("he", fresh_key, widths, slope), dormant), record

    def some_tasks(params: Params, keys: Array) -> tuple[Params, Record]:
        params, records = lax.scan(task, params, keys)
        means = jax.tree.map(lambda values: values.mean(), records)
        sums = jax.tree.map(lambda values: values.sum(), records)
        return params, means._replace(
            silent=sums.silent, revived=sums.revived, died=sums.died, restarted=sums.restarted
        )

    params = initial_params("leaky_he", start_key, widths, row.gain_slope)
    keys = jax.random.split(tasks_key, setting.tasks).reshape(-1, setting.every)
    return lax.scan(some_tasks, params, keys)[1]
