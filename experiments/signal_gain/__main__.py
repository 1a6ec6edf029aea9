"""`python -m experiments.signal_gain`."""

from experiments.signal_gain.experiment import main

main()
