"""Chains: the loop, the device's engine on the stand-in, the split product's accuracy, the law."""

import ctypes
import itertools
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest

from gpugrad.backend.array_module import asnumpy, to_device
from gpugrad.backend.rng import Generator
from gpugrad.errors import KernelError, ParameterError
from gpugrad.primitives.gibbs import sample_units
from gpugrad.primitives.gibbs_chain import STEPS_PER_GRAPH, GibbsChain, split_bfloat16
from tests.chance import assert_frequencies

UNITS = [("bernoulli", "bernoulli"), ("ising", "ising"), ("bernoulli", "ising")]


def machine(n_visible=21, n_hidden=13, dtype="float32", seed=0):
    """Weights and biases in multiples of 1/64, so that every product is exact in any order."""
    rng = np.random.default_rng(seed)
    return tuple(
        (rng.integers(-64, 65, shape) / 64).astype(dtype)
        for shape in ((n_visible, n_hidden), (n_visible,), (n_hidden,))
    )


def as_float(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def matrix_at(address, rows, columns, kind):
    """The row-major matrix in memory there, as float32 or float64."""
    c_types = {"16BF": ctypes.c_uint16, "32F": ctypes.c_float, "64F": ctypes.c_double}
    pointer = ctypes.cast(address, ctypes.POINTER(c_types[kind]))
    return np.ctypeslib.as_array(pointer, (rows, columns))


def gemm_ex(handle, trans_a, trans_b, m, n, k, alpha, a, a_type, lda, b, b_type, ldb, beta, c,
            c_type, ldc, compute, algorithm):  # fmt: skip
    """cublasGemmEx for the operands that are used: column-major c = op(a) op(b)."""
    assert (handle, trans_a, trans_b, algorithm) == ("handle", "T", "N", "default")
    assert compute == {"32F": "compute32", "64F": "compute64"}[c_type]
    assert lda >= k and ldb >= k and ldc >= m
    scalar = {"32F": ctypes.c_float, "64F": ctypes.c_double}[c_type]
    assert (scalar.from_address(alpha).value, scalar.from_address(beta).value) == (1, 0)
    if a_type == "16BF":
        assert lda % 8 == ldb % 8 == 0 and a % 16 == b % 16 == 0, "off the tensor cores' fast path"
    # A column-major (k, m) matrix is a row-major (m, k) one.
    left, right = matrix_at(a, m, lda, a_type)[:, :k], matrix_at(b, n, ldb, b_type)[:, :k]
    if a_type == "16BF":
        left, right = as_float(left), as_float(right)
    matrix_at(c, n, ldc, c_type)[:, :m] = right @ left.T


@pytest.fixture
def cublas(cupy_standin, monkeypatch):
    """The stand-in for CuPy, with the one function of cuBLAS that chains use."""
    fake = SimpleNamespace(
        gemmEx=gemm_ex, CUBLAS_OP_T="T", CUBLAS_OP_N="N", CUBLAS_COMPUTE_32F="compute32",
        CUBLAS_COMPUTE_64F="compute64", CUBLAS_GEMM_DEFAULT="default",
    )  # fmt: skip
    cuda = cupy_standin.cuda
    monkeypatch.setattr(cuda, "cublas", fake, raising=False)
    device = SimpleNamespace(get_cublas_handle=lambda: "handle")
    monkeypatch.setattr(cuda, "device", device, raising=False)
    for kind in ("16BF", "32F", "64F"):
        monkeypatch.setattr(cuda.runtime, f"CUDA_R_{kind}", kind, raising=False)
    return cupy_standin


def on_gpu(arrays):
    return [to_device(x, "cuda") for x in arrays]


# ---- the loop on the host -----------------------------------------------------------------------


@pytest.mark.parametrize(("visible", "hidden"), UNITS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("beta", [None, 0.5, "chains"])
def test_chain_is_alternating_sampling(visible, hidden, dtype, beta):
    W, a, b = machine(dtype=dtype)
    if beta == "chains":
        beta = np.linspace(0, 1, 9).astype(dtype)[:, None]
    chain = GibbsChain(
        W, a, b, visible=visible, hidden=hidden, n_chains=9, rng=Generator(1), beta=beta
    )
    v, rng = chain.v.copy(), Generator.from_state(chain.rng.state)
    assert set(np.unique(v)) == ({0, 1} if visible == "bernoulli" else {-1, 1})
    chain.run(3)
    for _ in range(3):
        h, _ = sample_units(v @ W, b, unit=hidden, draw=rng.reserve(9 * 13, 16), beta=beta)
        v, _ = sample_units(h @ W.T, a, unit=visible, draw=rng.reserve(9 * 21, 16), beta=beta)
    assert np.array_equal(chain.v, v) and np.array_equal(chain.h, h)
    assert chain.v.dtype == dtype and chain.rng.state == rng.state


def test_steps_add_up_and_state_resumes_them():
    whole, parts = (GibbsChain(*machine(), n_chains=5, rng=Generator(2)) for _ in range(2))
    whole.run(7)
    parts.run(3)
    state = {name: np.copy(x) if name != "rng" else x for name, x in parts.state.items()}
    other = GibbsChain(*machine(), n_chains=5, rng=Generator(99))
    other.set_state(state)
    for chain in (parts.run(4), other.run(4)):
        assert np.array_equal(chain.v, whole.v) and np.array_equal(chain.h, whole.h)


def test_changed_parameters_are_seen():
    W, a, b = machine()
    chain = GibbsChain(W, a, b, n_chains=50, rng=Generator(3))
    W[...], a[...], b[...] = 0, 200, -200
    chain.update_parameters()
    chain.run(1)
    assert (chain.v == 1).all() and (chain.h == 0).all()


def test_memory_does_not_grow_with_the_number_of_steps():
    chain = GibbsChain(*machine(200, 100), n_chains=100, rng=Generator(4)).run(2)
    peaks = []
    for k in (2, 50):
        tracemalloc.start()
        chain.run(k)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 20_000  # one array of units would be 80,000 bytes


@pytest.mark.parametrize(("visible", "hidden"), UNITS)
def test_long_chain_visits_states_as_often_as_enumeration_says(visible, hidden):
    """False-alarm rate 1e-6 (chi-square over 32 joint states, 20,000 independent chains)."""
    W, a, b = (x / 2 for x in machine(3, 2, "float64", seed=1))
    values = [(0, 1) if unit == "bernoulli" else (-1, 1) for unit in (visible, hidden)]
    states = np.array(list(itertools.product(*[values[0]] * 3, *[values[1]] * 2)), float)
    v, h = states[:, :3], states[:, 3:]
    weight = np.exp(v @ a + h @ b + ((v @ W) * h).sum(axis=1))
    n = 20_000
    chain = GibbsChain(W, a, b, visible=visible, hidden=hidden, n_chains=n, rng=Generator(5))
    chain.run(60)
    h_next, _ = sample_units(chain.v @ W, b, unit=hidden, draw=chain.rng.reserve(2 * n, 16))
    bits = np.concatenate([chain.v, h_next], axis=1) > 0
    index = bits @ (1 << np.arange(5)[::-1])
    assert_frequencies(np.bincount(index, minlength=32), n * weight / weight.sum())


# ---- three bfloat16 parts -----------------------------------------------------------------------


def test_three_parts_add_up_exactly(vocabulary, as_device, host):
    rng = np.random.default_rng(6)
    exponents = rng.uniform(-33, 38, 20000)
    x = (rng.choice([-1, 1], 20000) * 10**exponents).astype(np.float32)
    x = np.concatenate([x, [0, 1, -1, 2.0**-100, 3e38]]).astype(np.float32)
    parts = as_float(host(split_bfloat16(vocabulary, as_device(x)))).astype(np.float64)
    assert np.array_equal(parts.sum(axis=0), x.astype(np.float64))
    assert (np.abs(parts[1]) <= np.abs(x) * 2.0**-8).all()
    assert (np.abs(parts[2]) <= np.abs(x) * 2.0**-16).all()


@pytest.mark.parametrize("scale", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("spins", [False, True])
def test_split_product_is_as_accurate_as_single_precision(scale, spins):
    rng = np.random.default_rng([7, spins])
    W = rng.normal(0, scale, (784, 200)).astype(np.float32)
    v = rng.integers(0, 2, (300, 784)).astype(np.float32)
    v = 2 * v - 1 if spins else v
    exact = v.astype(np.float64) @ W
    stacked_W = np.concatenate(list(as_float(split_bfloat16(np, W))))
    stacked_v = np.concatenate([v] * 3, axis=1)
    split = np.abs(stacked_v @ stacked_W - exact)
    single = np.abs(v @ W - exact)
    # Same number of large terms; the two others are 2^-8 and 2^-16 of them.
    assert np.sqrt((split**2).mean()) <= 1.2 * np.sqrt((single**2).mean())
    assert split.max() <= 1.5 * single.max()


# ---- the device's engine on the stand-in for CuPy -----------------------------------------------


@pytest.mark.parametrize(("visible", "hidden"), UNITS)
@pytest.mark.parametrize("precision", ["split", "single"])
@pytest.mark.parametrize("beta", [None, 0.5, "chains"])
def test_engine_of_the_device_equals_the_loop(cublas, visible, hidden, precision, beta):
    parameters = machine()
    if beta == "chains":
        beta = np.linspace(0, 1, 9).astype(np.float32)[:, None]
    kinds = {"visible": visible, "hidden": hidden, "n_chains": 9}
    loop = GibbsChain(*parameters, rng=Generator(1), beta=beta, **kinds)
    given = to_device(beta, "cuda") if isinstance(beta, np.ndarray) else beta
    chain = GibbsChain(
        *on_gpu(parameters),
        rng=Generator(1),
        beta=given,
        precision=precision,
        capture=False,
        **kinds,
    )
    assert chain.precision == precision
    for k in (1, 4):
        assert np.array_equal(asnumpy(chain.v), loop.v)
        chain.run(k)
        loop.run(k)
        assert np.array_equal(asnumpy(chain.h), loop.h)
        assert chain.rng.state == loop.rng.state
    assert chain.v.dtype == loop.v.dtype


def test_engine_runs_in_double_precision_too(cublas):
    parameters = machine(dtype="float64")
    loop = GibbsChain(*parameters, n_chains=9, rng=Generator(1)).run(3)
    chain = GibbsChain(*on_gpu(parameters), n_chains=9, rng=Generator(1), capture=False).run(3)
    assert chain.precision == "single"
    assert np.array_equal(asnumpy(chain.v), loop.v)


def test_engine_sees_changed_parameters_and_states(cublas):
    parameters = machine()
    W, a, b = on_gpu(parameters)
    chain = GibbsChain(W, a, b, n_chains=9, rng=Generator(1), capture=False).run(2)
    other = machine(seed=8)
    for array, new in zip((W, a, b), on_gpu(other), strict=True):
        array[...] = new
    chain.update_parameters()
    loop = GibbsChain(*other, n_chains=9, rng=Generator(3)).run(2)
    chain.set_state({"v": to_device(loop.v, "cuda"), "h": to_device(loop.h, "cuda"),
                     "rng": loop.rng.state})  # fmt: skip
    assert np.array_equal(asnumpy(chain.h), loop.h)
    chain.run(3)
    loop.run(3)
    assert np.array_equal(asnumpy(chain.v), loop.v) and np.array_equal(asnumpy(chain.h), loop.h)


class RecordingStream:
    """A stream whose captured launches are kept and run again, as a CUDA graph's are."""

    capturing = None

    def __init__(self, original):
        self.original = original

    def __getattr__(self, name):
        return getattr(self.original, name)

    def __enter__(self):
        self.original.__enter__()
        return self

    def __exit__(self, *error):
        self.original.__exit__(*error)

    def begin_capture(self):
        RecordingStream.capturing = []

    def end_capture(self):
        work, RecordingStream.capturing = RecordingStream.capturing, None
        return SimpleNamespace(launch=lambda stream: [call() for call in work], work=work)


@pytest.fixture
def graphs(cublas, monkeypatch):
    """Capturing on the stand-in: launches and products during a capture are put off."""
    from gpugrad.backend import cuda
    from gpugrad.primitives import gibbs_chain

    stream = cublas.cuda.Stream
    monkeypatch.setattr(cublas.cuda, "Stream", lambda **how: RecordingStream(stream(**how)))

    def deferred(function):
        def call(*args, **how):
            if RecordingStream.capturing is None:
                return function(*args, **how)
            RecordingStream.capturing.append(lambda: function(*args, **how))

        return call

    monkeypatch.setattr(cuda, "launch", deferred(cuda.launch))
    monkeypatch.setattr(gibbs_chain, "multiply", deferred(gibbs_chain.multiply))
    return cublas


def test_replays_of_a_captured_chain_equal_uncaptured_steps_on_the_standin(graphs):
    k = STEPS_PER_GRAPH + 3
    parameters = machine(5, 4)
    captured, plain = (
        GibbsChain(*on_gpu(parameters), n_chains=3, rng=Generator(1), capture=capture)
        for capture in (True, False)
    )
    captured.run(k).run(k)
    for _ in range(2 * k):
        plain.run(1)
    for read in ("v", "h"):
        assert np.array_equal(asnumpy(getattr(captured, read)), asnumpy(getattr(plain, read)))
    assert captured.rng.state == plain.rng.state
    made = {steps: len(graph.work) for steps, graph in captured._engine.graphs.items()}
    # One product and one kernel to a half-step.
    assert made == {STEPS_PER_GRAPH: 4 * STEPS_PER_GRAPH, 3: 12}


def test_a_product_in_a_capture_goes_past_the_function_of_cupy_that_refuses_it(cublas, monkeypatch):
    """CuPy 14 raises NotImplementedError for every call of cuBLAS on a stream under capture."""
    from gpugrad.primitives import gibbs_chain

    chain = GibbsChain(*on_gpu(machine()), n_chains=9, rng=Generator(1), capture=False)
    other = GibbsChain(*on_gpu(machine()), n_chains=9, rng=Generator(1), capture=False).run(2)

    def refuse(*args):
        raise NotImplementedError("calling cuBLAS API during stream capture")

    opened = []
    monkeypatch.setattr(cublas.cuda.cublas, "gemmEx", refuse)
    monkeypatch.setattr(cublas.cuda.cublas, "__file__", "cublas.so", raising=False)
    monkeypatch.setattr(cublas.cuda.Stream, "is_capturing", lambda self: True)
    monkeypatch.setattr(
        gibbs_chain, "_unwrapped_gemm_ex", lambda file: opened.append(file) or gemm_ex
    )
    assert np.array_equal(asnumpy(chain.run(2).v), asnumpy(other.v))
    assert opened == ["cublas.so"] * 4
    monkeypatch.setattr(gibbs_chain, "_unwrapped_gemm_ex", lambda file: lambda *args: 7)
    with pytest.raises(KernelError, match="cublasGemmEx failed with status 7"):
        chain.run(1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"visible": "potts"}, "unit 'potts'"),
        ({"precision": "half"}, "precision 'half'"),
        ({"n_chains": 0}, "0 chains"),
        ({"W": np.zeros((3, 2), np.float16)}, "of float16"),
        ({"a": np.zeros(2, np.float32)}, r"biases \(2,\) and \(2,\)"),
        ({"a": np.zeros(3)}, "bias of float64"),
        ({"a": np.zeros(6, np.float32)[::2]}, r"strides \(8,\)"),
        ({"beta": np.ones(3, np.float32)}, r"beta \(3,\), expected a number or \(4, 1\)"),
    ],
)
def test_arguments_that_do_not_fit_are_named(change, message):
    given = {name: np.zeros(shape, np.float32) for name, shape in zip("Wab", ((3, 2), 3, 2))}
    given |= {"n_chains": 4, "rng": Generator(0), **change}
    with pytest.raises(ParameterError, match=f"GibbsChain: .*{message}"):
        GibbsChain(given.pop("W"), given.pop("a"), given.pop("b"), **given)


