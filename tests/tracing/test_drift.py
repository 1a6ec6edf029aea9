"""The ground that tracing stands on: one test per access to semi-internal JAX.

When JAX moves, the test that turns red names the function of `_jax_internals` to mend. Only these tests and
those of `test_tracing_unknown_version` look behind this package's public face.
"""

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jax_leaky._tracing import _jax_internals as internals
from jax_leaky._tracing._plan import CONSTRUCTS, UNSEEN, Planner
from jax_leaky._tracing._program import Choices

X = jnp.array([[-1.0, 2.0], [3.0, -4.0]])


def equations(fn, *args):
    return internals.body(jax.make_jaxpr(fn)(*args)).jaxpr.eqns


def equation(name, fn, *args):
    (found,) = [eqn for eqn in equations(fn, *args) if eqn.primitive.name == name]
    return found


@jax.custom_jvp
def with_jvp(x):
    return jnp.tanh(x) + 1


with_jvp.defjvp(lambda primals, tangents: (with_jvp(*primals), tangents[0]))


@jax.custom_vjp
def with_vjp(x):
    return jnp.tanh(x) + 1


with_vjp.defvjp(lambda x: (with_vjp(x), None), lambda _, g: (g,))


def mapped(x, kind=AxisType.Auto):
    mesh = jax.make_mesh((2,), ("d",), axis_types=(kind,))
    return jax.shard_map(jnp.tanh, mesh=mesh, in_specs=P("d"), out_specs=P("d"))(x)


EXAMPLES = {
    "jit": jax.jit(jnp.tanh),
    "closed_call": None,  # made by JAX alone, when it transforms what it has traced
    "remat2": jax.checkpoint(jnp.tanh),
    "custom_jvp_call": with_jvp,
    "custom_vjp_call": with_vjp,
    "scan": lambda x: lax.scan(lambda c, w: (c @ w, c), x, jnp.stack([x, x]))[0],
    "while": lambda x: lax.while_loop(lambda c: c.sum() < 1, lambda c: c + x, x),
    "cond": lambda x: lax.cond(x.sum() > 0, jnp.tanh, jnp.sin, x),
    "shard_map": mapped,
}


def test_every_construct_has_an_example():
    assert set(EXAMPLES) == set(CONSTRUCTS) == set(internals.PARAMETERS)
    assert not set(UNSEEN) & set(CONSTRUCTS)


@pytest.mark.parametrize("name", sorted(set(EXAMPLES) - {"closed_call"}))
def test_primitive_names_and_parameters_are_understood(name):
    assert internals.unknown_parameters(equation(name, EXAMPLES[name], X)) == []


@pytest.mark.parametrize("name", sorted(set(EXAMPLES) - {"closed_call"}))
def test_inner_jaxprs(name):
    found = internals.inner_jaxprs(equation(name, EXAMPLES[name], X))
    assert len(found) == {"while": 2, "cond": 2}.get(name, 1)
    assert all(len(internals.body(jaxpr).jaxpr.eqns) >= 1 for jaxpr in found)


PRIMITIVES = sorted(
    {
        primitive.name: primitive
        for primitive in vars(jax.extend.core.primitives).values()
        if isinstance(primitive, jax.extend.core.Primitive)
    }.items()
)


def holding(primitive, held):
    """The sites of tanh, were it an equation of another primitive that holds something."""
    body = internals.body(jax.make_jaxpr(jnp.tanh)(X))
    (eqn,) = body.jaxpr.eqns
    params = {
        "something": held,
        "dimension_numbers": (((1,), (0,)), ((), ())),
    }  # a product has these, and two inputs
    takes_two = primitive.name in {"dot_general", "conv_general_dilated", "eq", "ne"}
    other = eqn.replace(primitive=primitive, params=params, invars=eqn.invars * (1 + takes_two))
    jaxpr = body.jaxpr.replace(eqns=[other])
    planner = Planner()
    plan = planner.plan_function(internals.body(jaxpr), Choices())
    return [spot.site.kind for spot in plan.all_spots], [part.what for part in planner.opaque]


HELD = {
    "a jaxpr": lambda: jax.make_jaxpr(jax.nn.relu)(X),
    "an open jaxpr": lambda: internals.body(jax.make_jaxpr(jax.nn.relu)(X)).jaxpr,
    "a jaxpr in containers": lambda: {"one": (1, [jax.make_jaxpr(lambda x: jnp.sin(x))(X)])},
    "a Python function": lambda: jnp.tanh,
    "functions in containers": lambda: {"one": (1, [print])},
    "an exported function": lambda: export.export(jax.jit(jnp.tanh))(jax.ShapeDtypeStruct(X.shape, X.dtype)),
}


@pytest.mark.parametrize("what", sorted(HELD))
def test_every_primitive_that_holds_a_function_is_entered_or_opaque(what):
    held = HELD[what]()
    assert len(PRIMITIVES) > 100
    for name, primitive in PRIMITIVES:
        if name not in {*CONSTRUCTS, "tanh", "logistic"}:  # which are activations themselves
            assert holding(primitive, held) == ([], [name]), name


