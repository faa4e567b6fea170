"""Learning-rate schedules: the rate as a function of how far training has come.

A schedule is called with the position and the length of training, both in epochs (the position runs
in steps of one update), and holds no state: a checkpoint needs its configuration only.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from gpugrad.errors import ParameterError

__all__ = ["Constant", "Exponential", "Linear", "Schedule", "Step", "from_config", "get"]

_SCHEDULES: dict[str, "type[Schedule]"] = {}


def _check_rate(owner: object, name: str, value: Any, *, zero: bool = False) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < 0 or (value == 0 and not zero):
        expected = "a finite number of at least 0" if zero else "a finite number above 0"
        raise ParameterError(f"{type(owner).__name__}: {name} is {value!r}, expected {expected}")


@dataclass(frozen=True)
class Schedule:
    """A learning rate that may change in the course of training.

    Parameters
    ----------
    rate : float
        At the start; above 0.
    """

    rate: float
    name: ClassVar[str] = ""
    any_length: ClassVar[bool] = False
    """Whether the rate depends on the position alone, so that training may go on for longer."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" in cls.__dict__:  # a variant without a name of its own takes no one's place
            _SCHEDULES[cls.name] = cls

    def __post_init__(self) -> None:
        _check_rate(self, "rate", self.rate)

    def __call__(self, position: float, length: float) -> float:
        """The rate after `position` of `length` epochs."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Name and settings; JSON can hold the result."""
        return {"name": self.name, **asdict(self)}


@dataclass(frozen=True)
class Constant(Schedule):
    """The same rate throughout."""

    name: ClassVar[str] = "constant"
    any_length: ClassVar[bool] = True

    def __call__(self, position: float, length: float) -> float:
        return self.rate


@dataclass(frozen=True)
class Linear(Schedule):
    """From `rate` to `final`, in equal steps.

    Parameters
    ----------
    rate, final : float
        At the start and after the last update; `final` may be 0, the default.
    """

    final: float = 0.0
    name: ClassVar[str] = "linear"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_rate(self, "final", self.final, zero=True)

    def __call__(self, position: float, length: float) -> float:
        return self.rate + (self.final - self.rate) * min(position / length, 1.0)


@dataclass(frozen=True)
class Exponential(Schedule):
    """From `rate` to `final` by equal factors.

    Parameters
    ----------
    rate, final : float
        At the start and after the last update, both above 0; `final` is a hundredth of the rate
        if None.
    """

    final: float | None = None
    name: ClassVar[str] = "exponential"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.final is not None:
            _check_rate(self, "final", self.final)

    def __call__(self, position: float, length: float) -> float:
        final = self.rate / 100 if self.final is None else self.final
        return self.rate * (final / self.rate) ** min(position / length, 1.0)


@dataclass(frozen=True)
class Step(Schedule):
    """Constant, and multiplied by `factor` after each `every` epochs.

    Parameters
    ----------
    rate : float
    factor : float
        In (0, 1].
    every : float
        Epochs between two steps; above 0.
    """

    factor: float = 0.5
    every: float = 10.0
    name: ClassVar[str] = "step"
    any_length: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_rate(self, "factor", self.factor)
        _check_rate(self, "every", self.every)
        if self.factor > 1:
            raise ParameterError(f"Step: factor is {self.factor!r}, expected one in (0, 1]")

    def __call__(self, position: float, length: float) -> float:
        # a quotient of integers: a little slack keeps 2.9999999 from missing 3
        return self.rate * self.factor ** math.floor(position / self.every + 1e-9)


def get(name: str, rate: float, **settings: Any) -> Schedule:
    """The schedule of a name: "constant", "linear", "exponential" or "step".

    Parameters
    ----------
    name : str
    rate : float
    **settings
        What that schedule takes beside the rate; those that are None keep their default.

    Raises
    ------
    ParameterError
        An unknown name or setting, or a rate out of range.
    """
    if name not in _SCHEDULES:
        raise ParameterError(f"schedules.get: no schedule {name!r}, known are {sorted(_SCHEDULES)}")
    given = {key: value for key, value in settings.items() if value is not None}
    try:
        return _SCHEDULES[name](rate, **given)
    except TypeError as error:
        raise ParameterError(f"schedules.get: {name} does not take {sorted(given)}") from error


def from_config(config: dict[str, Any]) -> Schedule:
    """The schedule that `get_config` described."""
    settings = dict(config)
    return get(settings.pop("name"), **settings)


def as_schedule(value: float | Schedule | Callable[[float, float], float]) -> Any:
    """A number as a constant rate; a schedule, or any function of position and length, as it is."""
    if isinstance(value, str):
        raise ParameterError(
            f"fit: schedule is {value!r}, expected a rate, a schedule with a rate such as "
            f"schedules.get({value!r}, 0.01), or a function"
        )
    return value if callable(value) else Constant(value)
