import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from modeling_stsun import STSUNImageProcessor
from stsun_processing import Band
from stsun_processing.arrays_stsun import check_readings, filled_labels
from stsun_processing.metadata import RGB_BANDS

RED, NIR = Band("red", 665, 31), Band("nir", 833, 106)
COLOURS = [{"name": name, "center_nm": nm} for name, nm in (("red", 650), ("green", 550), ("blue", 450))]
READING = {"bands": [*COLOURS], "dtype": "uint8", "scale": None, "offset": None, "nodata": None, "gsd_m": None}


@pytest.fixture
def processor():
    return STSUNImageProcessor(categories=["land", "water"])


@pytest.fixture(scope="module")
def stored():
    """An 8-bit picture, (height, width, 3)."""
    return np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)


def series_of(processor, images, **kwargs):
    (series,) = processor.to_series(images, **kwargs)
    return series


def test_a_picture_is_the_same_through_every_door(processor, stored):
    picture, first = Image.fromarray(stored), stored.transpose(2, 0, 1)
    physical = (first.astype(np.float64) / 255)[None]
    expected = processor(physical, sensor="rgb", classes=["land"])
    doors = [picture, [picture], stored, stored[None], first, first[None], torch.tensor(first), np.ma.asarray(stored)]
    for images in doors:
        batch = processor(images, sensor="rgb", classes=["land"])
        for name, tensor in expected.items():
            torch.testing.assert_close(batch[name], tensor, rtol=0, atol=1e-6, equal_nan=True)
    bands = series_of(processor, picture, sensor="rgb").acquisitions[0].bands
    assert [(band.name, band.center_nm) for band in bands] == [(band.name, band.center_nm) for band in RGB_BANDS]
    assert {band.unit for band in bands} == {"reflectance"}


def test_what_is_taken_for_granted_of_a_picture_is_said_once(processor, stored):
    picture = Image.fromarray(stored)
    with pytest.warns(
        UserWarning, match=r"nominal red, green and blue \(sRGB; 635, 555, 465 nm\).*sensor='rgb'"
    ) as said:
        batch = processor([picture, picture], classes=["land"])
    assert len(said) == 1
    assert said[0].filename == __file__
    assert batch["pixel_values"].shape == (1, 2, 3, 9, 7)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        processor(picture, sensor="rgb", classes=["land"])
        processor(picture, bands=COLOURS, classes=["land"])


def test_transparent_pixels_hold_no_data(processor, stored):
    alpha = np.full((9, 7), 255, dtype=np.uint8)
    alpha[2:5, 3] = 0
    alpha[0, 0] = 1
    series = series_of(processor, Image.fromarray(np.dstack([stored, alpha])), sensor="rgb")
    assert np.array_equal(series.valid[0], alpha > 0)
    assert series.pixels[0].shape == (3, 9, 7)
    grey = Image.fromarray(np.dstack([stored[..., 0], alpha]), "LA")
    assert np.array_equal(series_of(processor, grey, bands=[RED]).valid[0], alpha > 0)
    palette = Image.fromarray(stored).convert("P")
    palette.info["transparency"] = int(np.asarray(palette)[4, 4])
    series = series_of(processor, palette, sensor="rgb")
    assert not series.valid[0][4, 4]
    assert np.array_equal(series.valid[0], np.asarray(palette) != palette.info["transparency"])


def test_a_fourth_channel_with_a_record_is_a_band(processor, stored):
    four = np.dstack([stored, stored[..., :1]])
    four[:4, :, 3] = 0
    for images in (Image.fromarray(four), four):
        series = series_of(processor, images, bands=[*COLOURS, NIR])
        assert series.valid[0].all()
        np.testing.assert_allclose(series.pixels[0], four.transpose(2, 0, 1) / 255, atol=1e-6)


def test_a_palette_is_looked_up(processor, stored):
    palette = Image.fromarray(stored).convert("P")
    expected = np.asarray(palette.convert("RGB")).transpose(2, 0, 1) / 255
    np.testing.assert_allclose(series_of(processor, palette, sensor="rgb").pixels[0], expected, atol=1e-6)


def test_masked_pictures_keep_their_mask(processor, stored):
    masked = np.ma.masked_greater(stored, 200)
    series = series_of(processor, masked, sensor="rgb")
    assert np.array_equal(series.valid[0], (stored <= 200).all(-1))


