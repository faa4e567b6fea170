"""What the samplers that exchange states along a ladder of distributions have in common.

The rungs of a ladder are paired with their neighbours, even pairs and odd pairs in turn,

    round 1     0 - 1   2 - 3   4 - 5          round 2     0   1 - 2   3 - 4   5

and a pair (i, j) exchanges its states x_i, x_j with probability min(1, r),

    log r = F_i(x_i) + F_j(x_j) - F_i(x_j) - F_j(x_i),

F_i being minus the log of the unnormalised density of rung i: the free energy of visible states, or
the energy of joint states. Whoever holds x needs only its own gain F_own(x) - F_partner(x): log r
is the sum of the two gains. Nothing here brings a value to the host.

References
----------
Okabe, Kawata, Okamoto and Mikami, "Replica-exchange Monte Carlo method for the isobaric-isothermal
ensemble", Chem. Phys. Lett. 335 (2001). Syed, Bouchard-Cote, Deligiannidis and Doucet,
"Non-reversible parallel tempering", J. R. Stat. Soc. B 84 (2022), for even and odd pairs in turn.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpugrad.backend.array_module import asnumpy, device_of, to_device
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.layers.spin import SpinLayer
from gpugrad.boltzmann.spin_sums import spin_log_partitions
from gpugrad.boltzmann.state import State, namespace_for
from gpugrad.errors import CheckpointError, ParameterError

__all__ = [
    "SwapInfo",
    "accept",
    "check_state",
    "count_swaps",
    "exchange",
    "hidden_units_sum_out",
    "joint_energy",
    "row_energy",
    "row_log_partition",
    "stored",
    "stored_units",
    "swap_pairs",
    "with_hidden_means",
]


@dataclass(frozen=True, slots=True)
class SwapInfo:
    """What a step with exchanges found on its way.

    Attributes
    ----------
    expected : State
        The states of the machine itself, (n_chains, ...), with odd layers at their conditional
        means: the negative phase of a gradient.
    accepted : array (rungs - 1,)
        Of each pair of neighbours, the sum over rounds and ladders of the probabilities min(1, r)
        with which an exchange was accepted.
    tried : numpy.ndarray of int (rungs - 1,)
        Exchanges tried.
    replica : array of int (rungs, n_chains)
        Which replica of its ladder is at each rung after the step; what `round_trips` counts.
    """

    expected: State
    accepted: Any
    tried: np.ndarray
    replica: Any

    @property
    def acceptance(self) -> np.ndarray:
        """Mean acceptance of each pair, (rungs - 1,), nan where none was tried; waits for the
        device."""
        with np.errstate(invalid="ignore"):
            return asnumpy(self.accepted) / self.tried


def swap_pairs(rungs: int, number: int) -> tuple[int, int]:
    """First rung of the first pair, and the number of pairs, of exchange round `number`.

    Even and odd pairs take turns; a ladder of two rungs has only the one pair.
    """
    first = 0 if rungs == 2 else number % 2
    return first, max(0, (rungs - first) // 2)


def accept(rng: Generator, gain: Any) -> tuple[Any, Any]:
    """Decide on exchanges.

    Parameters
    ----------
    rng : Generator
    gain : array (2 * pairs, n_chains)
        F_own(x) - F_partner(x) of the states at the lower and the upper rung of each pair.

    Returns
    -------
    accepted : array of bool (pairs, n_chains)
    probability : array (pairs, n_chains)
        min(1, r); an exchange with a nan in its gains is not made.
    """
    xp = namespace_for(gain)
    probability = xp.exp(xp.minimum(gain[0::2] + gain[1::2], 0))
    u = rng.uniform(tuple(probability.shape), "float64", device=device_of(gain))
    return u < probability, probability


def exchange(values: Any, accepted: Any, first: int) -> Any:
    """A copy of (rungs, n_chains) values in which the accepted pairs have changed places."""
    xp = namespace_for(values)
    pairs = accepted.shape[0]
    low, high = (slice(first + k, first + k + 2 * pairs, 2) for k in (0, 1))
    new = values.copy()
    new[low] = xp.where(accepted, values[high], values[low])
    new[high] = xp.where(accepted, values[low], values[high])
    return new


def count_swaps(accepted: Any, tried: np.ndarray, probability: Any, first: int) -> None:
    """Add a round's acceptance to the sums over rounds, in place."""
    pairs, chains = probability.shape
    here = slice(first, first + 2 * pairs, 2)
    accepted[here] += namespace_for(probability).sum(probability, axis=1)
    tried[here] += chains


