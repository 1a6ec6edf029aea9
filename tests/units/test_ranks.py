import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_leaky import units

RANKS = [units.effective_rank, units.stable_rank, units.srank]


def rotated(sigma, rows=9, units=4):
    """A (rows, units) matrix with these singular values, the rest being 0."""
    sigma = np.pad(np.float64(sigma), (0, units - len(sigma)))
    rng = np.random.default_rng(0)
    left = np.linalg.qr(rng.normal(size=(rows, len(sigma))))[0]
    right = np.linalg.qr(rng.normal(size=(len(sigma), len(sigma))))[0]
    return (left * sigma @ right).astype(np.float32)


@pytest.mark.parametrize(
    ("rank", "sigma", "expected"),
    [
        (units.effective_rank, [1, 1, 1, 1], 4.0),
        (units.effective_rank, [5, 0, 0], 1.0),
        # Shares 1/2, 1/4, 1/4: the entropy is 1.5 ln 2.
        (units.effective_rank, [4, 2, 2], 2**1.5),
        (units.stable_rank, [1, 1, 1, 1], 4.0),
        (units.stable_rank, [2, 1, 1], 1.5),
        (units.stable_rank, [3, 0], 1.0),
        (units.srank, [1, 1, 1, 1], 4.0),
        (units.srank, [98, 1.5, 0.5], 2.0),
        (units.srank, [99.5, 0.5], 1.0),
        (units.srank, [7, 0, 0], 1.0),
    ],
)
@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e35])
def test_ranks_of_known_singular_values(rank, sigma, expected, scale):
    np.testing.assert_allclose(rank(rotated(sigma) * np.float32(scale)), expected, rtol=1e-5)
    np.testing.assert_allclose(rank(rotated(sigma).T * np.float32(scale)), expected, rtol=1e-5)


def test_the_share_of_srank():
    a = np.diag(np.float32([50, 30, 20]))
    assert [float(units.srank(a, share=share)) for share in (0.4, 0.5, 0.6, 0.9)] == [1, 1, 2, 3]


@pytest.mark.parametrize("rank", RANKS)
def test_zero_and_non_finite(rank):
    assert float(rank(np.zeros((4, 3), np.float32))) == 0
    for bad in (np.nan, np.inf, -np.inf):
        a = np.eye(3, dtype=np.float32)
        a[1, 2] = bad
        assert np.isnan(rank(a))


@pytest.mark.parametrize("rank", RANKS)
def test_jit_vmap_and_narrow_types(rank):
    a = np.stack([rotated([4, 2, 2]), rotated([1, 1, 1])])
    np.testing.assert_allclose(jax.jit(jax.vmap(rank))(a), [rank(a[0]), rank(a[1])], rtol=1e-5)
    assert float(rank(jnp.eye(3, dtype=jnp.bfloat16))) == pytest.approx(3)
