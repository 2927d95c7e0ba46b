"""The same pixels and statements through every door give the same tensors, and contradictions are refused."""

import json
import warnings
from datetime import datetime

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio import Affine
from rasterio.enums import ColorInterp

from modeling_stsun import STSUNImageProcessor
from stsun_processing import FolderDataset, STSUNCollator, sensor_bands
from stsun_processing.metadata import Acquisition, ImageSeries
from stsun_processing.rasters.records import RasterError
from stsun_processing.rasters.series import read_series
from tests.processing.rasters.safe_files import write_safe

xr = pytest.importorskip("xarray")
pytest.importorskip("rioxarray")

NAMES = ("B02", "B03", "B04", "B08")
BANDS = sensor_bands("sentinel-2a", NAMES)
DATE = datetime(2023, 6, 1, 10, 10, 31)
GRID = {"crs": "EPSG:32632", "transform": Affine(10, 0, 500000, 0, -10, 5000000)}
SCALE, OFFSET, NODATA = 1e-4, -0.1, 0
HEIGHT, WIDTH = 20, 24
REQUEST = {"classes": ["unchanged", "changed"], "statistics": "by_kind"}
COMPARED = ("pixel_values", "pixel_mask", "wavelengths", "bandwidths", "band_types", "timestamps", "gsd", "band_mask")


def numbers():
    stored = np.random.default_rng(0).integers(1000, 4000, (4, HEIGHT, WIDTH)).astype("uint16")
    stored[:, :3] = NODATA
    stored[2, 5, 7] = NODATA
    return stored


def physical():
    stored = numbers()
    return np.where(stored == NODATA, np.nan, stored.astype("float64") * SCALE + OFFSET)


def reference():
    acquisition = Acquisition(BANDS, DATE, 10.0)
    series = ImageSeries((acquisition,), pixels=(physical(),))
    return STSUNImageProcessor()(series, **REQUEST)


