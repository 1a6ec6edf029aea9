"""`python -m experiments.gan_modes`."""

from experiments.gan_modes.experiment import main

main()
