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
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .rasters.series import RasterSeries

# Everything heavy is imported by the command that needs it: `stsun --help` must not wait for torch.


def _pairs(text: str) -> tuple[int, ...]:
    """`0,4` as (0, 4)."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not one position or several, such as 0 or 0,1") from error


def _factor(text: str) -> float | str:
    return text if text == "/" else float(text)


def _by_date(values: list[Any] | None) -> list[Any] | None:
    """Values for all dates, or one list a date where `/` parts them."""
    if not values or "/" not in values:
        return values
    dates: list[list[Any]] = [[]]
    for value in values:
        if value == "/":
            dates.append([])
        else:
            dates[-1].append(value)
    return dates


def _add_raster_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "rasters",
        nargs="+",
        metavar="RASTER",
        help="one a date, oldest first: a multi-band file, a folder with one file a band, or a STAC item (.json); "
        "or, for several dates, a netCDF or Zarr cube",
    )
    parser.add_argument(
        "--sensor",
        metavar="NAME[,NAME...]",
        help="sensor, where rasters only name their bands (see stsun sensors); one for all dates, or one a date: s1,s2",
    )
    parser.add_argument(
        "--bands",
        nargs="+",
        metavar="NAME",
        help="names of the bands, where the files do not tell; for all dates, or a list a date: VV / red green blue",
    )
    parser.add_argument("--dates", nargs="+", metavar="DATE", help="one a date, ISO 8601, where the files do not tell")
    parser.add_argument("--gsd", type=float, metavar="METRES", help="ground sampling distance in metres a pixel")
    parser.add_argument(
        "--scale",
        type=_factor,
        nargs="+",
        help="factor to physical units, such as 0.0001 for reflectance x 10000; one for all bands, or one a band, or "
        "those of each date: 1 / 0.0001",
    )
    parser.add_argument(
        "--parts", nargs="+", metavar="NAME", help="assets of STAC items, or variables of cubes, to read in this order"
    )
    parser.add_argument(
        "--stacked",
        choices=("dates", "bands"),
        help="files hold several dates: date after date with all its bands, or band after band with all its dates",
    )
    parser.add_argument(
        "--num-dates", type=int, metavar="N", help="dates in each stacked file, where --dates does not tell"
    )
    parser.add_argument(
        "--grid",
        metavar="first|RASTER",
        help="warp rasters on other grids to that of the first one, or of this raster (default: refuse them)",
    )
    parser.add_argument(
        "--resampling",
        default="bilinear",
        help="how they are warped: nearest, bilinear, cubic... (default: %(default)s)",
    )


def _open(arguments: argparse.Namespace) -> "RasterSeries":
    from .rasters.series import open_series

    sensor = arguments.sensor or ""
    return open_series(
        arguments.rasters,
        bands=_by_date(arguments.bands),
        sensor=[name or None for name in sensor.split(",")] if "," in sensor else sensor or None,
        dates=arguments.dates,
        gsd_m=arguments.gsd,
        scale=_by_date(arguments.scale),
        parts=arguments.parts,
        stacked=arguments.stacked,
        num_dates=arguments.num_dates,
        grid=arguments.grid,
        resampling=arguments.resampling,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stsun", description="Dense maps from image series of any sensor, date and size, with one model."
    )
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
    predict.add_argument("--statistics", help="data set whose band statistics normalise the input (default: by bands)")
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
    tiles.add_argument("--tile-size", type=int, default=256, help="side of a tile in pixels (default: %(default)s)")
    tiles.add_argument(
        "--overlap", type=int, default=64, help="pixels that tiles share at least (default: %(default)s)"
    )
    tiles.add_argument("--batch-size", type=int, help="tiles a forward pass (default: 1 on a CPU, else 4)")
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
    from .rasters.series import describe

    with _open(arguments) as source:
        print(describe(source))


def _convert(arguments: argparse.Namespace) -> None:
    from .data.converters import convert

    for note in convert(arguments.name, arguments.source, arguments.target):
        print(note)
    print(f"Wrote {Path(arguments.target).resolve()}; look it over with stsun inspect {arguments.target}")


def _predict(arguments: argparse.Namespace) -> None:
    names = ("output", "probabilities", "margin", "change", "from_to", "polygons", "quick_look")
    files = [path for path in (getattr(arguments, name) for name in names) if path is not None]
    for path in files:
        if any(Path(raster).resolve() == Path(path).resolve() for raster in arguments.rasters):
            raise ValueError(f"The output {path} is one of the inputs and would replace it. Name another file.")
    from .scenes.raster_output import check_writable

    check_writable(arguments.output)
    import torch

    from .scenes.checkpoints import default_checkpoint, load_checkpoint
    from .scenes.scene_files import join_processes, predict_raster

    with _open(arguments) as source:
        device = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            raise ValueError(f"Device {device!r} cannot be used: {error} Name another with --device.") from error
        state = join_processes(device)
        if state.num_processes > 1:
            # Each process has a device of its own.
            device = state.device
        model, processor = load_checkpoint(arguments.checkpoint or default_checkpoint(), arguments.dtype)
        predict_raster(
            model.to(device),
            processor,
            source,
            arguments.output,
            arguments.task,
            arguments.classes,
            arguments.maps,
            probabilities=arguments.probabilities,
            margin=arguments.margin,
            change=arguments.change,
            from_to=arguments.from_to,
            polygons=arguments.polygons,
            quick_look=arguments.quick_look,
            restart=arguments.restart,
            accept_inputs=arguments.accept_inputs,
            tile_size=arguments.tile_size,
            overlap=arguments.overlap,
            batch_size=arguments.batch_size,
            statistics=arguments.statistics,
            cell_size=arguments.cell_size,
        )
    if state.is_main_process:
        for path in files:
            print(f"Wrote {Path(path).resolve()}")


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
    arguments = _parser().parse_args(argv)
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
