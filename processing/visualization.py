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

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .metadata import IGNORE_INDEX, ImageSeries

# What a screen's red, green and blue show; a sensor's nearest bands within 60 nm stand for them.
TRUE_COLOUR_NM = (660.0, 560.0, 480.0)
TRUE_COLOUR_TOLERANCE_NM = 60.0
# Usual colours of land cover and change, by words that occur in class names; the first that fits is taken.
_COLOUR_OF_WORD = {
    "unchanged": (225, 225, 225),
    "changed": (214, 39, 40),
    "water": (31, 120, 200),
    "river": (31, 120, 200),
    "wetland": (70, 170, 165),
    "flood": (90, 160, 230),
    "forest": (16, 99, 50),
    "tree": (16, 99, 50),
    "wood": (16, 99, 50),
    "grass": (150, 205, 95),
    "shrub": (160, 150, 60),
    "crop": (235, 200, 70),
    "cultivated": (235, 200, 70),
    "agricult": (235, 200, 70),
    "urban": (200, 55, 60),
    "building": (200, 55, 60),
    "artificial": (200, 55, 60),
    "road": (110, 110, 110),
    "soil": (170, 120, 80),
    "bare": (170, 120, 80),
    "barren": (170, 120, 80),
    "snow": (235, 245, 255),
    "ice": (235, 245, 255),
    "land": (190, 175, 140),
    "not ": (225, 225, 225),
    "background": (225, 225, 225),
}
# Further colours, told apart by people with any colour vision (after Okabe and Ito 2008) and then by lightness.
_FURTHER = (
    *((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167)),
    *((120, 94, 240), (100, 143, 255), (255, 176, 0), (90, 60, 20), (160, 200, 160), (60, 60, 120), (250, 170, 170)),
)
NODATA_COLOUR = (0, 0, 0)


def default_colours(names: Sequence[str]) -> list[tuple[int, int, int]]:
    """One RGB colour a class, all different: the usual one where the name tells, else the next of a fixed palette."""
    colours: list[tuple[int, int, int]] = []
    further = iter(_FURTHER)
    for name in names:
        lower = name.lower()
        wanted = next((colour for word, colour in _COLOUR_OF_WORD.items() if word in lower), None)
        if wanted is None or wanted in colours:
            wanted = next((colour for colour in further if colour not in colours), None)
        if wanted is None:
            # Beyond the palette: hues a golden angle apart are spread evenly, however many there are.
            hue = int(255 * (len(colours) * 0.618034 % 1))
            value = 255 - 40 * (len(colours) // 16 % 4)
            wanted = Image.new("HSV", (1, 1), (hue, 170, value)).convert("RGB").getpixel((0, 0))
        while wanted in colours:
            wanted = (wanted[0], wanted[1], (wanted[2] + 7) % 256)
        colours.append(wanted)
    return colours


def colour_map(labels: np.ndarray, colours: Sequence[tuple[int, int, int]]) -> Image.Image:
    """(height, width) class positions as a picture; 255 is black."""
    table = np.zeros((256, 3), dtype=np.uint8)
    table[: len(colours)] = colours
    table[IGNORE_INDEX] = NODATA_COLOUR
    return Image.fromarray(table[labels.astype(np.uint8)])


def quick_look(series: ImageSeries, index: int) -> Image.Image:
    """One date as a person would look at it: red, green and blue where the sensor has them, else one band in grey.

    Values are stretched between their 2nd and 98th percentile over all shown bands, which keeps the hue.
    """
    bands, pixels, valid = series.acquisitions[index].bands, series.pixels[index], series.valid[index]
    centers = np.array([np.inf if b.center_nm is None or b.kind != "reflective" else b.center_nm for b in bands])
    nearest = [int(np.abs(centers - nm).argmin()) for nm in TRUE_COLOUR_NM]
    offsets = [abs(centers[band] - nm) for band, nm in zip(nearest, TRUE_COLOUR_NM, strict=True)]
    shown = nearest if max(offsets) <= TRUE_COLOUR_TOLERANCE_NM and len(set(nearest)) == 3 else [0, 0, 0]
    image = np.nan_to_num(pixels[shown])
    if not valid.any():
        return Image.new("RGB", valid.shape[::-1], NODATA_COLOUR)
    low, high = np.percentile(image[:, valid], (2, 98))
    image = np.clip((image - low) / max(high - low, 1e-6), 0, 1) * valid
    return Image.fromarray((255 * image).astype(np.uint8).transpose(1, 2, 0))


def mosaic(
    rows: Sequence[tuple[str, Sequence[tuple[str, Image.Image]]]],
    legends: Mapping[str, tuple[int, int, int]],
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
