"""Lives with the remedies that stand in the experiment alone, beside NumPy, and the mask that was published wrong."""

import json

import jax
import numpy as np
import optax
import pytest

from experiments.lab.data.batches import Images, shuffled_epochs
from experiments.remedies import experiment, optimizers
from experiments.remedies.arms import ARMS
from experiments.remedies.network import Network, patches
from experiments.remedies.training import Life, Problem, Run
from jax_leaky import remedies

RANDOM = np.random.default_rng(0)
SIDE, RATE = 4, 0.3
IMAGES = Images(
    RANDOM.integers(0, 256, (12, SIDE * SIDE), np.uint8),
    RANDOM.integers(0, 10, 12, np.int32),
    np.zeros((0, SIDE * SIDE), np.uint8),
    np.zeros(0, np.int32),
    np.float32(128),
    np.float32(1 / 64),
)
PIXELS = Problem("pixels", (), (6, 5), "sgd", RATE, 12, 2, 4, 2, 4)
RUN = Run(np.float32(0), np.uint32(3))
STRENGTH, KEEP, BOUND, EVERY = 0.4, 0.7, 0.9, 5
SGD = optax.sgd(RATE)
REMEDIES = {
    "none": lambda _life, _key: SGD,
    "l2_init": lambda _life, _key: optimizers.l2_init(SGD, STRENGTH),
    "shrink_and_perturb": lambda life, key: optimizers.shrink_and_perturb(
        SGD, life.initialize, key, keep=KEEP, every=EVERY
    ),
    "weight_clipping": lambda _life, _key: optimizers.weight_clipping(SGD, BOUND),
}
CASES = [
    ("l2_init", {}),
    ("shrink_and_perturb", {}),
    ("weight_clipping", {}),
    ("none", {"activation": "crelu"}),
]


def doubled(tree):
    return jax.tree.map(np.float64, tree)


class Replay:
    """A perceptron in NumPy, in float64, with SGD and one of the remedies."""

    def __init__(self, params, remedy, changes, fresh):
        self.params, self.first = doubled(params), doubled(params)
        self.remedy, self.changes, self.fresh, self.count = remedy, changes, fresh, 0

    def forward(self, x):
        """The values before and after each activation, and the logits."""
        seen = []
        for place in (0, 1):
            layer = self.params[f"Dense_{place}"]
            z = x @ layer["kernel"] + layer["bias"]
            both = np.concatenate([z, -z], axis=1) if self.changes.get("activation") else z
            seen.append((x, z, both))
            x = np.maximum(both, 0)
        last = self.params["Dense_2"]
        return seen, x, x @ last["kernel"] + last["bias"]

    def learn(self, x, labels):
        seen, features, logits = self.forward(x)
        chances = np.exp(logits - logits.max(1, keepdims=True))
        delta = (chances / chances.sum(1, keepdims=True) - np.eye(10)[labels]) / len(x)
        gradient = {"Dense_2": {"kernel": features.T @ delta, "bias": delta.sum(0)}}
        above = self.params["Dense_2"]["kernel"]
        for place in (1, 0):
            below, z, both = seen[place]
            delta = (delta @ above.T) * (both > 0)
            if self.changes.get("activation"):
                delta = delta[:, : z.shape[1]] - delta[:, z.shape[1] :]
            gradient[f"Dense_{place}"] = {"kernel": below.T @ delta, "bias": delta.sum(0)}
            above = self.params[f"Dense_{place}"]["kernel"]
        self.count += 1
        for name, layer in self.params.items():
            for part, value in layer.items():
                pull = STRENGTH * (value - self.first[name][part]) if self.remedy == "l2_init" else 0
                value = value - RATE * (gradient[name][part] + pull)
                if self.remedy == "shrink_and_perturb" and self.count % EVERY == 0:
                    value = KEEP * value + (1 - KEEP) * self.fresh(self.count)[name][part]
                if self.remedy == "weight_clipping":
                    limit = BOUND / np.sqrt(len(layer["kernel"]))
                    value = np.clip(value, -limit, limit)
                layer[part] = value
        return (logits.argmax(1) == labels).sum()


@pytest.mark.parametrize(("remedy", "changes"), CASES)
def test_two_tasks_against_numpy(remedy, changes):
    life = Life(Network((), PIXELS.hidden, **changes), PIXELS, REMEDIES[remedy], SIDE)
    state = life.begin(RUN, IMAGES)
    key = jax.random.key(RUN.seed)
    fresh_key = jax.random.fold_in(key, 1)
    replay = Replay(
        state.params,
        remedy,
        changes,
        lambda step: doubled(life.initialize(jax.random.fold_in(fresh_key, step))),
    )
    correct = 0
    for task in jax.random.split(jax.random.fold_in(key, 2), PIXELS.tasks)[:2]:
        pixels_key, order_key = jax.random.split(task)
        x = (IMAGES.train_images[:, np.asarray(jax.random.permutation(pixels_key, 16))] - 128.0) / 64
        for batch in np.asarray(shuffled_epochs(order_key, 12, 6, 4)):
            correct += replay.learn(x[batch], IMAGES.train_labels[batch])
    after = jax.jit(life.step)(RUN, state, IMAGES)
    for path, expected in jax.tree_util.tree_leaves_with_path(replay.params):
        found = after.params[path[0].key][path[1].key]
        np.testing.assert_allclose(found, expected, atol=1e-4, err_msg=str(path))
    seen, features, _ = replay.forward(x)
    silent = np.concatenate([(both <= 0).all(0) for _, _, both in seen])
    sigma = np.linalg.svd(features, compute_uv=False)
    share = sigma[sigma > 1e-9] / sigma.sum()
    assert after.record.accuracy == pytest.approx(correct / 48)
    assert after.record.never_active == pytest.approx(silent.mean())
    assert after.record.effective_rank == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-3)


