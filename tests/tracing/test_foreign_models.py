"""Models that nobody here wrote: their sites are those that one counts by hand, and a look changes no bit."""

import collections

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.example_libraries import stax

from jax_leaky import list_sites, observe

pytestmark = pytest.mark.peer
KEY = jax.random.key(0)
RANDOM = np.random.default_rng(0)


def normal(*shape):
    return jnp.asarray(RANDOM.normal(size=shape), jnp.float32)


IDS = jnp.asarray(RANDOM.integers(0, 50, (2, 8)))
PICTURES = normal(2, 32, 32, 3)
ROWS = normal(4, 5)
TRANSFORMER = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48}
STAGES = {"embedding_size": 8, "hidden_sizes": [8, 16]}
PATCHES = {"image_size": 32, "patch_size": 16}
CHANNELS_FIRST = PICTURES.transpose(0, 3, 1, 2)

# Three layers each, a gelu or silu in each; the tanh of BERT's and ViT's pooler is not asked for. A residual layer ends
# with a relu, after one inside it; RegNet's Y layer has two before its gate, which is relu and sigmoid. CLIP's
# x sigmoid(1.702 x) is a gelu.
TRANSFORMERS = [
    ("FlaxBertModel", "BertConfig", {**TRANSFORMER, "vocab_size": 50}, IDS, {"gelu": 3}),
    ("FlaxGPT2LMHeadModel", "GPT2Config", {"n_embd": 32, "n_layer": 3, "n_head": 2}, IDS, {"gelu": 3}),
    ("FlaxLlamaForCausalLM", "LlamaConfig", {**TRANSFORMER, "vocab_size": 50}, IDS, {"silu": 3}),
    ("FlaxViTModel", "ViTConfig", TRANSFORMER | PATCHES, CHANNELS_FIRST, {"gelu": 3}),
    ("FlaxCLIPVisionModel", "CLIPVisionConfig", TRANSFORMER | PATCHES, CHANNELS_FIRST, {"gelu": 3}),
    (
        "FlaxResNetModel",
        "ResNetConfig",
        {**STAGES, "depths": [2, 2], "layer_type": "basic"},
        CHANNELS_FIRST,
        {"relu": 1 + 2 * 4},
    ),
    (
        "FlaxRegNetModel",
        "RegNetConfig",
        {**STAGES, "depths": [1, 2], "groups_width": 8},
        CHANNELS_FIRST,
        {"relu": 1 + 4 * 3, "sigmoid": 3},
    ),
]
# As their papers count them; a gate of squeeze and excitation is one more of the block's own and a sigmoid.
KERAS = [
    ("MobileNetV2", {"relu6": 2 * 16 + 1 + 2}),
    ("EfficientNetB0", {"silu": 1 + 1 + 2 * 15 + 1 + 16, "sigmoid": 16}),
]


def check(kinds, fn, *args, to_the_bit=True):
    found = list_sites(fn, *args)
    assert collections.Counter(site.kind for site in found) == kinds, found
    if to_the_bit:
        plain, (out, seen) = jax.jit(fn)(*args), jax.jit(observe(fn, lambda _, z: (z > 0).mean()))(*args)
        assert jax.tree.all(jax.tree.map(lambda a, b: a.tobytes() == b.tobytes(), plain, out))
        assert set(seen) == set(found.names)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("model", "config", "options", "x", "kinds"), TRANSFORMERS, ids=[case[0] for case in TRANSFORMERS]
)
def test_transformers(model, config, options, x, kinds):
    transformers = pytest.importorskip("transformers")
    if not hasattr(transformers, model):
        pytest.skip("only releases of transformers before 5 have Flax models")
    network = getattr(transformers, model)(getattr(transformers, config)(**options))
    check(kinds, lambda params, x: network(x, params=params)[0], network.params, x, to_the_bit=x is IDS)


