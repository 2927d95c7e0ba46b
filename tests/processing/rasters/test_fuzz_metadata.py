"""Whatever a file says of itself, it is read or refused with our own error: nothing else is raised.

More examples than the default few: `STSUN_FUZZ_EXAMPLES=2000 pytest tests/processing/test_fuzz_metadata.py`.
"""

import contextlib
import json
import math
import os
import string
from datetime import datetime

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rasterio import Affine

from stsun_processing.metadata import Acquisition, Band, ImageSeries, MetadataError, parse_datetime
from stsun_processing.rasters.records import RasterError
from stsun_processing.rasters.report import describe
from stsun_processing.rasters.sensors import SENSORS, find_sensor, sensor_bands
from stsun_processing.rasters.series import open_series
from tests.processing.rasters.raster_files import RED, ramp, write

fuzzed = settings(
    max_examples=int(os.environ.get("STSUN_FUZZ_EXAMPLES", "25")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
OURS = (RasterError, MetadataError)

numbers = st.one_of(
    st.floats().map(str),
    st.floats(0.2, 20).map(str),
    st.floats(200, 3000).map(lambda value: f"{value:.2f}"),
    st.sampled_from(["1e999", "-0", "0", "nan", "1e-400", "٣", "1_0", "0x1F", "665 nm", "9" * 400]),
)
dates = st.one_of(
    st.datetimes().map(datetime.isoformat),
    st.sampled_from(["2021", "2021-07", "2021-07-23", "2021:07:23 10:00:00", "0000-00-00", "9999", "9999-12", "0001"]),
    st.sampled_from(["9999-12-31", "2021-07-23T24:00:00Z", "2021-01-01/2021-02-01", "2021/..", "0001/9999", "2021-13"]),
)
words = st.sampled_from(
    [
        "nm",
        "Micrometers",
        "um",
        "GHz",
        "Index",
        "sar",
        "optical",
        "VV",
        "vh",
        "B04",
        "B8A",
        "red",
        "sentinel-2a",
        "LANDSAT_8",
    ]
)
# GDAL's tags are C strings: no NUL, and no lone surrogates.
anything = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
texts = st.one_of(numbers, dates, words, anything)
known_keys = st.sampled_from(
    [
        *("wavelength", "Wavelength_Units", "wavelength_nm", "CENTER_WAVELENGTH_um", "fwhm", "FWHM_nm", "kind"),
        *("polarisation", "TIMESTAMP", "TIFFTAG_DATETIME", "acquisition date", "datetime", "bbl", "sensor", "platform"),
        *("SPACECRAFT_ID", "INSTRUMENT", "name", "nodata", "gsd", "time"),
    ]
)
keys = known_keys | st.text(string.ascii_letters + string.digits + " _-.", min_size=1, max_size=8).filter(str.strip)
tags = st.dictionaries(keys, texts, max_size=5)
imagery = st.dictionaries(st.sampled_from(["CENTRAL_WAVELENGTH_UM", "FWHM_UM", "ACQUISITIONDATETIME"]), texts)


def opens(path, **options):
    """Whether a raster is read; if so, all that is said of it makes sense."""
    try:
        with open_series(path, **options) as opened:
            assert describe(opened)
            series = opened.series
            assert all(fact.source for fact in opened.facts)
    except OURS:
        return False
    assert ImageSeries.from_json(series.to_json()) == series
    for acquisition in series.acquisitions:
        assert acquisition.gsd_m is None or 0 < acquisition.gsd_m < math.inf
    return True


@fuzzed
@given(tags, st.lists(tags, max_size=2), st.lists(imagery, max_size=2), st.lists(anything, min_size=2, max_size=2))
@pytest.mark.parametrize("sensor", [None, "sentinel-2"])
def test_tags_and_descriptions(tmp_path, sensor, of_file, of_bands, domain, names):
    path = write(tmp_path / "a.tif", ramp(2), tags=of_file, band_tags=of_bands, imagery=domain, descriptions=names)
    opens(path, sensor=sensor)
    # With the user's word on bands and dates, hardly anything in a file can be in the way.
    opens(path, bands=[RED, RED], dates=["2021"], sensor=sensor)
    path.with_suffix(".tif.aux.xml").unlink(missing_ok=True)


header_values = st.one_of(texts, st.lists(texts, max_size=3).map(lambda items: "{" + ", ".join(items) + "}"))
headers = st.lists(
    st.tuples(
        st.sampled_from(
            [
                *(
                    "wavelength",
                    "fwhm",
                    "wavelength units",
                    "bbl",
                    "band names",
                    "acquisition time",
                    "data gain values",
                ),
                *("data offset values", "data ignore value", "reflectance scale factor", "map info", "sensor type"),
            ]
        )
        | keys,
        header_values,
    ),
    max_size=6,
)


@fuzzed
@given(headers, st.booleans())
@example([("reflectance scale factor", "1e-320")], False)
def test_envi_headers(tmp_path, fields, is_envi):
    lines = "".join(f"{key} = {value}\n" for key, value in fields)
    if is_envi:
        path = write(tmp_path / "a.img", ramp(2), driver="ENVI")
        header = tmp_path / "a.hdr"
        lines = header.read_text() + lines
    else:
        path, header = write(tmp_path / "b.tif", ramp(2)), tmp_path / "b.hdr"
        lines = "ENVI\n" + lines
    header.write_text(lines, encoding="utf-8")
    opens(path)
    opens(path, bands=[RED, RED], dates=[None])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(anything, inner, max_size=3),
    max_leaves=5,
)


def objects(*names):
    return st.dictionaries(st.sampled_from(names), json_values | texts, max_size=len(names))


band_fields = objects(
    *("name", "common_name", "eo:common_name", "center_wavelength", "eo:center_wavelength", "full_width_half_max"),
    *("eo:full_width_half_max", "nodata", "scale", "offset", "raster:scale", "raster:offset"),
)
band_lists = st.lists(band_fields | json_values, max_size=2) | json_values
assets = st.fixed_dictionaries(
    {"href": st.sampled_from(["a.tif", "./a.tif", "b.tif", ""]) | anything},
    optional={
        **{"type": st.just("image/tiff") | json_values, "roles": st.just(["data"]) | json_values},
        **dict.fromkeys(("bands", "eo:bands", "raster:bands"), band_lists),
        **{"gsd": json_values, "sar:polarizations": st.just(["VV"]) | json_values, "eo:center_wavelength": json_values},
        **{"nodata": json_values, "raster:scale": json_values},
    },
)
properties = objects("datetime", "start_datetime", "end_datetime", "platform", "instruments", "gsd") | json_values
items = st.fixed_dictionaries(
    {"assets": st.dictionaries(st.sampled_from(["red", "B04", "data"]), assets, max_size=2) | json_values},
    optional={"properties": properties, "links": json_values, "id": json_values},
)


@fuzzed
@given(items | json_values, st.booleans())
def test_stac_items(tmp_path, item, as_file):
    if not (tmp_path / "a.tif").exists():
        write(tmp_path / "a.tif", ramp())
    if as_file:
        (tmp_path / "item.json").write_text(json.dumps(item))
        opens(tmp_path / "item.json")
    elif isinstance(item, dict):
        opens({**item, "links": [{"rel": "self", "href": str(tmp_path / "item.json")}]}, sensor="sentinel-2")


@fuzzed
@given(
    st.text(string.ascii_letters + string.digits + "_-. T", min_size=1, max_size=30)
    | st.datetimes().map(lambda value: value.strftime("S2A_%Y%m%dT%H%M%S_B04"))
)
def test_file_names(tmp_path, name):
    path = tmp_path / f"{name.strip('. ') or 'x'}.tif"
    write(path, ramp())
    opens(path, sensor="sentinel-2")
    opens(path, bands=[RED])
    path.unlink()


@fuzzed
@given(
    texts | st.none() | st.integers() | st.floats() | st.dates() | st.datetimes(timezones=st.none() | st.timezones())
)
@example("9999-12")
@example("0001-01-01T00:00:00+14:00")
def test_dates(value):
    with contextlib.suppress(MetadataError):
        read = parse_datetime(value)
        assert read is None or (isinstance(read, datetime) and read.tzinfo is None)


@fuzzed
@given(texts | st.integers() | st.none(), st.sampled_from(sorted(SENSORS)), st.lists(texts | st.none(), max_size=3))
def test_sensor_and_band_names(name, sensor, names):
    with contextlib.suppress(MetadataError):
        assert find_sensor(name).name in SENSORS
    with contextlib.suppress(MetadataError):
        assert len(sensor_bands(sensor, names)) == len(names)


documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(-(10**400), 10**400) | st.floats() | texts,
    lambda inner: (
        st.lists(inner, max_size=7)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("acquisitions", "bands", "name", "center_nm", "fwhm_nm", "datetime", "transform", "crs", "kind"),
                    *("gsd_m", "sensor", "polarisation"),
                ]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=12,
)
band_records = st.fixed_dictionaries(
    {"name": texts},
    optional=dict.fromkeys(("center_nm", "fwhm_nm", "kind", "polarisation"), documents),
)
series_records = st.fixed_dictionaries(
    {
        "acquisitions": st.lists(
            st.fixed_dictionaries(
                {"bands": st.lists(band_records, max_size=2)},
                optional={"datetime": documents, "gsd_m": documents, "sensor": documents},
            ),
            max_size=2,
        )
    },
    optional={"crs": documents, "transform": st.lists(documents, min_size=5, max_size=7) | documents},
)


