"""Generator against discriminator: their losses, and both gradients from one pass through the two networks.

References:
    Goodfellow et al.: Generative adversarial nets, NeurIPS 2014 (arXiv:1406.2661): the discriminator's loss, and the
    generator's in the form that does not saturate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from jax_leaky import units


class Player(NamedTuple):
    """One network: what is trained, its optimiser's state, and its running statistics, if any."""

    params: Any
    optimizer: Any
    statistics: Any = None


class Turn(NamedTuple):
    """Losses, gradients and running statistics of both players on one batch.

    Attributes:
        discriminator_loss: loss over both halves of the batch, ().
        generator_loss: loss over the generated half, ().
        discriminator_gradient: gradient of the discriminator's loss with respect to its own parameters, a pytree.
        generator_gradient: gradient of the generator's loss, through the discriminator, with respect to the generator's
            parameters, a pytree.
        discriminator_statistics: the discriminator's running statistics after the batch.
        generator_statistics: the generator's running statistics after the batch.
    """

    discriminator_loss: Array
    generator_loss: Array
    discriminator_gradient: Any
    generator_gradient: Any
    discriminator_statistics: Any
    generator_statistics: Any


def discriminator_loss(real: Array, fake: Array) -> Array:
    """The mean cross-entropy of logits for "real", of both kinds of samples: softplus(-real) + softplus(fake)."""
    return jax.nn.softplus(-real).mean() + jax.nn.softplus(fake).mean()


def generator_loss(fake: Array) -> Array:
    """The mean of -log D of generated samples, with D = sigmoid(logit): softplus(-fake)."""
    return jax.nn.softplus(-fake).mean()


def turn(
    judge: Callable[[Any, Array], tuple[tuple[Array, Array], Any]],
    generate: Callable[[Any], tuple[Array, Any]],
    discriminator: Any,
    generator: Any,
) -> Turn:
    """Both losses and gradients at the players' present parameters.

    Args:
        judge: function (discriminator's parameters, generated samples) -> ((logits of real samples, logits of generated
            samples), running statistics).
        generate: function (generator's parameters) -> (samples, running statistics).
        discriminator: the discriminator's parameters.
        generator: the generator's parameters.
    """
    fake, back_to_generator, statistics_g = jax.vjp(generate, generator, has_aux=True)
    logits, back, statistics_d = jax.vjp(judge, discriminator, fake, has_aux=True)
    loss_d, slopes_d = jax.value_and_grad(lambda logits: discriminator_loss(*logits))(logits)
    loss_g, slopes_g = jax.value_and_grad(lambda logits: generator_loss(logits[1]))(logits)
    gradient_d, _ = back(slopes_d)
    _, to_fake = back(slopes_g)
    (gradient_g,) = back_to_generator(to_fake)
    return Turn(loss_d, loss_g, gradient_d, gradient_g, statistics_d, statistics_g)


def advance(
    rule: optax.GradientTransformation, player: Player, gradient: Any, statistics: Any = None
) -> Player:
    """The player after one step of its optimiser."""
    updates, state = rule.update(gradient, player.optimizer)
    return Player(optax.apply_updates(player.params, updates), state, statistics)


def never_active(seen: Any, negative_slope: ArrayLike) -> Array:
    """The share of all hidden units that are never active; NaN where a layer has a value that is not finite.

    Args:
        seen: collection "intermediates" of a module that has sown each pre-activation (..., units) as "z".
        negative_slope: slope of the module's activation.
    """
    masks = [
        units.summarize(units.update(units.init(z.shape[-1]), z, negative_slope=negative_slope)).per_unit[
            "never_active"
        ]
        for z in seen["intermediates"]["z"]
    ]
    return jnp.concatenate(masks).mean()
