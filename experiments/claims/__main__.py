"""`python -m experiments.claims`."""

from experiments.claims.experiment import main

main()
