"""What a training run is told: by the defaults, a recipe, the command line, the last first."""

import inspect
import json
import tomllib
from collections.abc import Callable
from copy import copy
from dataclasses import asdict, dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from gpugrad.errors import CheckpointError, ParameterError

__all__ = [
    "DEFAULTS",
    "MODULE_HELP",
    "THRESHOLD_HELP",
    "TrainSettings",
    "from_folder",
    "from_recipe",
    "parse_shape",
    "updated",
    "with_settings",
]

MODULE_HELP = "Python module or .py file to import first: units of your own."
THRESHOLD_HELP = (
    "In (0, 1): grey values above it become 1, others 0. Values 0..255 of 8-bit data are divided "
    "by 255 first."
)
DATA, MACHINE, START = "Data", "Machine", "First parameters and pre-training"
METHOD, TEMPERING, TAP = "Method", "Parallel tempering (pt, ptt)", "TAP free energy (tap)"
STEPS, PENALTIES = "Steps", "Penalties and constraints"
EARLY, RUN, LIKELIHOOD = "Early stopping", "Run", "Likelihood at the end"
RANKS = "Several processes (mpirun, srun)"


def _in(panel: str, help: str, *names: str) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel)


Text = str | None
Number = float | None
Count = int | None


@dataclass(frozen=True)
class TrainSettings:
    """Settings of `gpugrad train`; a recipe in TOML uses these names, with - or _.

    Tuples are options that may be repeated or hold several values, separated by commas.
    """

    data: Annotated[
        str, typer.Argument(help="mnist (embedded), or an IDX, NPY, NPZ or HDF5 file.")
    ] = "mnist"
    data_key: Annotated[Text, _in(DATA, "Array of an NPZ or HDF5 file.")] = None
    test: Annotated[Text, _in(DATA, "File of test samples; mnist brings its own.")] = None
    threshold: Annotated[Number, _in(DATA, THRESHOLD_HELP)] = None
    missing: Annotated[
        str, _in(DATA, "NaN in the data: error, or impute (missing values are summed out).")
    ] = "error"
    draw_states: Annotated[
        bool, _in(DATA, "Grey values are probabilities: draw states from them for each batch.")
    ] = False
    sample_weight: Annotated[Text, _in(DATA, "File with a positive weight for each sample.")] = None
    stream: Annotated[
        bool, _in(DATA, "Read an HDF5 or NPY file of two axes piece by piece, whatever its size.")
    ] = False
    stream_block: Annotated[int, _in(DATA, "Consecutive samples read at a time.")] = 1024
    stream_blocks: Annotated[int, _in(DATA, "Blocks that are shuffled together.")] = 16
    image_shape: Annotated[Text, _in(DATA, "ROWSxCOLUMNS of the visible units.")] = None

    hidden: Annotated[
        tuple[int, ...],
        _in(MACHINE, "Hidden units; 500,1000 for two hidden layers, none for no hidden layer."),
    ] = (256,)
    visible_units: Annotated[
        str,
        _in(
            MACHINE,
            "bernoulli (0, 1), ising (-1, 1), gaussian, exponential, relu, truncated_exponential, "
            "potts:Q (of Q states), or a unit of your own (--module).",
        ),
    ] = "bernoulli"
    hidden_units: Annotated[
        tuple[str, ...], _in(MACHINE, "The same for all hidden layers, or one for each.")
    ] = ("bernoulli",)
    lateral: Annotated[
        tuple[int, ...], _in(MACHINE, "Layers with couplings inside; 0 is the visible one.")
    ] = ()
    module: Annotated[Text, _in(MACHINE, MODULE_HELP)] = None
    dtype: Annotated[str, _in(MACHINE, "float32, float64 or float16, of all parameters.")] = (
        "float32"
    )

    init: Annotated[str, _in(START, "Weights: normal or uniform.")] = "normal"
    init_scale: Annotated[
        Number, _in(START, "Standard deviation, or bound, of the first weights.")
    ] = None
    min_probability: Annotated[
        Number, _in(START, "Clip of the data's means for the first visible bias.")
    ] = None
    pretrain: Annotated[
        int, _in(START, "Epochs of greedy pre-training of each pair of layers; 0: none.")
    ] = 0
    pretrain_rate: Annotated[float, _in(START, "Learning rate of that.")] = 0.05

    method: Annotated[
        str,
        _in(
            METHOD,
            "pcd: persistent chains; cd: chains from the data; pt: parallel tempering; ptt: "
            "parallel trajectory tempering; tap: minima of the TAP free energy, no chains.",
        ),
    ] = "pcd"
    k: Annotated[
        Count, _in(METHOD, "Sweeps an update; 1, of tap 3, if left out.", "--k")
    ] = None  # fmt: skip
    chains: Annotated[
        Count, _in(METHOD, "Persistent chains, or TAP seeds; the batch size if left out.")
    ] = None
    gradient: Annotated[str, _in(METHOD, "analytic or autodiff.")] = "analytic"
    centered: Annotated[bool, _in(METHOD, "Centred gradient.")] = True
    centering_rate: Annotated[float, _in(METHOD, "Part of the way offsets move an update.")] = 0.01
    mean_field_steps: Annotated[
        int, _in(METHOD, "Updates of the hidden means of deep machines, given data.")
    ] = 10

    betas: Annotated[
        tuple[float, ...], _in(TEMPERING, "pt: inverse temperatures, rising to 1.")
    ] = ()
    rungs: Annotated[int, _in(TEMPERING, "pt: so many, evenly spaced, without --betas.")] = 10
    swap_every: Annotated[int, _in(TEMPERING, "Sweeps between two rounds of exchanges.")] = 1
    ptt_threshold: Annotated[
        float, _in(TEMPERING, "ptt: acceptance below which the machine is copied to the ladder.")
    ] = 0.25
    ptt_window: Annotated[int, _in(TEMPERING, "ptt: rounds that the acceptance is taken over.")] = (
        20
    )
    max_machines: Annotated[Count, _in(TEMPERING, "ptt: machines in the ladder at most.")] = None

    tap_order: Annotated[int, _in(TAP, "Order of the free energy, 2 or 3.")] = 2
    random_seeds: Annotated[int, _in(TAP, "Seeds drawn anew for each update.")] = 0
    burn_in: Annotated[int, _in(TAP, "Sweeps of those before the k of all.")] = 30
    damping: Annotated[float, _in(TAP, "Part of a magnetisation that a sweep leaves.")] = 0.5

    optimizer: Annotated[
        str, _in(STEPS, "sgd, momentum, nesterov, rmsprop or adam.")
    ] = "sgd"  # fmt: skip
    learning_rate: Annotated[float, _in(STEPS, "Learning rate at the start.")] = 0.05
    schedule: Annotated[str, _in(STEPS, "constant, linear, exponential or step.")] = "linear"
    final_rate: Annotated[
        Number, _in(STEPS, "Rate at the end; linear: 0, exponential: 1/100.")
    ] = None  # fmt: skip
    momentum: Annotated[
        Number, _in(STEPS, "Of sgd (0), momentum and nesterov (0.9).")
    ] = None  # fmt: skip
    decay: Annotated[Number, _in(STEPS, "Of rmsprop's mean square (0.9).")] = None
    beta1: Annotated[Number, _in(STEPS, "Of adam's mean (0.9).")] = None
    beta2: Annotated[Number, _in(STEPS, "Of adam's mean square (0.999).")] = None
    epochs: Annotated[int, _in(STEPS, "Times that all samples are seen.")] = 60
    batch_size: Annotated[int, _in(STEPS, "Samples an update.")] = 100
    shuffle: Annotated[bool, _in(STEPS, "A new order each epoch.")] = True
    average_epochs: Annotated[
        float, _in(STEPS, "Last epochs over which the final parameters are averaged.")
    ] = 0.0

    l1: Annotated[Number, _in(PENALTIES, "Strength of sum |W|.")] = None
    l2: Annotated[Number, _in(PENALTIES, "Strength of sum W^2 / 2 (weight decay).")] = None
    log_penalty: Annotated[
        Number, _in(PENALTIES, "Strength of -sum log(rate) of exponential units.")
    ] = None
    sparsity_target: Annotated[Number, _in(PENALTIES, "Mean activity hidden units go to.")] = None
    sparsity_strength: Annotated[float, _in(PENALTIES, "How strongly.")] = 1.0
    sparsity_layer: Annotated[int, _in(PENALTIES, "Of which hidden layer; 1 is the first.")] = 1
    constraint: Annotated[
        tuple[str, ...],
        _in(
            PENALTIES,
            "non_negative, non_positive, unit_norm, centre or centre_rows, of all weights, or of "
            "one parameter: layers.0.loc=centre_rows.",
        ),
    ] = ()

    patience: Annotated[
        Count, _in(EARLY, "Stop after so many estimates of the log-likelihood without gain.")
    ] = None
    validation: Annotated[Text, _in(EARLY, "File of samples for the estimates.")] = None
    holdout: Annotated[
        Count, _in(EARLY, "Or so many of the last training samples, not trained on then.")
    ] = None
    estimate_every: Annotated[int, _in(EARLY, "Epochs between two estimates.")] = 1
    estimate_temperatures: Annotated[
        int, _in(EARLY, "Annealing steps of each, where log Z is not exact.")
    ] = 1000
    min_gain: Annotated[float, _in(EARLY, "Nats that count as a gain.")] = 0.0

    seed: Annotated[int, _in(RUN, "Equal seeds give equal bits.")] = 0
    device: Annotated[Text, _in(RUN, "cpu, cuda, cuda:1.")] = None
    output: Annotated[str, _in(RUN, "The folder of this run.", "--output", "-o")] = "runs/train"
    checkpoint_seconds: Annotated[float, _in(RUN, "Between two checkpoints.")] = 30.0
    tensorboard: Annotated[
        bool, _in(RUN, "Log for TensorBoard too, in the folder's subfolder tensorboard.")
    ] = False

    shards: Annotated[
        Count,
        _in(RANKS, "Parts that batch and chains are cut into; 8 with several ranks, else none."),
    ] = None
    communicator: Annotated[
        str, _in(RANKS, "auto (looks for mpirun and srun), none, mpi or nccl (one GPU a rank).")
    ] = "auto"
    rank_timeout: Annotated[
        float, _in(RANKS, "Seconds that a rank waits for the others before it ends the job.")
    ] = 600.0

    evaluate: Annotated[
        bool, _in(LIKELIHOOD, "Measure the log-likelihood: of --test if given.")
    ] = True
    temperatures: Annotated[int, _in(LIKELIHOOD, "Annealing steps.")] = 10_000
    annealed_chains: Annotated[int, _in(LIKELIHOOD, "Annealing chains.")] = 100

    def to_json(self) -> bytes:
        """The settings as a JSON object, one a line."""
        return json.dumps(asdict(self), indent=1).encode() + b"\n"


