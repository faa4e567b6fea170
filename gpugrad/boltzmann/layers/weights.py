"""The couplings between two neighbouring layers."""

from collections import namedtuple
from typing import Any

from gpugrad.backend.array_module import current_device, module_for, on, to_device
from gpugrad.backend.rng import Generator, default_generator
from gpugrad.boltzmann.layers.layer import Layer
from gpugrad.boltzmann.state import namespace_for, positive_int
from gpugrad.errors import ParameterError

__all__ = ["ParamsWeights", "Weights"]

ParamsWeights = namedtuple("ParamsWeights", ["matrix"])


class Weights(Layer):
    """Couplings W between a lower and an upper layer, with energy -v.W.h.

    Parameters
    ----------
    shape : tuple of int
        (units of the lower layer, units of the upper layer).
    scale : float, optional
        Entries start as normal numbers of this standard deviation; 0 starts at zero and draws none.
    rng : Generator, optional
        The generator to draw from; the default one if None.
    dtype : dtype, optional
    device : str or Device, optional
    """

    layer_type = "weights"
    Params = ParamsWeights

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        scale: float = 0.01,
        rng: Generator | None = None,
        dtype: Any = "float32",
        device: Any = None,
    ) -> None:
        if len(tuple(shape)) != 2:
            raise ParameterError(
                f"Weights: shape is {shape!r}, expected (lower units, upper units)"
            )
        self.shape = tuple(positive_int("Weights", "shape", n) for n in shape)
        if scale:
            generator = default_generator() if rng is None else rng
            # drawn on the host, so that one seed starts the same machine on every device
            drawn = generator.normal(self.shape, "float64", std=scale, device="cpu")
            place = current_device() if device is None else device
            matrix = to_device(drawn.astype(dtype), place)
        else:
            with on(device):
                matrix = module_for(device).zeros(self.shape, dtype=dtype)
        super().__init__(matrix)

    def W(self) -> Any:
        """The matrix, (lower units, upper units)."""
        return self.params.matrix

    def W_T(self) -> Any:
        """Its transpose, a view."""
        return self.params.matrix.T

    def energy(self, vis: Any, hid: Any) -> Any:
        """-sum_ij v_i W_ij h_j, one value a sample.

        Parameters
        ----------
        vis : array or Tensor (num_samples, lower units)
            Rescaled units of the lower layer.
        hid : array or Tensor (num_samples, upper units)
            Rescaled units of the upper layer.
        """
        xp = namespace_for(vis, hid, self.params.matrix)
        return -xp.sum(xp.matmul(vis, self.params.matrix) * hid, axis=1)

    def derivatives(
        self, vis: Any, hid: Any, *, sample_weight: Any = None, out: Any = None
    ) -> ParamsWeights:
        """Derivative of the energy averaged over the batch: d<E> / d W_ij = -<v_i h_j>.

        Parameters
        ----------
        vis : array (num_samples, lower units)
            Rescaled units of the lower layer.
        hid : array (num_samples, upper units)
            Rescaled units of the upper layer.
        sample_weight : array (num_samples,), optional
            Weights that add up to 1, in place of equal ones.
        out : array (lower units, upper units), optional

        Returns
        -------
        ParamsWeights
        """
        xp = namespace_for(vis, hid)
        # the factor goes onto the smallest array, not onto the matrix
        if sample_weight is None:
            scaled = hid * (-1.0 / vis.shape[0])
        else:
            scaled = hid * -sample_weight[:, None]
        return ParamsWeights(xp.matmul(vis.T, scaled, out=out))

    def GFE_derivatives(
        self, vis: Any, hid: Any, *, order: int = 2, sample_weight: Any = None
    ) -> ParamsWeights:
        """Derivative of the Gibbs free energy of layers of two-valued units with respect to W.

        -m_lo m_up^T - W * (c_lo c_up^T) - 1/2 W * W * (k_lo k_up^T), with the variances c and, at
        third order alone, the third cumulants k.

        Parameters
        ----------
        vis, hid : magnetisation
            Of the lower and of the upper layer; of several the mean is taken.
        order : {2, 3}
        sample_weight : array (num_samples,), optional
            Weights that add up to 1, in place of equal ones.

        Returns
        -------
        ParamsWeights
        """
        W = self.params.matrix
        xp = namespace_for(W)

        def product(lower: Any, upper: Any) -> Any:
            lower, upper = lower.reshape(-1, self.shape[0]), upper.reshape(-1, self.shape[1])
            if sample_weight is None:
                return xp.matmul(lower.T, upper * (-1.0 / upper.shape[0]))
            return xp.matmul(lower.T, upper * -sample_weight[:, None])

        derivative = product(vis.variance(), hid.variance())
        if order == 3:
            third = product(vis.third_cumulant(), hid.third_cumulant())
            third *= 0.5
            third *= W
            derivative += third
        derivative *= W
        derivative += product(vis.expectation(), hid.expectation())
        return ParamsWeights(derivative)

    def get_config(self) -> dict[str, Any]:
        """Type, shape, dtype, penalties and constraints."""
        return {**self.get_base_config(), "shape": list(self.shape)}

    @classmethod
    def _from_config(cls, config: Any) -> "Weights":
        return cls(tuple(config["shape"]), scale=0, dtype=config["dtype"], device="cpu")
