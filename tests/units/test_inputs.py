"""Bad input: one sentence that names the argument, the value and the remedy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_leaky import units

Z = np.ones((4, 3), np.float32)
COUNTS = units.init(3)
STACK = jax.vmap(lambda _: units.init(3))(np.arange(2))

TYPE_ERRORS = [
    (lambda: units.update(3, Z), "counts is of type int: give the UnitCounts of units.init or units.update"),
    (lambda: units.summarize(3), "counts is of type int: give the UnitCounts"),
    (lambda: units.merge(3, 4), "first is of type int: give the UnitCounts"),
    (lambda: units.merge(COUNTS, 4), "second is of type int: give the UnitCounts"),
    (lambda: units.all_reduce(3, "d"), "counts is of type int: give the UnitCounts"),
    (lambda: units.init(2.5), r"num_units=2\.5 is not an integer"),
    (lambda: units.init("many"), r"num_units='many' is not an integer"),
    (lambda: units.init(3, start=1.0), r"start=1\.0 is not an integer"),
    (lambda: units.init(3, start=[[1], [2, 3]]), r"start=\[\[1\], \[2, 3\]\] is not an integer"),
    (lambda: units.init(3, start=True), "start=True is not an integer"),
    (lambda: units.init(3, start=np.arange(2)), "is not an integer: give the position"),
    (lambda: units.init(3, start=None), "start=None is not an integer"),
    (lambda: units.update(COUNTS, Z.astype(bool)), "z has the dtype bool: give real floating-point"),
    (lambda: units.update(COUNTS, Z.astype(int)), "z has the dtype int32: give real floating-point"),
    (lambda: units.update(COUNTS, Z.astype(np.complex64)), "z has the dtype complex64"),
    (lambda: units.update(COUNTS, "z"), "z='z' is not an array"),
    (lambda: units.update(COUNTS, None), "z=None is not an array"),
    (lambda: units.update(COUNTS, Z, Z > 0), "a has the dtype bool"),
    (lambda: units.update(COUNTS, Z, gradient=Z.astype(int)), "gradient has the dtype int32"),
    (lambda: units.update(COUNTS, Z, where=np.ones(4)), "where has the dtype float32: give bool"),
    (lambda: units.update(COUNTS, Z, negative_slope=1j), "negative_slope has the dtype complex64"),
    (lambda: units.update(COUNTS, Z, negative_slope=True), "negative_slope has the dtype bool"),
    (lambda: units.transitions(np.arange(3), np.arange(3)), "before has the dtype int64"),
    (lambda: units.constant_output(np.arange(3)), "outputs has the dtype int32"),
    (lambda: units.stable_rank(np.eye(3, dtype=int)), "a has the dtype int32"),
]
VALUE_ERRORS = [
    (lambda: units.init(0), "num_units=0 leaves nothing to count"),
    (lambda: units.init(3, start=-1), "-1 does not fit"),
    (lambda: units.init(3, start=2**64), r"18446744073709551616 does not fit"),
    (lambda: units.init(3, start=np.int32(-1)), "-1 does not fit"),
    (lambda: units.init(3, start=COUNTS.fired), r"start has the shape \(3,\)"),
    (lambda: units.update(COUNTS, Z[:, :2]), r"z has the shape \(4, 2\), but counts holds 3 units"),
    (lambda: units.update(COUNTS, np.float32(1)), r"z has the shape \(\)"),
    (lambda: units.update(STACK, Z), r"counts is a stack of shape \(2, 3\): use jax.vmap"),
    (lambda: units.update(COUNTS, Z, Z[:2]), r"a has the shape \(2, 3\), but z has \(4, 3\)"),
    (lambda: units.update(COUNTS, Z, gradient=Z[0]), r"gradient has the shape \(3,\), but z has \(4, 3\)"),
    (
        lambda: units.update(COUNTS, Z, where=np.ones(3, bool)),
        r"shape \(3,\), which does not broadcast to \(4,\)",
    ),
    (lambda: units.update(COUNTS, Z, negative_slope=np.ones(2)), r"shape \(2,\), but there are 3 units"),
    (lambda: units.merge(COUNTS, units.init(2)), r"first has the shape \(3,\) and second \(2,\)"),
    (lambda: units.summarize(STACK), r"counts is a stack of shape \(2, 3\): use jax.vmap"),
    (lambda: units.summarize(COUNTS, rare_below=2), "rare_below=2 is not a share"),
    (lambda: units.summarize(COUNTS, rare_below=float("nan")), "rare_below=nan is not a share"),
    (lambda: units.summarize(COUNTS, taus=(-0.1,)), r"taus holds -0\.1"),
    (lambda: units.summarize(COUNTS, taus=(float("nan"),)), "taus holds nan"),
    (
        lambda: units.transitions(np.ones(3, bool), np.ones(2, bool)),
        r"after has the shape \(2,\), but before has \(3",
    ),
    (lambda: units.transitions(*[np.ones(3, bool)] * 2, np.ones(2, bool)), r"initial has the shape \(2,\)"),
    (
        lambda: units.transitions(np.ones((2, 3), bool), np.ones((2, 3), bool)),
        r"before has the shape \(2, 3\)",
    ),
    (lambda: units.constant_output(Z[:1]), r"outputs has the shape \(1, 3\): give \(samples, out\) with two"),
    (lambda: units.constant_output(Z, rtol=0), "rtol=0 is not a relative tolerance"),
    (lambda: units.effective_rank(Z[0]), r"a has the shape \(3,\): give the activations as \(n, units\)"),
    (lambda: units.srank(jnp.zeros((0, 3))), r"a has the shape \(0, 3\)"),
    (lambda: units.srank(Z, share=1.0), r"share=1\.0 is not a share"),
]


@pytest.mark.parametrize(("call", "sentence"), TYPE_ERRORS, ids=[sentence for _, sentence in TYPE_ERRORS])
def test_type_errors(call, sentence):
    with pytest.raises(TypeError, match=sentence) as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("call", "sentence"), VALUE_ERRORS, ids=[sentence for _, sentence in VALUE_ERRORS])
def test_value_errors(call, sentence):
    with pytest.raises(ValueError, match=sentence) as error:
        call()
    assert "\n" not in str(error.value)


def test_a_batch_whose_samples_do_not_fit_a_count_is_refused():
    with pytest.raises(ValueError, match=r"holds 2\*\*32 samples or more: update in smaller batches"):
        jax.eval_shape(units.update, units.init(1), jax.ShapeDtypeStruct((2**32, 1), "float32"))
