"""Data that every test of the command may train on."""

import numpy as np
import pytest

from .runner import bars


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "bars.npy"
    np.save(path, bars())
    return path
