"""What a training run is told: by the defaults, a recipe, the command line, the last first."""

import json
import tomllib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

from gpugrad.errors import CheckpointError, ParameterError

__all__ = ["TrainSettings", "from_folder", "from_recipe", "parse_shape"]


@dataclass(frozen=True)
class TrainSettings:
    """Settings of `gpugrad train`; a recipe in TOML uses these names, with - or _."""

    data: str = "mnist"
    data_key: str | None = None
    test: str | None = None
    threshold: float | None = None
    hidden: int = 256
    visible_units: str = "bernoulli"
    hidden_units: str = "bernoulli"
    init: str = "normal"
    init_scale: float | None = None
    min_probability: float | None = None
    method: str = "pcd"
    k: int = 1
    chains: int | None = None
    gradient: str = "analytic"
    centered: bool = True
    centering_rate: float = 0.01
    learning_rate: float = 0.05
    schedule: str = "linear"
    final_rate: float | None = None
    momentum: float = 0.0
    epochs: int = 60
    batch_size: int = 100
    shuffle: bool = True
    average_epochs: float = 0.0
    seed: int = 0
    dtype: str = "float32"
    device: str | None = None
    output: str = "runs/train"
    checkpoint_seconds: float = 30.0
    image_shape: str | None = None
    evaluate: bool = True
    temperatures: int = 10_000
    annealed_chains: int = 100

    def to_json(self) -> bytes:
        """The settings as a JSON object, one a line."""
        return json.dumps(asdict(self), indent=1).encode() + b"\n"


def updated(settings: TrainSettings, values: dict[str, Any], source: str) -> TrainSettings:
    """The settings with some exchanged.

    Raises
    ------
    ParameterError
        An unknown name, or a value of another type.
    """
    hints = get_type_hints(TrainSettings)
    for name, value in values.items():
        if name not in hints:
            raise ParameterError(f"{source}: unknown setting {name!r}, known are {sorted(hints)}")
        kinds = get_args(hints[name]) or (hints[name],)
        # TOML and JSON write 1 for 1.0; a bool is an int for isinstance
        fits = type(value) in kinds or (type(value) is int and float in kinds)
        if not fits:
            expected = " or ".join(kind.__name__ for kind in kinds)
            raise ParameterError(f"{source}: {name} is {value!r}, expected {expected}")
    return replace(settings, **values)


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
    """The settings that an earlier run left in its folder; none if it left none."""
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, OSError) as error:
        raise CheckpointError(f"train: {path} cannot be read ({error})") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"train: {path} holds {found!r}, expected settings")
    return found


def parse_shape(text: str | None) -> tuple[int, int] | None:
    """'28x28' -> (28, 28)."""
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdecimal() and int(part) for part in parts):
        raise ParameterError(f"image shape {text!r}, expected ROWSxCOLUMNS such as 28x28")
    return int(parts[0]), int(parts[1])
