"""The forms in which a census is told and kept."""

import builtins
import functools
import io
import json
import math
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_leaky import Census, census, census_every, value_and_census

X = np.random.default_rng(5).normal(size=(60, 6)).astype(np.float32)
SHIFT = np.array([0.0, -50.0, 50.0, 0.0, 0.0, -2.2], np.float32)


def net(shift: np.ndarray, x: jax.Array) -> jax.Array:
    with jax.named_scope("<net>"):
        h = jax.nn.relu(x + shift)
        h = jax.nn.leaky_relu(h - 0.1, 0.2)
        h, _ = jax.lax.scan(lambda h, w: (jax.nn.relu(h @ w), None), h, jnp.stack([jnp.eye(6), -jnp.eye(6)]))
        return jnp.asarray(jax.pure_callback(np.asarray, jax.ShapeDtypeStruct(h.shape, h.dtype), h))


def taken(x: np.ndarray, shift: np.ndarray = SHIFT) -> Census:
    return census(functools.partial(net, shift), [x])


@pytest.fixture(scope="module")
def found() -> Census:
    return taken(X)


@pytest.fixture(scope="module")
def diverged() -> Census:
    return taken(np.where(np.arange(60)[:, None] == 3, np.nan, X))


def test_the_table_says_all(found: Census) -> None:
    text = str(found)
    above, head, first, second, third, last, *notes = text.splitlines()
    assert above.split() == ["never", "always", "mean"]
    assert head.split() == ["site", "slope", "units", "active", "dead", "rare", "active", "dormant", "slope"]
    assert first.split() == [
        *("<net>/relu", "0", "6", "16.7", "%", "16.7", "%"),
        *("16.7", "%", "16.7", "%", "33.3", "%", f"{(X + SHIFT > 0).mean():.3f}"),
    ]
    assert second.split()[:4] == ["<net>/leaky_relu", "0.2", "6", "16.7"]
    assert max(map(len, (above, head, first, second, third, last))) <= 80
    assert "n/a" in second
    assert third.startswith("<net>/scan/relu[0]")
    assert last.startswith("<net>/scan/relu[1]")
    assert "100 %" in last
    assert notes[0] == "never active on n = 60 samples: active on less than 3/n = 5 % of all, at 95 %"
    assert notes[1].startswith("dead n/a: by construction")
    assert notes[2].startswith("opaque: pure_callback at test_result.py:")
    assert notes[3] == "4 sites, 1 opaque"
    assert repr(found) == "<Census of 4 sites, 1 opaque>"
    assert repr(found.compare(found)) == "<Changes at 4 sites>"
    assert repr(found["<net>/relu"].counts) == "<UnitCounts: 6 units, n = 60>"
    assert repr(census_every(1000, net)) == "<CensusEvery: step net, every 1,000>"


def test_the_table_of_a_terminal_says_the_same(found: Census) -> None:
    from rich.console import Console

    console = Console(width=81, record=True, file=io.StringIO())
    console.print(found)
    printed = console.export_text()
    rows = [line.split() for line in str(found).splitlines()]
    for site in found:
        (row,) = (row for row in rows if row[0] == site.name)
        assert row in [
            line.split() for line in printed.splitlines()
        ]  # nothing is cut, brackets are no markup


def test_only_none_and_all_read_as_0_and_100_per_cent() -> None:
    few, most = np.full((1, 4096), -1.0), np.full((1, 4096), -1.0)
    few[0, 0], most[0, 1:] = 1.0, 1.0
    for x, never_active in ((few, ">99.9 %"), (most, "<0.1 %")):
        assert f" {never_active} " in str(census(jax.nn.relu, x)).splitlines()[2]


def test_json_is_strict_and_comes_back_whole(found: Census, diverged: Census) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    for one in (found, diverged):
        text = one.to_json()
        json.loads(text, parse_constant=refuse)
        again = Census.from_json(text)
        assert again.to_json() == text
        assert str(again) == str(one)
    sites = json.loads(found.to_json())["sites"]
    assert [site["name"] for site in sites] == list(found.sites)
    assert sites[0]["never_active"] == pytest.approx(1 / 6)
    jax.tree.map(np.testing.assert_array_equal, found["<net>/relu"].counts, again_of(found))


def again_of(census: Census) -> object:
    return Census.from_json(census.to_json())["<net>/relu"].counts


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '{"format": "other 1"}', '{"format": "jax_leaky.census 1"}']
)
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not the JSON of a census"):
        Census.from_json(text)


def test_a_file_is_written_whole_and_read_back(found: Census, tmp_path: Path) -> None:
    path = tmp_path / "census.json"
    found.save(path)
    assert Census.load(path).to_json() == found.to_json()
    assert [file.name for file in tmp_path.iterdir()] == ["census.json"]