DEFAULTS = TrainSettings()


def with_settings(function: Callable[..., Any]) -> Callable[..., Any]:
    """Put an option for each field of TrainSettings in place of a function's `**settings`."""
    hints = get_type_hints(TrainSettings, include_extras=True)
    parameters = [
        p
        for p in inspect.signature(function).parameters.values()
        if p.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    own = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            **_as_option(hints[field.name], field.default),
        )
        for field in fields(TrainSettings)
    ]
    positional = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    told: Any = function
    told.__signature__ = inspect.Signature([*positional[:1], *own, *positional[1:]])
    told.__annotations__ = {p.name: p.annotation for p in (*parameters, *own)}
    return function


def _as_option(hint: Any, default: Any) -> dict[str, Any]:
    kind, option = get_args(hint)
    if get_origin(kind) is not tuple:
        return {"annotation": hint, "default": default}
    # a list of strings, which `updated` takes apart
    option = copy(option)
    option.metavar = f"<{get_args(kind)[0].__name__},...>"
    option.show_default = ",".join(map(str, default)) or False
    return {"annotation": Annotated[list[str] | None, option], "default": None}


def updated(settings: TrainSettings, values: dict[str, Any], source: str) -> TrainSettings:
    """The settings with some exchanged.

    Raises
    ------
    ParameterError
        An unknown name, or a value of another type.
    """
    hints = get_type_hints(TrainSettings)
    taken: dict[str, Any] = {}
    for name, value in values.items():
        if name not in hints:
            near = get_close_matches(name, hints, 1, cutoff=0.5)
            expected = f"{near[0].replace('_', '-')!r} or another" if near else "an"
            raise ParameterError(
                f"{source}: unknown setting {name!r}, expected {expected} option of `gpugrad train "
                "--help`"
            )
        many = get_origin(hints[name]) is tuple
        kinds = get_args(hints[name])[: 1 if many else None] or (hints[name],)
        expected = " or ".join(kind.__name__ for kind in kinds) + " or a list of them" * many
        try:
            taken[name] = _several(value, kinds[0]) if many else _one(value, kinds)
        except (TypeError, ValueError) as error:
            raise ParameterError(f"{source}: {name} is {value!r}, expected {expected}") from error
    return replace(settings, **taken)


