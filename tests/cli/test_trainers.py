"""Methods, optimisers, penalties, early stopping and recipes through the command."""

import json
import math
import signal
import tomllib

import numpy as np
import pytest

pytest.importorskip("typer", reason="typer is not installed")

from gpugrad.boltzmann.checkpoint import checkpoint_info, load_checkpoint, load_model
from gpugrad.boltzmann.partition import exact_log_partition, log_likelihood
from gpugrad.cli import train as command_module
from gpugrad.cli.settings import DEFAULTS, TrainSettings, from_recipe, updated

from .runner import ROOT, assert_one_line_error, bars, invoke

QUICK = ["--hidden", "4", "--epochs", "4", "--batch-size", "10", "--no-evaluate"]


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "bars.npy"
    np.save(path, bars())
    return path


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """They are drawn in other tests."""
    monkeypatch.setattr(command_module, "_draw", lambda *arguments: None)


def stored(folder):
    """What the checkpoint says of the training."""
    return checkpoint_info(folder / "checkpoint.safetensors")["settings"]


def parameters(folder):
    return load_model(folder / "model.safetensors", device="cpu").parameters()


def same(first, second):
    return all(np.array_equal(p, second[name]) for name, p in first.items())


def log(folder):
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [record | {"seconds": 0} for record in records]


# ---- the options reach the trainer


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--method", "pcd"], {"method": "pcd", "k": 1, "sampler": None, "n_chains": 10}),
        (["--method", "cd", "--k", 2], {"method": "cd", "k": 2, "sampler": None}),
        (
            ["--method", "pt", "--betas", "0.25,0.5,1", "--swap-every", 2, "--chains", 7],
            {
                "method": "pcd",
                "n_chains": 7,
                "sampler": {"name": "pt", "betas": [0.25, 0.5, 1.0], "swap_every": 2},
            },
        ),
        (
            ["--method", "pt", "--rungs", 3],
            {"sampler": {"name": "pt", "betas": [0.0, 0.5, 1.0], "swap_every": 1}},
        ),
        (
            # unbounded units have no state at an inverse temperature of 0
            ["--method", "pt", "--rungs", 2, "--hidden-units", "gaussian"],
            {"sampler": {"name": "pt", "betas": [0.5, 1.0], "swap_every": 1}},
        ),
        (
            ["--method", "ptt", "--ptt-threshold", 0.4, "--ptt-window", 3, "--max-machines", 5],
            {
                "sampler": {
                    "name": "ptt",
                    "swap_every": 1,
                    "threshold": 0.4,
                    "window": 3,
                    "max_machines": 5,
                }
            },
        ),
        (
            ["--method", "tap", "--tap-order", 3, "--random-seeds", 5, "--burn-in", 4],
            {
                "method": "TapPhases(order=3, damping=0.5, n_random=5, burn_in=4, "
                "mean_field_steps=10)",
                "k": 3,  # the method's own, not the 1 of chains
                "n_chains": 10,
            },
        ),
        (["--method", "tap", "--k", 5, "--chains", 6], {"k": 5, "n_chains": 6}),
        ([], {"optimizer": {"name": "sgd", "momentum": 0.0}}),
        (["--momentum", 0.3], {"optimizer": {"name": "sgd", "momentum": 0.3}}),
        (["--optimizer", "momentum"], {"optimizer": {"name": "sgd", "momentum": 0.9}}),
        (["--optimizer", "nesterov"], {"optimizer": {"name": "nesterov", "momentum": 0.9}}),
        (
            ["--optimizer", "rmsprop", "--decay", 0.8],
            {"optimizer": {"name": "rmsprop", "decay": 0.8, "eps": 1e-8}},
        ),
        (
            ["--optimizer", "adam", "--beta1", 0.5],
            {"optimizer": {"name": "adam", "beta1": 0.5, "beta2": 0.999, "eps": 1e-8}},
        ),
        (
            ["--sparsity-target", 0.2, "--sparsity-strength", 3],
            {"sparsity": {"target": 0.2, "strength": 3.0, "layer": 1}},
        ),
        (["--hidden", 3, "--mean-field-steps", 4], {"mean_field_steps": 4}),
    ],
)
def test_options_reach_the_trainer(data, tmp_path, arguments, expected):
    line = ["train", data, "-o", tmp_path / "run", *QUICK, "--epochs", 1, *arguments]
    result = invoke(*line, "--learning-rate", 0.01)
    assert result.exit_code == 0, result.stderr
    found = stored(tmp_path / "run")
    assert {name: found[name] for name in expected} == expected