def test_a_parameter_that_is_no_function_makes_nothing_opaque():
    impl = jax.random.key_impl(jax.random.key(0))
    for held in (1, "relu", jnp.float32, np.dtype("float32"), X, None, AxisType.Auto, impl, P("d")):
        assert holding(jax.extend.core.primitives.neg_p, held) == ([], [])


def test_body_splits_constants_from_arguments():
    held = jnp.arange(4.0).reshape(2, 2)
    inner = internals.body(jax.make_jaxpr(lambda x: x @ held)(X))
    assert len(inner.consts) == 1
    assert len(inner.invars) == 2
    assert inner.consts[0] is held
    open_jaxpr = equation("remat2", jax.checkpoint(lambda x: x @ held), X).params["jaxpr"]
    assert internals.body(open_jaxpr).consts == ()
    assert len(internals.body(open_jaxpr).invars) == 2


def test_dead_code_goes_and_arguments_and_constants_stay():
    held = jnp.arange(4.0).reshape(2, 2)

    def fn(x, unused):
        return (jnp.sin(x @ held), jnp.cos(unused))[0]

    inner = internals.without_dead_code(jax.make_jaxpr(fn)(X, X))
    assert [eqn.primitive.name for eqn in inner.jaxpr.eqns] == ["dot_general", "sin"]
    assert (len(inner.arguments), len(inner.consts)) == (2, 1)
    assert inner.consts[0] is held


def test_literals():
    (add,) = equations(lambda x: x + 1, X)
    assert [internals.is_literal(atom) for atom in add.invars] == [False, True]
    assert float(add.invars[1].val) == 1


def test_call_names():
    names = {
        name: internals.call_name(equation(name, fn, X)) for name, fn in EXAMPLES.items() if fn is not None
    }
    assert (names["jit"], names["custom_jvp_call"], names["custom_vjp_call"]) == (
        "tanh",
        "with_jvp",
        "with_vjp",
    )
    assert internals.call_name(equation("custom_jvp_call", jax.nn.relu, X)) == "relu"
    assert internals.call_name(equation("jit", jax.nn.leaky_relu, X)) == "leaky_relu"


def test_plumbing_is_told_from_the_users_functions():
    def of(name, fn):
        return internals.is_plumbing(internals.inner_jaxprs(equation(name, fn, X))[0])

    assert of("jit", lambda x: jax.random.uniform(jax.random.key(0), x.shape))
    assert of("jit", lambda x: jnp.clip(x, 0, 1))
    assert not of("jit", jax.nn.leaky_relu)
    assert not of("jit", jax.jit(lambda x: x + 1))


def test_as_function():
    jaxpr = equation("jit", EXAMPLES["jit"], X).params["jaxpr"]
    np.testing.assert_array_equal(internals.as_function(jaxpr)(X)[0], jnp.tanh(X))


def test_holds_dead_tracer():
    class Box:
        def __init__(self, value):
            self.value = value

    seen = []

    def fn(x):
        seen.append(Box([x]))
        return x * 1.0

    jax.make_jaxpr(fn)(X)
    jax.make_jaxpr(lambda x: seen.append(internals.holds_dead_tracer(Box(x))) or x)(X)
    assert internals.holds_dead_tracer(seen[0])
    assert seen[1] is False
    assert not internals.holds_dead_tracer(Box(X))


@pytest.mark.parametrize("name", sorted(set(EXAMPLES) - {"closed_call"}))
def test_bind_runs_an_equation_as_it_was(name):
    closed = jax.make_jaxpr(EXAMPLES[name])(X)
    inner = internals.body(closed)
    values = dict(zip(inner.invars, (*inner.consts, X), strict=True))
    for eqn in inner.jaxpr.eqns:
        inputs = [atom.val if internals.is_literal(atom) else values[atom] for atom in eqn.invars]
        values |= zip(eqn.outvars, internals.bind(eqn, inputs), strict=True)
    np.testing.assert_array_equal(values[inner.jaxpr.outvars[0]], EXAMPLES[name](X))


def test_equation_context_keeps_scope_source_and_configuration():
    def fn(x):
        with jax.named_scope("outer"), jax.default_matmul_precision("float32"):
            return jnp.tanh(x)

    eqn = equation("tanh", fn, X)

    def again(x):
        return internals.bind(eqn, [x])[0]

    copy = equation("tanh", again, X)
    assert internals.module_path(copy) == internals.module_path(eqn) == ("outer",)
    assert internals.source(copy) == internals.source(eqn)
    assert str(copy.ctx) == str(eqn.ctx) or copy.ctx.__class__ is eqn.ctx.__class__


def test_as_type_of():
    strong, weak = jax.typeof(jnp.float32(1)), jax.typeof(jnp.asarray(1.0))
    for value in (1, np.float64(1), jnp.bfloat16(1), jnp.asarray(1.0), jnp.float32(1)):
        for aval in (strong, weak):
            converted = jax.typeof(internals.as_type_of(value, aval))
            assert (converted.dtype, converted.weak_type) == (aval.dtype, aval.weak_type)
    key = jax.random.key(0)
    assert internals.as_type_of(key, jax.typeof(key)) is key
    nothing = np.zeros((), jax.dtypes.float0)
    assert internals.as_type_of(nothing, jax.core.ShapedArray((), jax.dtypes.float0)) is nothing


