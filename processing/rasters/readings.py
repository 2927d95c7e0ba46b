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
"""What a checkpoint knows of files like those it was tuned on, for files that say nothing of it themselves."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..metadata import Band
from .identify import CENTER_TOLERANCE_NM
from .records import BandStatements, RasterError, Scaling, Stated

# Kinds of which several bands may differ in nothing but their names, where no centre is known.
_KINDS_BY_NAME = ("reflective", "thermal", "index", "other")

Readings = Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True)
class Reading:
    """One set of bands of a training data set.

    Args:
        name: the data set.
        bands: the bands, in the order of the channels.
        dtypes: per band, the type of the stored numbers.
        scaling: per band what its dataset.json stated; `None` = nothing.
        nodata: likewise.
        gsd_m: ground sampling distance in metres; `None` = unknown, or the files state it.
    """

    name: str
    bands: tuple[Band, ...]
    dtypes: tuple[str, ...]
    scaling: tuple[Scaling | None, ...]
    nodata: tuple[float | None, ...]
    gsd_m: float | None

    @property
    def source(self) -> str:
        """What the report calls it."""
        return f"checkpoint, as data set {self.name!r} was read"

    def statements(self, position: int) -> BandStatements:
        """What it says of the numbers of one band."""
        scaling, nodata = self.scaling[position], self.nodata[position]
        return BandStatements(
            scaling=() if scaling is None else (Stated(scaling, self.source),),
            nodata=() if nodata is None else (Stated(nodata, self.source),),
        )

    def fits(
        self, bands: Sequence[Band | None], dtypes: Sequence[str], names: Sequence[Collection[str]] | None = None
    ) -> bool:
        """Whether files may be read in this way.

        Args:
            bands: what is known of each; `None` = nothing.
            dtypes: types of their numbers.
            names: what the files call each.
        """
        if len(bands) != len(self.bands) or tuple(dtypes) != self.dtypes:
            return False
        if names is not None and not self._is_in_order(names):
            return False
        pairs = zip(bands, self.bands, strict=True)
        return all(known is None or _same_band(known, band) for known, band in pairs)

    def _is_in_order(self, names: Sequence[Collection[str]]) -> bool:
        """Whether no band is called as another one of the reading is."""
        own = [band.name.casefold() for band in self.bands]
        for expected, called in zip(own, names, strict=True):
            words = {name.casefold() for name in called}
            if expected not in words and words.intersection(own):
                return False
        return True


def _same_band(one: Band, two: Band) -> bool:
    if one.type != two.type or (one.center_nm is None) != (two.center_nm is None):
        return False
    if one.center_nm is None or two.center_nm is None:
        return one.kind not in _KINDS_BY_NAME or one.name.casefold() == two.name.casefold()
    return abs(one.center_nm - two.center_nm) <= CENTER_TOLERANCE_NM


def parse_readings(readings: Readings) -> list[Reading]:
    """The setting `readings` of an image processor as records.

    Args:
        readings: by data set, dictionaries with `bands`, `dtype` (one for all bands, or one per band), `scale`,
            `offset`, `nodata` and `gsd_m`.

    Raises:
        RasterError: a list has another length than the bands.
    """
    return [_parse(name, fields) for name, listed in readings.items() for fields in listed]


def _parse(name: str, fields: Mapping[str, Any]) -> Reading:
    bands = tuple(Band.from_dict(band) for band in fields["bands"])
    unknown: list[None] = [None] * len(bands)
    stored = fields["dtype"]
    dtypes = list(stored) if isinstance(stored, Sequence) and not isinstance(stored, str) else [stored] * len(bands)
    lists = {key: fields.get(key) or unknown for key in ("scale", "offset", "nodata")}
    lists["dtype"] = dtypes
    for key, values in lists.items():
        if len(values) != len(bands):
            raise RasterError(
                f"The checkpoint's readings of {name!r} hold {len(values)} values of {key} for {len(bands)} bands; one "
                "per band is expected. Correct preprocessor_config.json."
            )
    scaling = []
    for scale, offset in zip(lists["scale"], lists["offset"], strict=True):
        stated = scale is not None or offset is not None
        scaling.append(Scaling(1.0 if scale is None else scale, offset or 0.0) if stated else None)
    return Reading(name, bands, tuple(dtypes), tuple(scaling), tuple(lists["nodata"]), fields.get("gsd_m"))


def choose(
    readings: Sequence[Reading],
    path: str,
    bands: Sequence[Band | None],
    dtypes: Sequence[str],
    names: Sequence[Collection[str]] | None = None,
    stated: Collection[str] = (),
) -> Reading | None:
    """The reading that fits the bands of one date, as far as they are known; `None` if none does.

    Args:
        readings: all that the checkpoint holds.
        path: the first file of the date, for messages.
        bands: what its files say; `None` = nothing.
        dtypes: types of its stored numbers.
        names: what the files call each band.
        stated: of `scaling` and `nodata`, what is stated for all bands, so that no reading is needed for it.

    Raises:
        RasterError: several fit, and do not mean the same.
    """
    fitting = [reading for reading in readings if reading.fits(bands, dtypes, names)]
    if not fitting:
        return None
    is_open = any(band is None for band in bands)
    meanings = {
        (
            reading.bands if is_open else None,
            None if "scaling" in stated else reading.scaling,
            None if "nodata" in stated else reading.nodata,
            reading.gsd_m,
        )
        for reading in fitting
    }
    if len(meanings) > 1:
        called = list(dict.fromkeys(reading.name for reading in fitting))
        choice = "Name one with statistics=... (--statistics), or give" if len(called) > 1 else "Give"
        what = "what the bands are" if is_open else "how its numbers are scaled"
        raise RasterError(
            f"{path} does not say {what}; the checkpoint was tuned on several kinds of files that it may be like (of "
            f"data sets {', '.join(called)}). {choice} bands=..., scale=..., nodata=... (--bands, --scale, --nodata)."
        )
    return fitting[0]
