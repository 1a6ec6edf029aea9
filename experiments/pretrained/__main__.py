"""`python -m experiments.pretrained`."""

from experiments.pretrained.experiment import main

main()
