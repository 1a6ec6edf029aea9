import jax
import numpy as np
import pytest

from jax_leaky import units

T, F = True, False
BEFORE, AFTER, INITIAL = np.array([T, T, F, F, F]), np.array([T, F, T, T, F]), np.array([T, F, T, F, T])


def test_died_revived_and_overlap_on_paper():
    change = units.transitions(BEFORE, AFTER, INITIAL)
    # Died: units 2 and 3. Revived: unit 1. Now {0, 2, 3}, at step 0 {0, 2, 4}.
    expected = (2, 1, 0.4, 0.2, 2 / 3, 0.5)
    np.testing.assert_allclose(np.array(change), expected, rtol=1e-6)
    assert change.to_dict() == {
        "died": 2,
        "revived": 1,
        "died_share": 0.4,
        "revived_share": 0.2,
        "overlap": 0.6666667,
        "jaccard": 0.5,
    }


def test_the_share_changes_by_died_less_revived():
    change = units.transitions(BEFORE, AFTER)
    np.testing.assert_allclose(
        AFTER.mean() - BEFORE.mean(), change.died_share - change.revived_share, rtol=1e-6
    )


def test_without_step_0_there_is_no_overlap():
    row = units.transitions(BEFORE, AFTER).to_dict()
    assert row["overlap"] is row["jaccard"] is None
    assert row["died"] == 2


def test_no_unit_no_share():
    none = np.zeros(5, bool)
    change = units.transitions(none, none, none)
    assert np.isnan(change.overlap)
    assert np.isnan(change.jaccard)
    assert float(units.transitions(none, none, BEFORE).jaccard) == 0


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_diverged_layer_is_unknown_never_healthy(place):
    masks = [BEFORE.astype(np.float32), AFTER.astype(np.float32), INITIAL.astype(np.float32)]
    masks[place][:] = np.nan
    change = units.transitions(*masks)
    assert np.isnan(change.died) == (place < 2)
    assert np.isnan(change.overlap) == (place > 0)
    assert change.to_dict()["died"] == (None if place < 2 else 2)


def test_the_masks_of_summaries_fit_and_jit_and_vmap_do_too():
    z = np.random.default_rng(0).normal(-1, 1, (3, 2, 4)).astype(np.float32)

    def mask(z):
        return units.summarize(units.update(units.init(4), z)).per_unit["never_active"]

    masks = [mask(one) for one in z]
    expected = units.transitions(*[(one <= 0).all(0) for one in z])
    np.testing.assert_array_equal(np.array(jax.jit(units.transitions)(*masks)), np.array(expected))
    stacked = jax.vmap(units.transitions)(*[np.stack([mask, mask]) for mask in masks])
    np.testing.assert_array_equal(stacked.died, np.array([expected.died] * 2))
