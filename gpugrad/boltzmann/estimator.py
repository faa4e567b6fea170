"""scikit-learn's `BernoulliRBM` by its own names, faster, and on a GPU too.

    from sklearn.neural_network import BernoulliRBM    becomes
    from gpugrad.boltzmann.estimator import BernoulliRBM

and what was written for it goes on working: pipelines, searches, clones, pickles. Needs
scikit-learn (`pip install "gpugrad[sklearn]"`), which nothing else in gpugrad loads.

>>> import numpy as np
>>> from gpugrad.boltzmann.estimator import BernoulliRBM
>>> X = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 1]])
>>> BernoulliRBM(n_components=2, random_state=0).fit(X).transform(X).shape
(4, 2)
"""

import math
import time
import warnings
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, Self

import numpy as np

from gpugrad.backend.array_module import asnumpy, device_of, on, parse_device, to_device
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.bernoulli_updates import BernoulliUpdates
from gpugrad.boltzmann.interchange_layers import refuse_units
from gpugrad.boltzmann.layers.bernoulli import BernoulliLayer, ParamsBernoulli
from gpugrad.boltzmann.model import RBM, BoltzmannMachine
from gpugrad.boltzmann.partition import exact_log_partition, log_likelihood
from gpugrad.boltzmann.samplers import gibbs
from gpugrad.boltzmann.schedules import Schedule, as_schedule
from gpugrad.boltzmann.schedules import get as get_schedule
from gpugrad.boltzmann.state import State, namespace_for, positive_int
from gpugrad.errors import DataError, DivergenceError, MissingExtraError, ParameterError
from gpugrad.primitives.gibbs import field_bits, sample_units

try:
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise MissingExtraError(
        "gpugrad.boltzmann.estimator: scikit-learn 1.6 or later is not installed "
        f'(pip install "gpugrad[sklearn]"): {error}'
    ) from error

__all__ = ["BernoulliRBM"]

CENTERING_RATE = 0.01
"""Part of the way that visible offsets move to the mean of the batch in each `partial_fit`."""
ROWS_TIMES_UNITS = 2**18
"""Fields in a block of `score_samples`: 2 MB."""
WATCHED_SAMPLES = 1000
"""Samples whose pseudo-likelihood `verbose` prints."""