@fuzzed
@given(documents | series_records)
def test_series_records(document):
    for read, source in ((ImageSeries.from_dict, document), (ImageSeries.from_json, json.dumps(document))):
        with contextlib.suppress(MetadataError):
            series = read(source)
            assert ImageSeries.from_json(series.to_json(allow_nan=False)) == series


@fuzzed
@given(st.text(max_size=30) | st.sampled_from(["[" * 100_000, '{"a":' * 100_000, "1e999", "9" * 5000, '"\\ud800"']))
@example("[" * 100_000)
@example("9" * 5000)
@example('{"acquisitions": [{"bands": [{"name": "a", "center_nm": 1' + "0" * 400 + "}]}]}")
@example('{"acquisitions": [{"bands": [{"name": "a"}]}], "transform": [1' + "0" * 400 + ", 0, 0, 0, 1, 0]}")
def test_series_texts(text):
    with contextlib.suppress(MetadataError):
        ImageSeries.from_json(text)


@fuzzed
@given(documents, documents, documents, documents, documents)
def test_constructors(one, two, three, four, five):
    with contextlib.suppress(MetadataError):
        Band(one, two, three, four, five)
    with contextlib.suppress(MetadataError):
        Acquisition((RED,), one, two, three)
    with contextlib.suppress(MetadataError):
        ImageSeries((Acquisition((RED,)),), one, two)


