"""The Boltzmann machine: layers of units, couplings between neighbours and, if wanted, inside.

layers[0] --weights[0]-- layers[1] --weights[1]-- layers[2] ...
 visible                  hidden                               lateral[l]: J inside layer l

E(s) = sum_l [ E_l(s_l) - 1/2 s_l . J_l . s_l ] - sum_l s_l . W_l . s_(l+1)
p(s) = exp(-beta E(s)) / Z(beta)

One layer with a J is the fully visible Boltzmann machine: an Ising or a Potts model.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any

from gpugrad.backend.array_module import current_device
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann import energy_gradient, mean_field
from gpugrad.boltzmann.lateral import Lateral, unit_size
from gpugrad.boltzmann.layers.layer import get
from gpugrad.boltzmann.layers.unit_layer import UnitLayer
from gpugrad.boltzmann.layers.weights import Weights
from gpugrad.boltzmann.machine_fields import MachineFields
from gpugrad.boltzmann.state import (
    State,
    check_beta,
    check_dtype,
    check_layers,
    check_visible,
    namespace_for,
    positive_int,
)
from gpugrad.errors import ParameterError

__all__ = ["RBM", "BoltzmannMachine", "check_boltzmann", "layers_of"]


class BoltzmannMachine(MachineFields):
    """A machine of layers of units, each coupled to its neighbours and, where wanted, in itself.

    Parameters
    ----------
    layers : sequence of UnitLayer
        Visible layer first; at least one. The machine takes the layers over: it changes them in
        place.
    dtype : dtype, optional
        Of all parameters; float16, float32 or float64.
    device : str or Device, optional
        Of all parameters; the current device if None.
    weights : sequence of Weights, optional
        One a pair of neighbours; drawn by `Weights` if None.
    lateral : dict of array or Lateral, optional
        {number of the layer: its J}, symmetric matrices (num_units, num_units) without diagonal.
        `Lateral` says which zeros of an array stay zero.
    rng : Generator, optional
        The generator that new weights are drawn from.

    Attributes
    ----------
    layers : list of UnitLayer
    weights : list of Weights
        `weights[i]` couples `layers[i]` (rows) with `layers[i + 1]` (columns).
    lateral : dict of Lateral
        By number of the layer; empty in most machines.

    Examples
    --------
    An Ising ring of six spins:

    >>> import numpy as np
    >>> from gpugrad.boltzmann.layers import IsingLayer
    >>> from gpugrad.boltzmann.model import BoltzmannMachine
    >>> ring = np.roll(np.eye(6), 1, axis=0) + np.roll(np.eye(6), -1, axis=0)
    >>> BoltzmannMachine([IsingLayer(6)], lateral={0: 0.4 * ring}, device="cpu")
    BoltzmannMachine(6 ising with J, float32, cpu)
    """

    def __init__(
        self,
        layers: Sequence[UnitLayer],
        *,
        dtype: Any = "float32",
        device: Any = None,
        weights: Sequence[Weights] | None = None,
        lateral: Mapping[int, Any] | None = None,
        rng: Generator | None = None,
    ) -> None:
        self.layers = list(layers)
        if not self.layers or not all(isinstance(x, UnitLayer) for x in self.layers):
            raise ParameterError(
                f"BoltzmannMachine: layers are {self.layers!r}, expected one or more unit layers"
            )
        if len({id(layer) for layer in self.layers}) < len(self.layers):
            raise ParameterError(
                f"BoltzmannMachine: layers are {self.layers!r}, expected different objects: two "
                "places cannot share parameters"
            )
        check_dtype("BoltzmannMachine", dtype)
        if lateral is not None and not isinstance(lateral, Mapping):
            raise ParameterError(
                f"BoltzmannMachine: lateral is {type(lateral).__name__}, expected a dict by number "
                "of the layer"
            )
        place = current_device() if device is None else device
        sizes = [layer.num_units for layer in self.layers]
        shapes = list(pairwise(sizes))
        if weights is None:
            weights = [Weights(s, rng=rng, dtype=dtype, device=place) for s in shapes]
        self.weights = list(weights)
        found = [tuple(w.W().shape) for w in self.weights]
        if found != shapes:
            raise ParameterError(
                f"BoltzmannMachine: weights have shapes {found}, expected {shapes}"
            )
        self.lateral = {i: self._couplings(i, (lateral or {})[i]) for i in sorted(lateral or {})}
        for _, part in self.parts():
            part.convert(dtype=dtype, device=place)
        self._check("BoltzmannMachine")

    def _couplings(self, i: int, given: Any) -> Lateral:
        if i not in range(self.num_layers):
            raise ParameterError(
                f"BoltzmannMachine: lateral names layer {i!r}, expected one of 0 ... "
                f"{self.num_layers - 1}"
            )
        width = unit_size(self.layers[i])
        lateral = given if isinstance(given, Lateral) else Lateral(given, unit_size=width)
        size = self.layers[i].num_units
        if (lateral.num_units, lateral.unit_size) != (size, width):
            raise ParameterError(
                f"BoltzmannMachine: lateral couplings of layer {i} are {lateral.J().shape} with "
                f"unit_size {lateral.unit_size}, expected {(size, size)} with unit_size {width}"
            )
        return lateral

    def __repr__(self) -> str:
        layers = " - ".join(
            f"{x.num_units} {x.layer_type}" + (" with J" if i in self.lateral else "")
            for i, x in enumerate(self.layers)
        )
        return f"BoltzmannMachine({layers}, {self.dtype}, {self.device})"

    # ---- states

    def random_state(self, num_samples: int, *, rng: Generator | None = None) -> State:
        """A state with every layer drawn as if it had no neighbours."""
        n = positive_int("random_state", "num_samples", num_samples)
        return State(tuple(x.random((n, x.num_units), rng=rng) for x in self.layers))

    def data_state(self, visible: Any, beta: Any = None) -> State:
        """Visible units clamped to data, hidden units at their exact conditional means.

        Raises
        ------
        ParameterError
            For a machine whose hidden means have no closed form: more than two layers, or lateral
            couplings between hidden units. `mean_field` approximates them there, and
            `gibbs(clamp={0: True})` samples them.
        """
        self._summable("data_state")
        check_visible("data_state", self, visible)
        if self.num_layers == 1:
            return State((visible,))
        return State((visible, self.conditional_mean(1, State((visible, None)), beta)))

    def mean_field(
        self,
        visible: Any = None,
        *,
        tolerance: float = 1e-6,
        max_steps: int = 1000,
        damping: float = 0.0,
        clamped: Mapping[int, Any] | None = None,
        start: State | None = None,
    ) -> mean_field.MeanField:
        """The product of independent units closest to the machine, given its visible units.

        Layers are updated in turn, units with lateral couplings colour by colour, until no mean
        changes. Where the hidden units are independent given the visible ones, as with two layers,
        one update is exact.

        Parameters
        ----------
        visible : array (num_samples, num_visible), optional
            Values of the visible layer, which are held; if None it is free like the others.
        tolerance : float
            Largest change of a mean at which the iteration ends; 0 makes max_steps steps and never
            looks at a value on the host.
        max_steps : int
        damping : float
            Part of the old means, in [0, 1), that each update keeps. None is needed to converge.
        clamped : dict of array, optional
            {number of the layer: values} of further layers to hold, as labels are.
        start : State, optional
            Means to start from; else each layer starts at its mean given the layer below. In zero
            field that is a symmetric point, which the iteration does not leave.

        Returns
        -------
        MeanField
            A `State` of means, with `steps` and `change`.

        Raises
        ------
        ConvergenceError
            The means still change by more than the tolerance after max_steps.
        """
        return mean_field.mean_field(
            self,
            visible,
            tolerance=tolerance,
            max_steps=max_steps,
            damping=damping,
            clamped=clamped,
            start=start,
        )

    def variational_bound(self, state: State, *, clamped: Collection[int] = (0,)) -> Any:
        """Lower bound of log sum over free units of exp(-E), one value a sample.

        With the visible units clamped and less log Z it bounds log p(v) from below; with nothing
        clamped it bounds log Z. It is that of independent units in the fields that `state` sends:
        exact for two layers, else highest where the means of `state` are those of `mean_field`.

        Parameters
        ----------
        state : State
            Means of the free layers, values of the clamped ones.
        clamped : collection of int
            Numbers of the layers that are held.

        Returns
        -------
        array (num_samples,)
        """
        return mean_field.variational_bound(self, state, clamped=clamped)

    def _summable(self, function: str) -> None:
        """Raise unless the hidden units can be summed out in closed form."""
        if self.num_layers > 2:
            raise ParameterError(
                f"{function}: the machine has {self.num_layers} layers, expected 2: with more, "
                "the hidden units cannot be summed out"
            )
        if 1 in self.lateral:
            raise ParameterError(
                f"{function}: the hidden units have lateral couplings, with which they cannot be "
                "summed out, expected none (visible units may have them)"
            )

    # ---- energies

    def energy(self, state: State) -> Any:
        """Energy of joint states, without any beta.

        Parameters
        ----------
        state : State of arrays or Tensors

        Returns
        -------
        array or Tensor (num_samples,)
        """
        check_layers("energy", self, state)
        total = sum(x.energy(units) for x, units in zip(self.layers, state, strict=True))
        for i, weights in enumerate(self.weights):
            lower = self.layers[i].rescale(state[i])
            upper = self.layers[i + 1].rescale(state[i + 1])
            total = total + weights.energy(lower, upper)
        for i, lateral in self.lateral.items():
            total = total + lateral.energy(self.layers[i].rescale(state[i]))
        return total

    def marginal_free_energy(self, v: Any, beta: Any = None) -> Any:
        """F_beta(v) = beta E_visible(v) - sum_j log sum over h_j of exp(-beta E(h_j | v)).

        exp(-F_beta(v)) / Z(beta) is the probability of v at inverse temperature beta; F_beta is not
        beta times F_1. The energy of the visible units includes their lateral couplings. Of one
        layer F_beta is beta E.

        Parameters
        ----------
        v : array or Tensor (num_samples, num_visible)
        beta : float or array (num_samples, 1), optional

        Returns
        -------
        array or Tensor (num_samples,)

        Raises
        ------
        ParameterError
            More than two layers, or lateral couplings between hidden units: no closed form.
        """
        return self.free_energy(self.parameters(), v, beta)

    def free_energy(self, parameters: Mapping[str, Any], v: Any, beta: Any = None) -> Any:
        """`marginal_free_energy` as a function of the parameters.

        Parameters
        ----------
        parameters : dict of array or Tensor
            Named as `parameters` names them. Of the machine itself only the types of its layers
            are used, so that the derivative with respect to the parameters is complete.
        v : array or Tensor (num_samples, num_visible)
        beta : float or array (num_samples, 1), optional
        """
        self._summable("free_energy")
        check_visible("free_energy", self, v)
        check_beta("free_energy", beta, v.shape[0])
        xp = namespace_for(v, beta, *parameters.values())
        params = [self.layer_params(i, parameters) for i in range(self.num_layers)]
        visible = self.layers[0]
        scaled = visible.unit_rescale(xp, params[0], v)
        energy = visible.unit_energy(xp, params[0], v)
        if 0 in self.lateral:
            energy = energy + Lateral.energy_of(xp, parameters["lateral.0.matrix"], scaled)
        if beta is not None:
            energy = energy * (beta[:, 0] if getattr(beta, "shape", ()) else beta)
        if self.num_layers == 1:
            return energy
        phi = xp.matmul(scaled, parameters["weights.0.matrix"])
        hidden = self.layers[1]
        return energy - xp.sum(hidden.unit_log_partition(xp, params[1], phi, beta), axis=1)

    def free_energy_difference(
        self, parameters: Mapping[str, Any], v_data: Any, v_model: Any, sample_weight: Any = None
    ) -> Any:
        """<F(v)>_data - <F(v)>_model, the objective whose gradient is that of the likelihood.

        With v_model held fixed, its gradient with respect to the parameters equals
        `gradient(data_state(v_data), data_state(v_model))` where the layers have no penalties;
        with respect to lateral couplings once `Lateral.of_pairs` has added up both entries of a
        pair.

        Parameters
        ----------
        parameters : dict of array or Tensor
        v_data, v_model : array or Tensor (num_samples, num_visible)
        sample_weight : array (num_samples,), optional
            Weights of the data that add up to 1, in place of equal ones.

        Returns
        -------
        0-d array or Tensor
        """
        positive = self.free_energy(parameters, v_data)
        negative = self.free_energy(parameters, v_model)
        xp = namespace_for(positive, negative)
        if sample_weight is None:
            return xp.mean(positive) - xp.mean(negative)
        return xp.sum(sample_weight * positive) - xp.mean(negative)

    # ---- gradient and step

    def derivatives(self, state: State, *, sample_weight: Any = None) -> Any:
        """Derivatives of the energy with respect to all parameters, averaged over the batch.

        Parameters
        ----------
        state : State
        sample_weight : array (num_samples,), optional
            Weights that add up to 1, in place of equal ones.

        Returns
        -------
        Gradient
        """
        return energy_gradient.derivatives(self, state, sample_weight=sample_weight)

    def gradient(
        self,
        data_state: State,
        model_state: State,
        *,
        sample_weight: Any = None,
        offsets: Sequence[Any] | None = None,
    ) -> Any:
        """Gradient of the negative log-likelihood: derivatives(data) - derivatives(model).

        Each penalty enters once, on the difference. Hidden units may be samples or conditional
        means in either state; means have the smaller variance. Gaussian units, whose energy is not
        linear in them, are given one way in both states (see `GaussianLayer.derivatives`). Layers
        with lateral couplings are given as samples, whose products the gradient averages, or as
        means of independent units (`mean_field`).

        Parameters
        ----------
        data_state, model_state : State
            The positive and the negative phase; their batches may differ in size.
        sample_weight : array (num_samples,), optional
            Weights of the data that add up to 1, in place of equal ones.
        offsets : sequence of array (num_units,), optional
            One a layer: give the centred gradient (see `centering`) in ordinary parameters. They
            are subtracted from the rescaled units.

        Returns
        -------
        Gradient
        """
        return energy_gradient.gradient(
            self, data_state, model_state, sample_weight=sample_weight, offsets=offsets
        )


def check_boltzmann(function: str, model: Any) -> None:
    """Raise a ParameterError unless this is a `BoltzmannMachine`."""
    if not isinstance(model, BoltzmannMachine):
        own = "; an EnergyMachine has log_partition and log_likelihoods as methods"
        raise ParameterError(
            f"{function}: the machine is of type {type(model).__name__}, expected a "
            f"BoltzmannMachine" + own * hasattr(model, "log_partition")
        )


def layers_of(
    function: str, kinds: Sequence[tuple[str, int]], *, dtype: Any, device: Any
) -> list[UnitLayer]:
    """New layers from pairs of a unit type, as `layers.get` knows it, and a number of units."""
    check_dtype(function, dtype)
    found = []
    for name, size in kinds:
        if str(name).lower().partition(":")[0] == "potts":
            raise ParameterError(
                f"{function}: units are {name!r}, expected units without a number of states: "
                "BoltzmannMachine([PottsLayer(sites, states), ...]) makes machines of Potts units"
            )
        kind: Any = get(name)
        if not issubclass(kind, UnitLayer):
            raise ParameterError(f"{function}: {kind.__name__} is not a layer of units")
        found.append(kind(size, dtype=dtype, device=device))
    return found


def RBM(
    n_visible: int,
    n_hidden: int,
    *,
    visible: str = "bernoulli",
    hidden: str = "bernoulli",
    dtype: Any = "float32",
    device: Any = None,
    rng: Generator | None = None,
) -> BoltzmannMachine:
    """A restricted Boltzmann machine: one visible and one hidden layer.

    Biases are zero, weights normal with standard deviation 0.01.

    Parameters
    ----------
    n_visible, n_hidden : int
    visible, hidden : str
        Unit types, as `layers.get` knows them: "bernoulli", "ising", "gaussian", "exponential",
        "relu", "truncated_exponential". Machines with Potts units, which need a number of states,
        are made by `BoltzmannMachine`.
    dtype : dtype, optional
    device : str or Device, optional
    rng : Generator, optional

    Returns
    -------
    BoltzmannMachine

    Examples
    --------
    >>> from gpugrad.boltzmann.model import RBM
    >>> RBM(784, 500, device="cpu")
    BoltzmannMachine(784 bernoulli - 500 bernoulli, float32, cpu)
    """
    kinds = [(visible, n_visible), (hidden, n_hidden)]
    layers = layers_of("RBM", kinds, dtype=dtype, device=device)
    return BoltzmannMachine(layers, dtype=dtype, device=device, rng=rng)
