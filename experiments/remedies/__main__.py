"""`python -m experiments.remedies`."""

from experiments.remedies.experiment import main

main()
