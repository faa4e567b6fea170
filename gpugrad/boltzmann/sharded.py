"""Gradients that are added up over shards of the batch and of the chains, on any number of ranks.

The batch and the chains are cut into a fixed number of shards. A shard has a provider of gradients
(see `providers`) and a stream of random numbers of its own, so that what it gives depends on its
number alone, not on who works on it; and what the shards give is added up in an order that does not
depend on that either (see `shard_sum`). Any number of ranks, a single process among them, makes the
same gradient bit for bit. An update goes

    positive phases of the own shards   -> means of all layers, added up; the offsets of the centred
                                           gradient and the sparsity's activity are those of the
                                           whole batch
    data terms of the own shards        -> begin to exchange their sum
    chains of the own shards move on       ... while it is under way
    model terms of the own shards       -> exchange their sum
    gradient = data terms - model terms, centring and penalties, on every rank alike

so that nothing that enters a gradient is older than it.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from gpugrad.backend.array_module import asnumpy, get_array_module, on, to_device
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.communicator import Communicator, cut
from gpugrad.boltzmann.gradient_provider import GradientProvider
from gpugrad.boltzmann.layers.unit_layer import batch_mean
from gpugrad.boltzmann.phases import load_offsets, save_offsets
from gpugrad.boltzmann.shard_sum import ShardSum
from gpugrad.boltzmann.sparsity import SparsityTarget
from gpugrad.boltzmann.state import State
from gpugrad.errors import CheckpointError, ParameterError

__all__ = ["ShardedPhases"]

PARTS = ("positive", "data_term", "model_term", "finish")


class ShardedPhases(GradientProvider):
    """A provider of gradients that adds up those of one provider a shard.

    Parameters
    ----------
    model : BoltzmannMachine or EnergyMachine
        With the same parameters on all ranks.
    rng : Generator
        Shard s draws from `rng.split("shard s")`; nothing is drawn from it itself.
    make : callable
        `make(rng, n_chains=..., max_batch=...)` makes the provider of a shard, with the methods
        positive, data_term, model_term and finish; it is told n_random too where that is not 0.
    shards : int
    communicator : Communicator
    n_chains, max_batch : int
        Of all shards together.
    n_random : int
        Likewise, seeds that are drawn anew for each gradient (TAP only).
    persistent : bool
        Whether the chains are persistent, not as many as a batch has samples.
    centering_rate : float
    sparsity : SparsityTarget, optional

    Raises
    ------
    ParameterError
        Fewer chains than shards, or a provider that gives no gradient in parts.
    """

    def __init__(
        self,
        model: Any,
        rng: Generator,
        make: Callable[..., Any],
        *,
        shards: int,
        communicator: Communicator,
        n_chains: int = 100,
        max_batch: int = 100,
        n_random: int = 0,
        persistent: bool = True,
        centering_rate: float = 0.01,
        sparsity: SparsityTarget | None = None,
    ) -> None:
        if persistent and n_chains < shards:
            raise ParameterError(
                f"fit: n_chains is {n_chains} for {shards} shards, expected at least one a shard"
            )
        self.model, self.rng, self.shards = model, rng, shards
        self.communicator, self.sum = communicator, ShardSum(shards, communicator)
        self.centering_rate, self.sparsity = centering_rate, sparsity
        # chains and seeds of each shard, as parts of all; None where they follow the batch
        chains, seeds = cut(n_chains, shards), cut(n_random, shards)
        counts = [c.stop - c.start + s.stop - s.start for c, s in zip(chains, seeds)]
        self.shares = [n / sum(counts) for n in counts] if persistent else None
        longest = -(-max_batch // shards)
        self.providers: dict[int, Any] = {}
        self._streams = {s: rng.split(f"shard {s}") for s in self.sum.own}
        for s in self.sum.own:
            sizes = {"n_chains": chains[s].stop - chains[s].start, "max_batch": longest}
            if n_random:
                sizes["n_random"] = seeds[s].stop - seeds[s].start
            made = make(self._streams[s], **sizes)
            if not all(hasattr(made, part) for part in PARTS):
                raise ParameterError(
                    f"fit: {type(made).__name__} cannot be cut into shards, expected a provider of "
                    f"gradients with the methods {', '.join(PARTS)}, or no shards"
                )
            self.providers[s] = made
        self.first = self.providers[self.sum.own[0]]
        with on(model.device):
            parameters = model.parameters()
            one = next(iter(parameters.values()))
            xp = self.xp = get_array_module(one)
            self.batch = xp.zeros((max_batch, model.layers[0].num_units), dtype=model.dtype)
            # half precision would lose digits that the sum of the shards needs
            self._like = xp.zeros(0, dtype="float32" if one.dtype.itemsize < 4 else one.dtype)
        self._shapes = {name: tuple(p.shape) for name, p in parameters.items()}
        self._size = sum(p.size for p in parameters.values())
        self._spans = dict(zip(parameters, cut_by([p.size for p in parameters.values()])))

    @property
    def offsets(self) -> list[Any] | None:
        """Offsets of all layers, or None for the plain gradient; all providers share them."""
        return self.first.offsets

    def __call__(self, n: int, sample_weight: Any = None) -> Mapping[str, Any]:
        rows = cut(n, self.shards)
        positive: dict[int, State] = {}
        weights: dict[int, Any] = {}
        parts: dict[int, Any] = {}
        for s in self.sum.own:
            size = rows[s].stop - rows[s].start
            if not size:  # fewer samples than shards
                continue
            positive[s] = self.providers[s].positive(self.batch[rows[s]])
            parts[s], weights[s] = size / n, None
            if sample_weight is not None:
                parts[s] = sample_weight[rows[s]].sum()
                weights[s] = sample_weight[rows[s]] / parts[s]
        q = self._mean_activity(positive, weights, parts)

        def data_term(s: int, out: Any) -> None:
            if s not in positive:
                out[...] = 0
                return
            term = self.providers[s].data_term(positive[s], weights[s])
            self._pack(term, parts[s], out[: self._size])
            if self.sparsity is not None:
                term = {name: self.xp.zeros_like(p) for name, p in self.model.parameters().items()}
                self.sparsity.add_gradient_(self.model, term, positive[s], weights[s], q=q)
                self._pack(term, parts[s], out[self._size :])

        # centring is not for the penalty, which therefore has a place of its own
        places = 1 if self.sparsity is None else 2
        data = self.sum.start("data", self._like, places * self._size, data_term)

        def model_term(s: int, out: Any) -> None:
            size = rows[s].stop - rows[s].start
            if self.shares is None and not size:
                out[...] = 0
                return
            share = size / n if self.shares is None else self.shares[s]
            self._pack(self.providers[s].model_term(positive.get(s), size), share, out)
            data.poll()

        free = self.sum.start("model", self._like, self._size, model_term)
        found = data.wait()
        found[: self._size] -= free.wait()
        found = found.astype(self.model.dtype, copy=False)
        gradient = self.first.finish(self._unpacked(found[: self._size]))
        if self.sparsity is not None:
            for name, penalty in self._unpacked(found[self._size :]).items():
                gradient[name][...] += penalty
        return gradient

    def _mean_activity(self, positive: Any, weights: Any, parts: Any) -> Any:
        """Move the offsets to the means of the whole batch; returns that of the sparse layer."""
        offsets, model, sparsity = self.offsets or [], self.model, self.sparsity
        widths = [o.size for o in offsets]
        if sparsity is not None:
            widths.append(model.layers[sparsity.layer].num_units)
        if not widths:
            return None
        spans = cut_by(widths)

        def means(s: int, out: Any) -> None:
            if s not in positive:
                out[...] = 0
                return
            found = []
            if offsets:
                # couplings, and with them the offsets, see rescaled units
                seen = [x.rescale(u) for x, u in zip(model.layers, positive[s])]
                found = [batch_mean(self.xp, units, weights[s]) for units in seen]
            if sparsity is not None:
                own = model.parameters()
                found.append(sparsity.mean(model, own, positive[s], weights[s]))
            for span, mean in zip(spans, found, strict=True):
                self.xp.multiply(mean, parts[s], out=out[span])

        found = self.sum.start("means", self._like, sum(widths), means).wait()
        for offset, span in zip(offsets, spans):
            offset *= 1 - self.centering_rate
            offset += (self.centering_rate * found[span]).astype(offset.dtype)
        return None if sparsity is None else found[spans[-1]].astype(model.dtype)

    def _pack(self, term: Mapping[str, Any], share: Any, out: Any) -> None:
        for name, span in self._spans.items():
            self.xp.multiply(term[name].reshape(-1), share, out=out[span])

    def _unpacked(self, flat: Any) -> dict[str, Any]:
        return {name: flat[self._spans[name]].reshape(s) for name, s in self._shapes.items()}

    # ---- what a checkpoint holds

    def arrays(self) -> dict[str, Any]:
        """Offsets, and the chains and random counters of all shards, by name.

        All ranks call it and find the same.
        """
        own = {name: asnumpy(array) for name, array in self._own_arrays().items()}
        found = save_offsets(self.offsets)
        for arrays in self.communicator.exchange(own):
            found |= arrays
        return found

    def _own_arrays(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for s, provider in self.providers.items():
            for name, array in provider.arrays().items():
                if not name.startswith("offsets."):
                    found[f"shards.{s}.{name}"] = array
            words = self._streams[s].counter.to_bytes(32, "little")
            found[f"shards.{s}.counter"] = np.frombuffer(words, "<u8")
        return found

    def load_arrays(self, arrays: Mapping[str, Any]) -> None:
        offsets = load_offsets(self.offsets, arrays)
        # copies: a step may write over the arrays that are in use
        before = {name: asnumpy(array).copy() for name, array in self._own_arrays().items()}
        try:
            self._load(arrays)
        except CheckpointError:
            self._load(before)
            raise
        for own, array in zip(self.offsets or (), offsets, strict=True):
            own[...] = array

    def _load(self, arrays: Mapping[str, Any]) -> None:
        offsets = save_offsets(self.offsets)
        for s, provider in self.providers.items():
            prefix = f"shards.{s}."
            own = {
                name.removeprefix(prefix): array
                for name, array in arrays.items()
                if name.startswith(prefix)
            }
            words = own.pop("counter", None)
            if words is None or tuple(words.shape) != (4,):
                raise CheckpointError(f"fit: the checkpoint lacks {prefix}counter of shape (4,)")
            try:
                provider.load_arrays(own | offsets)
            except CheckpointError as error:
                raise CheckpointError(f"{error} (shard {s})") from error
            counter = int.from_bytes(np.asarray(words, "<u8").tobytes(), "little")
            self._streams[s].set_state({**self._streams[s].state, "counter": counter})

    def chains(self) -> State | None:
        """The chains of all shards at inverse temperature 1; None of methods without.

        All ranks call it.
        """
        own = []
        for provider in self.providers.values():
            state = getattr(provider, "state", None)
            if state is not None:
                own.append([None if x is None else asnumpy(x) for x in state.cold])
        found = [units for part in self.communicator.exchange(own) for units in part]
        if not found:
            return None
        layers = [None if layer[0] is None else np.concatenate(layer) for layer in zip(*found)]
        return State(tuple(None if x is None else to_device(x, self.model.device) for x in layers))


def cut_by(widths: list[int]) -> list[slice]:
    """Consecutive slices of these widths."""
    ends = np.concatenate([[0], np.cumsum(widths)]).tolist()
    return [slice(first, stop) for first, stop in pairwise(ends)]