def test_convolutions_as_products_are_convolutions():
    x = RANDOM.normal(size=(2, 7, 6, 3)).astype(np.float32)
    kernel = RANDOM.normal(size=(3, 3, 3, 4)).astype(np.float32)
    expected = np.zeros((2, 4, 3, 4))
    padded = np.pad(np.float64(x), ((0, 0), (1, 1), (1, 1), (0, 0)))
    for row, column in np.ndindex(4, 3):
        patch = padded[:, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
        expected[:, row, column] = np.einsum("bijc,ijco->bo", patch, np.float64(kernel))
    found = np.asarray(patches(x)) @ kernel.reshape(27, 4)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


CHANNELS, PLACES = 3, 4  # of the last convolution's map, 2 x 2
LABELS = Problem("labels", (2, CHANNELS), (5,), "adam", RATE, 12, 2, 4, 2, 4)


def conv_life(remedy, **wired):
    networks = (Network(LABELS.channels, LABELS.hidden, **changes) for changes in ({}, wired))
    network, other = networks
    return Life(network, LABELS, remedy, 8, other)


def test_the_published_mask_is_told_from_the_right_one():
    right, wrong = conv_life(None), conv_life(None, **ARMS["redo_wrong_rows"].wired)
    params = right.initialize(jax.random.key(0))
    mask = np.array([False, True, False])
    rows = []
    for life in (right, wrong):
        first, last = (name for name, shape in life.wires.units.items() if shape != (2,))
        assert not any(life.wires.reasons.values())
        incoming, outgoing = life.wires.entries(params, {first: mask, last: np.zeros(5, bool)})
        # What leads to the channel is the same; what reads it are rows of the kernel behind the flattened map.
        assert np.asarray(incoming["Dense_1"]["kernel"]).all(0).tolist() == mask.tolist()
        rows.append(np.asarray(outgoing["Dense_2"]["kernel"]).all(1))
        assert sum(int(leaf.sum()) for leaf in jax.tree.leaves(outgoing)) == PLACES * 5
    np.testing.assert_array_equal(rows[0], np.tile(mask, PLACES))
    np.testing.assert_array_equal(rows[1], np.repeat(mask, PLACES))


@pytest.mark.slow
def test_the_count_of_adam_starts_anew_with_a_unit():
    images = IMAGES._replace(train_images=np.zeros((12, 64), np.uint8))

    def remedy(life, key):
        adam = optax.adam(RATE)
        redo = remedies.redo(adam, life.wires, life.initialize, key, every=3, threshold=10.0)  # of all units
        return optimizers.count_reset(redo)

    life = conv_life(remedy)
    state = life.begin(RUN, images)
    params, optimizer, counts = state.params, state.optimizer, []
    x, y = np.ones((4, 8, 8, 1), np.float32), IMAGES.train_labels[:4]
    update = jax.jit(life.update)
    for _ in range(4):
        params, optimizer, _ = update(RUN, params, optimizer, x, y)
        counts.append(int(optimizer.inner[0].count))
    assert counts == [1, 2, 0, 1]


@pytest.mark.slow
def test_networks_of_one_seed_begin_alike():
    config = experiment.Config()
    kernels = {}
    for (problem, arms), life in experiment.lives_of(config, SIDE).items():
        for arm in arms:
            kernel = life.initialize(jax.random.key(7))["Dense_0"]["kernel"]
            np.testing.assert_array_equal(
                kernel, kernels.setdefault(life.problem.channels, kernel), err_msg=arm
            )
        assert ARMS[arms[0]].problems.count(problem) == 1
    # Slopes share a program, and so do ReDo's.
    groups = experiment.groups_of(config, experiment.lives_of(config, SIDE))
    assert [len(group.runs) for group in groups[:2]] == [30, 20]
    assert sum(len(group.runs) for group in groups) == 10 * (13 + 15 + 16)


def test_a_diverged_network_stays_so():
    record = experiment.Record(*np.float32([0.5, 0.1, 3, 2]))
    names = {np.float32(0.2): "leaky_0.2"}
    run = Run(np.float32(0.2), np.uint32(4))
    lost = record._replace(effective_rank=np.float32(np.nan))
    rows = experiment.to_records("mlp_sgd", names, 6, run, [record, lost, record])
    assert [(row["arm"], row["task"], row["diverged"]) for row in rows] == [
        ("leaky_0.2", 6, False),
        ("leaky_0.2", 12, True),
        ("leaky_0.2", 18, True),
    ]


@pytest.mark.slow
def test_the_smoke(tmp_path):
    config = experiment.Config(out=tmp_path, **experiment.PRESETS["smoke"])
    experiment.run(config)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"rows.jsonl", "times.json", "summary.md", "report.html", "against_relu.png"} <= names
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    arms = ("relu", "leaky_0.2", "redo", "redo_wrong_rows")
    assert [(row["arm"], row["task"]) for row in rows] == [
        (arm, task) for arm in arms for task in range(1, 11)
    ]
    for row in rows:
        assert 0 <= row["accuracy"] <= 1
        assert (row["begun_anew"] > 0) <= row["arm"].startswith("redo")
    times = json.loads((tmp_path / "times.json").read_text())["conv_adam"]
    assert times.keys() == set(arms)
    assert min(times.values()) > 0
    # Again, with nothing to compute but the report.
    experiment.run(config)
    assert json.loads((tmp_path / "times.json").read_text())["conv_adam"] == times
