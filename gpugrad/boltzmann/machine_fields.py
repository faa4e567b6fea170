"""What the units of a machine hear of each other: fields, and a layer given its neighbours."""

from typing import Any

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.machine_parameters import MachineParameters
from gpugrad.boltzmann.state import State, check_layers, namespace_for
from gpugrad.errors import ParameterError

__all__ = ["MachineFields"]


class MachineFields(MachineParameters):
    """The fields in a `BoltzmannMachine`, and its conditional distributions."""

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

    def connected(self, layer: int, state: State) -> tuple[list[Any], list[Any]]:
        """What the units of a layer are coupled to: rescaled units, and the couplings to them.

        The layers beside it, and the layer itself where it has lateral couplings.

        Returns
        -------
        units : list of array (num_samples, num_connected_units)
        weights : list of array (num_connected_units, num_units)
        """
        units, weights = self._neighbours(layer, state)
        if layer in self.lateral:
            units.append(self.layers[layer].rescale(state[layer]))
            weights.append(self.lateral[layer].J())
        return units, weights

    def field(self, layer: int, state: State, *, out: Any = None) -> Any:
        """The field that the layers beside it send, (num_samples, num_units), without loc.

        Lateral couplings are not in it; see `local_field`.
        """
        if self.num_layers == 1:
            xp = namespace_for(state[0])
            return xp.zeros((state.num_samples, self.layers[0].num_units), dtype=self.dtype)
        return self.layers[layer].field(*self._neighbours(layer, state), out=out)

    def local_field(self, layer: int, state: State) -> Any:
        """The field on each unit of a layer from all others, (num_samples, num_units), without loc.

        Given all other units of the machine a unit has the distribution of a free one in this
        field: log p(s_i | rest) = (loc_i + phi_i) s_i - log_partition_function(phi_i) for
        two-valued units.
        """
        phi = self.field(layer, state)
        if layer in self.lateral:
            phi += self.lateral[layer].field(self.layers[layer].rescale(state[layer]))
        return phi

    # ---- one layer given its neighbours

    def _given_neighbours(
        self, function: str, layer: int, state: State
    ) -> tuple[list[Any], list[Any]]:
        if layer not in range(self.num_layers):
            raise ParameterError(
                f"{function}: layer is {layer!r}, expected one of 0 ... {self.num_layers - 1}"
            )
        if layer in self.lateral:
            raise ParameterError(
                f"{function}: layers[{layer}] has lateral couplings, so that its distribution "
                "given the other layers has no closed form; gibbs draws from it, mean_field "
                "approximates its means, local_field gives that of one unit given all others"
            )
        beside = [i for i in (layer - 1, layer + 1) if i in range(self.num_layers)]
        check_layers(function, self, state, given=beside)
        units, weights = self._neighbours(layer, state)
        if not units:  # one layer, nothing to be given: the field is 0 for every sample
            xp = namespace_for(self.layers[0].params[0])
            rows = next((len(x) for x in state if x is not None), 1)
            size = self.layers[0].num_units
            units = [xp.zeros((rows, 1), dtype=self.dtype)]
            weights = [xp.zeros((1, size), dtype=self.dtype)]
        return units, weights

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

        Raises
        ------
        ParameterError
            A layer with lateral couplings: there is no closed form.
        """
        neighbours = self._given_neighbours("conditional_mean", layer, state)
        return self.layers[layer].conditional_mean(*neighbours, beta=beta)

    def conditional_mode(self, layer: int, state: State, beta: Any = None) -> Any:
        """Most probable state of a layer's units given the other layers of `state`."""
        neighbours = self._given_neighbours("conditional_mode", layer, state)
        return self.layers[layer].conditional_mode(*neighbours, beta=beta)

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
        neighbours = self._given_neighbours("conditional_sample", layer, state)
        return self.layers[layer].conditional_sample(*neighbours, beta=beta, rng=rng, out=out)
