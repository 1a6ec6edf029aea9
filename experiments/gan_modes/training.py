"""Trains one generator and discriminator of points in the plane, for `experiments.lab.run.sweep`."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax

from experiments.gan_modes import mixtures
from experiments.gan_modes.model import Discriminator, Generator
from experiments.lab.nets.adversarial import Player, Turn, advance, never_active, turn

_NOISE = 2  # dimensions
SHOWN = 256  # generated samples that are kept of each evaluation


class Architecture(NamedTuple):
    """Settings that all pairs of a compiled program share.

    Attributes:
        generator: widths of the generator's hidden layers.
        discriminator: widths of the discriminator's hidden layers.
        batch_size: number of samples of the mixture in a step, and of generated ones.
        steps: number of training steps; each trains both networks at once.
        evaluations: number of evaluations during training, not counting the one before it; a divisor of `steps`.
        samples: number of generated samples in each evaluation.
    """

    generator: tuple[int, ...]
    discriminator: tuple[int, ...]
    batch_size: int
    steps: int
    evaluations: int
    samples: int


class Run(NamedTuple):
    """One pair of networks.

    Attributes:
        discriminator_slope: slope of the discriminator's activation, ().
        generator_slope: slope of the generator's activation, ().
        learning_rate: learning rate of Adam for both networks, ().
        decay: Adam's first decay rate, beta 1, ().
        seed: seed of weights, samples and noise, ().
    """

    discriminator_slope: np.float32
    generator_slope: np.float32
    learning_rate: np.float32
    decay: np.float32
    seed: np.uint32


class Pair(NamedTuple):
    """Both players."""

    discriminator: Player
    generator: Player


class Evaluation(NamedTuple):
    """Measures of a pair at one time; every shape is () but that of the samples.

    Attributes:
        modes: number of modes that the generated samples cover; see `experiments.gan_modes.mixtures.Coverage`.
        high_quality: share of generated samples of high quality.
        reverse_kl: reverse KL divergence of their nearest modes.
        discriminator_loss: the discriminator's loss on samples of the mixture and as many generated ones.
        generator_loss: the generator's loss on the same samples.
        discriminator_gradient: norm of the gradient of the discriminator's loss.
        generator_gradient: norm of the gradient of the generator's loss.
        discriminator_never_active: share of the discriminator's hidden units that are never active on both kinds of
            samples.
        generator_never_active: share of the generator's hidden units that are never active on the noise.
        samples: first generated samples, (shown, 2).
    """

    modes: Array
    high_quality: Array
    reverse_kl: Array
    discriminator_loss: Array
    generator_loss: Array
    discriminator_gradient: Array
    generator_gradient: Array
    discriminator_never_active: Array
    generator_never_active: Array
    samples: Array


def train(
    run: Run, everything: dict[str, mixtures.Mixture], *, architecture: Architecture, mixture: str
) -> Evaluation:
    """Trains one pair; returns its evaluations along the first axis, the first before training."""
    discriminator, generator = Discriminator(architecture.discriminator), Generator(architecture.generator)
    target = everything[mixture]
    # One long vector a network: a step is some twenty small products, and every operation beside them counts.
    rule = optax.flatten(optax.adam(run.learning_rate, run.decay))
    start_d, start_g, steps_key, probe_key = jax.random.split(jax.random.key(run.seed), 4)

    def generate(params: Any, statistics: Any, noise: Array, *, train: bool) -> tuple[Array, Any]:
        variables = {"params": params, "batch_stats": statistics}
        fake, seen = generator.apply(
            variables, noise, run.generator_slope, train=train, mutable=["batch_stats", "intermediates"]
        )
        return fake, seen

    def judge(params: Any, real: Array, fake: Array) -> tuple[tuple[Array, Array], Any]:
        logits, seen = discriminator.apply(
            {"params": params},
            jnp.concatenate([real, fake]),
            run.discriminator_slope,
            mutable=["intermediates"],
        )
        return (logits[: len(real)], logits[len(real) :]), seen

    def play(pair: Pair, real: Array, noise: Array) -> Turn:
        def judged(params: Any, fake: Array) -> tuple[tuple[Array, Array], None]:
            return judge(params, real, fake)[0], None

        def generated(params: Any) -> tuple[Array, Any]:
            fake, seen = generate(params, pair.generator.statistics, noise, train=True)
            return fake, seen["batch_stats"]

        return turn(judged, generated, pair.discriminator.params, pair.generator.params)

    def batch(key: Array) -> tuple[Array, Array]:
        real_key, noise_key = jax.random.split(key)
        real = mixtures.draw(target, real_key, architecture.batch_size)
        return real, jax.random.normal(noise_key, (architecture.batch_size, _NOISE))

    def step(pair: Pair, samples: tuple[Array, Array]) -> tuple[Pair, None]:
        seen = play(pair, *samples)
        discriminator = advance(rule, pair.discriminator, seen.discriminator_gradient)
        return Pair(
            discriminator, advance(rule, pair.generator, seen.generator_gradient, seen.generator_statistics)
        ), None

    real_key, noise_key = jax.random.split(probe_key)
    probe = mixtures.draw(target, real_key, architecture.samples)
    probe_noise = jax.random.normal(noise_key, (architecture.samples, _NOISE))

    def evaluate(pair: Pair) -> Evaluation:
        seen = play(pair, probe, probe_noise)
        fake, seen_g = generate(pair.generator.params, pair.generator.statistics, probe_noise, train=False)
        _, seen_d = judge(pair.discriminator.params, probe, fake)
        return Evaluation(
            **mixtures.coverage(target, fake)._asdict(),
            discriminator_loss=seen.discriminator_loss,
            generator_loss=seen.generator_loss,
            discriminator_gradient=optax.tree.norm(seen.discriminator_gradient),
            generator_gradient=optax.tree.norm(seen.generator_gradient),
            discriminator_never_active=never_active(seen_d, run.discriminator_slope),
            generator_never_active=never_active(seen_g, run.generator_slope),
            samples=fake[:SHOWN],
        )

    def between(pair: Pair, keys: Array) -> tuple[Pair, Evaluation]:
        # Drawn before the steps: many small draws take longer than one large one.
        pair, _ = lax.scan(step, pair, jax.vmap(batch)(keys))
        return pair, evaluate(pair)

    params = discriminator.init(start_d, jnp.zeros((1, 2)), 0.0)["params"]
    variables = generator.init(start_g, jnp.zeros((1, _NOISE)), 0.0, train=False)
    pair = Pair(
        Player(params, rule.init(params)),
        Player(variables["params"], rule.init(variables["params"]), variables["batch_stats"]),
    )
    keys = jax.random.split(steps_key, architecture.steps).reshape(architecture.evaluations, -1)
    _, evaluations = lax.scan(between, pair, keys)
    return jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), evaluate(pair), evaluations)
