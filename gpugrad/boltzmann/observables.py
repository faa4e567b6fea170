"""What physicists measure on chains: energy, specific heat, magnetisation, overlap, correlations.

A record of an observable is an array (steps, n_chains) or, for one of several components, (steps,
n_chains, components), on the host in float64; `record` makes it. Errors take the autocorrelation of
the chains into account (`diagnostics.mean_with_error`), those of variances and correlations by the
delta method: to leading order the error of <(x - <x>)^2> is that of the mean of (x - mean x)^2.

References
----------
Newman and Barkema, "Monte Carlo Methods in Statistical Physics" (Oxford, 1999), chapter 3.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from gpugrad.backend.array_module import asnumpy
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.diagnostics import MeanWithError, mean_with_error
from gpugrad.boltzmann.model import BoltzmannMachine
from gpugrad.boltzmann.state import State, namespace_for, positive_int
from gpugrad.errors import DataError, ParameterError

__all__ = [
    "Correlations",
    "Means",
    "connected_correlations",
    "energy",
    "magnetisation",
    "means",
    "overlap",
    "record",
    "specific_heat",
    "susceptibility",
]

Observable = Callable[[BoltzmannMachine, State], Any]


class Means(NamedTuple):
    """Means of the components of an observable.

    Attributes
    ----------
    mean, error, tau : numpy.ndarray (components,)
        Error with autocorrelation included; tau in recorded steps, nan where nothing changes.
    """

    mean: np.ndarray
    error: np.ndarray
    tau: np.ndarray


class Correlations(NamedTuple):
    """Connected correlations <s_i s_j> - <s_i><s_j>.

    Attributes
    ----------
    matrix, error : numpy.ndarray (components, components)
    """

    matrix: np.ndarray
    error: np.ndarray


# ---- observables of a state


def energy(model: BoltzmannMachine, state: State) -> Any:
    """Energy of joint states, (num_samples,)."""
    return model.energy(state)


def magnetisation(layer: int = 0) -> Observable:
    """The observable 1/N sum_i s_i over the N columns of a layer."""

    def observe(model: BoltzmannMachine, state: State) -> Any:
        if layer not in range(len(state)):
            raise ParameterError(
                f"magnetisation: layer is {layer!r}, the state has 0 ... {len(state) - 1}"
            )
        units = state[layer]
        return namespace_for(units).mean(units, axis=1)

    return observe


def overlap(first: Any, second: Any) -> Any:
    """1/N sum_i s_i s'_i of each pair of rows.

    Parameters
    ----------
    first, second : array (num_samples, num_units)
        States of independent copies (replicas), or a state and a pattern, (num_units,).

    Returns
    -------
    array (num_samples,)

    Raises
    ------
    ParameterError
        Shapes that do not fit.
    """
    a, b = (tuple(getattr(x, "shape", ())) for x in (first, second))
    rows = {shape[0] for shape in (a, b) if len(shape) == 2}
    if {len(a), len(b)} not in ({2}, {1, 2}) or a[-1] != b[-1] or len(rows - {1}) > 1:
        raise ParameterError(
            f"overlap: states have shapes {a} and {b}, expected (samples, units) of both, or "
            "(units,) of one"
        )
    return namespace_for(first, second).mean(first * second, axis=1)


def record(
    rng: Generator,
    model: BoltzmannMachine,
    step: Callable[..., Any],
    state: Any,
    observables: Mapping[str, Observable],
    *,
    steps: int,
    burn_in: int = 0,
) -> tuple[dict[str, np.ndarray], Any]:
    """Run chains and write down observables after each step.

    Parameters
    ----------
    rng : Generator
    model : BoltzmannMachine
    step : callable
        Any sampler: `state, info = step(rng, model, state)`. Of a sampler at several temperatures
        the states of the machine itself are looked at.
    state : State or the sampler's own
    observables : dict of callable
        `observable(model, state)` gives (num_samples,) or (num_samples, components).
    steps : int
        Steps to record, at least 1.
    burn_in : int
        Steps before that.

    Returns
    -------
    records : dict of numpy.ndarray (steps, num_samples) or (steps, num_samples, components)
        In float64.
    state
        The sampler's last.

    Examples
    --------
    >>> from gpugrad.backend.rng import Generator
    >>> from gpugrad.boltzmann import RBM, gibbs
    >>> from gpugrad.boltzmann.observables import energy, magnetisation, record
    >>> machine, rng = RBM(4, 2, rng=Generator(0), device="cpu"), Generator(1)
    >>> start = machine.random_state(10, rng=rng)
    >>> looked_at = {"E": energy, "m": magnetisation()}
    >>> found, _ = record(rng, machine, gibbs(), start, looked_at, steps=5)
    >>> found["E"].shape, found["m"].shape
    ((5, 10), (5, 10))
    """
    positive_int("record", "steps", steps)
    if burn_in < 0:
        raise ParameterError(f"record: burn_in is {burn_in!r}, expected at least 0")
    found: dict[str, list[np.ndarray]] = {name: [] for name in observables}
    for i in range(burn_in + steps):
        state, _ = step(rng, model, state)
        if i < burn_in:
            continue
        for name, observe in observables.items():
            # astype copies: a sampler may write over the state that it gave
            found[name].append(asnumpy(observe(model, state.cold)).astype("float64"))
    return {name: np.stack(values) for name, values in found.items()}, state


# ---- records to numbers with errors


def means(series: Any) -> Means:
    """Mean, error and autocorrelation time of each component of a record.

    Parameters
    ----------
    series : array (steps, n_chains, components)
    """
    columns = _components("means", series)
    found = [mean_with_error(x) for x in columns]
    return Means(*(np.array([getattr(f, name) for f in found]) for name in Means._fields))


def _components(function: str, series: Any) -> list[np.ndarray]:
    x = np.asarray(asnumpy(series), dtype="float64")
    if x.ndim != 3:
        raise DataError(
            f"{function}: series has shape {x.shape}, expected (steps, n_chains, components)"
        )
    return [x[:, :, i] for i in range(x.shape[2])]


def _variance(x: Any) -> tuple[float, float, float]:
    """Variance of a record, its error, and the autocorrelation time of the squares."""
    values = np.asarray(asnumpy(x), dtype="float64")
    about = mean_with_error(values)
    square = mean_with_error((values - about.mean) ** 2)
    # the mean was taken from the same chains: <(mean x - <x>)^2> is missing in the squares
    return square.mean + about.error**2, square.error, square.tau


def specific_heat(energies: Any, num_units: int, *, beta: float = 1.0) -> MeanWithError:
    """Specific heat a unit, beta^2 (<E^2> - <E>^2) / N, in units of the Boltzmann constant.

    Parameters
    ----------
    energies : array (steps, n_chains)
        Of chains at inverse temperature beta; the energy itself, without beta.
    num_units : int
        N.
    beta : float

    Returns
    -------
    MeanWithError
        `tau` is that of the squared deviations.
    """
    scale = beta**2 / positive_int("specific_heat", "num_units", num_units)
    value, error, tau = _variance(energies)
    return MeanWithError(scale * value, scale * error, tau, float("nan"))


def susceptibility(magnetisations: Any, num_units: int, *, beta: float = 1.0) -> MeanWithError:
    """Susceptibility a unit, beta N (<m^2> - <m>^2) with m the mean over N units.

    Parameters
    ----------
    magnetisations : array (steps, n_chains)
    num_units : int
    beta : float
    """
    scale = beta * positive_int("susceptibility", "num_units", num_units)
    value, error, tau = _variance(magnetisations)
    return MeanWithError(scale * value, scale * error, tau, float("nan"))


def connected_correlations(series: Any) -> Correlations:
    """<s_i s_j> - <s_i><s_j> of all pairs of components, variances on the diagonal.

    The time grows with the square of the number of components; a hundred take a few seconds for
    ten thousand values each.

    Parameters
    ----------
    series : array (steps, n_chains, components)
        Units of a layer, say: `record` with `lambda model, state: state[0]`.
    """
    columns = _components("connected_correlations", series)
    about = [x - x.mean() for x in columns]
    n = len(columns)
    matrix, error = np.empty((n, n)), np.empty((n, n))
    for i in range(n):
        for j in range(i + 1):
            found = mean_with_error(about[i] * about[j])
            matrix[i, j] = matrix[j, i] = found.mean
            error[i, j] = error[j, i] = found.error
    return Correlations(matrix, error)
