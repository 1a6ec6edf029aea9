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
    script = f"import sys, {module}; print(*(name.split('.')[0] for name in sys.modules))"
    shell = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert set(shell.stdout.split()) & HEAVY <= allowed


def test_the_flax_modules_import_flax_only_when_asked_for():
    script = "import sys, jax_leaky; assert 'jax_leaky.linen' not in sys.modules and 'jax_leaky.nnx' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
