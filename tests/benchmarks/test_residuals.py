"""What our residuals need in the block suite: figures that must not get worse, and the reading of HLO programs.

The bounds are the recorded figures (experiments/benchmark/results/residuals.md) and leave 1 % for a compiler's mood.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.benchmark import deviceless
from experiments.benchmark.residuals import hlo
from experiments.benchmark.residuals.blocks import ACTIVATIONS, BLOCKS, REMAT_BLOCKS
from experiments.benchmark.residuals.figures import figures
from experiments.benchmark.residuals.tables import by_block, ratio
from experiments.benchmark.residuals.times import times

NOISE = 1.01
RECORD = json.loads(
    (Path(__file__).parents[2] / "experiments" / "benchmark" / "results" / "residuals.json").read_text()
)


def bounds(platform):
    """What our default needs on a platform, by block: temporary bytes and the compiler's cycles."""
    rows = (row for row in RECORD[platform]["figures"] if row["activation"] == "bits")
    return {row["block"]: (row["temporary"], row["megacycles"]) for row in rows}


@pytest.mark.slow
@pytest.mark.parametrize("block", BLOCKS + REMAT_BLOCKS, ids=lambda block: block.name)
def test_bits_on_the_cpu_need_no_more_than_recorded(block):
    assert figures("cpu", block, "bits")["temporary"] <= NOISE * bounds("cpu")[block.name][0]


def compiled_for(platform):
    """Figures of our default by block, from a process of its own, which must not look for accelerators."""
    ran = subprocess.run(
        [sys.executable, "-m", "experiments.benchmark.residuals.figures", platform, "--activations", "bits"],
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=True,
    )
    return {row["block"]: row for row in map(json.loads, ran.stdout.splitlines())}


@pytest.mark.slow
@pytest.mark.peer
@pytest.mark.parametrize(
    "platform",
    [
        pytest.param(name, marks=pytest.mark.skipif(bool(missing), reason=missing or "never"))
        for name, missing in ((name, deviceless.missing(name)) for name in ("cuda", "tpu"))
    ],
)
def test_bits_on_an_accelerator_need_no_more_than_recorded(platform):
    found = compiled_for(platform)
    assert set(found) == set(bounds(platform))
    for block, (temporary, megacycles) in bounds(platform).items():
        assert found[block]["temporary"] <= NOISE * temporary, block
        assert found[block]["megacycles"] <= NOISE * megacycles, block


# By hand, so that a figure that got worse is not simply recorded: the geometric mean of our memory over that of no
# activation, and of the compiler's cycles, or the time, over jax.nn's.
PROMISED = {"cpu": (1.07, 1.0), "cuda": (1.07, None), "tpu": (1.19, 0.97)}
# Where we need more than jax.nn: the second product keeps y anyway, and XLA reads the sign from that.
MORE_THAN_JAX = {("tpu", "feed-forward, unrolled"): 1.03}


@pytest.mark.parametrize("platform", RECORD)
def test_the_record_keeps_what_is_promised(platform):
    found = by_block(RECORD[platform])
    memory, speed = PROMISED[platform]
    assert ratio(found, "temporary", "bits", "none")[0] <= memory
    if speed:
        key = "megacycles" if platform == "tpu" else "time"
        assert ratio(found, key, "bits", "jax.nn")[0] <= NOISE * speed


@pytest.mark.parametrize("platform", RECORD)
def test_bits_need_no_more_than_jax(platform):
    need = {key: row["temporary"] for key, row in by_block(RECORD[platform]).items()}
    for block in bounds(platform):
        most = MORE_THAN_JAX.get((platform, block), NOISE)
        assert need[block, "bits"] <= most * need[block, "jax.nn"], block


@pytest.mark.parametrize("name", ["MLP, unrolled", "MLP, in scan", "residual + norm, unrolled"])
def test_bits_on_the_cpu_need_less_than_jax(name):
    (block,) = (block for block in BLOCKS if block.name == name)
    assert figures("cpu", block, "bits")["temporary"] < figures("cpu", block, "jax.nn")["temporary"]


@pytest.mark.slow
def test_a_block_is_timed_in_every_round_with_every_activation():
    (block,) = (block for block in BLOCKS if block.name == "MLP, frozen, unrolled")
    seconds = times(block, ["jax.nn", "none"], rounds=3)
    assert {name: len(values) for name, values in seconds.items()} == {"jax.nn": 3, "none": 3}
    assert 0 < min(seconds["none"]) < max(seconds["jax.nn"])


def test_the_suite_knows_every_residual():
    assert list(ACTIVATIONS) == ["none", "nothing", "relu", "jax.nn", "bits", "mask", "output"]


PROGRAM = """
%fused (p.0: f32[4,8], p.1: f32[8], p.2: s32[]) -> f32[4,8] {
  %p.0 = f32[4,8]{1,0} parameter(0)
  %p.1 = f32[8]{0} parameter(1)
  %b.1 = f32[1,8]{1,0} bitcast(%p.1)
  %p.2 = s32[] parameter(2)
  ROOT %d.1 = f32[4,8]{1,0} dynamic-update-slice(%p.0, %b.1, %p.2)
}

%body (t: (s32[], f32[4,8])) -> (s32[], f32[4,8]) {
  %t = (s32[], f32[4,8]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%t), index=0
  %s = f32[4,8]{1,0} get-tuple-element(%t), index=1
  %v = f32[8]{0:S(1)} custom-call(), custom_call_target="AllocateBuffer"
  %f = f32[4,8]{1,0} fusion(%s, %v, %i), kind=kLoop, calls=%fused, backend_config={"estimated_cycles":"7"}
  ROOT %r = (s32[], f32[4,8]{1,0}) tuple(%i, %f)
}

ENTRY %main (x: f32[4,8]) -> f32[4,8] {
  %x = f32[4,8]{1,0} parameter(0)
  %n = bf16[4,8]{1,0} convert(%x), backend_config={"estimated_cycles":"5"}
  %w = (s32[], f32[4,8]{1,0}) while(%x), condition=%cond, body=%body
  ROOT %o = f32[4,8]{1,0} get-tuple-element(%w), index=1
}
"""


def test_an_hlo_program_costs_what_paper_says():
    # convert reads 4*8*4 bytes and writes 4*8*2; each turn of the loop reads the index, 4 bytes, and writes a row of
    # 8*4 in place, from a buffer that is not in main memory.
    assert hlo.cost(PROGRAM, iterations=3) == hlo.Cost(
        kernels=1 + 3, bytes_moved=128 + 64 + 3 * (4 + 32), cycles=5 + 3 * 7
    )
