"""What changed between two censuses."""

import functools

import jax
import numpy as np
import pytest

from jax_leaky import census, swap

X = np.random.default_rng(6).normal(size=(50, 6)).astype(np.float32)


def net(shift: np.ndarray, x: jax.Array) -> jax.Array:
    with jax.named_scope("net"):
        return jax.nn.relu(jax.nn.relu(x + shift) - 0.5)


BEFORE, AFTER = np.zeros((2, 6), np.float32)
BEFORE[[0, 1]] = -50
AFTER[[1, 2, 3]] = -50


def test_units_die_and_revive() -> None:
    before, after = (census(functools.partial(net, shift), X) for shift in (BEFORE, AFTER))
    changes = before.compare(after)
    first, second = changes.to_dicts()
    assert (first["before"], first["after"], first["died"], first["revived"]) == (
        "net/relu",
        "net/relu",
        2,
        1,
    )
    assert (first["never_active_before"], first["never_active_after"]) == (pytest.approx(1 / 3), 0.5)
    assert second["before"] == "net/relu_1"
    lines = str(changes).splitlines()
    assert lines[0].split() == [
        "site",
        "slope",
        "units",
        "never",
        "active",
        "died",
        "revived",
        "mean",
        "slope",
    ]
    assert "33.3 % -> 50.0 %" in lines[1]


def test_a_model_is_compared_with_its_swapped_self() -> None:
    fn = functools.partial(net, BEFORE)
    leaky = swap(fn, {"relu": lambda z: jax.nn.leaky_relu(z, 0.2)})
    changes = census(fn, X).compare(census(leaky, X))
    first, second = changes.to_dicts()
    assert (first["before"], first["after"]) == ("net/relu", "net/leaky_relu")
    assert first["died"] == first["revived"] == 0
    assert first["mean_slope_before"] == pytest.approx(1 - (1 - (X[:, 2:] > 0)).sum() / 300 - 2 / 6)
    assert first["mean_slope_after"] == pytest.approx(0.2 + 0.8 * first["mean_slope_before"], rel=1e-5)
    assert second["after"] == "net/leaky_relu_1"
    assert str(changes).splitlines()[4:] == ["after: leaky_relu in the place of relu"]  # once, for both


def test_a_site_that_moved_is_named_in_full() -> None:
    def named(name: str, x: jax.Array) -> jax.Array:
        with jax.named_scope(name):
            return jax.nn.relu(x)

    before, after = (census(functools.partial(named, name), X) for name in ("a", "b"))
    assert str(before.compare(after)).splitlines()[-1] == "after: b/relu in the place of a/relu"


def test_other_models_are_paired_by_name_and_the_rest_is_listed() -> None:
    def other(x: jax.Array) -> jax.Array:
        with jax.named_scope("net"):
            x = jax.nn.relu(x)
        with jax.named_scope("head"):
            return jax.nn.relu(x[:, :3])

    changes = census(functools.partial(net, BEFORE), X).compare(census(other, X))
    assert [row["after"] for row in changes.to_dicts()] == ["net/relu"]
    assert (changes.only_before, changes.only_after) == (("net/relu_1",), ("head/relu",))
    assert "only after: head/relu" in str(changes)


def test_a_diverged_side_has_no_transitions() -> None:
    fn = functools.partial(net, BEFORE)
    row = census(fn, X).compare(census(fn, X * np.nan)).to_dicts()[0]
    assert (row["died"], row["revived"], row["never_active_after"]) == (None, None, None)


def test_bad_input_gets_one_sentence() -> None:
    found = census(functools.partial(net, BEFORE), X)
    with pytest.raises(TypeError, match="compare: after is of type int: give a census"):
        found.compare(3)  # type: ignore[arg-type] # the error is what is tested
    with pytest.raises(ValueError, match="no site in common"):
        found.compare(census(jax.nn.relu, X[:, :2]))