def test_no_steps_are_refused():
    chain = GibbsChain(*machine(), n_chains=2, rng=Generator(0))
    with pytest.raises(ParameterError, match="k = 0, expected at least 1"):
        chain.run(0)
    with pytest.raises(ParameterError, match=r"v \(2, 3\), expected \(2, 21\)"):
        chain.v = np.zeros((2, 3))


# ---- on a GPU -----------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize(("visible", "hidden"), UNITS)
@pytest.mark.parametrize("precision", ["split", "single"])
@pytest.mark.parametrize("shape", [(21, 13), (784, 500)])
def test_two_replays_equal_twice_as_many_uncaptured_steps(visible, hidden, precision, shape):
    rng = np.random.default_rng(0)
    W = rng.normal(0, 0.1, shape).astype(np.float32)
    parameters = on_gpu([W, np.zeros(shape[0], np.float32), np.zeros(shape[1], np.float32)])
    kinds = {"visible": visible, "hidden": hidden, "n_chains": 70, "precision": precision}
    captured, plain = (
        GibbsChain(*parameters, rng=Generator(1), capture=capture, **kinds)
        for capture in (True, False)
    )
    captured.run(20).run(20)
    for _ in range(40):
        plain.run(1)
    assert np.array_equal(asnumpy(captured.v), asnumpy(plain.v))
    assert np.array_equal(asnumpy(captured.h), asnumpy(plain.h))


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["split", "single"])
def test_chain_on_the_gpu_equals_the_loop_on_the_host(precision):
    parameters = machine(101, 67)
    loop = GibbsChain(*parameters, n_chains=33, rng=Generator(1)).run(10)
    chain = GibbsChain(*on_gpu(parameters), n_chains=33, rng=Generator(1), precision=precision).run(
        10
    )
    assert np.array_equal(asnumpy(chain.v), loop.v)