def write(path, array, *, names=(), tags=None, scaled=True, nodata=NODATA, **profile):
    profile = {"driver": "GTiff", "photometric": "MINISBLACK", **GRID, **profile}
    if profile["driver"] != "GTiff":
        profile.pop("photometric")
    shape = {"count": len(array), "height": array.shape[1], "width": array.shape[2]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(path, "w", dtype=array.dtype, nodata=nodata, **shape, **profile) as dataset:
            dataset.write(array)
            dataset.update_tags(**(tags or {}))
            if names:
                dataset.descriptions = names
            if scaled:
                dataset.scales, dataset.offsets = [SCALE] * len(array), [OFFSET] * len(array)
    return path


TAGS = {"SENSOR": "Sentinel-2A", "TIMESTAMP": "2023-06-01T10:10:31Z"}


def a_file(folder):
    return read_series(write(folder / "a.tif", numbers(), names=NAMES, tags=TAGS))


def files_of_bands(folder):
    stored = numbers()
    files = [write(folder / f"x_{name}.tif", stored[i : i + 1], tags=TAGS) for i, name in enumerate(NAMES)]
    return read_series([files])


def a_folder(folder):
    (folder / "scene").mkdir()
    files_of_bands(folder / "scene")
    return read_series(folder / "scene")


def a_vrt(folder):
    path = write(folder / "a.tif", numbers(), names=NAMES, tags=TAGS)
    rasterio.shutil.copy(path, folder / "a.vrt", driver="VRT")
    return read_series(folder / "a.vrt")


def a_zip(folder):
    import zipfile

    path = write(folder / "a.tif", numbers(), names=NAMES, tags=TAGS)
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.write(path, "a.tif")
    return read_series(f"/vsizip/{folder}/a.zip/a.tif")


def a_mask_in_place_of_nodata(folder):
    stored = numbers()
    path = write(folder / "a.tif", stored, names=NAMES, tags=TAGS, nodata=None)
    with rasterio.open(path, "r+") as dataset:
        dataset.write_mask((stored != NODATA).all(0))
    # A mask holds for all bands; the one pixel that a single band lacks has another meaning there.
    return read_series(path, nodata=NODATA)


def an_envi_file(folder):
    path = folder / "a.img"
    write(path, numbers(), names=NAMES, driver="ENVI", scaled=False)
    header = (folder / "a.hdr").read_text()
    header += "sensor type = Sentinel-2A\nacquisition time = 2023-06-01T10:10:31Z\n"
    (folder / "a.hdr").write_text(header)
    return read_series(path, scale=SCALE, offset=OFFSET)


def arguments_alone(folder):
    path = write(folder / "a.tif", numbers(), scaled=False, nodata=None, crs=None, transform=None)
    given = {"bands": BANDS, "dates": [DATE], "gsd_m": 10, "scale": SCALE, "offset": OFFSET, "nodata": NODATA}
    return read_series(path, **given)


def arguments_as_text(folder):
    path = write(folder / "a.tif", numbers(), scaled=False, nodata=None, crs=None, transform=None)
    texts = [f"{band.name}:{band.center_nm}:{band.fwhm_nm}" for band in BANDS]
    given = {"bands": texts, "dates": ["2023-06-01T10:10:31"], "gsd_m": 10}
    return read_series(path, scale=[SCALE] * 4, offset=[OFFSET] * 4, nodata=[NODATA] * 4, **given)


def a_stack_of_dates(folder):
    stored = np.concatenate([numbers(), numbers()])
    path = write(folder / "a.tif", stored, names=NAMES * 2, tags={"SENSOR": "Sentinel-2A"})
    series = read_series(path, stacked="dates", dates=[DATE, DATE])
    assert len(series.acquisitions) == 2
    return series.select([1])


def a_stack_of_bands(folder):
    stored = np.repeat(numbers(), 2, axis=0)
    names = tuple(name for name in NAMES for _ in range(2))
    path = write(folder / "a.tif", stored, names=names, tags={"SENSOR": "Sentinel-2A"})
    return read_series(path, stacked="bands", dates=[DATE, DATE]).select([0])


def warped(folder):
    stored = numbers()
    shifted = {"transform": Affine(10, 0, 499980, 0, -10, 5000010)}
    larger = np.zeros((4, HEIGHT + 3, WIDTH + 4), "uint16")
    larger[:, 1 : 1 + HEIGHT, 2 : 2 + WIDTH] = stored
    path = write(folder / "a.tif", larger, names=NAMES, tags=TAGS, **shifted)
    target = write(folder / "grid.tif", stored[:1], names=("B02",), tags=TAGS)
    return read_series(path, grid=target, resampling="nearest")


def stac_item(folder, **changes):
    path = write(folder / "a.tif", numbers(), scaled=False, nodata=None)
    raster = [{"scale": SCALE, "offset": OFFSET, "nodata": NODATA} for _ in NAMES]
    asset = {"href": str(path), "type": "image/tiff", "roles": ["data"]}
    asset |= {"eo:bands": [{"name": name} for name in NAMES], "raster:bands": raster}
    properties = {"datetime": "2023-06-01T10:10:31Z", "platform": "sentinel-2a", "instruments": ["msi"]}
    item = {"type": "Feature", "stac_version": "1.0.0", "id": "i", "geometry": None, "links": []}
    return item | {"properties": properties, "assets": {"data": asset}} | changes


def a_stac_item(folder):
    return read_series(stac_item(folder))


def a_stac_file(folder):
    (folder / "item.json").write_text(json.dumps(stac_item(folder)))
    return read_series(folder / "item.json")


def cube(with_time=True):
    """The pixels as an xarray data set that is written with scale, offset and fill value."""
    y = 5000000 - 5 - 10 * np.arange(HEIGHT)
    x = 500005 + 10 * np.arange(WIDTH)
    dims = ("time", "y", "x") if with_time else ("y", "x")
    variables = {name: (dims, band[None] if with_time else band) for name, band in zip(NAMES, physical(), strict=True)}
    coordinates = {"y": y, "x": x}
    if with_time:
        coordinates["time"] = np.array([DATE], "datetime64[ns]")
    dataset = xr.Dataset(variables, coords=coordinates, attrs={"platform": "Sentinel-2A"})
    dataset = dataset.rio.write_crs(32632)
    encoding = {"scale_factor": SCALE, "add_offset": OFFSET, "_FillValue": NODATA, "dtype": "uint16"}
    return dataset, dict.fromkeys(NAMES, encoding)


def a_netcdf_cube(folder):
    dataset, encoding = cube()
    dataset.to_netcdf(folder / "a.nc", encoding=encoding)
    return read_series(folder / "a.nc")


def a_zarr_cube(folder):
    dataset, encoding = cube()
    dataset.to_zarr(folder / "a.zarr", encoding=encoding)
    return read_series(folder / "a.zarr")


def a_group_of_a_zarr_cube(folder):
    dataset, encoding = cube()
    dataset.to_zarr(folder / "a.zarr", group="measurements/r10m", encoding=encoding)
    return read_series(folder / "a.zarr" / "measurements" / "r10m")


def a_decoded_object(folder):
    dataset, encoding = cube()
    dataset.to_netcdf(folder / "a.nc", encoding=encoding)
    return read_series(xr.open_dataset(folder / "a.nc", decode_coords="all"))


def an_undecoded_object(folder):
    dataset, encoding = cube()
    dataset.to_netcdf(folder / "a.nc", encoding=encoding)
    return read_series(xr.open_dataset(folder / "a.nc", decode_coords="all", mask_and_scale=False))


def rioxarray_of_a_file(folder, **options):
    import rioxarray

    path = write(folder / "a.tif", numbers(), names=NAMES, tags=TAGS)
    # rioxarray mixes the tags of the file with those of its first band, which may be another date.
    return read_series(rioxarray.open_rasterio(path, **options), dates=[DATE])


def rioxarray_masked(folder):
    return rioxarray_of_a_file(folder, masked=True)


def rioxarray_scaled(folder):
    return rioxarray_of_a_file(folder, mask_and_scale=True)


def a_safe_folder(folder):
    path = write_safe(folder, dict(zip(NAMES, numbers(), strict=True)), GRID["crs"], GRID["transform"])
    return read_series(path, parts=list(NAMES))


def an_array(folder):
    return ("array", physical()[None])


def a_masked_array(folder):
    stored = numbers()
    values = stored.astype("float64") * SCALE + OFFSET
    return ("array", np.ma.MaskedArray(values, stored == NODATA)[None])


def a_window_of_a_data_set(folder):
    write(folder / "a.tif", numbers(), scaled=False, nodata=None)
    write(folder / "l.tif", np.zeros((1, HEIGHT, WIDTH), "uint8") + np.eye(HEIGHT, WIDTH, dtype="uint8"),
          scaled=False, nodata=None)  # fmt: skip
    image = {"path": "a.tif", "timestamp": "2023-06-01T10:10:31"}
    sample = {"id": "a", "height": HEIGHT, "width": WIDTH, "images": [image], "labels": {"semantic": "l.tif"}}
    described = {
        "name": "d",
        "tasks": ["semantic_segmentation"],
        "classes": [{"id": 0, "name": "unchanged"}, {"id": 1, "name": "changed"}],
        "bands": [band.to_dict() for band in BANDS],
        "value_scale": SCALE,
        "value_offset": OFFSET,
        "nodata": NODATA,
        "samples": [sample],
        "splits": {"train": ["a"]},
    }
    (folder / "dataset.json").write_text(json.dumps(described))
    return ("sample", FolderDataset(folder, "train", crop_size=(HEIGHT, WIDTH))[0])


DOORS = (
    a_file, files_of_bands, a_folder, a_vrt, a_zip, a_mask_in_place_of_nodata, an_envi_file, arguments_alone,
    arguments_as_text, a_stack_of_dates, a_stack_of_bands, warped, a_stac_item, a_stac_file, a_netcdf_cube, a_zarr_cube,
    a_group_of_a_zarr_cube, a_decoded_object, an_undecoded_object, rioxarray_of_a_file, rioxarray_masked,
    rioxarray_scaled, a_safe_folder, an_array, a_masked_array, a_window_of_a_data_set,
)  # fmt: skip


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
def test_every_door_gives_the_same_tensors(tmp_path, door):
    found = door(tmp_path)
    processor = STSUNImageProcessor()
    if isinstance(found, tuple) and found[0] == "array":
        batch = processor(found[1], bands=BANDS, timestamps=[DATE], gsd_m=10, **REQUEST)
    elif isinstance(found, tuple):
        batch = STSUNCollator(processor)([found[1]])
    else:
        batch = processor(found, **REQUEST)
    expected = reference()
    for name in COMPARED:
        np.testing.assert_allclose(batch[name].numpy(), expected[name].numpy(), atol=2e-6, rtol=1e-6, err_msg=name)


# Pictures


def picture():
    return np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3)).astype("uint8")


