"""Embedded data and files from disk."""

import gzip
import struct
import sys
from importlib import resources

import numpy as np
import pytest

from gpugrad.boltzmann.datasets import as_units, load, mnist
from gpugrad.errors import DataError, MissingExtraError, ParameterError

IDX_CODES = {"u1": 0x08, "i1": 0x09, ">i2": 0x0B, ">i4": 0x0C, ">f4": 0x0D, ">f8": 0x0E}
# how often each digit occurs, as published with the data set
DIGITS = {
    "train": [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
    "test": [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
}


def idx_bytes(array, code):
    """The IDX file of an array, written from the format's description."""
    stored = array.astype(code)
    header = bytes([0, 0, IDX_CODES[code], array.ndim])
    return header + struct.pack(f">{array.ndim}I", *array.shape) + stored.tobytes()


@pytest.mark.parametrize("split", ["train", "test"])
def test_mnist_has_the_published_number_of_each_digit(split):
    images, digits = mnist(split, labels=True)
    assert images.shape == (sum(DIGITS[split]), 784)
    assert np.bincount(digits).tolist() == DIGITS[split]


def test_mnist_holds_zeros_and_ones_of_the_wanted_dtype():
    for dtype in ("uint8", "float64"):
        images = mnist("test", dtype=dtype)
        assert images.dtype == dtype
        assert np.array_equal(np.unique(images), [0, 1])


def test_all_of_mnist_is_the_training_images_then_the_test_images():
    images, digits = mnist("all", dtype="uint8", labels=True)
    train, train_digits = mnist("train", dtype="uint8", labels=True)
    test, test_digits = mnist("test", dtype="uint8", labels=True)
    assert np.array_equal(images, np.concatenate([train, test]))
    assert np.array_equal(digits, np.concatenate([train_digits, test_digits]))


def test_unpacking_keeps_the_order_of_the_bits():
    source = resources.files("gpugrad.boltzmann") / "data" / "mnist.npz"
    with resources.as_file(source) as path, np.load(path) as archive:
        packed = archive["test_images"][[0, 4321]]
    expected = [
        [byte >> bit & 1 for byte in row for bit in range(7, -1, -1)] for row in packed.tolist()
    ]
    assert np.array_equal(mnist("test")[[0, 4321]], expected)


def test_digits_of_one_class_look_alike():
    # rows and labels belong together: the nearest mean is right for 77 % of these bits, chance 10 %
    images, digits = mnist("test", labels=True)
    train, train_digits = mnist("train", labels=True)
    means = np.stack([train[train_digits == d].mean(axis=0) for d in range(10)])
    distance = (means**2).sum(axis=1) - 2 * images @ means.T
    assert (distance.argmin(axis=1) == digits).mean() > 0.7


def test_mnist_fills_the_device_it_is_told(xp, device):
    assert isinstance(mnist("test", device=device), xp.ndarray)


def test_mnist_refuses_an_unknown_split():
    with pytest.raises(ParameterError, match=r"mnist: split is 'validation'.*train"):
        mnist("validation")


def test_embedded_data_come_with_licence_and_source_and_stay_small():
    folder = resources.files("gpugrad.boltzmann") / "data"
    text = (folder / "SOURCE.md").read_text()
    assert "CC BY-SA 3.0" in text or "Attribution-Share Alike 3.0" in text
    assert len((folder / "mnist.npz").read_bytes()) < 2.2e6


def test_the_embedded_file_is_read_and_decompressed_once(monkeypatch):
    first = mnist("test")
    monkeypatch.setattr(np, "load", lambda *a, **k: pytest.fail("the file was read again"))
    np.testing.assert_array_equal(mnist("test", dtype="uint8"), first)


@pytest.mark.parametrize("code", IDX_CODES)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_idx_files_of_every_type_are_read(tmp_path, code, packed):
    array = np.arange(24).reshape(2, 3, 4) - (0 if code == "u1" else 11)
    content = idx_bytes(array, code)
    path = tmp_path / "images"
    path.write_bytes(gzip.compress(content) if packed else content)
    found = load(path)
    assert np.array_equal(found, array)
    assert found.dtype == np.dtype(code).newbyteorder("=")


def test_npy_npz_and_hdf5_give_the_array_that_was_saved(tmp_path):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    array = np.random.default_rng(0).random((5, 4))
    np.save(tmp_path / "a.npy", array)
    np.savez_compressed(tmp_path / "a.npz", x_train=array, labels=np.arange(5))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["group/images"] = array
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["group/images"], file["labels"] = array, np.arange(5)
    for name, key in (("a.npy", None), ("a.npz", None), ("a.h5", None), ("b.h5", "group/images")):
        assert np.array_equal(load(tmp_path / name, key=key), array), name


def test_an_array_can_be_named_and_an_ambiguous_file_lists_its_arrays(tmp_path):
    path = tmp_path / "two.npz"
    np.savez(path, spins=np.ones((2, 3)), fields=np.zeros((2, 3)))
    assert load(path, key="spins").sum() == 6
    with pytest.raises(DataError, match=r"two\.npz.*spins.*fields"):
        load(path)
    with pytest.raises(DataError, match=r"no array 'couplings'"):
        load(path, key="couplings")


def bad_files():
    good = idx_bytes(np.ones((3, 2), dtype="u1"), "u1")
    npy = np.lib.format.magic(1, 0)
    return {
        "empty": (b"", "is empty"),
        "foreign": (b"\x89PNG\r\n\x1a\n and so on", "none of IDX, NPY, NPZ and HDF5"),
        "text": (b"1,0,1\n0,1,0\n", "none of IDX"),
        "short idx": (good[:-1], "truncated or damaged"),
        "long idx": (good + b"\0", "truncated or damaged"),
        "idx header cut": (good[:6], "truncated or damaged"),
        "idx type": (b"\0\0\x07\1" + good[4:], "none of IDX"),
        "short gzip": (gzip.compress(good)[:-4], "truncated or damaged"),
        "gzip of text": (gzip.compress(b"hello, world"), "none of IDX"),
        "short npy": (npy + b"v\0{'descr'", "truncated or damaged"),
        "short npz": (b"PK\x03\x04rest", "truncated or damaged"),
        "short hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(40), "truncated or damaged"),
        "no samples": (idx_bytes(np.ones((0, 2)), "u1"), "no samples"),
    }


@pytest.mark.parametrize("fault", bad_files())
def test_bad_files_give_one_named_error(tmp_path, fault):
    if "hdf5" in fault:
        pytest.importorskip("h5py", reason="h5py is not installed")
    content, message = bad_files()[fault]
    path = tmp_path / "data"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as raised:
        load(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("cut", [20, 90, -8])
@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.h5"])
def test_a_file_cut_anywhere_gives_a_data_error(tmp_path, name, cut):
    path, array = tmp_path / name, np.ones((20, 20))
    if name == "a.npy":
        np.save(path, array)
    elif name == "a.npz":
        np.savez(path, data=array)
    else:
        with pytest.importorskip("h5py", reason="h5py is not installed").File(path, "w") as file:
            file["data"] = array
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match="truncated or damaged"):
        load(path)


def test_missing_files_and_arrays_of_objects_are_refused(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        load(tmp_path / "nothing.npy")
    np.save(tmp_path / "names.npy", np.array(["a", "b"]))
    with pytest.raises(DataError, match="expected real numbers"):
        load(tmp_path / "names.npy")
    # an array of objects is a pickle, which is never read
    np.save(tmp_path / "objects.npy", np.array([{}, []], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "objects.npz", np.array([{}, []], dtype=object))
    for name in ("objects.npy", "objects.npz"):
        with pytest.raises(DataError, match="Python objects, .* expected an array of numbers") as e:
            load(tmp_path / name)
        assert "allow_pickle" in str(e.value) and "damaged" not in str(e.value)


def test_without_h5py_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(40))
    with pytest.raises(MissingExtraError, match=r"^load: .*a\.h5: needs the package h5py.*pip"):
        load(tmp_path / "a.h5")


def test_grey_bytes_become_probabilities_or_bits_or_spins():
    grey = np.array([[[0, 51], [127, 255]]], dtype="uint8")
    assert np.allclose(as_units(grey), [[0, 0.2, 127 / 255, 1]], atol=1e-7)
    assert as_units(grey, threshold=0.5).tolist() == [[0, 0, 0, 1]]
    assert as_units(grey, "ising", threshold=0.5).tolist() == [[-1, -1, -1, 1]]
    assert np.allclose(as_units(grey, "ising"), [[-1, -0.6, 254 / 255 - 1, 1]], atol=1e-6)


def test_numbers_that_are_no_grey_bytes_are_left_alone():
    spins = np.array([[-1, 1], [1, 1]])
    assert as_units(spins, "ising").tolist() == spins.tolist()
    grey = np.array([[0.0, 0.25]])
    assert as_units(grey, "ising").tolist() == grey.tolist()
    bits = np.array([[True, False]])
    assert as_units(bits, "ising").tolist() == [[1, -1]]


def test_as_units_refuses_what_it_cannot_map():
    with pytest.raises(DataError, match=r"shape \(3,\), expected \(samples, units\)"):
        as_units(np.zeros(3))
    with pytest.raises(DataError, match=r"lies in \[-1, 2\]"):
        as_units(np.array([[-1.0, 2.0]]), threshold=0.5)
    with pytest.raises(DataError, match=r"data of int64 in \[0, 1\], ising units expect -1 and 1"):
        as_units(np.array([[0, 1], [1, 0]], "int64"), "ising")
    with pytest.raises(ParameterError, match="threshold is 1.5"):
        as_units(np.zeros((1, 1)), threshold=1.5)
