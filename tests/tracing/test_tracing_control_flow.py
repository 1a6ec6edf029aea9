"""Loops, branches, calls, rules and shards: entered, with records that a loop in Python would give."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jax_leaky.tracing import Reached, Traced, Visitor, list_sites, observe

# Small fractions of two: every product and sum is exact, so that no choice of XLA's (which operations it fuses into
# one loop changes how a product of small matrices is rounded) can hide or feign a difference.
KEYS = jax.random.split(jax.random.key(1), 2)
X = jax.random.randint(KEYS[0], (4, 6), -8, 9) / 4
W = jax.random.randint(KEYS[1], (6, 6), -2, 3) / 4


def count(_, z):
    return {"n": jnp.int32(z.shape[0]), "fired": (z > 0).sum(0), "top": z.max()}


def merge(older, newer):
    return {
        "n": older["n"] + newer["n"],
        "fired": older["fired"] + newer["fired"],
        "top": jnp.maximum(older["top"], newer["top"]),
    }


def numpy_count(z):
    return {"n": len(z), "fired": (np.asarray(z) > 0).sum(0).tolist(), "top": float(np.asarray(z).max())}


def numpy_merge(counts):
    return {
        "n": sum(c["n"] for c in counts),
        "fired": np.sum([c["fired"] for c in counts], 0).tolist(),
        "top": max(c["top"] for c in counts),
    }


def by_kind(seen):
    """The records by kind; jit sorts the names."""
    return {name.replace("/", " ").split(" ")[-1]: record for name, record in seen.items()}


def plain(record):
    return jax.tree.map(lambda leaf: leaf.tolist(), record)


def unchanged(fn, *args, **options):
    """Observes under jit and asserts that value and gradient are the same to the bit; returns the records."""

    def loss(*args):
        return sum((leaf**2).sum() for leaf in jax.tree.leaves(fn(*args)))

    def observed_loss(*args):
        out, seen = observe(fn, count, **options)(*args)
        return sum((leaf**2).sum() for leaf in jax.tree.leaves(out)), seen

    out, (observed, seen) = jax.jit(fn)(*args), jax.jit(observe(fn, count, **options))(*args)
    assert jax.tree.all(jax.tree.map(lambda a, b: a.tobytes() == b.tobytes(), out, observed))
    gradient = jax.jit(jax.grad(loss, argnums=range(len(args))))(*args)
    observed_gradient, seen_too = jax.jit(jax.grad(observed_loss, argnums=range(len(args)), has_aux=True))(
        *args
    )
    assert jax.tree.all(jax.tree.map(lambda a, b: a.tobytes() == b.tobytes(), gradient, observed_gradient))
    assert plain(seen) == plain(seen_too)
    eager, seen_eagerly = observe(fn, count, **options)(*args)
    assert jax.tree.all(jax.tree.map(lambda a, b: a.tobytes() == b.tobytes(), fn(*args), eager))
    assert jax.tree.structure(seen_eagerly) == jax.tree.structure(seen)
    return seen


def layer(x, w):
    return jax.nn.relu(x @ w) - 0.25


def steps(x, w, n):
    """The pre-activations of `n` layers, one after the other."""
    found = []
    for _ in range(n):
        found.append(x @ w)
        x = layer(x, w)
    return found


@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_stacks_records_per_step(reverse):
    def fn(x, ws):
        with jax.named_scope("net"):
            return lax.scan(lambda c, w: (layer(c, w), c.sum()), x, ws, reverse=reverse)

    ws = jnp.stack([W, W.T, -W])
    seen = unchanged(fn, X, ws)["net/scan/relu"]
    x, expected = X, []
    for w in ws[::-1] if reverse else ws:
        expected.append(numpy_count(x @ w))
        x = layer(x, w)
    expected = expected[::-1] if reverse else expected
    assert seen["fired"].tolist() == [step["fired"] for step in expected]
    np.testing.assert_allclose(seen["top"], [step["top"] for step in expected], rtol=1e-6)
    assert list_sites(fn, X, ws)[0].stacked == (3,)


@pytest.mark.parametrize("unroll", [1, 2])
def test_a_scan_merges_records(unroll):
    def fn(x, w):
        return lax.scan(lambda c, _: (layer(c, w), None), x, None, length=5, unroll=unroll)[0]

    (seen,) = unchanged(fn, X, W, merge=merge).values()
    expected = numpy_merge([numpy_count(z) for z in steps(X, W, 5)])
    assert seen["fired"].tolist() == expected["fired"]
    assert seen["n"] == 20
    np.testing.assert_allclose(seen["top"], expected["top"], rtol=1e-6)


def test_a_scan_without_steps_holds_no_site():
    def fn(x):
        return lax.scan(lambda c, _: (jax.nn.relu(c), None), x, None, length=0)[0]

    assert unchanged(fn, X) == {}


def test_a_scan_in_a_scan():
    def fn(x, w):
        def outer(c, _):
            return lax.scan(lambda d, _: (layer(d, w), None), c, None, length=2)[0], None

        return lax.scan(outer, x, None, length=3)[0]

    (stacked,) = unchanged(fn, X, W).values()
    (merged,) = unchanged(fn, X, W, merge=merge).values()
    expected = [numpy_count(z)["fired"] for z in steps(X, W, 6)]
    assert stacked["fired"].reshape(6, -1).tolist() == expected
    assert merged["fired"].tolist() == np.sum(expected, 0).tolist()
    assert list_sites(fn, X, W)[0].stacked == (3, 2)


def test_a_fori_loop_of_known_length_is_a_scan():
    def fn(x, w):
        return lax.fori_loop(0, 3, lambda i, c: layer(c, w) + i, x)

    (seen,) = unchanged(fn, X, W).values()
    assert seen["fired"].shape == (3, 6)


def looped(x, w, n):
    return lax.fori_loop(0, n, lambda _, c: layer(c, w), x)


@pytest.mark.parametrize("n", [0, 1, 4])
@pytest.mark.parametrize("compile_it", [False, True])
def test_a_while_loop_merges_records_and_counts_its_steps(n, compile_it):
    observed = observe(looped, count, merge=merge)
    out, seen = (jax.jit(observed) if compile_it else observed)(X, W, jnp.int32(n))
    assert out.tobytes() == (jax.jit(looped) if compile_it else looped)(X, W, jnp.int32(n)).tobytes()
    ((name, reached),) = seen.items()
    assert name.startswith("while/")
    assert isinstance(reached, Reached)
    assert reached.times == n
    expected = (
        numpy_merge([numpy_count(z) for z in steps(X, W, n)]) if n else {"n": 0, "fired": [0] * 6, "top": 0.0}
    )
    assert reached.record["fired"].tolist() == expected["fired"]
    assert reached.record["n"] == expected["n"]
    np.testing.assert_allclose(reached.record["top"], expected["top"], rtol=1e-5)


def test_a_while_loop_without_merge_is_left_out_with_a_warning():
    with pytest.warns(UserWarning, match="observe does not record while/.* relu: .* give merge="):
        out, seen = observe(looped, count)(X, W, jnp.int32(2))
    assert seen == {}
    assert out.tobytes() == looped(X, W, jnp.int32(2)).tobytes()
    (site,) = list_sites(looped, X, W, jnp.int32(2))
    assert (site.conditional, bool(site.needs_merge)) == (True, True)
    assert observe(lambda x: jax.nn.relu(looped(x, W, jnp.int32(2))), count, sites="test_*")(X)[1].keys()


def test_the_condition_of_a_while_loop_is_opaque():
    def fn(x):
        return lax.while_loop(lambda c: jax.nn.relu(c).sum() > 9, lambda c: jnp.tanh(c), x)

    sites = list_sites(fn, X)
    assert [site.kind for site in sites] == ["tanh"]
    assert [part.why for part in sites.opaque] == ["the condition of a while loop, 1 activation inside"]
    assert observe(fn, count, merge=merge)(X)[0].tobytes() == fn(X).tobytes()


def test_a_while_loop_differentiates_forward():
    def fn(x):
        return looped(x, W, jnp.int32(3))

    out = jax.jvp(fn, (X,), (X,))
    observed = jax.jvp(jax.jit(lambda x: observe(fn, count, merge=merge)(x)[0]), (X,), (X,))
    np.testing.assert_allclose(out[1], observed[1], rtol=1e-6)


def test_a_merge_of_another_type_is_refused():
    with pytest.raises(
        ValueError, match=r"merge must give a record of the same structure, shapes and dtypes"
    ):
        observe(looped, lambda _, z: (z > 0).sum(), merge=lambda a, b: (a + b) / 2)(X, W, jnp.int32(2))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_cond_records_the_branch_taken(sign):
    def fn(x, s):
        return lax.cond(s > 0, lambda y: jax.nn.relu(y) * 2, lambda y: jnp.tanh(y[:, :2]).sum() + y, x)

    seen = unchanged(lambda x: fn(x, sign), X)
    no, yes = by_kind(seen)["tanh"], by_kind(seen)["relu"]
    assert [name.split("/")[0] for name in seen] == ["branch_0", "branch_1"]
    assert (int(no.times), int(yes.times)) == ((0, 1) if sign > 0 else (1, 0))
    expected = numpy_count(X if sign > 0 else X[:, :2])
    record, other = (yes.record, no.record) if sign > 0 else (no.record, yes.record)
    assert plain(record) == expected
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(other))
    assert all(site.conditional for site in list_sites(fn, X, sign))


def test_a_switch_and_branches_without_sites():
    def fn(i, x):
        return lax.switch(i, [jnp.sin, jax.nn.relu, lambda y: jax.nn.relu(-y) + jnp.tanh(y)], x)

    for i in range(3):
        seen = jax.jit(observe(fn, count))(i, X)[1]
        assert [int(reached.times) for reached in seen.values()] == [[0, 0, 0], [1, 0, 0], [0, 1, 1]][i]


def test_a_cond_in_a_scan_tells_the_steps_on_which_it_was_taken():
    def fn(x, w):
        def step(c, i):
            return lax.cond(i % 2 == 0, lambda y: layer(y, w), lambda y: y + 0.125, c), None

        return lax.scan(step, x, jnp.arange(4))[0]

    (stacked,) = unchanged(fn, X, W).values()
    assert stacked.times.tolist() == [1, 0, 1, 0]
    assert stacked.record["n"].tolist() == [4, 0, 4, 0]
    (merged,) = unchanged(fn, X, W, merge=merge).values()
    assert (int(merged.times), int(merged.record["n"])) == (2, 8)
    assert merged.record["fired"].tolist() == stacked.record["fired"].sum(0).tolist()
    assert merged.record["top"] == max(stacked.record["top"][0], stacked.record["top"][2])


def test_a_scan_and_a_while_in_a_cond():
    def fn(x, w, n):
        def scanned(y):
            return lax.scan(lambda c, _: (layer(c, w), None), y, None, length=3)[0]

        return lax.cond(n > 2, scanned, lambda y: looped(y, w, n), x)

    for n, expected in [(5, (3, 0)), (2, (0, 2))]:
        out, seen = jax.jit(observe(fn, count, merge=merge))(X, W, jnp.int32(n))
        times = {name.split("/")[1]: int(reached.times) for name, reached in seen.items()}
        # Each step of the scan in the branch is one visit that was merged.
        assert (times["scan"], times["while"]) == expected
        assert out.tobytes() == jax.jit(fn)(X, W, jnp.int32(n)).tobytes()
    with pytest.warns(UserWarning, match="does not record"):
        seen = observe(fn, count)(X, W, jnp.int32(5))[1]
    (reached,) = seen.values()
    assert reached.times.tolist() == [1, 1, 1]


def test_a_vmapped_cond():
    def fn(x):
        return lax.cond(x.sum() > 0, jax.nn.relu, lambda y: y, x)

    out, (reached,) = (lambda o, s: (o, s.values()))(*jax.vmap(observe(fn, lambda _, z: z.max()))(X))
    assert out.tobytes() == jax.vmap(fn)(X).tobytes()
    assert reached.times.tolist() == (np.asarray(X).sum(1) > 0).astype(int).tolist()


@pytest.mark.parametrize("policy", [None, jax.checkpoint_policies.dots_saveable])
def test_remat_is_kept(policy):
    @jax.checkpoint
    def outer(x, w):
        return jax.checkpoint(layer, policy=policy, prevent_cse=False)(x, w) * 2

    seen = unchanged(outer, X, W)
    assert plain(next(iter(seen.values())))["fired"] == numpy_count(X @ W)["fired"]
    jaxpr = str(jax.make_jaxpr(observe(outer, count))(X, W))
    assert jaxpr.count("prevent_cse=False") == 1
    assert jaxpr.count("prevent_cse=True") == 1
    assert jaxpr.count("policy=None") == (2 if policy is None else 1)


def test_jit_stays_jit_with_its_name():
    @jax.jit
    def block(x, w):
        return layer(x, w)

    unchanged(lambda x, w: block(block(x, w), w), X, W)
    jaxpr = str(jax.make_jaxpr(observe(lambda x, w: block(x, w), count))(X, W))
    assert "name=block" in jaxpr


def test_a_jit_with_shardings():
    mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Auto,))
    rows, all_of_it = NamedSharding(mesh, P("d")), NamedSharding(mesh, P())
    block = jax.jit(layer, in_shardings=(rows, all_of_it), out_shardings=rows)
    out, seen = jax.jit(observe(lambda x, w: block(x, w), count))(X, W)
    assert out.tobytes() == jax.jit(block)(X, W).tobytes()
    assert out.sharding.is_equivalent_to(rows, 2)
    assert plain(next(iter(seen.values())))["fired"] == numpy_count(X @ W)["fired"]


def test_a_custom_vjp_keeps_its_rule():
    @jax.custom_vjp
    def block(x, w):
        return jax.nn.relu(x @ w) * 2

    block.defvjp(lambda x, w: (block(x, w), (x, w)), lambda res, g: (g * 7, res[1] * 0 + 5))
    seen = unchanged(block, X, W)
    assert plain(next(iter(seen.values())))["fired"] == numpy_count(X @ W)["fired"]
    (site,) = list_sites(block, X, W)
    assert site.inside == ("custom_vjp block",)
    assert site.fixed


def test_a_custom_jvp_keeps_its_rule():
    @jax.custom_jvp
    def block(x, w):
        return jax.nn.silu(x @ w) + 1

    block.defjvp(lambda primals, tangents: (block(*primals), tangents[0] * 3))
    seen = unchanged(block, X, W)
    assert plain(next(iter(seen.values())))["fired"] == numpy_count(X @ W)["fired"]
    assert (
        jax.grad(lambda x: observe(block, count)(x, W)[0].sum())(X).tolist() == jnp.full_like(X, 3).tolist()
    )


def test_a_custom_rule_in_a_scan_in_a_jit():
    @jax.custom_vjp
    def block(x, w):
        return jnp.tanh(x @ w)

    block.defvjp(lambda x, w: (block(x, w), w), lambda w, g: (g @ w.T, w))

    def fn(x, w):
        return lax.scan(lambda c, _: (jax.jit(block)(c, w), None), x, None, length=2)[0]

    (seen,) = unchanged(fn, X, W).values()
    assert seen["fired"].tolist() == [numpy_count(X @ W)["fired"], numpy_count(jnp.tanh(X @ W) @ W)["fired"]]


def test_a_custom_rule_with_effects_is_opaque():
    @jax.custom_vjp
    def block(x):
        jax.debug.print("once")
        return jax.nn.relu(x) * 2

    block.defvjp(lambda x: (block(x), None), lambda _, g: (g,))
    sites = list_sites(block, X)
    assert len(sites) == 0
    assert "with side effects" in sites.opaque[0].why


MESH_SHAPES = [((4,), ("d",)), ((2, 2), ("d", "m"))]


@pytest.mark.parametrize(("shape", "axes"), MESH_SHAPES)
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_shard_map_records_each_shard_once(shape, axes, kind):
    mesh = jax.make_mesh(shape, axes, axis_types=(kind,) * len(axes))

    def body(x, w):
        y = jax.nn.relu(x @ w)
        return lax.psum(y.sum(), "d") + y + jnp.tanh(w).sum()

    fn = jax.shard_map(body, mesh=mesh, in_specs=(P("d"), P()), out_specs=P("d"))
    with jax.set_mesh(mesh):
        x, w = (jax.device_put(v, NamedSharding(mesh, s)) for v, s in ((X, P("d")), (W, P())))
        per_shard, copies = (by_kind(unchanged(fn, x, w))[kind] for kind in ("relu", "tanh"))
        merged, merged_copies = (by_kind(unchanged(fn, x, w, merge=merge))[kind] for kind in ("relu", "tanh"))
        assert [site.stacked for site in list_sites(fn, x, w)] == [(shape[0],), ()]
    z = np.asarray(X @ W).reshape(shape[0], -1, 6)
    assert per_shard["fired"].tolist() == (z > 0).sum(1).tolist()
    assert plain(merged)["fired"] == numpy_count(X @ W)["fired"]
    assert merged["n"] == 4
    assert plain(copies)["fired"] == plain(merged_copies)["fired"] == numpy_count(W)["fired"]


def test_loops_and_branches_inside_shard_map():
    mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Auto,))

    def body(x, w):
        x = lax.scan(lambda c, _: (jax.nn.leaky_relu(c @ w, 0.5), None), x, None, length=2)[0]
        x = lax.cond(x.sum() > 0, lambda y: jax.nn.relu(y), lambda y: jnp.tanh(y), x)
        return lax.cond(w.sum() > 0, lambda y: jax.nn.silu(y), lambda y: y, x)

    fn = jax.shard_map(body, mesh=mesh, in_specs=(P("d"), P()), out_specs=P("d"))
    stacked = unchanged(fn, X, W)
    scanned, tanh, relu, silu = (by_kind(stacked)[kind] for kind in ("leaky_relu", "tanh", "relu", "silu"))
    assert scanned["fired"].shape == (4, 2, 6)
    assert (tanh.times + relu.times).tolist() == [1, 1, 1, 1]
    assert silu.times.tolist() == [int(W.sum() > 0)] * 4
    merged = unchanged(fn, X, W, merge=merge)
    scanned, tanh, relu = (by_kind(merged)[kind] for kind in ("leaky_relu", "tanh", "relu"))
    z = np.asarray(X @ W)
    z_next = np.where(z > 0, z, z / 2) @ np.asarray(W)
    assert scanned["fired"].tolist() == numpy_merge([numpy_count(z), numpy_count(z_next)])["fired"]
    rows = np.where(z_next > 0, z_next, z_next / 2).sum(1) > 0
    assert (int(tanh.times), int(relu.times)) == (int((~rows).sum()), int(rows.sum()))


def test_shard_map_without_types_is_opaque():
    mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Auto,))
    fn = jax.shard_map(jax.nn.relu, mesh=mesh, in_specs=P("d"), out_specs=P("d"), check_vma=False)
    sites = list_sites(fn, X)
    assert len(sites) == 0
    assert sites.opaque[0].why.startswith("a shard_map with check_vma=False")
    out, seen = observe(fn, count)(X)
    assert out.tobytes() == fn(X).tobytes()
    assert seen == {}


def test_sharded_arrays_give_the_same_counts():
    mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Auto,))
    x = jax.device_put(X, NamedSharding(mesh, P("d")))
    out, seen = jax.jit(observe(layer, count))(x, W)
    assert out.sharding.is_equivalent_to(NamedSharding(mesh, P("d")), 2)
    assert plain(seen) == plain(jax.jit(observe(layer, count))(X, W)[1])


def test_sharding_in_types():
    mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        x = jax.device_put(X, NamedSharding(mesh, P("d")))
        out, seen = jax.jit(observe(layer, count))(x, W)
        assert jax.typeof(out) == jax.typeof(jax.jit(layer)(x, W))
    assert plain(next(iter(seen.values())))["fired"] == numpy_count(X @ W)["fired"]


def test_an_operation_that_is_not_entered_is_opaque():
    def fn(x):
        return lax.custom_linear_solve(lambda v: jax.nn.relu(v), x, lambda _, b: b, symmetric=True)

    sites = list_sites(fn, X)
    assert len(sites) == 0
    assert sites.opaque[0].what == "custom_linear_solve"
    assert sites.opaque[0].why.startswith("an operation that is not entered, ")


def test_a_loop_over_layers_with_merge_takes_no_memory_per_step():
    def fn(x, ws):
        return lax.scan(lambda c, w: (layer(c, w), None), x, ws)[0]

    shapes = jax.eval_shape(observe(fn, count, merge=merge), X, jnp.stack([W] * 50))[1]
    assert max(leaf.size for leaf in jax.tree.leaves(shapes)) == 6


def test_loops_over_layers_and_over_time_are_told_apart():
    def over_layers(x, ws):
        return lax.scan(lambda c, w: (jax.checkpoint(layer)(c, w), None), x, ws)[0]

    def over_time(w, xs):
        return lax.scan(lambda c, x: (jnp.tanh(c @ w + x @ w), None), xs[0], xs)[0]

    def both(ws, xs):
        return lax.scan(lambda c, w: (over_time(w, c[None] + xs), None), xs[0], ws)[0]

    ws, xs = jnp.stack([W] * 3), jnp.stack([X] * 2)
    assert [loop.over_layers for loop in list_sites(over_layers, X, ws)[0].loops] == [True]
    assert [loop.over_layers for loop in list_sites(over_time, W, xs)[0].loops] == [False]
    (site,) = list_sites(both, ws, xs)
    assert [(loop.length, loop.over_layers) for loop in site.loops] == [(3, True), (2, False)]


@pytest.mark.parametrize("sharded", [False, True])
def test_a_visitor_may_stack_some_loops_and_fold_the_others(sharded):
    """What a census of a network that is scanned over its layers and over time needs."""

    def fn(ws, xs, n):
        def network(c, w):
            steps, _ = lax.scan(lambda d, x: (jnp.tanh(d @ w + x), None), c, xs)
            return lax.cond(
                w.sum() > 0, jax.nn.relu, lambda v: v, lax.fori_loop(0, n, layer_of(w), steps)
            ), None

        return lax.scan(network, xs[0], ws)[0]

    def layer_of(w):
        return lambda _, c: layer(c, w)

    if sharded:
        mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Auto,))
        fn = jax.shard_map(fn, mesh=mesh, in_specs=(P(), P(None, "d"), P()), out_specs=P("d"))
    args = (jnp.stack([W, -W, W.T]), jnp.stack([X] * 2), jnp.int32(3))
    visitor = Visitor(
        record=lambda site, visit: count(site, visit.z),
        merge=merge,
        stacks=lambda loop: loop.length == 3,
    )
    seen = jax.jit(lambda *args: Traced("test", fn, args, {}).run(visitor)[1])(*args)
    tanh = next(record for name, record in seen.items() if "tanh" in name)
    in_while = next(record for name, record in seen.items() if "/while/" in name)
    in_cond = next(record for name, record in seen.items() if "/branch_1/" in name)
    assert tanh["n"].tolist() == [8, 8, 8]
    assert tanh["fired"].shape == (3, 6)
    shards = 4 if sharded else 1
    assert in_while.times.tolist() == [3 * shards] * 3
    assert in_while.record["n"].tolist() == [12, 12, 12]
    taken = np.array([float(w.sum()) > 0 for w in args[0]]).astype(int)
    assert in_cond.times.tolist() == (taken * shards).tolist()
    assert in_cond.record["n"].tolist() == (taken * 4).tolist()


def test_a_tap_reads_the_gradient_at_each_site_step_by_step():
    """dL/dz per layer of a scan, against the gradient of a bias that is added by hand."""

    def fn(x, ws):
        x = jax.nn.relu(x)
        x = lax.scan(lambda c, w: (jax.checkpoint(jax.jit(layer))(c, w), None), x, ws, reverse=True)[0]
        return (lax.cond(x.sum() > 0, lambda v: jnp.maximum(v, 0), lambda v: v, x) ** 2).sum()

    def by_hand(biases, x, ws):
        x = jax.nn.relu(x + biases[0])
        for i in (2, 1, 0):
            x = jax.nn.relu(x @ ws[i] + biases[1][i]) - 0.25
        return (jnp.maximum(x + biases[2], 0) ** 2).sum()

    def tapped(biases, x, ws):
        names = list_sites(fn, x, ws).names
        assert [loop.length for loop in list_sites(fn, x, ws)[names[1]].loops] == [3]
        of = dict(zip(names, biases, strict=True))
        visitor = Visitor(tap=lambda site, z, steps: z + of[site.name][steps])
        return Traced("test", fn, (x, ws), {}).run(visitor)[0]

    ws = jnp.abs(jnp.stack([W, W.T, W]))
    biases = (jnp.zeros((4, 6)), jnp.zeros((3, 4, 6)), jnp.zeros((4, 6)))
    expected = jax.jit(jax.value_and_grad(by_hand))(biases, X, ws)
    for wrap in (jax.jit, lambda f: f):
        actual = wrap(jax.value_and_grad(tapped))(biases, X, ws)
        assert jax.tree.all(jax.tree.map(lambda a, b: a.tobytes() == b.tobytes(), expected, actual))
