"""The script of docs/ppo_script.md: with the lines that its page changes it learns the same, and tells who dies."""

import jax
import numpy as np
import pytest

from experiments.benchmark import ppo

TINY = {
    "NUM_ENVS": 4,
    "NUM_STEPS": 16,
    "TOTAL_FRAMES": 192,
    "UPDATE_EPOCHS": 2,
    "NUM_MINIBATCHES": 2,
    "WIDTH": 8,
}


def test_ten_lines_change():
    plain, counted = (source.splitlines() for source in ppo.sources().values())
    added = [line for line in counted if line.strip() and line not in plain]
    assert any("value_and_census" in line for line in added)
    assert len(added) <= 11


@pytest.mark.peer  # gymnax is in that environment
def test_the_counted_script_learns_the_same():
    pytest.importorskip("gymnax")
    found = {}
    for way, source in ppo.sources().items():
        names = ppo.script(source)
        found[way] = jax.jit(names["make_train"](names["CONFIG"] | TINY))(jax.random.key(0))
    plain, counted = ([state.params, metrics["return"]] for state, metrics in found.values())
    jax.tree.map(np.testing.assert_array_equal, plain, counted)
    metrics = found["counted"][1]
    assert set(metrics) == {
        "return",
        "ActorCritic/relu/dormant@0.025",
        "ActorCritic/relu_1/dormant@0.025",
    }
    for name, values in metrics.items():
        assert values.shape == (3,)
        assert name == "return" or ((values >= 0) & (values <= 1)).all()
    pytest.importorskip("matplotlib")
    assert len(ppo.picture(jax.device_get(metrics), names["CONFIG"]).axes) == 2


def test_the_table_says_what_was_measured():
    results = {
        "command": ppo.COMMAND,
        "rounds": 3,
        "environment": ppo.devices.environment(),
        "frames": 32_768,
        "frames_a_second": {"plain": 20_000.0, "counted": 19_900.0},
        "ratio": {"median": 1.005, "low": 1.0, "high": 1.011},
        "temporary_bytes": {"plain": 18_000_000, "counted": 18_051_200},
        "units": 256,
    }
    text = ppo.to_markdown(results)
    assert "| 20,000 | 19,900 | 1.005 (1.000 to 1.011) | 18.0 MB | +51.2 kB (+200 bytes a unit) |" in text
