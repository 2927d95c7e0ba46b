"""Which variables, bands and dates a cube holds."""

import numpy as np
import pytest

from stsun_processing.rasters.records import RasterError
from tests.processing.rasters.cube_objects import bands_of, layer, numbers, opened, ramp, stack, strong, values, xr

DATES = np.array(["2021-05-01", "2021-06-01", "2021-07-01"], "datetime64[ns]")


def series():
    """An array (time, band, y, x)."""
    return xr.concat([stack() + 100 * number for number in range(3)], xr.Variable("time", DATES))


def test_bands_are_numbered_date_by_date():
    cube = opened(series())
    assert (cube.num_dates, cube.count, cube.indexes, cube.shape) == (3, 6, (1, 2, 3, 4, 5, 6), (4, 5))
    assert np.array_equal(numbers(cube), series().values.reshape(6, 4, 5))
    assert [strong(band.names) for band in cube.states().bands] == [["B04"], ["B08"]] * 3
    turned = opened(series().transpose("x", "band", "y", "time"))
    assert np.array_equal(numbers(turned), numbers(cube))


def test_variables_and_labels_are_chosen_in_their_order():
    dataset = xr.merge([layer(ramp(4, 5) + 100 * number, name=f"B{number}") for number in (2, 3, 4)])
    assert [strong(band.names) for band in bands_of(dataset, ["B4", "B2"])] == [["B4"], ["B2"]]
    assert np.array_equal(numbers(opened(dataset, ["B4", "B2"])), ramp(4, 5) + np.array([[[400]], [[200]]]))
    assert np.array_equal(numbers(opened(series(), ["B08"]))[1], series().values[1, 1])
    mixed = stack().to_dataset().assign(mask=stack().isel(band=0, drop=True))
    assert opened(mixed).count == 3
    assert np.array_equal(numbers(opened(mixed, ["mask", "B08"])), stack().values)
    with pytest.raises(RasterError, match=r"no part 'B9'\. It has reflectance, mask, B04, B08"):
        opened(mixed, ["B9"])


@pytest.mark.parametrize(
    "names", [("lon", "lat"), ("longitude", "latitude"), ("X", "Y"), ("easting", "northing"), ("a", "b")]
)
def test_dimensions_are_known_by_name_or_attribute(names):
    array = stack().rename(x=names[0], y=names[1])
    if names == ("a", "b"):
        array.a.attrs["axis"], array.b.attrs["axis"] = "X", "Y"
    assert opened(array).shape == (4, 5)
    assert np.array_equal(numbers(opened(array)), stack().values)


@pytest.mark.parametrize(
    "label",
    ["time", "date", {"standard_name": "time"}, {"axis": "T"}, np.array(["2021-05-01", "2021-06-01"], "M8[ns]")],
)
def test_dates_are_known_by_name_attribute_or_type(label):
    name = label if isinstance(label, str) else "when"
    array = stack().rename(band=name).drop_vars(name)
    if isinstance(label, dict):
        array = array.assign_coords({name: (name, DATES[:2].astype(str), label)})
    elif not isinstance(label, str):
        array = array.assign_coords({name: label})
    assert (opened(array).num_dates, opened(array).count) == (2, 2)


@pytest.mark.parametrize(
    ("labels", "weak"),
    [
        (["B04", "B08"], False),
        (["Band1", "Band2"], True),
        (["b1", "b2"], True),
        (["2", "3"], False),
        ([1, 2], True),
        ([3, 4], True),
        (None, True),
    ],
)
def test_labels_that_only_count_are_weak(labels, weak):
    array = stack().drop_vars("band") if labels is None else stack().assign_coords(band=labels)
    assert [band.names[0].weak for band in bands_of(array)] == [weak, weak]
    if labels is not None:
        assert [band.names[0].value for band in bands_of(array)] == [str(label) for label in labels]


@pytest.mark.parametrize(
    ("names", "weak"),
    [
        (("B02", "B03"), False),
        (("B1", "B2"), True),
        (("Band1", "Band2"), True),
        (("band_2", "band_4"), True),
        (("B1",), False),
        (("Band1",), True),
    ],
)
def test_variables_that_only_count_are_weak(names, weak):
    dataset = xr.merge([layer(name=name) for name in names])
    assert [band.names[0].weak for band in bands_of(dataset)] == [weak] * len(names)
    # Choosing some of them changes nothing.
    assert bands_of(dataset, names[-1:])[0].names[0].weak == weak


def test_an_array_without_a_name_has_none():
    (band,) = bands_of(stack().isel(band=0).drop_vars("band").rename(None))
    assert band.names == ()
    # A selected label is left as a coordinate.
    assert strong(bands_of(stack().isel(band=1).rename(None))[0].names) == ["B08"]
    assert values(bands_of(stack().isel(band=1).rename("y2"))[0].names) == ["B08", "y2"]


def with_and_without_time():
    return series().to_dataset().assign(dem=stack().isel(band=0, drop=True))


@pytest.mark.parametrize(
    ("dataset", "problem"),
    [
        (lambda: stack().rename(x="column", y="row"), r"has no dimensions x and y, only .*row.*dataset\.rename"),
        (lambda: xr.Dataset(), "has no dimensions x and y, only scalars"),
        (
            lambda: stack().expand_dims(level=2),
            r"more dimensions than time, band, y and x: reflectance \(level, band\)",
        ),
        (lambda: layer().drop_vars("b"), r"holds no variable over y and x\. Its variables are none"),
        (with_and_without_time, r"with and without time \(dem have none\).*parts=.*--parts"),
        (lambda: series().isel(time=slice(0)), "is empty"),
        (lambda: stack().isel(x=slice(0)), "is empty"),
        (lambda: stack().isel(band=slice(0)), "is empty"),
    ],
)
def test_data_sets_that_are_no_cubes(dataset, problem):
    with pytest.raises(RasterError, match=problem):
        opened(dataset())


def test_other_variables_do_not_disturb():
    deep = layer().assign(cube=stack().expand_dims(level=2), words=("n", ["a", "b"]))
    assert opened(deep, ["b"]).count == 1
    assert opened(with_and_without_time(), ["dem"]).num_dates == 1
