"""MinAtar's games through gymnax, and what is kept of the episodes that are played.

References:
    Young and Tian: MinAtar, an Atari-inspired testbed for thorough and reproducible reinforcement learning
        experiments, arXiv 1903.03176.
    Lange: gymnax, a JAX-based reinforcement learning environment library, 2022.
"""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from experiments.lab.run.errors import LabError

GAMES = {
    "breakout": "Breakout-MinAtar",
    "space_invaders": "SpaceInvaders-MinAtar",
    "freeway": "Freeway-MinAtar",
}


class Game(NamedTuple):
    """One environment.

    Attributes:
        env: environment as gymnax makes it; it starts the next episode by itself.
        params: settings of the environment, which are its own.
        shape: shape of an observation, (10, 10, channels), of zeros and ones.
        actions: number of actions.
    """

    env: Any
    params: Any
    shape: tuple[int, ...]
    actions: int


def make(name: str) -> Game:
    """The environment of a name in `GAMES`.

    Raises:
        LabError: gymnax or what it imports is missing, or it has no such environment.
    """
    gymnax = load("gymnax")
    if name not in GAMES:
        raise LabError(f"--environments holds {name}: give {', '.join(GAMES)}.")
    env, params = gymnax.make(GAMES[name])
    return Game(env, params, env.observation_space(params).shape, env.num_actions)


def load(package: str) -> Any:
    """A package of the extra `reinforcement-learning`.

    Raises:
        LabError: it, or what it imports, is missing.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise LabError(
            f"{error.name} is missing, which this experiment plays with: "
            "pip install -e '.[reinforcement-learning]' in the folder of the clone."
        ) from None


class Score(NamedTuple):
    """The rewards of the episodes so far.

    Attributes:
        running: (...), sum of the rewards of each episode that is being played.
        total: (), sum of the returns of the episodes that ended.
        episodes: (), number of these.
    """

    running: Array
    total: Array
    episodes: Array

    @classmethod
    def zero(cls, shape: tuple[int, ...] = ()) -> Score:
        """Before the first frame of environments of this shape."""
        return cls(jnp.zeros(shape), jnp.float32(0), jnp.int32(0))

    def after(self, reward: Array, done: Array) -> Score:
        """The score after one frame of each environment; both arguments have the shape of `running`."""
        running = self.running + reward
        return Score(
            jnp.where(done, 0.0, running),
            self.total + jnp.where(done, running, 0.0).sum(),
            self.episodes + done.sum(),
        )

    def since(self, before: Score) -> Score:
        """What came after another moment."""
        return Score(self.running, self.total - before.total, self.episodes - before.episodes)
