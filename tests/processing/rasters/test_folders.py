import os

import pytest

from stsun_processing.rasters.folders import choose, folder_entry
from stsun_processing.rasters.records import RasterError


@pytest.fixture
def fill(tmp_path):
    def with_files(*names):
        for name in names:
            (tmp_path / name).touch()
        return str(tmp_path)

    return with_files


def names(entry):
    return [os.path.basename(part.path) for part in entry.parts]


def test_rasters_in_natural_order(fill):
    entry = folder_entry(fill("B10.tif", "B2.TIF", "b1.jp2", "notes.txt", "B2.tif.aux.xml"), None)
    assert names(entry) == ["b1.jp2", "B2.TIF", "B10.tif"]
    assert entry.notes == ()


def test_hidden_files_do_not_count(fill):
    assert names(folder_entry(fill("._B04.tif", ".hidden.tif", "B04.tif"), None)) == ["B04.tif"]


@pytest.mark.parametrize(
    ("bands", "others"),
    [
        (["t_B02_10m.tif", "t_B8A_20m.tif"], ["t_SCL_20m.tif", "t_TCI_10m.tif"]),
        (["x_SR_B4.tif"], ["x_QA_PIXEL.tif", "x_SR_QA_AEROSOL.tif"]),
        (["red.tif", "nir.tif"], ["QA60.tif", "udm2.tif"]),
        (["HLS.v2.0.B04.tif"], ["HLS.v2.0.Fmask.tif", "HLS.v2.0.SAA.tif", "HLS.v2.0.VZA.tif", "HLS.v2.0.jpg"]),
    ],
)
def test_files_beside_bands_that_measure_nothing_are_left_out_with_a_note(fill, bands, others):
    entry = folder_entry(fill(*bands, *others), None)
    assert set(names(entry)) == set(bands)
    (note,) = entry.notes
    assert all(name in note for name in [*others, "--parts"])


@pytest.mark.parametrize(
    "files",
    [
        *(["image.tif", "image_QA.tif"], ["QA.tif", "SCL.tif"], ["Qatar_B04.tif", "B03.tif"]),
        *(["red.png", "nir.png"], ["red.tif", "nir.png"], ["image.tif", "image.jpg"]),
    ],
)
def test_nothing_is_left_out_where_the_others_are_not_named_like_bands(fill, files):
    entry = folder_entry(fill(*files), None)
    assert set(names(entry)) == set(files)
    assert entry.notes == ()


def test_parts_choose_and_order(fill):
    folder = fill("s_B04.tif", "s_B03.tif", "s_SCL.tif", "B4.tif", "x_B4.tif")
    assert names(folder_entry(folder, ["SCL", "b03", "s_B04", "s_B03.tif"])) == [
        *("s_SCL.tif", "s_B03.tif", "s_B04.tif", "s_B03.tif"),
    ]
    # A whole name goes before the end of another one.
    assert names(folder_entry(folder, ["B4"])) == ["B4.tif"]


@pytest.mark.parametrize(
    ("part", "problem"),
    [
        ("B9", r"holds no file 'B9'.*--parts.*s_B04\.tif"),
        ("", "holds no file ''"),
        ("4", "holds no file '4'"),
        ("B04", r"holds several files that 'B04' may mean: s_B04\.tif, t_B04\.tif"),
    ],
)
def test_parts_that_name_nothing_or_several_files(part, problem):
    with pytest.raises(RasterError, match=problem):
        choose("folder", [part], ["s_B04.tif", "t_B04.tif", "B03.tif"])


def test_a_folder_without_rasters(fill):
    with pytest.raises(RasterError, match=r"holds no raster \(\.tif, .*Name the files themselves"):
        folder_entry(fill("notes.txt", "._B04.tif"), None)
