"""Does the signal keep its size through 50 layers, forward and backward, with the right gain and with the wrong one?"""
