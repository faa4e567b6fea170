"""The library on real ranks: `tests.distributed.programs` under mpirun."""

import subprocess

import numpy as np
import pytest

from .mpirun import ROOT, environment, python, reason_without_mpi, run
from .programs import METHODS

reason = reason_without_mpi()
pytestmark = pytest.mark.skipif(bool(reason), reason=f"no MPI: {reason}")


def program(output):
    return python("-m", "tests.distributed.programs", output)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What a single process makes that nobody started as one of several."""
    output = tmp_path_factory.mktemp("alone") / "found.npz"
    done = subprocess.run(
        program(output), env=environment(), cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return np.load(output)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_ranks_make_the_bits_of_a_single_process(size, alone, tmp_path):
    """Parameters, optimiser, chains and counters of several methods, and the annealed weights."""
    done = run((size, program(tmp_path / "found.npz")), cwd=ROOT)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "found.npz") as found:
        assert found["size"] == size and alone["size"] == 1
        assert found.files == alone.files
        assert {name.split(":")[0] for name in found.files} >= {*METHODS, "ais", "raise"}
        for name in found.files[1:]:
            np.testing.assert_array_equal(found[name], alone[name], err_msg=name)
