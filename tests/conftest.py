import jax

# Four devices on the CPU, so that shard_map and collectives meet more than one; before any backend starts.
jax.config.update("jax_num_cpu_devices", 4)

# The tests of the library compile thousands of small programs and run each for no time: what XLA optimises last makes
# them slow to compile and no different. The experiments' programs run longer than they compile.
SMALL_PROGRAMS = {"op", "tracing", "units", "census", "wiring"}


def pytest_runtest_setup(item):
    jax.config.update("jax_disable_most_optimizations", item.path.parent.name in SMALL_PROGRAMS)