def test_penalties_belong_to_the_parameters_that_they_are_for(data, tmp_path):
    for option, name in (("--l1", "l1"), ("--l2", "l2")):
        out = tmp_path / name
        assert invoke("train", data, "-o", out, *QUICK, "--lateral", 1, option, 0.5).exit_code == 0
        model = stored(out)["model"]
        assert model["weights"][0]["penalties"] == {"matrix": {"name": name, "strength": 0.5}}
        assert model["lateral"]["1"]["penalties"] == model["weights"][0]["penalties"]
        assert all(layer["penalties"] == {} for layer in model["layers"])
    np.save(data, np.random.default_rng(0).exponential(1.0, (60, 16)))
    units = ("--visible-units", "exponential", "--log-penalty", 0.1)
    assert invoke("train", data, "-o", tmp_path / "log", *QUICK, *units).exit_code == 0
    visible, hidden = stored(tmp_path / "log")["model"]["layers"]
    assert visible["penalties"] == {"loc": {"name": "log", "strength": 0.1}}
    assert hidden["penalties"] == {}


def test_weight_decay_makes_weights_smaller(data, tmp_path):
    norms = []
    for name, decay in (("a", 0.0), ("b", 1.0)):
        arguments = [*QUICK, "--epochs", 30, "--l2", decay]
        assert invoke("train", data, "-o", tmp_path / name, *arguments).exit_code == 0
        norms.append(np.linalg.norm(parameters(tmp_path / name)["weights.0.matrix"]))
    assert norms[1] < 0.5 * norms[0]


@pytest.mark.parametrize(
    ("name", "holds"),
    [
        ("non_negative", lambda W: W.min() >= 0 and W.max() > 0),
        ("non_positive", lambda W: W.max() <= 0 and W.min() < 0),
        ("unit_norm", lambda W: np.allclose(np.linalg.norm(W, axis=0), 1, atol=1e-5)),
        ("centre", lambda W: np.allclose(W.mean(axis=0), 0, atol=1e-6)),
        ("centre_rows", lambda W: np.allclose(W.mean(axis=1), 0, atol=1e-6)),
    ],
)
def test_constraints_hold_at_the_end(data, tmp_path, name, holds):
    result = invoke("train", data, "-o", tmp_path / "run", *QUICK, "--constraint", name)
    assert result.exit_code == 0, result.stderr
    assert holds(parameters(tmp_path / "run")["weights.0.matrix"])


def test_a_constraint_may_name_its_parameter(data, tmp_path):
    rules = ("--constraint", "layers.0.loc=non_positive,lateral.1.matrix=non_positive")
    arguments = [*QUICK, "--lateral", 1, *rules]
    assert invoke("train", data, "-o", tmp_path / "run", *arguments).exit_code == 0
    found = parameters(tmp_path / "run")
    assert found["layers.0.loc"].max() <= 0 < found["layers.1.loc"].max()
    assert found["lateral.1.matrix"].max() <= 0 and found["weights.0.matrix"].max() > 0


def test_sample_weights_count(data, tmp_path):
    """A sample of weight 3 is one that is there three times, to a machine without couplings."""
    x = bars().reshape(60, 16)
    w = np.where(np.arange(60) < 30, 3.0, 1.0)
    np.save(tmp_path / "w.npy", w)
    rate = ["--learning-rate", 0.5, "--epochs", 40, "--batch-size", 60, "--hidden", "none"]
    chains = ["--chains", 3000, "--schedule", "constant", "--average-epochs", 20, "--no-evaluate"]
    files = ("--sample-weight", tmp_path / "w.npy")
    line = ("train", data, "-o", tmp_path / "run", *rate, *chains, *files)
    result = invoke(*line)
    assert result.exit_code == 0, result.stderr
    mean = 1 / (1 + np.exp(-parameters(tmp_path / "run")["layers.0.loc"]))
    weighted, plain = np.average(x, axis=0, weights=w), x.mean(axis=0)
    assert np.abs(mean - weighted).max() < 0.03 < np.abs(plain - weighted).max()


