"""Runs the architecture tests, and makes the support table of docs/models.md of their results.

    export KVFOLD_TINY_MODELS=build/tests/tiny_models PYTHONPATH=tests/support
    python3 support_table.py build/bin/architectures_test            # writes the table
    python3 support_table.py build/bin/architectures_test --check    # fails when the page says something else
"""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import tiny_models  # knows where gguf is
import gguf

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "models.md"
BEGIN, END = "<!-- support table -->\n", "<!-- end of the support table -->\n"
SUITES = {"Models/Compactable": "works", "Models/Refused": "refused"}


def run_tests(program):
    """(suite, name of the model) -> whether every test of the suite passed on it; and whether all tests passed."""
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "results.json"
        done = subprocess.run([program, "--gtest_brief=1", f"--gtest_output=json:{report}"], check=False)
        results = json.loads(report.read_text())
    passed = {}
    for suite in results["testsuites"]:
        for test in suite["testsuite"]:
            key = suite["name"], test["name"].split("/")[-1]
            passed[key] = passed.get(key, True) and test["result"] == "COMPLETED" and "failures" not in test
    return passed, done.returncode == 0


def architecture_of(model):
    """llama.cpp's name, from the file that the tests used."""
    reader = gguf.GGUFReader(pathlib.Path(os.environ["KVFOLD_TINY_MODELS"]) / f"{model.__name__}.gguf")
    return reader.get_field("general.architecture").contents()


def make_table(passed):
    lines = ["| architecture | attention | result | shown by the tests |", "| --- | --- | --- | --- |"]
    for model in tiny_models.MODELS:
        results = {suite: passed[suite, model.__name__] for suite in SUITES if (suite, model.__name__) in passed}
        if len(results) != 1:
            sys.exit(f"{model.__name__}: wanted results of one suite of {list(SUITES)}, found {results}")
        (suite, good), = results.items()
        attention = model.__doc__.strip().rstrip(".")
        verdict = SUITES[suite] if good else "**fails**"
        lines.append(f"| {architecture_of(model)} | {attention} | {verdict} "
                     f"| `{suite.split('/')[1]}.*/{model.__name__}` |")
    return "\n".join(lines) + "\n"


def main(program, check):
    passed, all_passed = run_tests(program)
    if not all_passed:
        sys.exit("tests failed; the table is left alone")
    table = make_table(passed)
    text = PAGE.read_text()
    changed = re.sub(f"(?<={re.escape(BEGIN)}).*(?={re.escape(END)})", lambda _: table, text, flags=re.DOTALL)
    if BEGIN not in text or END not in text:
        sys.exit(f"{PAGE.name} lacks {BEGIN.strip()} or {END.strip()}")
    if not check:
        PAGE.write_text(changed)
    elif changed != text:
        sys.exit(f"{PAGE.name} does not have the table of the test results:\n\n{table}\n"
                 "run tests/architectures/support_table.py to write it")


if __name__ == "__main__":
    main(sys.argv[1], check="--check" in sys.argv[2:])
