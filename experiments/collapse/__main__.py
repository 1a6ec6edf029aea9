"""`python -m experiments.collapse`."""

from experiments.collapse.experiment import main

main()
