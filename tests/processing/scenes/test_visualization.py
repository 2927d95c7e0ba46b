import colorsys
import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from stsun_processing.metadata import Acquisition, Band, ImageSeries
from stsun_processing.scenes.visualization import colour_map, default_colours, mosaic, quick_look


def test_default_colours_are_distinct_and_do_not_depend_on_what_follows():
    names = ["water", "river", "forest", "corn", "wheat", "changed", "unchanged", *(f"class {i}" for i in range(248))]
    colours = default_colours(names)
    assert len(set(colours)) == 255
    assert all(0 <= part <= 255 for colour in colours for part in colour)
    for count in (1, 5, 30):
        assert default_colours(names[:count]) == colours[:count]
    few = default_colours([f"class {index}" for index in range(18)])
    assert min(math.dist(a, b) for a, b in itertools.combinations(few, 2)) >= 40


@pytest.mark.parametrize("names", [[f"class {i}" for i in range(200)], ["water"] * 200, ["forest", "trees"] * 100])
def test_colours_are_distinct_and_the_same_every_time_whatever_the_names(names):
    for count in (0, 1, 2, 19, 60, 200):
        colours = default_colours(names[:count])
        assert len(set(colours)) == len(colours) == count
        assert (0, 0, 0) not in colours, "black is for pixels without a class"
        assert default_colours(names[:count]) == colours


@pytest.mark.parametrize(
    ("name", "hue"), [("Water", 210), ("deciduous_forest", 120), ("Building", 0), ("changed", 0), ("shrubland", 40)]
)
def test_telling_names_get_the_customary_hue(name, hue):
    (colour,) = default_colours([name])
    own = 360 * colorsys.rgb_to_hsv(*(part / 255 for part in colour))[0]
    assert min(abs(own - hue), 360 - abs(own - hue)) < 15


@pytest.mark.parametrize(
    ("name", "colour"),
    [
        # The legend of ESA WorldCover 2021.
        ("Tree cover", (0, 100, 0)),
        ("Shrubland", (255, 187, 34)),
        ("Grassland", (255, 255, 76)),
        ("Cropland", (240, 150, 255)),
        ("Built-up", (250, 0, 0)),
        ("Permanent water bodies", (0, 100, 200)),
        ("Herbaceous wetland", (0, 150, 160)),
        ("Mangroves", (0, 207, 117)),
    ],
)
def test_legend_of_worldcover(name, colour):
    assert default_colours([name]) == [colour]


@pytest.mark.parametrize("name", ["unchanged", "no building", "not water", "background"])
def test_absence_is_grey(name):
    (colour,) = default_colours([name])
    assert len(set(colour)) == 1


@pytest.mark.parametrize(
    ("name", "like"),
    [
        *(("rivers", "water"), ("woods", "forest"), ("wood", "forest"), ("trees", "forest"), ("grasses", "grass")),
        *(("cultivated area", "crops"), ("artificial surface", "buildings"), ("flooded forest", "flood")),
        *(("bare land", "bare soil"), ("farmland", "crops"), ("No water", "background"), ("glaciers", "snow")),
    ],
)
def test_words_of_one_meaning_share_a_colour(name, like):
    assert default_colours([name]) == default_colours([like])


@pytest.mark.parametrize("name", ["rice", "device", "island", "season", "carpet"])
def test_words_inside_other_words_tell_nothing(name):
    assert default_colours([name]) == default_colours(["class 0"])


def test_colour_map_shows_each_class_and_black_without_one():
    colours = default_colours(["water", "forest", "urban"])
    labels = np.array([[0, 1, 2], [255, 2, 0]])
    picture = colour_map(labels, colours)
    assert picture.size == (3, 2)
    black = (0, 0, 0)
    assert [picture.getpixel((x, y)) for y in range(2) for x in range(3)] == [*colours, black, colours[2], colours[0]]


def series_of(bands, pixels):
    return ImageSeries((Acquisition(bands),), pixels=(pixels,))


def test_quick_look_of_one_radar_band_is_grey():
    pixels = np.random.default_rng(0).normal(-12, 3, (1, 7, 11))
    picture = quick_look(series_of([Band("VV", kind="sar", polarisation="VV")], pixels), 0)
    assert picture.size == (11, 7)
    red, green, blue = np.moveaxis(np.asarray(picture), -1, 0)
    assert np.array_equal(red, green)
    assert np.array_equal(red, blue)
    assert np.argmin(red) == np.argmin(pixels)
    assert red.max() == 255


def test_quick_look_shows_red_green_and_blue_and_nothing_where_data_are_missing():
    bands = [Band("blue", 490), Band("nir", 840), Band("green", 560), Band("red", 665)]
    pixels = np.random.default_rng(0).uniform(0.1, 0.4, (4, 9, 5))
    pixels[3, 4, 2] = 1
    holes = [(0, 0), (3, 4), (8, 1)]
    for index, (row, column) in enumerate(holes):
        pixels[index:, row, column] = np.nan
    picture = quick_look(series_of(bands, pixels), 0)
    assert picture.size == (5, 9)
    image = np.asarray(picture)
    assert all((image[place] == 0).all() for place in holes)
    red, green, blue = image[4, 2].tolist()
    assert red == 255 > max(green, blue)
    assert len({image[..., channel].tobytes() for channel in range(3)}) == 3


def test_quick_look_without_any_data_is_black():
    picture = quick_look(series_of([Band("red", 665)], np.full((1, 4, 6), np.nan)), 0)
    assert picture.size == (6, 4)
    assert picture.getcolors() == [(24, (0, 0, 0))]


def test_mosaic_holds_its_pictures_and_every_colour_of_the_legend():
    names = ["water", "forest", "urban", "changed", "unchanged", *(f"class {index}" for index in range(9))]
    legends = dict(zip(names, default_colours(names), strict=True))
    own = (1, 2, 3), (4, 5, 6), (7, 8, 9)
    first, second, third = (
        Image.new("RGB", size, colour) for size, colour in zip(((8, 8), (5, 10), (16, 4)), own, strict=True)
    )
    picture = mosaic([("one", [("a", first), ("b", second)]), ("two", [("c", third)])], legends, cell=40)
    counts = {colour: count for count, colour in picture.getcolors(picture.width * picture.height)}
    assert set(legends.values()) <= set(counts)
    assert [counts[colour] for colour in own] == [40 * 40, 20 * 40, 40 * 10]


def test_pictures_need_no_raster_library():
    code = "import sys, stsun_processing.scenes.visualization; sys.exit('rasterio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_sensor_without_blue_is_shown_in_false_colour():
    bands = tuple(Band(name, nm, 90) for name, nm in (("G", 545), ("R", 645), ("NIR", 835)))
    pixels = np.zeros((3, 8, 8))
    pixels[2, :4] = 0.5  # vegetation: bright in the near infrared
    pixels[:, 4:] = 0.1
    image = np.asarray(quick_look(ImageSeries((Acquisition(bands),), pixels=(pixels,)), 0))
    assert (image[:4, :, 0] > image[:4, :, 1:].max(-1)).all()
