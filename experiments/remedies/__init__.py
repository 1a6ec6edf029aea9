"""Which remedy keeps a network able to learn: units reset, weights held back, a norm, or another activation?"""
