"""`python -m experiments.born_dead`."""

from experiments.born_dead.experiment import main

main()