@pytest.mark.gpu
def test_split_product_on_tensor_cores_is_as_accurate_as_single_precision():
    import cupy

    if int(cupy.cuda.Device().compute_capability) < 80:
        pytest.skip("bfloat16 tensor cores need compute capability 8.0")
    rng = np.random.default_rng(7)
    W = rng.normal(0, 0.1, (784, 500)).astype(np.float32)
    parameters = on_gpu([W, np.zeros(784, np.float32), np.zeros(500, np.float32)])
    errors = {}
    for precision in ("split", "single"):
        chain = GibbsChain(*parameters, n_chains=256, rng=Generator(1), precision=precision,
                           capture=False)  # fmt: skip
        v = asnumpy(chain.v).astype(np.float64)
        chain._engine.run(1)
        field = asnumpy(chain._engine.fields[1])[:, :500]
        errors[precision] = np.sqrt(((field - v @ W) ** 2).mean())
    assert errors["split"] <= 1.2 * errors["single"]


@pytest.mark.gpu
def test_memory_on_the_gpu_does_not_grow_with_the_number_of_steps():
    import cupy

    chain = GibbsChain(*on_gpu(machine(200, 100)), n_chains=100, rng=Generator(4)).run(100)
    pool = cupy.get_default_memory_pool()
    before = pool.used_bytes()
    chain.run(1000)
    assert pool.used_bytes() == before
