import jax

# Four devices on the CPU, so that shard_map and collectives meet more than one; before any backend starts.
jax.config.update("jax_num_cpu_devices", 4)

# The tests of the library compile thousands of small programs and run each for no time: what XLA optimises last makes
# them slow to compile and no different. The experiments' programs run longer than they compile. (XLA's older emitters
# for the CPU, --xla_cpu_use_fusion_emitters=false, would save as much again, but get some float8 types wrong.)
SMALL_PROGRAMS = {"op", "tracing", "units", "census", "wiring"}


def pytest_runtest_setup(item):
    jax.config.update("jax_disable_most_optimizations", item.path.parent.name in SMALL_PROGRAMS)
