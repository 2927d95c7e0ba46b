import datetime as dt
import itertools
import os
import zipfile

import numpy as np
import pytest
import rasterio

from stsun_processing.rasters.products import find_product, product_named, recognise_product
from stsun_processing.rasters.records import RasterError, Scaling, Statements
from tests.processing.rasters.raster_files import ramp, write
from tests.processing.rasters.source_stub import SourceStub, values

L2A = "S2B_MSIL2A_20220413T150759_N0400_R025_T33XWJ_20220414T082126.SAFE"
L1C = "S2A_MSIL1C_20210908T042701_N0301_R133_T46RER_20210908T070248.SAFE"
BANDS = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12"]
NATIVE_M = {**dict.fromkeys(["B02", "B03", "B04", "B08"], 10), **dict.fromkeys(["B01", "B09", "B10"], 60)}
# Of the product specification: bands that the resolutions of Level-2A hold, and what lies beside them.
L2A_FILES = {
    "R10m": ["B02", "B03", "B04", "B08", "TCI", "AOT", "WVP"],
    "R20m": [*(band for band in BANDS if band not in ("B08", "B09", "B10")), "TCI", "AOT", "WVP", "SCL"],
    "R60m": [*(band for band in BANDS if band not in ("B08", "B10")), "TCI", "AOT", "WVP", "SCL"],
}


def spectral(number, name, center_nm, sigma_nm=10.0):
    """A band's entry, with a Gaussian response."""
    offsets = np.arange(-50, 51)
    response = " ".join(f"{value:.8f}" for value in np.exp(-(offsets**2) / (2 * sigma_nm**2)))
    return (
        f'<Spectral_Information bandId="{number}" physicalBand="{name}"><Wavelength><MIN unit="nm">1</MIN>'
        f'<MAX unit="nm">9</MAX><CENTRAL unit="nm">{center_nm}</CENTRAL></Wavelength><Spectral_Response>'
        f'<STEP unit="nm">1</STEP><VALUES>{response}</VALUES></Spectral_Response></Spectral_Information>'
    )


def metadata(level="2A", baseline="04.00", quantification=10000, offsets=None, bands="", nodata=0):
    """A product's metadata after the specification, cut down to what is read."""
    tag = "BOA" if level == "2A" else "RADIO"
    offsets = dict.fromkeys(range(13), -1000) if offsets is None else offsets
    listed = "".join(
        f'<{tag}_ADD_OFFSET band_id="{band}">{offset}</{tag}_ADD_OFFSET>' for band, offset in offsets.items()
    )
    value = "BOA_QUANTIFICATION_VALUE" if level == "2A" else "QUANTIFICATION_VALUE"
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f'<n1:Level-{level}_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD"><n1:General_Info><Product_Info>'
        "<PRODUCT_START_TIME>2022-04-13T15:07:59.024Z</PRODUCT_START_TIME>"
        "<PRODUCT_STOP_TIME>2022-04-13T15:07:59.024Z</PRODUCT_STOP_TIME>"
        f"<PROCESSING_LEVEL>Level-{level}</PROCESSING_LEVEL><PROCESSING_BASELINE>{baseline}</PROCESSING_BASELINE>"
        "<Datatake><SPACECRAFT_NAME>Sentinel-2B</SPACECRAFT_NAME></Datatake></Product_Info>"
        "<Product_Image_Characteristics><Special_Values><SPECIAL_VALUE_TEXT>SATURATED</SPECIAL_VALUE_TEXT>"
        "<SPECIAL_VALUE_INDEX>65535</SPECIAL_VALUE_INDEX></Special_Values><Special_Values>"
        f"<SPECIAL_VALUE_TEXT>NODATA</SPECIAL_VALUE_TEXT><SPECIAL_VALUE_INDEX>{nodata}</SPECIAL_VALUE_INDEX>"
        f'</Special_Values><{value} unit="none">{quantification}</{value}>{listed}'
        f"<Spectral_Information_List>{bands}</Spectral_Information_List></Product_Image_Characteristics>"
        f"</n1:General_Info></n1:Level-{level}_User_Product>"
    )


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def make_l2a(folder, text=None, granule="L2A_T33XWJ_A026649_20220413T150756"):
    safe = folder / L2A
    for resolution, names in L2A_FILES.items():
        for name in names:
            touch(
                safe
                / "GRANULE"
                / granule
                / "IMG_DATA"
                / resolution
                / f"T33XWJ_20220413T150759_{name}_{resolution[1:]}.jp2"
            )
    touch(safe / "GRANULE" / granule / "QI_DATA" / "MSK_DETFOO_B04.jp2")
    touch(safe / "GRANULE" / granule / "IMG_DATA" / "R10m" / "._T33XWJ_20220413T150759_B02_10m.jp2")
    (safe / "MTD_MSIL2A.xml").write_text(metadata() if text is None else text)
    return safe


