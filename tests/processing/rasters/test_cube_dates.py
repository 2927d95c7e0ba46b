"""When the dates of cubes were taken."""

from datetime import datetime, timedelta

import numpy as np
import pytest

from stsun_processing.rasters.records import Period, RasterError
from tests.processing.rasters.cube_objects import bands_of, layer, opened, stack, values, xr

cftime = pytest.importorskip("cftime")

DAY = timedelta(days=1)
YEAR = {"time_coverage_start": "2019-01-01T00:00:00Z", "time_coverage_end": "2019-12-31T23:59:59Z"}


def series(*dates, **coordinates):
    """A data set (time, y, x) with one variable."""
    array = xr.concat([layer().b] * len(dates), "time")
    return array.assign_coords(time=("time", list(dates)), **coordinates).to_dataset()


def dates_of(source):
    """What is stated about each date of a cube with one band."""
    return [values(band.date) for band in bands_of(source)]


def test_a_date_without_a_time_leaves_its_day_open():
    day, instant = datetime(2021, 5, 1), datetime(2021, 6, 1, 10, 20, 30)
    found = dates_of(series(*np.array([day, instant], "datetime64[ns]")))
    assert found == [[Period(day, day, day + DAY)], [Period(instant, instant, instant)]]


@pytest.mark.parametrize(
    "value",
    [
        np.datetime64("2021-06-01T10:00", "s"),
        "2021-06-01T10:00:00",
        datetime(2021, 6, 1, 10),
        cftime.datetime(2021, 6, 1, 10, calendar="standard"),
        # Julian dates lag 13 days behind in this century.
        cftime.datetime(2021, 5, 19, 10, calendar="julian"),
    ],
)
def test_dates_of_all_types(value):
    source = series(0)
    source = source.assign_coords(
        time=("time", np.array([value], None if isinstance(value, np.datetime64) else object))
    )
    ((period,),) = dates_of(source)
    assert period.value == datetime(2021, 6, 1, 10)
    # A selection leaves the date as a scalar, and no dimension.
    assert dates_of(source.isel(time=0)) == [[period]]


@pytest.mark.parametrize("calendar", ["360_day", "noleap"])
def test_calendars_with_other_days_are_refused(tmp_path, calendar):
    time = xr.Variable("time", [0], {"units": "days since 2021-06-01", "calendar": calendar})
    series(0).assign_coords(time=time).to_netcdf(tmp_path / "a.nc")
    with pytest.raises(RasterError, match=rf"calendar '{calendar}' .*convert_calendar"):
        bands_of(tmp_path / "a.nc")


@pytest.mark.parametrize("value", [7, 7.5, "soon", np.timedelta64(7, "D")])
def test_what_is_no_date_is_refused(value):
    with pytest.raises(RasterError, match=r"as coordinate 'time', which is not a date.*decode_cf"):
        bands_of(series(0).assign_coords(time=("time", np.array([value], object))))


def test_missing_dates_and_those_that_stand_for_none():
    assert dates_of(series(np.datetime64("NaT", "ns"))) == [[]]
    assert dates_of(series(0).drop_vars("time")) == [[]]
    statements = opened(series(np.datetime64("0001-01-01", "s"))).states()
    assert values(statements.bands[0].date) == []
    assert values(statements.unread_date) == ["0001-01-01T00:00:00"]
    assert statements.unread_date[0].source == "coordinate time"


def with_bounds(*dates, ends):
    bounds = xr.Variable(("time", "side"), np.array(ends, "datetime64[ns]"))
    source = series(*np.array(dates, "datetime64[ns]")).assign(time_bnds=bounds)
    source.time.attrs["bounds"] = "time_bnds"
    return source


