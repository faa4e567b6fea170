"""The gated recurrent unit."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np

from gpugrad.backend.array_module import check_same_device, device_of, to_device
from gpugrad.errors import LayerParameterError
from gpugrad.ops.recurrent import gru_states
from gpugrad.ops.shaping import as_tensor
from gpugrad.tensor import Tensor

__all__ = ["gru"]

_NAMES = ("X", "Uz", "Wz", "bz", "Ur", "Wr", "br", "Uh", "Wh", "bh")


def _checked(*given: Any) -> list[Tensor]:
    """The ten operands as tensors of shapes that fit each other."""
    xs = [as_tensor("gru", a) for a in given]
    check_same_device("gru", *(x.data for x in xs))
    x, bias = xs[0], xs[3]
    if x.ndim != 3:
        raise ValueError(f"gru: X has shape {x.shape}, expected (T, N, C)")
    if bias.ndim != 1:
        raise ValueError(f"gru: bz has shape {bias.shape}, expected (D,)")
    c, (d,) = x.shape[2], bias.shape
    for name, a in zip(_NAMES[1:], xs[1:], strict=True):
        expected = {"U": (c, d), "W": (d, d), "b": (d,)}[name[0]]
        if a.shape != expected:
            raise ValueError(
                f"gru: {name} has shape {a.shape}, expected {expected} "
                f"(X {x.shape}, bz {bias.shape})"
            )
    return xs


def _first_state(s0: Any, x: Tensor, d: int, constant: bool | None) -> Any:
    """What the states begin with, without a gradient."""
    if s0 is None:
        return 0.0
    if isinstance(s0, Tensor):
        if not (constant or s0.constant):
            raise ValueError(
                "gru: s0 is a tensor that takes a gradient, expected an array or a constant tensor"
            )
        s0 = s0.data
    elif not hasattr(s0, "dtype"):
        raise ValueError(
            f"gru: s0 is a {type(s0).__name__}, expected an array or a constant tensor"
        )
    check_same_device("gru", x.data, s0)
    shape = (x.shape[1], d)
    try:
        fits = np.broadcast_shapes(s0.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"gru: s0 has shape {s0.shape}, expected (N, D) = {shape}")
    return s0


def _masks(dropout: float, x: Tensor, d: int) -> tuple[Any, Any]:
    """0 where something is dropped, else 1 / (1 - dropout): for U, (3, 1, N, D); W, (3, D, D).

    Drawn on the host from NumPy's global generator, so that a seed gives the same masks in MyGrad,
    and on every device.
    """
    kept = 1 - dropout
    for_u, for_w = (
        np.random.binomial(1, kept, size=(3, *shape)) / kept
        for shape in ((1, x.shape[1], d), (d, d))
    )
    device = device_of(x.data)
    return to_device(for_u, device), to_device(for_w, device)


def gru(
    X: Any,
    Uz: Any,
    Wz: Any,
    bz: Any,
    Ur: Any,
    Wr: Any,
    br: Any,
    Uh: Any,
    Wh: Any,
    bh: Any,
    s0: Any = None,
    bp_lim: int | None = None,
    dropout: float = 0.0,
    constant: bool | None = None,
) -> Tensor:
    r"""The states of a gated recurrent unit that reads a sequence.

    At each time t = 1 ... T, for each of the N samples::

        Z[t] = sigmoid(X[t-1] Uz + S[t-1] Wz + bz)
        R[t] = sigmoid(X[t-1] Ur + S[t-1] Wr + br)
        H[t] = tanh(X[t-1] Uh + (R[t] * S[t-1]) Wh + bh)
        S[t] = (1 - Z[t]) * H[t] + Z[t] * S[t-1]

    All steps are one operation of the graph, and all its gradients come from one pass back in time.

    Parameters
    ----------
    X : array_like, shape (T, N, C)
        What is read: T times, N samples, C numbers each.
    Uz, Ur, Uh : array_like, shape (C, D)
        Weights from what is read to the gates.
    Wz, Wr, Wh : array_like, shape (D, D)
        Weights from the state to the gates.
    bz, br, bh : array_like, shape (D,)
        Biases of the gates.
    s0 : array or constant Tensor, shape (N, D), optional
        The first state; 0 by default. It takes no gradient.
    bp_lim : int, optional
        How many steps back a gradient is carried, from 0 to T - 1; all by default. With a limit
        the gradient of an early input lacks what it does to late states.
    dropout : float, optional
        The probability, in [0, 1), that an element of Wz, Wr, Wh is dropped, and an element of
        X Uz, X Ur, X Uh (of each sample the same elements at all times). What stays is divided by
        1 - dropout. The masks come from NumPy's global generator.
    constant : bool, optional
        True: the result takes no gradient.

    Returns
    -------
    Tensor, shape (T + 1, N, D)
        The states, the first one included. Of the operands' common dtype; float16 is computed in
        float32.

    Raises
    ------
    ValueError
        A shape is another; `s0` takes a gradient, or is no array.
    LayerParameterError
        `bp_lim` is no integer from 0 to T - 1; `dropout` lies outside [0, 1).
    DeviceMismatchError
        The arrays lie on different devices.

    References
    ----------
    K. Cho et al., "Learning phrase representations using RNN encoder-decoder for statistical
    machine translation", arXiv:1406.1078. Dropout of W: S. Merity et al., arXiv:1708.02182; of
    what is read: Y. Gal, Z. Ghahramani, arXiv:1512.05287.

    Examples
    --------
    With a bias of -1000 the gate Z is closed and every state is tanh of what is read:

    >>> import numpy as np
    >>> import gpugrad as gg
    >>> from gpugrad.nnet.layers.gru import gru
    >>> X = gg.tensor([[[0.0]], [[1.0]]])
    >>> no, one = np.zeros((1, 1)), np.ones((1, 1))
    >>> states = gru(X, no, no, [-1000.0], no, no, [0.0], one, no, [0.0])
    >>> states.data.ravel() == [0.0, 0.0, np.tanh(1.0)]
    array([ True,  True,  True])
    >>> states.sum().backward()
    >>> X.grad.ravel()
    array([1.        , 0.41997434])
    """
    xs = _checked(X, Uz, Wz, bz, Ur, Wr, br, Uh, Wh, bh)
    x, d = xs[0], xs[3].shape[0]
    limit = None
    if bp_lim is not None:
        if not isinstance(bp_lim, Integral) or not 0 <= bp_lim < x.shape[0]:
            raise LayerParameterError(
                f"gru: bp_lim is {bp_lim!r}, expected an integer from 0 to {x.shape[0] - 1}"
            )
        limit = int(bp_lim) if bp_lim < x.shape[0] - 1 else None
    if not 0.0 <= dropout < 1.0:
        raise LayerParameterError(f"gru: dropout is {dropout!r}, expected a number in [0, 1)")
    first = _first_state(s0, x, d, constant)
    drop = None
    if dropout:
        drop, for_w = _masks(dropout, x, d)
        for i, mask in zip((2, 5, 8), for_w, strict=True):
            xs[i] = xs[i] * mask.astype(xs[i].dtype)
        dtype = np.result_type(*(a.dtype for a in xs))
        drop = drop.astype(dtype if dtype.kind == "f" else np.float64)
    return gru_states(*xs, first, drop=drop, limit=limit, constant=constant)


def __getattr__(name: str) -> Any:
    if name == "GRUnit":  # the operation as a class, as MyGrad has it
        from gpugrad.creators import operation_class

        return operation_class("nnet.layers.gru", name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
