"""Evaluation folders with made-up scores, as `EvaluationReport` writes them."""

import csv
import json

import numpy as np

CONVENTION = {"measure": "made up", "data_range": 2.0}
GRADES = (0, 0, 2, 4, None, 2)


def write_run(
    folder,
    methods,
    *,
    names=None,
    grades=GRADES,
    first_knee=0,
    phantom=True,
    conventions=None,
    sections=None,
    per_participant=1,
):
    """A run whose `methods` map method to metric to scores, one a knee; knees are numbered from `first_knee`."""
    folder.mkdir(parents=True)
    metrics = list(dict.fromkeys(metric for of in methods.values() for metric in of))
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["participant", "side", "visit", "kl_grade", "method", *metrics])
        for index, grade in enumerate(grades):
            number = first_knee + index
            for method, of in methods.items():
                scores = [repr(float(of[m][index])) if m in of else "" for m in metrics]
                person, side = f"P{number // per_participant}", "RL"[number % per_participant]
                writer.writerow([person, side, "00m", "" if grade is None else grade, method, *scores])
    summary = {
        "title": "made up",
        "phantom": phantom,
        "provenance": {"data": "synthetic-phantom" if phantom else "OAI", "weights": "model.pt"},
        "methods": {m: m.title() for m in methods if m != "real"} | dict(names or {}),
        "data_range": 2.0,
        "metrics": {m: {metric: {"mean": float(np.mean(v))} for metric, v in of.items()} for m, of in methods.items()},
        "conventions": {metric: CONVENTION for metric in metrics} | dict(conventions or {}),
        "sections": sections or {},
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder
