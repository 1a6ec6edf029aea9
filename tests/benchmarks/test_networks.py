"""The published networks: their size, their activations, and what ours needs in the smallest of them."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmark.networks import tables as networks_tables
from experiments.benchmark.networks.cases import ACTIVATIONS, NETWORKS, train_step
from experiments.models import graph_attention
from jax_leaky import leaky_relu
from jax_leaky._tracing import list_sites

# Authors' figures: the rest of the network that the part belongs to, and the sum that is published. DCGAN and Darknet
# count what PyTorch's example and darknet19.weights hold; the others name the layers around.
PARAMETERS = {
    "DCGAN discriminator": (0, 2_765_568),
    "Darknet-19": (0, 20_842_376),
    # 23 blocks, between 3 -> 64, four times 64 -> 64 and 64 -> 3 channels, each 3x3 with bias
    "ESRGAN RRDB block": (27 * 64 + 64 + 4 * (576 * 64 + 64) + 576 * 3 + 3, 16_697_987),
    "HiFi-GAN V1 generator": (0, 13_926_017),
    # a second layer of one head and 7 classes on 64 features
    "graph attention layer": (64 * 7 + 3 * 7, 92_373),
}
BLOCKS = {"ESRGAN RRDB block": 23}
OUTPUTS = {
    "DCGAN discriminator": (2,),
    "Darknet-19": (2, 1000),
    "ESRGAN RRDB block": (2, 32, 32, 64),
    "HiFi-GAN V1 generator": (2, 8192, 1),
    "graph attention layer": (2708, 64),
}
SLOPES = {
    "DCGAN discriminator": {0.2: 4},
    "Darknet-19": {0.1: 18},
    "ESRGAN RRDB block": {0.2: 12},
    "HiFi-GAN V1 generator": {0.1: 4 + 4 * 3 * 3 * 2, 0.01: 1},
    "graph attention layer": {0.2: 1},
}


@functools.cache
def shapes(name):
    network = NETWORKS[name]
    inputs = jax.eval_shape(lambda: network.arguments(2))
    return inputs, jax.eval_shape(lambda: network.variables(2))


def parameters(name):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes(name)[1]["params"]))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_parameters_are_those_published(name):
    rest, published = PARAMETERS[name]
    assert BLOCKS.get(name, 1) * parameters(name) + rest == published


@pytest.mark.parametrize("name", NETWORKS)
def test_a_training_pass_gives_the_published_shape(name):
    inputs, variables = shapes(name)
    model = NETWORKS[name].model(leaky_relu)
    out, _ = jax.eval_shape(lambda v, *x: model.apply(v, *x, mutable=["batch_stats"]), variables, *inputs)
    assert out.shape == OUTPUTS[name]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("activation", ["jax.nn", "bits"])
def test_the_activations_are_those_published(name, activation):
    inputs, variables = shapes(name)
    model = NETWORKS[name].model(ACTIVATIONS[activation])
    sites = list_sites(lambda v, *x: model.apply(v, *x, mutable=["batch_stats"])[0], variables, *inputs)
    slopes = [round(site.negative_slope, 6) for site in sites if site.kind == "leaky_relu"]
    assert {slope: slopes.count(slope) for slope in slopes} == SLOPES[name]


def test_ours_needs_no_more_memory_than_jax_in_the_smallest_network():
    network = NETWORKS["graph attention layer"]
    ours, theirs = (
        network.compile(name, network.batch).memory_analysis().temp_size_in_bytes
        for name in ("bits", "jax.nn")
    )
    assert ours <= 1.01 * theirs


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bits"])
def test_a_step_with_ours_is_a_step_with_jax(name):
    # Random logits are nowhere 0, where alone the two derivatives differ.
    graph = graph_attention.random_graph(jax.random.key(0), nodes=30, edges=60, features=12)
    start = graph_attention.GraphAttention(leaky_relu).init(jax.random.key(1), *graph)
    ours, theirs = (
        jax.jit(train_step(graph_attention.GraphAttention(ACTIVATIONS[way])))(start, *graph)
        for way in (name, "jax.nn")
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9), ours, theirs)
    assert not np.array_equal(ours["params"]["sender"], start["params"]["sender"])


@pytest.mark.slow
def test_attention_is_that_of_the_paper():
    # Formulas (1) to (4) over dense matrices in float64, an edge counted as often as it is there.
    x, senders, receivers = graph_attention.random_graph(jax.random.key(0), nodes=20, edges=40, features=5)
    model = graph_attention.GraphAttention(heads=2, features=3)
    variables = model.init(jax.random.key(1), x, senders, receivers)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    h = (np.asarray(x, np.float64) @ params["Dense_0"]["kernel"]).reshape(20, 2, 3)
    count = np.zeros((20, 20))
    np.add.at(count, (np.asarray(receivers), np.asarray(senders)), 1)
    expected = []
    for head in range(2):
        e = (h[:, head] @ params["receiver"][head])[:, None] + (h[:, head] @ params["sender"][head])[None]
        weights = count * np.exp(np.where(e > 0, e, 0.2 * e))
        expected.append(weights / weights.sum(1, keepdims=True) @ h[:, head])
    y = np.concatenate(expected, 1)
    got = model.apply(variables, x, senders, receivers)
    np.testing.assert_allclose(got, np.where(y > 0, y, np.expm1(y)), rtol=1e-4, atol=1e-5)


@pytest.mark.peer
@pytest.mark.parametrize("name", NETWORKS)
def test_the_twin_in_pytorch_is_as_large_and_gives_as_much(name):
    torch = pytest.importorskip("torch")
    from experiments.benchmark.networks.torch_training import TWINS

    twin = TWINS[name]()
    assert sum(parameter.numel() for parameter in twin.parameters()) == parameters(name)
    inputs = [
        torch.zeros(
            leaf.shape, dtype=torch.float32 if jnp.issubdtype(leaf.dtype, jnp.floating) else torch.int64
        )
        for leaf in shapes(name)[0]
    ]
    if inputs[0].ndim > 2:
        inputs[0] = inputs[0].movedim(-1, 1)
    with torch.no_grad():
        out = twin(*inputs)
    assert out.numel() == math.prod(OUTPUTS[name])


def test_a_loss_is_named_in_the_report():
    def part(bits_bytes, bits_time):
        temporary = {"none": 90, "jax.nn": 100, "bits": bits_bytes, "output": 120}
        figures = [{"way": way, "temporary": size} for way, size in temporary.items()]
        ran = {"jax.nn": [1.0, 0.9, 1.1], "bits": [bits_time, 1.0, 1.2], "PyTorch eager": [1.0, 0.9, 1.1]}
        for way, seconds in ran.items():
            figures.append({"way": way, "batch": 4, "peak": 80, "seconds": seconds, "times_jax_nn": seconds})
        figures.append({"way": "torch.compile", "batch": 4, "failed": "NoCompiler: none"})
        versions = {"jax": "0"}
        about = dict.fromkeys(["command", "date", "python", "device", "processor", "dtype"], "") | {
            "versions": versions
        }
        return {"about": about | {"rounds": 3}, "figures": figures}

    worse = networks_tables.to_markdown({"cpu": {"Darknet-19": part(104, 1.1)}}, "")
    assert "1.04 times jax.nn's memory" in worse
    assert "1.10 times jax.nn's time" in worse
    assert "1.10 times the time of PyTorch eager" in worse
    assert "published 128" in worse
    assert "failed: NoCompiler" in worse
    assert "Nowhere" in networks_tables.to_markdown({"cpu": {"Darknet-19": part(95, 1.0)}}, "")
