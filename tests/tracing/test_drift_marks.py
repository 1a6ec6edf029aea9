"""The ground that tracing stands on, as in `test_tracing_drift`: the marks of derivatives and of exchanges."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from jax_leaky._tracing import _jax_internals as internals

X = jnp.array([[-1.0, 2.0], [3.0, -4.0]])
TRANSFORMS = {
    "grad": jax.grad(lambda x: jnp.sin(x).sum()),
    "jitted": jax.grad(lambda x: jax.jit(jnp.sin)(x).sum()),
    "scanned": jax.grad(lambda x: lax.scan(lambda c, _: (jnp.sin(c), None), x, None, length=2)[0].sum()),
    "jvp": lambda x: jax.jvp(jnp.sin, (x,), (x,)),
    "vmap": jax.vmap(jax.grad(lambda x: jnp.sin(x).sum())),
}


def equations(fn):
    return internals.body(jax.make_jaxpr(fn)(X)).jaxpr.eqns


@pytest.mark.parametrize("name", sorted(TRANSFORMS))
def test_a_derivative_marks_its_equations(name):
    made = [eqn for eqn in equations(TRANSFORMS[name]) if eqn.primitive.name in {"sin", "jit", "scan"}]
    assert made
    assert all(internals.is_of_derivative(eqn) for eqn in made)


@pytest.mark.parametrize("outer", [lambda f: f, jax.vmap, jax.jit])
def test_a_backward_pass_is_told_from_the_forward_pass_of_a_derivative(outer):
    def loss(x):
        return jnp.sin(jax.checkpoint(jnp.exp)(x)).sum()

    def marks(jaxpr):
        for eqn in internals.body(jaxpr).jaxpr.eqns:
            yield eqn.primitive.name, internals.is_backward(eqn)
            for inner in internals.inner_jaxprs(eqn):
                yield from marks(inner)

    assert not any(backward for _, backward in marks(jax.make_jaxpr(outer(loss))(X)))
    found = set(marks(jax.make_jaxpr(outer(jax.grad(loss)))(X)))
    assert {("sin", False), ("remat2", True)} <= found


@pytest.mark.parametrize("inner", [lambda f: f, jax.jit, lambda f: lambda x: lax.map(f, x)])
def test_a_vmap_marks_its_equations_or_the_call_around_them(inner):
    assert not any(map(internals.is_mapped, equations(inner(jnp.sin))))
    assert any(map(internals.is_mapped, equations(jax.vmap(inner(jnp.sin)))))


def test_a_backward_pass_marks_what_it_computes_again():
    def marks(jaxpr):
        for eqn in internals.body(jaxpr).jaxpr.eqns:
            yield eqn.primitive.name, internals.is_recomputed(eqn)
            for inner in internals.inner_jaxprs(eqn):
                yield from marks(inner)

    found = set(
        marks(jax.make_jaxpr(jax.grad(lambda x: jax.checkpoint(lambda x: jnp.sin(x * x))(x).sum()))(X))
    )
    assert ("cos", True) in found
    assert not any(recomputed for name, recomputed in found if name in {"add_any", "broadcast_in_dim"})
    assert not any(recomputed for _, recomputed in marks(jax.make_jaxpr(jax.checkpoint(jnp.sin))(X)))


def test_a_derivative_around_a_trace_leaves_no_mark():
    seen = []

    def probe(x):
        def fn(x):
            with jax.named_scope("jvp"), jax.named_scope("transpose"):
                return jnp.sin(x)

        seen.extend(internals.is_of_derivative(eqn) for eqn in equations(lambda _: fn(X)))
        return fn(x).sum()

    for transformed in (jax.grad(probe), jax.jit(jax.grad(probe)), jax.grad(jax.jit(probe))):
        transformed(X)
    assert seen == [False] * len(seen)
    assert len(seen) >= 3


def test_collective_axes():
    mesh = jax.make_mesh((2,), ("d",), axis_types=(AxisType.Auto,))

    def body(x):
        return lax.all_gather(jnp.sin(x), "d", axis=1, tiled=True) * lax.axis_index("d")

    inner = equations(jax.shard_map(body, mesh=mesh, in_specs=P("d"), out_specs=P("d")))[0].params["jaxpr"]
    axes = {e.primitive.name: internals.collective_axes(e) for e in internals.body(inner).jaxpr.eqns}
    assert (axes["all_gather"], axes["axis_index"], axes["sin"]) == (("d",), ("d",), ())
