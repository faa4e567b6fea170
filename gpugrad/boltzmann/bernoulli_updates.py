"""Training of Bernoulli machines in a dozen array calls an update, for batches of few samples.

With ten samples in a batch an update is a few products of small matrices, and what surrounds them
costs more than they do. Three things keep that short.

**Biases are couplings.** Visible and hidden units get a unit that is always on:

               h - lam   1
    v - mu  [     W      a' ]        U is half of this matrix: tanh of a field of U is
       1    [     b'     .  ]        2 p - 1, so that means need no other function

With states written as rows of this form a field is one product, and so is the whole gradient: that
of the centred machine (see `centering`; mu = lam = 0 is the plain one) in W, a' and b' is
sum_r w_r V_r^T H_r over the rows of both phases. The dot is never read; its gradient is the sum of
the weights, 0. (SciPy's BLAS could add that product to U in one pass. It is another copy of
OpenBLAS than NumPy's: the threads of the two, waiting in turn, made updates many times slower.)

**Noise is drawn ahead.** A unit is 1 where 2 p - 1 exceeds a uniform variable from -1 to 1: one
comparison, with noise for many updates drawn, like their samples gathered, at once. Each value has
16 random bits of its own; where in its interval of 2^-15 it lies is drawn once a unit for all of
those updates. So each unit meets its chance within the rounding of float32, 2^-24, and what two
draws of a unit have in common is the one case in 2^32 where that place decides both.

**Chains and batch lie in one array**, chains first, as in `phases`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gpugrad.backend.array_module import device_of, get_array_module, on
from gpugrad.backend.host_threads import BLOCK_VALUES
from gpugrad.backend.philox import words_
from gpugrad.backend.rng import Generator

__all__ = ["BernoulliUpdates"]

VALUES_AT_ONCE = 2**18
"""Samples, states of chains and noise that are held for the next updates: 2 MB of float64."""
FEWEST_UPDATES, MOST_UPDATES = 4, 256


class BernoulliUpdates:
    """Stochastic ascent of the likelihood of a machine of Bernoulli units.

    Parameters
    ----------
    W : array (num_visible, num_hidden)
    a, b : array (num_visible,), (num_hidden,)
        Biases of the visible and hidden units. The three are copied.
    hidden : array (n_chains, num_hidden)
        States of the persistent chains; with "cd" only their dtype matters.
    rng : Generator
    batch_size : int
    method : {"pcd", "cd"}
        Persistent chains, or chains that start at the data in each update.
    k : int
        Gibbs sweeps an update.
    momentum : float
        In [0, 1); as in `optimizers.SGD`.
    mu : array (num_visible,), optional
        Visible offsets of the centred gradient, the mean of the data; lam is 1/2, the mean of a
        free unit. (To let it follow the hidden means changed no likelihood.) Without them the
        gradient is the plain one.
    velocity : array (num_visible + 1, num_hidden + 1), optional
        What `velocity` was after earlier updates.

    References
    ----------
    Tieleman, "Training restricted Boltzmann machines using approximations to the likelihood
    gradient", ICML 2008.
    """

    def __init__(
        self,
        W: Any,
        a: Any,
        b: Any,
        *,
        hidden: Any,
        rng: Generator,
        batch_size: int,
        method: str = "pcd",
        k: int = 1,
        momentum: float = 0.0,
        mu: Any = None,
        velocity: Any = None,
    ) -> None:
        self.device = device_of(W)
        self.rng, self.batch_size, self.method, self.k = rng, batch_size, method, k
        self.momentum = momentum
        with on(self.device):
            xp = self.xp = get_array_module(W)
            d, m = self.shape = W.shape
            self.dtype = W.dtype
            self.U = xp.zeros((d + 1, m + 1), dtype=self.dtype)
            self.U[:d, :m] = W
            self.U[:d, m] = a
            self.U[d, :m] = b
            self.U *= 0.5
            self.n_chains = batch_size if method == "cd" else hidden.shape[0]
            self.h = xp.ones((self.n_chains, m + 1), dtype=self.dtype)
            self.h[:, :m] = 0 if method == "cd" else hidden
            self.mu = None if mu is None else mu.astype(self.dtype)
            self.lam = 0.0 if mu is None else 0.5
            if mu is not None:
                self.U[:d, m] += self.lam * self.U[:d, :m].sum(axis=1)
                self.U[d, :m] += xp.matmul(self.mu, self.U[:d, :m])
                self.h[:, :m] -= self.lam
            self.velocity: Any = None
            if momentum:
                self.velocity = xp.zeros_like(self.U) if velocity is None else velocity.copy()
            rows = self.n_chains + batch_size
            self._V: Any = None
            self._drawn: dict[int, tuple[Any, ...]] = {}
            self._field_v = xp.empty((self.n_chains, d), dtype=self.dtype)
            # what is only compared with noise need not be more exact than that is
            self._chance = self._field_v
            if self.dtype != np.float32:
                self._chance = xp.empty((self.n_chains, d), dtype="float32")
            self._hidden = xp.full((rows, m + 1), 2, dtype=self.dtype)
            self._weighted = xp.empty((rows, min(d, m) + 1), dtype=self.dtype)
            self._step = xp.empty_like(self.U)
        each = rows * (d + 1) + k * self.n_chains * (d + m)
        self._at_once = max(FEWEST_UPDATES, min(VALUES_AT_ONCE // each, MOST_UPDATES))

    # ---- what has been learned

    def parameters(self) -> tuple[Any, Any, Any]:
        """W, a and b, as new arrays."""
        d, m = self.shape
        with on(self.device):
            theta = 2 * self.U
            W, a, b = theta[:d, :m].copy(), theta[:d, m].copy(), theta[d, :m].copy()
            if self.mu is not None:
                a -= self.lam * W.sum(axis=1)
                b -= self.xp.matmul(self.mu, W)
        return W, a, b

    def hidden(self) -> Any:
        """States of the chains, 0 and 1, (n_chains, num_hidden)."""
        with on(self.device):
            return self.h[:, : self.shape[1]] + self.lam

    # ---- updates

    def epoch(
        self, take: Callable[[int, int], Any], n_samples: int, rate: Callable[[int], float]
    ) -> None:
        """One update for each batch of the samples in turn; the last one may be short.

        Parameters
        ----------
        take : callable
            `take(first, stop)` gives those samples as an array (stop - first, num_visible).
        n_samples : int
        rate : callable
            Of the number of the update in this epoch.
        """
        size = self.batch_size
        full = n_samples // size
        with on(self.device):
            for first in range(0, full, self._at_once):
                stop = min(first + self._at_once, full)
                rates = [rate(i) for i in range(first, stop)]
                self._updates(take(first * size, stop * size), size, rates)
            if full * size < n_samples:
                rest = n_samples - full * size
                self._updates(take(full * size, n_samples), rest, [rate(full)])

    def _updates(self, samples: Any, n: int, rates: Sequence[float]) -> None:
        """Updates by batches of n samples, with these rates."""
        xp, (d, m) = self.xp, self.shape
        count, steps = n if self.method == "cd" else self.n_chains, len(rates)
        V = self._rows(steps, count + n)
        batches = samples.reshape(steps, n, d)
        if self.mu is None:
            V[:, count:, :d] = batches
        else:
            xp.subtract(batches, self.mu, out=V[:, count:, :d])
        noise = self._noise(0, steps, count), self._noise(1, steps, count)

        # an update moves U by half of rate (V_data^T H_data / n - V_chains^T H_chains / count),
        # where a row of H is (2 p - 1) / 2 + 1/2 - lam and 1, and a row of `hidden` twice that
        w = xp.full((count + n, 1), 0.25 / n, dtype=self.dtype)
        w[:count] = -0.25 / count
        hidden, weighted = self._hidden[: count + n], self._weighted[: count + n]
        field = hidden[:, :m]
        last = scale = None
        for j, rate in enumerate(rates):
            if rate != last:
                last, scale = rate, w * rate
            self._sample(V[j], field, count, noise[0][j], noise[1][j])
            if self.lam == 0:
                field += 1
            if d < m:  # the narrower of the two is weighted
                xp.multiply(V[j], scale, out=weighted)
                step = xp.matmul(weighted.T, hidden, out=self._step)
            else:
                xp.multiply(hidden, scale, out=weighted)
                step = xp.matmul(V[j].T, weighted, out=self._step)
            if self.velocity is not None:
                self.velocity *= self.momentum
                self.velocity += step
                step = self.velocity
            self.U += step

    def _sample(self, V: Any, field: Any, count: int, noise_v: Any, noise_h: Any) -> None:
        """Move the chains by k sweeps; V and 2 p - 1 of the hidden units of both phases."""
        xp, (d, m) = self.xp, self.shape
        to_hidden, to_visible = self.U[:, :m], self.U[:d].T
        h, chains = self.h[:count], V[:count]
        h_units, v_units = h[:, :m], chains[:, :d]
        field_v, chance, field_h = self._field_v[:count], self._chance[:count], field[:count]

        def mean(states: Any, couplings: Any, out: Any) -> None:
            xp.tanh(xp.matmul(states, couplings, out=out), out=out)

        def draw_hidden(noise: Any) -> None:
            xp.greater(field_h, noise, out=h_units)
            if self.lam:
                xp.subtract(h_units, self.lam, out=h_units)

        if self.method == "cd":
            # the noise of the last sweep, whose hidden units are not drawn
            mean(V[count:], to_hidden, field_h)
            draw_hidden(noise_h[-1])
        for sweep in range(self.k):
            if sweep:
                mean(chains, to_hidden, field_h)
                draw_hidden(noise_h[sweep - 1])
            xp.matmul(h, to_visible, out=field_v)
            xp.tanh(field_v, out=chance, dtype="float32", casting="same_kind")
            xp.greater(chance, noise_v[sweep], out=v_units)
            if self.mu is not None:
                xp.subtract(v_units, self.mu, out=v_units)
        mean(V, to_hidden, field)
        if self.method == "pcd":
            draw_hidden(noise_h[-1])

    def _rows(self, steps: int, rows: int) -> Any:
        """Room for both phases of some updates, (steps, rows, num_visible + 1), ending in 1."""
        if self._V is None or self._V.shape[1] != rows or len(self._V) < steps:
            shape = (steps, rows, self.shape[0] + 1)
            self._V = self.xp.empty(shape, dtype=self.dtype)
            self._V[:, :, -1] = 1
        return self._V[:steps]

    def _noise(self, layer: int, steps: int, count: int) -> Any:
        """Uniform variables from -1 to 1, (steps, k, count, layer's units); overwritten later."""
        xp, width = self.xp, self.shape[layer]
        rows = steps * self.k * count
        # sixteen rows hold a whole number of Philox blocks: the draw is that of all rows at once
        block = min(rows, max(16, BLOCK_VALUES // width // 16 * 16)) if xp is np else rows
        kept = self._drawn.get(layer)
        if kept is None or len(kept[0]) < rows:
            # kept: fresh memory of this size costs more than what is computed in it
            kept = self._drawn[layer] = (
                xp.empty((rows, width), dtype="float32"),
                xp.empty(-(-block * width // 4), dtype="uint64"),
            )
        noise = kept[0][:rows]
        interval = xp.float32(2.0**-15)
        place = interval * self.rng.uniform(width, "float32", device=self.device) - xp.float32(1)
        for first in range(0, rows, block):
            out = noise[first : first + block]
            words = kept[1][: -(-out.size // 4)]
            words_(words, draw=self.rng.reserve(out.size, 16))
            xp.multiply(words.view("uint16")[: out.size].reshape(out.shape), interval, out=out)
            xp.add(out, place, out=out)
        return noise.reshape(steps, self.k, count, width)
