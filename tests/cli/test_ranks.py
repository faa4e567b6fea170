"""What each of several processes prints before it is linked with the others."""

import pytest

pytest.importorskip("typer", reason="typer is not installed")

from gpugrad.cli import ranks

from .runner import assert_one_line_error, invoke

VARIABLES = [
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    ("PMI_SIZE", "PMI_RANK"),
    ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
]


@pytest.fixture
def waited(monkeypatch):
    found = []
    monkeypatch.setattr(ranks.time, "sleep", found.append)
    return found


@pytest.mark.parametrize(("size", "rank"), VARIABLES)
def test_the_first_rank_tells_at_once_and_another_one_if_it_is_still_there(
    size, rank, monkeypatch, waited
):
    """By then the launcher has ended it, unless the first rank goes on."""
    wrong = ("train", "mnist", "--recipe", "nothing.toml")
    monkeypatch.setenv(size, "4")
    for number, told, seconds in (
        ("0", "gpugrad: error: train: recipe", []),
        ("2", "gpugrad: error: rank 2: train: recipe", [ranks.PATIENCE]),
    ):
        monkeypatch.setenv(rank, number)
        result = invoke(*wrong)
        assert result.exit_code == 1
        assert_one_line_error(result, told)
        assert waited == seconds


@pytest.mark.parametrize(("size", "rank"), VARIABLES)
def test_a_mistake_in_the_command_line_is_told_by_the_first_rank(size, rank, monkeypatch, waited):
    alone = invoke("train", "--epochs", "many")
    assert alone.exit_code == 2 and "--epochs" in alone.stderr
    monkeypatch.setenv(size, "4")
    for number, told in (("0", alone.stderr), ("1", "")):
        monkeypatch.setenv(rank, number)
        result = invoke("train", "--epochs", "many")
        assert (result.exit_code, result.stderr) == (2, told)
    assert not waited
    assert invoke("train", "--help").exit_code == 0
