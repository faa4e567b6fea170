"""The pseudo-likelihood of fully visible machines, in closed form and differentiable.

In a machine of one layer with couplings J the distribution of a unit given all others needs no
partition function:

    log p(s_i | others) = -E_i(s_i) + phi_i s_i - log Z_i(phi_i)          phi = s.J

Its sum over the units, averaged over data, is concave in the couplings and fields of Ising and
Potts models, and its maximum tends to the true couplings as the data grow. As a figure to watch,
and with hidden units, see `metrics.pseudo_likelihood`.

References
----------
Besag, "Statistical analysis of non-lattice data", The Statistician 24 (1975).
Ravikumar, Wainwright and Lafferty, "High-dimensional Ising model selection using l1-regularized
logistic regression", Annals of Statistics 38 (2010).
"""

from collections.abc import Mapping
from typing import Any

from gpugrad.boltzmann.model import BoltzmannMachine, check_boltzmann
from gpugrad.boltzmann.state import check_visible, namespace_for
from gpugrad.errors import ParameterError
from gpugrad.ops.creation import tensor

__all__ = ["log_pseudo_likelihood", "pseudo_likelihood_gradient"]


def log_pseudo_likelihood(
    model: BoltzmannMachine, v: Any, parameters: Mapping[str, Any] | None = None
) -> Any:
    """Sum over the units of log p(s_i | all other units), one value a sample.

    Parameters
    ----------
    model : BoltzmannMachine
        Of one layer.
    v : array or Tensor (num_samples, num_units)
        States of the units; for units without discrete states log p is that of a density.
    parameters : dict of array or Tensor, optional
        In place of the model's own, named alike.

    Returns
    -------
    array or Tensor (num_samples,)

    Raises
    ------
    ParameterError
        For a machine with hidden layers.
    """
    check_boltzmann("log_pseudo_likelihood", model)
    if model.num_layers != 1:
        raise ParameterError(
            f"log_pseudo_likelihood: the machine has {model.num_layers} layers, expected 1"
        )
    check_visible("log_pseudo_likelihood", model, v)
    own = model.parameters() if parameters is None else parameters
    xp = namespace_for(v, *own.values())
    layer = model.layers[0]
    params = model.layer_params(0, own)
    scaled = layer.unit_rescale(xp, params, v)
    phi = xp.matmul(scaled, own["lateral.0.matrix"]) if model.lateral else xp.zeros_like(v)
    log_z = xp.sum(layer.unit_log_partition(xp, params, phi), axis=1)
    return xp.sum(phi * scaled, axis=1) - layer.unit_energy(xp, params, v) - log_z


def pseudo_likelihood_gradient(
    model: BoltzmannMachine, v: Any, *, sample_weight: Any = None
) -> dict[str, Any]:
    """Gradient of minus the mean log-pseudo-likelihood, by name of the parameter.

    That of lateral couplings is with respect to pairs, as in `Lateral.derivatives`. Penalties are
    not in it.

    Parameters
    ----------
    model : BoltzmannMachine
        Of one layer.
    v : array (num_samples, num_units)
    sample_weight : array (num_samples,), optional
        Weights that add up to 1, in place of equal ones.

    Returns
    -------
    dict of array
    """
    tensors = {name: tensor(p, copy=False) for name, p in model.parameters().items()}
    values = log_pseudo_likelihood(model, v, tensors)
    (-(values.mean() if sample_weight is None else (values * sample_weight).sum())).backward()
    found = {name: t.grad for name, t in tensors.items()}
    for i, lateral in model.lateral.items():
        name = f"lateral.{i}.matrix"
        found[name] = lateral.of_pairs(found[name])
    return found