def make_l1c(folder, text=None):
    safe = folder / L1C
    for name in [*BANDS, "TCI"]:
        touch(
            safe / "GRANULE" / "L1C_T46RER_A032448_20210908T043714" / "IMG_DATA" / f"T46RER_20210908T042701_{name}.jp2"
        )
    (safe / "MTD_MSIL1C.xml").write_text(metadata("1C", "03.01", offsets={}) if text is None else text)
    return safe


def states_of(part, **fields):
    beside = part.beside[0]
    return beside.states(SourceStub(part.path, **fields))


def scalings(entry):
    return {part.beside[0].bands[0]: values(states_of(part).bands[0].scaling)[0] for part in entry.parts}


def test_level_2a_gives_each_band_at_the_resolution_of_the_instrument(tmp_path):
    safe = make_l2a(tmp_path)
    entry = find_product(str(safe), None)
    stems = [os.path.basename(part.path).removesuffix(".jp2") for part in entry.parts]
    bands = [band for band in BANDS if band != "B10"]
    assert stems == [f"T33XWJ_20220413T150759_{band}_{NATIVE_M.get(band, 20)}m" for band in bands]
    assert all(os.path.isfile(part.path) for part in entry.parts)
    assert entry.finest
    (note,) = entry.notes
    assert all(name in note for name in ("AOT", "SCL", "TCI", "WVP", "--parts"))


def test_level_1c(tmp_path):
    entry = find_product(str(make_l1c(tmp_path)), None)
    assert [part.beside[0].bands for part in entry.parts] == [(band,) for band in BANDS]
    assert set(scalings(entry).values()) == {Scaling(0.0001)}
    assert entry.finest
    shifted = metadata("1C", "04.00", offsets=dict.fromkeys(range(13), -1000))
    (tmp_path / L1C / "MTD_MSIL1C.xml").write_text(shifted)
    assert set(scalings(find_product(str(tmp_path / L1C), None)).values()) == {Scaling(0.0001, -0.1)}


def test_what_the_metadata_state_about_a_band(tmp_path):
    bands = spectral(0, "B1", 442.3) + spectral(3, "B4", 665.0, sigma_nm=13.0)
    text = metadata(offsets={0: -1000, 3: -700}, bands=bands, quantification=5000)
    safe = make_l2a(tmp_path, text)
    (part,) = find_product(str(safe), ["B04"]).parts
    states = states_of(part)
    (band,) = states.bands
    assert values(band.names) == ["B04"]
    (scaling,) = values(band.scaling)
    # (DN - 700) / 5000
    assert 3000 * scaling.scale + scaling.offset == pytest.approx(0.46)
    assert (values(band.nodata), values(band.unit)) == ([0], ["reflectance"])
    assert values(band.center_nm)[0].value == 665
    # The full width at half maximum of a Gaussian is 2 sqrt(2 ln 2) sigma.
    assert values(band.fwhm_nm)[0].value == pytest.approx(2.354820 * 13, abs=0.05)
    assert values(states.date)[0].value == dt.datetime(2022, 4, 13, 15, 7, 59, 24000)
    assert [one.name for one in values(states.sensor)] == ["sentinel-2b"]
    assert all(stated.source == "MTD_MSIL2A.xml" for stated in (*band.scaling, *band.center_nm, *states.date))


def test_bands_of_different_offsets(tmp_path):
    offsets = {number: -1000 - number for number in range(13)}
    entry = find_product(str(make_l2a(tmp_path, metadata(offsets=offsets))), None)
    for number, band in enumerate(BANDS):
        if band != "B10":
            assert scalings(entry)[band].offset == pytest.approx((-1000 - number) / 10000)


