"""Common claims about LeakyReLU, and what the recorded runs show."""
