"""Training cut into shards: the gradient of the whole, and the same bits on any number of ranks."""

from functools import partial

import numpy as np
import pytest

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.callbacks import Callback, StopOnSignal
from gpugrad.boltzmann.communicator import Serial, check_ranks
from gpugrad.boltzmann.energy_machine import EnergyMachine
from gpugrad.boltzmann.fit import Trainer
from gpugrad.boltzmann.general_phases import GeneralPhases
from gpugrad.boltzmann.layers import BernoulliLayer, GaussianLayer, IsingLayer
from gpugrad.boltzmann.model import BoltzmannMachine
from gpugrad.boltzmann.penalties import L2Penalty
from gpugrad.boltzmann.phases import Phases
from gpugrad.boltzmann.providers import make_phases
from gpugrad.boltzmann.samplers import GibbsInfo
from gpugrad.boltzmann.sparsity import SparsityTarget
from gpugrad.boltzmann.state import State
from gpugrad.boltzmann.tap_phases import TapPhases
from gpugrad.errors import CheckpointError, DistributedError, ParameterError
from tests.boltzmann.machines import host
from tests.boltzmann.trainers import SHORT, VARIANTS, StopAt, arrays_of, spins, trainer_of

from .thread_ranks import on_ranks, results

SHARDS = 4


# ---- the gradient of the whole


class Still:
    """A sampler whose chains, given at the start, never move."""

    def __init__(self, units):
        self.units, self.taken = units, 0

    def start(self, rng, model, n_chains):
        rows = slice(self.taken, self.taken + n_chains)
        self.taken += n_chains
        return State(tuple(x[rows] for x in self.units))

    def __call__(self, rng, model, state):
        expected = state
        if isinstance(model, BoltzmannMachine) and model.num_layers == 2:
            expected = state.replace(1, model.conditional_mean(1, state))
        return state, GibbsInfo(expected)


def triple(xp, params, v, h):
    return -xp.sum(xp.matmul(v, params.W) * h, axis=1) - params.K * v[:, 0] * v[:, 1] * h[:, 0]


def machine(kinds, lateral=None):
    model = BoltzmannMachine(
        [kind(n) for kind, n in kinds],
        dtype="float64",
        device="cpu",
        rng=Generator(2),
        lateral=lateral,
    )
    for name, array in model.parameters().items():
        if not name.startswith("lateral"):
            array += 0.3 * Generator(3).split(name).normal(array.shape, "float64", device="cpu")
    return model


def ring():
    J = 0.2 * np.roll(np.eye(5), 1, axis=0)
    return {0: J + J.T}


BITS = [(BernoulliLayer, 5), (BernoulliLayer, 3)]
MACHINES = {
    "spins": lambda: machine(BITS),
    "gaussian": lambda: machine([(GaussianLayer, 5), (IsingLayer, 3)]),
    "deep": lambda: machine([(BernoulliLayer, 5), (IsingLayer, 4), (BernoulliLayer, 3)]),
    "lateral": lambda: machine([(IsingLayer, 5)], ring()),
    "own energy": lambda: EnergyMachine(
        [IsingLayer(5), BernoulliLayer(3)],
        triple,
        {"W": 0.3 * np.arange(15.0).reshape(5, 3) / 15, "K": np.array(0.4)},
        dtype="float64",
        device="cpu",
    ),
}
HOW = {
    "plain": {},
    "centred": {"centred": True},
    "centred, weighted": {"centred": True, "weighted": True},
    "autodiff, centred": {"centred": True, "autodiff": True},
    "sparse, centred, weighted": {
        "centred": True,
        "weighted": True,
        "sparsity": SparsityTarget(0.1, 2.0),
    },
}
LACKING = {
    ("deep", "autodiff, centred"),
    ("lateral", "autodiff, centred"),
    *((name, "sparse, centred, weighted") for name in ("lateral", "own energy")),
}
CASES = [(m, h) for m in MACHINES for h in HOW if (m, h) not in LACKING]


