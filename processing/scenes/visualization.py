# Copyright 2026 The STSUN Authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Pictures that people look at: quick looks of images, coloured class maps and captioned mosaics. Needs Pillow only."""

import colorsys
import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..metadata import ImageSeries

Colour = tuple[int, int, int]

# What a screen shows as red, green and blue: true colour, else near infrared, red and green, as is usual for sensors
# without a blue band. The nearest bands stand for them if they are not farther away than the tolerance.
COLOUR_COMPOSITES_NM = ((660.0, 560.0, 480.0), (830.0, 660.0, 560.0))
COLOUR_TOLERANCE_NM = 60.0
# Colours that the field expects, by whole words (or their plurals) of a class name; the first that fits is taken. From
# water to built-up they are those of the legend of ESA WorldCover 2021.
_CONVENTIONS: tuple[tuple[str, Colour], ...] = (
    ("unchanged|(?:no|not|non|without) .*|background|unlabell?ed|clutter|other", (225, 225, 225)),
    ("changed|change", (215, 25, 28)),
    ("water|river|lake|sea|ocean", (0, 100, 200)),
    ("wetland|marsh|swamp", (0, 150, 160)),
    ("mangrove", (0, 207, 117)),
    ("flood|flooded", (90, 160, 230)),
    ("forest|tree|wood|woodland", (0, 100, 0)),
    ("shrub|shrubland|bush|scrub", (255, 187, 34)),
    ("grass|grassland|meadow|pasture", (255, 255, 76)),
    ("crop|cropland|farmland|agriculture|agricultural|cultivated", (240, 150, 255)),
    ("building|built|urban|settlement|artificial|impervious", (250, 0, 0)),
    ("road|street|pavement|asphalt", (130, 100, 90)),
    ("bare|barren|bareland|soil|sand", (190, 165, 120)),
    ("snow|ice|glacier", (240, 240, 255)),
    ("cloud", (250, 250, 210)),
    ("land", (190, 175, 140)),
)
# After S. Trubetskoy, "List of 20 Simple, Distinct Colors" (2017), without its greys and its near-white.
_PALETTE: tuple[Colour, ...] = (
    *((230, 25, 75), (60, 180, 75), (255, 225, 25), (0, 130, 200), (245, 130, 48), (145, 30, 180), (70, 240, 240)),
    *((240, 50, 230), (210, 245, 60), (250, 190, 212), (0, 128, 128), (220, 190, 255), (170, 110, 40), (128, 0, 0)),
    *((170, 255, 195), (128, 128, 0), (255, 215, 180), (0, 0, 128)),
)
# Two colours closer than this (Euclidean, 0-255 each) are hard to tell apart on a map.
_MIN_COLOUR_DISTANCE = 48.0
NODATA_COLOUR = (0, 0, 0)
MAPS_A_ROW = 4
# Small maps are magnified to this many pixels: the caption and the legend need room.
MIN_MAP_PIXELS = 320
# Of longer legends only the classes that a picture shows are drawn.
MAX_LEGEND = 32


def default_colours(names: Sequence[str]) -> list[Colour]:
    """A colour for each class: the customary one where the name is telling, else one of a categorical palette.

    Args:
        names: the classes.

    Returns:
        Red, green and blue (0-255), all different. The colours of the first classes do not depend on those that follow.
    """
    # Steps of the golden angle over three depths of colour: enough for any number of classes.
    hues = [
        colorsys.hsv_to_rgb(0.618034 * step % 1, *depth)
        for depth in ((0.65, 0.95), (0.9, 0.6), (0.35, 0.8))
        for step in range(256)
    ]
    pool = np.array([*_PALETTE, *np.round(255 * np.array(hues))])
    # How far each colour of the pool is from those in use.
    distances = np.full(len(pool), np.inf)
    colours: list[Colour] = []
    for name in names:
        plain = re.sub(r"[\W_]+", " ", name.casefold()).strip()
        customary = next((c for words, c in _CONVENTIONS if re.search(rf"\b(?:{words})(?:e?s)?\b", plain)), None)
        free = np.flatnonzero(distances[: len(_PALETTE)] >= _MIN_COLOUR_DISTANCE)
        if customary and all(math.dist(customary, used) >= _MIN_COLOUR_DISTANCE for used in colours):
            chosen = customary
        else:
            chosen = tuple(int(part) for part in pool[free[0] if len(free) else distances.argmax()])
        colours.append(chosen)
        distances = np.minimum(distances, np.linalg.norm(pool - chosen, axis=1))
    return colours


