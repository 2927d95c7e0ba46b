from datetime import datetime

import pytest

from stsun_processing.data.samples import date_order

EARLY, MIDDLE, LATE = (datetime(year, 1, 1) for year in (2019, 2020, 2021))


@pytest.mark.parametrize(
    ("dates", "order"),
    [
        ([], []),
        ([LATE, EARLY, MIDDLE], [1, 2, 0]),
        ([LATE, None, EARLY], [2, 1, 0]),
        ([None, None], [0, 1]),
        ([None, LATE, LATE, EARLY], [0, 3, 1, 2]),
    ],
)
def test_known_dates_are_sorted_among_their_places(dates, order):
    assert date_order(dates) == order
