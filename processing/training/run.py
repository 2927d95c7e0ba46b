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
"""What a run leaves behind: its log and settings, a folder that is complete for the Hub, and how to predict with it."""

import json
import os
import shlex
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate.tracking import GeneralTracker, on_main_process

from modeling_stsun import STSUNForDensePrediction

from .._files import FolderLock, put_in_place, read_json, write_whole
from ..data.datasets import FolderDataset
from ..data.description import SampleRecord
from ..image_processing_stsun import STSUNImageProcessor
from ..metadata import ImageSeries, default_outputs
from ..metrics import json_ready
from ..rasters.records import RasterError
from ..rasters.series import open_series
from ..scenes.predictor import readings_for
from .arguments import FinetuneArguments, TrainingError
from .evaluation import Scores
from .model_card import model_card
from .sources import Sources


class JsonLinesTracker(GeneralTracker):
    """A tracker of Accelerate that appends one line of JSON a call to a file.

    Args:
        path: the file.
        step: of the state that a run is resumed from; what was logged after it will be logged again, and is removed.
    """

    name = "jsonl"
    requires_logging_directory = False
    main_process_only = True

    def __init__(self, path: str | Path, step: int = 0) -> None:
        super().__init__()
        self.path, self.step = Path(path), step

    @property
    def tracker(self) -> Path:
        """The file."""
        return self.path

    @on_main_process
    def store_init_configuration(self, values: dict[str, Any]) -> None:
        """Starts the file, or takes it back to the state that the run is resumed from; settings are kept elsewhere."""
        kept = [line for line in log_lines(self.path) if line["step"] <= self.step] if self.step else []
        write_whole(self.path, "".join(json.dumps(line) + "\n" for line in kept))

    @on_main_process
    def log(self, values: dict[str, Any], step: int | None = None, **kwargs: Any) -> None:
        """Appends a line."""
        with self.path.open("a") as file:
            file.write(json.dumps(json_ready({"step": step, **values})) + "\n")


def log_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The entries of a log.jsonl; a last line that was cut short is left out.

    Raises:
        TrainingError: another line is no entry of a run.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            entry = None
        if isinstance(entry, dict) and type(entry.get("step")) is int:
            yield entry
        elif number < len(lines):
            raise TrainingError(
                f"Line {number} of {path} is no entry of a run: {line[:80]!r}. Move the file elsewhere."
            )


def make_output_dir(arguments: FinetuneArguments) -> Path:
    """The folder of a run, made if need be.

    Raises:
        TrainingError: it cannot be made or written.
    """
    folder = Path(arguments.output_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"output_dir (--output_dir) {folder} cannot be made: {error}.") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise TrainingError(f"output_dir (--output_dir) {folder} is not writable.")
    return folder


def run_lock(folder: Path) -> FolderLock:
    """The right to train in a folder, which one run has at a time."""
    return FolderLock(folder, "Wait until that run has ended, or give another output_dir (--output_dir).")


def check_same_run(arguments: FinetuneArguments, path: Path, num_processes: int) -> None:
    """Notes the settings of a run beside its states, or for `resume` compares them with those noted.

    Raises:
        TrainingError: resuming with settings under which it would not be the same run; the message names them.
    """
    free = {"output_dir", "save_every", "num_workers", "report_to", "resume"}
    settings = {name: value for name, value in asdict(arguments).items() if name not in free}
    settings["num_processes"] = num_processes
    if not arguments.resume or not path.exists():
        write_whole(path, json.dumps(settings, indent=2))
        return
    try:
        before = read_json(path)
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"{path}, which holds the settings of the run, cannot be read ({error}). Start a new run in another "
            "output_dir (--output_dir)."
        ) from error
    changed = [f"{n}: {before.get(n)!r} -> {v!r}" for n, v in settings.items() if before.get(n) != v]
    if changed:
        raise TrainingError(
            f"resume continues the same run, but settings differ from those it started with: {'; '.join(changed)}. "
            "Give those again, or start a new run in another output_dir."
        )


