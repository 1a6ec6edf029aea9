"""ONNX's backend tests of LeakyRelu and PRelu: its node tests, and models that PyTorch has written; values alone."""

import warnings
from importlib import resources

import numpy as np
import pytest

from jax_leaky import leaky_relu
from tests.conformance.comparisons import SLOPE, Comparison, kept, ours, points

onnx = pytest.importorskip("onnx", reason="onnx, whose backend tests these are, is not installed")

pytestmark = pytest.mark.peer
LIBRARY, VERSION = "ONNX reference", onnx.__version__
OPERATORS = ("LeakyRelu", "PRelu")
MODELS = (
    "test_LeakyReLU",
    "test_LeakyReLU_with_negval",
    *(f"test_PReLU_{rank}d{more}" for rank in (1, 2, 3) for more in ("", "_multiparam")),
)


def node_tests():
    """(name, model, inputs, outputs, rtol, atol) of each node test."""
    np.random.seed(0)  # from which ONNX draws the inputs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # importing the cases of all operators casts out of range
        from onnx.backend.test.case import node
        from onnx.backend.test.case.node import leakyrelu, prelu  # noqa: F401  which add their cases to the list
    for case in node._NodeTestCases:
        # The same with the operator spelled out in others has the same data.
        if case.model.graph.node[0].op_type in OPERATORS:
            for inputs, outputs in case.data_sets:
                yield case.name, case.model, inputs, outputs, case.rtol, case.atol


def models():
    """The same of each model that comes with its data in files."""
    folder = resources.files("onnx.backend.test.data") / "pytorch-converted"
    for name in MODELS:
        data = folder / name / "test_data_set_0"
        inputs, outputs = (
            [onnx.numpy_helper.to_array(onnx.load_tensor_from_string((data / f"{kind}_0.pb").read_bytes()))]
            for kind in ("input", "output")
        )
        yield (
            name,
            onnx.load_from_string((folder / name / "model.onnx").read_bytes()),
            inputs,
            outputs,
            1e-3,
            1e-7,
        )


def run(model, inputs):
    """Our value of a model that is one LeakyRelu or one PRelu."""
    (node,) = model.graph.node
    known = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    fed = iter(inputs)
    arrays = [known[name] if name in known else next(fed) for name in node.input]
    if node.op_type == "PRelu":
        x, slope = arrays
        if model.opset_import[0].version < 7 and slope.size > 1:  # the slopes then belong to the second axis
            slope = slope.reshape((-1,) + (1,) * (x.ndim - 2))
        return leaky_relu(x, slope)
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    return leaky_relu(arrays[0], attributes.get("alpha", 0.01))


def suites():
    """All comparisons."""
    for suite, cases in (("backend node tests", node_tests()), ("models converted from PyTorch", models())):
        for name, model, inputs, (expected,), rtol, atol in cases:
            yield Comparison(suite, name, "value", run(model, inputs), expected, rtol, atol)


def value_and_derivative(x):
    """Those of ONNX's reference evaluator at each point; it has no gradient."""
    node = onnx.helper.make_node("LeakyRelu", ["x"], ["y"], alpha=SLOPE)
    tensor = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node],
        "g",
        [tensor("x", onnx.TensorProto.FLOAT, [None])],
        [tensor("y", onnx.TensorProto.FLOAT, [None])],
    )
    from onnx.reference import ReferenceEvaluator

    with np.errstate(all="ignore"):
        (y,) = ReferenceEvaluator(onnx.helper.make_model(graph)).run(None, {"x": x})
    return y, None


def test_backend_tests():
    comparisons = list(suites())
    assert {comparison.suite for comparison in comparisons} == {
        "backend node tests",
        "models converted from PyTorch",
    }
    assert len(comparisons) == 5 + len(MODELS)
    for comparison in comparisons:
        comparison.check()


def test_every_point():
    y, _ = ours(points())
    expected, _ = value_and_derivative(points())
    np.testing.assert_array_equal(np.asarray(y)[kept()], expected[kept()])
