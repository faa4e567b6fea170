"""Tensors in files: what mygrad writes and reads, whole or not at all, and never a pickle."""

from __future__ import annotations

import errno
import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

import gpugrad as gg
from gpugrad.errors import TensorFileError

TENSORS = {
    "floats": lambda m: m.tensor([[0.5, -1.0], [np.inf, np.nan]]),
    "float32": lambda m: m.tensor([0.1, 0.2], dtype=np.float32),
    "integers": lambda m: m.tensor([1, 2, 3]),
    "bool": lambda m: m.tensor(True),
    "no dimension": lambda m: m.tensor(2.5),
    "empty": lambda m: m.zeros((0, 3)),
    "not contiguous": lambda m: m.tensor(np.arange(6.0).reshape(2, 3).T, copy=False),
}


def with_gradient(m):
    x = m.tensor([1.0, 2.0, 3.0])
    (x * x).backward()
    return x


def written(x: gg.Tensor) -> bytes:
    file = io.BytesIO()
    gg.save(file, x)
    return file.getvalue()


def same(a: gg.Tensor, b: gg.Tensor) -> bool:
    if (a.grad is None) != (b.grad is None):
        return False
    grads = a.grad is None or np.array_equal(a.grad, b.grad)
    return a.dtype == b.dtype and np.array_equal(a.data, b.data, equal_nan=True) and grads


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize("as_path", [str, Path], ids=["str", "Path"])
def test_a_tensor_comes_back(tmp_path, name, as_path):
    x = TENSORS[name](gg)
    gg.save(as_path(tmp_path / "x.npz"), x)
    y = gg.load(as_path(tmp_path / "x.npz"))
    assert same(y, x) and y.constant == x.constant and y.creator is None
    assert y.data.flags.writeable


def test_the_gradient_comes_back_and_takes_part_in_what_follows():
    x = gg.load(io.BytesIO(written(with_gradient(gg))))
    assert np.array_equal(x.grad, [2.0, 4.0, 6.0])
    (3 * x).backward()
    assert np.array_equal(x.grad, [3.0, 3.0, 3.0])


def test_no_gradient_is_written_where_there_is_none():
    assert gg.load(io.BytesIO(written(gg.tensor([1.0])))).grad is None


def test_a_view_and_a_result_are_saved_as_they_are():
    x = gg.tensor([1.0, 2.0, 3.0])
    y = x[1:] * 2
    assert np.array_equal(gg.load(io.BytesIO(written(y))).data, [4.0, 6.0])
    y.backward()
    assert np.array_equal(gg.load(io.BytesIO(written(x[1:]))).grad, [2.0, 2.0])


@pytest.mark.parametrize("name", [*TENSORS, "with gradient"])
def test_files_are_mygrads_both_ways(tmp_path, name):
    mg = pytest.importorskip("mygrad")
    make = TENSORS.get(name, with_gradient)
    gg.save(tmp_path / "ours.npz", make(gg))
    mg.save(tmp_path / "theirs.npz", make(mg))
    for file in ("ours.npz", "theirs.npz"):
        ours, theirs = gg.load(tmp_path / file), mg.load(tmp_path / file)
        assert same(ours, theirs) and ours.constant == theirs.constant


def test_the_ending_is_added_as_numpy_does_it(tmp_path):
    gg.save(tmp_path / "x", gg.tensor(1.0))
    assert os.listdir(tmp_path) == ["x.npz"]
    with pytest.raises(FileNotFoundError) as caught:
        gg.load(tmp_path / "x")
    assert caught.value.__notes__ == [f"There is a file {tmp_path / 'x'}.npz."]


def test_a_binary_file_is_read_from_where_it_stands(tmp_path):
    with open(tmp_path / "two", "wb") as file:
        file.write(b"a heading")
        gg.save(file, gg.tensor([4.0]))
    with open(tmp_path / "two", "rb") as file:
        assert gg.load(file).item() == 4.0


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, call):
    path = tmp_path / "x.npz"
    gg.save(path, gg.tensor([1.0]))

    def fails(*args, **kwargs):
        raise OSError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(*((np, "savez") if call == "write" else (os, call)), fails)
        with pytest.raises(OSError, match="the disk is full"):
            gg.save(path, gg.tensor([2.0]))
    assert os.listdir(tmp_path) == ["x.npz"] and gg.load(path).item() == 1.0


@pytest.mark.parametrize("thing", [np.ones(3), 1.0, [1.0], None])
def test_only_tensors_are_saved(tmp_path, thing):
    with pytest.raises(TypeError, match="expected a Tensor"):
        gg.save(tmp_path / "x.npz", thing)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", [3.5, None, ["x"]])
def test_what_is_no_file_is_refused(name):
    with pytest.raises(TypeError, match="expected a name or a binary file"):
        gg.save(name, gg.tensor(1.0))
    with pytest.raises(TypeError, match="expected a name or a binary file"):
        gg.load(name)


