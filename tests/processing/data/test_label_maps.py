import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image
from rasterio.enums import ColorInterp

from stsun_processing.data.fields import DatasetError
from stsun_processing.data.label_maps import LabelMap, position_table
from stsun_processing.data.samples import SampleRecord
from stsun_processing.metadata import Acquisition, Band, ImageSeries
from tests.processing.data.test_datasets import GRID, HEIGHT, SHIFTED, WIDTH, write

WHOLE = (0, 0, HEIGHT, WIDTH)
UTM33 = "EPSG:32633"
# Land, water, and 255 for what nobody labelled.
TABLE = position_table({0: 0, 1: 1, 255: 255})


def sample(transform=GRID, crs=UTM33):
    """A sample whose images lie on a grid."""
    transform = None if transform is None else tuple(transform)[:6]
    series = ImageSeries((Acquisition((Band("red", 665),)),), crs=crs, transform=transform)
    return SampleRecord("a", "semantic_segmentation", (), series, HEIGHT, WIDTH, ((0,),), ())


def read(path, record=None, table=TABLE, window=WHOLE):
    label = LabelMap(Path(path), record or sample())
    try:
        return label.read(window, table)
    finally:
        label.close()


@pytest.fixture
def ids():
    return np.random.default_rng(2).choice([0, 1], (HEIGHT, WIDTH)).astype(np.uint8)


@pytest.fixture
def hidden():
    return np.random.default_rng(3).random((HEIGHT, WIDTH)) < 0.4


@pytest.mark.parametrize("kind", ["internal", "sidecar", "alpha", "alpha and nodata", "nodata"])
def test_what_a_label_map_leaves_out_is_not_labelled(tmp_path, ids, hidden, kind):
    path = tmp_path / "label.tif"
    expected = np.where(hidden, 255, ids)
    if kind in ("internal", "sidecar"):
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=kind == "internal"):
            write(path, ids)
            with rasterio.open(path, "r+") as raster:
                raster.write_mask(~hidden)
        assert (tmp_path / "label.tif.msk").exists() == (kind == "sidecar")
    elif kind.startswith("alpha"):
        nodata = {"nodata": 9} if "nodata" in kind else {}
        write(path, np.stack([ids, np.where(hidden, 0, 255).astype(np.uint8)]), **nodata)
        with rasterio.open(path, "r+") as raster:
            raster.colorinterp = (ColorInterp.gray, ColorInterp.alpha)
    else:
        write(path, np.where(hidden, 9, ids).astype(np.uint8), nodata=9)
    np.testing.assert_array_equal(read(path), expected)
    np.testing.assert_array_equal(read(path, window=(3, 5, 7, 11)), expected[3:10, 5:16])


def test_the_nodata_value_of_a_label_map_may_be_the_id_of_a_class(tmp_path, ids):
    write(tmp_path / "label.tif", ids, nodata=0)
    np.testing.assert_array_equal(read(tmp_path / "label.tif"), ids)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_integers_of_every_width_are_ids(tmp_path, ids, dtype):
    write(tmp_path / "label.tif", ids.astype(dtype))
    np.testing.assert_array_equal(read(tmp_path / "label.tif"), ids)
    largest = np.iinfo(dtype).max
    write(tmp_path / "label.tif", np.where(ids, largest, 0).astype(dtype))
    if dtype == "uint8":
        assert set(np.unique(read(tmp_path / "label.tif"))) == {0, 255}
        return
    with pytest.raises(DatasetError, match=f"of sample 'a' holds {largest}; 0, 1, 255 are allowed .*ignore_index 255"):
        read(tmp_path / "label.tif")


def test_ids_up_to_255_have_the_positions_of_their_classes(tmp_path, ids):
    table = position_table({255: 0, 7: 1, 254: 255})
    write(tmp_path / "label.tif", np.choose(ids, [255, 7]).astype(np.uint8))
    np.testing.assert_array_equal(read(tmp_path / "label.tif", table=table), ids)


