import datetime as dt
import math
import os
import tarfile

import numpy as np
import pytest
import rasterio

from stsun_processing.rasters.products import find_product, product_named, recognise_product
from stsun_processing.rasters.records import RasterError, Scaling, Statements
from tests.processing.rasters.raster_files import ramp, write
from tests.processing.rasters.source_stub import SourceStub, values

L2SP = "LC08_L2SP_192027_20210715_20210721_02_T1"
L1TP = "LC09_L1TP_010065_20220129_20220131_02_T1"
# As USGS lists the files of a scene of Level-2.
L2SP_FILES = [
    *(f"SR_B{number}.TIF" for number in range(1, 8)),
    *("SR_QA_AEROSOL.TIF", "QA_PIXEL.TIF", "QA_RADSAT.TIF", "ST_B10.TIF", "ST_QA.TIF", "ST_TRAD.TIF", "ST_URAD.TIF"),
    *("ST_DRAD.TIF", "ST_ATRAN.TIF", "ST_EMIS.TIF", "ST_EMSD.TIF", "ST_CDIST.TIF", "MTL.txt", "ANG.txt", "MTL.json"),
]
MTL = """GROUP = LANDSAT_METADATA_FILE
  GROUP = IMAGE_ATTRIBUTES
    DATE_ACQUIRED = 2022-01-29
    SCENE_CENTER_TIME = "15:28:34.3964280Z"
    SUN_ELEVATION = {elevation}
  END_GROUP = IMAGE_ATTRIBUTES
  GROUP = LEVEL1_RADIOMETRIC_RESCALING
    RADIANCE_MULT_BAND_4 = 9.9E-03
    REFLECTANCE_MULT_BAND_4 = 2.0000E-05
    REFLECTANCE_ADD_BAND_4 = -0.100000
  END_GROUP = LEVEL1_RADIOMETRIC_RESCALING
END_GROUP = LANDSAT_METADATA_FILE
END
"""


def make(folder, product_id, files):
    scene = folder / product_id
    scene.mkdir()
    for name in files:
        (scene / f"{product_id}_{name}").touch()
    return scene


def names_of(entry, product_id):
    return [os.path.basename(part.path).removeprefix(f"{product_id}_").removesuffix(".TIF") for part in entry.parts]


def test_level_2_gives_reflectance_and_temperature(tmp_path):
    scene = make(tmp_path, L2SP, L2SP_FILES)
    (scene / f"._{L2SP}_SR_B1.TIF").touch()
    entry = find_product(str(scene), None)
    assert names_of(entry, L2SP) == [*(f"SR_B{number}" for number in range(1, 8)), "ST_B10"]
    assert not entry.finest
    (note,) = entry.notes
    assert all(name in note for name in ("QA_PIXEL", "QA_RADSAT", "SR_QA_AEROSOL", "ST_QA", "ST_TRAD", "--parts"))
    for part, name, scaling, unit in (
        (entry.parts[3], "SR_B4", Scaling(0.0000275, -0.2), "reflectance"),
        (entry.parts[7], "ST_B10", Scaling(0.00341802, 149), "K"),
    ):
        states = part.beside[0].states(SourceStub(part.path, ((name,),)))
        assert values(states.bands[0].scaling) == [scaling]
        assert values(states.bands[0].unit) == [unit]
        assert values(states.bands[0].nodata) == [0]
        assert [sensor.name for sensor in values(states.sensor)] == ["landsat-8-oli-tirs"]
        assert values(states.date)[0].start == dt.datetime(2021, 7, 15)


def test_parts_choose_by_the_end_of_a_name(tmp_path):
    scene = str(make(tmp_path, L2SP, L2SP_FILES))
    for parts in (["SR_B5", "SR_B4"], ["sr_b5", "B4"], ["QA_PIXEL"]):
        wanted = {"SR_B5": "SR_B5", "sr_b5": "SR_B5", "SR_B4": "SR_B4", "B4": "SR_B4", "QA_PIXEL": "QA_PIXEL"}
        assert names_of(find_product(scene, parts), L2SP) == [wanted[part] for part in parts]
    with pytest.raises(RasterError, match=r"holds no file 'SR_B9'.*--parts"):
        find_product(scene, ["SR_B9"])


