import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import plasticity
from experiments.lab import permuted_tasks
from experiments.lab.errors import LabError
from experiments.lab.initialisations import initial_params
from experiments.lab.redo import restart


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "plasticity"
    plasticity.run(plasticity.Config(out=out, **plasticity.PRESETS["smoke"] | {"step_size": 0.05}))
    assert {"rows.jsonl", "summary.md", "report.html", "over_tasks.png"} <= {
        path.name for path in out.iterdir()
    }
    return [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]


def test_a_row_per_record_of_every_arm(rows):
    assert [(row["arm"], row["task"]) for row in rows] == [
        (arm, task) for arm in plasticity.ARMS for task in (2, 4, 6)
    ]
    for row in rows:
        assert 0 <= row["online_accuracy"] <= 1
        assert 0 <= row["revived"] <= row["silent"] <= 2 * 64
        assert 1 <= row["effective_rank"] <= 32
        assert row["dead"] == (None if row["negative_slope"] else row["always_negative"])
        assert (row["restarted"] > 0) <= (row["arm"] == "relu_redo")


def test_silent_units_are_accounted_for(rows):
    # Both tasks of a record: silent at the end = silent at the start + fell silent - revived.
    for row in rows:
        at_end = row["always_negative"] * 64 * 2
        assert at_end == pytest.approx(row["silent"] + row["died"] - row["revived"], abs=0.01)


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


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"tasks": 7}, "give a multiple of --every"),
        ({"step_size": 0.0}, "--step-size is 0.0"),
        ({"arms": ("gelu",)}, "--arms is"),
        ({"images": 10**6}, "--images is 1000000"),
    ],
)
def test_a_wrong_setting_is_one_sentence(tmp_path, change, sentence):
    with pytest.raises(LabError, match=sentence):
        plasticity.run(
            dataclasses.replace(plasticity.Config(out=tmp_path / "run", data="embedded"), **change)
        )
