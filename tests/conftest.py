"""Settings of all tests, made before JAX starts.

The tests compile thousands of small programs and run each for no time. What XLA optimises last takes most of that time
and changes no result that is tested. With XLA_FLAGS set, to nothing too, XLA stays as users have it.
"""

import os
from importlib import metadata

FAST = "--xla_cpu_use_fusion_emitters=false"
AS_USERS_HAVE_IT = os.environ.get("XLA_FLAGS", FAST) != FAST
if metadata.version("jaxlib").startswith("0.10."):  # later ones know no such flag
    os.environ.setdefault("XLA_FLAGS", FAST)

import jax  # noqa: E402  XLA reads its flags when it starts

# Four devices on the CPU, so that shard_map and collectives meet more than one; before any backend starts.
jax.config.update("jax_num_cpu_devices", 4)

# The experiments' programs are not among the small ones: they run longer than they compile.
SMALL_PROGRAMS = {"op", "tracing", "units", "census", "wiring"}


def pytest_runtest_setup(item):
    small = item.path.parent.name in SMALL_PROGRAMS and not AS_USERS_HAVE_IT
    jax.config.update("jax_disable_most_optimizations", small)
