"""The scikit-learn estimator: scikit-learn's checks, enumeration, programs written for it."""

import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse
from sklearn import neural_network
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError

from gpugrad.backend.array_module import device_of
from gpugrad.boltzmann.estimator import BernoulliRBM
from gpugrad.boltzmann.partition import exact_log_partition, log_likelihood
from gpugrad.boltzmann.schedules import Linear
from gpugrad.errors import DataError, DivergenceError, ParameterError
from tests.architecture.repository import ROOT
from tests.chance import assert_frequencies, assert_means

from .enumeration import Enumerated
from .machines import host

LEARNED = ("components_", "intercept_hidden_", "intercept_visible_", "h_samples_")


@pytest.fixture(scope="module")
def digits():
    return load_digits(return_X_y=True)[0] / 16


def bits(n=60, d=5, seed=0, dtype="float64"):
    return (np.random.default_rng(seed).random((n, d)) < 0.4).astype(dtype)


def with_parameters(xp=np, n=4, m=3, seed=0, dtype="float64", **settings):
    """An estimator with large random parameters, and its machine enumerated."""
    draw = np.random.default_rng(seed)
    W, a, b = (draw.normal(size=shape) for shape in ((n, m), n, m))
    rbm = BernoulliRBM(m, n_iter=0, random_state=seed, **settings).fit(
        xp.asarray(bits(6, n, dtype=dtype))
    )
    rbm.components_ = xp.asarray(W.T.astype(dtype))
    rbm.intercept_visible_, rbm.intercept_hidden_ = (xp.asarray(x.astype(dtype)) for x in (a, b))
    return rbm, Enumerated(W, a, b, "bernoulli", "bernoulli")


def assert_same_machine(one, other, **tolerance):
    for name in LEARNED:
        np.testing.assert_allclose(
            host(getattr(one, name)), host(getattr(other, name)), **{"rtol": 0, **tolerance}
        )


def run(program, **environment):
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


# ---- scikit-learn's own checks, and scikit-learn's absence

CHECKS = """
import json, warnings
warnings.simplefilter("ignore", UserWarning)  # the checks' data lie outside [0, 1]
from sklearn.utils.estimator_checks import check_estimator
from gpugrad.boltzmann.estimator import BernoulliRBM
found = check_estimator(BernoulliRBM(n_iter=2), on_fail=None, on_skip=None)
print(json.dumps([[f["check_name"], f["status"], str(f["exception"])] for f in found]))
"""


def test_all_checks_of_scikit_learn_pass():
    done = run(CHECKS, SCIPY_ARRAY_API="1")  # without the variable a check is skipped
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) > 40
    assert [row for row in found if row[1] != "passed"] == []


def test_importing_the_package_does_not_load_scikit_learn():
    done = run("import sys, gpugrad.boltzmann; print('sklearn' in sys.modules)")
    assert done.stdout.strip() == "False", done.stderr