def colour_map(labels: np.ndarray, colours: Sequence[Colour]) -> Image.Image:
    """(height, width) class positions as a picture; 255, and whatever else has no colour, is black."""
    table = np.array([*colours, NODATA_COLOUR], dtype=np.uint8)
    return Image.fromarray(table[np.minimum(labels, len(colours))])


def map_sheet(maps: np.ndarray, captions: Sequence[str], legend: Mapping[str, Colour]) -> Image.Image:
    """Class maps side by side, at most four a row, with their legend.

    Args:
        maps: (maps, height, width) positions in the legend; what lies beyond it is nodata.
        captions: one a map.
        legend: colour of each class name; of many, those that the maps show come into the picture.
    """
    colours = list(legend.values())
    pictures = [(caption, colour_map(labels, colours)) for caption, labels in zip(captions, maps, strict=True)]
    rows = [("", pictures[first : first + MAPS_A_ROW]) for first in range(0, len(pictures), MAPS_A_ROW)]
    if len(legend) > MAX_LEGEND:
        shown = set(np.unique(maps).tolist())
        legend = {name: colour for index, (name, colour) in enumerate(legend.items()) if index in shown}
    cell = max(max(maps.shape[1:]), MIN_MAP_PIXELS)
    return mosaic(rows, {**legend, "no data": NODATA_COLOUR}, cell=cell)


def quick_look(series: ImageSeries, index: int) -> Image.Image:
    """One date as a person would look at it: in true colour, else in infrared false colour, else one band in grey.

    Values are stretched over all shown bands together, which keeps the hue: from the 2nd percentile to the 98th, or to
    three times the median above it where snow or clouds would leave the land in the dark.
    """
    bands, pixels, valid = series.acquisitions[index].bands, series.pixels[index], series.valid[index]
    centers = np.array([np.inf if b.center_nm is None or b.kind != "reflective" else b.center_nm for b in bands])
    shown = [0, 0, 0]
    for composite in reversed(COLOUR_COMPOSITES_NM):
        nearest = [int(np.abs(centers - nm).argmin()) for nm in composite]
        offsets = [abs(centers[band] - nm) for band, nm in zip(nearest, composite, strict=True)]
        if max(offsets) <= COLOUR_TOLERANCE_NM and len(set(nearest)) == 3:
            shown = nearest
    image = np.nan_to_num(pixels[shown])
    if not valid.any():
        return Image.new("RGB", valid.shape[::-1], NODATA_COLOUR)
    low, middle, high = np.percentile(image[:, valid], (2, 50, 98))
    high = min(high, low + 3 * (middle - low)) if middle > low else high
    image = np.clip((image - low) / max(high - low, 1e-6), 0, 1) * valid
    return Image.fromarray((255 * image).astype(np.uint8).transpose(1, 2, 0))


def mosaic(
    rows: Sequence[tuple[str, Sequence[tuple[str, Image.Image]]]],
    legends: Mapping[str, Colour],
    cell: int = 200,
) -> Image.Image:
    """Rows of captioned pictures, each row with a title, and a legend of colours below.

    Args:
        rows: (title, pictures) of each row; a picture is (caption, image).
        legends: colour of each class name.
        cell: longer side of a picture in pixels; smaller ones are magnified without smoothing.
    """
    margin, line = 14, 22
    font, bold = ImageFont.load_default(14), ImageFont.load_default(17)
    columns = max(len(pictures) for _, pictures in rows)
    width = margin + columns * (cell + margin)
    legend_columns = max(1, (width - margin) // 150)
    legend_lines = -(-len(legends) // legend_columns)
    height = margin + len(rows) * (2 * line + cell + margin) + legend_lines * line + margin
    canvas = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(canvas)
    top = margin
    for title, pictures in rows:
        draw.text((margin, top), title, fill="black", font=bold)
        for column, (caption, image) in enumerate(pictures):
            left = margin + column * (cell + margin)
            scale = cell / max(image.size)
            size = tuple(max(1, round(side * scale)) for side in image.size)
            draw.text((left, top + line), caption, fill="black", font=font)
            canvas.paste(image.resize(size, Image.Resampling.NEAREST), (left, top + 2 * line))
        top += 2 * line + cell + margin
    for index, (name, colour) in enumerate(legends.items()):
        left = margin + index % legend_columns * 150
        y = top + index // legend_columns * line
        draw.rectangle((left, y, left + 16, y + 14), fill=colour, outline="black")
        draw.text((left + 22, y - 1), name, fill="black", font=font)
    return canvas
