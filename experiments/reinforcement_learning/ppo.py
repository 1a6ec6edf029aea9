"""PPO: games, updates, counting and recycling in one compiled scan.

Every default is that of PureJaxRL's example for MinAtar: 64 games of 128 frames each an iteration, 4 epochs of 8
minibatches, Adam at 0.005 falling to 0 with epsilon 1e-5, gradients clipped to norm 0.5, discount 0.99, lambda 0.95,
clipping at 0.2 of the ratios and of the values, entropy 0.01, value loss 0.5, orthogonal kernels. Actor and critic
share their hidden layers, as in CleanRL's ppo_atari.py.

References:
    Schulman, Wolski, Dhariwal, Radford and Klimov: Proximal policy optimization algorithms, arXiv 1707.06347.
    Lu et al.: Discovered policy optimisation, NeurIPS 2022; github.com/luchris429/purejaxrl, brax_minatar.ipynb.
    Huang et al.: CleanRL, JMLR 23, 2022; github.com/vwxyzjn/cleanrl, ppo_atari.py.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from experiments.reinforcement_learning.agent import Doctor, Learner, Network, Period, Run
from experiments.reinforcement_learning.games import Score, make

DISCOUNT, LAMBDA, CLIP = 0.99, 0.95, 0.2
EPOCHS, MINIBATCHES = 4, 8


class Setting(NamedTuple):
    """What all trainings of one compiled program share; see the flags of the experiment."""

    environment: str
    frames: int
    every: int
    hidden: tuple[int, ...]
    layer_norm: bool = False
    convolution: bool = False
    games: int = 64
    steps: int = 128
    probe: int = 512

    @property
    def iterations(self) -> int:
        """Number of rollouts."""
        return self.frames // (self.games * self.steps)


class Samples(NamedTuple):
    """Frames that were played, (batch, ...), with what they are trained towards."""

    observation: Array
    action: Array
    log_probability: Array
    value: Array
    advantage: Array
    target: Array


class Life(NamedTuple):
    """The state of a training."""

    learner: Learner
    env_state: Any
    observation: Array
    score: Score
    iteration: Array


def advantages(reward: Array, value: Array, done: Array, last: Array) -> Array:
    """Generalised advantage estimates, (steps, games).

    Args:
        reward: rewards, (steps, games).
        value: values of the observations before each frame, (steps, games).
        done: whether an episode ended with the frame, (steps, games).
        last: values of the observations after the last frame, (games,).

    References:
        Schulman et al.: High-dimensional continuous control using generalized advantage estimation, ICLR 2016.
    """

    def step(
        carry: tuple[Array, Array], frame: tuple[Array, Array, Array]
    ) -> tuple[tuple[Array, Array], Array]:
        later, following = carry
        reward, value, done = frame
        error = reward + DISCOUNT * following * (1 - done) - value
        estimate = error + DISCOUNT * LAMBDA * (1 - done) * later
        return (estimate, value), estimate

    return lax.scan(step, (jnp.zeros_like(last), last), (reward, value, done), reverse=True)[1]


def objective(logits: Array, value: Array, samples: Samples) -> Array:
    """PPO's clipped loss, (); logits: (batch, actions), value: (batch,)."""
    every = jax.nn.log_softmax(logits)
    taken = jnp.take_along_axis(every, samples.action[:, None], 1)[:, 0]
    ratio = jnp.exp(taken - samples.log_probability)
    gain = (samples.advantage - samples.advantage.mean()) / (samples.advantage.std() + 1e-8)
    policy = -jnp.minimum(ratio * gain, jnp.clip(ratio, 1 - CLIP, 1 + CLIP) * gain).mean()
    clipped = samples.value + jnp.clip(value - samples.value, -CLIP, CLIP)
    errors = jnp.maximum(jnp.square(value - samples.target), jnp.square(clipped - samples.target))
    entropy = -(jnp.exp(every) * every).sum(1).mean()
    return policy + 0.5 * 0.5 * errors.mean() - 0.01 * entropy


