"""Does a network lose its ability to learn over hundreds of tasks, and do its never-active units come back?"""
