"""Do the LeakyReLU networks that people use have channels that are never active?"""
