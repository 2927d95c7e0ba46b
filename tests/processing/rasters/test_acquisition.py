"""Date and ground sampling distance of one date: who goes before whom, and who must agree."""

from datetime import datetime

import pytest

from stsun_processing.rasters.acquisition import _gsd_fact
from stsun_processing.rasters.date_files import DateFile
from stsun_processing.rasters.grids import Grid
from stsun_processing.rasters.records import RasterError, Stated, Statements
from stsun_processing.rasters.series import open_series, read_series
from tests.processing.rasters.raster_files import RED, ramp, write


@pytest.mark.parametrize("name", ["y.tif", "y_20200101.tif"])
def test_the_date_of_a_band_goes_before_that_in_the_file_name(tmp_path, name):
    path = write(tmp_path / name, ramp(), band_tags=[{"datetime": "2021-05-05T10:00:00"}])
    assert read_series(path, bands=[RED]).acquisitions[0].datetime == datetime(2021, 5, 5, 10)


@pytest.mark.parametrize("date", ["2021-05-05", "2021-07-25"])
def test_the_date_of_a_band_must_be_that_of_its_file(tmp_path, date):
    tags = {"TIMESTAMP": "2021-07-23"}
    path = write(tmp_path / "a.tif", ramp(), tags=tags, band_tags=[{"datetime": date}])
    with pytest.raises(RasterError, match=r"two dates.*stacked=.*dates=\[...\]"):
        open_series(path, bands=[RED])


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        (((10, True),), 10),
        (((10, True), (20, False)), 20),
        (((20, False), (10, True)), 20),
        (((20, False), (20.5, False)), 20),
        (((20, False), (99, False)), None),
        (((10, True), (20, False), (99, False)), None),
    ],
)
def test_stated_gsds_agree_and_hints_yield(stated, expected):
    own = Statements(gsd_m=tuple(Stated(value, f"{value:g}", weak) for value, weak in stated))
    file = DateFile("a.tif", (1,), [], [], own, None, "", None)
    grid = Grid("a.tif", None, None, (4, 5))
    if expected is None:
        with pytest.raises(RasterError, match=r"two ground sampling distances: 20 m .*99 m .*--gsd"):
            _gsd_fact([file], grid, None, None)
    else:
        assert _gsd_fact([file], grid, None, None).value == expected
