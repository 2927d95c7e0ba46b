"""A model that scores s in training scores s through `stsun predict` on the same files, without further arguments."""

import contextlib
import io
import json
import runpy
import shlex
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from accelerate.state import AcceleratorState
from rasterio.errors import NotGeoreferencedWarning

from stsun_processing import FolderDataset
from stsun_processing.cli import main
from stsun_processing.metadata import default_outputs
from stsun_processing.training import TaskScores

SCRIPT = Path(__file__).parents[1] / "examples" / "finetune.py"
SIZE = (40, 52)
GRID = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 400_000, 0, -10, 5_000_000)}
CLASSES = [{"id": 0, "name": "land"}, {"id": 1, "name": "water"}, {"id": 2, "name": "forest"}]
CHANGES = [{"id": 0, "name": "no_change"}, {"id": 1, "name": "change"}]
GREEN = {"name": "green", "kind": "reflective", "center_nm": 560, "fwhm_nm": 40}
RED = {"name": "red", "kind": "reflective", "center_nm": 655, "fwhm_nm": 35}
BLUE = {"name": "blue", "kind": "reflective", "center_nm": 480, "fwhm_nm": 60}
NIR = {"name": "nir", "kind": "reflective", "center_nm": 865, "fwhm_nm": 30}


def write(path, array, *, names=(), band_tags=(), tags=None, **profile):
    """Writes a raster of a suffix's driver."""
    array = array[None] if array.ndim == 2 else array
    path.parent.mkdir(parents=True, exist_ok=True)
    profile |= {"count": len(array), "dtype": array.dtype, "height": array.shape[1], "width": array.shape[2]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver="PNG" if path.suffix == ".png" else "GTiff", **profile) as raster:
            raster.write(array)
            raster.update_tags(**(tags or {}))
            for index, name in enumerate(names, start=1):
                raster.set_band_description(index, name)
            for index, of_band in enumerate(band_tags, start=1):
                raster.update_tags(index, **of_band)