@pytest.mark.parametrize(
    ("mode", "kwargs", "message"),
    [
        ("L", {}, "1 channel was given, and nothing says what they measured.*bands="),
        ("LA", {"sensor": "rgb"}, "1 channel was given"),
        ("L", {"bands": COLOURS}, r"3 band records \(red, green, blue\) were given for a picture with 1 channels"),
        ("RGB", {"bands": [{"name": "VV"}] * 3}, "'VV' of a picture is of kind 'sar'.*physical units"),
        ("I;16", {}, "mode 'I;16' was given.*array in physical units"),
        ("1", {}, "mode '1'"),
        ("CMYK", {"sensor": "rgb"}, "mode 'CMYK'"),
    ],
)
def test_pictures_of_which_nothing_is_known_are_refused(processor, stored, mode, kwargs, message):
    grey = Image.fromarray(stored[..., 0])
    picture = Image.fromarray(stored.astype(np.uint16)[..., 0]) if mode == "I;16" else grey.convert(mode)
    with pytest.raises(ValueError, match=message):
        processor(picture, **kwargs)


def test_four_channels_without_records_are_refused(processor, stored):
    with pytest.raises(ValueError, match="4 channels was given"):
        processor(np.dstack([stored, stored[..., 0]]), sensor="rgb")


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"sensor": "sentinel-2"}, r"of arrays only 'rgb' is known here.*sensor_bands\('sentinel-2'"),
        ({"sensor": "rgb", "bands": COLOURS}, "sensor and bands both say"),
    ],
)
def test_a_sensor_is_rgb_or_nothing(processor, stored, kwargs, message):
    with pytest.raises(ValueError, match=message):
        processor(stored, **kwargs)
    with pytest.raises(ValueError, match="an ImageSeries carries its own"):
        processor(processor.to_series(stored, sensor="rgb"), sensor="rgb")


def land(*shape):
    return np.random.default_rng(len(shape)).uniform(0.02, 0.4, shape).astype(np.float32)


def test_masked_arrays_are_the_same_through_every_door(processor):
    stored = land(2, 2, 9, 7)
    stored[:, :, :3] = -9999
    plain = np.where(stored == -9999, np.nan, stored)
    options = {"bands": [RED, NIR], "classes": ["land"]}
    expected = processor(plain, **options)
    masked = np.ma.masked_equal(stored, -9999)
    for images in (masked, list(masked), [masked], torch.tensor(plain), torch.tensor(plain, dtype=torch.float64)):
        batch = processor(images, **options)
        for name, tensor in expected.items():
            torch.testing.assert_close(batch[name], tensor, rtol=0, atol=0, equal_nan=True)
    assert expected["pixel_mask"].float().mean() == pytest.approx(6 / 9)


def test_lists_of_series_take_bands_and_dates_for_all_or_each(processor):
    one, two = land(1, 2, 9, 7), land(2, 2, 5, 8)
    first, second = processor.to_series([one, two], [RED, NIR], [["2020"], ["2020", "2021"]], 10)
    assert [first.size, second.size] == [(9, 7), (5, 8)]
    assert second.acquisitions[1].datetime.year == 2021
    nested = processor.to_series([list(two), list(two)], [[RED, NIR], [NIR, RED]], ["2020", "2021"])
    assert [band.name for band in nested[1].acquisitions[1].bands] == ["nir", "red"]
    assert [len(series.acquisitions) for series in nested] == [2, 2]
    assert processor.to_series(torch.tensor(two).bfloat16(), [RED, NIR])[0].size == (5, 8)
    assert processor.to_series([two.tolist()[0]], [RED, NIR])[0].size == (5, 8)


@pytest.mark.parametrize(
    ("images", "kwargs", "message"),
    [
        (land(9, 7, 3), {"sensor": "rgb"}, r"\[\(9, 7, 3\)\].*Only 8-bit pictures"),
        ([land(2, 9, 7), land(1, 2, 9, 7)], {"bands": [RED, NIR]}, "array must be"),
        ([land(2, 9, 7), [land(2, 9, 7)]], {"bands": [RED, NIR]}, "array must be"),
        ([land(9, 7)], {"bands": [RED]}, "array must be"),
        ([{"a": 1}], {"bands": [RED]}, r"type dict were given.*read_series"),
        ([land(2, 9, 7)], {"bands": [[RED, NIR], [RED]]}, "bands holds 2 entries for 1 dates"),
        ([land(1, 2, 9, 7)] * 2, {"bands": [RED, NIR], "timestamps": [["2020"]]}, "1 lists for 2 series"),
        ([land(2, 9, 7)], {"bands": ["red", "nir"]}, r"bands names 'red'.*sensor_bands\(sensor, names\)"),
    ],
)
def test_arrays_of_other_shapes_and_types_are_refused(processor, images, kwargs, message):
    with pytest.raises(ValueError, match=message):
        processor.to_series(images, **kwargs)


