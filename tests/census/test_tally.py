"""The counts of a batch against NumPy, on the ways through: all rows in one reduction, and a few at a time."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_leaky import units
from jax_leaky.units._counts import append
from jax_leaky.units._tally import completed, tally

# At 128 units more than 1,024 rows are taken in pieces, of 64; fewer in one reduction, more than 256 in blocks of rows.
ROWS = (1, 256, 257, 1000, 1088, 1089, 1151)


def samples(rows: int, dtype: str = "float32") -> np.ndarray:
    rng = np.random.default_rng(rows)
    z = rng.normal(size=(rows, 128)) - np.linspace(-2, 4, 128)
    z[rng.random(z.shape) < 0.05] = 0.0
    return np.array(jnp.asarray(z, dtype))


def numbers(counts: units.UnitCounts) -> dict[str, np.ndarray]:
    return {
        "fired": counts.fired.to_numpy(),
        "nonzero": counts.nonzero.to_numpy(),
        "nonfinite": counts.nonfinite.to_numpy(),
        "last_fired": counts.last_fired.to_numpy(),
        "abs_sum": np.asarray(counts.abs_sum.high),
        "positive_sum": np.asarray(counts.positive_sum.high),
        "z_min": np.asarray(counts.z_min),
        "z_max": np.asarray(counts.z_max),
    }


def oracle(z: np.ndarray, a: np.ndarray) -> dict[str, np.ndarray]:
    z, a = z.astype(np.float64), a.astype(np.float64)
    finite = np.isfinite(z) & np.isfinite(a)
    place = np.arange(1, len(z) + 1)[:, None]
    fired = finite & (z > 0)
    return {
        "fired": fired.sum(0),
        "nonzero": (finite & (a != 0)).sum(0),
        "nonfinite": (~finite).sum(0),
        "last_fired": np.where(fired, place, 0).max(0),
        "abs_sum": np.where(finite, np.abs(a), 0).sum(0),
        "positive_sum": np.where(fired, z, 0).sum(0),
        "z_min": np.where(finite, z, np.inf).min(0),
        "z_max": np.where(finite, z, -np.inf).max(0),
    }


def assert_equal(found: dict[str, np.ndarray], true: dict[str, np.ndarray]) -> None:
    for name, expected in true.items():
        if name.endswith("_sum"):
            np.testing.assert_allclose(found[name], expected, rtol=1e-6, atol=1e-30, err_msg=name)
        else:
            np.testing.assert_array_equal(found[name], expected, err_msg=name)


@pytest.mark.parametrize("rows", ROWS)
def test_relu_equals_numpy(rows: int) -> None:
    z = samples(rows)
    counts = jax.jit(lambda z: tally(z, None, None))(z)
    assert (int(counts.n), int(counts.end)) == (rows, rows)
    assert_equal(numbers(counts), oracle(z, np.maximum(z, 0)))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_any_activation_equals_numpy(dtype: str) -> None:
    z = samples(191, dtype)
    a = np.asarray(jnp.tanh(z))
    assert_equal(numbers(tally(z, a, None)), oracle(z, a))


@pytest.mark.parametrize("rows", [128, 300, 1089])
def test_values_that_are_not_finite_count_as_that_alone(rows: int) -> None:
    z = samples(rows)
    z[3, 5], z[7, 5], z[2, 9], z[rows - 1, 127] = np.nan, np.inf, -np.inf, np.inf
    counts = numbers(tally(z, None, None))
    assert_equal(counts, oracle(z, np.where(np.isfinite(z), np.maximum(z, 0), np.nan)))
    assert counts["nonfinite"][[5, 9, 127]].tolist() == [2, 1, 1]


def test_lean_counts_the_same_and_leaves_the_extremes_out() -> None:
    z = samples(191)
    counts, true = numbers(tally(z, None, None, lean=True)), oracle(z, np.maximum(z, 0))
    largest = np.finfo(np.float32).max
    assert (counts.pop("z_min") == -largest).all()
    assert (counts.pop("z_max") == largest).all()
    # Told to the batch: a unit that fired at all fired on the last sample.
    np.testing.assert_array_equal(counts.pop("last_fired"), np.where(true.pop("last_fired") > 0, 191, 0))
    assert_equal(counts, {name: true[name] for name in counts})


def test_positions_of_a_feature_map_are_samples() -> None:
    z = samples(192).reshape(4, 6, 8, 128)
    assert_equal(
        numbers(tally(z, None, None)), oracle(z.reshape(192, 128), np.maximum(z, 0).reshape(192, 128))
    )


@pytest.mark.parametrize("cut", [1, 64, 190])
def test_appending_is_counting_on(cut: int) -> None:
    z = samples(191)
    both = numbers(append(tally(z[:cut], None, None), tally(z[cut:], None, None)))
    assert_equal(both, oracle(z, np.maximum(z, 0)))


def test_memory_is_that_of_the_units() -> None:
    def temporary(rows: int) -> int:
        z = jax.ShapeDtypeStruct((rows, 64), "float32")
        compiled = jax.jit(lambda z: tally(z, None, None)).lower(z).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary(1_000_000) == temporary(100_000)
    assert max(temporary(100_000), temporary(1_000)) < 64 * 8192


@pytest.mark.parametrize("units_", [1, 3, 32, 48])
@pytest.mark.parametrize("lean", [False, True])
def test_narrow_layers_whose_rows_lie_side_by_side(units_: int, lean: bool) -> None:
    """Enough rows for several chunks, of a number that no chunk divides."""
    rows = 20011 if units_ > 1 else 40009
    z = np.random.default_rng(units_).normal(size=(rows, units_)).astype(np.float32) - 2
    z[7, 0], z[-1, -1] = np.nan, -np.inf
    counts = jax.jit(lambda z: tally(z, None, None, lean=lean))(z)
    finite = np.isfinite(z)
    fired = finite & (z > 0)
    np.testing.assert_array_equal(counts.nonfinite.to_numpy(), (~finite).sum(0))
    np.testing.assert_array_equal(counts.fired.to_numpy(), fired.sum(0))
    np.testing.assert_allclose(
        counts.positive_sum.high, np.where(fired, z, 0).sum(0, dtype=np.float64), rtol=1e-5
    )
    if not lean:
        last = [np.flatnonzero(column)[-1] + 1 for column in fired.T]
        np.testing.assert_array_equal(counts.last_fired.to_numpy(), last)
        np.testing.assert_array_equal(counts.z_max, np.where(finite, z, -np.inf).max(0))


@pytest.mark.parametrize("shape", [(3, 197, 96), (50, 7, 9, 11), (1, 40, 40, 13)])
def test_lean_counts_of_pieces_that_overlap_along_any_axis(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=shape).astype(np.float32)
    z[..., 2], z[0, -1, ..., 1], z[-1, 0, ..., 3] = -1, np.inf, np.nan
    a, keep = np.where(z > 0, z, 0.25 * z), rng.random(shape[:-1]) < 0.75
    counts = tally(z, a, jnp.full(1, 0.25), keep=keep, lean=True)
    z, a = (np.where(keep[..., None], x, 0).reshape(-1, shape[-1]) for x in (z, a))
    assert int(counts.n) == keep.sum()
    true = oracle(z, a)
    found = numbers(counts)
    assert_equal(
        found, {name: true[name] for name in ("fired", "nonzero", "nonfinite", "abs_sum", "positive_sum")}
    )


@pytest.mark.parametrize("rows", [200, 1500])
@pytest.mark.parametrize("slope", [None, 0.0, 0.2, "units"])
def test_counts_completed_and_added_up_on_the_host_are_those_of_the_device(
    rows: int, slope: float | str | None
) -> None:
    z = samples(rows)
    z[3, 5] = np.nan
    a = None if slope is None else jnp.where(z > 0, z, 0.2 * z)
    given = np.linspace(-1, 2, 128, dtype="f") if slope == "units" else np.full(1, slope or 0, "f")
    count = functools.partial(jax.jit(tally, static_argnames="whole"), z, a, None if slope is None else given)
    on_device, seen = count(), jax.device_get(count(whole=False))
    on_host = completed(seen)
    assert all(isinstance(stack, np.ndarray) for stack in append(on_host, on_host))
    for ours, theirs in ((on_host, on_device), (append(on_host, on_host), append(on_device, on_device))):
        for name, figure in ours.to_dict().items():
            other = getattr(theirs, name)
            if name == "slope_sum":  # to 2^-40
                np.testing.assert_allclose(
                    *(np.float64(one.high) + one.low for one in (figure, other)), rtol=1e-12
                )
            else:
                jax.tree.map(functools.partial(np.testing.assert_array_equal, err_msg=name), figure, other)


@pytest.mark.slow
@pytest.mark.parametrize("pieces", [(1 << 16) - 1, 1 << 16])
def test_counts_of_more_pieces_than_16_bits_hold(pieces: int) -> None:
    def counted() -> units.UnitCounts:
        z = jnp.ones((pieces, 2048), jnp.float8_e5m2).at[:, 1].set(jnp.inf).at[:, 2].set(-1)
        return tally(z, None, None, lean=True)

    counts = jax.jit(counted)()
    assert counts.fired.to_numpy()[:4].tolist() == [pieces, 0, 0, pieces]
    assert counts.nonfinite.to_numpy()[:4].tolist() == [0, pieces, 0, 0]