def picture_series(array):
    bands = sensor_bands("rgb", ["R", "G", "B"])
    pixels = (array.transpose(2, 0, 1) / 255,)
    return ImageSeries((Acquisition(bands),), pixels=pixels)


@pytest.mark.parametrize("door", ["png", "tif", "PIL", "PIL with sensor", "array with sensor", "xarray"])
def test_pictures_give_the_same_tensors(tmp_path, door):
    from PIL import Image

    array, processor = picture(), STSUNImageProcessor()
    image = Image.fromarray(array)
    with warnings.catch_warnings():
        # That the colours are nominal is said in a warning.
        warnings.simplefilter("ignore")
        if door == "png":
            image.save(tmp_path / "a.png")
            batch = processor(read_series(tmp_path / "a.png"), **REQUEST)
        elif door == "tif":
            colours = {"photometric": "RGB", "crs": None, "transform": None}
            path = write(tmp_path / "a.tif", array.transpose(2, 0, 1), scaled=False, nodata=None, **colours)
            batch = processor(read_series(path), **REQUEST)
        elif door == "xarray":
            layers = xr.DataArray(array.transpose(2, 0, 1), dims=("band", "y", "x"), coords={"band": ["R", "G", "B"]})
            batch = processor(read_series(layers, sensor="rgb"), **REQUEST)
        elif door == "PIL":
            batch = processor(image, **REQUEST)
        elif door == "PIL with sensor":
            batch = processor(image, sensor="rgb", **REQUEST)
        else:
            batch = processor(array, sensor="rgb", **REQUEST)
    expected = processor(picture_series(array), **REQUEST)
    for name in COMPARED:
        np.testing.assert_allclose(batch[name].numpy(), expected[name].numpy(), atol=1e-6, err_msg=name)


