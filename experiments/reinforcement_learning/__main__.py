"""`python -m experiments.reinforcement_learning`."""

from experiments.reinforcement_learning.experiment import main

main()
