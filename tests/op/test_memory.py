"""What is kept for the backward pass, in bytes: of jax.vjp's function, by JAX's own list, and in compiled programs."""

from functools import cache, partial
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_leaky import leaky_relu
from tests.op import oracle

# Bits: eight elements of a row to a byte; in three dimensions and more, eight of a row or of a column, whichever pads
# less; columns of a matrix, and eight images of a batch, only in multiples of 64. The figures are counted on paper.
BYTES_OF_BITS = {
    (): 1,  # one element, one bool
    (0,): 0,
    (1,): 1,
    (8,): 1,
    (9,): 2,
    (1000,): 125,
    (1, 1): 1,
    (3, 5): 3,  # rows of 5: one byte each
    (7, 9): 14,
    (8, 10): 16,
    (10, 8): 10,
    (12, 12): 24,
    (64, 12): 8 * 12,  # columns of 64: no padding
    (16, 16): 32,
    (0, 5): 0,
    (5, 0): 0,
    (2, 3, 4): 2 * 3,  # rows of 4
    (2, 8, 10): 2 * 10,  # columns of 8
    (2, 28, 28, 3): 2 * 28 * 4 * 3,  # 28 columns in 4 bytes, for each of 3 channels
    (5, 7, 7, 64): 5 * 7 * 7 * 8,
    (64, 7, 7, 3): 8 * 7 * 7 * 3,  # 64 images: no padding
}
forward_or_not = pytest.mark.parametrize("forward_mode", [False, True], ids=["reverse", "both"])


def kept_bytes(f, *args):
    """Bytes of the arrays in the pullback, an array that is held twice counted once; traced only."""
    total = 0

    def trace(*args):
        nonlocal total
        leaves = jax.tree.leaves(jax.vjp(f, *args)[1])
        total = sum({id(leaf): leaf.size * leaf.dtype.itemsize for leaf in leaves}.values())

    jax.eval_shape(trace, *args)
    return total


@forward_or_not
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("shape", BYTES_OF_BITS, ids=str)
def test_one_op(shape, dtype, forward_mode):
    x = jax.ShapeDtypeStruct(shape, dtype)
    kept = {
        residual: kept_bytes(partial(leaky_relu, residual=residual, forward_mode=forward_mode), x)
        for residual in ("bits", "mask", "output")
    }
    assert kept == {
        "bits": BYTES_OF_BITS[shape],
        "mask": prod(shape),
        "output": prod(shape) * np.dtype(dtype).itemsize,
    }


def test_the_arrays_that_are_held_have_these_bytes():
    for shape in [(7, 9), (1000,), ()]:
        _, pullback = jax.vjp(leaky_relu, jnp.ones(shape))  # the default is bits
        assert sum(leaf.nbytes for leaf in jax.tree.leaves(pullback)) == BYTES_OF_BITS[shape]


def test_empty_odd_and_scalar_shapes_give_the_right_gradient():
    shapes = [
        (),
        (9,),
        (3, 5),
        (7, 9),
        (12, 12),
        (0, 5),
        (5, 0),
        (2, 3, 4),
        (1, 1),
        (64, 3, 5, 2),
        (0, 1, 1, 2),
    ]
    arrays = [np.asarray(np.random.default_rng(0).standard_normal(shape), np.float32) for shape in shapes]
    functions = [partial(leaky_relu, negative_slope=slope) for slope in (0.25, jnp.float32(0.25))]

    @jax.jit
    def run(arrays):
        return [oracle.run_each(functions, jnp.ones_like(x), x) for x in arrays]

    for x, found in zip(arrays, run(arrays), strict=True):
        for y, x_bar in found:
            np.testing.assert_array_equal(y, np.where(x > 0, x, x / 4))
            np.testing.assert_array_equal(x_bar, np.where(x > 0, 1, np.full_like(x, 0.25)))


