"""`python -m experiments.learning_rate_map`."""

from experiments.learning_rate_map.experiment import main

main()
