"""Finding, compiling and launching kernels."""

from pathlib import Path

import numpy as np
import pytest

from gpugrad.backend import cuda
from gpugrad.backend.array_module import to_device
from gpugrad.backend.philox import Draw
from gpugrad.errors import DeviceNotAvailableError, KernelError
from tests.threads import in_threads

KERNELS = Path(__file__).parents[2] / "kernels"


@pytest.fixture
def fresh(monkeypatch):
    """No compiled modules, before and after."""
    monkeypatch.setattr(cuda, "_modules", {})
    monkeypatch.setattr(cuda, "_functions", {})


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """A folder of kernels that a test fills."""
    monkeypatch.setattr(cuda, "_folder", lambda: tmp_path)
    cuda.source.cache_clear()
    yield tmp_path
    cuda.source.cache_clear()


def test_source_is_complete_and_each_line_knows_its_place():
    text = cuda.source("gibbs.cu")
    assert "philox4x64" in text and '#include "' not in text
    assert text.count("struct Wide<double>") == 1
    wanted = {}
    for name in ("gibbs.cu", "philox.cuh", "common.cuh"):
        for number, line in enumerate((KERNELS / name).read_text().splitlines(), 1):
            if line.strip() and not line.startswith('#include "'):
                wanted.setdefault((f"kernels/{name}", number), line)
    found, place = {}, None
    for line in text.splitlines():
        if line.startswith("#line"):
            place = (line.split('"')[1], int(line.split()[1]))
        else:
            found[place] = line
            place = (place[0], place[1] + 1)
    assert all(found[place] == line for place, line in wanted.items())


def test_every_kernel_file_opens_with_what_it_computes():
    files = sorted(KERNELS.glob("*.cu"))
    assert files
    for file in files:
        head = file.read_text().split("#include")[0]
        assert "Arguments, in order" in head and "Launch:" in head and "Python bod" in head
        assert file.name in (KERNELS / "README.md").read_text()


def test_missing_file_is_named_with_those_there_are():
    with pytest.raises(KernelError, match=r"no file 'tap9.cu', expected one of .*gibbs.cu"):
        cuda.source("tap9.cu")


def test_missing_include_is_named(folder):
    (folder / "a.cu").write_text('#include "b.cuh"\n')
    with pytest.raises(KernelError, match=r"no file 'b.cuh', expected one of \['a.cu'\]"):
        cuda.source("a.cu")


def test_file_included_twice_stands_in_the_source_once(folder):
    (folder / "a.cu").write_text('#include "b.cuh"\n#include "c.cuh"\nlast\n')
    (folder / "b.cuh").write_text('#include "c.cuh"\nfrom b\n')
    (folder / "c.cuh").write_text("from c\n")
    text = cuda.source("a.cu")
    assert [text.count(part) for part in ("from b", "from c", "last")] == [1, 1, 1]
    assert text.index("from c") < text.index("from b") < text.index("last")


def test_module_is_compiled_once_per_device_and_option_set(fresh, cupy_standin):
    with cupy_standin.cuda.Device(0):
        one = cuda.load("philox.cu")
        assert cuda.load("philox.cu") is one
        assert cuda.load("philox.cu", options=("-DX=1",)) is not one
        assert cuda.load("philox.cu", names=("fill_uniform<float>",)) is not one
    with cupy_standin.cuda.Device(1):
        assert cuda.load("philox.cu") is not one


def test_threads_share_one_compilation(fresh, cupy_standin, monkeypatch):
    compiled, modules = [], []
    original = cuda._compiled

    def slow(*args):
        compiled.append(args)
        return original(*args)

    monkeypatch.setattr(cuda, "_compiled", slow)
    in_threads(lambda k: modules.append(cuda.load("philox.cu")), 8)
    assert len(compiled) == 1 and len(set(map(id, modules))) == 1 and len(modules) == 8


def test_source_that_does_not_compile_says_where(fresh, folder, cupy_standin):
    (folder / "bad.cu").write_text('extern "C" __global__ void bad() {\n    undeclared;\n}\n')
    with pytest.raises(KernelError, match=r"(?s)kernels: bad.cu .*kernels/bad.cu:2"):
        cuda.kernel("bad.cu", "bad")


def test_launch_runs_on_the_device_of_the_array(fresh, cupy_standin):
    out = to_device(np.zeros(5, np.uint64), "cuda:1")
    draw = Draw((1, 2), 3)
    args = (out, np.int64(5), *cuda.draw_arguments(draw))
    cuda.launch("philox.cu", "fill_words", out, 2, args)
    assert {key[1] for key in cuda._modules} == {1}
    words = np.random.Philox(key=1 + (2 << 64), counter=3).random_raw(5)
    assert np.array_equal(out.get(), words)


def test_launch_of_nothing_compiles_nothing(fresh, cupy_standin):
    cuda.launch("philox.cu", "fill_words", to_device(np.zeros(0), "cuda"), 0, ())
    assert cuda._modules == {}


def test_draw_arguments_are_the_words_lowest_first():
    draw = Draw((5, 2**64 - 1), 7 + (8 << 64) + (9 << 192))
    assert [int(word) for word in cuda.draw_arguments(draw)] == [5, 2**64 - 1, 7, 8, 0, 9]


def test_dtype_without_a_cuda_type_is_named():
    assert [cuda.type_name("f", t) for t in ("float16", "float32")] == ["__half", "float"]
    with pytest.raises(KernelError, match="f: dtype int32, expected one of float16"):
        cuda.type_name("f", np.int32)


def test_loading_without_a_gpu_says_so(monkeypatch):
    def absent():
        raise DeviceNotAvailableError("cupy: not installed")

    monkeypatch.setattr(cuda, "cupy", absent)
    with pytest.raises(DeviceNotAvailableError, match="not installed"):
        cuda.load("gibbs.cu")


@pytest.mark.gpu
def test_true_compiler_points_into_the_file(fresh, folder):
    (folder / "bad.cu").write_text('extern "C" __global__ void bad() {\n    undeclared;\n}\n')
    with pytest.raises(KernelError, match=r"(?s)kernels/bad.cu\(2\)"):
        cuda.kernel("bad.cu", "bad")
