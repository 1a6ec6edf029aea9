"""LeakyReLU for JAX with the leanest backward pass, and the instrument that tells whether a network needs it."""

__version__ = "0.1.0"
