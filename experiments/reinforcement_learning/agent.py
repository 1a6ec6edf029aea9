"""What both algorithms share: the network, and the one place where its units are counted and reset.

Nothing here knows the network's layers: `value_and_census` finds the activations of the loss, `wiring` the entries that
feed and read their units, so another network needs no other code.

References:
    Sokar, Agarwal, Castro and Evci: The dormant neuron phenomenon in deep reinforcement learning, ICML 2023.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from jax_leaky import leaky_relu, observe, units, value_and_census, wiring

SHARES = ("dormant@0.025", "dormant@0.1", "never_active", "grad_dead")  # means over a layer's units


class Run(NamedTuple):
    """One training; all are scalars, traced or not.

    Attributes:
        negative_slope: slope of the activation; 0 is ReLU.
        tau: dormant score up to which a unit is reset; negative for never.
        seed: seed of the first weights, of the games and of the exploration.
    """

    negative_slope: Any
    tau: Any
    seed: Any


class Network(nn.Module):
    """Hidden layers of the same activation, and a linear head for each kind of output.

    The slope may be traced, so that one compiled program trains ReLU and every slope.

    Attributes:
        heads: number of outputs of each head.
        hidden: widths of the dense hidden layers.
        layer_norm: whether each hidden layer is normalised before its activation.
        convolution: whether a 3 x 3 convolution of 16 channels comes first, as in MinAtar's own network.
        gains: gains of orthogonal kernels, the hidden layers' and each head's; () for Flax's default.
    """

    heads: tuple[int, ...]
    hidden: tuple[int, ...]
    layer_norm: bool = False
    convolution: bool = False
    gains: tuple[float, ...] = ()

    @nn.compact
    def __call__(self, x: Array, negative_slope: ArrayLike) -> tuple[Array, ...]:
        """The outputs (batch, head) of the observations x: (batch, height, width, channels)."""
        inits = [nn.initializers.orthogonal(gain) for gain in self.gains] or [
            nn.initializers.lecun_normal()
        ] * (1 + len(self.heads))
        x = x.astype(jnp.float32)
        if self.convolution:
            x = nn.Conv(16, (3, 3), padding="VALID", kernel_init=inits[0])(x)
            x = leaky_relu(nn.LayerNorm()(x) if self.layer_norm else x, negative_slope)
        x = x.reshape(len(x), -1)
        for width in self.hidden:
            x = nn.Dense(width, kernel_init=inits[0])(x)
            x = leaky_relu(nn.LayerNorm()(x) if self.layer_norm else x, negative_slope)
        return tuple(
            nn.Dense(outputs, kernel_init=init)(x)
            for outputs, init in zip(self.heads, inits[1:], strict=True)
        )


class Learner(NamedTuple):
    """What an update changes."""

    params: Any
    optimizer_state: Any


class Measures(NamedTuple):
    """What is known of a network's units at one moment.

    Attributes:
        layers: mean of each of `SHARES` over the units of each hidden layer, (layers,).
        effective_rank: effective rank of the last hidden layer's outputs, ().
        restarted: number of units that are reset, ().
    """

    layers: dict[str, Array]
    effective_rank: Array
    restarted: Array


class Period(NamedTuple):
    """What is kept of the time up to a count; a whole training has the counts in front, the first before any update.

    Attributes:
        frame: number of frames so far.
        update: number of updates so far.
        returns: sum of the returns of the episodes that ended in the period.
        episodes: number of these.
        loss: mean loss of the updates; 0 before the first.
        measures: what was counted at its end, before units were reset.
    """

    frame: Array
    update: Array
    returns: Array
    episodes: Array
    loss: Array
    measures: Measures


class Doctor:
    """Counts a network's units on a batch, and resets the dormant ones.

    Args:
        network: network of the learner.
        optimizer: optimiser of the learner.
        observation: an observation, or its shape.
    """

    def __init__(self, network: Network, optimizer: optax.GradientTransformation, observation: Any) -> None:
        self._network, self._optimizer = network, optimizer
        self._example = jnp.zeros((1, *observation))
        params = jax.eval_shape(self.initialize, jax.random.key(0))
        self._wires = wiring(network.apply, params, self._example, 0.0)

    def initialize(self, key: Array) -> Any:
        """New parameters."""
        return self._network.init(key, self._example, 0.0)

    def begin(self, key: Array) -> Learner:
        """A learner before its first update."""
        params = self.initialize(key)
        return Learner(params, self._optimizer.init(params))

    def examine(
        self, run: Run, learner: Learner, loss: Callable[..., Any], batch: Any, key: Array, *, cure: Array
    ) -> tuple[Learner, Measures]:
        """The learner with its dormant units reset, and what was measured before.

        Args:
            run: training that the learner belongs to.
            learner: network and optimiser.
            loss: function `loss(params, negative_slope, batch)`, the mean of the samples' losses.
            batch: samples; `batch.observation` holds the observations.
            key: key of the new weights.
            cure: whether units are reset at all, ().
        """
        params, state = learner
        slope = run.negative_slope
        _, census = value_and_census(loss, gradients=True)(params, slope, batch)
        # A layer norm before the activation makes a unit's input depend on all others': such units are left alone.
        masks = {
            site.name: (site.summary.per_unit["dormant_score"] <= run.tau) & cure
            for site in census
            if not self._wires.reasons[site.name]
        }
        _, seen = observe(self._network.apply, lambda _, z: leaky_relu(z, slope))(
            params, batch.observation, slope
        )
        measures = Measures(
            {name: jnp.stack([site.summary.layer[name] for site in census]) for name in SHARES},
            units.effective_rank([*seen.values()][-1]),
            sum((mask.sum() for mask in masks.values()), jnp.int32(0)),
        )
        params = self._wires.recycle(params, masks, self.initialize(key))
        return Learner(params, self._wires.restart(self._optimizer, state, params, masks)), measures
