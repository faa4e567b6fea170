"""The library's messages in the words of the command line: its settings are options there."""

import re
from collections.abc import Mapping

__all__ = ["SOURCES", "for_options"]

SAME = (
    "annealed_chains", "average_epochs", "batch_size", "betas", "beta1", "beta2", "burn_in",
    "centering_rate", "chains", "damping", "decay", "draw_states", "dtype", "epochs",
    "estimate_every", "estimate_temperatures", "gradient", "hidden", "hidden_units", "holdout",
    "init_scale", "k",
    "l1", "l2", "lateral", "log_penalty", "max_machines", "mean_field_steps", "method", "min_gain",
    "min_probability", "missing", "momentum", "n", "optimizer", "patience", "pretrain",
    "pretrain_rate", "ptt_threshold", "ptt_window", "random_seeds", "rungs", "sample_weight",
    "seed", "shards", "sparsity_layer", "sparsity_strength", "sparsity_target", "stream_block",
    "stream_blocks", "swap_every", "sweeps", "tap_order", "temperatures", "threshold",
    "validation", "visible_units",
)  # fmt: skip
OTHERS = {
    "connect: kind": "communicator",
    "distributed: timeout": "rank-timeout",
    "every_seconds": "checkpoint-seconds",
    "final": "final-rate",
    "n_chains": "chains",
    "n_random": "random-seeds",
    "rate": "learning-rate",
    "scheme": "init",
    "EarlyStopping: every": "estimate-every",
    "SparsityTarget: layer": "sparsity-layer",
    "SparsityTarget: strength": "sparsity-strength",
    "SparsityTarget: target": "sparsity-target",
    "Stream: block": "stream-block",
    "Stream: blocks": "stream-blocks",
    "TapPhases: order": "tap-order",
    "tap: order": "tap-order",
    "parallel_trajectory_tempering: threshold": "ptt-threshold",
    "parallel_trajectory_tempering: window": "ptt-window",
    "pretrain: epochs": "pretrain",
    "pretrain: learning_rate": "pretrain-rate",
}
OPTIONS = {name: name.replace("_", "-") for name in SAME} | OTHERS
"""The option that sets what the library calls by another name, or by the same one."""

MISSING = ": data has NaN"
HINTS = (
    ("a class of one's own has to be", "; --module imports it"),
    (
        "values between 0 and 1; the probability",
        "; grey values become states with --threshold 0.5",
    ),
    ("2*x - 1", "; --threshold 0.5 makes these"),
    (": a longer run ", "; --overwrite begins anew, another --output keeps this run"),
    (": --threshold is", "; grey values 0..255 of 8-bit data are divided by 255 first"),
    (
        "is a model of an own energy, expected a model",
        "; in Python, EnergyMachine.load(path, energy) reads it",
    ),
)


INTERNAL = ("as_units", "format_of", "open_stream")
"""Functions that nobody who types a command has called: messages carry the command's name."""

SOURCES = "gpugrad.sources"
"""Where the context of a command keeps from which file each setting came."""


def for_options(command: str, message: str, sources: Mapping[str, str] | None = None) -> str:
    """'fit: n_chains is 0, ...' -> 'train: --chains is 0, ...'; other messages as they are.

    Parameters
    ----------
    command, message : str
    sources : mapping of str, optional
        The file, as a person calls it, of each setting that was not given as an option: 'train:
        chains of recipe a.toml is 0, ...'.
    """
    found = re.match(r"([\w.]+): (\w+) (is|are|has) ", message)
    if found is not None:
        option = OPTIONS.get(f"{found[1]}: {found[2]}", OPTIONS.get(found[2]))
        if option is not None:
            message = f"{command}: --{option} {found[3]} {message[found.end() :]}"
    found = re.match(r"schedules\.get: (\w+) does not take \['final'\]", message)
    if found is not None:
        message = f"{command}: --schedule {found[1]} does not take --final-rate"
    message = re.sub(
        r"^schedules\.get: no schedule", f"{command}: --schedule: no schedule", message
    )
    message = re.sub(rf"^({'|'.join(INTERNAL)}): ", f"{command}: ", message)
    found = re.match(rf"{command}: --([\w-]+)(?= is | are | has |: )", message)
    source = (sources or {}).get(found[1].replace("-", "_")) if found is not None else None
    if found is not None and source is not None:
        message = f"{command}: {found[1]} of {source}{message[found.end() :]}"
    if MISSING in message:
        impute = "; missing values are summed out with --missing impute"
        message += impute if command == "train" else "; expected complete samples"
    return message + "".join(hint for part, hint in HINTS if part in message)
