"""DQN: games, replay, updates, counting and recycling in one compiled scan.

The scan is over periods of as many updates as lie between two counts. A period is a scan over cycles: at a replay ratio
of 1/4 a cycle is four frames and an update, at 4 a frame and four updates. The defaults are those of Obando-Ceron and
Castro's MinAtar networks: Adam at 2.5e-4 with epsilon 3.125e-4, Huber loss, discount 0.99, batch 32, learning after
1,000 frames, a new target network every 1,000 frames, exploration down to 0.01. Exploration falls over the first half
of the frames, as in CleanRL's dqn.py.

References:
    Mnih et al.: Human-level control through deep reinforcement learning, Nature 518, 2015.
    Obando-Ceron and Castro: Revisiting Rainbow, ICML 2021; github.com/JohanSamir/revisiting_rainbow, dqn_breakout.gin.
    Huang et al.: CleanRL, JMLR 23, 2022; github.com/vwxyzjn/cleanrl, dqn.py.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from experiments.reinforcement_learning.agent import Doctor, Learner, Network, Period, Run
from experiments.reinforcement_learning.games import Score, load, make

DISCOUNT = 0.99
LEAST_EXPLORATION = 0.01


class Setting(NamedTuple):
    """What all trainings of one compiled program share; see the flags of the experiment."""

    environment: str
    frames: int
    replay_ratio: float
    every: int
    hidden: tuple[int, ...]
    layer_norm: bool = False
    convolution: bool = False
    batch_size: int = 32
    probe: int = 512
    warm_up: int = 1000
    target_period: int = 1000
    replay: int = 100_000

    @property
    def cycle(self) -> tuple[int, int]:
        """Frames and updates of one cycle."""
        return max(1, round(1 / self.replay_ratio)), max(1, round(self.replay_ratio))

    @property
    def periods(self) -> int:
        """Number of counts."""
        return round(self.frames * self.replay_ratio) // self.every


class Transition(NamedTuple):
    """One frame; observations are kept as bool, a quarter of what float32 takes."""

    observation: Array
    action: Array
    reward: Array
    terminated: Array
    following: Array


class Samples(NamedTuple):
    """A batch of the replay with the values that it is trained towards, (batch,)."""

    observation: Array
    action: Array
    target: Array


class Life(NamedTuple):
    """The state of a training."""

    learner: Learner
    target_params: Any
    replay: Any
    env_state: Any
    observation: Array
    score: Score
    frame: Array
    update: Array


def huber(values: Array, samples: Samples) -> Array:
    """The mean Huber loss, (), of the taken actions' values; `values` is (batch, actions)."""
    taken = jnp.take_along_axis(values, samples.action[:, None], 1)[:, 0]
    return optax.huber_loss(taken, samples.target).mean()


def train(run: Run, _data: Any, setting: Setting) -> Period:
    """The whole life of one network, from its first weights to what was measured in each period."""
    buffers = load("flashbax")
    game = make(setting.environment)
    network = Network((game.actions,), setting.hidden, setting.layer_norm, setting.convolution)
    optimizer = optax.adam(2.5e-4, eps=3.125e-4)
    doctor = Doctor(network, optimizer, game.shape)
    capacity = min(setting.replay, setting.warm_up + setting.frames)
    replay, probes = (
        buffers.make_item_buffer(capacity, min(setting.warm_up, capacity), size)
        for size in (setting.batch_size, setting.probe)
    )
    frames, updates = setting.cycle
    slope = run.negative_slope
    start_key, env_key, play_key, update_key, fresh_key = jax.random.split(jax.random.key(run.seed), 5)

    def values(params: Any, observation: Array) -> Array:
        return network.apply(params, observation, slope)[0]

    def loss(params: Any, negative_slope: Array, samples: Samples) -> Array:
        return huber(network.apply(params, samples.observation, negative_slope)[0], samples)

    def play(life: Life, _: None) -> tuple[Life, None]:
        """One frame."""
        choose_key, explore_key, step_key = jax.random.split(jax.random.fold_in(play_key, life.frame), 3)
        learned = life.frame - setting.warm_up
        chance = jnp.clip(1 - learned / (setting.frames / 2), LEAST_EXPLORATION, 1)
        action = jnp.where(
            jax.random.uniform(choose_key) < chance,
            jax.random.randint(explore_key, (), 0, game.actions),
            values(life.learner.params, life.observation[None])[0].argmax(),
        )
        following, env_state, reward, terminated, truncated, info = game.env.step(
            step_key, life.env_state, action, game.params
        )
        # Of an episode that ends, `following` is the first observation of the next one.
        item = Transition(life.observation, action, reward, terminated, info["final_observation"])
        item = item._replace(observation=item.observation > 0, following=item.following > 0)
        return life._replace(
            replay=replay.add(life.replay, item),
            env_state=env_state,
            observation=following,
            score=life.score.after(reward, terminated | truncated),
            frame=life.frame + 1,
        ), None

    def sample(buffer: Any, life: Life, key: Array) -> Samples:
        batch = buffer.sample(life.replay, key).experience
        best = values(life.target_params, batch.following).max(1)
        return Samples(
            batch.observation, batch.action, batch.reward + DISCOUNT * jnp.where(batch.terminated, 0.0, best)
        )

    def update(life: Life, learner: Learner, number: Array) -> tuple[Learner, Array]:
        samples = sample(replay, life, jax.random.fold_in(update_key, number))
        params, state = learner
        value, gradient = jax.value_and_grad(loss)(params, slope, samples)
        changes, state = optimizer.update(gradient, state)
        return Learner(optax.apply_updates(params, changes), state), value

    def cycle(life: Life, _: None) -> tuple[Life, Array]:
        life, _ = lax.scan(play, life, None, frames)
        # The replay is not carried here, but read only: as a carry it would be copied.
        learner, losses = lax.scan(
            functools.partial(update, life), life.learner, life.update + jnp.arange(updates)
        )
        is_due = (life.frame - setting.warm_up) % setting.target_period < frames
        target = lax.cond(is_due, lambda: learner.params, lambda: life.target_params)
        life = life._replace(learner=learner, target_params=target, update=life.update + updates)
        return life, losses.mean()

    def learn(life: Life) -> tuple[Life, Array]:
        life, losses = lax.scan(cycle, life, None, setting.every // updates)
        return life, losses.mean()

    def period(life: Life, number: Array) -> tuple[Life, Period]:
        """The time up to a count; before the first one nothing is learned."""
        before, trained = life.score, number > 0
        life, value = lax.cond(trained, learn, lambda life: (life, jnp.float32(0)), life)
        key = jax.random.fold_in(fresh_key, life.update)
        samples = sample(probes, life, key)
        learner, measures = doctor.examine(run, life.learner, loss, samples, key, cure=trained)
        score = life.score.since(before)
        found = Period(
            life.frame - setting.warm_up, life.update, score.total, score.episodes, value, measures
        )
        return life._replace(learner=learner), found

    learner = doctor.begin(start_key)
    observation, env_state = game.env.reset(env_key, game.params)
    empty = jnp.zeros(game.shape, bool)
    item = Transition(empty, jnp.int32(0), jnp.float32(0), jnp.bool_(False), empty)
    life = Life(
        learner,
        learner.params,
        replay.init(item),
        env_state,
        observation,
        Score.zero(),
        jnp.int32(0),
        jnp.int32(0),
    )
    life, _ = lax.scan(play, life, None, setting.warm_up)
    return lax.scan(period, life, jnp.arange(setting.periods + 1))[1]
