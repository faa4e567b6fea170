"""Arrays by NCCL: what is asked of cupyx.distributed, on which stream and when; for real on a GPU.

The stand-ins for CUDA's streams and events write down what is queued where, and are checked for
what the order of queues has to guarantee.
"""

import subprocess
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from gpugrad.backend.array_module import Device
from gpugrad.distributed import mpi, nccl
from gpugrad.errors import DistributedError

from .mpirun import environment, reason_without_mpi


class World:
    """MPI's communicator of this process, rank 0 of two; the other one gives what this one does."""

    rank, size = 0, 2

    def Dup(self):
        return self

    def Split_type(self, kind):
        return SimpleNamespace(rank=0, Free=lambda: None)

    def Iallgather(self, sent, received):
        given = sent[0]
        received[0].reshape(2, -1)[...] = given
        return SimpleNamespace(Test=lambda: True)


@pytest.fixture
def world(monkeypatch):
    found = SimpleNamespace(COMM_WORLD=World(), COMM_TYPE_SHARED=1, BYTE="byte")
    monkeypatch.setattr(mpi, "_mpi", lambda started: found)
    return found


@pytest.fixture
def queue(monkeypatch, world):
    """What is queued, as (stream, what); a link whose arrays, of NumPy, count as a GPU's."""
    queued = []

    class Stream:
        def __init__(self, non_blocking=False):
            self.name = "side" if non_blocking else "main"

        def wait_event(self, event):
            queued.append((self.name, f"wait for {event.name}"))

    main = Stream()

    class Event:
        count = 0

        def __init__(self, disable_timing=False):
            Event.count += 1
            self.name = f"event {Event.count}"

        def record(self, stream=main):
            queued.append((stream.name, f"record {self.name}"))

    class Backend:
        def all_gather(self, sent, received, count, stream=None):
            assert count == sent.size and received.shape == (2, *sent.shape)
            assert sent.flags.c_contiguous and received.flags.c_contiguous
            queued.append((stream.name, "all_gather"))
            received[...] = sent

    asked = []

    def init_process_group(size, rank, *, backend, use_mpi):
        asked.append((size, rank, backend, use_mpi))
        return Backend()

    module = ModuleType("cupyx.distributed")
    module.init_process_group = init_process_group
    monkeypatch.setitem(sys.modules, "cupyx", ModuleType("cupyx"))
    monkeypatch.setitem(sys.modules, "cupyx.distributed", module)
    cuda = SimpleNamespace(Stream=Stream, Event=Event, get_current_stream=lambda: main)
    monkeypatch.setattr(nccl, "cupy", lambda: SimpleNamespace(cuda=cuda, empty=np.empty))
    monkeypatch.setattr(nccl, "device_of", lambda array: Device("cuda", 0))
    link = nccl.NCCLCommunicator()
    assert asked == [(2, 0, "nccl", True)]
    return link, queued


def test_arrays_are_exchanged_on_a_stream_beside_the_computation(queue):
    link, queued = queue
    pending = link.gather(np.arange(6.0).reshape(2, 3))
    # the transfer waits for what makes the array, and nothing waits for the transfer
    begun = [
        ("main", "record event 1"),
        ("side", "wait for event 1"),
        ("side", "all_gather"),
        ("side", "record event 2"),
    ]
    assert queued == begun
    pending.poll()
    assert queued == begun
    np.testing.assert_array_equal(pending.wait(), [np.arange(6.0).reshape(2, 3)] * 2)
    # not the host: the stream of the computation
    assert queued == [*begun, ("main", "wait for event 2")]


def test_two_transfers_are_waited_for_one_by_one(queue):
    link, queued = queue
    first, second = link.gather(np.zeros(3)), link.gather(np.ones(3))
    del queued[:]
    second.wait()
    first.wait()
    assert queued == [("main", "wait for event 4"), ("main", "wait for event 2")]


def test_what_lies_on_the_host_goes_by_mpi(queue, monkeypatch):
    link, queued = queue
    monkeypatch.setattr(nccl, "device_of", lambda array: Device("cpu"))
    np.testing.assert_array_equal(link.gather(np.arange(3)).wait(), [np.arange(3)] * 2)
    assert link.any(True) and not link.any(False)
    assert queued == []