def test_labels_that_are_masked_are_not_labelled():
    labels = np.ma.masked_array([[0, 1], [1, 0]], [[False, True], [False, False]], dtype=np.int8)
    assert filled_labels(labels).tolist() == [[0, 255], [1, 0]]
    assert filled_labels([labels, labels]).shape == (2, 2, 2)
    assert filled_labels([labels, labels])[1, 0, 1] == 255
    assert filled_labels(np.ma.masked_array([[0, 1]])).tolist() == [[0, 1]]
    assert filled_labels(torch.tensor([[0, 1]])).tolist() == [[0, 1]]


def test_label_pictures_hold_numbers_and_no_colours():
    grey = Image.fromarray(np.array([[0, 1], [1, 255]], dtype=np.uint8))
    assert filled_labels(grey).tolist() == [[0, 1], [1, 255]]
    palette = grey.convert("P")
    assert np.array_equal(filled_labels(palette), np.asarray(palette))
    assert filled_labels(Image.fromarray(np.array([[0, 255]], dtype=np.uint8)).convert("1")).tolist() == [[0, 1]]
    with pytest.raises(ValueError, match="mode 'RGB' holds colours"):
        filled_labels(grey.convert("RGB"))


def test_pictures_are_read_as_those_that_a_checkpoint_was_tuned_on(processor, stored):
    scaled = READING | {"scale": [0.5, 1 / 255, None], "offset": [None, -0.1, 2], "nodata": [0, None, None]}
    processor.readings = {"levir": [scaled | {"gsd_m": 0.5}, READING | {"bands": [COLOURS[0]]}]}
    picture = Image.fromarray(stored)
    with pytest.warns(UserWarning, match=r"read as those of 'levir', .*\(red, green, blue\).*sensor='rgb'"):
        series = series_of(processor, picture)
    red, green, blue = stored.transpose(2, 0, 1).astype(np.float64)
    expected = np.stack([np.where(red == 0, np.nan, red * 0.5), green / 255 - 0.1, blue + 2])
    np.testing.assert_allclose(series.pixels[0], expected, rtol=1e-6, atol=1e-6)
    assert [band.center_nm for band in series.acquisitions[0].bands] == [650, 550, 450]
    assert series.gsd_m == 0.5
    with pytest.warns(UserWarning, match="levir"):
        assert series_of(processor, picture, gsd_m=3).gsd_m == 3
    # What the caller says counts, and so does the number of channels.
    assert series_of(processor, picture, sensor="rgb").acquisitions[0].bands[0].center_nm == 635
    assert series_of(processor, picture, bands=COLOURS).acquisitions[0].bands[0].unit == "reflectance"
    with pytest.warns(UserWarning, match="levir"):
        grey = series_of(processor, picture.convert("L"))
    assert [band.name for band in grey.acquisitions[0].bands] == ["red"]
    assert grey.pixels[0].max() > 1


def test_several_kinds_of_pictures_are_told_apart_by_name(processor, stored):
    processor.readings = {"levir": [READING], "whu": [READING | {"scale": [1 / 255] * 3}], "raw": []}
    with pytest.raises(ValueError, match=r"several kinds of pictures with 3 channels \(levir, whu\).*statistics="):
        processor.to_series(stored)
    with pytest.warns(UserWarning, match="whu"):
        assert processor.to_series(stored, statistics="whu")[0].pixels[0].max() <= 1
    with pytest.warns(UserWarning, match="nominal"):
        processor.to_series(stored, statistics="raw")
    # Of 16 bits, and the same twice.
    processor.readings = {"sat": [READING | {"dtype": "uint16"}], "levir": [READING], "copy": [READING]}
    with pytest.warns(UserWarning, match="levir"):
        processor.to_series(stored)


@pytest.mark.parametrize("statistics", [None, "by_kind", "levir", "older"])
def test_one_setting_chooses_the_readings_of_pictures_and_of_paths(processor, stored, tmp_path, statistics):
    open_series = pytest.importorskip("stsun_processing.rasters.series").open_series
    readings_for = pytest.importorskip("stsun_processing.scenes.predictor").readings_for
    colours = [colour | {"name": f"own {colour['name']}"} for colour in COLOURS]
    processor.readings = {"levir": [READING | {"bands": colours, "scale": [1 / 255] * 3}]}
    picture = Image.fromarray(stored)
    picture.save(tmp_path / "a.png")
    with open_series(tmp_path / "a.png", readings=readings_for(processor, statistics)) as opened:
        by_path = opened.read()
    with pytest.warns(UserWarning, match="Pictures are"):
        (by_array,) = processor.to_series(picture, statistics=statistics)
    assert by_array.acquisitions[0].bands[0].center_nm == by_path.acquisitions[0].bands[0].center_nm
    assert (by_array.acquisitions[0].bands[0].name == "own red") == (statistics != "older")
    np.testing.assert_allclose(by_array.pixels[0], by_path.pixels[0], rtol=1e-6)