class BernoulliRBM(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Bernoulli restricted Boltzmann machine, trained by stochastic maximum likelihood.

    The parameters that scikit-learn's estimator has come first and mean what they mean there. X is
    an array, a data frame, a sparse matrix or array, or an array on a GPU: results, and what is
    learned, lie where X lies. Values outside [0, 1] are taken, with a warning, as they are there.

    Parameters
    ----------
    n_components : int
        Hidden units.
    learning_rate : float
        Above 0; of the mean gradient of a batch.
    batch_size : int
    n_iter : int
        Passes over the data; 0 leaves the machine as it starts.
    verbose : int
        Above 0: print a line after each pass.
    random_state : int, RandomState or None
        Source of all randomness. An int makes every call of `fit` give the same machine.
    method : {"pcd", "cd"}
        Persistent contrastive divergence (scikit-learn's), or chains that start at the data.
    k : int
        Gibbs sweeps an update.
    n_chains : int, optional
        Persistent chains; as many as `batch_size` if None.
    centered : bool
        Follow the centred gradient (see `gpugrad.boltzmann.centering`), with the mean of the data
        and 1/2 as offsets of the visible and the hidden units.
    schedule : {"constant", "linear", "exponential", "step"}, Schedule or callable
        How the rate goes on from `learning_rate`. A function is called with position and length in
        epochs and gives the rate itself. `partial_fit` takes the rate at the start.
    momentum : float
        In [0, 1); the effective rate is learning_rate / (1 - momentum).
    shuffle : bool
        Draw the order of the samples anew in each pass; scikit-learn takes them as they come.
    device : str or Device, optional
        Where to compute; where X lies if None.
    dtype : {"float32", "float64"}, optional
        Of the machine; if None that of X, float64 where X has another one.

    Attributes
    ----------
    components_ : array (n_components, n_features)
        The weights.
    intercept_hidden_ : array (n_components,)
    intercept_visible_ : array (n_features,)
    h_samples_ : array (n_chains, n_components)
        Hidden units of the persistent chains.
    random_state_ : Generator
        What `gibbs`, `sample` and `partial_fit` draw from.
    n_features_in_ : int
    feature_names_in_ : numpy.ndarray (n_features,)
        Only where X has column names.

    References
    ----------
    Tieleman, "Training restricted Boltzmann machines using approximations to the likelihood
    gradient", ICML 2008.
    """

    def __init__(
        self,
        n_components: int = 256,
        *,
        learning_rate: float = 0.1,
        batch_size: int = 10,
        n_iter: int = 10,
        verbose: int = 0,
        random_state: Any = None,
        method: str = "pcd",
        k: int = 1,
        n_chains: int | None = None,
        centered: bool = True,
        schedule: Any = "constant",
        momentum: float = 0.0,
        shuffle: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        self.n_components = n_components
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.n_iter = n_iter
        self.verbose = verbose
        self.random_state = random_state
        self.method = method
        self.k = k
        self.n_chains = n_chains
        self.centered = centered
        self.schedule = schedule
        self.momentum = momentum
        self.shuffle = shuffle
        self.device = device
        self.dtype = dtype

    # ---- learning

    #: visible offsets of the centred gradient, velocity of the momentum: `partial_fit` goes on
    _mu: Any
    _velocity: Any

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train a new machine.

        Parameters
        ----------
        X : array or sparse matrix (n_samples, n_features)
        y : ignored

        Raises
        ------
        ParameterError
            A parameter out of range.
        DivergenceError
            The machine did not stay finite.
        """
        rates = self._check_parameters()
        X = self._validated(X, reset=True)
        self._warn_about_range(X)
        self._start(X)
        place, n = self._place(X), X.shape[0]
        # what overflows is found by _learn_from, and named there
        with on(place), np.errstate(over="ignore", invalid="ignore"):
            data = X if _is_sparse(X) else to_device(X, place)
            self._mu = _column_means(data)
            updates = self._updates(data, min(self.batch_size, n), place)
            n_batches = math.ceil(n / updates.batch_size)
            start = time.monotonic()
            for epoch in range(self.n_iter):
                order = self.random_state_.permutation(n) if self.shuffle else np.arange(n)

                def rate(i: int, epoch: int = epoch) -> float:
                    return rates(epoch + i / n_batches, float(self.n_iter))

                updates.epoch(_gather(data, order, place, updates.dtype), n, rate)
                self._learn_from(updates, X)
                if self.verbose:
                    start = self._print_progress(epoch + 1, X, start)
        return self

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """One update by all of X, as one batch; the first call starts a new machine.

        Parameters
        ----------
        X : array or sparse matrix (n_samples, n_features)
        y : ignored
        """
        rates = self._check_parameters()
        first = not hasattr(self, "components_")
        X = self._validated(X, reset=first)
        if first:
            self._warn_about_range(X)
            self._start(X)
        place, n = self._place(X), X.shape[0]
        # what overflows is found by _learn_from, and named there
        with on(place), np.errstate(over="ignore", invalid="ignore"):
            data = X if _is_sparse(X) else to_device(X, place)
            mean = _column_means(data)
            if first or self._mu is None:
                self._mu = mean
            else:
                mu = to_device(self._mu, place)
                self._mu = mu + CENTERING_RATE * (mean - mu)
            updates = self._updates(data, n, place)
            rate = rates(0.0, 1.0)
            updates.epoch(_gather(data, np.arange(n), place, updates.dtype), n, lambda i: rate)
            self._learn_from(updates, X)
        return self

    def _check_parameters(self) -> Callable[[float, float], float]:
        """Raise for a parameter out of range; the learning rate as a function of the position."""
        for name in ("n_components", "batch_size", "k"):
            positive_int("BernoulliRBM", name, getattr(self, name))
        if self.n_chains is not None:
            positive_int("BernoulliRBM", "n_chains", self.n_chains)

        def require(fine: bool, name: str, expected: str) -> None:
            if not fine:
                value = getattr(self, name)
                raise ParameterError(f"BernoulliRBM: {name} is {value!r}, expected {expected}")

        rate, n_iter, momentum = self.learning_rate, self.n_iter, self.momentum
        fine = isinstance(rate, Real) and 0 < rate < math.inf
        require(fine, "learning_rate", "a finite number above 0")
        fine = isinstance(n_iter, Integral) and n_iter >= 0
        require(fine, "n_iter", "an integer of at least 0")
        require(isinstance(momentum, Real) and 0 <= momentum < 1, "momentum", "a number in [0, 1)")
        require(self.method in ("pcd", "cd"), "method", "'pcd' or 'cd'")
        fine = self.dtype is None or np.dtype(self.dtype) in (np.float32, np.float64)
        require(fine, "dtype", "float32, float64 or None")
        if isinstance(self.schedule, str):
            return get_schedule(self.schedule, float(rate))
        require(callable(self.schedule), "schedule", "a name, a Schedule or a function")
        if isinstance(self.schedule, Schedule):
            scale = float(rate) / self.schedule.rate
            return lambda position, length: scale * self.schedule(position, length)
        return as_schedule(self.schedule)

    def _start(self, X: Any) -> None:
        """A new machine: normal weights of standard deviation 0.01, biases 0, chains at 0."""
        seed = check_random_state(self.random_state).randint(0, 2**31 - 1, size=4)
        self.random_state_ = Generator(seed.tolist())
        d, m = X.shape[1], int(self.n_components)
        dtype = X.dtype if self.dtype is None else np.dtype(self.dtype)
        chains = self.batch_size if self.n_chains is None else self.n_chains
        # float32 on the host: one seed starts the same machine in each dtype and on each device
        components = self.random_state_.normal((m, d), "float32", std=0.01, device="cpu")
        for name, array in (
            ("components_", components),
            ("intercept_hidden_", np.zeros(m)),
            ("intercept_visible_", np.zeros(d)),
            ("h_samples_", np.zeros((chains, m))),
        ):
            setattr(self, name, to_device(array.astype(dtype), device_of(X)))
        self._mu = self._velocity = None

    def _updates(self, X: Any, batch_size: int, place: Any) -> BernoulliUpdates:
        """The training of the machine as it is now."""
        W, a, b = self._machine_arrays(place)
        velocity = self._velocity
        return BernoulliUpdates(
            W,
            a,
            b,
            hidden=to_device(self.h_samples_, place).astype(W.dtype, copy=False),
            rng=self.random_state_,
            batch_size=batch_size,
            method=self.method,
            k=self.k,
            momentum=float(self.momentum),
            mu=to_device(self._mu, place) if self.centered else None,
            velocity=None if velocity is None else to_device(velocity, place),
        )

    def _learn_from(self, updates: BernoulliUpdates, X: Any) -> None:
        """Take over what was learned, on X's device."""
        W, a, b = updates.parameters()
        # one value a parameter: a nan or inf anywhere shows in its sum
        if not math.isfinite(float(W.sum()) + float(a.sum()) + float(b.sum())):
            raise DivergenceError(
                f"BernoulliRBM: a parameter is no longer finite (learning_rate "
                f"{self.learning_rate!r}), expected finite ones: take a lower rate, or data nearer "
                "to [0, 1]"
            )
        home = device_of(X)
        self.components_ = to_device(W, home).T
        self.intercept_visible_, self.intercept_hidden_ = to_device(a, home), to_device(b, home)
        if self.method != "cd":
            self.h_samples_ = to_device(updates.hidden(), home)
        self._mu = to_device(self._mu, home)
        velocity = updates.velocity
        self._velocity = None if velocity is None else to_device(velocity, home)

    def _print_progress(self, epoch: int, X: Any, start: float) -> float:
        now = time.monotonic()
        stride = max(1, X.shape[0] // WATCHED_SAMPLES)
        figure = float(self._scores(X[::stride][:WATCHED_SAMPLES]).mean())
        name, seconds = type(self).__name__, now - start
        print(
            f"[{name}] Iteration {epoch}, pseudo-likelihood = {figure:.2f}, time = {seconds:.2f}s"
        )
        return time.monotonic()

    # ---- what has been learned

    @property
    def _n_features_out(self) -> int:
        return self.components_.shape[0]

    @classmethod
    def from_machine(cls, model: BoltzmannMachine, **parameters: Any) -> Self:
        """A fitted estimator with copies of a machine's parameters, on the machine's device.

        Parameters
        ----------
        model : BoltzmannMachine
            Two layers of Bernoulli units.
        **parameters
            Of the estimator, for `partial_fit`; n_components is that of the machine.

        Raises
        ------
        ParameterError
            Another machine.
        """
        refuse_units("from_machine", model, "BernoulliRBM", ("bernoulli",), ("bernoulli",))
        own = cls(**{"dtype": str(model.dtype), **parameters, "n_components": len(model.layers[1])})
        own._check_parameters()
        W_T, kind = model.weights[0].W_T(), own.dtype
        own.n_features_in_ = W_T.shape[1]
        with on(model.device):
            own._start(W_T)
            own.components_ = W_T.astype(kind)
            own.intercept_visible_ = model.layers[0].params[0].astype(kind)
            own.intercept_hidden_ = model.layers[1].params[0].astype(kind)
        return own

    def machine(self) -> BoltzmannMachine:
        """The machine for the rest of gpugrad: a copy, on the device of `components_`."""
        check_is_fitted(self)
        m, d = self.components_.shape
        W, a, b = self._machine_arrays(device_of(self.components_))
        model = RBM(d, m, dtype=W.dtype, device=device_of(W))
        model.set_parameters({"weights.0.matrix": W, "layers.0.loc": a, "layers.1.loc": b})
        return model

    def transform(self, X: Any) -> Any:
        """Chances of the hidden units to be 1 given the visible ones, (n_samples, n_components).

        Parameters
        ----------
        X : array or sparse matrix (n_samples, n_features)
        """
        check_is_fitted(self)
        X = self._validated(X, reset=False)
        place = self._place(X)
        with on(place):
            return to_device(self._hidden(X, place)[1], device_of(X))

    def gibbs(self, v: Any) -> Any:
        """One Gibbs sweep: hidden units given v, then visible units given them.

        Parameters
        ----------
        v : array or sparse matrix (n_samples, n_features)

        Returns
        -------
        array of bool (n_samples, n_features)
        """
        check_is_fitted(self)
        v = self._validated(v, reset=False)
        place = self._place(v)
        with on(place):
            h = self._hidden(v, place, sample=True)[0]
            W, a, _ = self._machine_arrays(place)
            field = namespace_for(W).matmul(h.astype(W.dtype, copy=False), W.T)
            draw = self.random_state_.reserve(field.size, field_bits(field.dtype))
            return to_device(sample_units(field, a, draw=draw, dtype=bool)[0], device_of(v))

    def sample(self, n_samples: int = 1, *, n_steps: int = 1000) -> Any:
        """Visible states of the machine itself, (n_samples, n_features), of its dtype.

        Parameters
        ----------
        n_samples : int
        n_steps : int
            Gibbs sweeps from the persistent chains, or from copies of them where more samples are
            wanted than there are chains.
        """
        check_is_fitted(self)
        positive_int("BernoulliRBM.sample", "n_samples", n_samples)
        positive_int("BernoulliRBM.sample", "n_steps", n_steps)
        home = device_of(self.components_)
        model = self.machine()
        model.to_device(home if self.device is None else parse_device(self.device))
        with on(model.device):
            h = to_device(self.h_samples_, model.device).astype(model.dtype)
            h = h[namespace_for(h).arange(n_samples) % h.shape[0]]
            state, _ = gibbs(n_steps, donate=True)(self.random_state_, model, State((None, h)))
            return to_device(state.visible, home)

    def score_samples(self, X: Any) -> Any:
        """Log-pseudo-likelihood of each sample in nats, (n_samples,), as float64.

        The sum over the visible units i of log p(v_i | all other units): with F the free energy,
        -log(1 + exp(F(v) - F(v with 1 - v_i in place of v_i))). scikit-learn's figure is this sum
        estimated from one unit, drawn at random, and so differs from call to call; its mean over
        that draw is the present one, which is always the same for a row.

        Parameters
        ----------
        X : array or sparse matrix (n_samples, n_features)
        """
        check_is_fitted(self)
        return self._scores(self._validated(X, reset=False))

    def score(self, X: Any, y: Any = None) -> float:
        """Mean of `score_samples`, the log-pseudo-likelihood in nats a sample.

        Machines of any size can be compared by it, in `GridSearchCV` for instance. Where
        `log_likelihood` can be had, it is the better figure.

        Parameters
        ----------
        X : array or sparse matrix (n_samples, n_features)
        y : ignored
        """
        return float(self.score_samples(X).mean())

    def log_likelihood(self, X: Any, y: Any = None) -> float:
        """Mean log-likelihood in nats a sample, by the exact partition function.

        With up to 25 units in the smaller layer. `GridSearchCV(..., scoring=BernoulliRBM.
        log_likelihood)` searches by it.

        Parameters
        ----------
        X : array or sparse matrix (n_samples, n_features)
            0 and 1.
        y : ignored

        Raises
        ------
        ParameterError
            Both layers are too large; `gpugrad.boltzmann.ais(rbm.machine())` estimates log Z.
        DataError
            Values other than 0 and 1, which have no probability.
        """
        check_is_fitted(self)
        X = self._validated(X, reset=False)
        model = self.machine().to_device(self._place(X))
        data = X.toarray() if _is_sparse(X) else to_device(X, model.device)
        return log_likelihood(model, data, exact_log_partition(model))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    # ---- arrays and where they lie

    def _place(self, X: Any) -> Any:
        """Where to compute with X."""
        return device_of(X) if self.device is None else parse_device(self.device)

    def _machine_arrays(self, place: Any) -> tuple[Any, Any, Any]:
        """W (n_features, n_components), a and b on a device."""
        return (
            to_device(self.components_, place).T,
            to_device(self.intercept_visible_, place),
            to_device(self.intercept_hidden_, place),
        )

    def _hidden(self, X: Any, place: Any, *, sample: bool = False) -> tuple[Any, Any]:
        """A sample of the hidden units given X, or else their means."""
        W, _, b = self._machine_arrays(place)
        if _is_sparse(X):
            # a product of SciPy's, on the host; then over the bus, if it must
            field = to_device(np.asarray(X @ asnumpy(W)), place)
        else:
            field = namespace_for(W).matmul(to_device(X, place), W)
        draw = self.random_state_.reserve(field.size, field_bits(field.dtype)) if sample else None
        return sample_units(field, b, draw=draw, sample=sample, mean=not sample, out=field)

    def _validated(self, X: Any, *, reset: bool) -> Any:
        """X as a float array or CSR matrix of one or more samples, finite, with the right width."""
        types = (np.float64, np.float32) if self.dtype is None else np.dtype(self.dtype)
        if device_of(X).kind == "cpu":
            return validate_data(self, X, accept_sparse="csr", reset=reset, dtype=types)
        # scikit-learn would ask for SCIPY_ARRAY_API and a switch of its own; these are its checks
        name = type(self).__name__
        if X.ndim != 2 or X.shape[0] == 0 or X.shape[1] == 0 or X.dtype.kind not in "biuf":
            raise DataError(
                f"{name}: X is {X.dtype} of shape {tuple(X.shape)}, expected real numbers "
                "(samples, features), one of each at least"
            )
        X = validate_data(self, X, skip_check_array=True, reset=reset)
        if self.dtype is not None:
            X = X.astype(types, copy=False)
        elif X.dtype not in types:
            X = X.astype(np.float64)
        with on(device_of(X)):
            if not bool(namespace_for(X).isfinite(X).all()):
                raise DataError(f"{name}: Input X contains NaN or infinity, expected finite values")
        return X

    def _warn_about_range(self, X: Any) -> None:
        values = X.data if _is_sparse(X) else X
        if values.size == 0:
            return
        with on(device_of(X)):
            low, high = float(values.min()), float(values.max())
        if low < 0 or high > 1:
            warnings.warn(
                f"{type(self).__name__}: X has values in [{low:g}, {high:g}], expected 0, 1 or "
                "chances between them; the units of this machine are 0 or 1",
                UserWarning,
                stacklevel=3,
            )

    def _scores(self, X: Any) -> Any:
        """`score_samples` of validated data, block by block."""
        place = self._place(X)
        with on(place):
            W, a, b = (p.astype("float64") for p in self._machine_arrays(place))
            rows = max(1, ROWS_TIMES_UNITS // W.shape[1])
            found = []
            for first in range(0, X.shape[0], rows):
                block = X[first : first + rows]
                block = block.toarray() if _is_sparse(block) else block
                v = to_device(block, place).astype("float64")
                found.append(_log_pseudo_likelihoods(W, a, b, v))
            return to_device(namespace_for(W).concatenate(found), device_of(X))


def _log_pseudo_likelihoods(W: Any, a: Any, b: Any, v: Any) -> Any:
    """Sum over i of -softplus(F(v) - F(v with 1 - v_i for v_i)), for each row of v."""
    xp = namespace_for(W)
    columns, change = v.T.copy(), 1 - 2 * v.T
    phi = xp.matmul(W.T, columns)
    params = ParamsBernoulli(b)
    log_z = BernoulliLayer.sum_log_partition_(xp, params, phi.copy())
    total = xp.zeros_like(log_z)
    for i in range(W.shape[0]):
        flipped = phi + W[i][:, None] * change[i]
        gain = BernoulliLayer.sum_log_partition_(xp, params, flipped) - log_z + change[i] * a[i]
        total -= xp.softplus(gain)
    return total


def _is_sparse(X: Any) -> bool:
    return hasattr(X, "toarray")


def _column_means(X: Any) -> Any:
    """Mean of each column, (n_features,), float64."""
    if _is_sparse(X):
        return np.asarray(X.mean(axis=0, dtype=np.float64)).ravel()
    return X.mean(axis=0, dtype="float64")


def _gather(X: Any, order: Any, place: Any, dtype: Any) -> Callable[[int, int], Any]:
    """The rows of X in an order, piece by piece, as dense arrays on a device."""
    if not _is_sparse(X):
        order = to_device(order, place)

    def take(first: int, stop: int) -> Any:
        rows = X[order[first:stop]]
        if _is_sparse(rows):
            rows = to_device(rows.toarray(), place)
        return rows.astype(dtype, copy=False)

    return take
