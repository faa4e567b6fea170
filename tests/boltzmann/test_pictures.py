"""Pictures: what is drawn where, read back from the canvas and from the axes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpugrad.boltzmann import pictures
from gpugrad.boltzmann.mosaic import image_shape
from gpugrad.boltzmann.pictures import draw_curve, mosaic


@pytest.mark.parametrize("shape", [(28, 28), (16, 20), (4, 4), (3, 5), (1, 8)])
def test_gap_of_a_mosaic_is_at_most_a_sixteenth_of_an_image(shape: tuple[int, int]):
    images = np.arange(5.0 * shape[0] * shape[1]).reshape(5, -1)
    canvas = mosaic(images, shape, 3)
    assert np.isnan(canvas[[0, -1]]).all() and np.isnan(canvas[:, [0, -1]]).all()
    height, width = (canvas.shape[0] - 3) // 2, (canvas.shape[1] - 4) // 3
    assert min(height, width) >= 16 and height * shape[1] == width * shape[0]
    zoom = height // shape[0]
    for i, image in enumerate(images):
        top, left = 1 + i // 3 * (height + 1), 1 + i % 3 * (width + 1)
        shown = canvas[top : top + height, left : left + width]
        np.testing.assert_array_equal(shown, np.kron(image.reshape(shape), np.ones((zoom, zoom))))


@pytest.mark.parametrize(
    ("units", "shape"),
    # a square, the nearest rectangle, short lines, and a prime number of units as no line
    [(784, (28, 28)), (12, (3, 4)), (7, (1, 7)), (1, (1, 1)), (13, (3, 5)), (101, (10, 11))],
)
def test_units_are_drawn_as_the_rectangle_nearest_to_a_square(units: int, shape: tuple[int, int]):
    assert image_shape(units) == shape


def test_mosaic_leaves_pixels_open_that_an_image_lacks():
    image = mosaic(np.ones((1, 7)), (4, 2), 1)[1:-1, 1:-1]
    assert image.shape == (32, 16)
    assert np.isnan(image[-8:, -8:]).all() and np.isnan(image).sum() == 64


@pytest.mark.parametrize("errors", [[0.3, 0.2, 0.1], [0.1, 0.1], [0.0], [np.nan, 0.2], [np.nan]])
def test_reconstruction_error_has_room_above_it(errors: list[float], monkeypatch: Any, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    figures = []
    monkeypatch.setattr(pictures, "_save", lambda figure, path: figures.append(figure))
    history = [
        {"epoch": i + 1, "pseudo_likelihood": -1.0, "reconstruction_error": e, "rate": 0.1}
        for i, e in enumerate(errors)
    ]
    draw_curve(history, tmp_path / "curve.png")
    [lower] = [a for a in figures[0].axes if a.get_ylabel() == "mean square a unit"]
    bottom, top = lower.get_ylim()
    assert bottom == 0 and top > 0
    assert not np.nanmax([*errors, 0.0]) > 0.9 * top


def test_a_picture_that_cannot_be_drawn_leaves_the_old_one_and_no_other(monkeypatch, tmp_path):
    figure = pytest.importorskip("matplotlib.figure", reason="matplotlib is not installed")
    path = tmp_path / "samples.png"
    pictures.draw_samples(np.eye(4), path)
    before = path.read_bytes()

    def half(self, file, **settings):
        file.write(b"half")
        raise ValueError("no glyph")

    monkeypatch.setattr(figure.Figure, "savefig", half)
    with pytest.raises(ValueError, match="no glyph"):
        pictures.draw_samples(np.eye(4), path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
