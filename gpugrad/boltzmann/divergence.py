"""How training that has diverged is noticed, and what its error says."""

import math
from typing import Any

from gpugrad.backend.array_module import asnumpy, get_array_module, on
from gpugrad.errors import DivergenceError

__all__ = ["divergence", "largest_values", "limit_of"]


def largest_values(model: Any) -> dict[str, float]:
    """Largest absolute value of each parameter; waits for the device, once."""
    parameters = model.parameters()
    with on(model.device):
        xp = get_array_module(next(iter(parameters.values())))
        peaks = [xp.max(xp.abs(p)).astype("float64") for p in parameters.values()]
        return dict(zip(parameters, asnumpy(xp.stack(peaks)).tolist(), strict=True))


def limit_of(model: Any, name: str, largest: float) -> float:
    """How large a parameter may be: `loc` of units with an unbounded range has no limit."""
    group, _, rest = name.partition(".")
    if group != "layers" or not rest.endswith(".loc"):
        return largest
    unbounded = model.layers[int(rest.split(".")[0])].growth != "bounded"
    return math.inf if unbounded else largest


def divergence(
    what: str,
    model: Any,
    *,
    step: int,
    last_good: int,
    rate: float,
    largest: float,
    unbounded: bool = False,
) -> DivergenceError:
    """The error to raise.

    Parameters
    ----------
    what : str
        What was found.
    model : BoltzmannMachine
    step, last_good : int
        The update after which it was found, and the last one after which all was well.
    rate : float
        Learning rate at the start: a schedule may have lowered it since.
    largest : float
        Limit of a parameter.
    unbounded : bool
        Whether it is unbounded units that have lost their partition function.
    """
    if step == 0:
        return DivergenceError(
            f"fit: {what} at step 0: the machine's starting parameters are not fit or too "
            f"large, expected finite ones of at most {largest:g}: start from a new machine"
        )
    advice = f"a learning rate below {rate:g}"
    if unbounded:
        advice += _beside_a_lower_rate(model)
    elif rate > 0.05:
        advice = "a learning rate of about 0.05"
    expected = "a partition function after every step" if unbounded else "finite values"
    return DivergenceError(
        f"fit: {what} at step {step} (all was well at step {last_good}; {model.dtype}), expected "
        f"{expected}: take {advice}"
    )


def _beside_a_lower_rate(model: Any) -> str:
    """What else keeps the partition function of a machine with unbounded units."""
    if any(layer.growth == "linear" for layer in model.layers):
        return ", a LogPenalty on the rates, or the constraint non_positive on the weights"
    # units that are off at the start need weights near the limit to explain any variance
    active = any(layer.layer_type == "relu" for layer in model.layers[1:])
    return (
        ", loc = 2 for hidden ReLU units at the start"
        * active
        + ", fewer hidden units, whitened data, or hidden units of two values, with which Gaussian "
        "units have a partition function whatever the weights"
    )
