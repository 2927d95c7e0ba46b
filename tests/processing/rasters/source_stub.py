"""A raster that is only described: what `Beside` objects are asked about in tests of modules below the opening."""

from dataclasses import dataclass

from stsun_processing.rasters.records import BandStatements, Stated, Statements


@dataclass(frozen=True)
class SourceStub:
    """The part of `RasterSource` that says what a raster is.

    Args:
        path: its name.
        names: for each band that holds data the names that the file gives it.
        dtype: type of its numbers.
        total: number of bands, alpha included; `None` = no alpha.
        num_dates: dates of a cube.
        platform: platforms that the file names.
        instrument: instruments that it names.
    """

    path: str
    names: tuple[tuple[str, ...], ...] = ((),)
    dtype: str = "uint16"
    total: int | None = None
    num_dates: int | None = None
    platform: tuple[str, ...] = ()
    instrument: tuple[str, ...] = ()

    @property
    def indexes(self):
        return tuple(range(1, len(self.names) + 1))

    @property
    def count(self):
        return self.total or len(self.names)

    @property
    def dtypes(self):
        return (self.dtype,) * len(self.names)

    def states(self):
        bands = [BandStatements(names=tuple(Stated(name, "file") for name in names)) for names in self.names]
        return Statements(
            tuple(bands),
            platform=tuple(Stated(name, "file") for name in self.platform),
            instrument=tuple(Stated(name, "file") for name in self.instrument),
        )


def values(stated):
    """What is stated, without its sources."""
    return [one.value for one in stated]
