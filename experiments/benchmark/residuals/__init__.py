"""What a gradient step keeps and costs, block by block, on three platforms."""
