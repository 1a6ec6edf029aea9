"""Training steps of whole networks, each activation beside the others."""
