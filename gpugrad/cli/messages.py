"""The library's messages in the words of the command line: its settings are options there."""

import re

__all__ = ["for_options"]

OPTIONS = {
    "annealed_chains": "annealed-chains",
    "average_epochs": "average-epochs",
    "batch_size": "batch-size",
    "centering_rate": "centering-rate",
    "dtype": "dtype",
    "epochs": "epochs",
    "every_seconds": "checkpoint-seconds",
    "final": "final-rate",
    "gradient": "gradient",
    "hidden": "hidden",
    "init_scale": "init-scale",
    "k": "k",
    "method": "method",
    "min_probability": "min-probability",
    "momentum": "momentum",
    "n": "n",
    "n_chains": "chains",
    "chains": "chains",
    "rate": "learning-rate",
    "scheme": "init",
    "seed": "seed",
    "sweeps": "sweeps",
    "temperatures": "temperatures",
    "threshold": "threshold",
}
"""The option that sets what the library calls by another name, or by the same one."""

HINTS = (
    (
        "values between 0 and 1; the probability",
        "; grey values become states with --threshold 0.5",
    ),
    (": --threshold is", "; grey values 0..255 of 8-bit data are divided by 255 first"),
)


def for_options(command: str, message: str) -> str:
    """'fit: n_chains is 0, ...' -> 'train: --chains is 0, ...'; other messages as they are."""
    found = re.match(r"[\w.]+: (\w+) is ", message)
    if found is not None and found[1] in OPTIONS:
        message = f"{command}: --{OPTIONS[found[1]]} is {message[found.end() :]}"
    found = re.match(r"schedules\.get: (\w+) does not take \['final'\]", message)
    if found is not None:
        message = f"{command}: --schedule {found[1]} does not take --final-rate"
    message = re.sub(
        r"^schedules\.get: no schedule", f"{command}: --schedule: no schedule", message
    )
    return message + "".join(hint for part, hint in HINTS if part in message)
