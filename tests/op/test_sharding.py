"""The op over four devices: shard_map, sharded inputs under automatic and explicit sharding, and what is exchanged."""

import re
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jax_leaky import leaky_relu
from tests.op import oracle

DEVICES = 4
COLLECTIVE = re.compile(
    r"= \(?(\w+)\[\S* (all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)(?:-start)?\("
)
BATCH, FEATURES = P("devices", None), P(None, "devices")
IMAGES = P("devices", None, None, None)
WHOLE_BYTES = [
    ((32, 64), BATCH),
    ((16, 64), BATCH),
    ((8, 64), BATCH),
    ((512, 20), BATCH),
    ((16, 64), FEATURES),
    ((512, 20), FEATURES),
    ((64, 4, 8, 3), IMAGES),
    ((16, 4, 8, 3), IMAGES),
]
CUT_BYTES = [
    ((64, 20), FEATURES),
    ((4, 24), FEATURES),
]  # a device holds five or six of the eight elements of a byte
MODES = [
    (0.25, "bits", False),
    (0.25, "bits", True),
    (0.25, "output", False),
    (jnp.float32(0.25), "bits", False),
]

every_mode = pytest.mark.parametrize(("slope", "residual", "forward_mode"), MODES)


def mesh(axis_type):
    return jax.make_mesh((DEVICES,), ("devices",), axis_types=(axis_type,))


def sample(shape):
    rng = np.random.default_rng(0)
    x, cotangent = rng.standard_normal((2, *shape)).astype(np.float32)
    return x, cotangent


@pytest.mark.parametrize("spec", [BATCH, FEATURES], ids=["batch", "features"])
def test_shard_map(spec):
    x, cotangent = sample((16, 64))
    ops = [
        partial(leaky_relu, negative_slope=slope, residual=residual, forward_mode=forward_mode)
        for slope, residual, forward_mode in MODES
    ]
    over = partial(jax.shard_map, mesh=mesh(AxisType.Auto), in_specs=spec, out_specs=spec)
    for y, x_bar in oracle.run_each([over(op) for op in ops], cotangent, x):
        oracle.assert_identical(y, oracle.value(x, 0.25))
        oracle.assert_equal(x_bar, oracle.pullback(x, 0.25, cotangent))


@pytest.mark.parametrize("forward_mode", [False, True])
def test_the_gradient_of_a_replicated_slope_in_shard_map_is_summed_over_devices(forward_mode):
    x, cotangent = sample((16, 8))
    f = partial(leaky_relu, forward_mode=forward_mode)
    mapped = jax.shard_map(f, mesh=mesh(AxisType.Auto), in_specs=(BATCH, P()), out_specs=BATCH)
    _, x_bar, slope_bar = oracle.run(mapped, cotangent, x, np.full(8, 0.25, np.float32))
    oracle.assert_equal(x_bar, oracle.pullback(x, 0.25, cotangent))
    np.testing.assert_allclose(slope_bar, oracle.slope_pullback(x, cotangent).sum(0), rtol=1e-5)


def check_sharded(axis_type, slope, residual, forward_mode):
    """Every placement, all in one program; every third for the other modes, which pack alike."""
    devices, placements = mesh(axis_type), WHOLE_BYTES + CUT_BYTES
    if (slope, residual, forward_mode) != MODES[0]:
        placements = placements[::3]
    f = partial(leaky_relu, negative_slope=slope, residual=residual, forward_mode=forward_mode)

    @jax.jit
    def run(arrays):
        return [oracle.run(f, cotangent, x) for x, cotangent in arrays]

    with jax.set_mesh(devices):
        found = run(
            [jax.device_put(sample(shape), NamedSharding(devices, spec)) for shape, spec in placements]
        )
    for (shape, spec), (y, x_bar) in zip(placements, found, strict=True):
        x, cotangent = sample(shape)
        if axis_type == AxisType.Explicit:
            assert (y.sharding.spec, x_bar.sharding.spec) == (spec, spec)
        oracle.assert_identical(y, oracle.value(x, 0.25))
        oracle.assert_equal(x_bar, oracle.pullback(x, 0.25, cotangent))


@every_mode
def test_automatic_sharding(slope, residual, forward_mode):
    check_sharded(AxisType.Auto, slope, residual, forward_mode)


@every_mode
def test_explicit_sharding(slope, residual, forward_mode):
    check_sharded(AxisType.Explicit, slope, residual, forward_mode)


ONE_ELEMENT = {
    (1, 8): P("one"),
    (1, 3): P("one"),
    (8, 1): P(None, "one"),
    (1, 1): P("one"),
    (8, 1, 4, 4): P(None, "one"),
}


