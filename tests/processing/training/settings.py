"""Settings of a run on the small folder data set."""

from stsun_processing.training.arguments import FinetuneArguments


def arguments(folder, **settings):
    return FinetuneArguments(data=[str(folder.root)], output_dir=str(folder.root.parent / "run"), **settings)
