"""Builds the embedded subset of Fashion-MNIST from the full set.

    python -m experiments.lab.data.build_subset [FOLDER]

The folder holds the four IDX files; by default it is the system's. The images and labels are always the same; the
bytes of the archive depend on the zlib that packed it, and SHA256SUMS holds the checksum of both.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np

from experiments.lab.data.datasets import (
    CHECKSUMS,
    EMBEDDED,
    SYSTEM_FOLDER,
    balanced_subset,
    read_folder,
)


def main() -> None:
    """Writes the archive and its checksums."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=SYSTEM_FOLDER, help="default: %(default)s")
    subset = balanced_subset(read_folder(parser.parse_args().folder, "Fashion-MNIST"))
    np.savez_compressed(
        EMBEDDED,
        train_images=subset.train_images.reshape(-1, 28, 28),
        train_labels=subset.train_labels.astype(np.uint8),
        test_images=subset.test_images.reshape(-1, 28, 28),
        test_labels=subset.test_labels.astype(np.uint8),
    )
    archive = hashlib.sha256(EMBEDDED.read_bytes()).hexdigest()
    CHECKSUMS.write_text(
        f"# the archive, and what experiments.lab.data.datasets.Dataset.sha256 gives for the arrays in it\n"
        f"{archive}  {EMBEDDED.name}\n{subset.sha256}  arrays\n"
    )
    print(f"{EMBEDDED.name}: {EMBEDDED.stat().st_size:,} bytes, {subset.describe()}")


if __name__ == "__main__":
    main()