class World:
    """Places of three classes, as different sensors store them."""

    def __init__(self, root):
        self.root, self.rng = root, np.random.default_rng(0)
        self.samples = []

    def place(self):
        """Classes in patches of 4 pixels, (height, width) uint8."""
        patches = self.rng.integers(0, 3, (SIZE[0] // 4, SIZE[1] // 4))
        return np.kron(patches, np.ones((4, 4))).astype(np.uint8)

    def image(self, place, levels, spread, dtype):
        """(bands, height, width) stored numbers; `levels` holds the mean of each band for each class."""
        means = np.asarray(levels, dtype=float)[:, place]
        return (means + self.rng.normal(0, spread, means.shape)).astype(dtype)

    def add(self, images, labels):
        """Adds a sample whose images are records of dataset.json."""
        name = f"s{len(self.samples)}"
        self.samples.append({"id": name, "height": SIZE[0], "width": SIZE[1], "images": images, "labels": labels})

    def label(self, array):
        """Writes a label map; returns its path below the root."""
        path = f"labels/{len(list(self.root.glob('labels/*')))}.png"
        write(self.root / path, array)
        return path

    def save(self, **document):
        """Writes dataset.json: two samples train, one validates, two test."""
        names = [sample["id"] for sample in self.samples]
        splits = {"train": names[:2], "val": names[2:3], "test": names[3:]}
        document = {"name": "own", **document, "samples": self.samples, "splits": splits}
        (self.root / "dataset.json").write_text(json.dumps(document))


def tagged_geotiffs(world):
    """Reflectance x 10000 and a hole; names, wavelengths and dates in the files, the scale in dataset.json."""
    bands = (GREEN, NIR)
    tags = [{"wavelength_nm": str(band["center_nm"]), "fwhm_nm": str(band["fwhm_nm"])} for band in bands]
    for number in range(5):
        place = world.place()
        image = world.image(place, [[900, 500, 400], [1500, 200, 3500]], 80, np.uint16)
        image[:, :6, :9] = 0
        write(
            world.root / f"images/{number}.tif",
            image,
            names=[band["name"] for band in bands],
            band_tags=tags,
            tags={"TIMESTAMP": f"2021-0{number + 1}-05"},
            nodata=0,
            **GRID,
        )
        images = [{"path": f"images/{number}.tif", "timestamp": f"2021-0{number + 1}-05"}]
        world.add(images, {"semantic": world.label(place)})
    world.save(tasks=["semantic_segmentation"], bands=[*bands], classes=CLASSES, value_scale=0.0001)


def plain_pictures(world):
    """8-bit PNG tiles without any tag: all that is known stands in dataset.json."""
    for number in range(5):
        place = world.place()
        image = world.image(place, [[120, 30, 50], [110, 50, 80], [90, 60, 40]], 8, np.uint8)
        write(world.root / f"images/tile_{number}.png", image)
        images = [{"path": f"images/tile_{number}.png", "timestamp": None}]
        world.add(images, {"semantic": world.label(place)})
    world.save(tasks=["semantic_segmentation"], bands=[RED, GREEN, BLUE], classes=CLASSES, gsd_m=0.5)


DATES = ("2019-06-01", "2021-06-01")


def change_pairs(world, names=DATES):
    """Two dates without tags; what the scale, offset and fill value are stands in dataset.json alone."""
    for number in range(5):
        before, after = world.place(), world.place()
        images = []
        for name, date, place in zip(names, DATES, (before, after), strict=True):
            image = world.image(place, [[9000, 8000, 8500], [12000, 7500, 15000]], 150, np.uint16)
            image[:, -5:, :7] = 0
            path = f"images/{number}/{name}.tif"
            write(world.root / path, image, **GRID)
            images.append({"path": path, "timestamp": date})
        world.add(images, {"change": world.label((before != after).astype(np.uint8))})
    world.save(
        tasks=["binary_change_detection"],
        bands=[RED, NIR],
        change_classes=CHANGES,
        value_scale=0.0000275,
        value_offset=-0.2,
        nodata=0,
    )


def many_sensors(world):
    """Radar, optical and an elevation model as three images of one sample, none of which says what it is."""
    for number in range(5):
        place = world.place()
        stored = {
            "radar": world.image(place, [[-9, -20, -8], [-16, -28, -13]], 1, np.float32),
            "optical": world.image(
                place, [[900, 600, 300], [800, 500, 500], [1000, 300, 400], [2000, 200, 3500]], 80, np.uint16
            ),
            "dem": world.image(place, [[300, 100, 600]], 20, np.float32),
        }
        images = []
        for band_set, array in stored.items():
            path = f"images/{number}_{band_set}.tif"
            write(world.root / path, array, **GRID)
            images.append({"path": path, "timestamp": None, "band_set": band_set})
        world.add(images, {"semantic": world.label(place)})
    world.save(
        tasks=["semantic_segmentation"],
        band_sets={
            "radar": [{"name": name, "kind": "sar", "polarisation": name} for name in ("VV", "VH")],
            "optical": [BLUE, GREEN, RED, NIR],
            "dem": [{"name": "elevation", "kind": "elevation"}],
        },
        classes=CLASSES,
        value_scale=0.0001,
    )


def train(data, out):
    """Fine-tunes for three steps; returns what the script prints."""
    printed, argv = io.StringIO(), sys.argv
    settings = {"steps": 3, "batch_size": 2, "crop_size": 24, "num_workers": 0, "warmup_steps": 0, "eval_every": 3}
    sys.argv = [str(SCRIPT), "--data", str(data), "--output_dir", str(out)]
    sys.argv += [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        with contextlib.redirect_stdout(printed):
            runpy.run_path(str(SCRIPT), run_name="__main__")
    finally:
        sys.argv = argv
        AcceleratorState._reset_state(reset_partial_state=True)
    return printed.getvalue()


def predicted(run, record, out):
    """The maps that the command makes of the files of a sample, those that are labelled."""
    files = [str(path) for path in record.image_paths]
    usual = default_outputs(record.task, len(files))
    arguments = ["--checkpoint", str(run), "--task", record.task, "-o", str(out), *files]
    if not set(record.outputs) <= set(usual):
        usual = record.outputs
        arguments += ["--maps", *(",".join(map(str, output)) for output in usual)]
    assert main(["predict", *arguments]) == 0
    with rasterio.open(out) as raster:
        return raster.read([usual.index(output) + 1 for output in record.outputs])


def predicted_scores(dataset, task, run, folder):
    """Scores of the maps that the command makes of the files of a split."""
    scores = TaskScores(task, dataset.class_names(task))
    for number, record in enumerate(dataset.samples):
        if record.task == task:
            scores.update(predicted(run, record, folder / f"{task}_{number}.tif"), dataset[number].labels)
    return {name: None if np.isnan(value) else value for name, value in scores.compute().items()}


@pytest.mark.parametrize("make", [tagged_geotiffs, plain_pictures, change_pairs, many_sensors])
def test_predict_scores_what_the_run_measured(make, tmp_path, capsys):
    data, run = tmp_path / "own", tmp_path / "run"
    make(World(data))
    train(data, run)
    test = FolderDataset(data, "test")
    (task,) = test.tasks
    measured = json.loads((run / "metrics.json").read_text())["test"]["own"][task]
    assert predicted_scores(test, task, run, tmp_path) == pytest.approx(measured, abs=1e-6)
    assert measured["mean_iou"] > 0
    assert "own" in capsys.readouterr().err, "predict says whose statistics normalise its input"


def test_the_command_that_the_script_prints_names_the_dates(tmp_path):
    """Dates that only dataset.json states change the maps: the printed command gives them."""
    data, run = tmp_path / "own", tmp_path / "run"
    change_pairs(World(data), names=("before", "after"))
    *_, command = train(data, run).splitlines()
    words = shlex.split(command)
    assert words[:2] == ["stsun", "predict"]
    stated = words[words.index("--dates") + 1 :][:2]
    assert [date[:10] for date in stated] == list(DATES)
    words[words.index("-o") + 1] = str(tmp_path / "out.tif")
    assert main(words[1:]) == 0
    with rasterio.open(tmp_path / "out.tif") as raster:
        assert raster.descriptions[0].endswith("2019-06-01 / 2021-06-01")
