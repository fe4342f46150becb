"""Every number of docs/results.md is one of the evaluation's files beside it."""

import csv
import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = ("psnr", "ssim", "rssim", "near_edge", "adjacent_slice_correlation")


def rows():
    """Method's name to the means in the first table of the page."""
    found = {}
    for line in (ROOT / "docs" / "results.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == len(COLUMNS) + 1 and re.match(r"^-?\d", cells[-1]):
            found[cells[0]] = [None if cell == "" else float(cell) for cell in cells[1:]]
    return found


def test_the_table_repeats_the_summary():
    summary = json.loads((ROOT / "docs" / "results" / "preliminary" / "summary.json").read_text())
    table = rows()
    names = {**summary["methods"], "real": "Real volumes"}
    assert set(table) == set(names.values())
    for method, name in names.items():
        for metric, shown in zip(COLUMNS, table[name], strict=True):
            if shown is not None:
                mean = summary["metrics"][method][metric]["mean"]
                assert abs(shown - mean) <= 0.0051 if metric == "psnr" else abs(shown - mean) <= 0.00051, (name, metric)


def test_the_table_of_trained_methods_repeats_its_file():
    found = {}
    with (ROOT / "docs" / "results" / "tables" / "comparison.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["kl_grade"] == "all":
                found.setdefault(row["row"], {})[row["metric"]] = row
    text = (ROOT / "docs" / "results.md").read_text()
    text = text[text.index("## Every method") :]
    for name, metrics in found.items():
        shown = [""] * len(COLUMNS)
        for place, metric in enumerate(COLUMNS):
            if metric in metrics:
                shown[place] = f"{float(metrics[metric]['mean']):.{2 if metric == 'psnr' else 3}f}"
        seeds = next(iter(metrics.values()))["repetitions"]
        if "psnr" in metrics and int(seeds) > 1:
            shown[0] += f" ({float(metrics['psnr']['sd_repetitions']):.2f})"
        assert f"| {name} | {seeds} | {' | '.join(shown)} |" in text, name
    assert f"{next(iter(found.values()))['ssim']['n']} test knees" in text


def test_the_page_says_how_many_knees_and_that_they_are_phantoms():
    summary = json.loads((ROOT / "docs" / "results" / "preliminary" / "summary.json").read_text())
    text = (ROOT / "docs" / "results.md").read_text()
    assert f"{summary['knees']} knees" in text
    assert "phantom" in text


def test_the_share_of_the_explainable_is_the_summary_s():
    section = json.loads((ROOT / "docs" / "results" / "preliminary" / "summary.json").read_text())["sections"][
        "explainable"
    ]
    found = [dict(zip(section["columns"], row, strict=True)) for row in section["rows"]]
    text = (ROOT / "docs" / "results.md").read_text()
    for row in found:
        share = [f"{row[name]:.3f}" for name in ("share", "share, low", "share, high")]
        assert f"| {row['method']} | {share[0]} | {share[1]} to {share[2]} |" in text, row["method"]