def test_the_index_of_a_palette_is_the_id(tmp_path, ids):
    image = Image.fromarray(ids, "P")
    image.putpalette([0, 0, 0, 255, 255, 255])
    image.save(tmp_path / "label.png")
    np.testing.assert_array_equal(read(tmp_path / "label.png"), ids)


def test_one_page_of_several_is_not_taken_for_the_labels(tmp_path, ids):
    pages = [Image.fromarray(ids), Image.fromarray(1 - ids)]
    pages[0].save(tmp_path / "label.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(DatasetError, match=r"label.tif has 2 pages, .* \(GTIFF_DIR:1:.*Save the page"):
        read(tmp_path / "label.tif")


@pytest.mark.parametrize(
    ("transform", "crs", "images"),
    [
        (None, None, sample()),
        (GRID, UTM33, sample(None, None)),
        (GRID, None, sample()),
        (GRID, UTM33, sample(GRID, None)),
        # Rounding moves it by a ten-thousandth of a pixel.
        (Affine(10, 0, 500_000.001, 0, -10, 5_000_000), UTM33, sample()),
        # Another name for the same CRS.
        (GRID, "+proj=utm +zone=33 +datum=WGS84 +units=m", sample()),
    ],
)
def test_maps_that_lie_on_the_grid_of_the_images_are_read(tmp_path, ids, transform, crs, images):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        write(tmp_path / "label.tif", ids, transform=transform, crs=crs)
    np.testing.assert_array_equal(read(tmp_path / "label.tif", images), ids)


@pytest.mark.parametrize(
    ("transform", "crs", "images"),
    [
        (SHIFTED, UTM33, sample()),
        (SHIFTED, None, sample()),
        (SHIFTED, UTM33, sample(GRID, None)),
        # The same numbers, half a zone of UTM away.
        (GRID, "EPSG:32634", sample()),
        (Affine(1, 0, 500_000, 0, -1, 5_000_000), UTM33, sample()),
        # From this one no way leads to UTM.
        (GRID, 'LOCAL_CS["survey of a mine",UNIT["metre",1]]', sample()),
        (GRID, UTM33, sample(Affine(10, 0, 500_000, 0, 0, 5_000_000))),
    ],
)
def test_maps_that_lie_elsewhere_are_refused(tmp_path, ids, transform, crs, images):
    write(tmp_path / "label.tif", ids, transform=transform, crs=crs)
    with pytest.raises(DatasetError, match=r"label.tif does not lie where .* 'a' do.*Warp it to their grid"):
        read(tmp_path / "label.tif", images)


@pytest.mark.parametrize(
    ("array", "named"),
    [
        (np.zeros((HEIGHT, WIDTH), np.float32), "has 1 bands of float32; one band of integers"),
        (np.zeros((3, HEIGHT, WIDTH), np.uint8), "has 3 bands of uint8; one band of integers"),
        (np.zeros((HEIGHT, WIDTH - 1), np.uint8), "measures 23 x 30 pixels, sample 'a' 23 x 31"),
    ],
)
def test_rasters_that_hold_no_labels_of_the_sample_are_refused(tmp_path, array, named):
    write(tmp_path / "label.tif", array)
    with pytest.raises(DatasetError, match=f"label.tif {named}"):
        read(tmp_path / "label.tif")


def test_a_damaged_map_is_named(tmp_path, ids):
    write(tmp_path / "label.tif", ids)
    whole = (tmp_path / "label.tif").read_bytes()
    (tmp_path / "label.tif").write_bytes(whole[: len(whole) - ids.size // 2])
    with pytest.raises(DatasetError, match=r"label.tif of sample 'a' cannot be read"):
        read(tmp_path / "label.tif")
    (tmp_path / "label.tif").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"label.tif of sample 'a' cannot be read"):
        read(tmp_path / "label.tif")
