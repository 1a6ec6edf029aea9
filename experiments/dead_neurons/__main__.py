"""`python -m experiments.dead_neurons`."""

from experiments.dead_neurons.experiment import main

main()
