"""Where does LeakyReLU learn faster or better than ReLU: over optimiser, learning rate and slope?"""
