"""How a job begins and ends: on all ranks, or on none."""

import pytest

from gpugrad.distributed import agreed, ends_together
from gpugrad.errors import DataError, DistributedError, DivergenceError

from .thread_ranks import on_ranks, results


def attempt(link, failing, error):
    with agreed(link):
        if link.rank in failing:
            raise error(f"of rank {link.rank}")
    return "went on"


def test_what_all_ranks_can_do_goes_on():
    assert results(3, lambda link: attempt(link, (), DataError)) == ["went on"] * 3


def test_what_one_rank_cannot_do_fails_on_all_with_its_number():
    found = on_ranks(3, lambda link: attempt(link, (1,), DataError))
    assert [type(x) for x in found] == [DistributedError, DataError, DistributedError]
    assert [str(x) for x in found] == ["rank 1: DataError: of rank 1", "of rank 1"] + [
        "rank 1: DataError: of rank 1"
    ]


@pytest.mark.parametrize("error", [OSError, KeyError, MemoryError])
def test_of_several_that_fail_the_first_is_named_whatever_the_error(error):
    found = on_ranks(3, lambda link: attempt(link, (1, 2), error))
    assert [type(x) for x in found] == [DistributedError, error, error]
    assert str(found[0]).startswith(f"rank 1: {error.__name__}: ")


def test_what_no_rank_can_do_is_the_error_of_each():
    found = on_ranks(2, lambda link: attempt(link, (0, 1), DataError))
    assert [(type(x), str(x)) for x in found] == [
        (DataError, "of rank 0"),
        (DataError, "of rank 1"),
    ]


class Link:
    """A rank of two whose other rank fails too, or does not; it writes down what is asked."""

    rank, size = 1, 2

    def __init__(self, other_fails):
        self.other_fails, self.aborted = other_fails, False

    def all_failed(self, patience):
        return self.other_fails

    def abort(self):
        self.aborted = True


def test_an_error_that_all_ranks_meet_is_raised_on_all(capsys):
    link = Link(other_fails=True)
    with pytest.raises(DivergenceError), ends_together(link):
        raise DivergenceError("too large a rate")
    assert not link.aborted and capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    "error, traceback",
    [
        (DataError("torn file"), False),
        (OSError("no space left"), False),
        (KeyboardInterrupt(), False),
        # nobody expected it: where it arose is worth its lines
        (ZeroDivisionError("division by zero"), True),
    ],
)
def test_an_error_of_one_rank_is_told_with_its_number_and_ends_all(error, traceback, capsys):
    link = Link(other_fails=False)
    with pytest.raises(type(error)), ends_together(link, "; go on with --resume"):
        raise error
    assert link.aborted
    told = capsys.readouterr().err.strip().splitlines()
    expected = f"gpugrad: error: rank 1: {type(error).__name__}: {error}; this ends all 2 ranks"
    assert told[-1] == expected + "; go on with --resume"
    assert (len(told) > 1) == traceback


def test_a_process_that_is_alone_raises_as_ever(capsys):
    alone = Link(other_fails=False)
    alone.size = 1
    for link in (None, alone):
        with pytest.raises(DataError), ends_together(link):
            raise DataError("torn file")
    assert capsys.readouterr().err == "" and not alone.aborted
