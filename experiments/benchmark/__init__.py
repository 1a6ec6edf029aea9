"""The benchmarks: a file is a subcommand of `python -m experiments.benchmark` when it has `add_flags` and `run`."""
