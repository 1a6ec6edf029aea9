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
from jax.typing import ArrayLike

from jax_leaky._op._residual import RESIDUAL_NAME, Form, explicit_axes

# The names are given inside the forward rules, so that a policy that saves by name saves the very arrays that the
# backward pass reads, and the matrix product before them is not run again.
OUTPUT_NAME = "leaky_relu_output"

# --- A slope that is a number: its sign is known, so the sign of x is read from y, and x has no further user. XLA can
# then still fuse the op into the convolution before it, for which it wants select(x > 0, x, constant * x).


def number_value(x: Array, slope: ArrayLike) -> Array:
    """The function alone: x above zero, ``slope`` times x elsewhere."""
    return lax.select(x > 0, x, x * slope)  # the float takes the dtype of x, and leaves a weak type weak


def _number_forward(x: Array, slope: float, form: Form) -> tuple[Array, Array]:
    y = checkpoint_name(number_value(x, slope), OUTPUT_NAME)
    return y, form.keep(y if slope >= 0 else x)


def _number_tangent(slope: float, form: Form, kept: Array, tangent: Array) -> Array:
    positive, below = form.positive(kept, tangent), tangent
    if not abs(slope) <= jnp.finfo(tangent.dtype).max:  # transposed, what is not chosen becomes 0 * inf, NaN
        below = lax.select(positive, jnp.zeros_like(tangent), tangent)
    return lax.select(positive, tangent, below * slope)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def number_reverse(x: Array, slope: float, form: Form) -> Array:
    """Leaky ReLU of ``x`` for a slope that is a Python float."""
    return number_value(x, slope)


def _number_backward(slope: float, form: Form, kept: Array, cotangent: Array) -> tuple[Array]:
    return (_number_tangent(slope, form, kept, cotangent),)  # a diagonal map is its own transpose


number_reverse.defvjp(_number_forward, _number_backward)


@partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def number_forward(x: Array, slope: float, form: Form) -> Array:
    """The same function, with forward mode."""
    return number_value(x, slope)


@number_forward.defjvp
def _number_jvp(
    slope: float, form: Form, primals: tuple[Array], tangents: tuple[Array]
) -> tuple[Array, Array]:
    y, kept = _number_forward(*primals, slope, form)
    tangent_map = jax.checkpoint(partial(_number_tangent, slope, form), prevent_cse=False)
    return y, tangent_map(kept, *tangents)


# --- A slope that is an array: y = choose(x, slope * choose(0, x)), with choose(p, n) = p where x > 0, else n.
# The product is JAX's own, so that JAX keeps x for the gradient of the slope if, and only if, the slope is
# differentiated. Both choices read one kept sign. The inner one keeps an infinite x out of the slope's gradient,
# where 0 * inf would be NaN.


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _choose_reverse(form: Form, name: str, positive: Array, kept: Array, p: Array, n: Array) -> Array:
    return lax.select(positive, p, n)


def _choose_forward(
    form: Form, name: str, positive: Array, kept: Array, p: Array, n: Array
) -> tuple[Array, Array]:
    return checkpoint_name(lax.select(positive, p, n), name), kept


def _choose_backward(form: Form, name: str, kept: Array, cotangent: Array) -> tuple[None, None, Array, Array]:
    positive, zero = form.positive(kept, cotangent), jnp.zeros_like(cotangent)
    return None, None, lax.select(positive, cotangent, zero), lax.select(positive, zero, cotangent)


_choose_reverse.defvjp(_choose_forward, _choose_backward)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _choose_both(form: Form, name: str, positive: Array, kept: Array, p: Array, n: Array) -> Array:
    return lax.select(positive, p, n)


@_choose_both.defjvp
def _choose_jvp(
    form: Form, name: str, primals: tuple[Array, ...], tangents: tuple[Array, ...]
) -> tuple[Array, Array]:
    y, kept = _choose_forward(form, name, *primals)
    tangent_map = jax.checkpoint(
        lambda kept, p, n: lax.select(form.positive(kept, p), p, n), prevent_cse=False
    )
    return y, tangent_map(kept, *tangents[2:])


def array_slope(x: Array, slope: Array, form: Form, forward_mode: bool) -> Array:
    """Leaky ReLU of ``x`` for a ``slope`` that is an array of unknown sign and broadcasts to the shape of x."""
    if any(explicit_axes(slope)):
        x, _ = jnp.broadcast_arrays(
            x, slope
        )  # sharded along the axes of the slope too, as the product will be
    choose = partial(_choose_both if forward_mode else _choose_reverse, form)
    positive = x > 0
    kept = form.keep(x)
    below = choose(RESIDUAL_NAME, positive, kept, jnp.zeros_like(x), x)  # kept if the slope is differentiated
    slope = lax.expand_dims(slope, range(x.ndim - slope.ndim))
    return choose(OUTPUT_NAME, positive, kept, x, slope * below)
