"""The two photographs that come with scikit-learn, made smaller and larger.

Both are under CC BY 2.0 (https://creativecommons.org/licenses/by/2.0/), which asks to name the photographer.
"""

from __future__ import annotations

import importlib.util

import numpy as np

from experiments.lab.run.errors import LabError

CREDITS = {
    "china": "danielbuechele, https://www.flickr.com/photos/danielbuechele/6061409035",
    "flower": "vultilion, https://www.flickr.com/photos/vultilion/6056698931",
}


def photograph(name: str) -> np.ndarray:
    """A photograph: (height, width, 3) float32, 0 to 1.

    Raises:
        LabError: if scikit-learn or Pillow is missing.
    """
    for package, module in (("scikit-learn", "sklearn"), ("pillow", "PIL")):
        if importlib.util.find_spec(module) is None:
            raise LabError(
                f"The photographs need {package}, which is not installed: pip install -e '.[pretrained]' in the folder "
                "of the clone."
            )
    from sklearn.datasets import load_sample_image

    return load_sample_image(f"{name}.jpg").astype(np.float32) / 255


def resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """The image at another size, bicubic; made smaller, every pixel is an average of those that it covers."""
    from PIL import Image

    planes = [
        Image.fromarray(np.ascontiguousarray(image[..., channel])).resize(
            (width, height), Image.Resampling.BICUBIC
        )
        for channel in range(3)
    ]
    return np.stack([np.asarray(plane) for plane in planes], axis=-1)


def whole_multiple(image: np.ndarray, factor: int) -> np.ndarray:
    """The image without the last rows and columns, so that `factor` divides both sides."""
    height, width = (side // factor * factor for side in image.shape[:2])
    return image[:height, :width]


def crops(image: np.ndarray, side: int, count: int, seed: int) -> np.ndarray:
    """Squares at random places: (count, side, side, 3)."""
    rng = np.random.default_rng(seed)
    highest = np.array(image.shape[:2]) - side
    places = rng.integers(0, highest + 1, (count, 2))
    return np.stack([image[top : top + side, left : left + side] for top, left in places])


def peak_signal_to_noise(image: np.ndarray, truth: np.ndarray) -> float:
    """10 log10(1 / mean square error) in decibels, over all pixels and channels; values are clipped to 0 to 1."""
    return float(-10 * np.log10(np.mean((np.clip(image, 0, 1) - truth.astype(np.float64)) ** 2)))
