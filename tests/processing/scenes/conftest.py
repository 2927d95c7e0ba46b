"""A small scene in files, cut into many blocks."""

import multiprocessing

import numpy as np
import pytest
import torch

from stsun_processing import Acquisition, ImageSeries
from stsun_processing.scenes import predictor
from stsun_processing.scenes.raster_output import write_series
from tests.processing.scenes.scene_work import BANDS


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(predictor, "_BLOCK_TILES", (1, 3))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def rasters(tmp_path):
    """Two dates of 90 x 100 pixels, with a hole on both and one on the first."""
    rng = np.random.default_rng(0)
    pixels = rng.uniform(0, 0.6, (2, 2, 90, 100)) * np.kron(rng.uniform(0.1, 1, (2, 2, 9, 10)), np.ones((10, 10)))
    pixels[:, :, 40:60, :30] = np.nan
    pixels[0, :, 5:9, 5:9] = np.nan
    series = ImageSeries(
        tuple(Acquisition(BANDS, date, 10) for date in ("2021-01-03", "2021-03-01")),
        crs="EPSG:32633",
        transform=(10, 0, 400_000, 0, -10, 5_000_000),
        pixels=tuple(pixels),
    )
    return [str(path) for path in write_series(series, tmp_path / "series")]


@pytest.fixture(scope="module")
def processes():
    """Forks of a process that has imported everything and computed nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "stsun_processing.scenes.scene_files"])
    return context
