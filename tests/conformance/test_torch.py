"""PyTorch's own samples (OpInfo) of leaky_relu, prelu and rrelu: value, gradient, and gradient of the slope."""

import random
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_leaky.linen
from jax_leaky import leaky_relu
from tests.conformance.comparisons import SLOPE, Comparison, kept, ours, points, rounding

torch = pytest.importorskip("torch", reason="torch, whose samples these are, is not installed")
pytest.importorskip("expecttest", reason="expecttest, which torch's samples import, is not installed")

references = pytest.importorskip("torch._refs.nn.functional")  # in Python, for their compilers
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


LARGE = 2**16
SLOPES = (0.0, 0.2, 1.0, -0.5)  # beside the default, which alone PyTorch's samples of leaky_relu have


def operator_of(name):
    from torch.testing._internal.common_methods_invocations import op_db

    (operator,) = [op for op in op_db if op.name == f"nn.functional.{name}"]
    return operator


def samples(name, dtype, kind="sample_inputs"):
    """The samples of an operator: (place, operator, sample); of the kind "reference_inputs" there are more."""
    for seed in (torch.manual_seed, np.random.seed, random.seed):  # the samples are drawn from all three
        seed(0)
    operator = operator_of(name)
    if DTYPES[dtype][0] in operator.dtypes:
        drawn = getattr(operator, kind)("cpu", DTYPES[dtype][0], requires_grad=True)
        for place, sample in enumerate(drawn):
            if (
                sample.input.numel() <= LARGE or dtype == "float32"
            ):  # of a million numbers, one dtype is enough
                yield place, operator, sample


def theirs(f, x, *variables):
    """The value of f(x, *variables), a random cotangent of it, and the cotangents of the arguments."""
    x = x.detach().requires_grad_()  # some samples are views that nothing is to be differentiated by
    y = f(x, *variables)
    cotangent = torch.randn(y.shape).to(y.dtype)
    gradients = torch.autograd.grad(y, (x, *variables), cotangent)
    return numpy(y), numpy(cotangent), *map(numpy, gradients)


def compare(name, dtype, kind="sample_inputs"):
    """Ours beside theirs on all samples of an operator and a dtype."""
    for place, operator, sample in samples(name, dtype, kind):
        suite = f"OpInfo {kind.replace('_', ' ')} of {name}"
        say = partial(Comparison, suite, f"{dtype}, sample {place}")
        yield from COMPARE[name](say, operator, sample, jnp.asarray(numpy(sample.input), DTYPES[dtype][1]))


def close(x):
    """Theirs multiplies by a slope of float32 and rounds once; ours rounds the slope to the dtype first."""
    return {"rtol": rounding(x.dtype)}


def compare_leaky_relu(say, operator, sample, x):
    """At the sample's own slope, which is the default, and at others; by the op and by their reference."""
    for slope in (None, *SLOPES):
        given = dict(sample.kwargs) if slope is None else {"negative_slope": slope}
        slope = given.get("negative_slope", 0.01)
        at = "" if slope == 0.01 else f", slope {slope}"
        for by, f in {"": operator.op, " by torch._refs": references.leaky_relu}.items():
            y, cotangent, x_bar = theirs(partial(f, **given), sample.input)
            ours_y, ours_x_bar = ours(x, slope, cotangent)
            yield say(f"value{at}{by}", ours_y, y, **close(x))
            yield say(f"gradient{at}{by}", ours_x_bar, x_bar, **close(x))


def compare_prelu(say, operator, sample, x):
    weight = (sample.args[0] if sample.args else sample.kwargs["weight"]).detach().requires_grad_()
    y, cotangent, x_bar, slope_bar = theirs(operator.op, sample.input, weight)
    slope = jnp.asarray(numpy(weight), x.dtype)
    ours_y, ours_x_bar, ours_slope_bar = ours(x, slope, cotangent, partial(by_channel, leaky_relu))
    # A sum over samples, by each library in its own order, whose terms may cancel: what matters is their size.
    terms = np.abs(np.where(x > 0, 0, Comparison.wide(x)) * Comparison.wide(cotangent))
    summed = 4 * float(jnp.finfo(x.dtype).eps) * terms[np.isfinite(terms)].sum()
    yield say("gradient of the slope", ours_slope_bar, slope_bar, atol=summed)
    yield say("value", ours_y, y, **close(x))
    yield say("gradient", ours_x_bar, x_bar, **close(x))
    # Their references have no gradient: torch._refs has none where the slope is a scalar.
    for by, reference in {
        "their NumPy reference": operator.ref(numpy(sample.input), numpy(weight)),
        "torch._refs": numpy(references.prelu(sample.input.detach(), weight.detach())),
    }.items():
        yield say(f"value by {by}", ours_y, reference, **close(x))


def compare_rrelu(say, operator, sample, x):
    """In evaluation, where its slope is fixed; samples in training are taken for evaluation with their bounds."""
    given = {name: sample.kwargs[name] for name in ("lower", "upper") if name in sample.kwargs}
    y, cotangent, x_bar = theirs(partial(operator.op, training=False, **given), sample.input)
    module = jax_leaky.linen.RReLU(*given.values())
    ours_y, ours_x_bar = ours(x, 0.0, cotangent, lambda x, _: module.apply({}, x, deterministic=True))
    yield say("value", ours_y, y, **close(x))
    yield say("gradient", ours_x_bar, x_bar, **close(x))


COMPARE = {"leaky_relu": compare_leaky_relu, "prelu": compare_prelu, "rrelu": compare_rrelu}
KINDS = ("sample_inputs", "reference_inputs")


def by_channel(f, x, slope):
    """PyTorch's channels are the second axis, and a scalar has the slope's only entry."""
    if x.ndim == 0 or slope.size == 1:
        return f(x, slope.reshape(()))
    return f(x, slope.reshape((-1,) + (1,) * max(x.ndim - 2, 0)))


def suites():
    """All comparisons; leaky_relu has no reference inputs but its samples."""
    for name, kind in CASES:
        for dtype in DTYPES:
            with jax.enable_x64(dtype == "float64"):
                yield from compare(name, dtype, kind)


CASES = [
    (name, kind) for name in COMPARE for kind in KINDS if (name, kind) != ("leaky_relu", "reference_inputs")
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_samples(name, kind, dtype):
    with jax.enable_x64(dtype == "float64"):
        seen = [comparison.check() for comparison in compare(name, dtype, kind)]
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
        y, cotangent, x_bar = theirs(partial(operator.op, **sample.kwargs), sample.input)
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
