"""How likely is a network to be dead before it is trained?"""
