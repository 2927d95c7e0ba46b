"""GDAL files as sources: alpha bands, masks, pages, and what stands behind them."""

import http.server
import threading
import warnings

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from stsun_processing.rasters.gdal_file import GdalFile
from stsun_processing.rasters.records import RasterError
from stsun_processing.rasters.series import open_series, read_series
from tests.processing.rasters.raster_files import ramp, write

RGBA = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]


def four_bytes(path, fourth=None, **options):
    array = ramp(4, 8, 9, dtype="uint8")
    if fourth is not None:
        array[3] = fourth
    return write(path, array, colours=RGBA, **options)


@pytest.mark.parametrize(
    ("options", "indexes"),
    [
        ({"fourth": 255}, (1, 2, 3)),
        ({"fourth": 255, "descriptions": ("", "", "", "alpha")}, (1, 2, 3)),
        ({"fourth": 255, "descriptions": ("Band 1", "Band 2", "Band 3", "Band 4")}, (1, 2, 3)),
        # What names a measurement is a band, whatever colour GDAL gives it.
        ({"descriptions": ("B02", "B03", "B04", "B08")}, (1, 2, 3, 4)),
        ({"band_tags": [{}, {}, {}, {"wavelength_nm": "842"}]}, (1, 2, 3, 4)),
        ({"band_tags": [{}, {}, {}, {"kind": "elevation"}]}, (1, 2, 3, 4)),
        ({"imagery": [{}, {}, {}, {"CENTRAL_WAVELENGTH_UM": "0.842"}]}, (1, 2, 3, 4)),
    ],
)
def test_alpha_is_alpha_where_nothing_else_speaks(tmp_path, options, indexes):
    source = GdalFile(str(four_bytes(tmp_path / "a.tif", **options)))
    assert source.indexes == indexes
    assert source.mask_source == ("alpha band 4" if len(indexes) == 3 else None)
    assert source.count == 4


def test_a_sensor_or_a_list_of_all_bands_makes_it_data(tmp_path):
    path = four_bytes(tmp_path / "a.tif")
    assert len(read_series(path, sensor="naip", scale=0.004).acquisitions[0].bands) == 4
    names = ["B02", "B03", "B04", "B08"]
    assert len(read_series(path, bands=names, sensor="s2", scale=0.004).acquisitions[0].bands) == 4
    with pytest.raises(RasterError, match=r"Band 4 of .*coloured alpha.*--bands.*name the other 3"):
        open_series(path, sensor="s2")
    # Three names say that the fourth band is transparency.
    half = read_series(path, bands=["red", "green", "blue"], sensor="s2", scale=0.004)
    assert len(half.acquisitions[0].bands) == 3


def test_an_item_or_a_checkpoint_that_lists_all_bands_makes_it_data(tmp_path):
    path = four_bytes(tmp_path / "a.tif")
    bands = [{"name": name, "center_wavelength": um} for name, um in zip("rgbn", (0.66, 0.56, 0.48, 0.84), strict=True)]
    asset = {"href": str(path), "type": "image/tiff", "roles": ["data"], "eo:bands": bands}
    item = {"type": "Feature", "stac_version": "1.0.0", "id": "i", "properties": {"datetime": "2021-05-05"}}
    series = read_series({**item, "assets": {"image": asset}})
    assert [band.center_nm for band in series.acquisitions[0].bands] == [660, 560, 480, 840]
    assert np.isfinite(series.pixels[0]).all()
    records = [{"name": name, "center_nm": nm} for name, nm in zip("rgbn", (660, 560, 480, 840), strict=True)]
    reading = {"bands": records, "dtype": "uint8"}
    assert len(read_series(path, readings={"own": [reading]}).acquisitions[0].bands) == 4
    # A list of the other three leaves it alpha.
    rest = {"bands": records[:3], "dtype": "uint8"}
    assert len(read_series(path, readings={"own": [rest]}).acquisitions[0].bands) == 3


def test_alpha_of_zero_hides_pixels(tmp_path):
    fourth = np.full((8, 9), 255)
    fourth[:2] = 0
    values = read_series(four_bytes(tmp_path / "a.tif", fourth=fourth)).pixels[0]
    assert np.isnan(values[:, :2]).all()
    assert np.isfinite(values[:, 2:]).all()


def test_pages_are_not_read_in_silence(tmp_path):
    pages = [Image.fromarray(np.full((4, 5), value, "uint8")) for value in (40, 90, 140)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(RasterError, match=r"several pages.*GTIFF_DIR:2:"):
        GdalFile(str(tmp_path / "a.tif"))
    second = GdalFile(f"GTIFF_DIR:2:{tmp_path}/a.tif")
    assert second.read([1], Window(0, 0, 5, 4)).max() == 90


def test_overviews_and_masks_are_no_pages(tmp_path):
    path = write(tmp_path / "a.tif", ramp(1, 64, 64), mask=np.full((64, 64), 255, "uint8"))
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2, 4])
    assert GdalFile(str(path)).indexes == (1,)