def test_responses_that_do_not_reach_their_half_have_no_width(tmp_path):
    wide = spectral(3, "B4", 665.0, sigma_nm=500.0)
    safe = make_l2a(tmp_path, metadata(offsets={3: -1000}, bands=wide))
    (part,) = find_product(str(safe), ["B04"]).parts
    assert states_of(part).bands[0].fwhm_nm == ()


def test_other_spellings_of_a_product(tmp_path):
    safe = make_l2a(tmp_path)
    wanted = [part.path for part in find_product(str(safe), None).parts]
    granule = safe / "GRANULE" / "L2A_T33XWJ_A026649_20220413T150756"
    for path in (f"{safe}/", safe / "MTD_MSIL2A.xml", granule, granule / "IMG_DATA"):
        assert [part.path for part in find_product(str(path), None).parts] == wanted
    renamed = safe.rename(tmp_path / "my tile")
    assert len(find_product(str(renamed), None).parts) == 12


def test_zip_as_distributed(tmp_path):
    safe = make_l2a(tmp_path)
    red = next(safe.rglob("*_B04_10m.jp2"))
    write(red, ramp())
    archive = tmp_path / "S2 tile.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in safe.rglob("*"):
            file.write(path, path.relative_to(tmp_path))
    entry = find_product(str(archive), None)
    assert len(entry.parts) == 12
    (part,) = find_product(str(archive), ["B04"]).parts
    with rasterio.open(part.path) as dataset:
        np.testing.assert_array_equal(dataset.read(), ramp())
    assert values(states_of(part).bands[0].scaling) == [Scaling(0.0001, -0.1)]


def test_products_until_2016(tmp_path):
    safe = tmp_path / "S2A_OPER_PRD_MSIL1C_PDMC_20160318T145513_R022_V20160318T102029_20160318T102029.SAFE"
    for tile in ("T32UMD", "T32UME"):
        name = f"S2A_OPER_MSI_L1C_TL_SGS__20160318T153422_A003855_{tile}"
        for band in BANDS:
            touch(safe / "GRANULE" / f"{name}_N02.01" / "IMG_DATA" / f"{name}_{band}.jp2")
    xml = safe / "S2A_OPER_MTD_SAFL1C_PDMC_20160318T145513_R022_V20160318T102029_20160318T102029.xml"
    xml.write_text(metadata("1C", "02.01", offsets={}))
    with pytest.raises(RasterError, match=r"holds 2 tiles: .*T32UMD_N02\.01.*GRANULE/"):
        find_product(str(safe), None)
    entry = find_product(str(next(safe.rglob("*T32UME_N02.01"))), None)
    assert len(entry.parts) == 13
    assert set(scalings(entry).values()) == {Scaling(0.0001)}
    path = entry.parts[0].path
    assert values(recognise_product(path, Statements()).states(SourceStub(path, (("B01",),))).bands[0].scaling) == [
        Scaling(0.0001)
    ]


def test_old_level_2a_names_its_quantification_value_otherwise(tmp_path):
    old = metadata(baseline="02.05", offsets={}).replace("BOA_QUANTIFICATION", "L2A_BOA_QUANTIFICATION")
    entry = find_product(str(make_l2a(tmp_path, old)), ["B02"])
    assert set(scalings(entry).values()) == {Scaling(0.0001)}


def test_parts_choose_bands_and_resolutions(tmp_path):
    safe = str(make_l2a(tmp_path))
    entry = find_product(safe, ["B12", "red", "B2", "B04_20m", "SCL", "scl_60m"])
    stems = [os.path.basename(part.path)[23:].removesuffix(".jp2") for part in entry.parts]
    assert stems == ["B12_20m", "B04_10m", "B02_10m", "B04_20m", "SCL_20m", "SCL_60m"]
    assert entry.notes == ()
    # Scene classes are no reflectance.
    (scene_classes,) = states_of(entry.parts[4], names=(("SCL_20m",),), dtype="uint8").bands
    assert scene_classes.scaling == scene_classes.center_nm == ()
    for part in ("B10", "B04_30m", "cloud"):
        with pytest.raises(RasterError, match=rf"has no part '{part}'.*B02_10m"):
            find_product(safe, [part])