def check_state(function: str, state: Any, expected: type) -> None:
    """Raise unless the state is one that `start` of this sampler makes."""
    if not isinstance(state, expected):
        raise ParameterError(
            f"{function}: state is {type(state).__name__}, expected the {expected.__name__} that "
            "start(rng, model, n_chains) returns"
        )


def hidden_units_sum_out(model: Any) -> bool:
    """Whether a machine's hidden units are independent of each other given the visible ones, and
    the other way round: two layers without couplings inside."""
    return model.num_layers == 2 and not model.lateral and not hasattr(model, "gibbs_sweep")


def with_hidden_means(model: Any, state: State) -> State:
    """The state with every odd layer at its conditional mean given the others.

    A layer with lateral couplings, which has no such mean in closed form, keeps its samples.
    """
    if hasattr(model, "gibbs_sweep"):
        return model.expected(state)
    units = list(state)
    for i in range(1, len(units), 2):
        if i not in model.lateral:
            units[i] = model.conditional_mean(i, state)
    return State(tuple(units))


def row_energy(layer: Any, units: Any) -> Any:
    """Energy of a layer alone, (rows,), float64; half precision is widened before the sum."""
    params = layer.params
    if units.dtype.itemsize < 4:
        units = units.astype("float32")
        params = type(params)(*(p.astype("float32") for p in params))
    return layer.unit_energy(namespace_for(units), params, units).astype("float64")


def joint_energy(model: Any, state: State) -> Any:
    """Energy of joint states, (rows,), float64; half precision is widened before the sums."""
    if model.dtype.itemsize < 4:
        state = State(tuple(x.astype("float32") for x in state))
        if hasattr(model, "gibbs_sweep"):  # an energy that is a function of its parameters
            own = {name: p.astype("float32") for name, p in model.parameters().items()}
            return model.energy(state, own).astype("float64")
        wide = copy.copy(model)
        wide.layers = [copy.copy(x) for x in model.layers]
        wide.weights = [copy.copy(w) for w in model.weights]
        wide.lateral = {i: copy.copy(x) for i, x in model.lateral.items()}
        for _, part in wide.parts():
            part.convert(dtype="float32")
        model = wide
    return model.energy(state).astype("float64")


def row_log_partition(layer: Any, params: Any, phi: Any, betas: Sequence[Any] = (None,)) -> list:
    """Sum over a layer's units of `unit_log_partition`, at one or more inverse temperatures each.

    Parameters
    ----------
    layer : UnitLayer
        Only its type is used.
    params : namedtuple
        Its parameters.
    phi : array (rows, num_units)
        Fields.
    betas : sequence of array (rows, 1) or None

    Returns
    -------
    list of array (rows,), float64
        One for each of the betas.
    """
    xp = namespace_for(phi)
    if phi.dtype.itemsize < 4:
        phi = phi.astype("float32")
        params = type(params)(*(p.astype("float32") for p in params))
    if isinstance(layer, SpinLayer) and isinstance(phi, np.ndarray):
        return spin_log_partitions(phi, params.loc, betas, layer.support)
    return [
        xp.sum(layer.unit_log_partition(xp, params, phi, beta), axis=1, dtype="float64")
        for beta in betas
    ]


def stored(arrays: Mapping[str, Any], name: str, like: Any) -> Any:
    """An array of a checkpoint, brought to the dtype and the device of the one that it replaces.

    Raises
    ------
    CheckpointError
        No array of that name, or one of another number of dimensions.
    """
    if name not in arrays:
        raise CheckpointError(f"with_arrays: no array {name!r}, found {sorted(arrays)}")
    array = arrays[name]
    if array.ndim != like.ndim:
        raise CheckpointError(
            f"with_arrays: {name} has shape {tuple(array.shape)}, expected {like.ndim} dimensions"
        )
    return to_device(array.astype(like.dtype), device_of(like))


def stored_units(arrays: Mapping[str, Any], like: State) -> State:
    """The arrays "units.0", "units.1", ... of a checkpoint as a State."""
    return State(tuple(stored(arrays, f"units.{i}", x) for i, x in enumerate(like)))