def _one(value: Any, kinds: tuple[Any, ...]) -> Any:
    # TOML and JSON write 1 for 1.0; a bool is an int for isinstance
    if type(value) in kinds or (type(value) is int and float in kinds):
        return value
    raise TypeError


def _several(value: Any, kind: type) -> tuple[Any, ...]:
    """'500,1000', ['500', '1000'], 500, [500, 1000] -> (500, 1000); 'none' -> ()."""
    found: list[Any] = []
    for item in value if isinstance(value, list | tuple) else [value]:
        if not isinstance(item, str):
            found.append(_one(item, (kind,)))
        elif item.strip().lower() != "none":
            found += [kind(part.strip()) for part in item.split(",")]
    if kind is str and not all(found):
        raise ValueError
    return tuple(found)


def from_recipe(path: Path) -> dict[str, Any]:
    """The settings in a TOML file, by name.

    Raises
    ------
    ParameterError
        No such file, or not TOML.
    """
    try:
        with open(path, "rb") as file:
            found = tomllib.load(file)
    except FileNotFoundError as error:
        raise ParameterError(f"train: recipe {path}: no such file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ParameterError(f"train: recipe {path} cannot be read ({error})") from error
    return {name.replace("-", "_"): value for name, value in found.items()}


def from_folder(path: Path) -> dict[str, Any]:
    """The settings that an earlier run left in its folder; none if it left none.

    Without its `module`: a folder that came from elsewhere never has code run.
    """
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, OSError) as error:
        raise CheckpointError(f"train: {path} cannot be read ({error})") from error
    if not isinstance(found, dict) or "data" not in found:
        raise CheckpointError(f"train: {path} is damaged, expected the settings of a run")
    found.pop("module", None)
    return found


def parse_shape(text: str | None) -> tuple[int, int] | None:
    """'28x28' -> (28, 28)."""
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdecimal() and int(part) for part in parts):
        raise ParameterError(f"image shape {text!r}, expected ROWSxCOLUMNS such as 28x28")
    return int(parts[0]), int(parts[1])