def test_missing_values_are_summed_out_and_the_likelihood_is_that_of_complete_samples(tmp_path):
    x = bars().reshape(60, 16).astype("float32")
    holes = np.random.default_rng(5).random((40, 16)) < 0.2
    x[:40][holes] = np.nan
    np.save(tmp_path / "x.npy", x)
    line = ["train", tmp_path / "x.npy", "-o", tmp_path / "run", *QUICK[:-1]]
    assert_one_line_error(invoke(*line), "--missing impute")
    result = invoke(*line, "--missing", "impute")
    assert result.exit_code == 0, result.stderr
    assert stored(tmp_path / "run")["missing"] == "impute"
    complete = x[~np.isnan(x).any(axis=1)]
    model = load_model(tmp_path / "run/model.safetensors", device="cpu")
    expected = log_likelihood(model, complete, exact_log_partition(model))
    assert f"{expected:.2f} nats, exact (mean of {len(complete)} samples" in result.stdout
    again = json.loads(invoke("evaluate", tmp_path / "run", "--json").stdout)
    assert again["log_likelihood"] == pytest.approx(expected, abs=1e-9)


# ---- early stopping


def test_early_stopping_ends_a_run_with_its_best_machine(data, tmp_path):
    out = tmp_path / "run"
    arguments = ["--hidden", 12, "--epochs", 400, "--batch-size", 10, "--learning-rate", 0.5]
    early = ["--patience", 2, "--holdout", 15, "--estimate-every", 2, "--no-evaluate"]
    result = invoke("train", data, "-o", out, *arguments, *early)
    assert result.exit_code == 0, result.stderr
    assert "stopped early" in result.stdout and "log-likelihood" in result.stdout
    records = log(out)
    estimates = [r["log_likelihood"] for r in records if "log_likelihood" in r]
    assert len(records) < 400 and [r["epoch"] for r in records if "log_likelihood" in r] == [
        *range(2, len(records) + 1, 2)
    ]
    assert max(estimates[-2:]) < max(estimates) and estimates[-3] == max(estimates)
    model = load_model(out / "model.safetensors", device="cpu")
    held_out = bars().reshape(60, 16)[-15:]
    found = log_likelihood(model, held_out, exact_log_partition(model))
    assert found == pytest.approx(max(estimates), abs=1e-9)
    before = parameters(out)
    again = invoke("train", "-o", out, "--resume")
    assert again.exit_code == 0 and same(before, parameters(out)) and log(out) == records


def test_the_validation_file_is_what_early_stopping_looks_at(data, tmp_path):
    held_out = bars(seed=7)
    np.save(tmp_path / "v.npy", held_out)
    early = ["--patience", 9, "--validation", tmp_path / "v.npy"]
    assert invoke("train", data, "-o", tmp_path / "run", *QUICK, *early).exit_code == 0
    model = load_model(tmp_path / "run/model.safetensors", device="cpu")
    best = max(r["log_likelihood"] for r in log(tmp_path / "run"))
    found = log_likelihood(model, held_out.reshape(60, 16), exact_log_partition(model))
    assert found == pytest.approx(best, abs=1e-9)


# ---- resume, bit for bit

RUNS = {
    "cd": ["--method", "cd", "--k", 2],
    "pt": ["--method", "pt", "--rungs", 3, "--swap-every", 2],
    "ptt": ["--method", "ptt", "--ptt-window", 2, "--ptt-threshold", 0.99, "--learning-rate", 1],
    "tap": ["--method", "tap", "--random-seeds", 3],
    "tap of third order": ["--method", "tap", "--tap-order", 3, "--chains", 3],
    "deep": ["--hidden", 3, "--pretrain", 2],
    "deep pt": ["--hidden", 3, "--method", "pt", "--rungs", 3],
    "deep ptt": ["--hidden", 3, "--method", "ptt", "--ptt-window", 2],
    "deep cd": ["--hidden", 3, "--method", "cd"],
    "deep tap": ["--hidden", 3, "--method", "tap"],
    "lateral": ["--lateral", "0,1"],
    "gaussian": ["--visible-units", "gaussian", "--gradient", "autodiff", "--learning-rate", 0.01],
    "hidden potts": ["--hidden-units", "potts:3", "--method", "pt", "--rungs", 3],
    "nesterov": ["--optimizer", "nesterov"],
    "rmsprop": ["--optimizer", "rmsprop", "--learning-rate", 0.01],
    "adam": ["--optimizer", "adam", "--learning-rate", 0.01, "--l1", 0.01, "--average-epochs", 3],
    "sparse": ["--sparsity-target", 0.1, "--constraint", "unit_norm"],
    "missing": ["--missing", "impute", "--seed", 3],
    "stream": ["--stream", "--stream-block", 7, "--stream-blocks", 2],
    "weighted": ["--sample-weight", "w.npy"],
    "early": ["--holdout", 10, "--patience", 50],
}


