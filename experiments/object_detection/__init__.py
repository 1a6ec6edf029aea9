"""Does a slope help a single-stage detector, and how many of its channels are dead?"""