@pytest.mark.parametrize(("name", "kinds"), KERAS, ids=[name for name, _ in KERAS])
def test_keras_applications(monkeypatch, name, kinds):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras")
    if keras.backend.backend() != "jax":
        pytest.skip("Keras was imported in this process with another backend; set KERAS_BACKEND=jax")
    network = getattr(keras.applications, name)(weights=None, input_shape=(64, 64, 3), classes=10)
    trained, kept = (
        [v.value for v in vs] for vs in (network.trainable_variables, network.non_trainable_variables)
    )
    x = normal(2, 64, 64, 3)
    check(kinds, lambda trained, x: network.stateless_call(trained, kept, x)[0], trained, x, to_the_bit=False)


class TestHaiku:
    @pytest.fixture(autouse=True)
    def hk(self):
        self.hk = pytest.importorskip("haiku")

    def check(self, kinds, network, x, to_the_bit=False):
        transformed = self.hk.transform_with_state(network)
        params, state = jax.jit(transformed.init)(KEY, x)
        check(kinds, lambda p, x: transformed.apply(p, state, KEY, x)[0], params, x, to_the_bit=to_the_bit)

    def test_residual_networks(self):
        nets = self.hk.nets
        self.check({"relu": 1 + 2 * 8}, lambda x: nets.ResNet18(10)(x, is_training=True), PICTURES)
        self.check(
            {"relu": 3 * 16 + 1}, lambda x: nets.ResNet50(10, resnet_v2=True)(x, is_training=True), PICTURES
        )

    def test_mobile_net(self):
        network = lambda x: self.hk.nets.MobileNetV1(num_classes=10)(x, is_training=True)  # noqa: E731 a formula in one line
        self.check({"relu": 1 + 2 * 13}, network, PICTURES)

    def test_a_deep_recurrent_network(self):
        def network(x):
            core = self.hk.DeepRNN([self.hk.LSTM(8), jax.nn.relu, self.hk.GRU(4)])
            return self.hk.dynamic_unroll(core, x, core.initial_state(4))[0]

        kinds = {"sigmoid": 3 + 1, "tanh": 2 + 1, "relu": 1}  # both gates of the GRU are one sigmoid
        self.check(kinds, network, normal(3, 4, 5), to_the_bit=True)

    def test_a_vector_quantiser(self):
        def network(x):
            codes = self.hk.nets.VectorQuantizer(4, 8, 0.25)
            return codes(jax.nn.elu(self.hk.Linear(4)(x)), is_training=False)["quantize"]

        self.check({"elu": 1}, network, ROWS, to_the_bit=True)


def test_equinox():
    eqx = pytest.importorskip("equinox")
    mlp = eqx.nn.MLP(5, 2, 8, 3, activation=jax.nn.leaky_relu, key=KEY)
    check({"leaky_relu": 3}, jax.vmap(mlp), ROWS)
    cell = eqx.nn.GRUCell(5, 4, key=KEY)
    check({"sigmoid": 2, "tanh": 1}, jax.vmap(cell), ROWS, normal(4, 4))
    attention = eqx.nn.MultiheadAttention(2, 8, key=KEY)
    check({}, jax.vmap(lambda x: attention(x, x, x)), normal(4, 6, 8))


