"""The leaky ReLU that users call: what it accepts, what it refuses, and which rule serves it."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jax_leaky._op._arguments import is_float, real
from jax_leaky._op._residual import BITS, FORMS, Form, Residual
from jax_leaky._op._rules import array_slope, number_forward, number_reverse, number_value

# Bits, because in the measured blocks they never need more memory than jax.nn.leaky_relu on a CPU or an H100, and at
# most 1.03 times as much on a TPU; "output" is as small where the next operation keeps y anyway, and needs up to 1.9
# times as much where it does not (experiments/benchmark/results/residuals.md).
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
        negative_slope: number, or array that broadcasts against ``x`` (one slope per channel, say). It may be
            traced, vmapped and differentiated, and is rounded to the dtype of ``x`` first. A number is a constant of
            the program that is differentiated; give an array where each step has another slope.
        residual: name of what the backward pass keeps.

            * ``"bits"``: one bit per element. The eight elements of a byte are neighbours along one axis: of an array
              of four axes or more (images) the first, else one of the last two, that which leaves fewer bits unused.
              The first axis, which may be a batch on several devices, is taken only if its size is a multiple of 64
              and of eight times the number of devices, so the same function is another program where the process has
              more than eight devices. An axis of symbolic size and one that is sharded explicitly are never taken;
              where none is left, ``"bits"`` keeps a byte per element, as ``"mask"`` does.
            * ``"mask"``: one byte per element.
            * ``"output"``: the result, which is free where the next operation keeps it anyway (Dense, Conv) and a
              whole array where it does not. The sign of a slope that is an array or traced is not known beforehand;
              ``"output"`` then keeps bits.
        forward_mode: True for the same function and the same memory through rules that serve forward mode too:
            ``jax.jvp``, ``jax.jacfwd``, ``jax.linearize``. Left False, these raise JAX's TypeError.

    Returns:
        Array of the shape to which ``x`` and ``negative_slope`` broadcast.

    Raises:
        TypeError: ``x`` or ``negative_slope`` is not a real number or an array of them.
        ValueError: ``residual`` is unknown, or it is ``"output"`` and the slope is a number below 0; or the shapes
            do not broadcast.

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
    x, slope = real("x", x), real("negative_slope", negative_slope)
    if not isinstance(residual, str) or residual not in FORMS:
        raise ValueError(
            f"residual must be 'bits', 'mask' or 'output', got {residual!r}; the default is {DEFAULT!r}."
        )
    try:
        shape = jnp.broadcast_shapes(np.shape(x), np.shape(slope))
    except ValueError:
        raise ValueError(
            f"negative_slope must broadcast against x of shape {np.shape(x)}, got shape {np.shape(slope)}; "
            "reshape it so that their last axes match or are 1."
        ) from None
    number = None if isinstance(slope, Array) or np.ndim(slope) else float(np.asarray(slope, np.float64))
    if residual == "output" and number is not None and number < 0:
        raise ValueError(
            f"negative_slope must not be below 0 under residual='output', which reads the sign of x from the result, "
            f"got negative_slope={number}; use residual='bits'."
        )
    # A float is given no dtype, so that the number 1.0 stays weakly typed. What is no float is not promoted together
    # with the slope, which strict promotion refuses, and int4 always.
    x = jnp.asarray(x, None if is_float(x) else jnp.result_type(slope if is_float(slope) else float))
    dtype, x = x.dtype, jnp.broadcast_to(x, shape)
    if number is None:  # of unknown sign, which the result does not tell
        return _jitted(
            x,
            jnp.asarray(slope, dtype),
            None,
            BITS if residual == "output" else FORMS[residual],
            bool(forward_mode),
        )
    if not isinstance(x, jax.core.Tracer):  # nothing to differentiate: one program serves every number
        return _jitted_value(x, number if x.weak_type else np.asarray(number, dtype))
    return _jitted(x, None, number, FORMS[residual], bool(forward_mode))


def _apply(x: Array, array: Array | None, number: float | None, form: Form, forward_mode: bool) -> Array:
    if array is not None:
        return array_slope(x, array, form, forward_mode)
    return (number_forward if forward_mode else number_reverse)(x, number, form)


def _value(x: Array, slope: Array) -> Array:
    return number_value(x, slope)


# What jaxprs and profiles show.
_apply.__name__ = _value.__name__ = "leaky_relu"
_jitted = jax.jit(_apply, static_argnums=(2, 3, 4))
_jitted_value = jax.jit(_value)
