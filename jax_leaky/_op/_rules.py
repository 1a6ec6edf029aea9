"""The derivative rules of the leaky ReLU: one for a slope that is a number, one for a slope that is an array.

Each is written once as a value, what is kept, and the linear map from tangent to tangent, and then bound twice: to
``jax.custom_vjp``, and to ``jax.custom_jvp`` for those who need forward mode. A custom_vjp alone cannot give
forward mode (jax issue 3996); a custom_jvp whose tangent map is inside ``jax.checkpoint`` can give both, and keeps
the same: only the inputs of the map. The forward rules compute with raw operations, never through the function they
define, or the Hessian would ask a custom_vjp for forward mode.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.ad_checkpoint import checkpoint_name

from jax_leaky._op._residual import Residual, keep_sign, was_positive

# Inside the forward rules, so that a policy that saves them by name saves the very arrays that the backward pass
# reads, and the matrix product before them is not run again.
OUTPUT_NAME = "leaky_relu_output"
RESIDUAL_NAME = "leaky_relu_residual"

# --- A slope that is a number: its sign is known, so the sign of x is read from y, and x has no further user. XLA can
# then still fuse the op into the convolution before it, for which it wants select(x > 0, x, constant * x).


def _number_value(x: Array, slope: float) -> Array:
    return lax.select(x > 0, x, x * slope)  # the float takes the dtype of x, and leaves a weak type weak


def _number_forward(x: Array, slope: float, residual: Residual) -> tuple[Array, Array]:
    y = checkpoint_name(_number_value(x, slope), OUTPUT_NAME)
    if residual == "output":  # without a second name, by which y would be two arrays outside of a jit
        return y, y
    source = y if slope >= 0 else x
    return y, checkpoint_name(keep_sign(source, residual), RESIDUAL_NAME)


def _number_tangent(slope: float, residual: Residual, kept: Array, tangent: Array) -> Array:
    positive, below = was_positive(kept, tangent, residual), tangent
    if not abs(slope) <= jnp.finfo(tangent.dtype).max:  # transposed, what is not chosen becomes 0 * inf, NaN
        below = lax.select(positive, jnp.zeros_like(tangent), tangent)
    return lax.select(positive, tangent, below * slope)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def number_reverse(x: Array, slope: float, residual: Residual) -> Array:
    """Leaky ReLU of ``x`` for a slope that is a Python float."""
    return _number_value(x, slope)


def _number_backward(slope: float, residual: Residual, kept: Array, cotangent: Array) -> tuple[Array]:
    return (_number_tangent(slope, residual, kept, cotangent),)  # a diagonal map is its own transpose


number_reverse.defvjp(_number_forward, _number_backward)


@partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def number_forward(x: Array, slope: float, residual: Residual) -> Array:
    """The same function, with forward mode."""
    return _number_value(x, slope)


@number_forward.defjvp
def _number_jvp(
    slope: float, residual: Residual, primals: tuple[Array], tangents: tuple[Array]
) -> tuple[Array, Array]:
    y, kept = _number_forward(*primals, slope, residual)
    tangent_map = jax.checkpoint(partial(_number_tangent, slope, residual), prevent_cse=False)
    return y, tangent_map(kept, *tangents)


# --- A slope that is an array: y = choose(x, slope * choose(0, x)), with choose(p, n) = p where x > 0, else n.
# The product is JAX's own, so that JAX keeps x for the gradient of the slope if, and only if, the slope is
# differentiated. Both choices read one kept sign. The inner one keeps an infinite x out of the slope's gradient,
# where 0 * inf would be NaN.


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _choose_reverse(residual: Residual, name: str, positive: Array, kept: Array, p: Array, n: Array) -> Array:
    return lax.select(positive, p, n)


def _choose_forward(
    residual: Residual, name: str, positive: Array, kept: Array, p: Array, n: Array
) -> tuple[Array, Array]:
    return checkpoint_name(lax.select(positive, p, n), name), kept


def _choose_backward(
    residual: Residual, name: str, kept: Array, cotangent: Array
) -> tuple[None, None, Array, Array]:
    positive, zero = was_positive(kept, cotangent, residual), jnp.zeros_like(cotangent)
    return None, None, lax.select(positive, cotangent, zero), lax.select(positive, zero, cotangent)


_choose_reverse.defvjp(_choose_forward, _choose_backward)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _choose_both(residual: Residual, name: str, positive: Array, kept: Array, p: Array, n: Array) -> Array:
    return lax.select(positive, p, n)


@_choose_both.defjvp
def _choose_jvp(
    residual: Residual, name: str, primals: tuple[Array, ...], tangents: tuple[Array, ...]
) -> tuple[Array, Array]:
    y, kept = _choose_forward(residual, name, *primals)
    tangent_map = jax.checkpoint(
        lambda kept, p, n: lax.select(was_positive(kept, p, residual), p, n), prevent_cse=False
    )
    return y, tangent_map(kept, *tangents[2:])


def array_slope(x: Array, slope: Array, residual: Residual, forward_mode: bool) -> Array:
    """Leaky ReLU of ``x`` for a ``slope`` that is an array of unknown sign and broadcasts to the shape of x."""
    if residual == "output":  # where a slope is negative, y does not tell the sign of x
        residual = "bits"
    choose = partial(_choose_both if forward_mode else _choose_reverse, residual)
    positive = x > 0
    kept = checkpoint_name(keep_sign(x, residual), RESIDUAL_NAME)
    below = choose(RESIDUAL_NAME, positive, kept, jnp.zeros_like(x), x)  # kept if the slope is differentiated
    slope = lax.expand_dims(slope, range(x.ndim - slope.ndim))
    return choose(OUTPUT_NAME, positive, kept, x, slope * below)
