"""Training of one network on a sequence of tasks, with a remedy around its optimiser; for `experiments.lab.run.loop`.

A task is the same images with their pixels in a new order, or with their labels exchanged among them. A step of the
loop is a few tasks, and nothing tells a remedy where a task ends.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from jax.typing import ArrayLike

from experiments.lab.data import batches
from experiments.remedies.network import Network
from jax_leaky import Wiring, leaky_relu, observe, remedies, units, value_and_census, wiring


class Run(NamedTuple):
    """One network.

    Attributes:
        negative_slope: slope of the activation, (); unused by PReLU and CReLU.
        seed: seed of weights, tasks and batches, ().
    """

    negative_slope: np.float32
    seed: np.uint32


class Problem(NamedTuple):
    """What is learned, and by which optimiser.

    Attributes:
        shuffled: what a new task brings: another order of the pixels, or labels exchanged among the images.
        channels: number of channels of each convolution.
        hidden: number of units of each dense layer.
        optimizer: name of the optimiser, sgd or adam.
        learning_rate: learning rate of the optimiser.
        images: number of images.
        epochs: number of times that a task's images are seen.
        tasks: number of tasks.
        every: number of tasks that one record combines; a divisor of `tasks`.
        batch_size: number of images in a step.
    """

    shuffled: Literal["pixels", "labels"]
    channels: tuple[int, ...]
    hidden: tuple[int, ...]
    optimizer: str
    learning_rate: float
    images: int
    epochs: int
    tasks: int
    every: int
    batch_size: int

    @property
    def steps(self) -> int:
        """Number of updates in a task."""
        return self.epochs * (self.images // self.batch_size)


class Record(NamedTuple):
    """A few tasks.

    Attributes:
        accuracy: share of correct predictions before each update, ().
        never_active: share of the units that are never active on the last task's images at its end, ().
        effective_rank: effective rank of what the last layer reads, there, ().
        begun_anew: number of units that the remedy has reset, ().
    """

    accuracy: Array
    never_active: Array
    effective_rank: Array
    begun_anew: Array


class State(NamedTuple):
    """A network in training.

    Attributes:
        params: weights of the network, a pytree.
        optimizer: state of the optimiser and its remedy, a pytree.
        number: number of records made, ().
        record: last record; zeros before the first.
    """

    params: Any
    optimizer: Any
    number: Array
    record: Record


class Life:
    """The functions of one arm for `Loop`.

    Args:
        network: network that is trained.
        problem: what it learns.
        remedy: function (this, key) -> the optimiser with the remedy.
        side: height and width of the images.
        wired: network that the remedy's wiring is found for.
    """

    def __init__(
        self,
        network: Network,
        problem: Problem,
        remedy: Callable[[Life, Array], optax.GradientTransformation],
        side: int,
        wired: Network | None = None,
    ) -> None:
        self.network, self.problem, self.side = network, problem, side
        self._remedy, self._wired = remedy, wired or network

    def initialize(self, key: Array) -> Any:
        """New parameters."""
        return self.network.init(key, jnp.zeros((1, self.side, self.side, 1)), 0.0)["params"]

    @functools.cached_property
    def wires(self) -> Wiring:
        """The wiring of the network."""
        x = jax.ShapeDtypeStruct((2, self.side, self.side, 1), np.float32)
        params = jax.eval_shape(self.initialize, jax.random.key(0))
        return wiring(lambda *given: self._wired.apply({"params": given[0]}, *given[1:])[0], params, x, 0.0)

    def optimizer(self, run: Run) -> optax.GradientTransformationExtraArgs:
        """The optimiser with the remedy."""
        key = jax.random.fold_in(jax.random.key(run.seed), 1)
        return optax.with_extra_args_support(self._remedy(self, key))

    def begin(self, run: Run, images: batches.Images) -> State:  # noqa: ARG002 - what the engine gives
        """The initial weights, and an empty record."""
        params = self.initialize(jax.random.key(run.seed))
        none = jnp.float32(0)
        return State(params, self.optimizer(run).init(params), jnp.int32(0), Record(none, none, none, none))

    def loss(self, params: Any, x: Array, y: Array, negative_slope: ArrayLike) -> tuple[Array, Array]:
        """The mean cross-entropy, and the share of correct predictions."""
        logits, _ = self.network.apply({"params": params}, x, negative_slope)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()
        return loss, (logits.argmax(-1) == y).mean()

    def update(self, run: Run, params: Any, state: Any, x: Array, y: Array) -> tuple[Any, Any, Array]:
        """One update: new parameters, new state, and the share of correct predictions before it."""

        def observed(params: Any) -> tuple[Array, tuple[Array, Any]]:
            seen = observe(self.loss, lambda _, z: leaky_relu(z, run.negative_slope))
            (loss, correct), outputs = seen(params, x, y, run.negative_slope)
            return loss, (correct, outputs)

        gradient, (correct, outputs) = jax.grad(observed, has_aux=True)(params)
        updates, state = self.optimizer(run).update(gradient, state, params, outputs=outputs)
        return optax.apply_updates(params, updates), state, correct

    def step(self, run: Run, state: State, images: batches.Images) -> State:
        """The next `every` tasks."""
        problem = self.problem
        pictures = images.standardize(images.train_images[: problem.images])
        labels = jnp.asarray(images.train_labels[: problem.images])

        def of_task(key: Array) -> tuple[Array, Array]:
            if problem.shuffled == "labels":
                return pictures, jax.random.permutation(key, labels)
            return pictures[:, jax.random.permutation(key, pictures.shape[1])], labels

        def task(carry: tuple[Any, Any], key: Array) -> tuple[tuple[Any, Any], tuple[Array, Array]]:
            task_key, order_key = jax.random.split(key)
            x, y = of_task(task_key)
            order = batches.shuffled_epochs(order_key, len(x), problem.steps, problem.batch_size)

            def one(carry: tuple[Any, Any], chosen: Array) -> tuple[tuple[Any, Any], tuple[Array, Array]]:
                params, optimizer, correct = self.update(
                    run, *carry, x[chosen].reshape(-1, self.side, self.side, 1), y[chosen]
                )
                return (params, optimizer), (correct, _begun_anew(optimizer))

            carry, (correct, begun_anew) = lax.scan(one, carry, order)
            return carry, (correct.mean(), begun_anew.sum())

        tasks_key = jax.random.fold_in(jax.random.key(run.seed), 2)
        keys = jax.random.split(tasks_key, problem.tasks).reshape(-1, problem.every)[state.number]
        (params, optimizer), (correct, begun_anew) = lax.scan(task, (state.params, state.optimizer), keys)
        x, _ = of_task(jax.random.split(keys[-1])[0])
        (_, features), census = value_and_census(self.network.apply)(
            {"params": params}, x.reshape(-1, self.side, self.side, 1), run.negative_slope
        )
        never_active = jnp.concatenate([site.summary.per_unit["never_active"] for site in census])
        record = Record(correct.mean(), never_active.mean(), units.effective_rank(features), begun_anew.sum())
        return State(params, optimizer, state.number + 1, record)

    @staticmethod
    def evaluate(run: Run, state: State, images: batches.Images) -> Record:  # noqa: ARG004 - what the engine gives
        """The last record."""
        return state.record


def _begun_anew(optimizer: Any) -> Array:
    """The number of units that the last update has reset."""
    masks = optimizer.reset.values() if isinstance(optimizer, remedies.ResetState) else ()
    return jnp.float32(sum((mask.sum() for mask in masks), start=jnp.int32(0)))