# Contradictions


def contradicting_tags(folder, **tags):
    path = folder / "a.tif"
    write(path, numbers(), names=NAMES, tags=TAGS)
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(2, **tags)
    return path


def two_centres(folder):
    return contradicting_tags(folder, wavelength_nm="560", wavelength="700"), {}


def a_centre_against_the_table(folder):
    return contradicting_tags(folder, wavelength_nm="842"), {}


def two_kinds(folder):
    return contradicting_tags(folder, kind="thermal"), {}


def two_dates(folder):
    return write(folder / "a.tif", numbers(), names=NAMES, tags={**TAGS, "ACQUISITION_DATE": "2022-01-01"}), {}


def two_sensors(folder):
    return write(folder / "a.tif", numbers(), names=NAMES, tags={**TAGS, "INSTRUMENT": "Landsat-8"}), {}


def an_item_of_another_scale(folder):
    item = stac_item(folder)
    write(folder / "a.tif", numbers())
    for band in item["assets"]["data"]["raster:bands"]:
        band["scale"] = 2e-4
    return item, {}


def an_item_of_another_nodata(folder):
    item = stac_item(folder)
    write(folder / "a.tif", numbers(), scaled=False, nodata=65535)
    return item, {}


def an_item_of_another_date(folder):
    item = stac_item(folder)
    write(folder / "a.tif", numbers(), scaled=False, nodata=None, tags={"TIMESTAMP": "2021-01-01"})
    return item, {}


def an_item_of_other_bands(folder):
    item = stac_item(folder)
    with rasterio.open(folder / "a.tif", "r+") as dataset:
        for index, center in enumerate((842, 665, 560, 490), start=1):
            dataset.update_tags(index, wavelength_nm=center)
    return item, {}


