import jax

# Four devices on the CPU, so that shard_map and collectives meet more than one; before any backend starts.
jax.config.update("jax_num_cpu_devices", 4)