def gradient_of(model, rows, chains, shards, *, centred=False, weighted=False, **how):
    """Gradient and offsets of one call, by the whole or by shards."""
    n = len(rows)
    offsets = [np.full(x.num_units, 0.2) for x in model.layers] if centred else None
    if shards is not None:
        how |= {"shards": shards}
    phases = make_phases(
        model,
        Generator(1),
        sampler=Still(chains),
        n_chains=len(chains[0]),
        max_batch=n,
        offsets=offsets,
        centering_rate=0.25,
        **how,
    )
    phases.data_rows(n)[...] = rows
    weight = np.arange(1.0, n + 1) / (n * (n + 1) / 2) if weighted else None
    found = {name: np.array(a) for name, a in phases(n, weight).items()}
    return found, [np.array(o) for o in phases.offsets or ()]


@pytest.mark.parametrize("n", [10, 3])
@pytest.mark.parametrize("kind, how", CASES)
def test_the_gradient_is_that_of_the_whole_batch(kind, how, n):
    """Also with fewer samples than shards, and parts of unequal size."""
    model = MACHINES[kind]()
    rng = Generator(5)
    rows = np.array(model.random_state(n, rng=rng).visible)
    chains = [np.array(x) for x in model.random_state(7, rng=rng)]
    for part in getattr(model, "weights", ()):
        part.add_penalty({"matrix": L2Penalty(0.3)})
    given = (model, rows, chains)
    expected, offsets = gradient_of(*given, None, **HOW[how])
    found, moved = gradient_of(*given, SHARDS, **HOW[how])
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-10, atol=1e-12, err_msg=name)
    np.testing.assert_allclose(np.concatenate([*moved, [0]]), np.concatenate([*offsets, [0]]))


@pytest.mark.parametrize("how", ["plain", "centred", "centred, weighted", "autodiff, centred"])
@pytest.mark.parametrize("kind", ["spins", "deep"])
def test_the_tap_gradient_is_that_of_all_seeds(kind, how):
    model = MACHINES[kind]()
    settings = dict(HOW[how])
    weighted, centred = settings.pop("weighted", False), settings.pop("centred", False)
    rows = np.array(model.random_state(10, rng=Generator(5)).visible)
    weight = np.arange(1.0, 11) / 55 if weighted else None
    found = []
    seeds = None
    for shards in (SHARDS, None):
        offsets = [np.full(x.num_units, 0.2) for x in model.layers] if centred else None
        phases = make_phases(
            model,
            Generator(1),
            method="tap",
            n_chains=7,
            max_batch=10,
            offsets=offsets,
            shards=shards,
            **settings,
        )
        if seeds is None:
            arrays = phases.arrays()
            seeds = {
                f"seeds.{i}": np.concatenate([arrays[f"shards.{s}.seeds.{i}"] for s in range(4)])
                for i in range(model.num_layers)
            }
        else:
            phases.load_arrays(phases.arrays() | seeds)
        phases.data_rows(10)[...] = rows
        found.append({name: np.array(a) for name, a in phases(10, weight).items()})
    for name, array in found[1].items():
        np.testing.assert_allclose(found[0][name], array, rtol=1e-9, atol=1e-11, err_msg=name)


@pytest.mark.parametrize("n", [10, 3])
def test_the_gradient_of_contrastive_divergence_is_that_of_the_whole_batch(n):
    """Fields of a thousand leave nothing to chance: h copies three visible units, v the three."""
    model = machine(BITS)
    model.set_parameters(
        {
            "weights.0.matrix": 2000 * np.eye(5, 3),
            "layers.0.loc": np.full(5, -1000.0),
            "layers.1.loc": np.full(3, -1000.0),
        }
    )
    rows = (np.arange(n)[:, None] % np.arange(2, 7) == 0).astype("float64")
    found = []
    for shards in (SHARDS, None):
        phases = make_phases(model, Generator(1), method="cd", max_batch=n, shards=shards)
        phases.data_rows(n)[...] = rows
        found.append({name: np.array(a) for name, a in phases(n).items()})
    lost = -rows.mean(axis=0) * [0, 0, 0, 1, 1]  # the last two are not copied
    np.testing.assert_allclose(found[0]["layers.0.loc"], lost, atol=1e-14)
    for name, array in found[1].items():
        np.testing.assert_allclose(found[0][name], array, atol=1e-14, err_msg=name)


