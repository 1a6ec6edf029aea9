"""DCGAN on small images: how a pair is initialised, trained and evaluated, for `experiments.lab.run.loop`."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from experiments.gan_images.judge import Classifier
from experiments.gan_images.model import Discriminator, Generator
from experiments.lab.nets.adversarial import Player, Turn, advance, never_active, turn

_NOISE = 64  # dimensions
_NO_STEP = 2**32 - 1  # every evaluation has the same noise, which no step has
SHOWN = 36  # generated images that are kept of each evaluation
_ADAM = optax.adam(2e-4, 0.5)  # DCGAN's, for both


class Setup(NamedTuple):
    """Settings that all pairs of a compiled program share.

    Attributes:
        side: height and width of an image in pixels.
        width: number of channels in the layers next to the image.
        normalized: whether the discriminator has batch normalisation.
        batch_size: number of real images in a step, and of generated ones.
        samples: number of generated images in each evaluation.
    """

    side: int
    width: int
    normalized: bool
    batch_size: int
    samples: int


class Material(NamedTuple):
    """Data that every pair is given.

    Attributes:
        images: images to learn from, (samples, pixels) uint8.
        judge: weights of the classifier that judges generated images.
    """

    images: Array | np.ndarray
    judge: Any


class Run(NamedTuple):
    """One pair of networks.

    Attributes:
        negative_slope: slope of the discriminator's activation, ().
        seed: seed of weights, batches and noise, ().
    """

    negative_slope: np.float32
    seed: np.uint32


class State(NamedTuple):
    """A pair in training.

    Attributes:
        discriminator: the discriminator's weights, optimiser state and running statistics.
        generator: the generator's weights, optimiser state and running statistics.
        key: random key of the batches and the noise.
        number: number of steps taken, ().
        norms: sums over all steps of the discriminator's and of the generator's gradient norm, (2,).
        squares: sums over all steps of the squares of these norms, (2,).
        losses: sums over all steps of the losses of both, (2,).
    """

    discriminator: Player
    generator: Player
    key: Array
    number: Array
    norms: Array
    squares: Array
    losses: Array


class Seen(NamedTuple):
    """Measures of both networks at one time, of images that the generator makes in evaluation mode.

    Attributes:
        histogram: share of each class among the predictions of the judge, (10,).
        mean: mean of the judge's features, (features,).
        covariance: covariance of the judge's features, (features, features).
        norms: sums of both gradient norms, as in `State`, (2,).
        squares: sums of their squares, as in `State`, (2,).
        losses: sums of both losses, as in `State`, (2,).
        discriminator_never_active: share of the discriminator's channels that are never active on real and generated
            images, ().
        generator_never_active: share of the generator's channels that are never active on the noise, ().
        images: first generated images, (shown, side, side), in [-1, 1].
    """

    histogram: Array
    mean: Array
    covariance: Array
    norms: Array
    squares: Array
    losses: Array
    discriminator_never_active: Array
    generator_never_active: Array
    images: Array


def pictures(images: Array | np.ndarray, side: int) -> Array:
    """Pixels 0 to 255 as images in [-1, 1]: (batch, side, side, 1)."""
    return jnp.asarray(images, jnp.float32).reshape(-1, side, side, 1) / 127.5 - 1


def initialise(run: Run, _material: Material, *, setup: Setup) -> State:
    """Both networks with fresh weights."""
    key_d, key_g, key = jax.random.split(jax.random.key(run.seed), 3)
    variables_d = _discriminator(setup).init(
        key_d, jnp.zeros((1, setup.side, setup.side, 1)), 0.0, train=False
    )
    variables_g = _generator(setup).init(key_g, jnp.zeros((1, _NOISE)), train=False)

    def player(variables: Any) -> Player:
        params = variables["params"]
        return Player(params, _ADAM.init(params), variables.get("batch_stats", {}))

    nothing = jnp.zeros(2)
    return State(player(variables_d), player(variables_g), key, jnp.int32(0), nothing, nothing, nothing)


def step(run: Run, state: State, material: Material, *, setup: Setup) -> State:
    """One step of both players at once, each on its own loss."""
    image_key, noise_key = jax.random.split(jax.random.fold_in(state.key, state.number))
    chosen = jax.random.randint(image_key, (setup.batch_size,), 0, len(material.images))
    real = pictures(jnp.asarray(material.images)[chosen], setup.side)
    seen = _play(run, state, real, jax.random.normal(noise_key, (setup.batch_size, _NOISE)), setup)
    norms = jnp.stack(
        [optax.tree.norm(seen.discriminator_gradient), optax.tree.norm(seen.generator_gradient)]
    )
    return State(
        advance(_ADAM, state.discriminator, seen.discriminator_gradient, seen.discriminator_statistics),
        advance(_ADAM, state.generator, seen.generator_gradient, seen.generator_statistics),
        state.key,
        state.number + 1,
        state.norms + norms,
        state.squares + norms**2,
        state.losses + jnp.stack([seen.discriminator_loss, seen.generator_loss]),
    )


def evaluate(run: Run, state: State, material: Material, *, setup: Setup) -> Seen:
    """Both networks as they are; nothing is trained."""
    noise = jax.random.normal(jax.random.fold_in(state.key, _NO_STEP), (setup.samples, _NOISE))
    fake, seen_g = _generator(setup).apply(
        _variables(state.generator), noise, train=False, mutable=["intermediates"]
    )
    real = pictures(material.images[: setup.samples], setup.side)
    _, seen_d = _discriminator(setup).apply(
        _variables(state.discriminator),
        jnp.concatenate([real, fake]),
        run.negative_slope,
        train=False,
        mutable=["intermediates"],
    )
    judged: Any = Classifier().apply({"params": material.judge}, fake)
    logits, features = judged
    return Seen(
        histogram=jax.nn.one_hot(logits.argmax(-1), 10).mean(0),
        mean=features.mean(0),
        covariance=jnp.cov(features, rowvar=False),
        norms=state.norms,
        squares=state.squares,
        losses=state.losses,
        discriminator_never_active=never_active(seen_d, run.negative_slope),
        generator_never_active=never_active(seen_g, 0.0),
        images=fake[:SHOWN, ..., 0],
    )


def _play(run: Run, state: State, real: Array, noise: Array, setup: Setup) -> Turn:
    def generated(params: Any) -> tuple[Array, Any]:
        variables = _variables(state.generator._replace(params=params))
        fake, seen = _generator(setup).apply(variables, noise, train=True, mutable=["batch_stats"])
        return fake, seen["batch_stats"]

    def judged(params: Any, fake: Array) -> tuple[tuple[Array, Array], Any]:
        # Real and generated images in batches of their own, each normalised by itself, as in DCGAN's practice.
        player, logits = state.discriminator._replace(params=params), []
        for x in (real, fake):
            one, seen = _discriminator(setup).apply(
                _variables(player), x, run.negative_slope, train=True, mutable=["batch_stats"]
            )
            player = player._replace(statistics=seen.get("batch_stats", {}))
            logits.append(one)
        return (logits[0], logits[1]), player.statistics

    return turn(judged, generated, state.discriminator.params, state.generator.params)


def _discriminator(setup: Setup) -> Discriminator:
    return Discriminator(setup.width, setup.normalized)


def _generator(setup: Setup) -> Generator:
    return Generator(setup.side, setup.width)


def _variables(player: Player) -> dict[str, Any]:
    return {"params": player.params, "batch_stats": player.statistics}