def test_scalars_are_flat_floats(found: Census, diverged: Census) -> None:
    scalars = found.scalars()
    assert all(type(value) is float for value in scalars.values())
    assert not any(math.isnan(value) for value in scalars.values())
    assert scalars["<net>/relu/never_active"] == pytest.approx(1 / 6)
    assert scalars["<net>/scan/relu[1]/never_active"] == 1.0
    invalid = diverged.scalars()
    assert math.isnan(invalid["<net>/relu/never_active"])
    assert invalid["<net>/relu/nonfinite"] == 6.0


def test_two_halves_add_up_to_the_whole(found: Census) -> None:
    halves = taken(X[:30]) + taken(X[30:])
    for one, other in zip(found, halves, strict=True):
        for name in ("fired", "nonzero", "last_fired", "end", "n"):
            ours, theirs = (getattr(site.counts, name).to_numpy() for site in (one, other))
            np.testing.assert_array_equal(ours, theirs, err_msg=name)
    assert str(halves) == str(found)


def test_censuses_of_other_models_do_not_add_up(found: Census) -> None:
    with pytest.raises(ValueError, match="only one of the two censuses has"):
        found + census(jax.nn.relu, X)
    wider = census(functools.partial(net_of_width, 3), X)
    with pytest.raises(ValueError, match="net/relu is a relu of 6 units in one census and a relu of 3 units"):
        census(functools.partial(net_of_width, 6), X) + wider
    with pytest.raises(TypeError, match="a census adds up with a census"):
        found.merge(3)  # type: ignore[arg-type] # the error is what is tested


