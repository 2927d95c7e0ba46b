"""Settings of a run: what cannot be meant ends before any work, in one line."""

import math
import re
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stsun_processing.training.arguments import FinetuneArguments, TrainingError, parse_arguments
from tests.processing.training.settings import arguments


def test_no_mixed_precision_may_be_written_as_yaml_reads_it(folder):
    assert arguments(folder, mixed_precision=False).mixed_precision == "no"
    with pytest.raises(TrainingError, match="mixed_precision is 'fp8'; it must be no, bf16 or fp16"):
        arguments(folder, mixed_precision="fp8")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("learning_rate", math.nan, "learning_rate must be finite, 0 or more, got nan"),
        ("learning_rate", -1.0, "learning_rate must be 0 or more, got -1.0"),
        ("learning_rate", math.inf, "learning_rate must be finite, 0 or more, got inf"),
        ("learning_rate", "5e-3", "learning_rate must be of type float, got '5e-3'"),
        ("weights", [-1], "weights must be finite numbers of 0 or more, not all 0"),
        ("weights", [0], "weights must be finite numbers of 0 or more, not all 0"),
        ("weights", [math.nan], "weights must be finite numbers of 0 or more, not all 0"),
        ("weights", ["1"], r"weights must be of type list\[float\] \| None, got \['1'\]"),
        ("weights", [1, 2], "weights holds 2 numbers for 1 sources"),
        ("seed", -1, "seed must be between 0 and 4294967295, got -1"),
        ("seed", 2**40, "seed must be between 0 and 4294967295"),
        ("metadata_dropout", 2.0, "metadata_dropout must be between 0 and 1, got 2.0"),
        ("band_sampling", -1, "band_sampling must be between 0 and 1, got -1"),
        ("max_dates", 0, "max_dates must be 1 or more"),
        ("max_grad_norm", 0, "max_grad_norm must be above 0"),
        ("steps", True, "steps must be of type int, got True"),
        ("steps", 0, "steps must be 1 or more"),
        ("model", 5, "model must be of type str, got 5"),
        ("data", "synthetic", "data must be of type list"),
        ("output_dir", __file__, "which is no folder"),
    ],
)
def test_numbers_that_cannot_be_meant_are_refused(name, value, message):
    with pytest.raises(TrainingError, match=message):
        FinetuneArguments(**{"data": ["synthetic"], name: value})


VALUES = st.none() | st.booleans() | st.integers(-(10**400), 10**400) | st.floats() | st.text(max_size=5)
NAMES = sorted(set(FinetuneArguments.__dataclass_fields__) - {"output_dir"})


@given(given_settings=st.dictionaries(st.sampled_from(NAMES), VALUES | st.lists(VALUES, max_size=3), max_size=4))
def test_whatever_is_given_it_is_settings_or_a_training_error(given_settings):
    try:
        made = FinetuneArguments(**{"data": ["synthetic"]} | given_settings)
    except TrainingError:
        return
    assert math.isfinite(made.learning_rate + made.weight_decay + made.ema_decay)
    assert 0 <= made.seed < 2**32


# Files


@pytest.fixture
def parse(monkeypatch, tmp_path):
    def parse(content, *more):
        config = tmp_path / "settings.yaml"
        if content is not None:
            config.write_bytes(content)
        monkeypatch.setattr(sys, "argv", ["finetune.py", "--config", str(config), *more])
        return parse_arguments("Fine-tunes.")

    return parse


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: .*No such file"),
        (b"data: [a\nsteps: 3", "cannot be read: .*expected"),
        (b"\xff\xfe\x00data", "cannot be read"),
        (b"data: !!python/object/apply:os.system ['true']", "cannot be read: could not determine a constructor"),
        (b"[" * 5000, "cannot be read"),
        (b"1: 2\nsteps: 3", "unknown settings 1; known ones"),
        (b"- steps", r"holds no settings .* but \['steps'\]"),
        (b"just text", "holds no settings"),
        (b"data: [synthetic]\nsteps: 2020-99-99", "cannot be read"),
        (b"data: [synthetic]\nlearning_rate: .nan", "learning_rate must be finite"),
        (b"data: [synthetic]\nsteps:", "steps must be of type int, got None"),
        (b"a: &a [x]\nb: &b [*a, *a]\ndata: [[*b, *b]]", "unknown settings a, b"),
    ],
)
def test_files_that_cannot_be_meant_end_the_program_in_one_line(parse, content, message):
    with pytest.raises(SystemExit) as error:
        parse(content)
    assert re.search(message, str(error.value))
    assert "\n" not in str(error.value)


def test_the_command_line_wins_over_the_file(parse):
    made = parse(b"data: [synthetic]\nlearning_rate: 5e-3\nsteps: 7", "--steps", "9")
    assert (made.learning_rate, made.steps) == (0.005, 9)
    with pytest.raises(SystemExit, match="No data"):
        parse(b"")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(content=st.binary(max_size=40) | st.text("abc:-[]{}&*!\n 1.e'\"", max_size=30).map(str.encode))
def test_whatever_a_file_holds_the_program_ends_by_itself(parse, content):
    with pytest.raises(SystemExit):
        parse(content)
