"""The benchmark of the device at hand, with small sizes on the CPU."""

import argparse
import json

import flax.linen as nn
import pytest

from experiments.benchmark import device, tracing
from experiments.benchmark.residuals.blocks import BLOCKS


def flags(*given):
    parser = argparse.ArgumentParser()
    device.add_flags(parser)
    return parser.parse_args([*given, "--rounds", "2", "--seconds", "0"])


@pytest.mark.slow
def test_every_part_is_timed_and_recorded_under_the_devices_name(monkeypatch, tmp_path, capsys):
    graph = "graph attention layer"
    small = tracing.Case("small", nn.Sequential([nn.Dense(4), nn.relu]), (8, 3))
    monkeypatch.setattr(device, "RESULTS", tmp_path)
    monkeypatch.setattr(device, "BLOCKS", BLOCKS[:1])
    monkeypatch.setattr(device, "NETWORKS", {graph: device.NETWORKS[graph]})
    monkeypatch.setattr(tracing, "CASES", (small,))
    device.run(flags("--rows", "64", "--training-steps", "2", "--record"))
    found = json.loads((tmp_path / "device_cpu.json").read_text())
    seconds = found["blocks"][BLOCKS[0].name]["seconds"]
    assert list(seconds) == ["none", "relu", "jax.nn", "bits", "mask", "output"]
    assert all(len(values) == 2 and min(values) > 0 for values in seconds.values())
    assert found["networks"][graph]["seconds"].keys() == {"none", "jax.nn", "bits", "output"}
    assert found["steps"]["small"]["step_ratio"]["median"] > 0
    assert found["sweep"]["dead_neurons"]["networks"] == 120
    assert found["left_out"] == []
    text = (tmp_path / "device_cpu.md").read_text()
    assert text in capsys.readouterr().out
    assert text.startswith("# Measured on cpu")


def test_what_there_was_no_time_for_is_named(capsys):
    device.run(flags("--parts", "blocks", "sweep", "--minutes", "-1"))
    printed = capsys.readouterr().out
    assert (
        f"Left out, as the time was over: {'; '.join(block.name for block in BLOCKS)}; dead_neurons."
        in printed
    )
