"""The Boltzmann machine: layers of units, one coupling between neighbours, no couplings inside.

layers[0] --weights[0]-- layers[1] --weights[1]-- layers[2] ...
 visible                  hidden

E(s) = sum_l E_l(s_l) - sum_l s_l . W_l . s_(l+1)          p(s) = exp(-beta E(s)) / Z(beta)
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from gpugrad.backend.array_module import current_device, get_array_module
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.gradient_util import Gradient, named_arrays
from gpugrad.boltzmann.layers.layer import Layer, get
from gpugrad.boltzmann.layers.unit_layer import UnitLayer
from gpugrad.boltzmann.layers.weights import Weights
from gpugrad.boltzmann.state import State, check_beta, namespace_for
from gpugrad.errors import ParameterError

__all__ = ["RBM", "BoltzmannMachine"]


class BoltzmannMachine:
    """A machine of two or more layers of units, each coupled to its neighbours.

    Parameters
    ----------
    layers : sequence of UnitLayer
        Visible layer first. The machine takes the layers over: it changes them in place.
    dtype : dtype, optional
        Of all parameters; float16, float32 or float64.
    device : str or Device, optional
        Of all parameters; the current device if None.
    weights : sequence of Weights, optional
        One a pair of neighbours; drawn by `Weights` if None.
    rng : Generator, optional
        The generator that new weights are drawn from.

    Attributes
    ----------
    layers : list of UnitLayer
    weights : list of Weights
        `weights[i]` couples `layers[i]` (rows) with `layers[i + 1]` (columns).
    """

    def __init__(
        self,
        layers: Sequence[UnitLayer],
        *,
        dtype: Any = "float32",
        device: Any = None,
        weights: Sequence[Weights] | None = None,
        rng: Generator | None = None,
    ) -> None:
        self.layers = list(layers)
        if len(self.layers) < 2 or not all(isinstance(x, UnitLayer) for x in self.layers):
            raise ParameterError(
                f"BoltzmannMachine: layers are {self.layers!r}, expected two or more unit layers"
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
        for part in (*self.layers, *self.weights):
            part.convert(dtype=dtype, device=place)

    def __repr__(self) -> str:
        layers = " - ".join(f"{layer.num_units} {layer.layer_type}" for layer in self.layers)
        return f"BoltzmannMachine({layers}, {self.dtype}, {self.device})"

    # ---- parameters

    @property
    def num_layers(self) -> int:
        """Number of layers of units."""
        return len(self.layers)

    @property
    def dtype(self) -> Any:
        """Dtype of the parameters."""
        return self.weights[0].dtype

    @property
    def device(self) -> Any:
        """Device of the parameters."""
        return self.weights[0].device

    def params(self) -> Any:
        """The parameters in the structure of a gradient: live arrays, not copies."""
        return Gradient([x.params for x in self.layers], [w.params for w in self.weights])

    def parameters(self) -> dict[str, Any]:
        """The parameters by name: "layers.0.loc", "layers.1.loc", ..., "weights.0.matrix".

        The arrays are the machine's own; a parameter step shows in them.
        """
        return dict(named_arrays(self.params()))

    def set_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Replace parameters by copies of the given arrays, named as `parameters` names them.

        Raises
        ------
        ParameterError
            For an unknown name or another shape; then nothing is replaced.
        """
        by_part: dict[tuple[str, int], dict[str, Any]] = {}
        own = self.parameters()
        for name, value in parameters.items():
            if name not in own:
                raise ParameterError(
                    f"set_parameters: no parameter {name!r}, expected one of {list(own)}"
                )
            if tuple(value.shape) != tuple(own[name].shape):
                raise ParameterError(
                    f"set_parameters: {name} has shape {tuple(value.shape)}, "
                    f"expected {tuple(own[name].shape)}"
                )
            group, index, field = name.split(".")
            by_part.setdefault((group, int(index)), {})[field] = value
        for (group, place), values in by_part.items():
            getattr(self, group)[place].set_params(values)

    def to_device(self, device: Any) -> "BoltzmannMachine":
        """Move the parameters to a device, in place; returns the machine."""
        for part in (*self.layers, *self.weights):
            part.convert(device=device)
        return self

    def copy(self, *, dtype: Any = None, device: Any = None) -> "BoltzmannMachine":
        """A machine with the same configuration and its own copies of the parameters."""
        config = self.config()
        other = type(self).from_config(config, device=self.device if device is None else device)
        if dtype is not None:
            for part in (*other.layers, *other.weights):
                part.convert(dtype=dtype)
        other.set_parameters(self.parameters())
        return other

    # ---- one layer given its neighbours

    def _neighbours(self, layer: int, state: State) -> tuple[list[Any], list[Any]]:
        """Rescaled units of the connected layers and the weights that lead to this one."""
        units, weights = [], []
        if layer > 0:
            units.append(self.layers[layer - 1].rescale(state[layer - 1]))
            weights.append(self.weights[layer - 1].W())
        if layer < self.num_layers - 1:
            units.append(self.layers[layer + 1].rescale(state[layer + 1]))
            weights.append(self.weights[layer].W_T())
        return units, weights

    def field(self, layer: int, state: State, *, out: Any = None) -> Any:
        """The field that the neighbours of a layer send, (num_samples, num_units), without loc."""
        return self.layers[layer].field(*self._neighbours(layer, state), out=out)

    def conditional_mean(self, layer: int, state: State, beta: Any = None) -> Any:
        """Mean of a layer's units given the other layers of `state`.

        Parameters
        ----------
        layer : int
            0 is the visible layer.
        state : State
            The entry of `layer` itself is not looked at and may be None.
        beta : float or array (num_samples, 1), optional
            Inverse temperatures.
        """
        return self.layers[layer].conditional_mean(*self._neighbours(layer, state), beta)

    def conditional_mode(self, layer: int, state: State, beta: Any = None) -> Any:
        """Most probable state of a layer's units given the other layers of `state`."""
        return self.layers[layer].conditional_mode(*self._neighbours(layer, state), beta)

    def conditional_sample(
        self,
        layer: int,
        state: State,
        beta: Any = None,
        *,
        rng: Generator | None = None,
        out: Any = None,
    ) -> Any:
        """A state of a layer's units drawn given the other layers of `state`."""
        neighbours = self._neighbours(layer, state)
        return self.layers[layer].conditional_sample(*neighbours, beta, rng=rng, out=out)

    # ---- states

    def random_state(self, num_samples: int, *, rng: Generator | None = None) -> State:
        """A state with every layer drawn as if it had no neighbours."""
        return State(tuple(x.random((num_samples, x.num_units), rng=rng) for x in self.layers))

    def data_state(self, visible: Any, beta: Any = None) -> State:
        """Visible units clamped to data, hidden units at their exact conditional means.

        Raises
        ------
        ParameterError
            For a machine of more than two layers, whose hidden means have no closed form.
        """
        self._two_layers("data_state")
        return State((visible, self.conditional_mean(1, State((visible, None)), beta)))

    def _two_layers(self, function: str) -> None:
        if self.num_layers != 2:
            raise ParameterError(
                f"{function}: the machine has {self.num_layers} layers, expected 2: with more, "
                "the hidden units cannot be summed out"
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
        total = sum(x.energy(units) for x, units in zip(self.layers, state, strict=True))
        for i, weights in enumerate(self.weights):
            lower = self.layers[i].rescale(state[i])
            upper = self.layers[i + 1].rescale(state[i + 1])
            total = total + weights.energy(lower, upper)
        return total

    def marginal_free_energy(self, v: Any, beta: Any = None) -> Any:
        """F_beta(v) = beta E_visible(v) - sum_j log sum over h_j of exp(-beta E(h_j | v)).

        exp(-F_beta(v)) / Z(beta) is the probability of v at inverse temperature beta; F_beta is not
        beta times F_1. Two layers only.

        Parameters
        ----------
        v : array or Tensor (num_samples, num_visible)
        beta : float or array (num_samples, 1), optional

        Returns
        -------
        array or Tensor (num_samples,)
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
        self._two_layers("free_energy")
        check_beta("free_energy", beta, v.shape[0])
        xp = namespace_for(v, beta, *parameters.values())
        visible, hidden = self.layers
        lower, upper = (
            x.Params(*(parameters[f"layers.{i}.{name}"] for name in x.Params._fields))
            for i, x in enumerate(self.layers)
        )
        phi = xp.matmul(visible.rescale(v), parameters["weights.0.matrix"])
        energy = visible.unit_energy(xp, lower, v)
        if beta is not None:
            energy = energy * (beta[:, 0] if getattr(beta, "shape", ()) else beta)
        return energy - xp.sum(hidden.unit_log_partition(xp, upper, phi, beta), axis=1)

    def free_energy_difference(
        self, parameters: Mapping[str, Any], v_data: Any, v_model: Any, sample_weight: Any = None
    ) -> Any:
        """<F(v)>_data - <F(v)>_model, the objective whose gradient is that of the likelihood.

        With v_model held fixed, its gradient with respect to the parameters equals
        `gradient(data_state(v_data), data_state(v_model))` where the layers have no penalties.

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
        rescaled = [x.rescale(units) for x, units in zip(self.layers, state, strict=True)]
        layers = [
            x.derivatives(state[i], *self._neighbours(i, state), sample_weight=sample_weight)
            for i, x in enumerate(self.layers)
        ]
        weights = [
            w.derivatives(rescaled[i], rescaled[i + 1], sample_weight=sample_weight)
            for i, w in enumerate(self.weights)
        ]
        return Gradient(layers, weights)

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
        means in either state; means have the smaller variance.

        Parameters
        ----------
        data_state, model_state : State
            The positive and the negative phase; their batches may differ in size.
        sample_weight : array (num_samples,), optional
            Weights of the data that add up to 1, in place of equal ones.
        offsets : sequence of array (num_units,), optional
            One a layer: give the centred gradient (see `centering`) in ordinary parameters.

        Returns
        -------
        Gradient
        """
        data, model = list(data_state), list(model_state)
        layers = []
        for i, x in enumerate(self.layers):
            first = x.derivatives(
                data[i], *self._neighbours(i, data_state), sample_weight=sample_weight
            )
            second = x.derivatives(model[i], *self._neighbours(i, model_state))
            layers.append(_difference(first, second))
        data = [x.rescale(units) for x, units in zip(self.layers, data, strict=True)]
        model = [x.rescale(units) for x, units in zip(self.layers, model, strict=True)]
        if offsets is not None:
            # centring the small arrays costs less than rank-one updates of the matrix
            data = [units - o for units, o in zip(data, offsets, strict=True)]
            model = [units - o for units, o in zip(model, offsets, strict=True)]
        weights = [
            _difference(
                w.derivatives(data[i], data[i + 1], sample_weight=sample_weight),
                w.derivatives(model[i], model[i + 1]),
            )
            for i, w in enumerate(self.weights)
        ]
        if offsets is not None:
            for i, (matrix,) in enumerate(weights):
                lower, upper = layers[i].loc, layers[i + 1].loc
                xp = get_array_module(matrix)
                lower -= xp.matmul(matrix, offsets[i + 1])
                upper -= xp.matmul(offsets[i], matrix)
        return Gradient(
            [_penalised(x, d) for x, d in zip(self.layers, layers, strict=True)],
            [_penalised(w, d) for w, d in zip(self.weights, weights, strict=True)],
        )

    def parameter_step(self, deltas: Any) -> None:
        """theta <- theta - delta in place, then the constraints.

        Parameters
        ----------
        deltas : Gradient
        """
        for part, delta in zip(self.layers, deltas.layers, strict=True):
            part.parameter_step(delta)
        for coupling, delta in zip(self.weights, deltas.weights, strict=True):
            coupling.parameter_step(delta)
        self.enforce_constraints()

    def enforce_constraints(self) -> None:
        """Apply every constraint of every layer and coupling."""
        for part in (*self.layers, *self.weights):
            part.enforce_constraints()

    def get_penalties(self) -> dict[str, float]:
        """Values of all penalties, named as the parameters they are on; waits for the device."""
        found = {}
        for group, parts in (("layers", self.layers), ("weights", self.weights)):
            for i, part in enumerate(parts):
                for name, value in part.get_penalties().items():
                    found[f"{group}.{i}.{name}"] = value
        return found

    # ---- configuration and files

    def config(self) -> dict[str, Any]:
        """Everything but the arrays, in a dictionary that JSON can hold."""
        return {
            "layers": [x.get_config() for x in self.layers],
            "weights": [w.get_config() for w in self.weights],
            "dtype": str(self.dtype),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *, device: Any = None) -> "BoltzmannMachine":
        """Build the machine that `config` described, with all parameters zero.

        Raises
        ------
        ParameterError
            For a dictionary that describes no machine.
        """
        try:
            layers, weights = config["layers"], config["weights"]
            dtype = config["dtype"]
        except (KeyError, TypeError) as error:
            raise ParameterError(
                f"BoltzmannMachine.from_config: {config!r} does not describe a machine"
            ) from error
        parts: list[Any] = [Layer.from_config(c) for c in layers]
        couplings: list[Any] = [Layer.from_config(c) for c in weights]
        return cls(parts, dtype=dtype, device=device, weights=couplings)

    def save(self, path: Any, **metadata: Any) -> None:
        """Write parameters and configuration to a file (safetensors and JSON, no pickle)."""
        from gpugrad.boltzmann.checkpoint import save_model

        save_model(self, path, **metadata)

    @staticmethod
    def load(path: Any, *, device: Any = None) -> "BoltzmannMachine":
        """Read a machine that `save` wrote.

        Raises
        ------
        ModelFileError
            For a file that is truncated, foreign, or of another version.
        """
        from gpugrad.boltzmann.checkpoint import load_model

        return load_model(path, device=device)


def _difference(first: Any, second: Any) -> Any:
    """first - second, written into the arrays of `first`."""
    for a, b in zip(first, second, strict=True):
        a -= b
    return first


def _penalised(layer: Layer, deriv: Any) -> Any:
    if not layer.penalties:
        return deriv
    return type(deriv)(
        **{name: layer.get_penalty_grad(d, name) for name, d in deriv._asdict().items()}
    )


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
        Unit types, as `layers.get` knows them: "bernoulli", "ising".
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
    kinds: list[Any] = [get(visible), get(hidden)]
    for kind in kinds:
        if not issubclass(kind, UnitLayer):
            raise ParameterError(f"RBM: {kind.__name__} is not a layer of units")
    layers = [
        kind(size, dtype=dtype, device=device)
        for kind, size in zip(kinds, (n_visible, n_hidden), strict=True)
    ]
    return BoltzmannMachine(layers, dtype=dtype, device=device, rng=rng)
