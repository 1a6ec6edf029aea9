"""On an H100, XLA fuses our op into a half-precision cuDNN convolution, and does not fuse jax.nn's."""

import json
import os
import subprocess
import sys

import pytest

from experiments.benchmark import deviceless
from experiments.benchmark.residuals.cudnn_fusion import LAYERS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.peer,
    pytest.mark.skipif(bool(deviceless.missing("cuda")), reason=deviceless.missing("cuda") or "never"),
]
FUSED, LEFT = ["LeakyRelu"] * LAYERS, ["None"] * LAYERS


@pytest.fixture(scope="module")
def modes():
    """By activation, training and flag; in a process of its own, which must not look for accelerators."""
    ran = subprocess.run(
        [sys.executable, "-m", "experiments.benchmark.residuals.cudnn_fusion"],
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=True,
    )
    rows = map(json.loads, ran.stdout.splitlines())
    return {
        (row["activation"], row["training"], row["xla_gpu_use_runtime_fusion"]): row["modes"] for row in rows
    }


@pytest.mark.parametrize("training", [False, True], ids=["forward", "training"])
@pytest.mark.parametrize("residual", ["bits", "mask", "output"])
def test_ours_is_fused(modes, residual, training):
    assert modes[residual, training, True] == FUSED


@pytest.mark.parametrize("training", [False, True], ids=["forward", "training"])
def test_that_of_jax_is_not(modes, training):
    assert modes["jax.nn", training, True] == LEFT


def test_nothing_is_fused_without_the_flag(modes):
    assert modes["bits", True, False] == modes["bits", False, False] == LEFT
