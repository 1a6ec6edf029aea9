"""Whether a network's output is the same for every input: the born-dead network of Lu et al."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from jax_leaky.units import _inputs


def constant_output(outputs: ArrayLike, rtol: float = 1e-6) -> Array:
    """Whether every output is the same for all samples: 1.0 or 0.0, and NaN where any is not finite.

    An output is constant where max - min <= rtol * max(abs(output)): a difference of 1e-20 beside outputs of
    1e-20 is not constancy. Where that product would underflow, constant means the same bits for every sample.
    At step 0 this tells a network that is born dead, and applied later one that has collapsed.

    Args:
        outputs: (samples, out) or (samples,), the network's outputs on the probe set, at least two samples.
        rtol: the greatest spread, relative to the output's own size, that counts as none.

    Raises:
        TypeError: if outputs is not real floating point.
        ValueError: if outputs has another shape or fewer than two samples, or rtol is not in (0, 1).

    References:
        Lu, Shin, Su and Karniadakis, "Dying ReLU and Initialization", arXiv:1903.06733.

    Example:
        >>> import jax.numpy as jnp
        >>> import jax_leaky.units as units
        >>> float(units.constant_output(jnp.array([[3.0], [3.0]])))
        1.0
        >>> float(units.constant_output(jnp.array([[1e-30], [2e-30]])))
        0.0
    """
    outputs = _inputs.floating("outputs", outputs)
    samples = outputs.shape[0] if outputs.ndim in (1, 2) else 0
    if isinstance(samples, int) and samples < 2:  # it may be symbolic in jax.export
        raise ValueError(
            f"outputs has the shape {outputs.shape}: give (samples, out) with two samples or more."
        )
    if not 0 < rtol < 1:
        raise ValueError(f"rtol={rtol!r} is not a relative tolerance: give a number between 0 and 1.")
    if outputs.dtype.itemsize < 4:
        outputs = outputs.astype(jnp.float32)
    size = jnp.max(jnp.abs(outputs), axis=0)
    # Halved before they are subtracted, so that the spread of huge outputs does not overflow.
    spread = jnp.max(outputs / 2, axis=0) - jnp.min(outputs / 2, axis=0)
    bits = lax.bitcast_convert_type(outputs, jnp.dtype(f"uint{8 * outputs.dtype.itemsize}"))
    bits = jnp.where(bits << 1 == 0, jnp.zeros_like(bits), bits)  # -0 is 0
    same_bits = jnp.all(bits == bits[:1], axis=0)
    underflows = size < 2 * float(jnp.finfo(outputs.dtype).tiny) / rtol
    constant = jnp.where(underflows, same_bits, spread <= rtol / 2 * size)
    return jnp.where(jnp.all(jnp.isfinite(outputs)), jnp.all(constant).astype(jnp.float32), jnp.nan)
