"""Whose images they are: nothing that preparation writes or says holds what the headers tell of a person."""

import gzip
import runpy
import sys
from pathlib import Path

import fabricate_oai as oai
from small_release import entries, knees, table

ROOT = Path(__file__).resolve().parents[2]
PERSON = {
    "PatientName": "Featherstone^Jane",
    "PatientBirthDate": "19480229",
    "PatientAddress": "12 Mulberry Lane",
    "PatientTelephoneNumbers": "555-0142-77",
    "PatientMotherBirthName": "Ravenscroft",
    "OtherPatientIDs": "SSN-078-05-1120",
    "StudyDate": "20050131",
    "StudyTime": "101112.131415",
    "AccessionNumber": "ACC7788991",
    "InstitutionName": "Saint Elsewhere",
    "InstitutionAddress": "1 Hospital Road",
    "ReferringPhysicianName": "Quackenbush^Otto",
    "OperatorsName": "Wolverton^Ada",
    "StationName": "ROOM-XR-17",
    "DeviceSerialNumber": "SN-4711-0815",
    "PatientComments": "fell from a horse",
}


def _personal(dataset):
    for name, value in PERSON.items():
        setattr(dataset, name, value)


def _slices(datasets):
    for dataset in datasets:
        _personal(dataset)
    return datasets


def test_no_file_and_no_message_tells_of_the_person(tmp_path, monkeypatch, capfd):
    """Two knees are prepared and four refused, one as not found, so that reasons are among what is searched."""
    tree = oai.Tree(tmp_path / "oai")
    knees(tree, ["9000001", "9000002"], sides="R", edit_film=_personal, edit_series=_slices)
    knees(tree, ["9000003"], sides="L", edit_film=_personal, edit_series=_slices)
    knees(tree, ["9000004"], edit_film=_personal, edit_series=lambda slices: _slices(slices)[:8])
    knees(tree, ["9000005"], edit_film=_personal, edit_series=lambda slices: [*_slices(slices)[:30], *slices[32:]])

    def other_view(film):
        _personal(film)
        film.ViewPosition = "LL"

    knees(tree, ["9000006"], edit_film=other_view, edit_series=_slices)
    table(tree, ["9000001", "9000002", "9000003"])
    out = tmp_path / "out"
    options = ["--oai", tree.root, "--out", out, "--size", "64", "--workers", "1", "--split-file", out / "split.csv"]
    monkeypatch.setattr(sys, "argv", ["prepare_data.py", *map(str, options)])
    assert runpy.run_path(str(ROOT / "scripts/prepare_data.py"))["main"]() == 0
    assert len(entries(out)) == 2
    series = [oai.pydicom.dcmread(path) for path in (tree.root / "00m").rglob("001")]
    secrets = {*PERSON.values(), *(name.split("^")[0] for name in PERSON.values() if "^" in name)}
    secrets |= {
        str(item[uid].value) for item in series for uid in ("SOPInstanceUID", "SeriesInstanceUID") if uid in item
    }
    secrets |= {line[3] for line in tree.rows}  # barcodes
    written = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert {"dataset.json", "report.json", "report.html", "rejected.csv", "options.json"} < {p.name for p in written}
    told = capfd.readouterr()
    contents = {str(path): gzip.decompress(held) if path.suffix == ".gz" else held for path, held in written.items()}
    contents |= {"stdout": told.out.encode(), "stderr": told.err.encode()}
    assert "2 knees prepared" in told.err
    for name, content in contents.items():
        assert not [
            secret for secret in secrets if secret.encode() in content or secret.encode("utf-16-le") in content
        ], name
    assert not [path for path in written if any(secret in str(path.relative_to(out)) for secret in secrets)]
