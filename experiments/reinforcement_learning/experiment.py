"""Where do units die in deep reinforcement learning, and does resetting them help?

Trains DQN at several replay ratios, and PPO, on MinAtar's games. After every so many updates the units of the network
are counted on a batch of the replay (for PPO, of the last rollout), and ReDo resets the dormant ones. Games, replay,
updates, counting and recycling are one compiled program. The networks of one seed share their first weights.

    python -m experiments.reinforcement_learning --smoke                  20 seconds, most of it compiling
    python -m experiments.reinforcement_learning                          Breakout, a quarter of an hour on 2 cores
    python -m experiments.reinforcement_learning --environments freeway   another game
    python -m experiments.reinforcement_learning --full                   three games, convolutions; for a GPU

It needs the extra `reinforcement-learning`. A finished network is kept: a kill costs no more than the networks that
are being trained.

References:
    Sokar, Agarwal, Castro and Evci: The dormant neuron phenomenon in deep reinforcement learning, ICML 2023.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from experiments.lab.run import cli, store
from experiments.lab.run.errors import LabError
from experiments.lab.run.experiment import carry_out
from experiments.lab.run.settings import Count, Flags, Several, Widths
from experiments.lab.run.sweep import Group
from experiments.reinforcement_learning import dqn, ppo
from experiments.reinforcement_learning.agent import SHARES, Period, Run
from experiments.reinforcement_learning.games import load, make
from experiments.reinforcement_learning.report import report

NAME = "reinforcement_learning"
Environment = Literal["breakout", "space_invaders", "freeway"]
Method = Literal["dqn_0.25", "dqn_1", "dqn_4", "ppo"]
Arm = Literal["relu", "leaky_0.01", "leaky_0.2", "relu_redo", "relu_norm", "leaky_0.2_redo"]
_NEVER = -1.0  # a threshold that no dormant score is under
# Slope, whether dormant units are reset, and whether hidden layers are normalised.
ARMS: dict[Arm, tuple[float, bool, bool]] = {
    "relu": (0.0, False, False),
    "leaky_0.01": (0.01, False, False),
    "leaky_0.2": (0.2, False, False),
    "relu_redo": (0.0, True, False),
    "relu_norm": (0.0, False, True),
    "leaky_0.2_redo": (0.2, True, False),
}


@dataclass(frozen=True)
class Config(Flags):
    """Which networks are trained, on what, and where it is written."""

    out: Path = Path("runs/reinforcement_learning")
    """The folder of the run: rows, plots and page.
    A folder that holds a run of other settings is refused, not overwritten."""

    seeds: Count = 5
    """Number of networks, with the seeds 0, 1, 2, ..., per arm, method and game."""

    environments: Several[Environment] = ("breakout",)
    """Games of MinAtar; with --full all three."""

    methods: Several[Method] = ("dqn_0.25", "dqn_1", "dqn_4", "ppo")
    """dqn_0.25, dqn_1, dqn_4: DQN with so many updates per frame, its replay ratio."""

    arms: Several[Arm] = ("relu", "leaky_0.01", "leaky_0.2", "relu_redo", "relu_norm", "leaky_0.2_redo")
    """redo: units whose dormant score is at most --tau are reset at every count.
    norm: each hidden layer is normalised before its activation."""

    frames: Count = 6000
    """Frames that each DQN network learns from, after --warm-up; with --full 10,000,000."""

    every: Count = 500
    """Updates of DQN from one count to the next; with --full 1000."""

    ppo_frames: Count = 131_072
    """Frames that each PPO network learns from, 8,192 in an iteration; with --full 10,002,432."""

    ppo_every: Count = 4
    """Iterations of PPO, 32 updates each, from one count to the next; with --full 37."""

    hidden: Widths = (256, 256)
    """The widths of the dense hidden layers; with --full 128, behind a convolution."""

    convolution: bool = False
    """Whether MinAtar's 3 x 3 convolution of 16 channels comes first: for an accelerator, since XLA runs a
    convolution inside a scan many times slower on a CPU."""

    tau: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.025
    """The dormant score up to which ReDo takes a unit as dormant."""

    warm_up: Count = 1000
    """Frames of random play before DQN's first update."""

    replay: Count = 100_000
    """Frames that DQN's replay holds."""

    batch_size: Count = 32
    """Frames per update of DQN."""

    probe: Count = 512
    """Frames on which the units are counted."""

    def __post_init__(self) -> None:
        most = min(self.replay, self.warm_up)
        for flag, size in (("--batch-size", self.batch_size), ("--probe", self.probe)):
            if size > most:
                raise LabError(
                    f"{flag} is {size}, but the replay holds {most} frames at the first update: give {most} or less, "
                    "or more of --replay and --warm-up."
                )
        for name in self.methods:
            setting = self.setting(name, self.environments[0], False)
            if isinstance(setting, ppo.Setting):
                count = setting.games * setting.steps * self.ppo_every
                if self.ppo_frames % count:
                    raise LabError(f"--ppo-frames is {self.ppo_frames}: give a multiple of {count}.")
                continue
            frames, updates = setting.cycle
            if self.every % updates:
                raise LabError(
                    f"--every is {self.every}: give a multiple of {updates}, the updates after each frame."
                )
            if self.frames % (count := self.every // updates * frames):
                raise LabError(
                    f"--frames is {self.frames}: give a multiple of {count}, the frames that {self.every} updates of "
                    f"{name} take."
                )

    def setting(
        self, method: Method, environment: Environment, layer_norm: bool
    ) -> dqn.Setting | ppo.Setting:
        """What the runs of one program share."""
        network: dict[str, Any] = {
            "hidden": self.hidden,
            "layer_norm": layer_norm,
            "convolution": self.convolution,
        }
        if method == "ppo":
            return ppo.Setting(environment, self.ppo_frames, self.ppo_every, probe=self.probe, **network)
        return dqn.Setting(
            environment,
            self.frames,
            float(method.removeprefix("dqn_")),
            self.every,
            batch_size=self.batch_size,
            probe=self.probe,
            warm_up=self.warm_up,
            replay=self.replay,
            **network,
        )


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {
        "seeds": 1,
        "methods": ("dqn_1", "ppo"),
        "arms": ("relu", "relu_redo"),
        "frames": 200,
        "every": 100,
        "ppo_frames": 16_384,
        "ppo_every": 1,
        "hidden": (16, 16),
        "warm_up": 100,
        "probe": 64,
    },
    "full": {
        "environments": ("breakout", "space_invaders", "freeway"),
        "frames": 10_000_000,
        "every": 1000,
        "ppo_frames": 10_002_432,
        "ppo_every": 37,
        "hidden": (128,),
        "convolution": True,
    },
}


