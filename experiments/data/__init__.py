"""The embedded subset of Fashion-MNIST, its checksums and its licence; build_subset.py makes it."""
