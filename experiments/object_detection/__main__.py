"""`python -m experiments.object_detection`."""

from experiments.object_detection.experiment import main

main()
