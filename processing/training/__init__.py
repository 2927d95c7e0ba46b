"""Fine-tuning: arguments, sources, the optimiser, evaluation, and what a run leaves behind.

`examples/finetune.py` (Accelerate) and `examples/finetune_trainer.py` (the Trainer of transformers) are thin around it.
May import everything but the command line.
"""

from typing import TYPE_CHECKING, Any

from .._lazy import find

if TYPE_CHECKING:
    from .._files import write_whole
    from .arguments import FinetuneArguments, TrainingError, parse_arguments
    from .evaluation import BatchScores, Scores, TaskScores, evaluate_sources, mean_score, summary
    from .models import add_lora, balanced_class_weights, build_model, plain_model, with_new_output_module
    from .optimization import MuonAdamW, fit, parameter_groups
    from .run import (
        JsonLinesTracker,
        check_same_run,
        log_lines,
        make_output_dir,
        predict_command,
        run_lock,
        save_run,
    )
    from .sources import WINDOWS, Sources, build_mixture, build_sampler, open_sources
    from .states import Progress, RunState, load_best, newest_state, save_best, saved_states, step_of

_MODULES = ("arguments", "sources", "models", "evaluation", "optimization", "run", "states")

__all__ = [
    "WINDOWS",
    "BatchScores",
    "FinetuneArguments",
    "JsonLinesTracker",
    "MuonAdamW",
    "Progress",
    "RunState",
    "Scores",
    "Sources",
    "TaskScores",
    "TrainingError",
    "add_lora",
    "balanced_class_weights",
    "build_mixture",
    "build_model",
    "build_sampler",
    "check_same_run",
    "evaluate_sources",
    "fit",
    "load_best",
    "log_lines",
    "make_output_dir",
    "mean_score",
    "newest_state",
    "open_sources",
    "parameter_groups",
    "parse_arguments",
    "plain_model",
    "predict_command",
    "run_lock",
    "save_best",
    "save_run",
    "saved_states",
    "step_of",
    "summary",
    "with_new_output_module",
    "write_whole",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return find(__name__, [f"training.{module}" for module in _MODULES], name)


def __dir__() -> list[str]:
    return __all__