def test_module_path_strips_transforms():
    def fn(x):
        with jax.named_scope("a"), jax.named_scope("b"):
            return jnp.sin(x)

    for transformed in (fn, jax.vmap(fn), jax.vmap(jax.vmap(fn)), lambda x: jax.jvp(fn, (x,), (x,))[0]):
        assert internals.module_path(equation("sin", transformed, X)) == ("a", "b")
    assert internals.module_path(equation("sin", jnp.sin, X)) == ()


def test_source():
    def fn(x):
        return jnp.sin(x)

    found = internals.source(equation("sin", fn, X))
    assert found.file == __file__
    assert found.line == fn.__code__.co_firstlineno + 1
    assert found.function.endswith("test_source.<locals>.fn")


def test_parts_of_a_scan():
    held = jnp.ones((2, 2))
    eqn = equation("scan", lambda x: lax.scan(lambda c, w: (c @ held + w, None), x, jnp.stack([x] * 3))[0], X)
    scan = internals.scan(eqn)
    assert (scan.length, scan.consts, scan.carried) == (3, 1, 1)
    assert scan.options == {"reverse": False, "unroll": 1}
    assert len(internals.body(scan.jaxpr).arguments) == len(eqn.invars) == 3


def test_parts_of_a_while_loop():
    low, step = jnp.ones(2), jnp.ones((2, 2))
    eqn = equation("while", lambda x: lax.while_loop(lambda c: (c < low).all(), lambda c: c + step, x), X)
    loop = internals.while_loop(eqn)
    assert (loop.tested, loop.held) == (1, 1)
    assert "reduce_and" in str(loop.test)
    assert "add" in str(loop.step)


def test_branches():
    eqn = equation("cond", EXAMPLES["cond"], X)
    assert ["sin" in str(branch) for branch in internals.branches(eqn)] == [True, False]


def test_parts_of_a_remat():
    eqn = equation("remat2", EXAMPLES["remat2"], X)
    assert not internals.is_recomputation(eqn)
    assert internals.remat_options(eqn) == {"prevent_cse": True, "policy": None}
    backward = equations(jax.grad(lambda x: EXAMPLES["remat2"](x).sum()), X)
    assert any(internals.is_recomputation(eqn) for eqn in backward if eqn.primitive.name == "remat2")


def test_parts_of_a_shard_map():
    shards = internals.shard_map(equation("shard_map", mapped, X))
    assert (shards.axes, shards.in_specs, shards.out_specs) == ({"d": 2}, (P("d"),), (P("d"),))
    assert not shards.is_pmap
    call = equation("jit", jax.pmap(lambda x: x + 1), X)
    (inner,) = internals.body(internals.inner_jaxprs(call)[0]).jaxpr.eqns
    assert internals.shard_map(inner).is_pmap
    assert not internals.is_plumbing(internals.inner_jaxprs(call)[0])
    assert set(shards.options) == {"mesh", "axis_names", "check_vma"}


def test_variables_shapes_and_dtypes():
    (add,) = equations(lambda x: x + 1, X)
    assert internals.variables(add.invars) == [add.invars[0]]
    assert [internals.shape_of(atom) for atom in add.invars] == [(2, 2), ()]
    assert internals.dtype_of(add.invars[0]) == X.dtype


def test_jit_options():
    plain = equation("jit", EXAMPLES["jit"], X)
    assert internals.jit_options(plain) == {"keep_unused": False}
    assert not internals.has_layouts(plain)
    mesh = jax.make_mesh((2,), ("d",), axis_types=(AxisType.Auto,))
    rows = NamedSharding(mesh, P("d"))
    sharded = equation(
        "jit", jax.jit(lambda x, y: x + y, in_shardings=(rows, None), out_shardings=rows), X, X
    )
    options = internals.jit_options(sharded)
    assert options["in_shardings"] == (rows, None)
    assert options["out_shardings"] == ([rows], None)


def test_varying_axes_and_as_varying():
    seen = {}

    def fn(x, y):
        seen["x"], seen["y"] = internals.varying_axes(jax.typeof(x)), internals.varying_axes(jax.typeof(y))
        lifted = internals.as_varying(y, frozenset({"d"}))
        seen["lifted"] = internals.varying_axes(jax.typeof(lifted))
        assert internals.as_varying(x, frozenset({"d"})) is x
        return x + lifted

    mesh = jax.make_mesh((2,), ("d",), axis_types=(AxisType.Auto,))
    jax.shard_map(fn, mesh=mesh, in_specs=(P("d"), P()), out_specs=P("d"))(X, X[:1])
    assert seen == {"x": {"d"}, "y": frozenset(), "lifted": {"d"}}
    assert internals.varying_axes(jax.typeof(X)) == frozenset()


def test_replicated():
    mesh = jax.make_mesh((2,), ("d",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        x = jax.device_put(X, NamedSharding(mesh, P("d")))
        together = internals.replicated(x)
        np.testing.assert_array_equal(together[0], X[0])
    assert internals.replicated(X) is X