def optimizer_of(updates: int) -> optax.GradientTransformation:
    """Adam whose learning rate falls to 0 over so many updates, once an iteration."""
    iteration, iterations = EPOCHS * MINIBATCHES, updates // (EPOCHS * MINIBATCHES)

    def rate(count: Any) -> Any:
        return 5e-3 * (1 - (count // iteration) / iterations)

    return optax.chain(optax.clip_by_global_norm(0.5), optax.adam(rate, eps=1e-5))


def train(run: Run, _data: Any, setting: Setting) -> Period:
    """The whole life of one network, from its first weights to what was measured in each period."""
    game = make(setting.environment)
    network: Any = Network(
        (game.actions, 1), setting.hidden, setting.layer_norm, setting.convolution, (math.sqrt(2), 0.01, 1.0)
    )
    optimizer = optimizer_of(setting.iterations * EPOCHS * MINIBATCHES)
    doctor = Doctor(network, optimizer, game.shape)
    slope = run.negative_slope
    batch_size = setting.games * setting.steps
    start_key, env_key, play_key, update_key, fresh_key = jax.random.split(jax.random.key(run.seed), 5)
    reset = jax.vmap(game.env.reset, in_axes=(0, None))
    step = jax.vmap(game.env.step, in_axes=(0, 0, 0, None))

    def loss(params: Any, negative_slope: Array, samples: Samples) -> Array:
        logits, value = network.apply(params, samples.observation, negative_slope)
        return objective(logits, value[:, 0], samples)

    def play(life: Life, key: Array) -> tuple[Life, tuple[Any, ...]]:
        """One frame of every game."""
        act_key, step_key = jax.random.split(key)
        logits, value = network.apply(life.learner.params, life.observation, slope)
        action = jax.random.categorical(act_key, logits)
        taken = jnp.take_along_axis(jax.nn.log_softmax(logits), action[:, None], 1)[:, 0]
        following, env_state, reward, terminated, truncated, _ = step(
            jax.random.split(step_key, setting.games), life.env_state, action, game.params
        )
        done = terminated | truncated
        frame = (life.observation > 0, action, taken, value[:, 0], reward, done)
        score = life.score.after(reward, done)
        return life._replace(env_state=env_state, observation=following, score=score), frame

    def rollout(life: Life) -> tuple[Life, Samples]:
        """Frames of every game, (steps * games, ...)."""
        keys = jax.random.split(jax.random.fold_in(play_key, life.iteration), setting.steps)
        life, (observation, action, taken, value, reward, done) = lax.scan(play, life, keys)
        _, last = network.apply(life.learner.params, life.observation, slope)
        gains = advantages(reward, value, done, last[:, 0])
        samples = Samples(observation, action, taken, value, gains, gains + value)
        return life, jax.tree.map(lambda one: one.reshape(batch_size, *one.shape[2:]), samples)

    def update(learner: Learner, samples: Samples) -> tuple[Learner, Array]:
        params, state = learner
        value, gradient = jax.value_and_grad(loss)(params, slope, samples)
        changes, state = optimizer.update(gradient, state)
        return Learner(optax.apply_updates(params, changes), state), value

    def some(samples: Samples, key: Array) -> Samples:
        rows = jax.random.choice(key, batch_size, (min(setting.probe, batch_size),), replace=False)
        return jax.tree.map(lambda x: x[rows], samples)

    def iteration(carry: tuple[Life, Samples], _: None) -> tuple[tuple[Life, Samples], Array]:
        life, samples = rollout(carry[0])

        def epoch(learner: Learner, key: Array) -> tuple[Learner, Array]:
            order = jax.random.permutation(key, batch_size).reshape(MINIBATCHES, -1)
            return lax.scan(
                lambda one, rows: update(one, jax.tree.map(lambda x: x[rows], samples)), learner, order
            )

        keys = jax.random.split(jax.random.fold_in(update_key, life.iteration), EPOCHS)
        learner, losses = lax.scan(epoch, life.learner, keys)
        return (
            life._replace(learner=learner, iteration=life.iteration + 1),
            some(samples, keys[0]),
        ), losses.mean()

    def learn(carry: tuple[Life, Samples]) -> tuple[tuple[Life, Samples], Array]:
        carry, losses = lax.scan(iteration, carry, None, setting.every)
        return carry, losses.mean()

    def period(carry: tuple[Life, Samples], number: Array) -> tuple[tuple[Life, Samples], Period]:
        """The time up to a count; before the first one nothing is learned."""
        before, trained = carry[0].score, number > 0
        (life, probe), value = lax.cond(trained, learn, lambda carry: (carry, jnp.float32(0)), carry)
        key = jax.random.fold_in(fresh_key, life.iteration)
        learner, measures = doctor.examine(run, life.learner, loss, probe, key, cure=trained)
        score = life.score.since(before)
        frame, update = life.iteration * batch_size, life.iteration * EPOCHS * MINIBATCHES
        found = Period(frame, update, score.total, score.episodes, value, measures)
        return (life._replace(learner=learner), probe), found

    observation, env_state = reset(jax.random.split(env_key, setting.games), game.params)
    score = Score.zero((setting.games,))
    life = Life(doctor.begin(start_key), env_state, observation, score, jnp.int32(0))
    # The first count is on frames that nothing is learned from; iteration -1 plays them with keys of their own.
    _, samples = rollout(life._replace(iteration=jnp.int32(-1)))
    first = life, some(samples, fresh_key)
    return lax.scan(period, first, jnp.arange(setting.iterations // setting.every + 1))[1]
