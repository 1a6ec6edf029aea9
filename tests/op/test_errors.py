"""Bad input: TypeError or ValueError, one sentence that names the argument, the value and the remedy."""

import re
from decimal import Decimal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_leaky import leaky_relu

X = jnp.ones((2, 3))
NOT_REAL_NUMBERS = [
    ("0.1", r"'0.1' of type str; for a list use jnp.asarray"),
    (b"1", r"b'1' of type bytes; for a list"),
    (None, r"None of type NoneType; for a list"),
    ([1.0, 2.0], r"\[1.0, 2.0\] of type list; for a list use jnp.asarray"),
    ([np.eye(3)], r"\[array\(\[\[1., 0., 0.\], \[0.+ of type list; for a list use"),
    ((1.0,), r"\(1.0,\) of type tuple; for a list"),
    ({"a": 1}, r"\{'a': 1\} of type dict; for a list"),
    (Decimal("0.1"), r"Decimal\('0.1'\) of type Decimal; for a list"),
    (np.float64, r"<class 'numpy.float64'> of type type; for a list"),
    (jax.ShapeDtypeStruct((2,), jnp.float32), r"ShapeDtypeStruct.* of type ShapeDtypeStruct; for a list"),
    (1j, r"dtype complex64; apply the op to the real and the imaginary part"),
    (np.ones(2, complex), r"dtype complex128; apply the op to the real"),
    (jnp.ones(3, jnp.complex64), r"dtype complex64; apply the op to the real"),
    (np.array([1, None], object), r"dtype object; convert it to a float array first"),
    (np.array(["1"]), r"dtype <U1; convert it to a float array first"),
    (np.str_("1"), r"dtype <U1; convert it to a float array first"),
    (np.array([1], "datetime64[D]"), r"dtype datetime64\[D\]; convert it"),
    (np.zeros(2, [("a", float)]), r"dtype \[\('a', '<f8'\)\]; convert it"),
    (jax.random.key(0), r"dtype key<fry>; convert it"),
    (jax.random.split(jax.random.key(0), 3), r"dtype key<fry>; convert it"),
    (
        jnp.ones(3, jnp.float8_e8m0fnu),
        r"must have a dtype that holds .* float8_e8m0fnu; cast it to float32 first",
    ),
]
each_bad_value = pytest.mark.parametrize(
    ("bad", "words"), NOT_REAL_NUMBERS, ids=[words[:25] for _, words in NOT_REAL_NUMBERS]
)


def check_sentence(message, name, words):
    assert re.search(words, message), message
    assert message.startswith(name)
    assert message.endswith(".")
    assert "\n" not in message


@each_bad_value
@pytest.mark.parametrize("name", ["x", "negative_slope"])
def test_not_a_real_number(bad, words, name):
    with pytest.raises(TypeError) as caught:
        leaky_relu(**{"x": X, name: bad})
    check_sentence(str(caught.value), f"{name} ", words)


@pytest.mark.parametrize("bad", ["bit", "Bits", "", None, 1, ["bits"], np.array(["bits", "mask"])], ids=repr)
def test_an_unknown_residual(bad):
    with pytest.raises(ValueError, match="residual") as caught:
        leaky_relu(X, residual=bad)
    check_sentence(
        str(caught.value),
        "residual must be 'bits', 'mask' or 'output', got ",
        re.escape(f"{bad!r}; the default"),
    )


@pytest.mark.parametrize("slope", [-0.1, -1, np.float32(-0.1), np.array(-0.1), -np.inf])
@pytest.mark.parametrize("forward_mode", [False, True])
def test_a_number_below_zero_with_the_output(slope, forward_mode):
    with pytest.raises(ValueError, match="residual='output'") as caught:
        leaky_relu(X, slope, residual="output", forward_mode=forward_mode)
    check_sentence(
        str(caught.value), "negative_slope must not ", f"negative_slope={float(slope)}; use residual='bits'"
    )


@pytest.mark.parametrize("shape", [(2,), (4,), (3, 2), (5, 2, 1, 2)])
def test_a_slope_that_does_not_broadcast(shape):
    with pytest.raises(ValueError, match="broadcast") as caught:
        leaky_relu(X, jnp.ones(shape))
    words = re.escape(f"against x of shape (2, 3), got shape {shape}; reshape it")
    check_sentence(str(caught.value), "negative_slope must broadcast ", words)


def test_the_error_comes_at_trace_time_too():
    with pytest.raises(TypeError, match="x must be real and numeric"):
        jax.jit(leaky_relu)(X.astype(complex))
    with pytest.raises(ValueError, match="must broadcast"):
        jax.eval_shape(leaky_relu, X, jnp.ones(4))


def test_a_list_is_refused_as_jax_nn_refuses_it():
    with pytest.raises(TypeError, match="x must be"):
        leaky_relu([1.0])
    with pytest.raises(TypeError):
        jax.nn.leaky_relu([1.0])
