"""What every provider of gradients promises; `providers` chooses one."""

from collections.abc import Mapping
from typing import Any

__all__ = ["GradientProvider"]


class GradientProvider:
    """Gradients of the negative log-likelihood, a batch at a time.

    Attributes
    ----------
    batch : array (max_batch, num_visible)
        Where samples are written, unless a provider has `data_rows` of its own.
    """

    batch: Any

    def data_rows(self, n: int) -> Any:
        """Where the next batch of n samples has to be written, (n, num_visible)."""
        return self.batch[:n]

    def __call__(self, n: int, sample_weight: Any = None) -> Mapping[str, Any]:
        """The gradient for the n samples that were written to `data_rows(n)`.

        Parameters
        ----------
        n : int
        sample_weight : array (n,), optional
            Weights that add up to 1, in place of equal ones.

        Returns
        -------
        dict of array
            By name of the parameter. The caller may overwrite them, and so may the next call.
        """
        raise NotImplementedError

    def arrays(self) -> dict[str, Any]:
        """What it needs to go on bit for bit, by name; live, not copied, unless it says so."""
        raise NotImplementedError

    def load_arrays(self, arrays: Mapping[str, Any]) -> None:
        """Take over what `arrays` gave; of several ranks, on whatever number of them.

        Raises
        ------
        CheckpointError
            Arrays are missing or do not fit; nothing is changed then.
        """
        raise NotImplementedError
