"""How many neurons die under ReLU and LeakyReLU?"""