@pytest.mark.parametrize("name", RUNS)
def test_an_interrupted_run_goes_on_to_the_same_bits(name, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = bars().reshape(60, 16)
    if name == "missing":
        x = np.where(np.random.default_rng(1).random(x.shape) < 0.2, np.nan, x)
    np.save(data, x)
    np.save("w.npy", np.random.default_rng(2).random(60) + 0.5)
    line = ["train", data, *QUICK, *RUNS[name]]
    assert invoke(*line, "-o", "whole").exit_code == 0
    undisturbed = command_module.TrainingProgress

    class Interrupting(undisturbed):
        def update(self, trainer):
            super().update(trainer)
            if trainer.step == 9:  # in the middle of the second epoch
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(command_module, "TrainingProgress", Interrupting)
    stopped = invoke(*line, "-o", "run")
    assert stopped.exit_code == 130 and "stopped at step 9" in stopped.stdout, stopped.stderr
    monkeypatch.setattr(command_module, "TrainingProgress", undisturbed)
    resumed = invoke("train", "-o", "run", "--resume")
    assert resumed.exit_code == 0 and "going on at step 9" in resumed.stdout, resumed.stderr
    assert "pre-training" not in resumed.stdout
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert same(parameters(whole), parameters(run)) and log(whole) == log(run)
    if name == "ptt":  # the ladder has grown, before the stop or after it
        arrays, _ = load_checkpoint(run / "checkpoint.safetensors")
        assert "chains.machines.1.weights.0.matrix" in arrays


@pytest.mark.parametrize(
    ("arguments", "change", "message"),
    [
        (["--method", "pt", "--betas", "0,0.5,1"], ["--betas", "0,0.6,1"], "0.5"),
        (["--method", "pt", "--rungs", 3], ["--swap-every", 2], "swap_every 1"),
        (["--method", "ptt"], ["--ptt-threshold", 0.5], "threshold 0.25"),
        (["--method", "tap"], ["--tap-order", 3], "order=2"),
        (["--optimizer", "adam"], ["--beta1", 0.5], "beta1 0.9"),
        (["--l2", 0.1], ["--l2", 0.2], "0.1"),
        (["--sparsity-target", 0.1], ["--sparsity-target", 0.2], "target 0.1"),
    ],
)
def test_resume_refuses_another_trainer(data, tmp_path, arguments, change, message):
    out = tmp_path / "run"
    assert invoke("train", data, "-o", out, *QUICK, "--epochs", 1, *arguments).exit_code == 0
    result = invoke("train", "-o", out, "--resume", *change)
    assert_one_line_error(result, "the checkpoint was made with")
    assert message in result.stderr


# ---- recipes


def test_a_recipe_may_hold_lists_and_every_name_with_a_hyphen(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text(
        'hidden = [500, 1000]\nhidden-units = ["bernoulli", "ising"]\nmethod = "pt"\n'
        'betas = [0, 0.5, 1]\nconstraint = "unit_norm"\nlateral = 0\nl2 = 1\n'
    )
    found = updated(TrainSettings(), from_recipe(path), "recipe")
    assert (found.hidden, found.hidden_units) == ((500, 1000), ("bernoulli", "ising"))
    assert found.betas == (0.0, 0.5, 1.0) and found.lateral == (0,) and found.l2 == 1
    assert found.constraint == ("unit_norm",)
    # what a run leaves is what a resumed one starts from
    assert updated(TrainSettings(), json.loads(found.to_json()), "settings") == found
    assert updated(found, {"hidden": "none", "betas": "none"}, "train").hidden == ()
    with pytest.raises(ValueError, match="recipe: unknown setting 'hidden_unit'"):
        updated(TrainSettings(), {"hidden_unit": "ising"}, "recipe")


@pytest.mark.parametrize("path", sorted(ROOT.glob("examples/*.toml")), ids=lambda p: p.stem)
def test_each_recipe_of_the_examples_makes_its_trainer(path, monkeypatch):
    """On few images, so that nothing takes long; nothing is trained."""
    settings = updated(TrainSettings(), from_recipe(path), "recipe")
    images = np.random.default_rng(0).integers(0, 2, (300, 784)).astype("uint8")
    monkeypatch.setattr(command_module, "read", lambda *a, **k: images)
    trainer, held_out = command_module.build(settings)
    assert trainer.model.layers[0].num_units == 784 and held_out is not None
    assert [x.num_units for x in trainer.model.layers[1:]] == list(settings.hidden)
    text = path.read_text()
    assert f"--recipe examples/{path.name}" in text and tomllib.loads(text)["output"]


def test_the_figure_of_the_published_machine_is_still_its_recipe():
    found = updated(TrainSettings(), from_recipe(ROOT / "examples/mnist_784x16.toml"), "recipe")
    assert found.hidden == (16,) and found.learning_rate == 0.01 and not found.shuffle


# ---- what is refused

BAD = {
    "tap units": (["--method", "tap", "--hidden-units", "gaussian"], "gaussian"),
    "tap order": (["--method", "tap", "--tap-order", 4], "--tap-order is 4, expected 2 or 3"),
    "seeds": (["--method", "tap", "--random-seeds", -1], "--random-seeds is -1"),
    "burn-in": (["--method", "tap", "--random-seeds", 2, "--burn-in", 0], "--burn-in is 0"),
    "damping": (["--method", "tap", "--damping", 1], "--damping is 1"),
    "betas": (["--method", "pt", "--betas", "0,0.5"], "--betas are [0.0, 0.5], expected"),
    "betas fall": (["--method", "pt", "--betas", "0.5,0.2,1"], "numbers that rise"),
    "betas text": (["--method", "pt", "--betas", "0,x"], "--betas is ['0,x'], expected float"),
    "betas at 0": (
        ["--method", "pt", "--betas", "0,1", "--hidden-units", "relu"],
        "they start at 0, where",
    ),
    "rungs": (["--method", "pt", "--rungs", 1], "--rungs is 1"),
    "swap": (["--method", "ptt", "--swap-every", 0], "--swap-every is 0"),
    "ptt threshold": (["--method", "ptt", "--ptt-threshold", 1], "--ptt-threshold is 1"),
    "window": (["--method", "ptt", "--ptt-window", 0], "--ptt-window is 0"),
    "machines": (["--method", "ptt", "--max-machines", 0], "--max-machines is 0"),
    "of pt": (["--betas", "0,1"], "betas is 0.0,1.0, which --method pcd does not take"),
    "of tap": (["--damping", 0.1], "expected --method tap"),
    "of adam": (["--beta2", 0.9], "which --optimizer sgd does not take; expected --optimizer adam"),
    "no momentum": (["--optimizer", "adam", "--momentum", 0.9], "--optimizer adam does not take"),
    "optimizer": (["--optimizer", "lbfgs"], "--optimizer is 'lbfgs', expected one of"),
    "momentum": (["--optimizer", "nesterov", "--momentum", 2], "--momentum is 2"),
    "decay": (["--optimizer", "rmsprop", "--decay", -1], "--decay is -1"),
    "beta1": (["--optimizer", "adam", "--beta1", 1], "--beta1 is 1"),
    "deep autodiff": (["--hidden", 3, "--gradient", "autodiff"], "two layers"),
    "mean field": (["--hidden", 3, "--mean-field-steps", 0], "--mean-field-steps is 0"),
    "l1": (["--l1", -1], "--l1 is -1"),
    "l2": (["--l2", "nan"], "--l2 is nan"),
    "l1 and l2": (["--l1", 1, "--l2", 1], "both --l1 and --l2"),
    "log": (["--log-penalty", 1], "no exponential units"),
    "log strength": (["--log-penalty", -1], "--log-penalty is -1"),
    "sparsity": (["--sparsity-target", 2], "--sparsity-target is 2"),
    "strength": (["--sparsity-target", 0.1, "--sparsity-strength", -1], "--sparsity-strength is"),
    "sparse layer": (["--sparsity-target", 0.1, "--sparsity-layer", 2], "--sparsity-layer is 2"),
    "no target": (["--sparsity-strength", 2], "expected --sparsity-target with it"),
    "constraint": (["--constraint", "smooth"], "--constraint is 'smooth'"),
    "constrained": (["--constraint", "layers.7.loc=centre"], "expected a parameter such as"),
    "parameter": (["--constraint", "layers.0.width=centre"], "no parameter 'width'"),
    "lateral": (["--lateral", 5], "--lateral is 5, expected layers from 0 to 1"),
    "potts": (["--hidden-units", "potts"], "the number of states, two or more: potts:4"),
    "potts:1": (["--hidden-units", "potts:1"], "--hidden-units is 'potts:1'"),
    "states": (["--hidden-units", "ising:3"], "--hidden-units is 'ising:3'"),
    "units": (["--hidden", 3, "--hidden-units", "ising,ising,ising"], "each of the 2 hidden"),
    "potts data": (["--visible-units", "potts:2", "grey"], "potts:2 units expect the numbers"),
    "module": (["--module", "no_such_module_of_units"], "cannot be imported (ModuleNotFound"),
    "module file": (["--module", "units.py"], "--module units.py cannot be imported"),
    "pretrain": (["--pretrain", -1], "--pretrain is -1"),
    "pretrain rate": (["--pretrain", 1, "--pretrain-rate", 0], "--pretrain-rate is 0"),
    "pretrain what": (["--pretrain", 1, "--lateral", 1], "without couplings inside"),
    "pretrain stream": (["--pretrain", 1, "--stream"], "complete data in memory"),
    "missing": (["--missing", "drop"], "--missing is 'drop'"),
    "stream": (["--stream", "mnist"], "mnist is in memory"),
    "block": (["--stream", "--stream-block", 0], "--stream-block is 0"),
    "blocks": (["--stream", "--stream-blocks", 0], "--stream-blocks is 0"),
    "no stream": (["--stream-block", 8], "expected --stream with it"),
    "stream missing": (["--stream", "--missing", "impute"], "--missing is 'impute'"),
    "weights": (["--sample-weight", "short.npy"], "--sample-weight"),
    "no weights": (["--sample-weight", "nothing.npy"], "no such file"),
    "patience": (["--patience", 0, "--holdout", 10], "--patience is 0"),
    "nothing held out": (["--patience", 3], "expected --validation or --holdout"),
    "holdout": (["--patience", 3, "--holdout", 60], "--holdout is 60 of 60 samples"),
    "both": (["--patience", 3, "--holdout", 6, "--validation", "short.npy"], "got both"),
    "no patience": (["--holdout", 10], "expected --patience with it"),
    "validation": (["--patience", 3, "--validation", "nothing.npy"], "no such file"),
    "every": (["--patience", 3, "--holdout", 9, "--estimate-every", 0], "--estimate-every is 0"),
    "gain": (["--patience", 3, "--holdout", 9, "--min-gain", -1], "--min-gain is -1"),
    "estimate": (
        ["--patience", 3, "--holdout", 9, "--estimate-temperatures", 0],
        "--estimate-temperatures is 0",
    ),
    "mean": (["--patience", 3, "--holdout", 9, "--average-epochs", 2], "--average-epochs is 2"),
}


@pytest.mark.parametrize("fault", BAD)
def test_bad_options_are_one_line_and_nothing_is_written(fault, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments, message = BAD[fault]
    file = data
    np.save(data, bars().reshape(60, 16))
    if arguments[-1] in ("grey", "mnist"):
        *arguments, file = arguments
    if file == "grey":
        file = "grey.npy"
        np.save(file, np.full((60, 16), 9, "uint8"))
    np.save("short.npy", np.ones(3))
    before = sorted(tmp_path.rglob("*"))
    result = invoke("train", file, "-o", "run", *QUICK, "--epochs", 1, *arguments)
    assert_one_line_error(result, message)
    assert sorted(tmp_path.rglob("*")) == before


def test_the_help_of_train_is_in_groups_and_names_every_setting():
    told = invoke("train", "--help").stdout
    headings = [line for line in told.splitlines() if line.endswith(":") and line[0] != " "]
    assert headings[:3] == ["Arguments:", "Data:", "Machine:"] and headings[-1] == "Options:"
    assert len(headings) > 8
    for name in DEFAULTS.__dataclass_fields__:
        assert name == "data" or f"--{name.replace('_', '-')}" in told, name
    assert math.isclose(DEFAULTS.learning_rate, 0.05)
