import json

import jax
import numpy as np
import pytest

from jax_leaky import units

Z = np.float32([[2.0, -1.0], [-4.0, -3.0], [6.0, -2.0]])


def summary(slope=0.0, gradient=None):
    return units.summarize(units.update(units.init(2), Z, negative_slope=slope, gradient=gradient))


def test_the_row_of_a_relu_layer():
    row = summary(gradient=np.float32([[1, 0], [-1, 0], [0, 0]])).to_dict()
    assert row == {
        "n": 3,
        "nonfinite": 0,
        "act_freq": 0.33333334,
        "dead": 0.5,
        "never_active": 0.5,
        "always_active": 0.0,
        "linear": 0.5,
        "rare": 0.5,
        "dormant_score": 1.0,
        "dormant@0": 0.5,
        "dormant@0.025": 0.5,
        "dormant@0.1": 0.5,
        "dormant_pos": 1.0,
        "dormant_pos@0": 0.5,
        "dormant_pos@0.025": 0.5,
        "dormant_pos@0.1": 0.5,
        "mean_slope": 0.33333334,
        "grad_dead": 0.5,
        "grad_score": 1.0,
        "since_fired": 3,
        "rule_of_three": 1.0,
        "notes": {},
    }
    assert {type(value) for value in row.values()} == {int, float, dict}
    assert json.loads(json.dumps(row, allow_nan=False)) == row


@pytest.mark.parametrize("slope", [0.25, -1.0, np.float32([0.0, 0.1])])
def test_dead_is_not_claimed_for_a_leaky_layer(slope):
    row = summary(slope).to_dict()
    assert row["dead"] is None
    assert row["notes"]["dead"].startswith("n/a by construction")
    assert row["never_active"] == 0.5


def test_gradients_that_were_not_counted_are_null():
    row = summary().to_dict()
    assert row["grad_dead"] is row["grad_score"] is None
    assert row["notes"] == {"grad_dead": "no gradient was counted", "grad_score": "no gradient was counted"}


def test_the_row_is_the_same_from_jit_keys_in_order():
    counts = units.update(units.init(2), Z)
    assert list(jax.jit(units.summarize)(counts).to_dict().items()) == list(
        units.summarize(counts).to_dict().items()
    )


def test_columns_hold_a_list_for_each_measure():
    columns = summary().units_to_dict()
    assert columns["unit"] == [0, 1]
    assert columns["never_active"] == [0.0, 1.0]
    assert columns["since_fired"] == [0, 3]
    assert columns["grad_dead"] == [None, None]
    assert {len(column) for column in columns.values()} == {2}
    json.dumps(columns, allow_nan=False)


def test_columns_show_where_the_non_finite_values_are():
    z = Z.copy()
    z[1:, 1] = np.nan
    columns = units.summarize(units.update(units.init(2), z)).units_to_dict()
    assert columns["nonfinite"] == [0, 2]
    assert columns["never_active"] == columns["since_fired"] == [None, None]


def test_counts_beyond_float_precision_are_exact_in_the_row():
    counts = units.update(units.init(2, start=2**53), Z)
    assert units.summarize(counts).to_dict()["since_fired"] == 2**53 + 3


def test_a_stack_is_refused_with_the_remedy():
    stack = jax.vmap(lambda z: units.summarize(units.update(units.init(2), z)))(np.stack([Z, Z]))
    with pytest.raises(ValueError, match=r"the summary is a stack of shape \(2,\): take one of it"):
        stack.to_dict()
    assert jax.tree.map(lambda x: x[1], stack).to_dict() == summary().to_dict()
    assert "Summary" in str(stack)


def test_printing_is_a_plain_table():
    text = str(summary(0.5))
    assert "never_active       0.5\n" in text
    assert "dead               n/a\n" in text
    assert text.splitlines()[-3].startswith("dead: n/a by construction")
    jax.jit(lambda z: str(units.summarize(units.update(units.init(2), z))) and z)(Z)