def test_fresh_seeds_are_cut_into_shards_too():
    model = MACHINES["spins"]()
    method = partial(TapPhases, n_random=9)
    phases = make_phases(model, Generator(1), method=method, n_chains=6, shards=SHARDS)
    made = phases.providers.values()
    assert [(p.n_chains, p.n_random) for p in made] == [(1, 2), (2, 2), (1, 2), (2, 3)]
    assert phases.shares == pytest.approx([3 / 15, 4 / 15, 3 / 15, 5 / 15])


# ---- the same bits on any number of ranks


def sharded(xp, variant, link=None, **settings):
    make, own = VARIANTS[variant]
    given = {"data": SHORT, "epochs": 3, "batch_size": 12, "rng": Generator(1), **own, **settings}
    return Trainer(make(xp), given.pop("data"), shards=SHARDS, communicator=link, **given)


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.parametrize("variant", VARIANTS)
def test_any_number_of_ranks_ends_in_the_same_bits(variant):
    """Parameters, optimiser, offsets, chains and random counters of every kind of training."""

    def run(link):
        made = sharded(np, variant, link)
        made.run()
        return arrays_of(made), [r | {"seconds": 0} for r in made.history]

    expected = run(Serial())
    start = arrays_of(sharded(np, variant))
    assert any((start[n] != expected[0][n]).any() for n in start if n.startswith("model."))
    for size in (2, 3):
        for arrays, history in results(size, run):
            assert_same(arrays, expected[0])
            assert history == expected[1]


def test_shards_on_a_device_give_what_they_give_on_the_host(xp):
    def run(module):
        made = sharded(module, "sparse")
        for _ in range(3):
            made.update()
        return arrays_of(made)

    expected = run(np)
    for name, array in run(xp).items():
        # chains are bits: with equal random numbers they are equal but where a mean meets one
        np.testing.assert_allclose(array, expected[name], atol=1e-5, err_msg=name)


def test_a_process_that_is_alone_takes_no_shards_unless_it_is_told_a_number():
    plain, cut = trainer_of(np, "sparse"), sharded(np, "sparse")
    assert plain.settings()["shards"] is None and cut.settings()["shards"] == SHARDS
    assert type(plain.phases) is Phases and type(cut.phases) is not Phases


def test_shards_draw_different_numbers():
    made = sharded(np, "deep", n_chains=40)
    states = [provider.state for provider in made.phases.providers.values()]
    chains = [np.concatenate([host(x).ravel() for x in state]) for state in states]
    assert all((chains[0] != other).any() for other in chains[1:])


@pytest.mark.parametrize("variant", ["deep", "trajectory", "missing", "tap", "gaussian cd"])
def test_a_checkpoint_goes_on_with_another_number_of_ranks(variant):
    def first(link):
        made = sharded(np, variant, link, callbacks=[StopAt(5)])
        made.run()
        arrays, metadata = made.state_dict()
        return {name: host(a).copy() for name, a in arrays.items()}, metadata

    undisturbed = sharded(np, variant)
    undisturbed.run()
    (arrays, metadata), *others = results(2, first)
    assert_same(others[0][0], arrays)
    for size in (1, 3):

        def second(link):
            made = sharded(np, variant, link)
            made.load_state_dict(arrays, metadata)
            made.run()
            return arrays_of(made)

        for found in results(size, second):
            assert_same(found, arrays_of(undisturbed))


# ---- what is exchanged, and when


class Recorder(Serial):
    """A communicator that writes down what happens."""

    def __init__(self):
        self.events = []

    def gather(self, array):
        self.events.append(f"begin {array.size}")
        return _Recorded(self.events, array)


class _Recorded:
    def __init__(self, events, array):
        self.events, self.array = events, array

    def poll(self):
        self.events.append(f"poll {self.array.size}")

    def wait(self):
        self.events.append(f"end {self.array.size}")
        return self.array[None]


