"""Alternating Gibbs sampling of two layers, k steps at a time.

    field_h = v W,  h ~ units(field_h + b)          half-step up
    field_v = h W', v ~ units(field_v + a)          half-step down

On a GPU a half-step is one matrix product and one fused kernel, and k steps are captured in a CUDA
graph. The counter of the random numbers lives in device memory and is advanced there, so that
replaying the graph continues the chain.

With ``precision="split"`` the product runs on tensor cores. Units are exact in bfloat16, and W is
the exact sum of three bfloat16 matrices (8 + 8 + 8 bits of its 24), so that one product over the
stacked parts, accumulated in float32, has float32's accuracy:

    field (n, H)  =  [ v | v | v ] (n, 3V)   [ W1 ]
                                             [ W2 ]  (3V, H)
                                             [ W3 ]
"""

import ctypes
from functools import cache
from typing import Any

import numpy as np

from gpugrad.backend import cuda
from gpugrad.backend.array_module import device_of, get_array_module, on
from gpugrad.backend.blas_threads import one_blas_thread
from gpugrad.backend.host_threads import product
from gpugrad.backend.philox import counter_words
from gpugrad.backend.rng import Generator
from gpugrad.errors import KernelError, ParameterError
from gpugrad.primitives.gibbs import UNITS, field_bits, kernel_call, sample_units

__all__ = ["GibbsChain", "split_bfloat16"]

#: Steps in one captured graph at most: replaying it is as good as a longer one, and its memory
#: does not grow with k.
STEPS_PER_GRAPH = 32

#: Rows of the stacked operands are multiples of this, 16 bytes of bfloat16: what cuBLAS needs for
#: its fast kernels, and the fused kernel for moving four values at once.
ALIGNMENT = 8


def split_bfloat16(xp: Any, x: Any) -> Any:
    """Three bfloat16 numbers that add up to each float32 number.

    Each part is the nearest bfloat16 to what the parts before it leave; the sum of the three is
    exact for magnitudes from 1e-33 to 3.38e38 and for 0.

    Parameters
    ----------
    xp : namespace
    x : array of float32

    Returns
    -------
    array of uint16, shape (3, *x.shape)
        The bits of the parts, the largest first.
    """
    parts, rest = [], xp.ascontiguousarray(x)
    for _ in range(3):
        bits = rest.view(np.uint32)
        # Round to nearest, ties to even, at the 16th bit.
        upper = bits + ((bits >> np.uint32(16)) & np.uint32(1)) + np.uint32(0x7FFF)
        upper = upper & np.uint32(0xFFFF0000)
        parts.append((upper >> np.uint32(16)).astype(np.uint16))
        rest = rest - upper.view(np.float32)
    return xp.stack(parts)