@pytest.mark.parametrize(("slope", "residual", "forward_mode"), [*MODES, (0.25, "mask", False)])
def test_an_axis_of_one_element_that_is_sharded_explicitly_stays_so(slope, residual, forward_mode):
    one = jax.make_mesh((1,), ("one",), axis_types=(AxisType.Explicit,), devices=jax.devices()[:1])
    shardings = {shape: NamedSharding(one, spec) for shape, spec in ONE_ELEMENT.items()}
    f = partial(leaky_relu, negative_slope=slope, residual=residual, forward_mode=forward_mode)

    @jax.jit
    def run(arrays):
        return [oracle.run(f, cotangent, x) for x, cotangent in arrays]

    with jax.set_mesh(one):
        found = run([jax.device_put(sample(shape), sharding) for shape, sharding in shardings.items()])
    for (shape, sharding), (y, x_bar) in zip(shardings.items(), found, strict=True):
        x, cotangent = sample(shape)
        assert x_bar.sharding.is_equivalent_to(sharding, x.ndim)
        oracle.assert_identical(y, oracle.value(x, 0.25))
        oracle.assert_equal(x_bar, oracle.pullback(x, 0.25, cotangent))


def test_x_takes_over_the_axes_along_which_a_slope_is_sharded():
    """Where x is narrower than the slope, and where x is as wide but whole along that axis."""
    grid = jax.make_mesh((2, 2), ("rows", "columns"), axis_types=(AxisType.Explicit,) * 2)

    def put(array, *spec):
        return jax.device_put(array, NamedSharding(grid, P(*spec)))

    x, cotangent = sample((2, 8))
    slope = np.linspace(-0.5, 1, 8, dtype=np.float32)
    with jax.set_mesh(grid):
        program = jax.jit(
            lambda cotangent, slope, xs: [oracle.run(leaky_relu, cotangent, x, slope) for x in xs]
        )
        arguments = put(cotangent, "rows", "columns"), put(slope, "columns")
        found = program(*arguments, [put(x, "rows"), put(x[:, :1], "rows")])
    for given, (y, x_bar, slope_bar) in zip([x, x[:, :1]], found, strict=True):
        wide = np.broadcast_to(given, (2, 8))
        oracle.assert_identical(y, oracle.value(wide, slope))
        each = oracle.pullback(wide, slope, cotangent)
        np.testing.assert_allclose(x_bar, each if given is x else each.sum(1, keepdims=True), rtol=1e-6)
        np.testing.assert_allclose(slope_bar, oracle.slope_pullback(wide, cotangent).sum(0), rtol=1e-6)
        assert (y.sharding.spec, x_bar.sharding.spec) == (P("rows", "columns"), P("rows", None))


def exchanged(residual, placements):
    """What the devices exchange in value and gradient under any of the placements, as (dtype, collective)."""
    f = partial(leaky_relu, residual=residual)
    program = jax.jit(lambda arrays: [oracle.run(f, cotangent, x) for x, cotangent in arrays])
    devices = mesh(AxisType.Auto)
    sharded = [jax.device_put(sample(shape), NamedSharding(devices, spec)) for shape, spec in placements]
    return COLLECTIVE.findall(program.lower(sharded).compile().as_text())


@pytest.mark.parametrize("residual", ["mask", "output", "bits"])
def test_devices_exchange_nothing(residual):
    assert exchanged(residual, WHOLE_BYTES) == []


def test_devices_exchange_signs_at_most_where_they_share_a_byte():
    """Under automatic sharding XLA alone knows the axis; it then sends bits or bools, never an activation."""
    assert {dtype for dtype, _ in exchanged("bits", CUT_BYTES)} <= {"u8", "pred"}


MANY_DEVICES = """
import jax, jax.numpy as jnp, sys
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jax_leaky import leaky_relu
jax.config.update("jax_num_cpu_devices", 16)
mesh = jax.make_mesh((16,), ("devices",), axis_types=(AxisType.Auto,))
sharding = NamedSharding(mesh, PartitionSpec("devices"))
for shape in (64, 16), (128, 16), (64, 4, 8, 3), (128, 4, 8, 3):
    x = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=sharding)
    print(jax.jit(lambda x, g: jax.vjp(leaky_relu, x)[1](g)).lower(x, x).compile().as_text())
"""


def test_sixteen_devices_exchange_nothing_of_a_batch_though_each_holds_only_four_or_eight():
    command = [sys.executable, "-c", MANY_DEVICES]
    programs = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert programs.count("ENTRY") == 4
    assert COLLECTIVE.findall(programs) == []
