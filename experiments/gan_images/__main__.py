"""`python -m experiments.gan_images`."""

from experiments.gan_images.experiment import main

main()
