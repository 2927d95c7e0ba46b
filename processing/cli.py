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
"""The command `stsun`."""

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._runtime import prepare_process
from ._version import __version__

if TYPE_CHECKING:
    from .rasters.raster_series import RasterSeries

# Everything heavy is imported by the command that needs it: `stsun --help` must not wait for torch.

# Between the values of one date and those of the next.
_NEXT_DATE = "/"


def _pairs(text: str) -> tuple[int, ...]:
    """`0,4` as (0, 4)."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not one position or several, such as 0 or 0,1") from error


def _number(text: str) -> float | str | None:
    """A number, `None` for `none` (as the file says), or the mark that parts dates."""
    if text == _NEXT_DATE:
        return text
    if text.casefold() == "none":
        return None
    try:
        return float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number, none, or the {_NEXT_DATE} that parts dates"
        ) from error


def _date(text: str) -> str | None:
    return None if text.casefold() in ("none", "unknown") else text


def _by_date(values: list[Any] | None) -> list[Any] | None:
    """Values for all dates, or one list per date where `/` parts them."""
    if not values or _NEXT_DATE not in values:
        return values
    dates: list[list[Any]] = [[]]
    for value in values:
        if value == _NEXT_DATE:
            dates.append([])
        else:
            dates[-1].append(value)
    return dates


def _numbers(values: list[Any] | None) -> Any:
    """One number for all bands, one per band, or one list of these per date; `None` = as the files state."""
    if values is None:
        return None
    if _NEXT_DATE in values:
        return [None if date == [None] else date for date in _by_date(values) or []]
    return values[0] if len(values) == 1 else values


def _add_raster_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "rasters",
        nargs="+",
        metavar="RASTER",
        help="one per date, oldest first: a multi-band file, a folder with one file per band, a product as it is "
        "distributed (a Sentinel-2 SAFE folder or zip, a Landsat folder), or a STAC item (.json); or, for several "
        "dates, a netCDF or Zarr cube",
    )
    parser.add_argument(
        "--sensor",
        metavar="NAME[,NAME...]",
        help="sensor, where rasters only name their bands (see stsun sensors); one for all dates, or one per date: "
        "s1,s2",
    )
    parser.add_argument(
        "--product",
        metavar="NAME",
        help="product whose scale, offset and fill value are documented outside of the files, such as landsat-c2-l2 or "
        "sentinel-2-l2a (default: recognised where metadata or file names say so)",
    )
    parser.add_argument(
        "--bands",
        nargs="+",
        metavar="NAME[:NM[:NM]]",
        help="the bands, where the files do not state them: names in the sensor's table, or name, centre and width in "
        "nanometres, such as nir:833:106; for all dates, or one list per date: VV / red green blue",
    )
    parser.add_argument(
        "--dates",
        nargs="+",
        type=_date,
        metavar="DATE",
        help="one per date, ISO 8601 or unknown, where the files do not state them",
    )
    parser.add_argument("--gsd", type=float, metavar="METRES", help="ground sampling distance in metres per pixel")
    parser.add_argument(
        "--scale",
        type=_number,
        nargs="+",
        help="factor to physical units, such as 0.0001 for reflectance x 10000; one for all bands, or one per band, or "
        "those of each date: 1 / 0.0001, where none = as the file states",
    )
    parser.add_argument(
        "--offset",
        type=_number,
        nargs="+",
        help="what is added after the factor, such as -0.2 for Landsat Collection 2 reflectance; as --scale",
    )
    parser.add_argument(
        "--nodata",
        type=_number,
        nargs="+",
        metavar="NUMBER",
        help="stored number that means missing, whatever the file states; as --scale",
    )
    parser.add_argument(
        "--parts",
        nargs="+",
        metavar="NAME",
        help="what to read of each date, in this order: files of folders and products, assets of STAC items, variables "
        "of cubes",
    )
    parser.add_argument(
        "--stacked",
        choices=("dates", "bands"),
        help="files hold several dates: date after date with all its bands, or band after band with all its dates",
    )
    parser.add_argument(
        "--num-dates", type=int, metavar="N", help="dates in each stacked file, where --dates does not say"
    )
    parser.add_argument(
        "--grid",
        metavar="first|finest|RASTER",
        help="warp rasters on other grids to that of the first one, to the finest one, or to that of this raster "
        "(default: refuse them)",
    )
    parser.add_argument(
        "--resampling",
        default="bilinear",
        help="how they are warped: nearest, bilinear, cubic... (default: %(default)s)",
    )


def _open(arguments: argparse.Namespace, readings: Mapping[str, Any] | None = None) -> "RasterSeries":
    """Opens the rasters; `readings` is what a checkpoint knows about files like those that it was trained on."""
    from .rasters.series import open_series

    sensor = arguments.sensor or ""
    return open_series(
        arguments.rasters,
        bands=_by_date(arguments.bands),
        sensor=[name or None for name in sensor.split(",")] if "," in sensor else sensor or None,
        product=arguments.product,
        dates=arguments.dates,
        gsd_m=arguments.gsd,
        scale=_numbers(arguments.scale),
        offset=_numbers(arguments.offset),
        nodata=_numbers(arguments.nodata),
        parts=arguments.parts,
        stacked=arguments.stacked,
        num_dates=arguments.num_dates,
        grid=arguments.grid,
        resampling=arguments.resampling,
        readings=readings,
    )


def build_parser() -> argparse.ArgumentParser:
    """The arguments of all commands."""
    from .scenes.tiling import OVERLAP, TILE_SIZE

    parser = argparse.ArgumentParser(
        prog="stsun", description="Dense maps from image series of any sensor, date and size, with one model."
    )
    parser.add_argument("--version", action="version", version=f"stsun {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the full traceback of an error")
    commands = parser.add_subparsers(dest="command", required=True)

    demo = commands.add_parser("demo", help="train, evaluate, save, load, predict and draw on synthetic scenes")
    demo.add_argument(
        "--output", default="stsun-demo", metavar="DIR", help="folder of the results (default: %(default)s)"
    )
    demo.add_argument("--steps", type=int, help="training steps (default: as many as take about three minutes)")
    demo.add_argument("--seed", type=int, default=0, help="fixes everything drawn at random (default: %(default)s)")

    inspect = commands.add_parser(
        "inspect",
        help="show what is read from rasters, and where each fact came from; or check a data set for training",
        description="Shows what is read from rasters, and where each fact came from. Of a folder with a dataset.json, "
        "shows splits, classes with their pixels, bands, dates and sizes, and names every fault; the exit status is 2 "
        "if there is one.",
    )
    _add_raster_arguments(inspect)

    convert = commands.add_parser(
        "convert", help="make a data set for training from one in its published layout (LEVIR-CD, SECOND, PASTIS...)"
    )
    convert.add_argument("name", help="which data set; a wrong name lists those that are known")
    convert.add_argument("source", help="folder that its archives were unpacked into; it stays as it is")
    convert.add_argument("target", help="folder to make, which refers to the images of the source")

    predict = commands.add_parser(
        "predict",
        help="predict maps of a whole scene into GeoTIFFs",
        description="Predicts maps of a scene of any size. Unfinished work is kept in OUT.TIF.work: after a failure or "
        "a kill the same command goes on from there. To share the work among processes, run it by accelerate launch "
        "--multi_gpu --num_processes N -m stsun_processing.cli predict ... (on CPUs too).",
    )
    _add_raster_arguments(predict)
    predict.add_argument(
        "--checkpoint", help="folder or Hub id of a checkpoint (default: the tiny one that comes with the package)"
    )
    predict.add_argument(
        "--revision",
        help="branch, tag or commit of a checkpoint on the Hub (default: the newest)",
    )
    predict.add_argument("--task", required=True, help="task, such as semantic_segmentation")
    predict.add_argument(
        "--classes",
        nargs="+",
        metavar="NAME",
        help="classes asked for, in the order of the map's values (default: all)",
    )
    predict.add_argument(
        "--maps",
        nargs="+",
        type=_pairs,
        metavar="I,J",
        help="what each map describes: positions of rasters from 0, for change before,after (default: by task)",
    )
    predict.add_argument(
        "--statistics",
        metavar="NAME",
        help="data set of the checkpoint whose band statistics normalise the input, or by_kind: by the kind of each "
        "band, in physical units (default: those that the bands fit)",
    )
    outputs = predict.add_argument_group("outputs", "GeoTIFFs are Cloud Optimized, with overviews, and nodata is 255.")
    outputs.add_argument("-o", "--output", required=True, metavar="OUT.TIF", help="class maps, one band a map")
    outputs.add_argument(
        "--probabilities",
        metavar="OUT.TIF",
        help="probability of each class of each map, as bytes of 0.004 (the scale that the file names)",
    )
    outputs.add_argument(
        "--margin", metavar="OUT.TIF", help="probability of the best class less that of the second, likewise"
    )
    outputs.add_argument(
        "--change",
        metavar="OUT.TIF",
        help="for semantic_change_detection: 1 where a map differs from the next, else 0",
    )
    outputs.add_argument(
        "--from-to",
        metavar="OUT.TIF",
        help="for semantic_change_detection: from which class to which, one value a pair of classes, with their names",
    )
    outputs.add_argument(
        "--polygons",
        metavar="OUT.GPKG",
        help="outlines of the areas of one class, .gpkg or .geojson (needs pip install 'stsun[vector]')",
    )
    outputs.add_argument("--quick-look", metavar="OUT.PNG", help="a picture of the class maps with their legend")
    tiles = predict.add_argument_group("tiles")
    tiles.add_argument(
        "--tile-size", type=int, default=TILE_SIZE, help="side of a tile in pixels (default: %(default)s)"
    )
    tiles.add_argument(
        "--overlap", type=int, default=OVERLAP, help="pixels that tiles share at least (default: %(default)s)"
    )
    tiles.add_argument("--batch-size", type=int, help="tiles per forward pass (default: 1 on a CPU, else 4)")
    tiles.add_argument("--cell-size", type=int, help="side of a cell in pixels (default: 1 for tiles up to 256)")
    tiles.add_argument("--device", help="cpu, cuda, ... (default: cuda where there is one)")
    tiles.add_argument(
        "--dtype",
        choices=["auto", "float32", "bfloat16"],
        default="auto",
        help="of weights and activations: bfloat16 takes half the memory and, with wide presets on processors that "
        "have instructions for it, half the time (default: that of the checkpoint)",
    )
    again = predict.add_argument_group("unfinished work")
    again.add_argument("--restart", action="store_true", help="discard that of an earlier command")
    again.add_argument(
        "--accept-inputs",
        action="store_true",
        help="go on with it although input files have changed since: a damaged one was fetched again",
    )

    sensors = commands.add_parser("sensors", help="list the sensors that are known, or the bands of one")
    sensors.add_argument("name", nargs="?", help="a sensor")
    return parser


def _demo(arguments: argparse.Namespace) -> None:
    from .demo import NUM_STEPS, report, run_demo

    steps = NUM_STEPS if arguments.steps is None else arguments.steps
    if steps < 1:
        raise ValueError(f"--steps must be at least 1, got {steps}.")
    metrics = run_demo(arguments.output, steps, arguments.seed)
    print(report(metrics))
    print(f"Everything is in {arguments.output}: checkpoint/, prediction.tif, picture.png, metrics.json.")


def _inspect(arguments: argparse.Namespace) -> None:
    if len(arguments.rasters) == 1 and (Path(arguments.rasters[0]) / "dataset.json").is_file():
        from .data.inspection import inspect_dataset

        report = inspect_dataset(arguments.rasters[0])
        print(report)
        if report.faults:
            number = "1 fault" if len(report.faults) == 1 else f"{len(report.faults)} faults"
            raise ValueError(f"{number} in {arguments.rasters[0]}, listed above.")
        return
    from .rasters.report import describe

    with _open(arguments) as source:
        print(describe(source))


def _convert(arguments: argparse.Namespace) -> None:
    from .data.converters import convert

    for note in convert(arguments.name, arguments.source, arguments.target):
        print(note)
    print(f"Wrote {Path(arguments.target).resolve()}; look it over with stsun inspect {arguments.target}")


def _predict(arguments: argparse.Namespace) -> None:
    from .scenes.checkpoints import default_checkpoint, load_checkpoint
    from .scenes.predictor import readings_for
    from .scenes.scene_files import OutputFiles, join_processes, predict_files

    files = OutputFiles(
        maps=arguments.output,
        probabilities=arguments.probabilities,
        margin=arguments.margin,
        change=arguments.change,
        from_to=arguments.from_to,
        polygons=arguments.polygons,
        quick_look=arguments.quick_look,
    )
    device = _device(arguments.device)
    processes = join_processes(device)
    if processes.num_processes > 1:
        # Each process has a device of its own.
        device = processes.device
    checkpoint = arguments.checkpoint or default_checkpoint()
    model, processor = load_checkpoint(checkpoint, arguments.dtype, arguments.revision)
    with _open(arguments, readings_for(processor, arguments.statistics)) as source:
        normalisation = processor.describe_statistics(source.series, arguments.statistics)
        if processes.is_main_process:
            for line in (*_readings(source), f"normalisation: {normalisation}"):
                print(f"stsun: {line}", file=sys.stderr)
        predict_files(
            model.to(device),
            processor,
            source,
            files,
            arguments.task,
            arguments.classes,
            arguments.maps,
            restart=arguments.restart,
            accept_inputs=arguments.accept_inputs,
            processes=processes,
            tile_size=arguments.tile_size,
            overlap=arguments.overlap,
            batch_size=arguments.batch_size,
            statistics=arguments.statistics,
            cell_size=arguments.cell_size,
        )
    if processes.is_main_process:
        for path in files.paths:
            print(f"Wrote {Path(path).resolve()}")


def _device(name: str | None) -> str:
    """The device that was asked for, or the best there is."""
    import torch

    device = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"Device {device!r} cannot be used: {str(error).rstrip('.')}. Name another with --device."
        ) from error
    return device


def _readings(source: "RasterSeries") -> Iterator[str]:
    """What was taken from the checkpoint because the files do not state it: a line for each of its readings."""
    found: dict[str, dict[str, None]] = {}
    for fact in source.facts:
        if fact.source.startswith("checkpoint"):
            found.setdefault(fact.source, {}).setdefault(fact.name)
    for reading, names in found.items():
        yield f"{', '.join(names)}: not stated by the files, taken from the {reading}."


def _sensors(arguments: argparse.Namespace) -> None:
    from .rasters.sensors import SENSORS, find_sensor, sensor_bands

    if arguments.name is None:
        for name, sensor in SENSORS.items():
            print(f"{name:24s} {sensor.description}")
        return
    sensor = find_sensor(arguments.name)
    print(f"{sensor.name}: {sensor.description}")
    for band in sensor_bands(sensor.name):
        center, width = (f"{nm:g} nm" if nm is not None else "-" for nm in (band.center_nm, band.fwhm_nm))
        print(f"  {band.name:8s} {band.kind:12s} centre {center:>12s}  width {width:>10s}")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status: 2 where the input was refused."""
    if argv is None:
        # The process is the command's own, and torch is not loaded yet.
        prepare_process()
    arguments = build_parser().parse_args(argv)
    command = {"demo": _demo, "inspect": _inspect, "convert": _convert, "predict": _predict, "sensors": _sensors}[
        arguments.command
    ]
    try:
        command(arguments)
    except KeyboardInterrupt:
        print(
            "stsun: interrupted. What stsun predict had finished is kept beside its output: the same command goes on.",
            file=sys.stderr,
        )
        return 130
    except BrokenPipeError:
        # Whoever reads the output, such as head, has seen enough; nothing is left to be flushed at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, OSError) as error:
        # Ours are ValueErrors that say what to do; --debug tells where they came from.
        if arguments.debug:
            raise
        print(f"stsun: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