def test_bounds_stand_for_their_middle(tmp_path):
    ends = [["2021-05-01", "2021-06-01"], ["2021-06-01", "2021-07-01"]]
    # A coordinate may be the end of its period.
    source = with_bounds("2021-06-01", "2021-07-01", ends=ends)
    source.to_netcdf(tmp_path / "a.nc")
    expected = [
        [Period(datetime(2021, 5, 16, 12), datetime(2021, 5, 1), datetime(2021, 6, 1))],
        [Period(datetime(2021, 6, 16), datetime(2021, 6, 1), datetime(2021, 7, 1))],
    ]
    for door in (source, tmp_path / "a.nc", xr.open_dataset(tmp_path / "a.nc")):
        assert dates_of(door) == expected
    assert bands_of(source)[0].date[0].source == "coordinate time_bnds"
    # A coordinate outside of its bounds contradicts them.
    outside = dates_of(with_bounds("2021-08-01", ends=[ends[0]]))
    assert [period.value for period in outside[0]] == [datetime(2021, 5, 16, 12), datetime(2021, 8, 1)]
    # What does not fit is not used.
    assert dates_of(with_bounds("2021-05-01", ends=[ends[0][::-1]]))[0][0].value == datetime(2021, 5, 1)
    other = with_bounds("2021-05-01", ends=[ends[0]]).drop_vars("time_bnds")
    assert dates_of(other)[0][0].value == datetime(2021, 5, 1)


def test_periods_of_stac_items_without_an_instant():
    periods = {"start_datetime": ("time", ["2021-01-01", "2022-01-01"]), "end_datetime": ("time", ["2021-01-31"] * 2)}
    dates = [np.datetime64("NaT", "ns")] * 2
    found = dates_of(series(*dates, **periods))
    # The second ends before it begins.
    assert [[period.value for period in date] for date in found] == [[datetime(2021, 1, 16, 12)], []]
    assert len(dates_of(series(*dates, start_datetime="2021-01-01", end_datetime="2021-01-31"))[1]) == 1


def test_periods_of_attributes_stand_for_their_middle(tmp_path):
    middle = datetime(2019, 7, 2, 11, 59, 59, 500000)
    layer().assign_attrs(YEAR).to_netcdf(tmp_path / "y.nc")
    for source in (tmp_path / "y.nc", layer().assign_attrs(YEAR), stack(attrs=YEAR)):
        assert [period.value for period in values(opened(source).states().date)] == [middle]
    # They are those of the whole, and of none of several dates.
    dates = np.array(["2019-05-01", "2019-06-01"], "datetime64[ns]")
    statements = opened(series(*dates).assign_attrs(YEAR)).states()
    assert (statements.date, [len(band.date) for band in statements.bands]) == ((), [1, 1])
    # A single date must agree with them.
    statements = opened(series(dates[0]).assign_attrs(YEAR)).states()
    assert statements.date == ()
    assert [period.value for period in values(statements.bands[0].date)] == [datetime(2019, 5, 1), middle]


def test_dates_of_attributes_and_names(tmp_path):
    stamp = {"TIMESTAMP": "2021-05-01T10:00:00Z"}
    taken = datetime(2021, 5, 1, 10)
    assert [period.value for period in values(bands_of(layer(attrs=stamp))[0].date)] == [taken]
    # Which band's tag rioxarray has copied to the whole, nobody knows.
    statements = opened(stack(attrs=stamp)).states()
    assert (statements.date, statements.bands[0].date) == ((), ())
    assert [(one.value, one.source) for one in statements.unread_date] == [
        (stamp["TIMESTAMP"], "attribute TIMESTAMP, which may be that of one band")
    ]
    assert values(opened(layer().assign_attrs(timestamp="soon")).states().unread_date) == ["soon"]
    made = opened(stack(attrs={"TIFFTAG_DATETIME": "2021:05:01 10:00:00"})).states().date
    assert [(one.value.value, one.weak) for one in made] == [(taken, True)]
    path = tmp_path / "S2_20210501.zarr"
    layer().to_zarr(path, group="r10m", consolidated=False)
    for source in (path / "r10m", xr.open_zarr(path, group="r10m", consolidated=False, chunks=None)):
        (named,) = opened(source).states().date
        assert (named.value.value, named.source, named.weak) == (datetime(2021, 5, 1), "file name", True)


def test_bands_with_dates_of_their_own():
    dates = {"timestamp": ("band", ["2021-05-01", "2021-06-01"])}
    found = [[period.value.month for period in values(band.date)] for band in bands_of(stack(**dates))]
    assert found == [[5], [6]]