def save_run(
    model: STSUNForDensePrediction,
    processor: STSUNImageProcessor,
    arguments: FinetuneArguments,
    metrics: dict[str, Scores],
    notes: Sequence[str] = (),
) -> None:
    """Writes all that the Hub needs into `output_dir`: weights, config, processor, metrics.json and a model card.

    Files are written aside and moved into place, so none is ever half there.
    """
    folder = Path(arguments.output_dir)
    partial = folder / ".saving"
    if partial.exists():
        shutil.rmtree(partial)
    model.save_pretrained(partial)
    processor.save_pretrained(partial)
    document = json_ready({"arguments": asdict(arguments), **metrics})
    (partial / "metrics.json").write_text(json.dumps(document, indent=2, allow_nan=False))
    (partial / "README.md").write_text(model_card(model, processor, arguments, metrics, notes), encoding="utf-8")
    for path in partial.iterdir():
        if (folder / path.name).is_dir():
            shutil.rmtree(folder / path.name)
        put_in_place(path, folder / path.name)
    partial.rmdir()


def predict_command(folder: str | Path, processor: STSUNImageProcessor, sources: Sources) -> str | None:
    """The command that predicts files of the run as the run itself scored them, for a shell.

    Args:
        folder: the checkpoint that the run saved.
        processor: its processor.
        sources: the data of the run; the command names the first sample of a test split, or else of another one.

    Returns:
        The command; or why `stsun predict` cannot read these files by itself; `None` if no source holds files.
    """
    sets = [source for source in (*sources.test, *sources.val, *sources.train) if isinstance(source, FolderDataset)]
    if not sets:
        return None
    dataset, record = sets[0], sets[0].samples[0]
    files = [str(path) for path in record.image_paths]
    options = _request_options(dataset, record, processor)
    try:
        found = _read_metadata(files, processor)
        named = processor.resolve_statistics(found, None) != dataset.name
    except ValueError:
        # The files may belong to several of the data sets.
        named = True
    if named:
        options += ["--statistics", dataset.name]
        try:
            found = _read_metadata(files, processor, dataset.name)
        except RasterError as error:
            return f"stsun predict cannot read the files of sample {record.name!r} by themselves: {error}"
    options += _metadata_options(record.series, found)
    checkpoint = ["--checkpoint", str(folder), "--task", record.task]
    return shlex.join(["stsun", "predict", *checkpoint, *options, "-o", "out.tif", *files])


def _read_metadata(files: Sequence[str], processor: STSUNImageProcessor, statistics: str | None = None) -> ImageSeries:
    """What `stsun predict` finds out about files."""
    with open_series(files, readings=readings_for(processor, statistics)) as opened:
        return opened.series


def _request_options(dataset: FolderDataset, record: SampleRecord, processor: STSUNImageProcessor) -> list[str]:
    """What is asked of a sample, as far as it is not what `stsun predict` asks by itself."""
    options = []
    classes = list(dataset.class_names(record.task))
    if classes != processor.resolve_classes(record.task, None):
        options += ["--classes", *classes]
    if record.outputs != default_outputs(record.task, len(record.series.acquisitions)):
        options += ["--maps", *(",".join(map(str, output)) for output in record.outputs)]
    return options


def _metadata_options(wanted: ImageSeries, found: ImageSeries) -> list[str]:
    """What dataset.json states of a series, as far as its files say otherwise."""
    options = []
    dates = [acquisition.datetime for acquisition in wanted.acquisitions]
    if dates != [acquisition.datetime for acquisition in found.acquisitions]:
        options += ["--dates", *("unknown" if date is None else date.isoformat() for date in dates)]
    if wanted.gsd_m is not None and wanted.gsd_m != found.gsd_m:
        options += ["--gsd", str(wanted.gsd_m)]
    return options
