"""Published networks with LeakyReLU, in Flax Linen: a file each, the activation an attribute of every module."""
