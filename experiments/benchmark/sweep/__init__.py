"""How fast a sweep trains its networks."""
