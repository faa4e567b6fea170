"""States drawn from MNIST's grey test images: the test set of examples/mnist_784x500_grey.toml.

    python examples/binarised_test.py FOLDER

FOLDER holds t10k-images-idx3-ubyte, plain or as .gz; test-binarised.npy (10,000, 784) is written
beside it. A grey value of 0..255 is 255 times the probability of a 1; the seed is fixed.
"""

import sys
from pathlib import Path

import numpy as np

from gpugrad.boltzmann.datasets import load


def main(folder: Path) -> None:
    plain = folder / "t10k-images-idx3-ubyte"
    images = load(plain if plain.exists() else plain.with_name(f"{plain.name}.gz"))
    p = images.reshape(len(images), -1) / 255
    states = np.random.default_rng(0).random(p.shape) < p
    np.save(folder / "test-binarised.npy", states.astype("uint8"))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
