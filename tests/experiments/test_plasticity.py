import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.lab.data.batches import Images
from experiments.lab.nets.initialisations import initial_params
from experiments.plasticity import experiment as plasticity
from experiments.plasticity import permuted_tasks
from experiments.plasticity.redo import restart

COUNTS = permuted_tasks.Counts._fields
RANDOM = np.random.default_rng(0)
TINY = Images(
    RANDOM.integers(0, 256, (24, 12), np.uint8),
    RANDOM.integers(0, 10, 24, np.int32),
    np.zeros((0, 12), np.uint8),
    np.zeros(0, np.int32),
    np.float32(128),
    np.float32(1 / 64),
)
SETTING = permuted_tasks.Setting((9, 8, 7), 6, 1, 24, 4, 0.5, 24)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "plasticity"
    plasticity.run(plasticity.Config(out=out, **plasticity.PRESETS["smoke"] | {"step_size": 0.05}))
    assert {"rows.jsonl", "summary.md", "report.html", "over_tasks.png"} <= {
        path.name for path in out.iterdir()
    }
    return [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_row_per_record_of_every_arm(rows):
    assert [(row["arm"], row["task"]) for row in rows] == [
        (arm, task) for arm in plasticity.ARMS for task in (2, 4, 6)
    ]
    for row in rows:
        assert 0 <= row["online_accuracy"] <= 1
        assert 0 <= row["revived"] <= row["never_active_at_start"] <= 2 * 64
        assert 1 <= row["effective_rank"] <= 32
        assert row["dead"] == (None if row["negative_slope"] else row["never_active"])
        assert (row["restarted"] > 0) <= (row["arm"] == "relu_redo")
        assert row["diverged"] is False


@pytest.mark.slow
def test_never_active_units_are_accounted_for(rows):
    # Both tasks of a record: never active at the end = at the start + died - revived.
    for row in rows:
        at_end = row["never_active"] * 64 * 2
        assert at_end == pytest.approx(row["never_active_at_start"] + row["died"] - row["revived"], abs=0.01)
        for name in ("never_active_at_start", "revived", "died"):
            assert row[name] == sum(row[f"{name}_by_layer"])


def test_all_images_are_the_probe_by_default():
    for probe, expected in ((0, 70), (30, 30)):
        (group,) = plasticity.groups_of(plasticity.Config(images=70, probe=probe))
        assert group.step.keywords["setting"].probe == expected


class Replay:
    """One task in NumPy, in float64, from the weights at its start."""

    def __init__(self, params, slope, key):
        self.slope = slope
        pixels_key, order_key, _ = jax.random.split(key, 3)
        pixels = np.asarray(jax.random.permutation(pixels_key, 12))
        order = np.asarray(jax.random.permutation(order_key, 24))
        self.x = (TINY.train_images[:, pixels].astype(np.float64) - 128) / 64
        self.start = [
            [np.float64(params[f"Dense_{place}"][name]) for name in ("kernel", "bias")] for place in range(4)
        ]
        self.end = [[array.copy() for array in layer] for layer in self.start]
        self.hits = 0
        for batch in order.reshape(-1, 4):
            self.learn(self.x[batch], TINY.train_labels[batch])

    def learn(self, x, labels):
        inputs, z = [x], []
        for kernel, bias in self.end:
            z.append(inputs[-1] @ kernel + bias)
            inputs.append(np.where(z[-1] > 0, z[-1], self.slope * z[-1]))
        self.hits += (z[-1].argmax(1) == labels).sum()
        chances = np.exp(z[-1] - z[-1].max(1, keepdims=True))
        delta = (chances / chances.sum(1, keepdims=True) - np.eye(10)[labels]) / len(x)
        for place in (3, 2, 1, 0):
            kernel, bias = self.end[place]
            below = delta @ kernel.T
            kernel -= 0.5 * inputs[place].T @ delta
            bias -= 0.5 * delta.sum(0)
            if place:
                delta = below * np.where(z[place - 1] > 0, 1, self.slope)

    def never_active(self, lower, own, place):
        """Which units of a layer fire on no image, the layers below being `lower` and the layer itself `own`."""
        h = self.x
        for kernel, bias in lower[:place]:
            h = np.maximum(h @ kernel + bias, self.slope * (h @ kernel + bias))
        most = (h @ own[place][0] + own[place][1]).max(0)
        # Rounding decides nothing; 0 is that of a unit whose inputs and bias are all 0.
        assert ((np.abs(most) > 1e-5) | (most == 0)).all()
        return most <= 0

    def counts(self):
        found = []
        for place in range(3):
            was, now = (
                self.never_active(self.start, self.start, place),
                self.never_active(self.end, self.end, place),
            )
            (old, old_bias), (new, new_bias) = self.start[place], self.end[place]
            same = (old == new).all(0) & (old_bias == new_bias)
            revived = was & ~now
            found.append(
                [
                    was.sum(),
                    revived.sum(),
                    (now & ~was).sum(),
                    (revived & ~self.never_active(self.end, self.start, place)).sum(),
                    (revived & ~self.never_active(self.start, self.end, place)).sum(),
                    (was & same).sum(),
                ]
            )
        return np.transpose(found)


@pytest.mark.slow
@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_lives_against_numpy(slope):
    total = 0
    step = jax.jit(functools.partial(permuted_tasks.step, setting=SETTING))
    for seed in range(4):
        row = permuted_tasks.Run(np.float32(slope), np.float32(0), np.float32(-1), np.uint32(seed))
        keys = jax.random.split(jax.random.split(jax.random.key(row.seed))[1], SETTING.tasks)
        state = permuted_tasks.initialise(row, TINY, setting=SETTING)
        # Some units of the first layer are never active from the start.
        first = state.params["Dense_0"]
        first["bias"] = first["bias"].at[:3].set(jnp.array([-2.5, -3.5, -4.5]))
        for key in keys:
            before, state = state, step(row, state, TINY)
            replay = Replay(before.params, slope, key)
            for place, (kernel, bias) in enumerate(replay.end):
                np.testing.assert_allclose(state.params[f"Dense_{place}"]["kernel"], kernel, atol=2e-4)
                np.testing.assert_allclose(state.params[f"Dense_{place}"]["bias"], bias, atol=2e-4)
            expected = replay.counts()
            np.testing.assert_array_equal(np.stack(state.record.counts), expected)
            at_end = expected[0] - expected[1] + expected[2]
            assert state.record.shares.never_active == pytest.approx(at_end.sum() / 24, abs=1e-6)
            assert state.record.shares.online_accuracy == pytest.approx(replay.hits / 24, abs=1e-6)
            total = total + expected
    found = dict(zip(COUNTS, total, strict=True))
    # The networks are such that the comparison above could fail.
    for name in ("never_active_at_start", "revived", "died", "from_below"):
        assert found[name][1:].sum() > 0, name
    assert found["never_active_at_start"][0] > 0
    assert found["by_itself"][0] == found["revived"][0]
    assert found["from_below"][0] == 0
    if slope:
        assert found["revived"][0] > 0
        assert not found["unmoved"].any()
    else:
        # Without a gradient, and with inputs that stay as they are, no unit of the first layer comes back.
        assert found["revived"][0] == 0
        assert found["unmoved"][0] == found["never_active_at_start"][0]
        assert found["unmoved"][1:].sum() > 0


@pytest.mark.slow
def test_what_wakes_a_unit():
    # One image, x = 1; the first layer passes x times its weight on, the second has a unit for each case.
    def params(lower, kernel, bias):
        return {
            "Dense_0": {"kernel": jnp.array([[lower]]), "bias": jnp.zeros(1)},
            "Dense_1": {"kernel": jnp.array([kernel]), "bias": jnp.array(bias)},
            "Dense_2": {"kernel": jnp.zeros((7, 10)), "bias": jnp.zeros(10)},
        }

    # From below (unmoved), by itself, only both together, either alone, neither (unmoved), one that dies, and one whose
    # bias alone moves.
    before = params(1.0, [1.0, 1.0, 1.0, 1.0, -1.0, 1.0, -1.0], [-2.0, -5.0, -4.5, -2.0, 0.0, 0.0, 0.0])
    after = params(3.0, [1.0, 6.0, 2.0, 3.0, -1.0, -1.0, -1.0], [-2.0, -5.0, -4.5, -2.0, 0.0, 0.0, -1.0])
    counts = permuted_tasks.compare(before, after, jnp.ones((1, 1)), 0.0)
    found = {name: np.asarray(value).tolist() for name, value in counts._asdict().items()}
    assert found == {
        "never_active_at_start": [0, 6],
        "revived": [0, 4],
        "died": [0, 1],
        "from_below": [0, 2],
        "by_itself": [0, 2],
        "unmoved": [0, 2],
    }


@pytest.mark.slow
def test_never_active_under_relu_is_without_gradient():
    params = initial_params("he", jax.random.key(3), (12, 9, 8, 7, 10), 0.0)
    x = TINY.standardize(TINY.train_images)

    def loss(params):
        logits = permuted_tasks.forward(params, x, 0.0)[0]
        return -jax.nn.log_softmax(logits)[jnp.arange(24), TINY.train_labels].mean()

    params["Dense_1"]["bias"] = params["Dense_1"]["bias"].at[:3].set(-50.0)
    gradient = jax.grad(loss)(params)["Dense_1"]
    never_active = np.asarray(permuted_tasks.count(permuted_tasks.forward(params, x, 0.0)[1][1], 0.0)[0]) == 1
    assert never_active[:3].all()
    assert not never_active.all()
    np.testing.assert_array_equal(np.asarray(gradient["kernel"] == 0).all(0), never_active)


@pytest.mark.slow
def test_records_do_not_depend_on_how_many_tasks_they_hold():
    row = permuted_tasks.Run(np.float32(0), np.float32(0), np.float32(0.025), np.uint32(1))
    lives = {}
    for every in (1, 3):
        setting = SETTING._replace(every=every)
        step = jax.jit(functools.partial(permuted_tasks.step, setting=setting))
        state, lives[every] = permuted_tasks.initialise(row, TINY, setting=setting), []
        for _ in range(6 // every):
            state = step(row, state, TINY)
            lives[every].append(state.record)
    for whole, parts in zip(lives[3], (lives[1][:3], lives[1][3:]), strict=True):
        for name in COUNTS:
            np.testing.assert_array_equal(
                getattr(whole.counts, name), sum(getattr(part.counts, name) for part in parts)
            )
        assert whole.restarted == sum(part.restarted for part in parts)
        mean = np.mean([part.shares for part in parts], 0)
        np.testing.assert_allclose(whole.shares, mean, rtol=1e-4)
    assert sum(record.restarted for record in lives[3]) > 0


def test_a_diverged_network_has_no_counts():
    config = plasticity.Config(tasks=2, every=1)
    good = permuted_tasks.Record(
        permuted_tasks.Shares(*np.float32([0.5, 0.1, 3])),
        permuted_tasks.Counts(*np.ones((6, 3), np.float32)),
        np.float32(0),
    )
    bad = jax.tree.map(lambda value: value * np.float32(np.nan), good)
    row = permuted_tasks.Run(np.float32(0.2), np.float32(0), np.float32(-1), np.uint32(4))
    first, second = plasticity.to_records(config, row, [good, bad])
    assert (first["arm"], first["never_active_at_start"], first["never_active_at_start_by_layer"]) == (
        "leaky_0.2",
        3,
        [1, 1, 1],
    )
    assert not first["diverged"]
    assert (
        second["never_active_at_start"],
        second["never_active_at_start_by_layer"],
        second["diverged"],
    ) == (None, [None] * 3, True)


def test_restart_takes_new_inputs_and_cuts_the_outputs():
    widths = (3, 4, 2)
    params = initial_params("uniform", jax.random.key(0), widths, 0.0)
    fresh = initial_params("he", jax.random.key(1), widths, 0.0)
    mask = np.array([True, False, False, True])
    after = restart(params, fresh, [jnp.array(mask)])
    for name in ("kernel", "bias"):
        np.testing.assert_array_equal(after["Dense_0"][name][..., mask], fresh["Dense_0"][name][..., mask])
        np.testing.assert_array_equal(after["Dense_0"][name][..., ~mask], params["Dense_0"][name][..., ~mask])
    assert not np.asarray(after["Dense_1"]["kernel"])[mask].any()
    np.testing.assert_array_equal(after["Dense_1"]["kernel"][~mask], params["Dense_1"]["kernel"][~mask])
    np.testing.assert_array_equal(after["Dense_1"]["bias"], params["Dense_1"]["bias"])


def test_the_forward_pass_against_numpy():
    params = initial_params("uniform", jax.random.key(0), (5, 4, 3), 0.0)
    x = np.random.default_rng(0).standard_normal((6, 5)).astype(np.float32)
    logits, (z,) = permuted_tasks.forward(params, jnp.array(x), 0.3)
    expected = np.float64(x) @ np.float64(params["Dense_0"]["kernel"]) + np.float64(params["Dense_0"]["bias"])
    np.testing.assert_allclose(z, expected, rtol=1e-5, atol=1e-6)
    h = np.where(expected > 0, expected, 0.3 * expected)
    expected = h @ np.float64(params["Dense_1"]["kernel"]) + np.float64(params["Dense_1"]["bias"])
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)
