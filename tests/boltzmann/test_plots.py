"""Pictures in axes: what is drawn is read back from the axes and compared with what was given."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="matplotlib is not installed")

from matplotlib import pyplot

from gpugrad.backend.array_module import to_device
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann import diagnostics, layers, plots
from gpugrad.boltzmann.fit import fit
from gpugrad.boltzmann.logs import SingularValues
from gpugrad.boltzmann.model import RBM, BoltzmannMachine
from gpugrad.boltzmann.mosaic import mosaic
from gpugrad.boltzmann.state import State
from gpugrad.boltzmann.tap import tap_magnetizations
from gpugrad.errors import DataError, MissingExtraError, ParameterError

DATA = np.random.default_rng(0).integers(0, 2, (40, 12)).astype("float32")
HISTORY = [
    {"epoch": i, "rate": 0.1, "pseudo_likelihood": -9.0 + i, "reconstruction_error": 0.3}
    for i in (1, 2, 3)
]


@pytest.fixture(autouse=True)
def no_screen_and_no_figure_stays_open():
    pyplot.switch_backend("Agg")
    yield
    pyplot.close("all")


def rbm(**options: Any) -> BoltzmannMachine:
    return RBM(12, 5, rng=Generator(0), device="cpu", **options)


def deep() -> BoltzmannMachine:
    parts = [layers.BernoulliLayer(n) for n in (12, 5, 4)]
    machine = BoltzmannMachine(parts, rng=Generator(1), device="cpu")
    for weights in machine.weights:
        weights.params.matrix[...] *= 60
    return machine


def canvas(ax: Any) -> np.ndarray:
    return np.ma.filled(np.ma.asarray(ax.images[0].get_array(), float), np.nan)


def curves(ax: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {line.get_label(): (line.get_xdata(), line.get_ydata()) for line in ax.lines}


# ------------------------------------------------------------------------------------------ images


def test_filters_are_the_columns_of_the_weights_in_every_layer():
    machine = deep()
    first, second = (w.W().astype("float64") for w in machine.weights)
    for layer, W in ((1, first), (2, first @ second)):
        ax = plots.filters(machine, layer, shape=(3, 4))
        np.testing.assert_allclose(
            canvas(ax), mosaic(W.T, (3, 4), math.ceil(math.sqrt(W.shape[1]))), rtol=1e-6
        )
        low, high = ax.images[0].get_clim()
        assert low == -high  # white is 0
    np.testing.assert_array_equal(
        canvas(plots.filters(first, shape=(3, 4))), canvas(plots.filters(machine, shape=(3, 4)))
    )


def test_filters_of_potts_units_have_a_row_a_state_and_a_column_a_site():
    parts = [layers.PottsLayer(5, 3), layers.BernoulliLayer(4)]
    machine = BoltzmannMachine(parts, rng=Generator(0), device="cpu")
    W = machine.weights[0].W().reshape(5, 3, 4)  # site, state, hidden unit
    expected = [W[:, :, j].T.ravel() for j in range(4)]
    found = canvas(plots.filters(machine))
    np.testing.assert_array_equal(found, mosaic(np.array(expected), (3, 5), 2))


def test_of_many_filters_the_largest_are_drawn_in_their_order():
    W = np.zeros((4, 6))
    W[:, [1, 4]] = [[1.0, 3.0]] * 4
    ax = plots.filters(W, most=2)
    np.testing.assert_array_equal(canvas(ax), mosaic(W.T[[1, 4]], (2, 2), 2))
    assert ax.get_title() == "weights of 2 of 6 units"


def test_a_few_extreme_weights_do_not_bleach_the_rest():
    W = np.random.default_rng(2).normal(size=(12, 40))
    W[3, 7] = 1000.0
    ax = plots.filters(W)
    assert ax.images[0].get_clim()[1] == np.quantile(np.abs(W), 0.995) < 10


def test_receptive_field_is_the_covariance_with_the_units_mean():
    machine = deep()
    means = machine.mean_field(DATA)
    for layer in (1, 2):
        h = means[layer].astype("float64")
        for j in range(h.shape[1]):
            expected = [
                np.cov(DATA[:, i], h[:, j], ddof=0)[0, 1] / h[:, j].std() for i in range(12)
            ]
            shown = canvas(plots.receptive_fields(machine, DATA, layer, shape=(3, 4)))
            zoom, (top, left) = 6, divmod(j, math.ceil(math.sqrt(h.shape[1])))
            y, x = 1 + top * (3 * zoom + 1), 1 + left * (4 * zoom + 1)
            found = shown[y : y + 3 * zoom : zoom, x : x + 4 * zoom : zoom]
            np.testing.assert_allclose(found.ravel(), expected, rtol=1e-4, atol=1e-6)


def test_receptive_fields_of_hidden_units_with_couplings_are_those_of_their_mean_field():
    parts = [layers.BernoulliLayer(12), layers.BernoulliLayer(2)]
    J = {1: np.array([[0.0, 4.0], [4.0, 0.0]])}
    machine = BoltzmannMachine(parts, lateral=J, rng=Generator(1), device="cpu")
    machine.weights[0].params.matrix[...] *= 60
    h = machine.mean_field(DATA)[1][:, 0].astype("float64")
    expected = (DATA - DATA.mean(axis=0)).T @ (h - h.mean()) / len(h) / h.std()
    shown = canvas(plots.receptive_fields(machine, DATA, shape=(1, 12)))
    near = np.abs(np.unique(shown[np.isfinite(shown)])[:, None] - expected).min(axis=0)
    assert (near < 1e-4).all()


def test_receptive_field_of_a_unit_that_never_changes_is_zero():
    machine = rbm()
    machine.weights[0].params.matrix[:, 2] = 0
    shown = canvas(plots.receptive_fields(machine, DATA, shape=(1, 12)))
    assert not np.nan_to_num(shown[1:17, 2 * 193 + 1 : 3 * 193]).any()


def test_samples_are_white_and_black_at_the_limits():
    ax = plots.samples(DATA[:6], shape=(4, 3), title="costs $5")
    np.testing.assert_array_equal(canvas(ax), mosaic(DATA[:6], (4, 3), 3))
    assert ax.images[0].get_clim() == (0, 1)
    assert not ax.title.get_parse_math()
    normal = np.random.default_rng(1).normal(size=(50, 12))
    low, high = plots.samples(normal, limits=(-math.inf, math.inf)).images[0].get_clim()
    assert (low, high) == tuple(np.quantile(normal, (0.005, 0.995)))


def test_magnetizations_come_with_the_lowest_free_energy_first():
    machine = deep()
    found = tap_magnetizations(machine, n_random=6, max_steps=3, tolerance=1e-12, rng=Generator(0))
    order = np.argsort(found.free_energy, kind="stable")
    assert list(order) != list(range(6))
    for layer, shape in ((0, (3, 4)), (2, (2, 2))):
        ax = plots.magnetizations(found, layer, shape=shape)
        expected = mosaic(found.magnetizations[layer].astype("float64")[order], shape, 3)
        np.testing.assert_array_equal(canvas(ax), expected)
        assert f"free energy {found.free_energy.min():.2f} to" in ax.get_title()
    assert plots.magnetizations(State((np.full((1, 4), -0.5),))).images[0].get_clim() == (-1, 1)


# ------------------------------------------------------------------------------------ the spectrum


def test_spectrum_of_a_known_matrix():
    W = np.diag([5.0, 3.0, 1.0, 0.0])[:, :3] + np.zeros((4, 3))
    found = curves(plots.spectrum(W))
    assert found["W"][0].tolist() == [1, 2, 3]  # the largest has rank 1
    np.testing.assert_allclose(found["W"][1], [5, 3, 1], atol=1e-12)
    s = math.sqrt(35 / 12)
    np.testing.assert_allclose(
        found["edge of a random matrix"][1][0], s * (2 + math.sqrt(3)), rtol=1e-12
    )


def test_spectrum_of_a_random_matrix_ends_at_the_edge():
    """The largest of 400 x 100 values fluctuates by 1 %: 6 % are beyond chance."""
    W = np.random.default_rng(0).normal(size=(400, 100), scale=0.3)
    found = curves(plots.spectrum(W))
    assert found["W"][1][0] == pytest.approx(found["edge of a random matrix"][1][0], rel=0.06)


def test_every_weight_matrix_has_its_line_and_its_edge():
    found = curves(plots.spectrum(deep()))
    assert len(found) == 4 and found["weights[1]"][1].size == 4
    assert len(curves(plots.spectrum(deep(), edge=False))) == 2


def test_singular_values_are_recorded_along_training(tmp_path: Path):
    machine = rbm()
    history = fit(
        machine,
        DATA,
        epochs=4,
        batch_size=10,
        rng=Generator(0),
        callbacks=[SingularValues(3, every=2)],
    )
    assert [("spectrum.0" in record) for record in history] == [False, True, False, True]
    exact = np.linalg.svd(machine.weights[0].W().astype("float64"), compute_uv=False)
    np.testing.assert_allclose(history[-1]["spectrum.0"]["values"], exact[:3], rtol=1e-12)
    file = tmp_path / "log.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in history))
    for log in (history, file, tmp_path):
        lines = plots.spectrum_along(log).lines
        assert [list(line.get_xdata()) for line in lines] == [[2, 4]] * 4
        np.testing.assert_allclose([line.get_ydata()[-1] for line in lines[:3]], exact[:3])


# -------------------------------------------------------------------------------- chains, training


def test_autocorrelation_is_that_of_diagnostics_with_its_time():
    """An AR(1) process with rho = 0.8: tau = (1 + rho) / (1 - rho) = 9."""
    rng, x = np.random.default_rng(0), np.zeros((4000, 5))
    for t in range(1, 4000):
        x[t] = 0.8 * x[t - 1] + rng.normal(size=5)
    ax = plots.autocorrelation({"slow $x": x, "stuck": np.ones(9)})
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    tau = diagnostics.mean_with_error(x)
    assert labels[0].startswith(f"slow $x: tau = {tau.tau:.2f} ± {tau.tau_error:.2f}"[:-1])
    assert labels[1] == "stuck: never changes"
    shown = ax.lines[0].get_ydata()
    np.testing.assert_array_equal(shown, diagnostics.autocorrelation(x)[: shown.size])
    assert shown.size == math.ceil(10 * tau.tau) + 1
    assert plots.autocorrelation(x, lags=7).lines[0].get_xdata()[-1] == 7


@pytest.mark.parametrize(
    "value, error, told",
    [(63.21, 15.4, "63 ± 15"), (3.214, 0.1234, "3.21 ± 0.12"), (1.5, 0.0, "1.5")],
)
def test_a_figure_has_two_digits_of_its_error(value: float, error: float, told: str):
    assert plots._with_error(value, error) == told


def test_training_curves_are_those_of_the_log(tmp_path: Path):
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(r) + "\n" for r in HISTORY))
    for log in (HISTORY, tmp_path, str(tmp_path / "log.jsonl")):
        ax = plots.training_curves(log)
        (x, y), *others = curves(ax).values()
        assert not others and list(x) == [1, 2, 3] and list(y) == [-8, -7, -6]
        assert ax.get_ylabel() == "nats a sample"
    ax = plots.training_curves(HISTORY, ["rate", "reconstruction_error"])
    assert list(curves(ax)) == ["learning rate", "reconstruction error"]
    assert plots.training_curves(HISTORY, "rate").get_ylabel() == "learning rate"


# ------------------------------------------------------------------------- axes, devices, bad input


def drawn(ax: Any = None) -> dict[str, Any]:
    machine, x = rbm(), DATA
    return {
        "filters": lambda: plots.filters(machine, ax=ax),
        "receptive_fields": lambda: plots.receptive_fields(machine, x, ax=ax),
        "samples": lambda: plots.samples(x, ax=ax),
        "magnetizations": lambda: plots.magnetizations([x], ax=ax),
        "spectrum": lambda: plots.spectrum(machine, ax=ax),
        "spectrum_along": lambda: plots.spectrum_along(
            [{"epoch": 1, "spectrum.0": {"values": [1.0], "edge": 1.0}}], ax=ax
        ),
        "autocorrelation": lambda: plots.autocorrelation(x[:, 0], ax=ax),
        "training_curves": lambda: plots.training_curves(HISTORY, ax=ax),
    }


@pytest.mark.parametrize("name", plots.__all__)
def test_axes_are_those_given_or_of_a_new_figure(name: str, monkeypatch: pytest.MonkeyPatch):
    _, given = pyplot.subplots()
    assert drawn(given)[name]() is given
    fresh = drawn()[name]()
    assert fresh is not given and fresh.figure.number in pyplot.get_fignums()
    fresh.figure.canvas.draw()
    with pytest.raises(
        ParameterError, match=f"^{name}: ax is str, expected the axes of matplotlib"
    ):
        drawn("axes")[name]()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(MissingExtraError, match=rf"^{name}: needs the package matplotlib.*train"):
        drawn()[name]()


def test_arrays_on_a_device_give_the_same_picture(device: str):
    there, machine = to_device(DATA, device), rbm()
    on_device = machine.copy(device=device)
    for host, other in (
        (plots.filters(machine), plots.filters(on_device)),
        (plots.filters(DATA), plots.filters(there)),
        (plots.samples(DATA), plots.samples(there)),
        (plots.magnetizations([DATA]), plots.magnetizations([there])),
        (plots.receptive_fields(machine, DATA), plots.receptive_fields(on_device, there)),
    ):
        np.testing.assert_allclose(canvas(host), canvas(other), rtol=1e-4)
    for host, other in (
        (plots.spectrum(machine), plots.spectrum(on_device)),
        (plots.autocorrelation(DATA), plots.autocorrelation(there)),
    ):
        np.testing.assert_allclose(host.lines[0].get_ydata(), other.lines[0].get_ydata(), atol=1e-6)


BAD = {
    "layer": (lambda: plots.filters(rbm(), 2), ParameterError, "filters: layer is 2, expected"),
    "shape": (lambda: plots.filters(rbm(), shape=(5, 5)), ParameterError, "filters: shape 5x5 for"),
    "negative": (lambda: plots.samples(DATA, shape=(-3, -4)), ParameterError, "-3x-4 for 12"),
    "limits": (lambda: plots.samples(DATA, limits=(0, 1, 2)), ParameterError, "samples: limits is"),
    "word": (lambda: plots.samples(DATA, shape="square"), ParameterError, r"expected \(rows, colu"),
    "flat": (
        lambda: plots.samples(DATA[0]),
        DataError,
        r"samples: visible is float32 of shape \(12",
    ),
    "empty": (lambda: plots.samples(DATA[:0]), DataError, r"samples: visible is float32 of shape"),
    "most": (lambda: plots.filters(rbm(), most=0), ParameterError, "filters: most is 0"),
    "no hidden": (
        lambda: plots.receptive_fields(
            BoltzmannMachine([layers.IsingLayer(3)], device="cpu"), DATA
        ),
        ParameterError,
        "receptive_fields: layer is 1",
    ),
    "one sample": (lambda: plots.receptive_fields(rbm(), DATA[:1]), DataError, "one sample"),
    "data": (
        lambda: plots.receptive_fields(rbm(), DATA[:, 1:]),
        DataError,
        "receptive_fields: data",
    ),
    "no W": (
        lambda: plots.spectrum(BoltzmannMachine([layers.IsingLayer(3)], device="cpu")),
        ParameterError,
        "spectrum: .* no weight matrix",
    ),
    "nan": (lambda: plots.spectrum(np.full((2, 2), np.nan)), DataError, "spectrum: W has NaN"),
    "not recorded": (lambda: plots.spectrum_along(HISTORY), DataError, "no 'spectrum.0'"),
    "no series": (lambda: plots.autocorrelation({}), DataError, "autocorrelation: no series"),
    "lags": (lambda: plots.autocorrelation(DATA, lags=0), ParameterError, "lags is 0"),
    "no log": (lambda: plots.training_curves([]), DataError, "read_log: the log has no records"),
    "no epoch": (
        lambda: plots.training_curves([{"rate": 1}]),
        DataError,
        "record 0 has no 'epoch'",
    ),
    "no path": (lambda: plots.training_curves("nowhere"), DataError, "nowhere: no such file"),
    "number": (lambda: plots.training_curves(3), DataError, "log is int, expected a history"),
    "entry": (
        lambda: plots.training_curves(HISTORY, ["loss"]),
        DataError,
        r"no \['loss'\], it has",
    ),
    "no layer": (lambda: plots.magnetizations([DATA], 1), ParameterError, "layer is 1, expected"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name: str):
    call, error, message = BAD[name]
    with pytest.raises(error, match=message):
        call()


def test_damaged_log_is_named_by_its_line(tmp_path: Path):
    (tmp_path / "log.jsonl").write_text('{"epoch": 1}\n{"epoch": 2')
    with pytest.raises(DataError, match=r"log\.jsonl: line 2 is no JSON object"):
        plots.training_curves(tmp_path)