class TestArraySlope:
    X = jnp.ones((16, 8))  # 16 bytes of bits
    CHANNELS = jnp.full((8,), 0.25)

    @pytest.mark.parametrize("residual", ["bits", "output"])
    def test_x_is_not_kept_unless_the_slope_is_differentiated(self, residual):
        f = partial(leaky_relu, negative_slope=self.CHANNELS, residual=residual)
        assert kept_bytes(f, self.X) == 16 + self.CHANNELS.nbytes
        both = partial(leaky_relu, residual=residual)
        assert kept_bytes(both, self.X, self.CHANNELS) == 16 + self.CHANNELS.nbytes + self.X.nbytes

    @pytest.mark.xfail(
        reason="outside of jit the custom_jvp keeps an array of zeros, the tangent of its constant branch",
        strict=True,
    )
    def test_forward_mode_keeps_no_more(self):
        f = partial(leaky_relu, negative_slope=self.CHANNELS, forward_mode=True)
        assert kept_bytes(f, self.X) == 16 + self.CHANNELS.nbytes


def dense_stack(activation):
    def run(weights, x):
        for w in weights:
            x = activation(x @ w)
        return x @ weights[0]

    return run


@forward_or_not
@pytest.mark.parametrize("outer", [partial, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize(("residual", "bits_per_element"), [("output", 0), ("bits", 1), ("mask", 8)])
def test_what_three_activations_add_to_a_dense_stack(residual, bits_per_element, outer, forward_mode):
    """Each Dense keeps its input, which is y: beside it the output costs nothing."""
    weights, x = jnp.ones((3, 32, 32)), jnp.ones((16, 32))
    activation = partial(leaky_relu, residual=residual, forward_mode=forward_mode)
    added = held_bytes(outer(dense_stack(activation)), weights, x) - without_activation(outer)
    assert added == 3 * 16 * 32 * bits_per_element // 8


@cache
def without_activation(outer):
    return held_bytes(outer(dense_stack(lambda z: z)), jnp.ones((3, 32, 32)), jnp.ones((16, 32)))


def held_bytes(f, *args):
    """Bytes of the buffers behind the pullback, each counted once."""
    leaves = jax.tree.leaves(jax.vjp(f, *args)[1])
    return sum({leaf.unsafe_buffer_pointer(): leaf.nbytes for leaf in leaves}.values())


@forward_or_not
def test_jax_lists_the_same_residuals(forward_mode, capsys):
    for residual, line in {"bits": "u8[16,4]", "mask": "bool[16,32]", "output": "f32[16,32]"}.items():
        f = partial(leaky_relu, residual=residual, forward_mode=forward_mode)
        jax.ad_checkpoint.print_saved_residuals(f, jnp.ones((16, 32)))
        (printed,) = capsys.readouterr().out.strip().splitlines()
        assert printed.startswith(line), residual


def with_number(f):
    return lambda z, _: f(z, 0.25)


NUMBER_OF_JAX_NN = with_number(jax.nn.leaky_relu)


@cache
def temporary_bytes(activation, scanned, argnums=0):
    def run(weights, slopes, x):
        if scanned:
            x, _ = jax.lax.scan(lambda h, w: (activation(h @ w[0], w[1]), None), x, (weights, slopes))
        else:
            for i in range(weights.shape[0]):
                x = activation(x @ weights[i], slopes[i])
        return (x**2).sum()

    spec = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in [(4, 128, 128), (4, 128), (512, 128)]]
    compiled = jax.jit(jax.grad(run, argnums)).lower(*spec).compile()
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize(("scanned", "forward_mode"), [(True, False), (True, True), (False, False)])
def test_a_compiled_dense_stack_needs_less_than_with_jax_nn(scanned, forward_mode):
    ours = temporary_bytes(with_number(partial(leaky_relu, forward_mode=forward_mode)), scanned)
    assert ours < temporary_bytes(NUMBER_OF_JAX_NN, scanned)


@pytest.mark.parametrize(("argnums", "forward_mode"), [(0, False), (0, True), ((0, 1), False)])
def test_a_scanned_dense_stack_with_array_slopes_needs_less_than_with_jax_nn(argnums, forward_mode):
    ours = temporary_bytes(partial(leaky_relu, forward_mode=forward_mode), True, argnums)
    assert ours < temporary_bytes(jax.nn.leaky_relu, True, argnums)


def test_the_output_in_a_compiled_dense_stack_needs_less_than_jax_nn():
    ours = temporary_bytes(with_number(partial(leaky_relu, residual="output")), False)
    assert ours < temporary_bytes(NUMBER_OF_JAX_NN, False)
