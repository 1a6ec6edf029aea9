"""`python -m experiments.depth_profile`."""

from experiments.depth_profile.experiment import main

main()
