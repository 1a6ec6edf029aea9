"""Training of one network on a sequence of tasks: the same images, their pixels in a new order for each task.

The functions are for `experiments.lab.run.loop`: a step is a few tasks, so that training of hours is not a single call
of XLA, which Ctrl-C cannot interrupt. A ReLU unit that is active on none of a task's images receives no gradient from
any of them and cannot move its incoming weights. Whether such a unit is revived is counted per layer, because the
layers below it may move its inputs; nothing is below the first hidden layer, whose inputs stay as they are within a
task.

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

from experiments.lab.data import batches
from experiments.lab.nets.initialisations import initial_params
from experiments.plasticity.redo import Params, restart
from jax_leaky import leaky_relu, units

# At most: the singular values of 60,000 x 2,000 activations would take longer than the task.
_RANK_IMAGES = 2000


class Run(NamedTuple):
    """One network.

    Attributes:
        negative_slope: slope of the activation, ().
        gain_slope: slope that the scale of the initial weights is computed for, ().
        tau: dormant score up to which a unit is reset after a task, (); negative for never.
        seed: seed of weights, tasks and batches, ().
    """

    negative_slope: np.float32
    gain_slope: np.float32
    tau: np.float32
    seed: np.uint32


class Setting(NamedTuple):
    """Settings that all networks share.

    Attributes:
        hidden: widths of the hidden layers.
        tasks: number of tasks, each a random order of the pixels.
        every: number of tasks that one record combines; a divisor of `tasks`.
        images: number of images in each task.
        batch_size: number of images in a step.
        step_size: learning rate of stochastic gradient descent without momentum.
        probe: number of the task's first images on which units are counted.
    """

    hidden: tuple[int, ...]
    tasks: int
    every: int
    images: int
    batch_size: int
    step_size: float
    probe: int


class Shares(NamedTuple):
    """Measures of one task, or their means over several.

    Attributes:
        online_accuracy: share of correct predictions before each update, ().
        never_active: share of hidden units that are never active at the task's end, ().
        effective_rank: effective rank of the last hidden layer's activations at the task's end, ().
    """

    online_accuracy: Array
    never_active: Array
    effective_rank: Array


class Counts(NamedTuple):
    """Units of each hidden layer, (layers,), in one task, or the sums over several.

    Attributes:
        never_active_at_start: number of units that are never active on the task's inputs at its start.
        revived: number of those that are active on some input at its end.
        died: number of units that are never active at its end alone.
        from_below: number of the revived that are active with the incoming weights of the start on what the layers
            below give at the end; in the first hidden layer there can be none.
        by_itself: number of the revived that are active with the incoming weights of the end on what the layers below
            gave at the start; in the first hidden layer it is all of them.
        unmoved: number of units never active at the start whose incoming weights and bias at the end are those of
            the start, to the bit.
    """

    never_active_at_start: Array
    revived: Array
    died: Array
    from_below: Array
    by_itself: Array
    unmoved: Array


class Record(NamedTuple):
    """One task, or several taken together.

    Attributes:
        shares: measures over all hidden layers.
        counts: numbers of units in each hidden layer.
        restarted: number of units that ReDo reset after the task, (); the sum over several.
    """

    shares: Shares
    counts: Counts
    restarted: Array


class State(NamedTuple):
    """A network in training.

    Attributes:
        params: weights of the network.
        number: number of records made, ().
        record: last record; zeros before the first.
    """

    params: Params
    number: Array
    record: Record


def forward(params: Params, x: Array, negative_slope: ArrayLike) -> tuple[Array, list[Array]]:
    """The logits and each hidden layer's pre-activations."""
    seen: list[Array] = []
    for place in range(len(params)):
        seen.append(_affine(params[f"Dense_{place}"], x))
        x = leaky_relu(seen[-1], negative_slope)
    return seen[-1], seen[:-1]


def count(z: Array, negative_slope: ArrayLike) -> tuple[Array, Array]:
    """Which units of z: (images, units) are never active, as 1, 0 or NaN, and their dormant scores."""
    counts = units.update(units.init(z.shape[1]), z, negative_slope=negative_slope)
    per_unit = units.summarize(counts).per_unit
    return per_unit["never_active"], per_unit["dormant_score"]


