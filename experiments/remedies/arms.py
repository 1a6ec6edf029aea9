"""What is compared: ReLU alone, and each remedy with its settings and where they come from.

The papers' settings are for runs of millions of updates; here a network makes a few thousand, and those that count
updates are scaled to that. What is said to be tuned was chosen on other seeds, 1000 and 1001, with Adam at 0.001.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import optax
from jax import Array

from experiments.remedies import optimizers
from experiments.remedies.training import Life
from jax_leaky import remedies

Problems = Literal["mlp_sgd", "mlp_adam", "conv_adam"]
Name = Literal[
    "relu",
    "redo",
    "continual_backprop",
    "self_normalized_resets",
    "l2_init",
    "shrink_and_perturb",
    "layer_norm",
    "weight_clipping",
    "crelu",
    "leaky_0.01",
    "leaky_0.2",
    "prelu",
    "leaky_0.2_redo",
    "redo_count_reset",
    "redo_count_per_entry",
    "redo_wrong_rows",
]
Optimizer = Callable[[Life], optax.GradientTransformation]
_EVERY = 100  # updates from one choice of units, estimate of limits or perturbation to the next


class Arm(NamedTuple):
    """A remedy.

    Attributes:
        remedy: function (life, key) -> the optimiser with the remedy.
        slope: slope of the activation.
        network: what differs in the network from the one with ReLU alone, by the name of the attribute.
        wired: what differs in the network that the wiring is found for, likewise.
        problems: problems that it is tried on.
    """

    remedy: Callable[[Life, Array], optax.GradientTransformation]
    slope: float = 0.0
    network: Mapping[str, Any] = MappingProxyType({})
    wired: Mapping[str, Any] = MappingProxyType({})
    problems: tuple[Problems, ...] = ("mlp_sgd", "mlp_adam", "conv_adam")


def _plain(life: Life) -> optax.GradientTransformation:
    rule: Any = {"sgd": optax.sgd, "adam": optax.adam}[life.problem.optimizer]
    return rule(life.problem.learning_rate)


def _entrywise(life: Life) -> optax.GradientTransformation:
    rule: Any = {"sgd": optax.sgd, "adam": remedies.entrywise_adam}[life.problem.optimizer]
    return rule(life.problem.learning_rate)


def _alone(life: Life, _: Array) -> optax.GradientTransformation:
    return _plain(life)


def _redo(inner: Optimizer, life: Life, key: Array) -> optax.GradientTransformationExtraArgs:
    # Sokar et al.: thresholds of 0 to 0.1, 0.025 in most of their runs; every 1,000 updates.
    return remedies.redo(inner(life), life.wires, life.initialize, key, every=_EVERY, threshold=0.025)


def _continual_backprop(life: Life, key: Array) -> optax.GradientTransformationExtraArgs:
    # Dohare et al.: rates of 1e-4 to 1e-6, decay 0.99, maturity 100, a count for each entry of Adam. Tuned: 1e-3 before
    # 1e-4.
    return remedies.continual_backprop(
        _entrywise(life), life.wires, life.initialize, key, replacement_rate=1e-3
    )


def _self_normalized_resets(life: Life, key: Array) -> optax.GradientTransformationExtraArgs:
    # Farias and Jozefiak: rejections of 0.01 to 0.04, limits of at most 20,000 samples; 200 updates are 3,200 of them.
    return remedies.self_normalized_resets(
        _plain(life), life.wires, life.initialize, key, rejection=0.02, every=_EVERY, longest=200
    )


def _shrink_and_perturb(life: Life, key: Array) -> optax.GradientTransformation:
    # Tuned: 0.99 before 0.95 and 0.8.
    return optimizers.shrink_and_perturb(_plain(life), life.initialize, key, keep=0.99, every=_EVERY)


def _l2_init(life: Life, _: Array) -> optax.GradientTransformation:
    # Kumar et al.: strengths of 1e-2 to 1e-5. Tuned: 1e-2 before 1e-3 and 1e-4.
    return optimizers.l2_init(_plain(life), 1e-2)


def _weight_clipping(life: Life, _: Array) -> optax.GradientTransformation:
    # Tuned: 2 before 1 and 3.
    return optimizers.weight_clipping(_plain(life), 2.0)


def _redo_count_reset(life: Life, key: Array) -> optax.GradientTransformationExtraArgs:
    return optimizers.count_reset(_redo(_plain, life, key))


_REDO = functools.partial(_redo, _plain)
_ADAM: tuple[Problems, ...] = ("mlp_adam", "conv_adam")
ARMS: dict[Name, Arm] = {
    "relu": Arm(_alone),
    "redo": Arm(_REDO),
    "continual_backprop": Arm(_continual_backprop),
    "self_normalized_resets": Arm(_self_normalized_resets),
    "l2_init": Arm(_l2_init),
    "shrink_and_perturb": Arm(_shrink_and_perturb),
    "layer_norm": Arm(_alone, network={"normalized": True}),
    "weight_clipping": Arm(_weight_clipping),
    "crelu": Arm(_alone, network={"activation": "crelu"}),
    "leaky_0.01": Arm(_alone, 0.01),
    "leaky_0.2": Arm(_alone, 0.2),
    "prelu": Arm(_alone, network={"activation": "prelu"}),
    "leaky_0.2_redo": Arm(_REDO, 0.2),
    "redo_count_reset": Arm(_redo_count_reset, problems=_ADAM),
    "redo_count_per_entry": Arm(functools.partial(_redo, _entrywise), problems=_ADAM),
    # Flattened channel by channel, a channel's rows stand side by side: the published mask, which the network belies.
    "redo_wrong_rows": Arm(_REDO, wired={"channels_first": True}, problems=("conv_adam",)),
}
