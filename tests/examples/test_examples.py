"""The examples run as they stand, on fewer images, and learn: by chance a tenth would be right."""

from __future__ import annotations

import pytest

from tests.architecture.repository import ROOT
from tests.fresh_python import output_of

EXAMPLES = ROOT / "examples"


# Ten seeds gave 0.64 to 0.73 and 0.54 to 0.64; the least asked for is five standard deviations
# (0.03) below their means. The seed is fixed, but what rounding makes of it is not.
@pytest.mark.parametrize(
    "name, settings, least",
    [
        ("conv_classifier", "images=2000, tests=1000, epochs=1", 0.53),
        ("gru_sequence", "images=2000, tests=1000, epochs=2", 0.44),
    ],
)
def test_example_learns_the_digits(name: str, settings: str, least: float):
    printed = output_of(f"import {name}; print({name}.main({settings}))", EXAMPLES)
    assert float(printed.split()[-1]) > least


GAIN_OF_TAP = """
import numpy as np
import tap_rbm as example

reached = example.main(images=2000, tests=200, epochs=15)
train, test = (example.mnist(part).reshape(-1, 784) for part in ("train", "test"))
pixels = example.RBM(784, 1)
example.initialize(pixels, train[:2000])
pixels.set_parameters({"weights.0.matrix": np.zeros((784, 1))})
print(reached - example.pseudo_likelihood(pixels, test[:200], method="exact"))
"""


def test_tap_example_gains_on_independent_pixels():
    """Exact pseudo-likelihoods of 200 images after 300 updates; the seed is fixed."""
    assert float(output_of(GAIN_OF_TAP, EXAMPLES).split()[-1]) > 30


@pytest.mark.parametrize("name", ("conv_classifier", "gru_sequence", "tap_rbm"))
def test_example_is_short(name: str):
    assert len((EXAMPLES / f"{name}.py").read_text(encoding="utf-8").splitlines()) < 100
