"""Command lines: the same option has the same form and meaning in every script; streams and exit codes."""

from __future__ import annotations

import argparse
import importlib.util
import io
import os
import re
import sys
from pathlib import Path

import pytest

from bundle.command_line import check_folder, fail, print_names_as_they_are

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))
WRONG = {
    "compare": ["{tmp}/absent", "--out", "{tmp}/out"],
    "document_configs": ["--out", "{tmp}/absent/configs.md"],
    "import_weights": ["{tmp}/absent.pt", "--kind", "zero123", "--out", "{tmp}/out.pt"],
    "make_phantom": ["--out", "{tmp}", "--participants", "-1", "--seed", "0"],
    "prepare_data": ["--oai", "{tmp}/absent", "--out", "{tmp}/out"],
    "synthesise": ["{tmp}/absent.png", "--out", "{tmp}/out"],
    "tables": ["{tmp}/absent.json", "--out", "{tmp}/out"],
}
"""Script to arguments that parse and cannot be followed."""


class ParsedError(Exception):
    """Carries the parser out of a script's `main`."""


def load(path: Path):
    """A script as a module; scripts are run and never imported, except here, to look at them."""
    spec = importlib.util.spec_from_file_location(f"script_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parsers(path: Path) -> list[argparse.ArgumentParser]:
    """The script's parser and those of its commands."""

    def stop(parser, *_):
        raise ParsedError(parser)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        with pytest.raises(ParsedError) as found:
            load(path).main()
    top = found.value.args[0]
    commands = [a.choices.values() for a in top._actions if isinstance(a, argparse._SubParsersAction)]
    return [top, *(parser for group in commands for parser in group)]


def options(path: Path) -> list[argparse.Action]:
    return [action for parser in parsers(path) for action in parser._actions if action.dest != "help"]


def form(action: argparse.Action) -> tuple:
    """What tells two options of one name apart: folder or file, number or one of some words."""
    return (action.metavar, bool(action.choices))


def meaning(action: argparse.Action) -> str:
    """What an option's help says first; after a colon or semicolon is what it means in this script."""
    return re.split(r"[:;]", action.help)[0].strip()


@pytest.fixture(scope="module")
def everywhere():
    return {path.stem: options(path) for path in SCRIPTS}


def test_every_option_has_help_and_a_metavar(everywhere):
    for script, actions in everywhere.items():
        for action in actions:
            if isinstance(action, argparse._SubParsersAction):
                continue
            assert action.help, f"{script} {action.dest}"
            takes_value = action.nargs != 0 and not action.choices
            assert not takes_value or action.metavar, f"{script} {action.dest}"


def test_same_option_means_the_same_in_every_script(everywhere):
    said: dict[tuple, dict[str, list[str]]] = {}
    for script, actions in everywhere.items():
        for action in actions:
            for name in action.option_strings:
                said.setdefault((name, *form(action)), {}).setdefault(meaning(action), []).append(script)
    assert {option: meanings for option, meanings in said.items() if len(meanings) > 1} == {}


def test_options_are_words_joined_by_hyphens(everywhere):
    names = {name for actions in everywhere.values() for action in actions for name in action.option_strings}
    assert [name for name in names if not re.fullmatch(r"--[a-z]+(-[a-z]+)*", name)] == []


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_help_goes_to_stdout_and_a_wrong_option_to_stderr(path, capsys):
    for arguments, code, stream in ((["--help"], 0, "out"), (["--no-such-option"], 2, "err")):
        with pytest.raises(SystemExit) as exit_:
            parsers(path)[0].parse_args(arguments)
        assert exit_.value.code == code
        captured = capsys.readouterr()
        assert getattr(captured, stream)
        assert not getattr(captured, {"out": "err", "err": "out"}[stream])


def test_help_says_what_a_script_is_for(everywhere):
    for path in SCRIPTS:
        described = parsers(path)[0].description
        assert described, path.stem
        assert described.strip().splitlines()[0].endswith("."), path.stem


@pytest.mark.parametrize("script", WRONG)
def test_what_cannot_be_done_is_one_line_on_stderr_and_exit_1(script, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", [script, *(word.format(tmp=tmp_path) for word in WRONG[script])])
    assert load(ROOT / "scripts" / f"{script}.py").main() == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1


def test_a_message_of_several_lines_becomes_one(capsys):
    assert fail(ValueError("first\n    second ")) == 1
    assert capsys.readouterr().err == "error: first second\n"


def test_folder_that_cannot_be_written_is_refused_first(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    check_folder(tmp_path / "new" / "folder", "--out")
    with pytest.raises(FileExistsError, match=r"^--out .*: .*file is a file; a folder was expected there"):
        check_folder(tmp_path / "file" / "below", "--out")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError, match=r"^--out .* may not be written to; name another folder"):
        check_folder(tmp_path / "new", "--out")


def test_names_that_are_no_text_are_printed_as_their_bytes(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", stream)
    print_names_as_they_are()
    print(os.fsdecode(b"film\xff.nii.gz"), flush=True)
    assert stream.buffer.getvalue() == b"film\xff.nii.gz\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"XRKL": true}', "`XRKL` must be a whole grade from 0 to 4"),
        ('{"XRKL": 1' + "0" * 400 + "}", "`XRKL` must be a whole grade from 0 to 4"),
        ('{"XRKL": 1, "XRKL": 3}', "`XRKL` comes twice"),
        ("[" * 100_000, "not JSON of readings"),
    ],
)
def test_readings_that_are_no_grades_are_refused_with_the_file(tmp_path, content, message):
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(ValueError, match=f"--readings.*{message}"):
        load(ROOT / "scripts" / "synthesise.py").read_readings([str(tmp_path / "r.json")])


def test_value_that_is_given_twice_is_refused():
    script = load(ROOT / "scripts" / "synthesise.py")
    with pytest.raises(ValueError, match="--readings: `XRKL` comes twice; give it once"):
        script.read_readings(["XRKL=1", "XRKL=3"])
    with pytest.raises(ValueError, match="--covariates: `age` comes twice; give it once"):
        script.read_covariates(["age=50", "age=60"])


def test_scripts_that_import_the_bundle_leave_the_line_to_it():
    sources = {path.stem: path.read_text() for path in SCRIPTS}
    assert [name for name, text in sources.items() if '"error: ' in text and "from bundle" in text] == []


def test_rules_can_fail():
    parser = argparse.ArgumentParser()
    folder = parser.add_argument("--out", metavar="DIR", help="folder to write to: the volumes")
    other = parser.add_argument("--output", metavar="DIR", help="where results go")
    assert meaning(folder) == "folder to write to"
    assert meaning(folder) != meaning(other)
    assert form(folder) != form(parser.add_argument("--out-file", metavar="FILE"))