def groups_of(config: Config) -> list[Group]:
    """A program for each game and method, with and without normalised layers; the slope and tau are traced."""
    groups = []
    for environment, method, norm in itertools.product(config.environments, config.methods, (False, True)):
        arms = [arm for arm in config.arms if ARMS[arm][2] == norm]
        setting = config.setting(method, environment, norm)
        train: Callable[..., Period] = ppo.train if isinstance(setting, ppo.Setting) else dqn.train
        runs = [run_of(arm, seed, config.tau) for seed, arm in itertools.product(range(config.seeds), arms)]
        if runs:
            program = functools.partial(train, setting=setting)
            to_records = functools.partial(records_of, environment, method, norm)
            groups.append(Group(f"{method} on {environment}", program, runs, to_records))
    return groups


def run_of(arm: Arm, seed: int, tau: float) -> Run:
    """The scalars of a training."""
    slope, redo, _ = ARMS[arm]
    return Run(np.float32(slope), np.float32(tau if redo else _NEVER), np.uint32(seed))


def records_of(environment: str, method: str, norm: bool, run: Run, life: Period) -> list[store.Record]:
    """A record for each count of a network, with a list per measure that each hidden layer has."""
    key = np.float32(run.negative_slope), run.tau >= 0, norm
    arm = next(arm for arm, (slope, *rest) in ARMS.items() if (np.float32(slope), *rest) == key)
    finite = np.isfinite(life.loss) & np.isfinite(life.measures.effective_rank)
    return [
        {
            "environment": environment,
            "method": method,
            "arm": arm,
            "seed": int(run.seed),
            "frame": int(life.frame[place]),
            "update": int(life.update[place]),
            "returns": store.number(life.returns[place]),
            "episodes": int(life.episodes[place]),
            "loss": store.number(life.loss[place]) if life.update[place] else None,
            **{name: store.numbers(np.asarray(life.measures.layers[name][place])) for name in SHARES},
            "effective_rank": store.number(life.measures.effective_rank[place]),
            "restarted": int(life.measures.restarted[place]),
            "diverged": not finite[: place + 1].all(),
        }
        for place in range(len(life.frame))
    ]


def versions() -> Iterator[tuple[str, str]]:
    """The packages that play and remember."""
    for package in ("gymnax", "flashbax"):
        load(package)
        yield package, metadata.version(package)


def run(config: Config) -> None:
    """The experiment from its settings to its report."""
    packages: dict[str, Any] = dict(versions())
    for environment in config.environments:
        make(environment)
    report(config, carry_out(NAME, config, groups_of(config), (), "networks", **packages))


def main() -> None:
    """The command line."""
    cli.start(NAME, run, Config, PRESETS, __doc__)
