"""`scripts/view.py --explore` with the shipped weights, two states of it."""

import base64
import importlib.util
import io
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_a_reading_turned_changes_film_and_volumes_at_the_joint(tmp_path, monkeypatch, capsys):
    """Narrowing 3 moves the bones: film, true MRI and both volumes of the weights change there; empty places do not."""
    spec = importlib.util.spec_from_file_location("view", ROOT / "scripts/view.py")
    view = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(view)
    monkeypatch.setattr(view, "DIALS", ((("XRJSM",), (0, 3), "Narrowing, medial"),))
    monkeypatch.setattr(sys, "argv", ["view", "--explore", "--out", str(tmp_path / "page.html")])
    assert view.main() == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "page.html")
    found = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', (tmp_path / "page.html").read_text())
    before, after = (np.asarray(Image.open(io.BytesIO(base64.b64decode(one))), dtype=float) for one in found)
    change = np.abs(after - before)[14:].reshape(3, 128, 7, 128).swapaxes(1, 2)  # (row, column, h, w)
    for row, column in ((0, 0), (0, 4), (1, 4), (2, 4)):
        assert change[row, column, 50:80].mean() > 4, (row, column)
    assert change[1:, 0].mean() < 1, "below the film there is nothing"