@fuzzed
@given(st.lists(st.one_of(st.none(), st.integers(-5, 5), st.floats(), texts, st.lists(texts, max_size=2)), max_size=3))
def test_arguments(tmp_path, value):
    path = tmp_path / "a.tif"
    if not path.exists():
        write(path, ramp(2), descriptions=("B04", "B08"))
    first = value[0] if value else None
    for options in (
        *({"bands": value}, {"sensor": value}, {"dates": value}, {"scale": value}, {"parts": value}),
        *({"gsd_m": first}, {"scale": first}, {"sensor": first}, {"stacked": "dates", "num_dates": first}),
        *({"stacked": first}, {"resampling": first}, {"grid": first}),
    ):
        opens(path, **{"sensor": "s2", **options})


coefficients = (
    st.floats(width=32) | st.floats(-200, 200) | st.sampled_from([0.0, 1.0, 10.0, -10.0, 1e-9, 500000.0, 5e6])
)
grids = st.tuples(
    st.lists(coefficients.filter(math.isfinite), min_size=6, max_size=6),
    st.sampled_from([None, 4326, 3857, 32633, 2227, 4978, 3031, 5703]),
)


@fuzzed
@given(grids, grids)
@example(([10, 0, 0, 0, 0, 0], 4326), ([10, 0, 0, 0, -10, 0], 4326))
def test_georeferences(tmp_path, one, two):
    paths = []
    for name, (transform, epsg) in (("a.tif", one), ("b.tif", two)):
        crs = epsg and f"EPSG:{epsg}"
        paths.append(write(tmp_path / name, ramp(), transform=Affine(*transform), crs=crs))
    opens(paths[0], bands=[RED])
    opens(paths, bands=[RED])
    opens(paths, bands=[RED], grid="first")


@fuzzed
@given(st.binary(max_size=300), st.integers(0, 600))
def test_damaged_files(tmp_path, noise, position):
    path = tmp_path / "a.tif"
    path.unlink(missing_ok=True)
    write(path, ramp(2, 20, 20), descriptions=("B04", "B08"))
    data = bytearray(path.read_bytes())
    data[position : position + len(noise)] = noise
    path.write_bytes(data)
    opens(path, bands=[RED, RED])


def test_what_the_fuzz_varies_can_be_read(tmp_path):
    """It would prove little if everything were refused."""
    tags = {"wavelength": "0.665", "Wavelength_Units": "Micrometers", "TIMESTAMP": "2021"}
    assert opens(write(tmp_path / "a.tif", ramp(), tags={"sensor": "sentinel-2a"}, band_tags=[tags]))
    assert not opens(write(tmp_path / "b.tif", ramp(), band_tags=[tags | {"wavelength_nm": "500"}]))
