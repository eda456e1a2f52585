"""Makes docs/versions.md of the results of scripts/versions: NAME.json of kvfold doctor and NAME.xml of ctest.

    versions_table.py RESULTS PAGE
"""
import json
import pathlib
import re
import sys
import xml.etree.ElementTree

BEGIN, END = "<!-- versions -->\n", "<!-- end of versions -->\n"


def row(doctor):
    found = json.loads(doctor.read_text())
    tests = xml.etree.ElementTree.parse(doctor.with_suffix(".xml")).getroot().findall("testcase")
    ran = [test for test in tests if test.get("status") in ("run", "fail") and test.get("name") != "tiny_models"]
    failed = [test.get("name") for test in ran if test.get("status") == "fail"]
    wrong = [about for about, result in found["checks"].items() if result != "ok"]
    return [found["llama_cpp"]["version"], found["ggml"]["version"], doctor.stem.replace(":", " "), found["compiled_for"],
            ", ".join(wrong) or "pass", f"{len(ran) - len(failed)} of {len(ran)}", ", ".join(failed) or "-"]


def main():
    results, page = map(pathlib.Path, sys.argv[1:])
    rows = sorted(row(doctor) for doctor in results.glob("*.json") if doctor.with_suffix(".xml").exists())
    table = "".join("| " + " | ".join(cells) + " |\n" for cells in
                    [["llama.cpp", "ggml", "from", "kvfold compiled for", "checks", "test programs passed", "failed"],
                     ["---"] * 7, *rows])
    text = page.read_text()
    page.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: BEGIN + table + END, text, flags=re.DOTALL))


if __name__ == "__main__":
    main()
