"""What the modules beside this one share: the points, our side of a comparison, and how one is told."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_leaky import leaky_relu

SLOPE = 0.25  # exact in every dtype, so that nobody's rounding of the slope shows
TINY, LEAST = np.finfo(np.float32).smallest_normal, np.finfo(np.float32).smallest_subnormal
POINTS = {
    "1": 1.0,
    "-1": -1.0,
    "0": 0.0,
    "-0": -0.0,
    "infinity": np.inf,
    "-infinity": -np.inf,
    "NaN": np.nan,
    "greatest number": np.finfo(np.float32).max,
    "least number": np.finfo(np.float32).min,
    "4 x least normal number": 4 * TINY,
    "-4 x least normal number": -4 * TINY,
    "least subnormal number": LEAST,
    "-least subnormal number": -LEAST,
}


class Comparison(NamedTuple):
    """One array of ours beside one of theirs.

    Attributes:
        suite: of theirs, such as "OpInfo samples of prelu".
        case: in the suite.
        part: what of the case: "value", "gradient", "gradient of the slope".
        ours: as it came from JAX.
        theirs: the library's own result, or the one that its suite expects.
        rtol: what may be between them, as assert_allclose has it.
        atol: likewise.
    """

    suite: str
    case: str
    part: str
    ours: np.ndarray
    theirs: np.ndarray
    rtol: float = 0.0
    atol: float = 0.0

    def check(self):
        """Fails unless both are equal within the tolerance; NaN where NaN."""
        what = f"{self.suite}, {self.case}: {self.part}"
        assert np.shape(self.ours) == np.shape(self.theirs), what
        np.testing.assert_allclose(
            self.wide(self.ours), self.wide(self.theirs), self.rtol, self.atol, err_msg=what
        )

    def largest_difference(self):
        """Relative to the greatest number of theirs; NaN and infinities, which `check` wants equal, left aside."""
        ours, theirs = self.wide(self.ours), self.wide(self.theirs)
        finite = np.isfinite(theirs)
        differences = np.abs(ours[finite] - theirs[finite])
        if not differences.size or not differences.max():
            return 0.0
        return differences.max() / np.abs(theirs[finite]).max()

    @staticmethod
    def wide(array):
        return np.asarray(array).astype(np.float64)


def points():
    """All of them as float32, of the shape (points,)."""
    return np.array(list(POINTS.values()), np.float32)


def kept():
    """The points, as a mask, that the backend computes with: XLA's CPU backend takes a subnormal for 0."""
    x = points()
    if jax.default_backend() != "cpu":
        return np.ones(x.shape, bool)
    return (x == 0) | ~(np.abs(x) < TINY)


def ours(x, slope=SLOPE, cotangent=None, f=leaky_relu):
    """Our value and the cotangents of x and, where it is an array, of the slope."""
    arrays = [jnp.asarray(x)] + ([] if isinstance(slope, float) else [jnp.asarray(slope)])
    y, pullback = jax.vjp(f if len(arrays) == 2 else lambda x: f(x, slope), *arrays)
    cotangent = jnp.ones_like(y) if cotangent is None else jnp.asarray(cotangent, y.dtype)
    return y, *pullback(cotangent)


def rounding(dtype):
    """The relative distance of two numbers of a dtype that differ in the last place, twice."""
    return 2 * float(jnp.finfo(dtype).eps)