def test_without_scikit_learn_the_error_names_the_extra():
    done = run(
        "import sys; sys.modules['sklearn'] = None\nimport gpugrad.boltzmann\n"
        "import gpugrad.boltzmann.estimator"
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "MissingExtraError" in last and "gpugrad[sklearn]" in last


# ---- programs written for scikit-learn

PIPELINE = """
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.neural_network import BernoulliRBM
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import minmax_scale

X, y = load_digits(return_X_y=True)
X = minmax_scale(X)[:900]
y = y[:900]
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.3, random_state=0)
rbm = BernoulliRBM(random_state=0, verbose=0)
rbm.learning_rate = 0.06
rbm.n_iter = 10
rbm.n_components = 60
logistic = LogisticRegression(solver="newton-cg", tol=1, C=1000)
model = Pipeline(steps=[("rbm", rbm), ("logistic", logistic)])
search = GridSearchCV(model, {"rbm__learning_rate": [0.01, 0.06], "rbm__batch_size": [10]}, cv=2)
search.fit(X_train, y_train)
accuracy = search.score(X_test, y_test)
best = search.best_estimator_.named_steps["rbm"]
shapes = [
    best.components_.shape, best.intercept_hidden_.shape, best.intercept_visible_.shape,
    best.h_samples_.shape, best.n_features_in_, best.gibbs(X_test[:3]).shape,
    best.gibbs(X_test[:3]).dtype, best.score_samples(X_test[:3]).shape,
    best.transform(X_test[:3]).dtype, list(best.get_feature_names_out()[:2]),
]
for batch in np.array_split(X_train, 10):
    best.partial_fit(batch)
"""


def test_a_pipeline_written_for_scikit_learn_runs_after_changing_the_import():
    ours = PIPELINE.replace("sklearn.neural_network", "gpugrad.boltzmann.estimator")
    assert ours != PIPELINE
    results = []
    for program in (PIPELINE, ours):
        names = {}
        exec(program, names)
        results.append(names)
    theirs, mine = results
    assert mine["rbm"].__module__ == "gpugrad.boltzmann.estimator"
    assert mine["shapes"] == theirs["shapes"]
    assert mine["accuracy"] > theirs["accuracy"] - 0.05


def test_search_by_the_score_prefers_the_better_machine():
    from sklearn.model_selection import GridSearchCV

    X = np.repeat(np.array([[1.0, 1, 0, 0], [0, 0, 1, 1]]), 40, axis=0)
    grid = {"n_iter": [0, 100]}
    for scoring in (None, BernoulliRBM.log_likelihood):
        search = GridSearchCV(BernoulliRBM(4, random_state=0), grid, cv=4, scoring=scoring)
        assert search.fit(X).best_params_ == {"n_iter": 100}


def test_likelihood_is_no_worse_than_scikit_learns(digits):
    """Exact log Z; the difference is 2.5 nats, the standard deviation of a run below 1."""
    X = (digits > 0.5).astype("float64")[:900]
    found = {}
    for kind in (BernoulliRBM, neural_network.BernoulliRBM):
        values = []
        for seed in range(3):
            rbm = kind(12, random_state=seed, n_iter=10).fit(X)
            model = BernoulliRBM(12, n_iter=0).fit(X).machine()
            model.set_parameters(
                {
                    "weights.0.matrix": rbm.components_.T,
                    "layers.0.loc": rbm.intercept_visible_,
                    "layers.1.loc": rbm.intercept_hidden_,
                }
            )
            values.append(log_likelihood(model, X, exact_log_partition(model)))
        found[kind] = np.mean(values)
    assert found[BernoulliRBM] > found[neural_network.BernoulliRBM]


def test_parameters_that_scikit_learn_has_have_its_defaults():
    theirs = neural_network.BernoulliRBM().get_params()
    ours = BernoulliRBM().get_params()
    assert {name: ours[name] for name in theirs} == theirs


# ---- what the methods compute

SETTINGS = [
    {},
    {"centered": False},
    {"method": "cd", "k": 2},
    {"momentum": 0.5, "n_chains": 3, "schedule": "linear"},
]


def test_transform_gives_the_chances_of_hidden_units(xp):
    rbm, exact = with_parameters(xp)
    v = exact.v
    expected = exact.hidden_given(v) @ exact.h
    np.testing.assert_allclose(host(rbm.transform(xp.asarray(v))), expected, atol=1e-13)


def test_score_samples_is_the_sum_of_conditionals(xp):
    rbm, exact = with_parameters(xp)
    p = {tuple(v): q for v, q in zip(exact.v, exact.marginal(), strict=True)}

    def conditionals(v):
        flips = np.where(np.eye(len(v), dtype=bool), 1 - v, v)
        return sum(np.log(p[tuple(v)] / (p[tuple(v)] + p[tuple(w)])) for w in flips)

    expected = [conditionals(v) for v in exact.v]
    np.testing.assert_allclose(host(rbm.score_samples(xp.asarray(exact.v))), expected, atol=1e-12)
    assert rbm.score(xp.asarray(exact.v)) == pytest.approx(np.mean(expected), abs=1e-12)


def test_score_samples_is_the_mean_of_scikit_learns_over_its_draw():
    rbm, _ = with_parameters()
    theirs = neural_network.BernoulliRBM(3, n_iter=0).fit(bits(6, 4))
    for name in LEARNED:
        setattr(theirs, name, getattr(rbm, name))
    X = np.random.default_rng(3).uniform(-1, 2, size=(20, 4))  # any finite X
    total = np.zeros(20)
    for i in range(4):
        other = X.copy()
        other[:, i] = 1 - other[:, i]
        total -= np.logaddexp(0, theirs._free_energy(X) - theirs._free_energy(other))
    np.testing.assert_allclose(rbm.score_samples(X), total, rtol=1e-12)


def test_score_samples_stays_finite_for_large_values():
    rbm = BernoulliRBM(10, n_iter=3, batch_size=2, random_state=0)
    rbm.fit(np.vstack([np.zeros(1000), np.ones(1000)]))
    assert np.isfinite(rbm.score_samples([np.arange(1000) * 100])).all()


def test_blocks_of_rows_do_not_show_in_scores(monkeypatch):
    from gpugrad.boltzmann import estimator

    rbm, exact = with_parameters()
    whole = rbm.score_samples(exact.v)
    monkeypatch.setattr(estimator, "ROWS_TIMES_UNITS", 9)
    np.testing.assert_allclose(rbm.score_samples(exact.v), whole, rtol=1e-14)
    sparse = scipy.sparse.csr_array(exact.v)
    np.testing.assert_allclose(rbm.score_samples(sparse), whole, rtol=1e-14)


def test_log_likelihood_is_exact(xp):
    rbm, exact = with_parameters(xp)
    expected = np.log(exact.marginal()).mean()
    assert rbm.log_likelihood(xp.asarray(exact.v)) == pytest.approx(expected, abs=1e-12)
    assert rbm.log_likelihood(scipy.sparse.csr_array(exact.v)) == pytest.approx(expected, abs=1e-12)


def test_log_likelihood_of_grey_values_is_refused():
    rbm, _ = with_parameters()
    with pytest.raises(DataError, match="states 0 and 1 only"):
        rbm.log_likelihood(np.full((2, 4), 0.5))


def test_gibbs_draws_visible_units_from_one_sweep():
    rbm, exact = with_parameters()
    v = exact.v[5]
    h_given_v = exact.hidden_given(v[None])[0]
    joint = exact.joint()
    v_given_h = joint / joint.sum(axis=0)
    expected = v_given_h @ h_given_v
    found = rbm.gibbs(np.tile(v, (20000, 1)))
    assert found.dtype == bool
    counts = np.bincount(found @ np.array([8, 4, 2, 1]), minlength=16)
    assert_frequencies(counts, 20000 * expected)


def test_samples_have_the_distribution_of_the_machine():
    rbm, exact = with_parameters(dtype="float32")
    found = rbm.sample(20000, n_steps=50)
    assert found.dtype == np.float32
    counts = np.bincount((found @ np.array([8, 4, 2, 1])).astype(int), minlength=16)
    assert_frequencies(counts, 20000 * exact.marginal())


def test_gibbs_goes_on_from_call_to_call(digits):
    rbm = BernoulliRBM(20, n_iter=2, random_state=0).fit(digits)
    assert (rbm.gibbs(digits) != rbm.gibbs(digits)).any(axis=1).all()


# ---- learning


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_sparse_data_learn_the_same_machine(settings):
    X = bits()
    for as_sparse in (scipy.sparse.csr_array, scipy.sparse.csc_matrix, scipy.sparse.lil_matrix):
        dense, sparse = (
            BernoulliRBM(4, n_iter=3, random_state=0, **settings).fit(x) for x in (X, as_sparse(X))
        )
        assert_same_machine(dense, sparse, atol=1e-14)
        np.testing.assert_allclose(dense.transform(X), sparse.transform(as_sparse(X)), atol=1e-14)
        for rbm, x in ((dense, X), (sparse, as_sparse(X))):
            rbm.partial_fit(x)
        assert_same_machine(dense, sparse, atol=1e-14)
        assert sparse.gibbs(as_sparse(X)).shape == X.shape


def test_sparse_data_print_their_progress(capsys):
    BernoulliRBM(2, batch_size=2, n_iter=2, random_state=0, verbose=True).fit(
        scipy.sparse.csc_matrix([[0.0], [1.0]])
    )
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("[BernoulliRBM] Iteration 2, pseudo-likelihood = -")


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_equal_seeds_give_equal_machines_and_a_generator_moves_on(settings):
    X = bits()
    one, other = (BernoulliRBM(4, random_state=3, **settings).fit(X) for _ in range(2))
    assert_same_machine(one, other, atol=0)
    source = np.random.RandomState(3)
    first, second = (BernoulliRBM(4, random_state=source, **settings).fit(X) for _ in range(2))
    assert_same_machine(one, first, atol=0)
    assert (first.components_ != second.components_).all()


@pytest.mark.parametrize(
    "given, wanted, expected",
    [
        ("float32", None, "float32"),
        ("float64", None, "float64"),
        ("int64", None, "float64"),
        ("bool", None, "float64"),
        ("float64", "float32", "float32"),
        ("uint8", "float32", "float32"),
    ],
)
def test_machines_have_the_dtype_of_the_data_or_the_one_asked_for(xp, given, wanted, expected):
    X = xp.asarray(bits().astype(given))
    rbm = BernoulliRBM(4, n_iter=2, random_state=0, dtype=wanted).fit(X)
    for name in LEARNED:
        assert getattr(rbm, name).dtype == expected, name
    assert rbm.transform(X).dtype == expected
    assert rbm.sample(2, n_steps=2).dtype == expected
    rbm.partial_fit(X)
    assert rbm.components_.dtype == expected


def test_one_seed_learns_nearly_the_same_in_both_precisions():
    X = bits(100)
    single, double = (
        BernoulliRBM(4, n_iter=5, random_state=0).fit(X.astype(t)) for t in ("float32", "float64")
    )
    assert_same_machine(single, double, atol=1e-5)


def test_partial_fit_of_batches_learns_as_fit_does(digits):
    X = (digits > 0.5).astype("float64")[:600]
    whole = BernoulliRBM(8, batch_size=20, n_iter=10, random_state=0).fit(X)
    parts = BernoulliRBM(8, batch_size=20, random_state=0)
    for _ in range(10):
        for first in range(0, 600, 20):
            assert parts.partial_fit(X[first : first + 20]) is parts
    untrained = BernoulliRBM(8, n_iter=0, random_state=0).fit(X)
    gain = whole.log_likelihood(X) - untrained.log_likelihood(X)
    assert gain > 15
    assert parts.log_likelihood(X) - untrained.log_likelihood(X) > 0.9 * gain


def test_partial_fit_goes_on_where_fit_ended():
    """With one batch a pass, without shuffling and in the order of its draws, they are the same."""
    X = bits(10)
    settings = {"batch_size": 10, "random_state": 0, "centered": False, "momentum": 0.5}
    two = BernoulliRBM(4, n_iter=2, shuffle=False, **settings).fit(X)
    one = BernoulliRBM(4, n_iter=1, shuffle=False, **settings).fit(X).partial_fit(X)
    assert_same_machine(one, two, atol=1e-15)


def test_zero_passes_leave_the_machine_as_it_starts():
    rbm = BernoulliRBM(200, n_iter=0, random_state=0).fit(bits(5, 300))
    assert not rbm.intercept_hidden_.any() and not rbm.intercept_visible_.any()
    positive = (rbm.components_ > 0).sum()
    assert_means([positive], rbm.components_.size, [0.5])
    # of 60000 squares the mean is known to 0.6 %: 5.9 standard deviations are 3.4 %
    assert (rbm.components_**2).mean() == pytest.approx(1e-4, rel=0.034)


def test_schedules_and_rates_agree():
    X = bits()
    settings = {"n_iter": 4, "random_state": 0}
    named = BernoulliRBM(4, learning_rate=0.2, schedule="linear", **settings).fit(X)
    made = BernoulliRBM(4, learning_rate=0.2, schedule=Linear(1.0), **settings).fit(X)
    called = BernoulliRBM(4, schedule=lambda x, n: 0.2 * (1 - x / n), **settings).fit(X)
    assert_same_machine(named, made, atol=1e-14)
    assert_same_machine(named, called, atol=1e-14)
    constant = BernoulliRBM(4, learning_rate=0.2, **settings).fit(X)
    assert (constant.components_ != named.components_).any()


def test_fit_does_not_write_to_the_data(digits):
    X = digits[:100].copy()
    BernoulliRBM(8, n_iter=2, random_state=0).fit(X).gibbs(X)
    np.testing.assert_array_equal(X, digits[:100])


# ---- scikit-learn's machinery


def test_clone_and_pickle():
    X = bits()
    rbm = BernoulliRBM(4, n_iter=2, random_state=0, momentum=0.5, schedule=Linear(0.1)).fit(X)
    assert clone(rbm).get_params() == rbm.get_params()
    with pytest.raises(NotFittedError):
        clone(rbm).transform(X)
    again = pickle.loads(pickle.dumps(rbm))
    np.testing.assert_array_equal(again.gibbs(X), rbm.gibbs(X))
    assert_same_machine(again.partial_fit(X), rbm.partial_fit(X), atol=0)


def test_feature_names():
    X = bits()
    for rbm in (BernoulliRBM(3).partial_fit(X), BernoulliRBM(3, n_iter=1).fit(X)):
        assert list(rbm.get_feature_names_out()) == [f"bernoullirbm{i}" for i in range(3)]


def test_data_frames_in_and_out():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame(bits(), columns=list("abcde"))
    rbm = BernoulliRBM(3, n_iter=1, random_state=0).set_output(transform="pandas").fit(frame)
    assert list(rbm.feature_names_in_) == list("abcde")
    assert list(rbm.transform(frame).columns) == [f"bernoullirbm{i}" for i in range(3)]
    with pytest.raises(ValueError, match="feature names"):
        rbm.transform(frame[list("abced")])


# ---- devices


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_arrays_come_out_where_the_data_lie(xp, as_device, settings):
    X = as_device(bits())
    place = device_of(X)
    rbm = BernoulliRBM(4, n_iter=2, random_state=0, **settings).fit(X).partial_fit(X)
    on_host = BernoulliRBM(4, n_iter=2, random_state=0, **settings).fit(bits()).partial_fit(bits())
    assert_same_machine(rbm, on_host, atol=1e-12)
    samples = rbm.sample(3, n_steps=2)
    np.testing.assert_array_equal(host(samples), on_host.sample(3, n_steps=2))
    found = [getattr(rbm, name) for name in LEARNED]
    found += [samples, rbm.transform(X), rbm.gibbs(X), rbm.score_samples(X)]
    assert [device_of(x) for x in found] == [place] * len(found)
    assert [type(x) for x in found] == [type(X)] * len(found)


def test_host_data_can_be_computed_with_elsewhere(cupy_standin):
    X = bits()
    here = BernoulliRBM(4, n_iter=2, random_state=0).fit(X)
    there = BernoulliRBM(4, n_iter=2, random_state=0, device="cuda").fit(X)
    assert_same_machine(here, there, atol=1e-12)
    for rbm in (here, there):
        assert type(rbm.components_) is np.ndarray
        assert type(rbm.transform(X)) is np.ndarray
        assert type(rbm.sample(2, n_steps=3)) is np.ndarray
    np.testing.assert_allclose(here.score_samples(X), there.score_samples(X), rtol=1e-12)
    np.testing.assert_array_equal(here.gibbs(X), there.gibbs(X))
    sparse = scipy.sparse.csr_array(X)
    np.testing.assert_allclose(there.transform(sparse), here.transform(X), rtol=1e-12)
    assert_same_machine(there.fit(sparse), here.fit(X), atol=1e-12)


def test_a_machine_learned_on_the_host_takes_device_data(cupy_standin):
    X = bits()
    rbm = BernoulliRBM(4, n_iter=2, random_state=0).fit(X)
    found = rbm.transform(cupy_standin.asarray(X))
    assert isinstance(found, cupy_standin.ndarray)
    np.testing.assert_allclose(host(found), rbm.transform(X), rtol=1e-12)


@pytest.mark.parametrize(
    "X, match",
    [
        (np.zeros((0, 5)), r"shape \(0, 5\)"),
        (np.zeros(5), r"shape \(5,\)"),
        (np.full((2, 5), np.nan), "NaN or infinity"),
        (np.full((2, 5), np.inf), "NaN or infinity"),
        (np.zeros((2, 5), "complex128"), "complex128"),
    ],
)
def test_device_data_that_cannot_be_learned_from(cupy_standin, X, match):
    with pytest.raises(DataError, match=match):
        BernoulliRBM(3).fit(cupy_standin.asarray(X))


def test_device_data_of_another_width(cupy_standin):
    rbm = BernoulliRBM(3, n_iter=1).fit(cupy_standin.asarray(bits()))
    with pytest.raises(ValueError, match="X has 4 features, but BernoulliRBM is expecting 5"):
        rbm.transform(cupy_standin.asarray(bits(d=4)))


# ---- data and parameters out of range


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("X", [bits() * 3, bits() - 0.5, scipy.sparse.csr_array(2 * bits())])
def test_data_outside_the_range_are_taken_with_one_warning(method, X):
    rbm = BernoulliRBM(3, n_iter=4, random_state=0)
    with pytest.warns(UserWarning, match=r"values in .*expected 0, 1 or chances") as found:
        getattr(rbm, method)(X)
    rbm.partial_fit(X)  # no second one, which would be an error here
    assert len(found) == 1
    assert found[0].filename == __file__
    assert np.isfinite(rbm.components_).all()
    rbm.transform(X)
    rbm.score_samples(X)


@pytest.mark.filterwarnings("ignore:.*values in")
def test_divergence_is_reported():
    with pytest.raises(DivergenceError, match="learning_rate 0.1"):
        BernoulliRBM(3, n_iter=5).fit(1e308 * bits())


@pytest.mark.parametrize(
    "name, value",
    [
        ("n_components", 0),
        ("n_components", 2.0),
        ("learning_rate", 0),
        ("learning_rate", float("inf")),
        ("learning_rate", "high"),
        ("batch_size", 0),
        ("n_iter", -1),
        ("n_iter", 1.5),
        ("method", "tap"),
        ("k", 0),
        ("n_chains", 0),
        ("momentum", 1),
        ("momentum", -0.1),
        ("dtype", "float16"),
        ("schedule", 3),
    ],
)
def test_parameters_out_of_range_are_named(name, value):
    for method in ("fit", "partial_fit"):
        with pytest.raises(ParameterError, match=name):
            getattr(BernoulliRBM(**{name: value}), method)(bits())


def test_unknown_schedule_is_named():
    with pytest.raises(ParameterError, match="no schedule 'cosine'"):
        BernoulliRBM(schedule="cosine").fit(bits())
