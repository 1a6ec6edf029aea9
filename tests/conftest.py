import os
from pathlib import Path

import jax

# Compiling is most of the time, so that what is compiled is kept, for the next run and for the copies that
# test_mutations makes. The experiments' commands know nothing of it.
KEPT = os.environ.setdefault("TESTS_COMPILED", str(Path(__file__).parents[1] / ".pytest_cache" / "compiled"))
jax.config.update("jax_compilation_cache_dir", KEPT)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

# Four devices on the CPU, so that shard_map and collectives meet more than one; before any backend starts.
jax.config.update("jax_num_cpu_devices", 4)

# The tests of the library compile thousands of small programs and run each for no time: what XLA optimises last makes
# them slow to compile and no different. Slow tests run longer than they compile. (XLA's older emitters for the CPU,
# --xla_cpu_use_fusion_emitters=false, would save as much again, but get some float8 types wrong.)
SMALL_PROGRAMS = {"tests", "op", "tracing", "units", "census", "wiring", "experiments"}


def pytest_runtest_setup(item):
    small = item.path.parent.name in SMALL_PROGRAMS and not item.get_closest_marker("slow")
    jax.config.update("jax_disable_most_optimizations", small)
