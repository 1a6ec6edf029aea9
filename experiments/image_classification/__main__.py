"""`python -m experiments.image_classification`."""

from experiments.image_classification.experiment import main

main()
