"""Does LeakyReLU in the discriminator make a GAN on images better or steadier?"""