def test_nccl_that_does_not_start_is_a_named_error(queue, monkeypatch):
    def broken(*args, **options):
        raise RuntimeError("NCCL is not available")

    monkeypatch.setattr(sys.modules["cupyx.distributed"], "init_process_group", broken)
    with pytest.raises(DistributedError, match=r"NCCL does not start on rank 0 \(NCCL is not"):
        nccl.NCCLCommunicator()


@pytest.mark.parametrize("cuda_aware", [False, True])
def test_mpi_takes_arrays_of_a_gpu_by_way_of_the_host_or_not(
    world, cupy_standin, cuda_aware, monkeypatch
):
    seen = []
    stream = SimpleNamespace(synchronize=lambda: seen.append("made"))
    given = World.Iallgather

    def watched(self, sent, received):
        seen.append(type(sent[0]))
        return given(self, sent, received)

    link = mpi.MPICommunicator(cuda_aware=cuda_aware)
    link._comm = SimpleNamespace(
        rank=0, size=2, Iallgather=lambda sent, received: watched(world.COMM_WORLD, sent, received)
    )
    x = cupy_standin.arange(6, dtype="float16").reshape(2, 3)
    with monkeypatch.context() as patched:
        patched.setattr(cupy_standin.cuda, "get_current_stream", lambda: stream)
        found = link.gather(x).wait()
    assert isinstance(found, cupy_standin.ndarray) and found.dtype == np.float16
    np.testing.assert_array_equal(cupy_standin.asnumpy(found), [np.arange(6).reshape(2, 3)] * 2)
    # MPI reads the array itself only when it has been made
    assert seen == (["made", cupy_standin.ndarray] if cuda_aware else [np.ndarray])


@pytest.mark.parametrize(("told", "aware"), [(None, False), ("0", False), ("1", True)])
def test_mpi_is_not_given_arrays_of_a_gpu_unless_it_is_said_to_take_them(
    world, monkeypatch, told, aware
):
    monkeypatch.delenv("GPUGRAD_CUDA_AWARE_MPI", raising=False)
    if told is not None:
        monkeypatch.setenv("GPUGRAD_CUDA_AWARE_MPI", told)
    assert mpi.MPICommunicator().cuda_aware is aware


def test_failures_have_a_channel_on_which_nothing_else_is_under_way(world, monkeypatch):
    monkeypatch.setattr(World, "Dup", lambda self: World())
    link = mpi.MPICommunicator()
    link._failures.Ibarrier = lambda: SimpleNamespace(Test=lambda: True)
    assert link.all_failed(1.0) and not hasattr(link._comm, "Ibarrier")


def test_ranks_that_do_not_answer_are_taken_for_lost_in_time(world):
    link, looks = mpi.MPICommunicator(timeout=0.01), []

    def never():
        looks.append(1)
        assert len(looks) < 3000  # by then it sleeps for 0.01 s between two looks
        return False

    with pytest.raises(DistributedError, match=r"rank 0 has waited 0.01 s for the other 1 ranks"):
        link.finish(SimpleNamespace(Test=never))


ON_A_GPU = """
import cupy, numpy
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.fit import Trainer
from gpugrad.boltzmann.model import RBM
from gpugrad.distributed import connect

link = connect("nccl", device="cuda")
x = cupy.arange(1000, dtype="float32")
assert (link.gather(x).wait() == x).all()
images = (numpy.random.default_rng(0).random((100, 20)) < 0.3).astype("float32")

def trained(**how):
    model = RBM(20, 10, rng=Generator(1), device="cuda")
    Trainer(model, images, epochs=3, batch_size=20, rng=Generator(2), **how).run()
    return {name: p.get() for name, p in model.parameters().items()}

alone, linked = trained(shards=8), trained(communicator=link)
assert all((alone[name] == linked[name]).all() for name in alone)
print("equal")
"""


@pytest.mark.gpu
def test_training_by_nccl_makes_the_bits_of_a_single_process():
    """One rank: as many as there are GPUs here."""
    reason = reason_without_mpi()
    if reason:
        pytest.skip(reason)
    done = subprocess.run(
        [sys.executable, "-c", ON_A_GPU], env=environment(), capture_output=True, text=True
    )
    assert done.stdout.strip() == "equal", done.stderr