def _padded(n: int) -> int:
    return -(-n // ALIGNMENT) * ALIGNMENT


class GibbsChain:
    """Persistent chains of a restricted Boltzmann machine.

    Parameters
    ----------
    W : array, shape (visible units, hidden units), float32 or float64
        The weights. It is not copied: after changing it in place call `update_parameters`.
    visible_bias, hidden_bias : array, shapes (visible units,) and (hidden units,)
        Not copied either; changes are seen at once.
    visible, hidden : {"bernoulli", "ising"}
        The kinds of units.
    n_chains : int
        How many chains run side by side.
    rng : Generator
        The chains' own generator is spawned from it.
    beta : float or array, shape (chains, 1), optional
        Inverse temperature of all chains or of each.
    precision : {"split", "single"}
        On a GPU: the tensor-core product described above, or a plain product. Where the GPU has
        no bfloat16 tensor cores (before compute capability 8.0), and for float64, the plain one is
        used in any case.
    capture : bool
        Whether steps on a GPU are captured in a CUDA graph.

    Attributes
    ----------
    rng : Generator
        Where the next step's numbers come from.

    Notes
    -----
    The memory it holds does not depend on the number of steps, and neither `run` nor reading
    `v` and `h` waits for the GPU.

    Examples
    --------
    >>> import numpy as np
    >>> from gpugrad.backend.rng import Generator
    >>> from gpugrad.primitives.gibbs_chain import GibbsChain
    >>> W, a, b = np.zeros((3, 2)), np.zeros(3), np.zeros(2)
    >>> chain = GibbsChain(W, a, b, n_chains=4, rng=Generator(0))
    >>> chain.run(10).v.shape
    (4, 3)
    """

    def __init__(
        self,
        W: Any,
        visible_bias: Any,
        hidden_bias: Any,
        *,
        visible: str = "bernoulli",
        hidden: str = "bernoulli",
        n_chains: int,
        rng: Generator,
        beta: Any = None,
        precision: str = "split",
        capture: bool = True,
    ) -> None:
        for unit in (visible, hidden):
            if unit not in UNITS:
                raise ParameterError(f"GibbsChain: unit {unit!r}, expected 'bernoulli' or 'ising'")
        if precision not in ("split", "single"):
            raise ParameterError(
                f"GibbsChain: precision {precision!r}, expected 'split' or 'single'"
            )
        if W.ndim != 2 or W.dtype not in (np.float32, np.float64):
            raise ParameterError(
                f"GibbsChain: W {W.shape} of {W.dtype}, expected a matrix of float32 or float64"
            )
        if visible_bias.shape != W.shape[:1] or hidden_bias.shape != W.shape[1:]:
            raise ParameterError(
                f"GibbsChain: W {W.shape} with biases {visible_bias.shape} and {hidden_bias.shape},"
                " expected one bias for each row and column of W"
            )
        for bias in (visible_bias, hidden_bias):
            # a kernel reads them where they lie, and sees neither dtype nor strides
            if bias.dtype != W.dtype or not bias.flags.c_contiguous:
                raise ParameterError(
                    f"GibbsChain: bias of {bias.dtype}, strides {bias.strides}, expected a "
                    f"contiguous one of W's {W.dtype}"
                )
        if n_chains < 1:
            raise ParameterError(f"GibbsChain: {n_chains} chains, expected at least 1")
        if getattr(beta, "shape", ()) not in ((), (1,), (1, 1), (n_chains,), (n_chains, 1)):
            raise ParameterError(
                f"GibbsChain: beta {beta.shape}, expected a number or ({n_chains}, 1)"
            )
        self.W, self.biases, self.units = W, (visible_bias, hidden_bias), (visible, hidden)
        self.n_chains = n_chains
        self.rng = rng.spawn(1)[0]
        self._xp = get_array_module(W, visible_bias, hidden_bias)
        self._device = device_of(W)
        on_gpu = self._xp is not np
        self._capture = capture and on_gpu
        with on(self._device):
            self.beta = self._beta_array(beta, on_gpu)
            self._split = on_gpu and precision == "split" and self._has_tensor_cores()
            self._engine: _OnHost | _OnDevice = (
                _OnDevice(self, self._split) if on_gpu else _OnHost(self)
            )
            self.update_parameters()
            start = self._xp.full((n_chains, W.shape[0]), 0.5, dtype=W.dtype)
            ising = visible == "ising"
            self.v = (self.rng.spins if ising else self.rng.bernoulli)(start - 0.5 * ising)

    def _beta_array(self, beta: Any, on_gpu: bool) -> Any:
        if beta is None or not on_gpu:
            return beta
        if not hasattr(beta, "ndim") or beta.ndim == 0:
            return self._xp.full((1, 1), beta, dtype=self.W.dtype)
        return self._xp.ascontiguousarray(beta).astype(self.W.dtype, copy=False)

    def _has_tensor_cores(self) -> bool:
        capable = int(self._xp.cuda.Device().compute_capability) >= 80
        return capable and self.W.dtype == np.float32

    @property
    def precision(self) -> str:
        """Which product is in use: "split" or "single"."""
        return "split" if self._split else "single"

    @property
    def v(self) -> Any:
        """The visible units, shape (chains, visible units), in the dtype of W."""
        return self._engine.read(0)

    @v.setter
    def v(self, value: Any) -> None:
        if value.shape != (self.n_chains, self.W.shape[0]):
            raise ParameterError(
                f"GibbsChain: v {value.shape}, expected {(self.n_chains, self.W.shape[0])}"
            )
        with on(self._device):
            self._engine.write(0, value)

    @property
    def h(self) -> Any:
        """The hidden units that the present visible units were drawn from."""
        return self._engine.read(1)

    def update_parameters(self) -> None:
        """Take note that `W` has changed."""
        with on(self._device):
            self._engine.update_parameters()

    def run(self, k: int = 1) -> "GibbsChain":
        """Make `k` steps, each up and down, and return the chain."""
        if k < 1:
            raise ParameterError(f"GibbsChain.run: k = {k}, expected at least 1")
        with on(self._device):
            self._engine.run(k)
        return self

    @property
    def state(self) -> dict[str, Any]:
        """What a checkpoint needs: the visible and hidden units and the generator's state."""
        return {"v": self.v, "h": self.h, "rng": self.rng.state}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from a `state`, bit for bit."""
        self.v = state["v"]
        with on(self._device):
            self._engine.write(1, state["h"])
        self.rng.set_state(state["rng"])


class _OnHost:
    """The plain loop, in arrays made once."""

    def __init__(self, chain: GibbsChain) -> None:
        self.chain = chain
        shapes = [(chain.n_chains, n) for n in chain.W.shape]
        self.units = [np.zeros(shape, chain.W.dtype) for shape in shapes]
        self.fields = [np.empty(shape, chain.W.dtype) for shape in shapes]

    def read(self, layer: int) -> np.ndarray:
        return self.units[layer]

    def write(self, layer: int, value: np.ndarray) -> None:
        self.units[layer][...] = value

    def update_parameters(self) -> None:
        pass

    def run(self, k: int) -> None:
        W = self.chain.W
        with one_blas_thread(2 * W.size * self.chain.n_chains * k):
            for _ in range(k):
                self._half_step(1, W)
                self._half_step(0, W.T)

    def _half_step(self, layer: int, weights: np.ndarray) -> None:
        chain, field = self.chain, self.fields[layer]
        product(self.units[1 - layer], weights, out=field)
        sample_units(
            field,
            chain.biases[layer],
            unit=chain.units[layer],
            draw=chain.rng.reserve(field.size, field_bits(field.dtype)),
            beta=chain.beta,
            out=self.units[layer],
        )


class _OnDevice:
    """One product and one kernel to a half-step, captured in graphs."""

    def __init__(self, chain: GibbsChain, split: bool) -> None:
        self.chain, self.split = chain, split
        xp, W = chain._xp, chain.W
        self.lengths = [_padded(n) for n in W.shape]
        self.copies = 3 if split else 1
        kind = np.dtype(np.uint16) if split else W.dtype
        # The padding stays zero: the kernel never writes it, and it meets zero weights.
        self.units = [xp.zeros((chain.n_chains, self.copies * n), kind) for n in self.lengths]
        self.fields = [xp.empty((chain.n_chains, n), W.dtype) for n in self.lengths]
        # weights[layer], of shape (units of the layer, stacked units of the other), gives the
        # field on `layer`.
        lengths = self.lengths
        self.weights = [
            xp.zeros((W.shape[layer], self.copies * lengths[1 - layer]), kind) for layer in (0, 1)
        ]
        self.state = xp.zeros((8,), np.uint64)
        self.state_counter: tuple[Any, int] | None = None
        self.stream = xp.cuda.Stream(non_blocking=True)
        self.graphs: dict[int, Any] = {}
        self.scale = (np.ones((), W.dtype), np.zeros((), W.dtype))

    def read(self, layer: int) -> Any:
        n = self.chain.W.shape[layer]
        units = self.units[layer][:, :n]
        if not self.split:
            return units.copy()
        return (units.astype(np.uint32) << np.uint32(16)).view(np.float32)

    def write(self, layer: int, value: Any) -> None:
        n, length = self.chain.W.shape[layer], self.lengths[layer]
        if self.split:
            value = self.chain._xp.ascontiguousarray(value.astype(np.float32))
            value = (value.view(np.uint32) >> np.uint32(16)).astype(np.uint16)
        for copy in range(self.copies):
            self.units[layer][:, copy * length : copy * length + n] = value

    def update_parameters(self) -> None:
        xp, W = self.chain._xp, self.chain.W
        parts = split_bfloat16(xp, W) if self.split else W[None]
        for part in range(self.copies):
            for layer, matrix in enumerate((parts[part], parts[part].T)):
                start = part * self.lengths[1 - layer]
                self.weights[layer][:, start : start + matrix.shape[1]] = matrix

    def run(self, k: int) -> None:
        self._upload_state()
        cp, here = self.chain._xp, self.chain._xp.cuda.get_current_stream()
        self.stream.wait_event(here.record())
        with self.stream:
            for steps in [STEPS_PER_GRAPH] * (k // STEPS_PER_GRAPH) + [k % STEPS_PER_GRAPH]:
                if steps and self.chain._capture:
                    self._graph(cp, steps).launch(self.stream)
                else:
                    self._steps(steps)
        here.wait_event(self.stream.record())
        rng = self.chain.rng
        for field in self.fields[::-1] * k:
            rng.reserve(field.shape[0] * self._n_units(field), 16)
        self.state_counter = (rng.key, rng.counter)

    def _n_units(self, field: Any) -> int:
        return self.chain.W.shape[0 if field is self.fields[0] else 1]

    def _upload_state(self) -> None:
        """Bring the counter on the device to where the generator stands, if it is elsewhere."""
        rng = self.chain.rng
        if self.state_counter == (rng.key, rng.counter):
            return
        words = [*rng.key, *counter_words(rng.counter), 0, 0]
        self.state[...] = self.chain._xp.asarray(np.array(words, np.uint64))

    def _graph(self, cp: Any, steps: int) -> Any:
        graph = self.graphs.get(steps)
        if graph is None:
            # cuBLAS and the module loader allocate at first use, which a capture forbids: make one
            # step, then put back what it changed.
            kept = [self.state.copy(), *(units.copy() for units in self.units)]
            self._steps(1)
            for array, before in zip((self.state, *self.units), kept, strict=True):
                array[...] = before
            self.stream.synchronize()
            self.stream.begin_capture()
            try:
                self._steps(steps)
            finally:
                graph = self.stream.end_capture()
            if len(self.graphs) >= 4:
                self.graphs.pop(next(iter(self.graphs)))
            self.graphs[steps] = graph
        return graph

    def _steps(self, steps: int) -> None:
        for _ in range(steps):
            self._half_step(1)
            self._half_step(0)

    def _half_step(self, layer: int) -> None:
        chain, field, units = self.chain, self.fields[layer], self.units[layer]
        multiply(chain._xp, self.units[1 - layer], self.weights[layer], field, self.scale)
        name, args = kernel_call(
            field,
            chain.biases[layer],
            chain.beta,
            unit=chain.units[layer],
            state=self.state,
            sample=units,
            units=chain.W.shape[layer],
            copies=self.copies,
            copy_stride=self.lengths[layer] if self.copies > 1 else 0,
            sample_type="__nv_bfloat16" if self.split else None,
        )
        cuda.launch("gibbs.cu", name, field, -(-chain.n_chains * chain.W.shape[layer] // 16), args)


def multiply(cp: Any, units: Any, weights: Any, field: Any, scale: tuple[Any, Any]) -> None:
    """``field[:, :m] = units @ weights.T``, by cuBLAS, without a temporary.

    Parameters
    ----------
    cp : module
        CuPy.
    units : array, shape (n, length)
    weights : array, shape (m, length)
        Of the type of `units`: float32, float64, or uint16 for the bits of bfloat16.
    field : array, shape (n, at least m), float32 or float64
    scale : tuple of two host arrays of shape (), in the type of `field`
        One and zero; cuBLAS reads them when it is called.
    """
    cublas, runtime = cp.cuda.cublas, cp.cuda.runtime
    real = {4: runtime.CUDA_R_32F, 8: runtime.CUDA_R_64F}
    inputs = runtime.CUDA_R_16BF if units.dtype == np.uint16 else real[units.dtype.itemsize]
    output = real[field.dtype.itemsize]
    compute = {4: cublas.CUBLAS_COMPUTE_32F, 8: cublas.CUBLAS_COMPUTE_64F}[field.dtype.itemsize]
    (n, length), m = units.shape, weights.shape[0]
    # cuBLAS counts columns first: row-major field (n, m) is its (m, n) matrix, weights times
    # units transposed.
    gemm_ex = cublas.gemmEx
    if cp.cuda.get_current_stream().is_capturing():
        gemm_ex = _unwrapped_gemm_ex(cublas.__file__)
    status = gemm_ex(
        cp.cuda.device.get_cublas_handle(),
        cublas.CUBLAS_OP_T,
        cublas.CUBLAS_OP_N,
        m,
        n,
        length,
        scale[0].ctypes.data,
        weights.data.ptr,
        inputs,
        length,
        units.data.ptr,
        inputs,
        length,
        scale[1].ctypes.data,
        field.data.ptr,
        output,
        field.shape[1],
        compute,
        cublas.CUBLAS_GEMM_DEFAULT,
    )
    if status:
        raise KernelError(f"GibbsChain: cublasGemmEx failed with status {status}")


@cache
def _unwrapped_gemm_ex(module_file: str) -> Any:
    """cublasGemmEx of the library that CuPy's module `cublas` is linked with.

    CuPy's functions refuse to call cuBLAS while a stream is captured (NotImplementedError), which
    cuBLAS itself allows. They also tell the handle its stream; here it keeps that of the last call,
    the warming up on the stream that is now captured.
    """
    # Symbols are looked up in what a loaded file depends on, too: no second copy of the library.
    function = ctypes.CDLL(module_file).cublasGemmEx
    integer, address = ctypes.c_int, ctypes.c_void_p
    matrix = (address, integer, integer)
    function.argtypes = (
        *(address, integer, integer, integer, integer, integer, address),
        *(*matrix, *matrix, address, *matrix, integer, integer),
    )
    function.restype = integer
    return function
