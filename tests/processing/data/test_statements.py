from dataclasses import dataclass, field
from datetime import datetime
from math import nan
from pathlib import Path

import pytest

from stsun_processing.data.band_lists import read_band_lists
from stsun_processing.data.samples import ImageRecord
from stsun_processing.data.statements import DatasetStatements
from stsun_processing.rasters.opening import Layer
from stsun_processing.rasters.physical import Channel
from stsun_processing.rasters.records import BandStatements, RasterError, Scaling, Stated, Statements

DOCUMENT = {
    "bands": [
        {"name": "B03", "center_nm": 560, "fwhm_nm": 36},
        {"name": "B11", "center_nm": 1613.7},
        {"name": "ST", "center_nm": 10895, "kind": "thermal", "scale": 0.00341802, "offset": 149.0, "nodata": 0},
    ],
    "value_scale": 1e-4,
    "nodata": -9999,
}


@dataclass
class Raster:
    """What `DatasetStatements` asks of an open raster."""

    path: str = "a.tif"
    dtypes: tuple[str, ...] = ("uint16",) * 3
    own: tuple[BandStatements, ...] = field(default=(BandStatements(),) * 3)
    count: int = 3
    mask_source: str | None = None

    @property
    def indexes(self):
        return tuple(range(1, len(self.dtypes) + 1))

    def states(self):
        return Statements(bands=self.own)


def describe(path="a.tif", timestamp=None, gsd_m=None, **document):
    bands = read_band_lists(DOCUMENT | document, "dataset.json")[None]
    return DatasetStatements(ImageRecord(Path(path), bands, timestamp, gsd_m))


def test_every_band_is_stated_with_where_it_stands():
    green, swir, thermal = describe().states(Raster()).bands
    assert green.names == (Stated("B03", "dataset.json bands[0]"),)
    assert green.kind == (Stated("reflective", "dataset.json bands[0]"),)
    assert green.scaling == (Stated(Scaling(1e-4, 0.0), "dataset.json value_scale"),)
    assert green.nodata == (Stated(-9999, "dataset.json nodata"),)
    # One unit of the last digit that is written.
    assert [(s.value.value, s.value.tolerance) for s in (*green.center_nm, *green.fwhm_nm)] == [(560, 1), (36, 1)]
    assert swir.center_nm[0].value.tolerance == pytest.approx(0.1)
    assert thermal.scaling == (Stated(Scaling(0.00341802, 149.0), "dataset.json bands[2] scale and bands[2] offset"),)
    assert thermal.nodata == (Stated(0, "dataset.json bands[2] nodata"),)


def test_what_is_not_written_is_not_stated():
    record = {"name": "VV", "kind": "sar", "polarisation": "VV"}
    described = describe(bands=[record], nodata=None, value_scale=None)
    stated = described.states(Raster(dtypes=("float32",), own=(BandStatements(),)))
    assert (stated.date, stated.gsd_m) == ((), ())
    (band,) = stated.bands
    assert band.polarisation == (Stated("VV", "dataset.json bands[0]"),)
    assert (band.center_nm, band.fwhm_nm, band.scaling, band.nodata, band.unit) == ((), (), (), (), ())


@pytest.mark.parametrize(
    ("timestamp", "start", "end"),
    [
        ("2021-07-23T10:00:00Z", datetime(2021, 7, 23, 10), datetime(2021, 7, 23, 10)),
        ("2021-07-23", datetime(2021, 7, 23), datetime(2021, 7, 24)),
        ("2021-07", datetime(2021, 7, 1), datetime(2021, 8, 1)),
        # Aerial images are older than satellites.
        ("1938-05-01", datetime(1938, 5, 1), datetime(1938, 5, 1)),
    ],
)
def test_dates_leave_open_what_is_not_written(timestamp, start, end):
    (date,) = describe(timestamp=timestamp, gsd_m=10.0).states(Raster()).date
    assert (date.value.start, date.value.end, date.source) == (start, end, "dataset.json timestamp")


def test_the_distance_is_stated():
    assert describe(gsd_m=10.0).states(Raster()).gsd_m == (Stated(10.0, "dataset.json gsd_m"),)