def test_a_folder_that_does_not_exist(tmp_path):
    name = tmp_path / "no" / "x.npz"
    for function, call in (
        ("save", lambda: gg.save(name, gg.tensor(1.0))),
        ("load", lambda: gg.load(name)),
    ):
        with pytest.raises(FileNotFoundError, match=rf"\] {function}: .*'{name}'$") as caught:
            call()
        assert (caught.value.errno, caught.value.filename) == (errno.ENOENT, str(name))


def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "x.npz").mkdir()
    with pytest.raises(IsADirectoryError, match=rf"save: .*'{tmp_path / 'x.npz'}'$"):
        gg.save(tmp_path / "x.npz", gg.tensor(1.0))
    assert os.listdir(tmp_path) == ["x.npz"]
    with pytest.raises(IsADirectoryError, match="load: "):
        gg.load(tmp_path / "x.npz")


def archive(**arrays) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def lone_array() -> bytes:
    file = io.BytesIO()
    np.save(file, np.ones(2))
    return file.getvalue()


FOREIGN = {
    "empty": lambda: b"",
    "text": lambda: b"1.0 2.0\n",
    "a pickle": lambda: pickle.dumps(np.ones(2)),
    "a lone array": lone_array,
    "another archive": lambda: archive(weights=np.ones(2)),
    "objects": lambda: archive(data=np.array([1, "a", None], dtype=object)),
    "complex": lambda: archive(data=np.array([1j])),
    "strings": lambda: archive(data=np.array(["a"])),
    "gradient of another shape": lambda: archive(data=np.ones(2), grad=np.ones(3)),
    "gradient of integers": lambda: archive(data=np.ones(2), grad=np.ones(2, int)),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_save_did_not_write_is_refused(tmp_path, name):
    path = tmp_path / "x.npz"
    path.write_bytes(FOREIGN[name]())
    with pytest.raises(TensorFileError, match=r"load: .*x\.npz was not written by save"):
        gg.load(path)


class Trap:
    sprung = False

    def __reduce__(self):
        return setattr, (Trap, "sprung", True)


def test_nothing_is_unpickled():
    content = archive(data=np.array([Trap()], dtype=object))
    with pytest.raises(TensorFileError):
        gg.load(io.BytesIO(content))
    assert not Trap.sprung
    np.load(io.BytesIO(content), allow_pickle=True)["data"]
    assert Trap.sprung, "the trap does not work"


def test_what_goes_on_after_an_array_is_refused():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as members:
        array = io.BytesIO()
        np.save(array, np.ones(3))
        members.writestr("data.npy", array.getvalue() + b"more")
    file.seek(0)
    with pytest.raises(TensorFileError, match="goes on after its array"):
        gg.load(file)


def test_the_gradient_takes_the_dtype_of_the_data():
    content = archive(data=np.ones(2, np.float32), grad=np.array([0.5, 2.0]))
    x = gg.load(io.BytesIO(content))
    assert x.grad.dtype == np.float32
    assert np.array_equal(x.grad, [0.5, 2.0])


def test_integers_have_no_gradient_whatever_the_file_says():
    x = gg.load(io.BytesIO(archive(data=np.array([1, 2]), grad=np.array([0.5, 2.0]))))
    assert x.constant
    assert x.grad is None


def test_a_file_that_cannot_be_read_is_not_called_damaged():
    class Unreadable(io.BytesIO):
        def read(self, *args):
            if self.tell() < 100:  # the list of members is at the end
                raise OSError(errno.EIO, "the disk is gone")
            return super().read(*args)

    with pytest.raises(OSError, match="the disk is gone"):
        gg.load(Unreadable(written(gg.tensor([1.0]))))


def test_every_truncation_is_noticed():
    content = written(with_gradient(gg))
    for n in range(len(content)):
        with pytest.raises(TensorFileError):
            gg.load(io.BytesIO(content[:n]))


def test_a_changed_byte_is_noticed_or_changes_nothing():
    x = with_gradient(gg)
    content = written(x)
    noticed = 0
    for i in range(len(content)):
        damaged = bytearray(content)
        damaged[i] ^= 0x15
        try:
            y = gg.load(io.BytesIO(damaged))
        except TensorFileError:
            noticed += 1
        else:  # a time stamp, or a flag that nobody reads
            assert np.array_equal(y.data, x.data)
            assert y.grad is None or np.array_equal(y.grad, x.grad)
    start = content.index(b"\x93NUMPY")
    assert noticed > len(content[start:]) // 2


def test_a_device_tensor_is_saved_from_and_loaded_to_any_device(xp, device, as_device, tmp_path):
    x = gg.tensor(as_device([1.0, 2.0]))
    (x * x).backward()
    gg.save(tmp_path / "x.npz", x)
    host = gg.load(tmp_path / "x.npz", device="cpu")
    assert isinstance(host.data, np.ndarray) and np.array_equal(host.grad, [2.0, 4.0])
    back = gg.load(tmp_path / "x.npz", device=device)
    assert isinstance(back.data, xp.ndarray) and isinstance(back.grad, xp.ndarray)
    assert np.array_equal(gg.asnumpy(back), [1.0, 2.0])
    with gg.use_device(device):
        assert isinstance(gg.load(tmp_path / "x.npz").data, xp.ndarray)