@pytest.mark.parametrize("num_colours", [1, 3])
def test_what_a_picture_calls_alpha_is_a_band_where_training_read_it_as_one(processor, num_colours):
    stored = np.random.default_rng(0).integers(0, 256, (9, 7, num_colours + 1), dtype=np.uint8)
    names = [*COLOURS[:num_colours], {"name": "nir", "center_nm": 840}]
    processor.readings = {"own": [READING | {"bands": names, "scale": [1 / 255] * len(names)}]}

    def read(stored, **options):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return series_of(processor, Image.fromarray(stored), **options)

    series = read(stored)
    assert [band.name for band in series.acquisitions[0].bands] == [band["name"] for band in names]
    np.testing.assert_allclose(series.pixels[0], stored.transpose(2, 0, 1) / 255, rtol=1e-6)
    # Opaque and clear pixels are no band; neither is alpha beside as many colours as training had without it.
    clear = np.where(stored[..., -1:] < 99, 0, 255).astype(np.uint8)
    three = {"own": processor.readings["own"], "rgb": [READING | {"bands": COLOURS[:num_colours]}]}
    if num_colours == 3:
        assert len(read(np.concatenate([stored[..., :-1], clear], -1)).acquisitions[0].bands) == 3
        assert len(read(stored, sensor="rgb").acquisitions[0].bands) == 3
    processor.readings = three
    alone = read(stored)
    assert len(alone.acquisitions[0].bands) == num_colours
    assert np.array_equal(~alone.valid[0], stored[..., -1] == 0)


@pytest.mark.parametrize("mode", ["L", "P", "RGB"])
def test_the_transparent_colour_of_a_file_is_missing(processor, tmp_path, mode):
    open_series = pytest.importorskip("stsun_processing.rasters.series").open_series
    stored = np.full((9, 7, 3), 100, np.uint8)
    stored[:4] = 7
    picture = Image.fromarray(stored)
    picture = picture.quantize(8) if mode == "P" else picture.convert(mode)
    first = picture.getpixel((0, 0))
    picture.save(tmp_path / "a.png", transparency=first)
    expected = np.zeros((9, 7), bool)
    expected[:4] = True
    bands = [Band("grey", 600)] if mode == "L" else RGB_BANDS
    with Image.open(tmp_path / "a.png") as image:
        series = series_of(processor, image, bands=bands)
    assert np.array_equal(~series.valid[0], expected)
    assert len(series.pixels[0]) == len(bands)
    if mode == "RGB":
        # One channel alone is no transparent colour.
        stored[5, 5, 0] = 7
        again = Image.fromarray(stored)
        again.info["transparency"] = first
        assert series_of(processor, again, bands=bands).valid[0][5, 5]
    if mode != "P":
        with open_series(tmp_path / "a.png", bands=bands, scale=1 / 255) as opened:
            assert np.array_equal(opened.read().valid[0], series.valid[0])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "readings is None"),
        ({"mine": "uint8"}, "readings of 'mine' is 'uint8'"),
        ({"mine": [3]}, "readings of 'mine' hold 3"),
        ({"mine": [READING | {"bands": []}]}, "at least one band"),
        ({"mine": [READING | {"bands": [{"name": "x"}]}]}, "'x' has neither a kind"),
        ({"mine": [READING | {"dtype": 8}]}, "'mine': dtype is 8"),
        ({"mine": [READING | {"gsd_m": "fine"}]}, "'mine': gsd_m is 'fine'"),
        ({"mine": [READING | {"scale": [1.0]}]}, r"'mine': scale is \[1.0\]; 3 numbers"),
        ({"mine": [READING | {"offset": 1.0}]}, "'mine': offset is 1.0"),
        ({"mine": [READING | {"nodata": ["a", 1, 2]}]}, "'mine': nodata is"),
    ],
)
def test_readings_that_cannot_be_are_refused(value, message):
    with pytest.raises(ValueError, match=message):
        check_readings(value)


def test_readings_survive_a_round_trip():
    reading = READING | {"scale": [1e-4] * 3, "nodata": [0, None, 255.0], "gsd_m": 10}
    checked = check_readings({"mine": [reading]})
    assert check_readings(checked) == checked
    assert checked["mine"][0]["scale"] == [1e-4] * 3
    assert checked["mine"][0]["bands"][0] == {"name": "red", "center_nm": 650.0, "kind": "reflective"}
