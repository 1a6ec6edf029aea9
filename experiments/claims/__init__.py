"""What is said of LeakyReLU, and what the recorded runs say to it."""
