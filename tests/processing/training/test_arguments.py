"""Settings of a run."""

import pytest

from stsun_processing.training.arguments import TrainingError
from tests.processing.training.settings import arguments


def test_no_mixed_precision_may_be_written_as_yaml_reads_it(folder):
    assert arguments(folder, mixed_precision=False).mixed_precision == "no"
    with pytest.raises(TrainingError, match="mixed_precision is 'fp8'; it must be no, bf16 or fp16"):
        arguments(folder, mixed_precision="fp8")