def test_the_data_term_is_exchanged_while_the_chains_move():
    """And the means that enter it are those of this batch: they are there before it begins."""
    link = Recorder()

    class Watched(Still):
        def __call__(self, rng, model, state):
            link.events.append("move")
            return super().__call__(rng, model, state)

    model = machine(BITS)
    chains = [np.array(x) for x in model.random_state(4, rng=Generator(1))]
    phases = make_phases(
        model,
        Generator(1),
        sampler=Watched(chains),
        n_chains=4,
        max_batch=8,
        offsets=[np.zeros(5), np.zeros(3)],
        shards=2,
        communicator=link,
    )
    phases.data_rows(8)[...] = 1
    phases(8)
    of_all, means = 5 + 3 + 15, 5 + 3
    under_way = ["move", f"poll {of_all}"] * 2
    assert link.events == [
        *(f"begin {means}", f"end {means}"),
        f"begin {of_all}",
        *under_way,
        f"begin {of_all}",
        *(f"end {of_all}", f"end {of_all}"),
    ]


# ---- ranks that do not fit together


def failures(size, function):
    found = on_ranks(size, function)
    return [str(x) if isinstance(x, DistributedError) else x for x in found]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"epochs": 4}, "fit: rank 1 has epochs 4, rank 0 has 3: expected the same on all ranks"),
        ({"data": SHORT[::-1]}, "fit: rank 1 has data crc32"),
        ({"rng": Generator(7)}, "fit: rank 1 has rng key"),
        ({"centering_rate": 0.5}, "fit: rank 1 has centering_rate 0.5, rank 0 has 0.01"),
    ],
)
def test_ranks_that_would_train_differently_are_refused_on_all_of_them(change, message):
    def run(link):
        made = sharded(np, "deep", link, **(change if link.rank == 1 else {}))
        before = arrays_of(made)
        try:
            made.run()
        finally:
            assert made.step == 0
            assert all((host(a) == before[f"model.{n}"]).all() for n, a in parameters_of(made))

    found = failures(3, run)
    assert found[0].startswith(message) and found.count(found[0]) == 3


def test_a_nan_that_all_ranks_have_is_no_difference():
    def run(link):
        check_ranks(link, "fit", {"rate": float("nan")})
        return link.rank

    assert results(2, run) == [0, 1]


def parameters_of(trainer):
    return trainer.model.parameters().items()


def test_a_rank_that_starts_from_another_machine_is_refused():
    def run(link):
        made = sharded(np, "deep", link)
        made.model.weights[0].W()[...] += 1e-6 * (link.rank == 2)
        made.run()

    found = failures(3, run)
    assert found[1].startswith("fit: rank 2 has parameters weights.0.matrix")


def test_ranks_that_drift_apart_are_found_at_the_end_of_the_epoch():
    class Fault(Callback):
        def update(self, trainer):
            if trainer.communicator.rank == 1 and trainer.step == 2:
                trainer.model.layers[0].params.loc[...] += 1e-6

    seen = {}

    def run(link):
        made = sharded(np, "deep", link, callbacks=[Fault()])
        try:
            made.run()
        finally:
            seen[link.rank] = made.step

    assert all("fit: rank 1 has parameters layers.0.loc" in text for text in failures(2, run))
    assert seen == {0: 4, 1: 4}


def test_one_rank_that_is_asked_to_stop_stops_all_after_the_same_update():
    class Ask(Callback):
        def update(self, trainer):
            if trainer.communicator.rank == 2 and trainer.step == 5:
                trainer.request_stop()

    def run(link):
        made = sharded(np, "deep", link, callbacks=[Ask()])
        made.run()
        return made.step

    assert results(3, run) == [5, 5, 5]


def test_the_signal_of_one_rank_is_known_to_all():
    import signal

    def run(link):
        stopper = StopOnSignal()
        made = sharded(np, "deep", link, callbacks=[stopper], epochs=1)

        class Come(Callback):
            def update(self, trainer):
                if link.rank == 1:
                    stopper.signal = signal.SIGUSR1

        made.callbacks.append(Come())
        made.run()
        return stopper.signal

    assert results(2, run) == [signal.SIGUSR1, signal.SIGUSR1]


# ---- what cannot be cut


def test_fewer_chains_than_shards_are_refused():
    with pytest.raises(ParameterError, match="fit: n_chains is 3 for 4 shards, expected at least"):
        sharded(np, "deep", n_chains=3)