def an_item_of_another_unit(folder):
    item = stac_item(folder)
    with rasterio.open(folder / "a.tif", "r+") as dataset:
        dataset.units = ["1"] * 4
    for band in item["assets"]["data"]["raster:bands"]:
        band["unit"] = "%"
    return item, {}


def a_header_of_another_scale(folder):
    path = folder / "a.img"
    write(path, numbers(), names=NAMES, driver="ENVI", scaled=False)
    with (folder / "a.hdr").open("a") as header:
        header.write("sensor type = Sentinel-2A\nreflectance scale factor = 10000\n")
        header.write("data gain values = {0.1, 0.1, 0.1, 0.1}\n")
    return path, {}


@pytest.mark.parametrize(
    ("case", "words"),
    [
        (two_centres, ["560", "700", "wavelength_nm", "tag wavelength"]),
        (a_centre_against_the_table, ["842", "559.8", "wavelength_nm", "B03 of sentinel-2a"]),
        (two_kinds, ["'thermal'", "'reflective'", "tag kind", "B03 of sentinel-2a"]),
        (two_dates, ["2023-06-01", "2022-01-01", "TIMESTAMP", "ACQUISITION_DATE"]),
        (two_sensors, ["sentinel-2a", "landsat-8", "SENSOR", "INSTRUMENT"]),
        (an_item_of_another_scale, ["0.0001", "0.0002", "the file", "STAC"]),
        (an_item_of_another_nodata, ["65535", "0", "of the file", "STAC"]),
        (an_item_of_another_date, ["2021-01-01", "2023-06-01", "TIMESTAMP", "STAC"]),
        (an_item_of_other_bands, ["842", "492.4", "wavelength_nm", "B02 of sentinel-2a"]),
        (an_item_of_another_unit, ["'1'", "'%'", "unit type of the file", "STAC"]),
        (a_header_of_another_scale, ["0.1", "0.0001", "the file", "ENVI header"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_contradictions_are_refused_with_both_sources(tmp_path, case, words):
    entry, options = case(tmp_path)
    with pytest.raises(RasterError) as error:
        read_series(entry, **options)
    assert [word for word in words if word not in str(error.value)] == [], str(error.value)


def test_an_argument_overrules_and_the_report_says_what(tmp_path):
    from stsun_processing import open_series

    path = write(tmp_path / "a.tif", numbers(), names=NAMES, tags=TAGS)
    given = {"scale": 2e-4, "offset": 0.5, "nodata": 1234, "dates": ["2020-01-01"], "gsd_m": 20}
    with open_series(path, **given) as opened:
        facts = {(fact.band, fact.name): fact for fact in opened.facts}
        assert facts[1, "scale"].value == 2e-4
        assert "scale 0.0001 and offset -0.1 of the file not applied" in facts[1, "scale"].source
        assert facts[1, "nodata"].value == 1234
        assert "0 of nodata value of the file not applied" in facts[1, "nodata"].source
        assert (facts[None, "gsd_m"].value, facts[None, "datetime"].value) == (20, datetime(2020, 1, 1))
        pixels = opened.read().pixels[0]
    stored = numbers()
    expected = np.where(stored == 1234, np.nan, stored * 2e-4 + 0.5)
    np.testing.assert_allclose(pixels, expected, atol=1e-6)


def test_missing_is_the_union_of_all_that_is_said_as_stored_and_warped(tmp_path):
    stored = numbers()[:1]
    path = write(tmp_path / "a.tif", np.concatenate([stored, np.full_like(stored, 255)]).astype("uint16"),
                 names=("B02", ""), tags=TAGS)  # fmt: skip
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = [ColorInterp.gray, ColorInterp.alpha]
        alpha = np.full((HEIGHT, WIDTH), 255, "uint16")
        alpha[:, -4:] = 0
        dataset.write(alpha, 2)
    expected = (stored[0] == NODATA) | (alpha == 0)
    assert np.array_equal(np.isnan(read_series(path).pixels[0][0]), expected)
    # The same through a warp by whole pixels.
    grid = write(tmp_path / "g.tif", stored[:, :-1, :-1], tags=TAGS, names=("B02",))
    through = read_series(path, grid=grid, resampling="nearest").pixels[0][0]
    assert np.array_equal(np.isnan(through), expected[:-1, :-1])
