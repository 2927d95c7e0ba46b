"""Dates in the spellings of ISO 8601, headers and file names."""

from datetime import datetime, timedelta

import pytest

from stsun_processing.rasters.dates import (
    agreed,
    contradict,
    date_in_name,
    dates_of,
    parse_period,
    without_date,
)
from stsun_processing.rasters.records import RasterError, Stated

DAY = datetime(2021, 7, 23)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2021-07-23T13:22:41Z", datetime(2021, 7, 23, 13, 22, 41)),
        ("2021-07-23T13:22:41+02:00", datetime(2021, 7, 23, 11, 22, 41)),
        ("2021-07-23T13:22:41.250", datetime(2021, 7, 23, 13, 22, 41, 250000)),
        ("20210723T132241Z", datetime(2021, 7, 23, 13, 22, 41)),
        ("20210723132241", datetime(2021, 7, 23, 13, 22, 41)),
        ("2021:07:23 13:22:41", datetime(2021, 7, 23, 13, 22, 41)),
        ("2021-07-23 13:22 UTC", datetime(2021, 7, 23, 13, 22)),
        ("20210723", DAY),
        ("2021/07/23", DAY),
        # 31 + 28 + 31 + 30 + 31 + 30 + 23 = 204, and one more in a leap year.
        ("2021-204", DAY),
        ("2021204", DAY),
        ("2020-366", datetime(2020, 12, 31)),
        # A leap second and the hour 24 are the first instant that follows them.
        ("2016-12-31T23:59:60Z", datetime(2017, 1, 1)),
        ("2021-07-23T24:00:00", datetime(2021, 7, 24)),
        # A year, a month and a period stand for their middle.
        ("2021", datetime(2021, 7, 2, 12)),
        ("2021-07", datetime(2021, 7, 16, 12)),
        ("2021-01-01/2021-12-31", datetime(2021, 7, 2, 12)),
    ],
)
def test_spellings(text, expected):
    assert parse_period(text).value == expected


@pytest.mark.parametrize(
    "text",
    ["", "soon", "1030", "10:30", "T1030", "2021-02-30", "2021-366", "0001-01-01", "9999-12-31", "1900-01-01",
     "2021-12-31/2021-01-01", "2021-07-23/soon", "21.07.2023"],
)  # fmt: skip
def test_what_is_no_date(text):
    assert parse_period(text) is None


def test_precision_is_that_of_the_text():
    assert parse_period("2021").end - parse_period("2021").start == timedelta(days=365)
    assert parse_period("20210723").end - parse_period("20210723").start == timedelta(days=1)
    instant = parse_period("20210723T101010")
    assert instant.start == instant.end == instant.value


@pytest.mark.parametrize(
    ("fields", "value", "label"),
    [
        ({"time_coverage_start": "2019-01-01", "time_coverage_end": "2019-12-31"}, datetime(2019, 7, 2, 12), "and"),
        ({"product_start_time": "2019-01-01T10:00:00Z"}, datetime(2019, 1, 1, 10), "product_start_time"),
        ({"rangebeginningdate": "2019-01-01", "rangeendingdate": "2019-01-08"}, datetime(2019, 1, 5), "and"),
    ],
)
def test_periods_of_headers(fields, value, label):
    known, unread = dates_of({key: (key, text) for key, text in fields.items()})
    assert [(date.value.value, label in date.source) for date in known] == [(value, True)]
    assert unread == []


def test_a_time_of_day_is_no_date_and_other_texts_are_kept_for_the_report():
    fields = {"time": ("tag TIME", "1030"), "timestamp": ("tag TIMESTAMP", "2021-02-30")}
    known, unread = dates_of(fields)
    assert known == []
    assert [(text.source, text.value) for text in unread] == [("tag TIMESTAMP", "2021-02-30")]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("LC08_L2SP_192027_20210715_20210721_02_T1_SR_B4.TIF", datetime(2021, 7, 15)),
        ("LE07_L1TP_192027_19990715_20200918_02_T1_B4.TIF", datetime(1999, 7, 15)),
        ("S2A_MSIL2A_20230601T101031_N0509_R022_T32UMD_20230601T140000.SAFE", datetime(2023, 6, 1, 10, 10, 31)),
        ("scene_2021.tif", datetime(2021, 7, 2, 12)),
        ("before-2012.png", datetime(2012, 7, 2)),
        ("a_2020_2021.tif", None),
        ("id2021.tif", None),
        ("tile_1234.tif", None),
        ("20210723_20210801.tif", None),
    ],
)
def test_dates_in_names(name, expected):
    found = date_in_name(name)
    assert (found and found.value) == expected


@pytest.mark.parametrize(("name", "rest"), [("2021-05-01_B04", "B04"), ("B04", None), ("2021-05-01", None)])
def test_a_name_without_its_date(name, rest):
    assert without_date(name) == rest


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [
        ("2021-07-23", "2021-07-23T23:00:00", False),
        ("2021-07-23", "2021-07-24T11:00:00", False),
        ("2021-07-23", "2021-07-24T13:00:00", True),
        ("2021", "2021-12-30", False),
        ("2021", "2022-01-01", True),
    ],
)
def test_contradictions(one, two, expected):
    assert contradict(parse_period(one), parse_period(two)) is expected
    assert contradict(parse_period(two), parse_period(one)) is expected


def test_agreed_names_both_sources():
    dates = [Stated(parse_period(text), source) for text, source in (("2021", "tag A"), ("2022-05-01", "tag B"))]
    with pytest.raises(RasterError, match=r"x states two dates: tag A says 2021.*tag B 2022.*Try this\. Say which"):
        agreed("x", dates, "Try this. ")
    assert agreed("x", dates[:1]) is dates[0]
    assert agreed("x", []) is None
