"""Does a slope help convolutional networks to classify images, and how many of their channels are dead?"""
