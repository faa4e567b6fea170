"""TensorBoard's files, read back, and how notebooks show machines."""

from __future__ import annotations

import base64
import re
import struct
import sys
import zlib
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann import layers
from gpugrad.boltzmann.energy_machine import EnergyMachine
from gpugrad.boltzmann.fit import Trainer, fit
from gpugrad.boltzmann.logs import SingularValues, TensorBoard, _numbers
from gpugrad.boltzmann.model import RBM, BoltzmannMachine
from gpugrad.boltzmann.mosaic import png, signed_colors
from gpugrad.errors import MissingExtraError, ParameterError
from tests.distributed.thread_ranks import results

DATA = np.random.default_rng(0).integers(0, 2, (40, 12)).astype("float32")


def rbm() -> BoltzmannMachine:
    return RBM(12, 5, rng=Generator(0), device="cpu")


# ------------------------------------------------------------------------------------ TensorBoard


@pytest.fixture
def library() -> Any:
    return pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")


def events(folder: Path) -> list[Any]:
    """All events of a folder, in the order in which its files were begun."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.glob("events.out.tfevents.*"), key=lambda p: p.stat().st_mtime_ns):
        content, place = path.read_bytes(), 0
        while place < len(content):  # length (8), its checksum (4), the event, its checksum (4)
            (length,) = struct.unpack_from("<Q", content, place)
            found.append(Event.FromString(content[place + 12 : place + 12 + length]))
            place += 16 + length
    return found


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    for event in events(folder):
        for value in event.summary.value:
            if value.WhichOneof("value") == "simple_value":
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def test_records_are_scalars_by_epoch(library: Any, tmp_path: Path):
    history = fit(
        rbm(),
        DATA,
        epochs=3,
        batch_size=10,
        rng=Generator(0),
        callbacks=[SingularValues(2), TensorBoard(tmp_path)],
    )
    found = scalars(tmp_path)
    assert "epoch" not in found
    for name in ("rate", "reconstruction_error"):
        expected = [(r["epoch"], pytest.approx(r[name], rel=1e-6)) for r in history]
        assert found[name] == expected
    largest = [(r["epoch"], pytest.approx(r["spectrum.0"]["values"][0])) for r in history]
    assert found["spectrum.0/values/0"] == largest
    assert not any(value.HasField("histo") for e in events(tmp_path) for value in e.summary.value)


def test_of_several_ranks_the_first_one_writes(library: Any, tmp_path: Path):
    def run(link: Any) -> None:
        board = TensorBoard(tmp_path / f"rank {link.rank}")
        fit(rbm(), DATA, epochs=1, rng=Generator(0), communicator=link, callbacks=[board])

    results(2, run)
    assert [path.name for path in tmp_path.iterdir()] == ["rank 0"]


def test_numbers_are_named_by_their_path_in_the_record():
    record = {"epoch": 4, "best": {"epoch": 3, "rates": [0.5, 1]}, "note": "x", "none": None}
    expected = {"best/epoch": 3.0, "best/rates/0": 0.5, "best/rates/1": 1.0}
    assert dict(_numbers(record)) == expected


def test_details_are_histograms_and_a_picture_of_the_filters(library: Any, tmp_path: Path):
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    board = TensorBoard(tmp_path, details_every=2, shape=(3, 4))
    model = rbm()
    fit(model, DATA, epochs=2, batch_size=10, rng=Generator(0), callbacks=[board])
    drawn = {
        (event.step, value.tag): value
        for event in events(tmp_path)
        for value in event.summary.value
        if value.WhichOneof("value") in ("histo", "image")
    }
    names = {*model.parameters(), "filters"}
    assert set(drawn) == {(step, name) for step in (0, 2) for name in names}
    assert drawn[2, "weights.0.matrix"].histo.num == 60
    content = drawn[2, "filters"].image.encoded_image_string
    (tmp_path / "f.png").write_bytes(content)
    with image.open(tmp_path / "f.png") as opened:
        assert opened.size == (3 * 24 + 4, 2 * 18 + 3)


def test_epochs_that_are_repeated_after_a_resume_are_withdrawn(library: Any, tmp_path: Path):
    def trainer(*more: Any) -> Trainer:
        return Trainer(
            rbm(),
            DATA,
            epochs=4,
            batch_size=10,
            rng=Generator(0),
            callbacks=[TensorBoard(tmp_path / "board"), *more],
        )

    kept: list[Any] = []
    trainer(lambda t, record: kept.append(deepcopy(t.state_dict()))).run()
    second = trainer()
    second.load_state_dict(*kept[1])
    second.run()
    starts = [e.step for e in events(tmp_path / "board") if e.HasField("session_log")]
    assert starts == [1, 3]
    assert [step for step, _ in scalars(tmp_path / "board")["rate"]] == [1, 2, 3, 4, 3, 4]


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(MissingExtraError, match=r'tensorboardX: pip install "gpugrad\[tensorboard'):
        TensorBoard(tmp_path / "board")
    assert not (tmp_path / "board").exists()


def test_setting_out_of_range_is_named(tmp_path: Path):
    with pytest.raises(ParameterError, match="TensorBoard: details_every is -1"):
        TensorBoard(tmp_path, details_every=-1)
    with pytest.raises(ParameterError, match="SingularValues: every is 0"):
        SingularValues(every=0)


def without_weights() -> dict[str, Any]:
    def energy(xp: Any, params: Any, s: Any) -> Any:
        return -xp.matmul(s, params.a)

    return {
        "one layer": BoltzmannMachine([layers.BernoulliLayer(12)], device="cpu"),
        "its own energy": EnergyMachine(
            [layers.BernoulliLayer(12)], energy, {"a": np.zeros(12)}, device="cpu"
        ),
    }


@pytest.mark.parametrize("name", without_weights())
def test_a_machine_without_weights_has_no_singular_values_before_any_training(name: str):
    model = without_weights()[name]
    trainer = Trainer(model, DATA, rng=Generator(0), callbacks=[SingularValues()])
    with pytest.raises(ParameterError, match=r"^SingularValues: \w+Machine\(.* no weight matrix"):
        trainer.run()
    assert trainer.step == 0


# -------------------------------------------------------------------------------------- notebooks


def decoded(content: bytes) -> np.ndarray:
    """The colours in a PNG of 8 bits and three channels without filters."""
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    chunks, place = {}, 8
    while place < len(content):
        (length,) = struct.unpack_from(">I", content, place)
        kind, body = content[place + 4 : place + 8], content[place + 8 : place + 8 + length]
        assert struct.unpack_from(">I", content, place + 8 + length)[0] == zlib.crc32(kind + body)
        chunks[kind] = body
        place += 12 + length
    width, height, depth, color = struct.unpack_from(">IIBB", chunks[b"IHDR"])
    assert (depth, color) == (8, 2)
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, -1)
    assert not lines[:, 0].any()
    return lines[:, 1:].reshape(height, width, 3)


def test_png_holds_the_colors_that_it_was_made_of(tmp_path: Path):
    colors = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    np.testing.assert_array_equal(decoded(png(colors)), colors)
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    (tmp_path / "x.png").write_bytes(png(colors))
    with image.open(tmp_path / "x.png") as opened:
        np.testing.assert_array_equal(np.asarray(opened), colors)


def test_signed_colors_are_white_at_zero_red_above_and_blue_below():
    red, white, blue, gap = signed_colors(np.array([[2.0, 0.0, -2.0, np.nan]]))[0].astype(int)
    assert (white == 255).all() and red[0] > red[2] and blue[2] > blue[0]
    assert (gap == gap[0]).all() and gap[0] < 255
    assert (signed_colors(np.zeros((2, 2))) == 255).all()


def test_a_few_extreme_values_do_not_bleach_the_others():
    values = np.random.default_rng(0).choice([-0.5, 0.5], (20, 20))
    extreme = values.copy()
    extreme[3, 7] = 1000.0
    same = np.delete(signed_colors(extreme) == signed_colors(values), 3, axis=0)
    assert same.all()


def test_machine_is_shown_with_all_its_parameters_and_some_filters():
    shown = rbm()._repr_html_()
    for text in ("12 bernoulli", "5 bernoulli", "loc", "12 × 5", "float32", "77 parameters, cpu"):
        assert text in shown
    assert re.findall(r"<td[^>]*>(\w+\.0)</td>", shown) == ["layers.0", "weights.0"]
    source = re.search(r"base64,([^\"]*)", shown)
    assert source is not None
    colors = decoded(base64.b64decode(source[1]))
    assert colors.shape[1] == 5 * 24 + 6 and len(np.unique(colors.reshape(-1, 3), axis=0)) > 20


def test_wide_machines_and_those_without_weights_have_no_picture():
    assert "<img" not in RBM(5000, 2, device="cpu")._repr_html_()
    assert "<img" not in RBM(1100, 8000, device="cpu")._repr_html_()
    assert "<img" not in BoltzmannMachine([layers.IsingLayer(6)], device="cpu")._repr_html_()
    assert "3 potts of 4 states" in (
        BoltzmannMachine([layers.PottsLayer(3, 4)], device="cpu")._repr_html_()
    )


def test_machine_on_a_device_is_shown_without_a_copy_to_the_host(
    cupy_standin: Any, no_waiting: Any
):
    model = rbm().to_device("cuda")
    with no_waiting():
        shown = model._repr_html_()
    assert "cuda:0" in shown and "<img" not in shown


def test_names_are_escaped():
    class Loud(layers.EnergyLayer):
        layer_type = "<script>alert('&')</script>"
        support = (0.0, 1.0)

    machine = BoltzmannMachine([Loud(2)], device="cpu")
    assert "<script>" not in machine._repr_html_()
    assert "2 &lt;script&gt;alert(&#x27;&amp;&#x27;)&lt;/script&gt;" in machine._repr_html_()


def test_energy_machine_is_shown_with_the_parameters_of_its_energy():
    machine = EnergyMachine(
        [layers.IsingLayer(3)],
        lambda xp, p, s: -p.field * xp.sum(s, axis=1),
        {"field": np.array(0.5)},
        device="cpu",
    )
    shown = machine._repr_html_()
    assert "EnergyMachine" in shown and "3 ising" in shown and "field" in shown
