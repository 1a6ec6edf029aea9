"""NNX modules are counted as NumPy counts them, however they are given."""

import functools

import numpy as np
import pytest
from flax import nnx

from jax_leaky import census

BATCHES = list(np.random.default_rng(0).normal(size=(3, 16, 5)).astype(np.float32))
BIAS = np.array([0, -100, 0, 100, 0, -100], np.float32)


class Net(nnx.Module):
    def __init__(self):
        self.first = nnx.Linear(5, 6, rngs=nnx.Rngs(0))
        self.first.bias = nnx.Param(np.add(BIAS, 0))

    def __call__(self, x):
        return self.encode(x).sum()

    def encode(self, x):
        return nnx.relu(self.first(x))


@pytest.mark.parametrize("how", ["module", "method", "partial"])
def test_a_module_its_method_and_a_partial_are_counted(how):
    net = Net()
    fn = {"module": net, "method": net.encode, "partial": functools.partial(lambda net, x: net(x), net)}[how]
    (site,) = census(fn, BATCHES)
    z = np.concatenate(BATCHES).astype(np.float64) @ np.asarray(net.first.kernel[...], np.float64) + BIAS
    assert site.n == 48
    np.testing.assert_array_equal(site.per_unit("never_active"), (z < 0).all(0))
    assert site.per_unit("never_active").sum() == 2
    assert repr(site) == f"SiteCensus({site.name!r}, relu, 6 units)"
