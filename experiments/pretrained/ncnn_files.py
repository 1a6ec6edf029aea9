"""Reads a network that ncnn has saved: its layers from the param file, their weights from the bin file beside it.

A param file is text: a magic number, the numbers of layers and of blobs, and a line for each layer. A bin file holds
the weights one after another without names or sizes; those follow from the parameters of the layers. So the two are
read together, and must come out even.

References:
    https://github.com/Tencent/ncnn/wiki/param-and-model-file-structure
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.lab.run.errors import LabError

_MAGIC = "7767517"
_TAGS: dict[int, np.dtype] = {
    0: np.dtype("<f4"),
    0x01306B47: np.dtype("<f2"),
}  # the others are of quantised weights
_LARGEST = 2**28  # bytes of a file, and weights of a layer
_ARRAY_KEYS = -23300  # the array of key k is written under -23300 - k
_LEAKY = 2  # the activation type

Number = int | float


class Layer(NamedTuple):
    """One layer.

    Attributes:
        kind: ncnn's name of the kind of layer, such as Convolution.
        name: the layer's own name.
        inputs: names of the blobs that it reads.
        outputs: names of the blobs that it writes.
        parameters: parameters of the layer, by ncnn's number for each.
        kernel: weights of a convolution or its transpose, (height, width, in, out) float32; None for other layers.
        bias: bias of such a layer, (out,) float32; None for other layers.
    """

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parameters: dict[int, Number | tuple[Number, ...]]
    kernel: np.ndarray | None = None
    bias: np.ndarray | None = None

    @property
    def negative_slope(self) -> float | None:
        """The slope of the leaky ReLU that ncnn has fused into the layer; None if there is none."""
        slopes = self.parameters.get(10)
        return float(slopes[0]) if self.parameters.get(9) == _LEAKY and isinstance(slopes, tuple) else None


def read_ncnn(param: Path) -> list[Layer]:
    """The layers of a network, in the order in which they run.

    Args:
        param: path of the param file; the bin file lies beside it under the same name.

    Raises:
        LabError: if a file is missing, is no such file, or is damaged.
    """
    text, weights = _content(param), _Weights(param.with_suffix(".bin"))
    try:
        layers = _layers(text.decode("ascii"))
    except ValueError as error:  # UnicodeDecodeError is one
        raise LabError(f"{param} is no param file of ncnn, or damaged ({error}): install it again.") from None
    layers = [_with_weights(layer, weights) for layer in layers]
    weights.end()
    return layers


def convolutions(layers: list[Layer]) -> list[Layer]:
    """The layers that have weights."""
    return [layer for layer in layers if layer.kernel is not None]


def _layers(text: str) -> list[Layer]:
    magic, counts, *lines = text.splitlines() + [""] * 2
    if magic.strip() != _MAGIC:
        raise ValueError(f"it does not begin with {_MAGIC}")
    layer_count, _ = (int(count) for count in counts.split())
    layers = [_layer(line) for line in lines if line.strip()]
    if len(layers) != layer_count:
        raise ValueError(f"it names {layer_count} layers and holds {len(layers)}")
    return layers


def _layer(line: str) -> Layer:
    """Kind, name, numbers of inputs and outputs, those, then key=value."""
    words = line.split()
    try:
        kind, name, reads, makes = words[0], words[1], int(words[2]), int(words[3])
        blobs, pairs = words[4 : 4 + reads + makes], words[4 + reads + makes :]
        if min(reads, makes) < 0 or len(blobs) < reads + makes:
            raise ValueError
        parameters = dict(_parameter(*pair.split("=")) for pair in pairs)
    except (ValueError, IndexError, TypeError):
        raise ValueError(f"a layer reads {line[:60]!r}") from None
    return Layer(kind, name, tuple(blobs[:reads]), tuple(blobs[reads:]), parameters)


def _parameter(key: str, value: str) -> tuple[int, Number | tuple[Number, ...]]:
    number = int(key)
    if number > _ARRAY_KEYS:
        return number, _number(value)
    count, *values = value.split(",")
    if int(count) != len(values):
        raise ValueError
    return _ARRAY_KEYS - number, tuple(map(_number, values))


def _number(text: str) -> Number:
    return float(text) if set(text) & set(".en") else int(text)


def _with_weights(layer: Layer, weights: _Weights) -> Layer:
    if layer.kind not in ("Convolution", "Deconvolution"):
        return layer
    param = weights.path.with_suffix(".param")

    def size(key: int, default: int = 0) -> int:
        value = layer.parameters.get(key, default)
        if not isinstance(value, int) or not 0 < value <= _LARGEST:
            raise LabError(
                f"{param} is damaged: {layer.name} has {value} for its size {key}; install it again."
            )
        return value

    out, width, count = size(0), size(1), size(6)
    height = size(11, width)
    if count % (out * width * height):
        raise LabError(
            f"{param} is damaged: {layer.name} has {count} weights, which {out} kernels of {height}x{width} do not "
            "divide; install it again."
        )
    kernel = weights.tagged(count, layer.name).reshape(out, -1, height, width)
    bias = weights.plain(out, layer.name) if layer.parameters.get(5) else np.zeros(out, np.float32)
    return layer._replace(kernel=kernel.transpose(2, 3, 1, 0), bias=bias)


class _Weights:
    """A bin file, read from the beginning to the end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._content = _content(path)
        self._place = 0

    def tagged(self, count: int, layer: str) -> np.ndarray:
        """So many weights behind a tag that says how each is written."""
        (tag,) = struct.unpack("<I", self._take(4, layer))
        if tag not in _TAGS:
            raise LabError(
                f"{self.path} holds the weights of {layer} under the tag {tag:#x}, which is not float16 or float32: "
                "it is damaged, quantised or not of this network."
            )
        dtype = _TAGS[tag]
        array = self._array(count, dtype, layer)
        self._take(-self._place % 4, layer)  # weights are filled up to four bytes
        return array

    def plain(self, count: int, layer: str) -> np.ndarray:
        """So many float32 numbers."""
        return self._array(count, np.dtype("<f4"), layer)

    def end(self) -> None:
        """Raises a LabError if something is left over."""
        left = len(self._content) - self._place
        if left:
            raise LabError(
                f"{self.path} holds {left} bytes more than its param file asks for: install it again."
            )

    def _array(self, count: int, dtype: np.dtype, layer: str) -> np.ndarray:
        array = np.frombuffer(self._take(count * dtype.itemsize, layer), dtype).astype(np.float32)
        if not np.isfinite(array).all():
            raise LabError(f"{self.path} is damaged: a weight of {layer} is not finite; install it again.")
        return array

    def _take(self, size: int, layer: str) -> bytes:
        piece = self._content[self._place : self._place + size]
        if len(piece) < size:
            raise LabError(
                f"{self.path} ends within the weights of {layer}: it is damaged; install it again."
            )
        self._place += size
        return piece


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > _LARGEST:
            raise LabError(f"{path} is larger than {_LARGEST} bytes: it is not a file of such a network.")
        return path.read_bytes()
    except OSError as error:
        raise LabError(f"{path} cannot be read ({error.strerror}): install its package again.") from None
