"""Who started the process, and what happens where the link that he promises is not there."""

import sys
from types import SimpleNamespace

import pytest

from gpugrad.backend.array_module import Device
from gpugrad.distributed import connect, mpi, rank_device
from gpugrad.distributed.launcher import Launcher, launcher
from gpugrad.errors import DistributedError, MissingExtraError, ParameterError

OPEN_MPI = {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "2"}
SRUN = {"SLURM_STEP_NUM_TASKS": "3", "SLURM_PROCID": "1", "SLURM_NTASKS": "3"}


@pytest.mark.parametrize(
    "environment, expected",
    [
        ({}, None),
        (OPEN_MPI, ("mpirun (Open MPI)", 4, 2)),
        ({"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"}, ("mpirun (Open MPI)", 1, 0)),
        ({"PMI_SIZE": "2", "PMI_RANK": "1"}, ("mpirun (PMI)", 2, 1)),
        ({"MV2_COMM_WORLD_SIZE": "2", "MV2_COMM_WORLD_RANK": "0"}, ("mpirun (MVAPICH)", 2, 0)),
        (SRUN, ("srun", 3, 1)),
        # srun offers PMI, with a plug-in, to a single task too
        (SRUN | {"PMI_SIZE": "3", "PMI_RANK": "1"}, ("srun", 3, 1)),
        ({"SLURM_STEP_NUM_TASKS": "1", "PMI_SIZE": "1", "SLURM_PROCID": "0"}, None),
        # a batch script has the variables of its job
        ({"SLURM_NTASKS": "3", "SLURM_PROCID": "0", "SLURM_JOB_ID": "7"}, None),
        # the daemons of mpirun were started by srun, one a node
        (
            OPEN_MPI | {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"},
            ("mpirun (Open MPI)", 4, 2),
        ),
        ({"OMPI_COMM_WORLD_SIZE": "many"}, None),
    ],
)
def test_the_launcher_is_read_from_the_environment(environment, expected):
    assert launcher(environment) == (None if expected is None else Launcher(*expected))


@pytest.fixture
def started(monkeypatch):
    for name in ("PMI_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in OPEN_MPI.items():
        monkeypatch.setenv(name, value)


def test_without_a_launcher_there_is_no_link(started, monkeypatch):
    monkeypatch.delenv("OMPI_COMM_WORLD_SIZE")
    assert connect() is None


def test_none_asks_nobody(started):
    assert connect("none") is None


def test_another_kind_is_refused():
    with pytest.raises(ParameterError, match="connect: kind is 'gloo', expected one of"):
        connect("gloo")


def test_a_launcher_without_mpi4py_is_an_error_with_the_command_that_helps(started, monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    expected = r'mpirun \(Open MPI\) started 4 processes, .* pip install "gpugrad\[mpi\]"'
    with pytest.raises(MissingExtraError, match=expected):
        connect()


def test_mpi4py_without_an_mpi_is_an_error_with_the_command_that_helps(started, monkeypatch):
    class NoLibrary:
        def __getattr__(self, name):
            raise RuntimeError("cannot load MPI library")

    monkeypatch.setitem(sys.modules, "mpi4py", NoLibrary())
    with pytest.raises(MissingExtraError, match=r"finds no MPI \(cannot load MPI library\)"):
        connect()


def test_processes_that_mpi_does_not_see_are_not_trained_separately(started, monkeypatch):
    """mpirun of one MPI, mpi4py of another: each process would be alone."""
    found = SimpleNamespace(
        COMM_WORLD=SimpleNamespace(size=1, rank=0),
        Get_library_version=lambda: "MPICH Version: 4.2, of today",
    )
    monkeypatch.setattr(mpi, "_mpi", lambda started: found)
    expected = r"started 4 processes, but MPI \(MPICH Version: 4.2\) sees 1: expected the launcher"
    with pytest.raises(DistributedError, match=expected):
        connect()


@pytest.fixture
def linked(started, monkeypatch):
    """`connect` with links that exchange nothing; what they were, and what was compared."""
    module, seen = sys.modules["gpugrad.distributed.connect"], []
    for name in ("MPICommunicator", "NCCLCommunicator"):
        made = lambda name=name, **how: seen.append(name) or SimpleNamespace(size=1, local_rank=0)
        monkeypatch.setattr(module, name, made)
    compare = lambda link, function, mine: seen.append(sorted(mine))
    monkeypatch.setattr(module, "check_ranks", compare)
    return seen


def test_ranks_with_a_gpu_are_linked_by_nccl_and_others_by_mpi(linked, cupy_standin):
    compared = ["CuPy", "NumPy", "Python", "gpugrad"]
    for kind, device, links in (
        ("auto", "cpu", ["MPICommunicator"]),
        ("auto", "cuda", ["MPICommunicator", "NCCLCommunicator"]),
        ("mpi", "cuda", ["MPICommunicator"]),
    ):
        del linked[:]
        connect(kind, device=device)
        # versions are compared before anything else is done
        assert linked == [links[0], compared, *links[1:]]


def test_a_link_that_is_asked_for_is_made_without_a_launcher_too(linked, monkeypatch):
    monkeypatch.setattr(sys.modules["gpugrad.distributed.connect"], "launcher", lambda: None)
    assert connect("auto") is None and not linked
    assert connect("mpi") is not None and linked[0] == "MPICommunicator"


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_timeout_is_a_positive_number_of_seconds(timeout):
    with pytest.raises(ParameterError, match="distributed: timeout is"):
        mpi.MPICommunicator(timeout=timeout)


def test_each_rank_takes_the_gpu_of_its_number_on_the_node(cupy_standin):
    devices = cupy_standin.cuda.runtime.getDeviceCount()
    assert devices == 2
    ranks = [SimpleNamespace(local_rank=i) for i in range(3)]
    assert [rank_device("cuda", r) for r in ranks] == [Device("cuda", i) for i in (0, 1, 0)]
    # one that is named is meant
    assert {rank_device("cuda:1", r) for r in ranks} == {Device("cuda", 1)}
    assert rank_device("cuda", None) == Device("cuda", 0)
    assert rank_device("cpu", ranks[1]) == Device("cpu")
