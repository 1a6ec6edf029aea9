"""How likely a random ReLU network is dead at birth: the exact probabilities and bounds of Lu et al.

Weights are independent, symmetric about 0 and without mass there; biases are zero. A depth counts the layers with
weights, so a network of depth L has L - 1 hidden layers.

References:
    Lu, Shin, Su and Karniadakis: Dying ReLU and Initialization: Theory and Numerical Examples, arXiv:1903.06733.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

# Probability that a network of depth 10 and input dimension 1 is constant, by its width; simulated with 10^6 networks.
DEPTH_TEN = {2: 0.880, 3: 0.579, 4: 0.295, 5: 0.128}


def point_death(hidden: Sequence[int]) -> float:
    """The probability that some hidden layer outputs 0 for one given input: 1 - prod(1 - 2^-N), exactly.

    A layer of N units is negative for an input that reaches it with probability 2^-N, whatever came before. A network
    that is constant has lost this input too, so this bounds the probability of a born-dead network from above, in any
    input dimension.
    """
    return 1 - math.prod(1 - 0.5**width for width in hidden)


def lower_bound(width: int, depth: int, input_dim: int) -> float:
    """A lower bound of the probability that a network with equal hidden widths is constant.

    In one input dimension it is the paper's, with a = 1 - 2^-N and b = 1 - 2^(1-N) - (N - 1) 4^-N:

        1 - a^(L-2) + (1 - 2^(1-N)) (1 - 2^-N) / (1 + (N - 1) 2^-N) (b^(L-2) - a^(L-2))

    It is exact for L = 3, where it is 4^-N (3 - 2^(1-N)). In more dimensions it is the probability that in some hidden
    layer but the first every weight is negative: such a layer is negative for whatever the layer before it outputs.
    """
    later = depth - 2  # hidden layers but the first, which is never negative for both x and -x
    if input_dim > 1:
        return 1 - (1 - 0.5 ** (width * width)) ** later
    a = 1 - 0.5**width
    b = 1 - 2 * 0.5**width - (width - 1) * 0.25**width
    factor = (1 - 2 * 0.5**width) * a / (1 + (width - 1) * 0.5**width)
    return 1 - a**later + factor * (b**later - a**later)


def exact_at_three(width: int, input_dim: int) -> float | None:
    """The probability that a network of depth 3 with equal hidden widths is constant, where it is known; else None.

    In one input dimension `lower_bound` is it. With no fewer inputs than units the first layer gives every vector
    without negative entries, so the second is negative for all of them only if all its N^2 weights are: 2^-(N^2).
    """
    return lower_bound(width, 3, input_dim) if input_dim == 1 or input_dim >= width else None
