"""``import jax_leaky`` costs JAX alone."""

import subprocess
import sys

import pytest

HEAVY = {"flax", "optax", "orbax", "matplotlib", "rich", "sklearn", "tyro", "pandas", "torch"}


FLAX = {"flax", "optax", "orbax", "rich"}  # flax, and what it imports itself


@pytest.mark.parametrize("flavour", ["jax_leaky.linen", "jax_leaky.nnx"])
def test_what_an_import_brings_along(flavour):
    script = f"import sys, jax_leaky; print(*sys.modules); import {flavour}; print(*sys.modules)"
    shell = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    alone, with_flax = (line.split() for line in shell.stdout.splitlines())
    assert not {name.split(".")[0] for name in alone} & HEAVY
    assert {name.split(".")[0] for name in with_flax} & HEAVY <= FLAX
    assert {"jax_leaky.linen", "jax_leaky.nnx"} & set(with_flax) == {flavour}
