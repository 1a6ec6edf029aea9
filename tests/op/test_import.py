"""``import jax_leaky`` costs JAX alone."""

import subprocess
import sys

import pytest

HEAVY = {"flax", "optax", "orbax", "matplotlib", "rich", "sklearn", "tyro", "pandas", "torch"}


FLAX = {"flax", "optax", "orbax", "rich"}  # flax, and what it imports itself


@pytest.mark.parametrize(
    ("module", "allowed"), [("jax_leaky", set()), ("jax_leaky.linen", FLAX), ("jax_leaky.nnx", FLAX)]
)
def test_what_an_import_brings_along(module, allowed):
    script = f"import sys, {module}; print(*sys.modules)"
    shell = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert {name.split(".")[0] for name in shell.stdout.split()} & HEAVY <= allowed
    assert {"jax_leaky.linen", "jax_leaky.nnx"} & set(shell.stdout.split()) == {module} - {"jax_leaky"}
