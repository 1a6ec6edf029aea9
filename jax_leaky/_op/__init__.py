"""LeakyReLU, its derivative rules and what they keep."""
