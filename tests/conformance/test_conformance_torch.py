"""PyTorch's own samples (OpInfo) of leaky_relu, prelu and rrelu: value, gradient, and gradient of the slope."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from comparisons import SLOPE, Comparison, kept, ours, points, rounding

import jax_leaky.linen
from jax_leaky import leaky_relu

torch = pytest.importorskip("torch", reason="torch, whose samples these are, is not installed")
pytest.importorskip("expecttest", reason="expecttest, which torch's samples import, is not installed")

pytestmark = pytest.mark.peer
LIBRARY, VERSION = "PyTorch", torch.__version__
DTYPES = {
    "float16": (torch.float16, jnp.float16),
    "bfloat16": (torch.bfloat16, jnp.bfloat16),
    "float32": (torch.float32, jnp.float32),
    "float64": (torch.float64, jnp.float64),
}


def numpy(tensor):
    """Of a dtype that NumPy knows; bfloat16 fits into float32."""
    tensor = tensor.detach()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def value_and_derivative(x):
    """Theirs at each point."""
    x = torch.tensor(x, requires_grad=True)
    y = torch.nn.functional.leaky_relu(x, SLOPE)
    y.backward(torch.ones_like(y))
    return numpy(y), numpy(x.grad)


def samples(name, dtype):
    """The samples of an operator: (place, operator, sample)."""
    from torch.testing._internal.common_methods_invocations import op_db

    torch.manual_seed(0)
    (operator,) = [op for op in op_db if op.name == f"nn.functional.{name}"]
    if DTYPES[dtype][0] in operator.dtypes:
        for place, sample in enumerate(operator.sample_inputs("cpu", DTYPES[dtype][0], requires_grad=True)):
            yield place, operator, sample


def theirs(operator, sample, *arguments):
    """Their value, a random cotangent of it, and the cotangents of the arguments."""
    y = operator.op(sample.input, *sample.args, **sample.kwargs)
    cotangent = torch.randn(y.shape).to(y.dtype)
    gradients = torch.autograd.grad(y, arguments, cotangent)
    return numpy(y), numpy(cotangent), *map(numpy, gradients)


def compare(name, dtype):
    """Ours beside theirs on all samples of an operator and a dtype."""
    # Theirs multiplies by a slope of float32 and rounds once; ours rounds the slope to the dtype first.
    close = {"rtol": rounding(DTYPES[dtype][1])}
    say = partial(Comparison, f"OpInfo samples of {name}")
    for place, operator, sample in samples(name, dtype):
        case = f"{dtype}, sample {place}"
        x = jnp.asarray(numpy(sample.input), DTYPES[dtype][1])
        if name == "prelu":
            weight = (sample.args[0] if sample.args else sample.kwargs["weight"]).detach().requires_grad_()
            sample.args, sample.kwargs = (weight,), {}
            y, cotangent, x_bar, slope_bar = theirs(operator, sample, sample.input, weight)
            ours_y, ours_x_bar, ours_slope_bar = ours(
                x, jnp.asarray(numpy(weight), x.dtype), cotangent, partial(by_channel, leaky_relu)
            )
            # A sum over samples, by each library in its own order.
            tolerance = {
                "rtol": 0.02 if x.dtype.itemsize == 2 else 1e-5,
                "atol": 4 * x.size * float(jnp.finfo(x.dtype).eps),
            }
            yield say(case, "gradient of the slope", ours_slope_bar, slope_bar, **tolerance)
        else:
            if sample.kwargs.get("training"):
                continue  # random: see below
            y, cotangent, x_bar = theirs(operator, sample, sample.input)
            f = leaky_relu if name == "leaky_relu" else rrelu_in_evaluation
            ours_y, ours_x_bar = ours(x, 0.01, cotangent, f)
        yield say(case, "value", ours_y, y, **close)
        yield say(case, "gradient", ours_x_bar, x_bar, **close)
        if operator.ref and name == "prelu":
            reference = operator.ref(numpy(sample.input), numpy(weight))
            yield say(case, "value by their NumPy reference", ours_y, reference, **close)


def by_channel(f, x, slope):
    """PyTorch's channels are the second axis, and a scalar has the slope's only entry."""
    if x.ndim == 0 or slope.size == 1:
        return f(x, slope.reshape(()))
    return f(x, slope.reshape((-1,) + (1,) * max(x.ndim - 2, 0)))


def rrelu_in_evaluation(x, _):
    return jax_leaky.linen.RReLU().apply({}, x, deterministic=True)


def suites():
    """All comparisons."""
    for name in ("leaky_relu", "prelu", "rrelu"):
        for dtype in DTYPES:
            with jax.enable_x64(dtype == "float64"):
                yield from compare(name, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["leaky_relu", "prelu", "rrelu"])
def test_samples(name, dtype):
    with jax.enable_x64(dtype == "float64"):
        seen = [comparison.check() for comparison in compare(name, dtype)]
    assert seen or (name, dtype) == ("rrelu", "float16")  # which PyTorch does not have on the CPU


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_rrelu_in_training_keeps_the_same_promises(dtype):
    """Each draws a slope per element from its own generator; the value and the gradient show the same slope."""
    trained = 0
    for _, operator, sample in samples("rrelu", dtype):
        if not sample.kwargs.get("training"):
            continue
        trained += 1
        x, bounds = numpy(sample.input), (sample.kwargs["lower"], sample.kwargs["upper"])
        y, cotangent, x_bar = theirs(operator, sample, sample.input)
        module = jax_leaky.linen.RReLU(*bounds)
        ours_y, ours_x_bar = ours(
            jnp.asarray(x, DTYPES[dtype][1]),
            0.0,
            cotangent,
            lambda x, _, module=module: module.apply({}, x, deterministic=False, rng=jax.random.key(0)),
        )
        for value, gradient in ((y, x_bar), (np.float64(ours_y), np.float64(ours_x_bar))):
            slopes = np.where(x > 0, 1, value / np.where(x == 0, 1, x))
            np.testing.assert_array_equal(value[x > 0], x[x > 0])
            assert ((slopes[x < 0] >= bounds[0]) & (slopes[x < 0] <= bounds[1])).all()
            np.testing.assert_allclose(
                gradient, slopes * cotangent, rtol=0.02 if dtype == "bfloat16" else 1e-5, atol=1e-6
            )
    assert trained


def test_every_point():
    y, x_bar = ours(points())
    expected_y, expected_x_bar = value_and_derivative(points())
    np.testing.assert_array_equal(np.asarray(y)[kept()], expected_y[kept()])
    np.testing.assert_array_equal(np.asarray(x_bar)[kept()], expected_x_bar[kept()])
