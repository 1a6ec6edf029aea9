import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.born_dead import plane, random_networks


@pytest.mark.slow
def test_the_plane_against_numpy_with_very_many_inputs():
    networks, hidden = 150, 8
    angles = 2 * np.pi * np.arange(40_000) / 40_000
    inputs = np.stack([np.cos(angles), np.sin(angles)])
    for width in (1, 2, 3, 5):
        rng = np.random.default_rng(width)
        shapes = [(width, 2, networks), *[(width, width, networks)] * (hidden - 1)]
        weights = [rng.standard_normal(shape) for shape in shapes]
        pieces = plane.whole_plane(networks, width)
        h = np.broadcast_to(inputs[:, None], (2, networks, angles.size))
        for layer in weights:
            pieces, alive, left_out = jax.jit(plane.cut)(pieces, jnp.array(layer, jnp.float32))
            h = np.maximum(np.einsum("oin,inp->onp", layer, h), 0)
            by_inputs = (h > 0).any((0, 2))
            assert not left_out
            assert not (by_inputs & ~np.asarray(alive)).any()
            # 40,000 inputs miss what is alive on less than a ten-thousandth of the circle.
            assert (np.asarray(alive) & ~by_inputs).sum() <= 1
        assert width == 5 or by_inputs.sum() < networks
        assert width == 1 or by_inputs.sum() > 0


@pytest.mark.slow
def test_a_piece_too_narrow_for_samples_is_found():
    # The only unit of the second layer fires where the two of the first are nearly equal: z = -|a - b| + 1e-5 (a + b),
    # made of the two units a - b and b - a of the layer between.
    between = np.array([[1, -1], [-1, 1]])
    layers = [np.eye(2), np.concatenate([between, np.eye(2)]), np.array([[-1, -1, 1e-5, 1e-5]])]
    pieces = plane.whole_plane(1, 4)
    for layer in layers:
        pieces, alive, _ = plane.cut(pieces, jnp.array(layer[:, :, None], jnp.float32))
        assert alive.all()
    pieces, alive, _ = plane.cut(pieces, jnp.full((1, 1, 1), -1.0))
    assert not alive.any()
    h = random_networks.probes_of(2, 60).T  # none of these has equal entries, or both positive and nearly so
    for layer in layers:
        h = np.maximum(layer @ h, 0)
    assert not h.any()


def test_pieces_without_a_place_are_counted(monkeypatch):
    monkeypatch.setattr(plane, "_CHUNK", 8)
    whole = plane.whole_plane(64, 3)
    weights = jnp.array(np.random.default_rng(0).standard_normal((3, 2, 64)), jnp.float32)
    pieces, alive, left_out = plane.cut(whole, weights)
    cramped = plane.Pieces(whole.begin[:, :280], whole.end[:, :280], whole.network[:280], whole.taken)
    fewer, still_alive, now_left_out = plane.cut(cramped, weights)
    assert left_out == 0 < now_left_out == pieces.taken - fewer.taken
    assert fewer.taken == 280 - 3 * 8
    np.testing.assert_array_equal(alive, still_alive)
