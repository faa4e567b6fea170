"""Make gpugrad/boltzmann/data/mnist.npz from the four IDX files of MNIST.

    python examples/make_mnist.py FOLDER [OUTPUT]

FOLDER holds train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and
t10k-labels-idx1-ubyte, plain or as .gz. Pixels above 127 become 1, eight of them a byte.
"""

import gzip
import hashlib
import sys
import tempfile
from pathlib import Path

import numpy as np

from gpugrad.boltzmann.datasets import load

MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
TARGET = Path(__file__).parents[1] / "gpugrad" / "boltzmann" / "data" / "mnist.npz"


def read(folder: Path, name: str) -> np.ndarray:
    """The array of an IDX file whose uncompressed bytes have the published MD5 sum."""
    path = folder / name
    content = (
        path.read_bytes()
        if path.exists()
        else gzip.decompress(path.with_name(f"{name}.gz").read_bytes())
    )
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != MD5[name]:
        raise SystemExit(f"{path}: MD5 {found}, expected {MD5[name]}")
    with tempfile.TemporaryDirectory() as scratch:
        plain = Path(scratch) / name
        plain.write_bytes(content)
        return load(plain)


def main(folder: Path, target: Path) -> None:
    arrays = {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images = read(folder, f"{prefix}-images-idx3-ubyte")
        arrays[f"{split}_images"] = np.packbits(images.reshape(len(images), -1) > 127, axis=1)
        arrays[f"{split}_labels"] = read(folder, f"{prefix}-labels-idx1-ubyte")
    np.savez_compressed(target, **arrays)
    print(f"{target}: {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) == 3 else TARGET)