def test_files_behind_a_vrt_are_known(tmp_path):
    path = write(tmp_path / "a.tif", ramp())
    rasterio.shutil.copy(path, tmp_path / "a.vrt", driver="VRT")
    source = GdalFile(str(tmp_path / "a.vrt"))
    assert set(source.files) == {str(tmp_path / "a.vrt"), str(path)}
    with open_series(tmp_path / "a.vrt", bands=["red:660"]) as opened:
        assert set(opened.files) == {str(tmp_path / "a.vrt"), str(path)}


def test_a_vrt_without_its_source_says_so(tmp_path):
    path = write(tmp_path / "a.tif", ramp())
    rasterio.shutil.copy(path, tmp_path / "a.vrt", driver="VRT")
    path.unlink()
    with pytest.raises(RasterError, match=r"a\.vrt.*[Vv]RT refers to is missing|does not exist|No such file"):
        read_series(tmp_path / "a.vrt", bands=["red:660"])


def test_a_local_file_does_not_reach_the_network(tmp_path):
    requests = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            self.send_error(404)

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        service = f"""<GDAL_WMS><Service name="TMS"><ServerUrl>{url}/${{z}}/${{x}}/${{y}}.png</ServerUrl></Service>
            <DataWindow><UpperLeftX>0</UpperLeftX><UpperLeftY>0</UpperLeftY><LowerRightX>1</LowerRightX>
            <LowerRightY>1</LowerRightY><TileLevel>1</TileLevel></DataWindow><Projection>EPSG:4326</Projection>
            <BandsCount>3</BandsCount></GDAL_WMS>"""
        (tmp_path / "wms.tif").write_text(service)
        (tmp_path / "wcs.tif").write_text(
            f"<WCS_GDAL><ServiceURL>{url}/?</ServiceURL><CoverageName>a</CoverageName></WCS_GDAL>"
        )
        for name in ("wms.tif", "wcs.tif"):
            with pytest.raises(RasterError, match="cannot be opened as a raster"):
                read_series(tmp_path / name)
        server.shutdown()
    assert requests == []


def test_a_mask_beside_a_file_counts(tmp_path):
    mask = np.full((4, 5), 255, "uint8")
    mask[1] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False):
        path = write(tmp_path / "a.tif", ramp(), mask=mask)
    source = GdalFile(str(path))
    assert source.mask_source == "its mask"
    assert source.masked([1], Window(0, 0, 5, 4)).tolist() == (mask == 0).tolist()


_SOURCE = '<SimpleSource><SourceFilename relativeToVRT="1">{0}.tif</SourceFilename>{1}</SimpleSource>'


def vrt_of_masked_bands(folder, masks):
    """A VRT whose bands have a mask each."""
    for number, mask in enumerate(masks, start=1):
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
            write(folder / f"{number}.tif", np.full((1, *mask.shape), 1000, "uint16"), mask=mask)
    bands = "".join(
        f'<VRTRasterBand dataType="UInt16" band="{number}">{_SOURCE.format(number, "")}<MaskBand>'
        f'<VRTRasterBand dataType="Byte">{_SOURCE.format(number, "<SourceBand>mask,1</SourceBand>")}</VRTRasterBand>'
        "</MaskBand></VRTRasterBand>"
        for number in range(1, len(masks) + 1)
    )
    height, width = masks[0].shape
    path = folder / "bands.vrt"
    path.write_text(f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}">{bands}</VRTDataset>')
    return path


def masks_of_rows(*rows):
    masks = np.full((len(rows), 4, 5), 255, "uint8")
    for mask, row in zip(masks, rows, strict=True):
        mask[row] = 0
    return masks


def test_masks_of_single_bands_count(tmp_path):
    masks = masks_of_rows(0, 2)
    path = vrt_of_masked_bands(tmp_path, masks)
    series = read_series(path, bands=["red:665", "nir:842"], scale=1e-4)
    assert np.isnan(series.pixels[0]).tolist() == (masks == 0).tolist()
    assert series.valid[0].tolist() == masks.all(axis=0).tolist()


def test_the_mask_of_a_band_hides_nothing_of_another_date(tmp_path):
    masks = masks_of_rows(0, 2)
    path = vrt_of_masked_bands(tmp_path, masks)
    series = read_series(path, bands=["red:665"], scale=1e-4, stacked="dates", num_dates=2)
    assert [valid.tolist() for valid in series.valid] == (masks != 0).tolist()


def test_alpha_and_a_mask_both_hide_pixels(tmp_path):
    fourth, mask = np.full((8, 9), 255), np.full((8, 9), 255, "uint8")
    fourth[:2], mask[4:] = 0, 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        path = four_bytes(tmp_path / "a.tif", fourth=fourth, mask=mask)
    (valid,) = read_series(path).valid
    assert valid.tolist() == ((fourth > 0) & (mask > 0)).tolist()


def test_a_transparent_colour_is_missing_as_a_whole(tmp_path):
    pixels = np.full((8, 8, 3), 200, "uint8")
    pixels[0, 0] = (10, 20, 30)
    pixels[1, 1] = (10, 99, 98)
    Image.fromarray(pixels).save(tmp_path / "a.png", transparency=(10, 20, 30))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        valid = read_series([tmp_path / "a.png"]).valid[0]
    expected = np.ones((8, 8), bool)
    expected[0, 0] = False
    np.testing.assert_array_equal(valid.reshape(-1, 8, 8).all(0), expected)