def test_contrastive_divergence_needs_no_chains_of_its_own():
    made = sharded(np, "deep cd", n_chains=3)
    made.update()
    assert made.step == 1


def test_a_provider_that_gives_no_parts_is_refused_by_name():
    class Whole:
        offsets = None

        def __init__(self, model, rng, **settings):
            pass

    with pytest.raises(ParameterError, match="fit: Whole cannot be cut into shards, expected"):
        sharded(np, "deep", method=Whole)


def test_a_provider_that_keeps_its_generator_to_itself_goes_on_too():
    class Own:
        def __init__(self, model, rng, **settings):
            self._made = GeneralPhases(model, rng, **settings)

        def __getattr__(self, name):
            if name == "rng":
                raise AttributeError(name)
            return getattr(self._made, name)

    undisturbed, stopped, resumed = (
        sharded(np, "deep", method=Own, callbacks=callbacks) for callbacks in ([], [StopAt(4)], [])
    )
    undisturbed.run()
    stopped.run()
    resumed.load_state_dict(*stopped.state_dict())
    resumed.run()
    assert_same(arrays_of(resumed), arrays_of(undisturbed))


def test_a_checkpoint_of_another_number_of_shards_is_refused():
    made = sharded(np, "deep")
    arrays, metadata = made.state_dict()
    other = Trainer(
        VARIANTS["deep"][0](np), SHORT, epochs=3, batch_size=12, rng=Generator(1), shards=2
    )
    with pytest.raises(CheckpointError, match="made with shards 4, expected 2"):
        other.load_state_dict(arrays, metadata)


@pytest.mark.parametrize(
    ("variant", "name"),
    [
        ("deep", "shards.2.chains.1"),
        ("deep", "shards.3.counter"),
        ("deep", "offsets.0"),
        ("tap", "shards.2.seeds.1"),  # whose arrays are overwritten in place
    ],
)
def test_a_checkpoint_with_a_part_missing_changes_nothing(variant, name):
    made = sharded(np, variant)
    made.update()
    arrays, metadata = made.state_dict()
    arrays = {n: host(a).copy() for n, a in arrays.items()}
    other = sharded(np, variant)
    before = arrays_of(other)
    del arrays[name]
    what = name.removeprefix("shards.2.")
    with pytest.raises(CheckpointError, match=f"lacks {what}"):
        other.load_state_dict(arrays, metadata)
    assert_same(arrays_of(other), before)


def test_a_counter_that_is_cut_short_is_refused():
    made = sharded(np, "deep")
    arrays, metadata = made.state_dict()
    arrays = dict(arrays) | {"shards.1.counter": arrays["shards.1.counter"][:3]}
    with pytest.raises(CheckpointError, match=r"lacks shards.1.counter of shape \(4,\)"):
        made.load_state_dict(arrays, metadata)


def test_the_chains_of_all_shards_are_found_on_every_rank():
    def run(link):
        return [host(x) for x in sharded(np, "deep", link).phases.chains()]

    expected = run(Serial())
    assert expected[0].shape == (12, 4)
    for found in results(2, run):
        for own, all_of_them in zip(found, expected, strict=True):
            np.testing.assert_array_equal(own, all_of_them)
    assert sharded(np, "tap").phases.chains() is None


def test_of_replicas_the_chains_are_those_of_the_machine_itself():
    made = sharded(np, "tempering")
    made.update()
    states = [provider.state for provider in made.phases.providers.values()]
    for i, units in enumerate(made.phases.chains()):
        own = np.concatenate([state.cold[i] for state in states])
        np.testing.assert_array_equal(units, own)
    assert units.shape == (6, 3) and len(states[0].units[0]) > len(states[0].cold[0])


def test_half_precision_is_added_up_in_single():
    model = spins([BernoulliLayer(4), BernoulliLayer(3)], np)
    half = model.copy(dtype="float16")
    made = Trainer(half, SHORT, batch_size=40, shards=SHARDS, rng=Generator(1))
    gradient = made.phases(40)
    assert all(a.dtype == np.float16 for a in gradient.values())
    assert made.phases._like.dtype == np.float32
