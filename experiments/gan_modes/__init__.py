"""Does LeakyReLU keep a generative adversarial network from losing modes?"""
