"""The leaky ReLU that users call: what it accepts, what it refuses, and which rule serves it."""

from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jax_leaky._op._residual import Residual
from jax_leaky._op._rules import array_slope, number_forward, number_reverse

# Bits, because they alone never need more memory than jax.nn.leaky_relu, in any block on any backend that was
# compiled for; "output" is as small where the next operation keeps y anyway, and needs up to 2.3 times as much
# where it does not.
DEFAULT: Residual = "bits"


def leaky_relu(
    x: ArrayLike,
    negative_slope: ArrayLike = 0.01,
    *,
    residual: Residual = DEFAULT,
    forward_mode: bool = False,
) -> Array:
    r"""Leaky rectified linear unit, with a backward pass that keeps one bit per element.

    .. math::
        \mathrm{leaky\_relu}(x) = \begin{cases} x, & x > 0 \\ a x, & x \le 0 \end{cases}
        \qquad
        \mathrm{leaky\_relu}'(x) = \begin{cases} 1, & x > 0 \\ a, & x \le 0 \end{cases}

    with :math:`a` the ``negative_slope``. The derivative at 0 and at -0 is :math:`a`, as in the formula, in PyTorch
    and in TensorFlow; ``jax.nn.leaky_relu`` gives 1 there, and agrees everywhere else. NaN stays NaN.

    The result and what is kept are named ``"leaky_relu_output"`` and ``"leaky_relu_residual"``, for policies such as
    ``jax.checkpoint_policies.save_only_these_names``. A slope that is an array and is differentiated needs x where
    ``x <= 0`` as well, which is then kept, and carries the second name too.

    Args:
        x: array of any shape. A float dtype is kept, whatever the dtype of the slope; integers and bool become
            floats.
        negative_slope: a number, or an array that broadcasts against ``x`` (one slope per channel, say). It may be
            traced, vmapped and differentiated, and is rounded to the dtype of ``x`` first.
        residual: what the backward pass keeps. ``"bits"``: one bit per element. ``"mask"``: one byte per element.
            ``"output"``: the result, which is free where the next operation keeps it anyway (Dense, Conv) and a
            whole array where it does not. The sign of an array or of a traced value is not known beforehand;
            ``"output"`` then keeps bits.
        forward_mode: True for the same function and the same memory through rules that serve forward mode too:
            ``jax.jvp``, ``jax.jacfwd``, ``jax.linearize``. Left False, these raise JAX's TypeError.

    Returns:
        Array of the shape to which ``x`` and ``negative_slope`` broadcast.

    Raises:
        TypeError: ``x`` or ``negative_slope`` is not a real number or an array of them.
        ValueError: ``residual`` is unknown, or ``"output"`` with a negative number as slope; or the shapes do not
            broadcast.

    References:
        Maas, Hannun, Ng: Rectifier nonlinearities improve neural network acoustic models. ICML workshop, 2013.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jax_leaky import leaky_relu
        >>> x = jnp.array([-2.0, 0.0, 3.0])
        >>> print(leaky_relu(x, negative_slope=0.5))
        [-1.  0.  3.]
        >>> print(jax.vmap(jax.grad(leaky_relu))(x))
        [0.01 0.01 1.  ]
    """
    x, slope = _real("x", x), _real("negative_slope", negative_slope)
    if not isinstance(residual, str) or residual not in get_args(Residual):
        raise ValueError(f"residual must be 'bits', 'mask' or 'output', got {residual!r}.")
    try:
        shape = jnp.broadcast_shapes(np.shape(x), np.shape(slope))
    except ValueError:
        raise ValueError(
            f"negative_slope of shape {np.shape(slope)} does not broadcast against x of shape {np.shape(x)}; "
            "reshape it so that their last axes match or are 1."
        ) from None
    number = None if isinstance(slope, Array) or np.ndim(slope) else float(np.asarray(slope, np.float64))
    if residual == "output" and number is not None and number < 0:
        raise ValueError(
            f"residual='output' cannot tell the sign of x under negative_slope={number}, because it is below 0; "
            "use residual='bits'."
        )
    if jnp.issubdtype(jnp.result_type(x), jnp.floating):
        x = jnp.asarray(x)  # without a dtype: the number 1.0 stays weakly typed
    else:
        x = jnp.asarray(x, jnp.result_type(x, slope, 0.0))
    dtype, x = x.dtype, jnp.broadcast_to(x, shape)
    array = None if number is not None else jnp.asarray(slope, dtype)
    return _jitted(x, array, number, residual, bool(forward_mode))


def _apply(
    x: Array, array: Array | None, number: float | None, residual: Residual, forward_mode: bool
) -> Array:
    if array is not None:
        return array_slope(x, array, residual, forward_mode)
    return (number_forward if forward_mode else number_reverse)(x, number, residual)


_apply.__name__ = "leaky_relu"  # what jaxprs and profiles show
_jitted = jax.jit(_apply, static_argnums=(2, 3, 4))


def _real(name: str, value: ArrayLike) -> ArrayLike:
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
            f"{name} has dtype {dtype}, which holds neither 0 nor a sign; cast it to float32 first."
        )
    if not any(jnp.issubdtype(dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_)):
        raise TypeError(f"{name} must be real and numeric, got dtype {dtype}; {_remedy(dtype)}.")
    return value


def _remedy(dtype: np.dtype) -> str:
    if jnp.issubdtype(dtype, jnp.complexfloating):
        return "apply the op to the real and the imaginary part"
    return "convert it to a float array first"