def test_a_gate_of_e3nn():
    e3nn = pytest.importorskip("e3nn_jax")

    class Gated(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = e3nn.IrrepsArray("4x0e+2x1o", x)
            x = e3nn.flax.Linear("8x0e+4x0e+4x1o")(x)
            x = e3nn.gate(x, even_act=jax.nn.silu, even_gate_act=jax.nn.sigmoid)
            mlp = e3nn.flax.MultiLayerPerceptron((8, 8, 2), jax.nn.gelu, output_activation=False)
            return e3nn.flax.Linear("1x0e+1x1o")(x).array, mlp(x.filter("0e").array)

    x = normal(5, 10)
    check({"silu": 1, "sigmoid": 1, "gelu": 2}, Gated().apply, Gated().init(KEY, x), x)


class TestNumPyro:
    @pytest.fixture(autouse=True)
    def numpyro(self):
        self.numpyro = pytest.importorskip("numpyro")
        self.nets = pytest.importorskip("numpyro.nn")

    def test_autoregressive_networks(self):
        for nonlinearity in ("relu", "elu"):
            activation = getattr(stax, nonlinearity.capitalize())
            init, network = self.nets.AutoregressiveNN(
                5, [8, 8], skip_connections=True, nonlinearity=activation
            )
            check({nonlinearity: 2}, network, init(KEY, (5,))[1], ROWS)

    def test_a_step_of_variational_inference(self):
        from numpyro import distributions, infer
        from numpyro.contrib.module import flax_module

        sample = self.numpyro.sample

        class Decoder(nn.Module):
            @nn.compact
            def __call__(self, z):
                return nn.Dense(5)(nn.softplus(nn.Dense(8)(z)))

        class Encoder(nn.Module):
            @nn.compact
            def __call__(self, x):
                h = nn.relu(nn.Dense(8)(x))
                return nn.Dense(2)(h), nn.sigmoid(nn.Dense(2)(h))

        def model(x):
            decode = flax_module("decoder", Decoder(), input_shape=(4, 2))
            with self.numpyro.plate("batch", 4):
                z = sample("z", distributions.Normal(0, 1).expand([2]).to_event(1))
                sample("x", distributions.Bernoulli(logits=decode(z)).to_event(1), obs=x)

        def guide(x):
            encode = flax_module("encoder", Encoder(), input_shape=(4, 5))
            with self.numpyro.plate("batch", 4):
                sample("z", distributions.Normal(*encode(x)).to_event(1))

        adam = self.numpyro.optim.Adam(1e-3)
        inference = infer.SVI(model, guide, adam, infer.Trace_ELBO())
        x = jnp.asarray(ROWS > 0, jnp.float32)
        state = inference.init(KEY, x)
        # The likelihood of a Bernoulli holds a softplus of its own, which is none of the model's.
        check({"relu": 1, "sigmoid": 1, "softplus": 1}, inference.evaluate, state, x)
        found = list_sites(inference.update, state, x)
        assert found.names == ["Encoder/relu", "Encoder/sigmoid", "Decoder/softplus"]
        assert not found.opaque


class TestJraph:
    @pytest.fixture(autouse=True)
    def graph(self):
        self.jraph = pytest.importorskip("jraph")
        ends = jnp.arange(6) % 5, jnp.arange(1, 7) % 5
        self.graph = self.jraph.GraphsTuple(
            normal(5, 3), normal(6, 2), *reversed(ends), normal(1, 2), jnp.array([5]), jnp.array([6])
        )

    def test_a_graph_network(self):
        jraph = self.jraph

        class Perceptron(nn.Module):
            @nn.compact
            def __call__(self, x):
                for _ in range(2):
                    x = nn.relu(nn.Dense(8)(x))
                return x

        class Network(nn.Module):
            @nn.compact
            def __call__(self, graph):
                for _ in range(2):
                    updates = [jraph.concatenated_args(Perceptron()) for _ in range(3)]
                    graph = jraph.GraphNetwork(*updates)(graph)
                return graph

        params = Network().init(KEY, self.graph)
        check({"relu": 2 * 3 * 2}, Network().apply, params, self.graph)

    def test_graph_attention(self):
        jraph = self.jraph

        class Network(nn.Module):
            @nn.compact
            def __call__(self, graph):
                for width in (8, 4):
                    query, score = nn.Dense(width), nn.Dense(1)
                    graph = jraph.GAT(
                        query,
                        lambda a, b, _, score=score: nn.leaky_relu(score(jnp.concatenate([a, b], -1)), 0.2),
                        nn.elu,
                    )(graph)
                return graph

        graph = self.graph._replace(edges=None, globals=None)
        check({"leaky_relu": 2, "elu": 2}, Network().apply, Network().init(KEY, graph), graph)


@pytest.mark.parametrize(
    ("cell", "kinds"),
    [
        (nn.LSTMCell, {"sigmoid": 3, "tanh": 2}),
        (nn.OptimizedLSTMCell, {"sigmoid": 3, "tanh": 2}),
        (nn.GRUCell, {"sigmoid": 2, "tanh": 1}),
        (nn.MGUCell, {"sigmoid": 1, "tanh": 1}),
        (nn.SimpleCell, {"tanh": 1}),
    ],
)
def test_recurrent_cells_of_flax(cell, kinds):
    network, x = nn.RNN(cell(6)), normal(2, 4, 3)
    check(kinds, network.apply, network.init(KEY, x), x)
