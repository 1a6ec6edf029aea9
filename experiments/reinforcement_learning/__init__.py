"""Where do units die in deep reinforcement learning, and does resetting them help?"""
