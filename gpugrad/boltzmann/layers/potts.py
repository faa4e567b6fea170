"""Potts units: sites with q states each, one-hot encoded, with energy -loc of the state."""

from collections import namedtuple
from typing import Any

from gpugrad.backend import special  # noqa: F401 (it makes the word logsumexp)
from gpugrad.boltzmann.layers.unit_layer import UnitLayer, batch_mean, scaled_by
from gpugrad.boltzmann.state import check_beta, namespace_for, positive_int
from gpugrad.errors import DataError, ParameterError

__all__ = ["ParamsPotts", "PottsLayer"]

ParamsPotts = namedtuple("ParamsPotts", ["loc"])


class PottsLayer(UnitLayer):
    """A layer of categorical units: each site is in one of q states.

    States are one-hot: a site takes q neighbouring columns, one of them 1 and the others 0, so that
    `num_units` is num_sites times num_states, which is the width that couplings see. The energy is
    -sum over sites of loc[site, state].

    Parameters
    ----------
    num_sites : int
    num_states : int
        q, at least 2.
    dtype : dtype, optional
    device : str or Device, optional

    Attributes
    ----------
    params : ParamsPotts
        `loc` (num_sites, num_states). A constant added to the row of a site changes nothing.

    Examples
    --------
    >>> import numpy as np
    >>> from gpugrad.boltzmann.layers import PottsLayer
    >>> layer = PottsLayer(2, 3, device="cpu")
    >>> layer.one_hot(np.array([[0, 2]]))
    array([[1., 0., 0., 0., 0., 1.]], dtype=float32)
    >>> layer.labels(np.array([[1., 0., 0., 0., 0., 1.]]))
    array([[0, 2]])
    """

    layer_type = "potts"
    Params = ParamsPotts
    support = (0.0, 1.0)
    data_range = (0.0, 1.0)

    def __init__(
        self,
        num_sites: int,
        num_states: int | None = None,
        *,
        dtype: Any = "float32",
        device: Any = None,
    ) -> None:
        self.num_sites = positive_int("PottsLayer", "num_sites", num_sites)
        self.num_states = positive_int("PottsLayer", "num_states", num_states)
        if self.num_states < 2:
            raise ParameterError("PottsLayer: num_states is 1, expected at least 2")
        super().__init__(self.num_sites * self.num_states, dtype=dtype, device=device)

    def _param_shape(self) -> tuple[int, ...]:
        return (self.num_sites, self.num_states)

    @property
    def neutral(self) -> float:  # type: ignore[override]
        """Mean of a column in zero field, 1/q."""
        return 1 / self.num_states

    def get_config(self) -> dict[str, Any]:
        """Type, sizes, dtype, penalties, constraints and number of samples seen."""
        return {
            **super().get_config(),
            "num_sites": self.num_sites,
            "num_states": self.num_states,
        }

    @classmethod
    def _from_config(cls, config: Any) -> "PottsLayer":
        return cls(config["num_sites"], config["num_states"], dtype=config["dtype"], device="cpu")

    # ---- labels

    def one_hot(self, labels: Any) -> Any:
        """States of the layer from the number of each site's state.

        Parameters
        ----------
        labels : array of int (num_samples, num_sites)
            In [0, num_states).

        Returns
        -------
        array (num_samples, num_units)

        Raises
        ------
        DataError
            Another width, or labels out of range.
        """
        xp = namespace_for(labels)
        if labels.ndim != 2 or labels.shape[1] != self.num_sites or labels.dtype.kind not in "iu":
            raise DataError(
                f"one_hot: labels are {labels.dtype} of shape {tuple(labels.shape)}, expected "
                f"integers (samples, {self.num_sites})"
            )
        if labels.size and not (0 <= int(xp.min(labels)) and int(xp.max(labels)) < self.num_states):
            raise DataError(
                f"one_hot: labels lie in [{int(xp.min(labels))}, {int(xp.max(labels))}], "
                f"expected [0, {self.num_states - 1}]"
            )
        hot = labels[:, :, None] == xp.arange(self.num_states)
        return hot.astype(self.dtype).reshape(labels.shape[0], self.num_units)

    def labels(self, units: Any) -> Any:
        """Number of each site's state (of the largest column), (num_samples, num_sites)."""
        xp = namespace_for(units)
        return xp.argmax(units.reshape(-1, self.num_sites, self.num_states), axis=2)

    def check_rows(self, data: Any, function: str) -> None:
        """Raise a DataError unless the columns of each site add up to 1."""
        xp = namespace_for(data)
        sums = xp.sum(data.reshape(-1, self.num_sites, self.num_states), axis=2, dtype="float64")
        wrong = xp.absolute(sums - 1) > 1e-3
        if bool(xp.any(wrong)):
            row, site = (int(i[0]) for i in xp.nonzero(wrong))
            raise DataError(
                f"{function}: the {self.num_states} columns of site {site} add up to "
                f"{float(sums[row, site]):g} in sample {row}, expected 1 (one-hot states, or "
                "probabilities)"
            )

    def largest_field(self, W: Any) -> Any:
        return W.reshape(-1, self.num_sites, self.num_states).max(axis=2).sum(axis=1)

    # ---- the unit

    @staticmethod
    def unit_energy(xp: Any, params: Any, units: Any) -> Any:
        """-sum over sites of loc of the site's state, one value a sample."""
        return -xp.matmul(units, params.loc.reshape(-1))

    @staticmethod
    def unit_log_partition(xp: Any, params: Any, phi: Any, beta: Any = None) -> Any:
        """log sum over states k of exp(beta (loc_k + phi_k)), one value a site."""
        return xp.logsumexp(_weights(params, phi, beta), axis=2)

    @staticmethod
    def unit_mean(xp: Any, params: Any, phi: Any, beta: Any = None) -> Any:
        """Probabilities of the states, softmax(beta (loc + phi)) over each site."""
        x = _weights(params, phi, beta)
        return xp.exp(x - xp.logsumexp(x, axis=2, keepdims=True)).reshape(phi.shape)

    @staticmethod
    def unit_mode(xp: Any, params: Any, phi: Any) -> Any:
        """The most probable state of each site, one-hot; the first of equally probable ones."""
        x = _weights(params, phi, None)
        best = xp.argmax(x, axis=2)[:, :, None]
        return (xp.arange(x.shape[2]) == best).astype(phi.dtype).reshape(phi.shape)

    @staticmethod
    def unit_sample(xp: Any, params: Any, phi: Any, noise: Any, beta: Any = None) -> Any:
        """One-hot states, by inversion of the cumulated probabilities; one random number a site."""
        x = _weights(params, phi, beta)
        p = xp.exp(x - xp.max(x, axis=2, keepdims=True))
        cumulated = xp.cumsum(p.astype(noise.dtype), axis=2)
        # The last bound is left out: rounding in the sum cannot lead beyond the last state.
        state = xp.sum(noise[:, :, None] * cumulated[:, :, -1:] >= cumulated[:, :, :-1], axis=2)
        return (xp.arange(x.shape[2]) == state[:, :, None]).astype(phi.dtype).reshape(phi.shape)

    def _noise_shape(self, field: Any) -> tuple[int, ...]:
        return (field.shape[0], field.shape[1] // self.num_states)  # of some of the sites, too

    @classmethod
    def sum_log_partition_(cls, xp: Any, params: Any, phi: Any, beta: Any = None) -> Any:
        return xp.sum(cls.unit_log_partition(xp, params, phi.T, beta), axis=1)

    def log_partition_function(self, phi: Any, A: Any = 0) -> Any:
        """log sum over states k of exp(loc_k + phi_k - A_k), one value a site.

        Parameters
        ----------
        phi : array or Tensor (num_samples, num_units)
            External field.
        A : array, Tensor or number, optional
            Diagonal quadratic interaction; columns are 0 or 1, so that it acts like a field.

        Returns
        -------
        array or Tensor (num_samples, num_sites)
        """
        field = phi - A
        return self.unit_log_partition(namespace_for(field, *self.params), self.params, field)

    def bridge(self, base: Any, beta: float) -> Any:
        return self.Params(self.params.loc + (1 / beta - 1) * base.loc)

    def derivatives(
        self, vis: Any, hid: Any, weights: Any, beta: Any = None, *, sample_weight: Any = None
    ) -> ParamsPotts:
        """Derivatives of the energy averaged over the batch: minus the states' frequencies.

        Takes what `GaussianLayer.derivatives` takes; the couplings do not depend on loc.

        Returns
        -------
        ParamsPotts
            `loc` (num_sites, num_states).
        """
        check_beta("derivatives", beta, vis.shape[0])
        mean = batch_mean(namespace_for(vis), vis, sample_weight)
        return ParamsPotts(-mean.reshape(self.num_sites, self.num_states))

    def online_param_update(self, data: Any) -> None:
        """Set loc to the log-frequencies of all the data seen so far, less their mean at each site.

        Any split of the data into batches gives the same parameters. Frequencies are at least
        1/(2n), so that a state that was never seen keeps a finite loc.

        Parameters
        ----------
        data : array (num_samples, num_units)
        """
        mean = self._running_mean(data).reshape(self.num_sites, self.num_states)
        xp = namespace_for(mean)
        loc = xp.log(xp.maximum(mean, 0.5 / self.sample_size))
        loc -= xp.mean(loc, axis=1, keepdims=True)
        self.params.loc[...] = loc.astype(self.dtype)


def _weights(params: Any, phi: Any, beta: Any) -> Any:
    """beta (loc + phi) of every state, (num_samples, num_sites, num_states)."""
    x = params.loc + phi.reshape(phi.shape[0], *params.loc.shape)
    if getattr(beta, "ndim", 0):
        beta = beta[:, :, None]
    return scaled_by(beta, x)