def test_another_file_is_refused_by_its_name(tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    for content in (b'{"a": 1}', b"\x80"):
        other.write_bytes(content)
        with pytest.raises(
            ValueError, match=r"other\.json is not the JSON of a census that.*\((it has no 'format'|'utf-8')"
        ):
            Census.load(other)


def test_a_file_of_another_version_is_said_to_be_one(found: Census, tmp_path: Path) -> None:
    older = tmp_path / "older.json"
    older.write_text(json.dumps(json.loads(found.to_json()) | {"format": "jax_leaky.census 4"}))
    reason = r"its format is 'jax_leaky.census 4', that of this version is 'jax_leaky.census \d+'"
    with pytest.raises(
        ValueError, match=rf"older\.json .*this version of jax_leaky reads \({reason}\): give"
    ):
        Census.load(older)


def net_of_width(width: int, x: jax.Array) -> jax.Array:
    with jax.named_scope("net"):
        return jax.nn.relu(x[:, :width])


def test_units_and_measures_are_reached_by_name(found: Census) -> None:
    site = found["<net>/relu"]
    assert site.where("never_active").tolist() == [1]
    assert site.per_unit("act_freq").shape == (6,)
    with pytest.raises(KeyError, match="no site is named 'relu'"):
        found["relu"]
    assert "<net>/relu" in found
    assert site in found
    assert "relu" not in found
    assert found.names == [each.name for each in found]
    assert found[found.names.index("<net>/relu")] is site
    assert found[:-1] == list(found)[:-1]
    assert found[np.int64(1)] is found[np.array(1)] is found[1]
    assert np.ones(2) not in found
    assert 0 not in found
    with pytest.raises(ValueError, match="no measure is called 'activity': there are act_freq"):
        site.per_unit("activity")
    with pytest.raises(
        ValueError, match="has no grad_dead: no gradient was counted; take the census with grad"
    ):
        site.per_unit("grad_dead")
    with pytest.raises(ValueError, match="act_freq is a number, no property"):
        site.where("act_freq")


def test_without_a_sample_gradients_are_not_asked_for() -> None:
    x = jnp.ones((4, 3))
    found = census(lambda x: jax.nn.relu(x).sum(), x, gradients=True, where=lambda x: x[:, 0] > 1)
    with pytest.raises(ValueError, match=r"relu has no grad_dead: invalid: no sample was seen\.$"):
        found[0].per_unit("grad_dead")


def test_the_page_is_whole_and_escaped(found: Census, diverged: Census) -> None:
    for one in (found, diverged):
        page = one.html()
        assert "<net>" not in page
        assert "&lt;net&gt;/relu" in page
        assert page.count("<svg") == sum(not site.invalid for site in one)
        assert "http" not in page
        assert page.count("<tr") == page.count("</tr>") == 5
    assert "&lt;net&gt;" in found._repr_html_()


def test_the_picture_has_a_strip_per_site(found: Census, diverged: Census) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is no dependency of the package")
    figure = found.plot()
    assert len(figure.axes) == 4
    assert [text.get_text() for text in figure.axes[0].texts] == [
        *("<net>/relu", "relu of 6 units", "1 never active, 16.7 %", "1 always active, 16.7 %"),
    ]
    heights = [patch.get_height() for patch in figure.axes[3].patches]
    assert sorted(heights)[-2:] == [0.0, 1.0]  # all units in the bar of those that are never active
    words = [text.get_text() for axes in diverged.plot().axes for text in axes.texts]
    assert words.count("invalid: 6 non-finite values") >= 1


def test_without_matplotlib_one_sentence(found: Census, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: object, **kwargs: object) -> object:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **kwargs)  # type: ignore[arg-type] # passed on as it came

    monkeypatch.setattr(builtins, "__import__", without)
    for name in [name for name in sys.modules if name.startswith("matplotlib")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        found.plot()


def test_json_keeps_a_unit_without_a_finite_sample_open_to_more() -> None:
    def layer(z: jax.Array) -> jax.Array:
        with jax.named_scope("layer"):
            return jax.nn.relu(z)

    bad = census(layer, [np.array([[1, np.nan]], np.float32)], progress=False)
    more = census(layer, [np.array([[2, 3]], np.float32)], progress=False)
    counts = (Census.from_json(bad.to_json()) + more)["layer/relu"].counts
    assert (counts.z_min.tolist(), counts.z_max.tolist()) == ([1, 3], [2, 3])


@pytest.mark.slow
def test_a_stacked_census_sums_up_to_that_of_all_steps() -> None:
    x = np.random.default_rng(7).normal(size=(5, 6, 3)).astype(np.float32)
    x[3:, :, 1] = -1

    def fn(x: jax.Array) -> jax.Array:
        with jax.named_scope("net"):
            h = jax.lax.scan(lambda h, w: (jax.nn.relu(h @ w), None), x, jnp.stack([jnp.eye(3)] * 2))[0]
            return jnp.tanh(h)

    _, stacked = jax.jit(lambda x: jax.lax.scan(lambda _, x: (None, value_and_census(fn)(x)[1]), None, x))(x)
    total = stacked.sum_steps()
    assert len(total) == 3
    for site in total:  # a relu lets through what fires, and tanh too
        assert (site.n, int(site.counts.end)) == (30, 30)
        np.testing.assert_array_equal(site.counts.fired.to_numpy(), (x > 0).sum((0, 1)))
        positive = np.maximum(x, 0).sum((0, 1))
        np.testing.assert_allclose(site.counts.positive_sum.high, positive, rtol=1e-6)
    # Known to the step: units 0 and 2 fire in the last one, unit 1 last in the third.
    assert total["net/tanh"].counts.last_fired.to_numpy().tolist() == [30, 18, 30]
    with pytest.raises(ValueError, match="sum_steps takes a census that is stacked"):
        total.sum_steps()


def test_modules_fold_the_rows_of_their_sites() -> None:
    @jax.jit
    def fn(x: jax.Array) -> jax.Array:
        for name in ("g", "d"):
            with jax.named_scope(name):
                for block in ("one", "two"):
                    with jax.named_scope(block):
                        x = jax.nn.relu(jax.nn.relu(x) - 1)
        return jnp.concatenate([jax.nn.leaky_relu(x - 100, 0.5)] * 2, axis=1)

    x = np.random.default_rng(7).uniform(0, 9, size=(20, 5)).astype(np.float32)
    found = census(fn, x)
    blocks, nets = found.by_module(), found.by_module(depth=1)
    assert [(module.name, len(module.sites)) for module in blocks[:4]] == [
        *(("g/one", 2), ("g/two", 2), ("d/one", 2), ("d/two", 2))
    ]
    assert [(module.name, module.units) for module in nets[:2]] == [("g", 20), ("d", 20)]
    zs = [
        np.maximum(x - shift, 0) if place % 2 == 0 else x - shift for place, shift in enumerate((0, 1, 1, 2))
    ]
    row = nets.to_dicts()[0]
    assert row["act_freq"] == pytest.approx(np.mean([(z > 0).mean() for z in zs]))
    assert row["never_active"] == pytest.approx(np.mean([(z <= 0).all(0).mean() for z in zs]))
    leaky = nets[2].to_dict()
    assert (leaky["mean_slope"], leaky["dead"], leaky["never_active"]) == (0.5, None, 1.0)
    heads = [line.split() for line in str(nets).splitlines()[:2]]
    assert heads == [
        ["never", "always", "mean"],
        ["module", "sites", "units", "active", "dead", "rare", "active", "slope"],
    ]
    x[3, 2] = np.nan
    spoilt = census(fn, x).by_module(1)
    assert spoilt.to_dicts()[0]["never_active"] is None
    assert "invalid" in str(spoilt).splitlines()[2]
    with pytest.raises(ValueError, match="depth=0 is not a number of parts"):
        found.by_module(0)


def test_what_is_still_traced_has_no_numbers() -> None:
    def step(x: jax.Array) -> dict[str, jax.Array]:
        _, counts = value_and_census(jax.nn.relu)(x)
        of_site = (lambda site: site.per_unit("dead"), lambda site: site.n, lambda site: site.negative_slope)
        for look in (str, Census.to_json, *(lambda found, read=read: read(found[0]) for read in of_site)):
            with pytest.raises(TypeError, match=r"relu has no numbers while it is traced: return the census"):
                look(counts)
        return counts.scalars()

    assert jax.eval_shape(step, jnp.ones((3, 2)))


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere.found\.json cannot be written: there is no folder"):
        census(jax.nn.relu, jnp.ones((3, 2))).save(tmp_path / "nowhere" / "found.json")
