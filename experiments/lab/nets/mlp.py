"""The network that most experiments train: a Flax MLP with LeakyReLU, and one look at all its units."""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from jax_leaky import leaky_relu


class MLP(nn.Module):
    """Dense layers with LeakyReLU between them; ReLU is the slope 0.

    The slope is an argument of the call and may be traced, so that one compiled program trains every activation.
    Kernels are He normal (gain sqrt 2) and biases zero for every slope, so that networks of one seed begin equal.

    Attributes:
        hidden: the widths of the hidden layers.
        classes: the number of outputs.
    """

    hidden: tuple[int, ...]
    classes: int = 10

    @nn.compact
    def __call__(self, x: Array, negative_slope: ArrayLike) -> Array:
        """The logits (batch, classes) of x (batch, features).

        Each pre-activation is sown in "intermediates" and perturbed by "perturbations", Flax's own means to see a
        value and its gradient; neither costs anything where its collection is not asked for.
        """
        for layer, width in enumerate(self.hidden):
            z = nn.Dense(width, kernel_init=nn.initializers.he_normal())(x)
            z = self.perturb(f"z{layer}", z)
            self.sow("intermediates", f"z{layer}", z)
            x = leaky_relu(z, negative_slope)
        return nn.Dense(self.classes, kernel_init=nn.initializers.he_normal())(x)

    def start(self, key: Array, features: int) -> Any:
        """Fresh parameters."""
        return self.init(key, jnp.zeros((1, features)), 0.0)["params"]


class Look(NamedTuple):
    """What one pass over a probe set shows.

    Attributes:
        logits: (samples, classes).
        losses: (samples,), the cross-entropy of each sample.
        z: per hidden layer (samples, units), the inputs of the activation.
        gradients: per hidden layer (samples, units), dL/dz of each sample's own loss.
    """

    logits: Array
    losses: Array
    z: tuple[Array, ...]
    gradients: tuple[Array, ...]


def cross_entropy(model: MLP, params: Any, x: Array, labels: ArrayLike, negative_slope: ArrayLike) -> Array:
    """The mean cross-entropy of a batch."""
    logits = model.apply({"params": params}, x, negative_slope)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def look(model: MLP, params: Any, x: Array, labels: ArrayLike, negative_slope: ArrayLike) -> Look:
    """The network's pre-activations on a probe set and each sample's own gradient with respect to them."""
    names = [f"z{layer}" for layer in range(len(model.hidden))]
    nothing = {name: jnp.zeros((len(x), width)) for name, width in zip(names, model.hidden, strict=True)}

    def total(perturbations: dict[str, Array]) -> tuple[Array, tuple[Array, Array, Any]]:
        variables = {"params": params, "perturbations": perturbations}
        logits, seen = model.apply(variables, x, negative_slope, mutable=["intermediates"])
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        # The sum, not the mean: its gradient at a sample's z is that of the sample's own loss.
        return losses.sum(), (logits, losses, seen["intermediates"])

    gradients, (logits, losses, seen) = jax.grad(total, has_aux=True)(nothing)
    return Look(
        logits, losses, tuple(seen[name][0] for name in names), tuple(gradients[name] for name in names)
    )