def test_tar_as_distributed(tmp_path):
    scene = make(tmp_path, L2SP, L2SP_FILES)
    write(scene / f"{L2SP}_SR_B4.TIF", ramp())
    (scene / f"{L2SP}_MTL.txt").write_text(MTL.format(elevation=60).replace("2022-01-29", "2021-07-15"))
    archive = tmp_path / f"{L2SP}.tar"
    with tarfile.open(archive, "w") as file:
        for path in sorted(scene.iterdir()):
            file.add(path, f"./{path.name}")
    entry = find_product(str(archive), None)
    assert len(entry.parts) == 8
    (part,) = find_product(str(archive), ["SR_B4"]).parts
    with rasterio.open(part.path) as dataset:
        np.testing.assert_array_equal(dataset.read(), ramp())
    states = part.beside[0].states(SourceStub(part.path, (("SR_B4",),)))
    assert values(states.date)[0].value == dt.datetime(2021, 7, 15, 15, 28, 34, 396428)
    (tmp_path / "broken.tar").write_bytes(b"no archive")
    with pytest.raises(RasterError, match=r"broken\.tar cannot be read as a tar archive"):
        find_product(str(tmp_path / "broken.tar"), None)


def test_level_1_needs_the_factors_and_the_sun_of_its_mtl_file(tmp_path):
    files = [*(f"B{number}.TIF" for number in range(1, 12)), "QA_PIXEL.TIF", "SAA.TIF", "MTL.txt"]
    scene = make(tmp_path, L1TP, files)
    mtl, path = scene / f"{L1TP}_MTL.txt", str(scene / f"{L1TP}_B4.TIF")
    source = SourceStub(path, (("B4",),))
    mtl.write_text(MTL.format(elevation=30))
    entry = find_product(str(scene), None)
    assert names_of(entry, L1TP) == [*(f"B{number}" for number in range(1, 8)), "B9"]
    assert [note.split(", ")[-1].split(".")[0] for note in sorted(entry.notes)] == [
        *("whose temperature is not linear in the stored numbers", "which have a finer grid than the others"),
        "which hold no measurement",
    ]
    # USGS: (0.00002 DN - 0.1) / sin(30 degrees)
    for beside in (entry.parts[3].beside[0], recognise_product(path, Statements()), product_named("landsat-c2-l1")):
        (scaling,) = values(beside.states(source).bands[0].scaling)
        assert 10000 * scaling.scale + scaling.offset == pytest.approx((0.2 - 0.1) / math.sin(math.radians(30)))
    for elevation in ("-3", "unknown"):
        mtl.write_text(MTL.format(elevation=elevation))
        with pytest.raises(RasterError, match=f"SUN_ELEVATION '{elevation}'.*above 0"):
            find_product(str(scene), None)
    mtl.unlink()
    (band,) = recognise_product(path, Statements()).states(source).bands
    assert band.scaling == ()


@pytest.mark.parametrize(
    ("product_id", "bands"),
    [
        ("LM01_L1GS_001010_19720908_20200909_02_T2", ["B4", "B5", "B6", "B7"]),
        ("LM05_L1GS_001001_19850524_20210918_02_T2", ["B1", "B2", "B3", "B4"]),
    ],
)
def test_all_bands_of_mss_measure_reflectance(tmp_path, product_id, bands):
    scene = make(tmp_path, product_id, [*(f"{band}.TIF" for band in bands), "QA_PIXEL.TIF"])
    assert names_of(find_product(str(scene), None), product_id) == bands


def test_band_6_of_tm_is_thermal(tmp_path):
    product_id = "LE07_L1TP_021030_20100109_20200911_02_T1"
    files = ["B1.TIF", "B6_VCID_1.TIF", "B6_VCID_2.TIF", "B7.TIF", "B8.TIF"]
    assert names_of(find_product(str(make(tmp_path, product_id, files)), None), product_id) == ["B1", "B7"]


def test_folders_of_several_scenes_or_without_bands_are_no_product(tmp_path):
    scene = make(tmp_path, L2SP, L2SP_FILES)
    (scene / f"{L1TP}_B4.TIF").touch()
    assert find_product(str(scene), None) is None
    other = tmp_path / "other"
    other.mkdir()
    (other / f"{L2SP}_QA_PIXEL.TIF").touch()
    assert find_product(str(other), None) is None
