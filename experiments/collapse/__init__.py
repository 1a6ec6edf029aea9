"""How often does a deep and narrow network collapse to a constant when it is trained?"""
