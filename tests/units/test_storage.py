import pickle  # noqa: TID251  what must be refused
import tracemalloc

import jax
import numpy as np
import pytest

from jax_leaky import units

Z = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)


def counts(start=0):
    return units.update(units.init(3, start=start), Z, gradient=Z)


def assert_same(first, second):
    assert jax.tree.structure(first) == jax.tree.structure(second)
    for one, other in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_one_layer_comes_back_as_it_went(tmp_path):
    units.save(tmp_path / "counts.npz", counts(start=2**50))
    assert_same(units.load(tmp_path / "counts.npz"), counts(start=2**50))


@pytest.mark.parametrize("names", [[], ["b", "a"], ["Dense_0/kernel", "../é", "n.low", ""]])
def test_layers_come_back_by_name_in_order(tmp_path, names):
    layers = {
        name: units.update(units.init(index + 1, start=index), np.ones((2, index + 1), np.float32))
        for index, name in enumerate(names)
    }
    units.save(str(tmp_path / "counts"), layers)
    loaded = units.load(str(tmp_path / "counts"))
    assert list(loaded) == names
    for name in names:
        assert_same(loaded[name], layers[name])


def test_a_stack_of_networks(tmp_path):
    stack = jax.vmap(lambda z: units.update(units.init(3), z))(np.stack([Z, -Z]))
    units.save(tmp_path / "counts.npz", stack)
    assert_same(units.load(tmp_path / "counts.npz"), stack)


def test_counting_goes_on_where_it_stopped(tmp_path):
    units.save(tmp_path / "counts.npz", units.update(units.init(3), Z[:4], gradient=Z[:4]))
    loaded = units.load(tmp_path / "counts.npz")
    assert_same(jax.tree.map(np.asarray, units.update(loaded, Z[4:], gradient=Z[4:]).n), counts().n)


def test_saving_again_replaces_whole_and_leaves_nothing_beside(tmp_path):
    path = tmp_path / "counts.npz"
    units.save(path, units.init(1))
    units.save(path, counts())
    assert_same(units.load(path), counts())
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "counts.npz"
    units.save(path, counts())
    before = path.read_bytes()

    def full(file, **_):
        file.write(b"half a file")
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        units.save(path, units.init(1))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_two_saves_of_the_same_counts_are_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        units.save(tmp_path / name, {"layer": counts()})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_every_truncation_is_refused(tmp_path):
    path = tmp_path / "counts.npz"
    units.save(path, counts())
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, 97):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"is truncated or not a file of units\.save"):
            units.load(path)


def test_a_flipped_byte_is_refused(tmp_path):
    path = tmp_path / "counts.npz"
    units.save(path, counts())
    whole = bytearray(path.read_bytes())
    middle = whole.index(b"NUMPY") + 120
    whole[middle] ^= 0xFF
    path.write_bytes(whole)
    with pytest.raises(ValueError, match=r"is truncated or not a file of units\.save"):
        units.load(path)


def foreign(path, kind):
    header = np.frombuffer(b'{"format": "jax_leaky.units 1", "names": null}', np.uint8)
    leaves = {f"0.{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(counts()))}
    with path.open("wb") as file:
        match kind:
            case "text":
                file.write(b"hello")
            case "npy":
                np.save(file, Z)
            case "npz":
                np.savez(file, weights=Z)
            case "pickle":
                pickle.dump({"a": 1}, file)
            case "objects":
                np.savez(file, header=np.array([{"format": 1}], object))
            case "another format":
                np.savez(file, header=np.frombuffer(b'{"format": "other", "names": null}', np.uint8))
            case "no object":
                np.savez(file, header=np.frombuffer(b"[]", np.uint8))
            case "missing":
                leaves.popitem()
                np.savez(file, header=header, **leaves)
            case "shape":
                np.savez(file, header=header, **(leaves | {"0.4": np.zeros(7, np.uint32)}))
            case "dtype":
                np.savez(file, header=header, **(leaves | {"0.4": np.zeros(3, np.int64)}))
            case "bomb":
                zeros = {name: np.zeros((2**16, *leaf.shape), leaf.dtype) for name, leaf in leaves.items()}
                np.savez_compressed(file, header=header, **zeros)


@pytest.mark.parametrize(
    "kind",
    [
        "text",
        "npy",
        "npz",
        "pickle",
        "objects",
        "another format",
        "no object",
        "missing",
        "shape",
        "dtype",
        "bomb",
    ],
)
def test_a_foreign_file_is_refused_in_one_sentence(tmp_path, kind):
    path = tmp_path / "foreign.npz"
    foreign(path, kind)
    with pytest.raises(
        ValueError, match=r"path='.*foreign.npz' is truncated or not a file of units.save"
    ) as error:
        units.load(path)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        units.load(tmp_path / "none.npz")


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / "bomb.npz"
    foreign(path, "bomb")
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"not a file of units\.save"):
            units.load(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
