"""The benchmark of counting measures what it says, and counting needs little memory beside a training step."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import pytest

from experiments.benchmark import first_census, tracing
from jax_leaky import Census


class Small(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(10)(nn.relu(nn.Dense(64)(x.reshape(len(x), -1))))


class SmallConvolution(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.leaky_relu(nn.Conv(64, (3, 3))(nn.relu(nn.Conv(64, (3, 3))(x))))
        return nn.Dense(10)(x.mean((1, 2)))


def compiled(model, x, counted):
    optimizer = optax.adam(1e-3)
    labels = jnp.zeros(len(x), int)
    params = model.init(jax.random.key(0), x)
    step = jax.jit(tracing.train_step(model, optimizer, counted), donate_argnums=(0, 1))
    return step.lower(params, optimizer.init(params), x, labels).compile()


@pytest.mark.slow
@pytest.mark.parametrize("model", [Small(), SmallConvolution()], ids=["dense", "convolution"])
def test_counting_needs_little_memory_whatever_it_counts(model):
    x = jnp.ones((512, 16, 16, 4))
    plain, counted = (compiled(model, x, way).memory_analysis().temp_size_in_bytes for way in (False, True))
    # Of two sites at most five figures of 4 bytes in 2,048 cells, for the loop's step and its sum, and the counts; a
    # convolution's output has 33 MB.
    assert counted - plain <= 2 * 2 * 5 * 4 * 2048 + 10_000


@pytest.mark.slow
def test_a_step_returns_the_counts_only_where_it_counts():
    case = tracing.Case("small", Small(), (64, 32))
    figures = tracing.measure(case, rounds=2, seconds=0.001)
    assert (figures["sites"], figures["units"], figures["activations"]) == (1, 64, 64 * 64)
    assert figures["step_ratio"]["low"] <= figures["step_ratio"]["median"] <= figures["step_ratio"]["high"]
    results = {
        "command": tracing.COMMAND,
        "rounds": 2,
        "environment": tracing.devices.environment(),
        "cases": [figures],
        "first": [first_census.measure("tiny", Small(), (64, 32), rounds=2)],
    }
    text = tracing.to_markdown(results)
    assert "| small | 1, 64 |" in text
    assert "| tiny | 1 |" in text


@pytest.mark.slow
def test_the_loss_of_the_counted_step_is_that_of_the_plain_one():
    optimizer = optax.adam(1e-3)
    x, labels = jax.random.normal(jax.random.key(1), (64, 32)), jnp.arange(64) % 10
    params = Small().init(jax.random.key(0), x)
    plain, counted = (
        jax.jit(tracing.train_step(Small(), optimizer, way))(params, optimizer.init(params), x, labels)
        for way in (False, True)
    )
    assert float(plain[2]) == float(counted[2])
    assert plain[3] is None
    assert isinstance(counted[3], Census)
