"""Writes the tables of benchmarks.md from the results under examples/results.

Each table stands between `<!-- name -->` and `<!-- end -->`; the text around is left as it is.
"""

import csv
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import mean, stdev

PAGE = Path(__file__).with_name("benchmarks.md")
RESULTS = Path(__file__).parents[1] / "results"
METHODS = {
    "unified": "**STSUN, one model for all sources**",
    "equal_shares": "STSUN, one model, equal shares of the sources",
    "single": "STSUN, one model per source",
    "forest": "random forest on pixels, one per source",
    "segformer": "SegFormer-b0, dates and bands stacked, one per source",
    "unet": "U-Net, stacked, one per source",
}
ABLATIONS = {
    "unified": "all of it",
    "no_wavelengths": "without wavelengths and widths",
    "no_dates": "without dates",
    "random_bands": "trained on random subsets of the bands",
    "no_task": "without task embedding",
    "no_categories": "classes numbered per source instead of embedded by name",
    "content_time": "temporal module that weighs dates by content, too",
}
SPEEDS = ("float32", "float32_compiled", "bfloat16", "bfloat16_compiled")


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def scores(rows: Iterable[dict[str, str]], method: str) -> dict[str, dict[str, float]]:
    """{seed: {source: mean IoU over its tasks}} of a method."""
    found: defaultdict[str, defaultdict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["method"] == method:
            found[row["seed"]][row["source"]].append(float(row["mean_iou"]))
    return {seed: {source: mean(of_tasks) for source, of_tasks in own.items()} for seed, own in found.items()}


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation over seeds."""
    return f"{mean(values):.3f} ± {stdev(values):.3f}"


def runs(rows: Iterable[dict[str, str]], column: str = "run") -> str:
    """Machines, versions and commits of results, for below a table."""
    return "\n".join(f"- {run}" for run in dict.fromkeys(row[column] for row in rows))


def corpus_table() -> str:
    """Mean scores of each approach, and of each source below."""
    rows = read(RESULTS / "corpus" / "corpus_test.csv")
    by_method = {method: scores(rows, method) for method in METHODS}
    means = {method: [mean(own.values()) for own in seeds.values()] for method, seeds in by_method.items()}
    body = [(name, spread(means[method])) for method, name in METHODS.items()]
    return f"{markdown(('approach', 'mean IoU'), body)}\n\n{runs(rows)}"


def ablation_table() -> str:
    """Mean scores without a part, and the source that loses most."""
    rows = read(RESULTS / "ablations" / "corpus_test.csv")
    full = source_means(scores(rows, "unified"))
    body = []
    for method, name in ABLATIONS.items():
        seeds = scores(rows, method)
        own = source_means(seeds)
        most = max(full, key=lambda source: full[source] - own[source])
        lost = f"{most}: {own[most]:.2f} instead of {full[most]:.2f}" if full[most] - own[most] > 0.05 else ""
        body.append((name, spread([mean(of_seed.values()) for of_seed in seeds.values()]), lost))
    return f"{markdown(('one model for five sources', 'mean IoU', 'the most on'), body)}\n\n{runs(rows)}"


def source_means(seeds: dict[str, dict[str, float]]) -> dict[str, float]:
    """Mean over seeds of each source."""
    return {source: mean(own[source] for own in seeds.values()) for source in next(iter(seeds.values()))}


def speed_table() -> str:
    """Seconds of a forward pass of each preset, by precision."""
    tables = []
    for machine in ("epyc", "xeon"):
        rows = {kind: read(RESULTS / "speed" / machine / kind / "speed.csv") for kind in SPEEDS if _has(machine, kind)}
        large = {kind: {row["preset"]: row for row in own if row["size"] == "512"} for kind, own in rows.items()}
        presets = list(dict.fromkeys(preset for own in large.values() for preset in own))
        body = []
        for preset in presets:
            first = next(own[preset] for own in large.values() if preset in own)
            seconds = [f"{float(own[preset]['forward_s']):.3g}" if preset in own else "-" for own in large.values()]
            body.append((preset, first["parameters_m"][:5], f"{float(first['forward_gflop']):.3g}", *seconds))
        head = ("preset", "M parameters", "GFLOP", *(f"{kind.replace('_', ', ')} s" for kind in large))
        everything = [row for own in rows.values() for row in own]
        tables.append(f"{markdown(head, body)}\n\n{runs(everything, 'machine')}")
    return "\n\n".join(tables)


def _has(machine: str, kind: str) -> bool:
    return (RESULTS / "speed" / machine / kind / "speed.csv").exists()


TABLES: dict[str, Callable[[], str]] = {"corpus": corpus_table, "ablations": ablation_table, "speed": speed_table}


def filled(page: str) -> str:
    """The page with its tables made anew."""
    for name, table in TABLES.items():
        text = f"<!-- {name} -->\n\n{table()}\n\n<!-- end -->"
        page = re.sub(rf"<!-- {name} -->.*?<!-- end -->", lambda _, text=text: text, page, flags=re.DOTALL)
    return page


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
