"""Published networks that use LeakyReLU, in Flax Linen: a file each, the activation an attribute."""
