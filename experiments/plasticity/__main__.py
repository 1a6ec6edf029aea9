"""`python -m experiments.plasticity`."""

from experiments.plasticity.experiment import main

main()