def compare(before: Params, after: Params, probe: Array, negative_slope: ArrayLike) -> Counts:
    """How the hidden units have changed between two times, by layer."""
    layers = []
    lower_before = lower_after = probe
    for place in range(len(before) - 1):
        old, new = before[f"Dense_{place}"], after[f"Dense_{place}"]
        z_before, z_after = _affine(old, lower_before), _affine(new, lower_after)
        was, now, below_alone, itself_alone = (
            count(z, negative_slope)[0]
            for z in (z_before, z_after, _affine(old, lower_after), _affine(new, lower_before))
        )
        same = (old["kernel"] == new["kernel"]).all(0) & (old["bias"] == new["bias"])
        change, revived = units.transitions(was, now), was * (1 - now)
        layers.append(
            Counts(
                never_active_at_start=was.sum(),
                revived=change.revived,
                died=change.died,
                from_below=(revived * (1 - below_alone)).sum(),
                by_itself=(revived * (1 - itself_alone)).sum(),
                unmoved=(was * same).sum(),
            )
        )
        lower_before, lower_after = (leaky_relu(z, negative_slope) for z in (z_before, z_after))
    return jax.tree.map(lambda *values: jnp.stack(values), *layers)


def initialise(run: Run, images: batches.Images, *, setting: Setting) -> State:
    """The initial weights, and an empty record."""
    key, _ = jax.random.split(jax.random.key(run.seed))
    none, by_layer = jnp.float32(0), jnp.zeros(len(setting.hidden))
    record = Record(Shares(none, none, none), Counts(*[by_layer] * len(Counts._fields)), none)
    return State(
        initial_params("leaky_he", key, _widths(images, setting), run.gain_slope), jnp.int32(0), record
    )


def step(run: Run, state: State, images: batches.Images, *, setting: Setting) -> State:
    """The next `setting.every` tasks."""
    slope = run.negative_slope
    everything, labels = images.train_images[: setting.images], images.train_labels[: setting.images]
    steps = len(everything) // setting.batch_size

    def loss(params: Params, x: Array, y: Array) -> tuple[Array, Array]:
        logits, _ = forward(params, x, slope)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), logits

    def update(params: Params, batch: tuple[Array, Array]) -> tuple[Params, Array]:
        x, y = images.standardize(batch[0]), batch[1]
        gradient, logits = jax.grad(loss, has_aux=True)(params, x, y)
        after = jax.tree.map(lambda value, change: value - setting.step_size * change, params, gradient)
        return after, (logits.argmax(-1) == y).mean()

    def task(before: Params, key: Array) -> tuple[Params, Record]:
        pixels_key, order_key, fresh_key = jax.random.split(key, 3)
        pixels = jax.random.permutation(pixels_key, everything.shape[1])
        order = jax.random.permutation(order_key, len(everything))[: steps * setting.batch_size]
        # Rows are copied whole, and all batches of the task laid out before: picking single numbers in every step takes
        # longer than the training.
        ordered = jnp.asarray(everything)[order].T[pixels].T.reshape(steps, setting.batch_size, -1)
        probe = images.standardize(jnp.asarray(everything)[: setting.probe].T[pixels].T)

        after, correct = lax.scan(update, before, (ordered, jnp.asarray(labels)[order].reshape(steps, -1)))
        _, seen = forward(after, probe, slope)
        never_active, scores = zip(*(count(z, slope) for z in seen), strict=True)
        dormant = [score <= run.tau for score in scores]
        shares = Shares(
            correct.mean(),
            jnp.concatenate(never_active).mean(),
            units.effective_rank(leaky_relu(seen[-1][:_RANK_IMAGES], slope)),
        )
        restarted = jnp.concatenate(dormant).sum().astype(jnp.float32)
        record = Record(shares, compare(before, after, probe, slope), restarted)
        fresh = initial_params("he", fresh_key, _widths(images, setting), slope)
        return restart(after, fresh, dormant), record

    _, tasks_key = jax.random.split(jax.random.key(run.seed))
    keys = jax.random.split(tasks_key, setting.tasks).reshape(-1, setting.every)
    params, records = lax.scan(task, state.params, keys[state.number])
    record = Record(
        jax.tree.map(lambda values: values.mean(0), records.shares),
        jax.tree.map(lambda values: values.sum(0), records.counts),
        records.restarted.sum(),
    )
    return State(params, state.number + 1, record)


def evaluate(run: Run, state: State, images: batches.Images) -> Record:  # noqa: ARG001 - what the engine gives
    """The last record."""
    return state.record


def _affine(layer: dict[str, Array], x: Array) -> Array:
    return x @ layer["kernel"] + layer["bias"]


def _widths(images: batches.Images, setting: Setting) -> tuple[int, ...]:
    return (images.train_images.shape[1], *setting.hidden, 10)