def test_a_number_for_all_rasters_does_not_contradict_one_that_marks_nan():
    own = BandStatements(nodata=(Stated(nan, "nodata value of the file"),))
    for dtype, nodata in (("float32", ()), ("uint16", (Stated(-9999, "dataset.json nodata"),))):
        stated = describe().states(Raster(dtypes=(dtype,) * 3, own=(own,) * 3))
        assert stated.bands[0].nodata == nodata
        assert stated.bands[2].nodata == (Stated(0, "dataset.json bands[2] nodata"),), "a band's own number stays"


def test_bands_that_the_raster_marks_as_bad_may_be_left_out_of_the_list():
    bad = BandStatements(bad=(Stated(True, "ENVI header bbl"),))
    good = BandStatements(bad=(Stated(False, "ENVI header bbl"),))
    stated = describe().states(Raster(dtypes=("uint16",) * 4, own=(good, bad, good, good), count=4))
    assert [band.names[0].value if band.names else None for band in stated.bands] == ["B03", None, "B11", "ST"]
    listed = describe()
    assert all(band.names for band in listed.states(Raster(own=(good, bad, good))).bands)
    read = listed.read_bands([Layer("a.tif", (Channel(1), Channel(3)))])
    assert [entry.band.name for entry in read] == ["B03", "ST"]


def test_another_number_of_bands_is_an_error_that_names_both():
    raster = Raster(dtypes=("uint8",) * 4, own=(BandStatements(),) * 4, count=4)
    with pytest.raises(RasterError, match=r"lists 3 bands \(B03, B11, ST\), but a.tif holds 4. List one band"):
        describe().states(raster)
    alpha = Raster(dtypes=("uint8",) * 2, own=(BandStatements(),) * 2, mask_source="alpha band 3")
    with pytest.raises(RasterError, match=r"lists 3 bands .*, but a.tif holds 2 \(beside alpha band 3\)"):
        describe().states(alpha)


def test_a_list_in_another_order_than_the_names_of_the_raster_is_an_error_that_names_both():
    def named(*names, weak=False):
        return tuple(BandStatements(names=(Stated(name, "description", weak),)) for name in names)

    for own in (
        named("B03", "B11", "ST"),
        named("b03", "x", "st"),
        named("x", "y", "z"),
        named("B11", "B03", "ST", weak=True),
    ):
        assert len(describe().states(Raster(own=own)).bands) == 3
    swapped = Raster(own=named("B11", "B03", "ST"))
    named_both = (
        r"Band 1 of a.tif is called 'B11' \(description\), .* name of dataset.json bands\[1\].* bands\[0\].*'B03'"
    )
    with pytest.raises(RasterError, match=named_both):
        describe().states(swapped)
    unchecked = DatasetStatements(describe().image, check=False)
    assert len(unchecked.states(swapped).bands) == 3, "files that are opened again were compared before"


def test_rasters_of_one_image_have_its_bands_one_after_another():
    described = describe("folder")
    first = Raster("folder/1.tif", ("uint16",) * 2, (BandStatements(),) * 2)
    second = Raster("folder/2.tif", ("float32",), (BandStatements(),))
    for _ in range(2):
        assert [band.names[0].value for band in described.states(first).bands] == ["B03", "B11"]
    layer = Layer("folder/1.tif", (Channel(1), Channel(2)))
    with pytest.raises(RasterError, match=r"lists 3 bands .*, but folder holds 2"):
        described.read_bands([layer])
    assert [band.names[0].value for band in described.states(second).bands] == ["ST"]
    read = described.read_bands([layer, Layer("folder/2.tif", (Channel(1),))])
    assert [entry.band.name for entry in read] == ["B03", "B11", "ST"]
    layers = [layer, Layer("folder/2.tif", (Channel(1),))]
    assert described.dtypes(layers) == ("uint16", "uint16", "float32")
    with pytest.raises(RasterError, match=r"lists 3 bands .*, but folder holds more \(up to folder/3.tif\)"):
        described.states(Raster("folder/3.tif", ("uint16",), (BandStatements(),)))


def test_a_unit_is_stated_where_a_band_has_one():
    described = describe()
    for band in described.image.bands:
        object.__setattr__(band.band, "unit", "reflectance")
    assert described.states(Raster()).bands[0].unit == (Stated("reflectance", "dataset.json bands[0]"),)
