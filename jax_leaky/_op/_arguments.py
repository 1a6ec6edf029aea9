"""What the op takes for x and for a slope: real numbers and arrays of them."""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike


def is_float(value: ArrayLike) -> bool:
    """Whether a value that `real` lets pass has a float dtype."""
    return jnp.issubdtype(jnp.result_type(value), jnp.floating)


def real(name: str, value: ArrayLike) -> ArrayLike:
    """The value itself, as a number or an array, or one sentence that says what is wrong with it."""
    if not isinstance(value, Array) and hasattr(value, "__jax_array__"):  # flax.nnx.Param and its like
        value = value.__jax_array__()
    if not isinstance(value, (bool, int, float, complex, np.ndarray, np.generic, Array)):
        shown = " ".join(repr(value).split())  # on one line, whatever it is
        raise TypeError(
            f"{name} must be a real number or an array of them, got {shown:.80} of type {type(value).__name__}; "
            "for a list use jnp.asarray."
        )
    dtype = jnp.result_type(value) if isinstance(value, (bool, int, float, complex)) else value.dtype
    if dtype == jnp.float8_e8m0fnu:
        raise TypeError(
            f"{name} must have a dtype that holds 0 and a sign, got dtype {dtype}; cast it to float32 first."
        )
    if not any(jnp.issubdtype(dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_)):
        raise TypeError(f"{name} must be real and numeric, got dtype {dtype}; {_remedy(dtype)}.")
    return value


def _remedy(dtype: np.dtype) -> str:
    if jnp.issubdtype(dtype, jnp.complexfloating):
        return "apply the op to the real and the imaginary part"
    return "convert it to a float array first"