def test_an_image_file_is_read_with_the_metadata_of_its_product(tmp_path):
    safe = make_l2a(tmp_path, metadata(offsets=dict.fromkeys(range(13), -500)))
    renamed = safe.rename(tmp_path / "tile")
    path = str(next(renamed.rglob("*_B04_10m.jp2")))
    source = SourceStub(path, (("B04_10m",),))
    assert values(recognise_product(path, Statements()).states(source).bands[0].scaling) == [Scaling(0.0001, -0.05)]
    assert values(product_named("sentinel-2-l2a").states(source).bands[0].scaling) == [Scaling(0.0001, -0.05)]
    # Masks of a product are none of its images.
    mask = str(next(renamed.rglob("MSK_DETFOO_B04.jp2")))
    assert recognise_product(mask, Statements()) is None


def test_baseline_of_users_products_is_that_of_their_metadata(tmp_path):
    entry = find_product(str(make_l2a(tmp_path, metadata(baseline="99.99"))), ["B02"])
    assert set(scalings(entry).values()) == {Scaling(0.0001, -0.1)}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("<a", r"MTD_MSIL2A\.xml is no XML"),
        ("", "is no XML"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "defines a document type"),
        (metadata().replace("BOA_QUANTIFICATION_VALUE", "X"), "states no BOA_QUANTIFICATION_VALUE"),
        (metadata(quantification=0), "states no BOA_QUANTIFICATION_VALUE or .* above 0"),
        (metadata(offsets={}), r"baseline 04\.00, but no BOA_ADD_OFFSET of B01, .*--scale, --offset"),
        (metadata(offsets={0: "x"}), "BOA_ADD_OFFSET of band 0 that is no number"),
    ],
    ids=["broken", "empty", "doctype", "no-value", "zero", "no-offsets", "no-number"],
)
def test_metadata_that_cannot_be_used(tmp_path, text, problem):
    with pytest.raises(RasterError, match=problem):
        find_product(str(make_l2a(tmp_path, text)), None)


def test_metadata_that_are_no_text(tmp_path, monkeypatch):
    safe = make_l2a(tmp_path)
    (safe / "MTD_MSIL2A.xml").write_bytes(metadata().encode("utf-16"))
    with pytest.raises(RasterError, match="is no text in UTF-8"):
        find_product(str(safe), None)
    monkeypatch.setattr("stsun_processing.rasters.product_files._MAX_TEXT_BYTES", 10)
    with pytest.raises(RasterError, match="has more than 10 bytes"):
        find_product(str(safe), None)


def test_products_that_are_incomplete(tmp_path):
    safe = tmp_path / L2A
    safe.mkdir()
    (safe / "MTD_MSIL2A.xml").write_text(metadata())
    with pytest.raises(RasterError, match="holds no image of a Sentinel-2 product"):
        find_product(str(safe), None)
    (tmp_path / "a.zip").write_bytes(b"PK")
    with pytest.raises(RasterError, match=r"a\.zip cannot be read as a zip archive"):
        find_product(str(tmp_path / "a.zip"), None)
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(f"{L2A}/MTD_MSIL2A.xml", metadata())
        file.writestr(f"{L2A}/GRANULE/A/IMG_DATA/R10m/T_B04_10m.jp2", b"")
    content = bytearray((tmp_path / "b.zip").read_bytes())
    content[200:220] = bytes(20)
    (tmp_path / "b.zip").write_bytes(content)
    with pytest.raises(RasterError, match=r"MTD_MSIL2A\.xml cannot be read"):
        find_product(str(tmp_path / "b.zip"), None)


def test_other_paths_are_no_products(tmp_path):
    (tmp_path / "empty").mkdir()
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as file:
        file.writestr("a.tif", b"")
    paths = ["empty", "other.zip", "missing.SAFE", "missing.zip"]
    for path, parts in itertools.product(paths, (None, ["B02"])):
        assert find_product(str(tmp_path / path), parts) is None
    assert find_product("/vsicurl/https://example.com/S2.SAFE", None) is None
