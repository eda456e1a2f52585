#!/usr/bin/env python3
"""kvfold beside the presses of NVIDIA's kvpress: the same weights, the same text, as many kept cells.

    bench/peers.py             # sets up kvpress (5 GB, once), builds, measures, prints the table; build/peers.json
    bench/peers.py --write     # puts the table into docs/results.md too, which a tree with changes is refused
    bench/peers.py -c 1024 -f bench/texts/chat.txt --presses SnapKVPress --rounds 1

kvfold's rows are those of `kvfold eval`, in llama.cpp. Presses run in transformers (bench/presses.py), which reads the
weights out of the same GGUF file; how near both programs are with full caches is measured first. What cannot be
measured is said below the table.
"""

import argparse
import datetime
import json
import os
import pathlib
import shlex
import statistics
import subprocess
import sys
import tempfile

import results
from pages import geomean, section, with_marked
from results import ROOT

SECTION = "against the others"  # of docs/results.md
KVFOLD = ["keep_last", "refine", "omp_refine"]
PRESSES = ["SnapKVPress", "AdaKVPress", "CriticalAdaKVPress", "KVzipPress", "ExpectedAttentionPress", "TOVAPress",
           "CompactorPress", "StreamingLLMPress", "AttentionMatchingPress"]
# What the table says beside a name.
NOTES = {"AdaKVPress": "over SnapKV", "CriticalAdaKVPress": "over SnapKV", "StreamingLLMPress": "`keep_last`",
         "AttentionMatchingPress": "kvfold's own"}


def set_up(option):
    """What scripts/setup prints: {name: value}."""
    done = subprocess.run([ROOT / "scripts/setup", option], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"scripts/setup {option} failed, so there is nothing to compare with; the lines above say what is "
                 "missing")
    return {name: shlex.split(value)[0] if value else ""
            for name, value in (line.split("=", 1) for line in done.stdout.splitlines())}


def package_paths(env):
    """Where bench/presses.py finds the package of this tree, llama-cpp-python, kvpress and what they need."""
    cache = pathlib.Path(env["KVFOLD_PYTHON_EXTRAS"]).parent
    if not (pathlib.Path(env["KVFOLD_LLAMA_PREFIX"]) / "llama_cpp").exists():
        sys.exit(f"{env['KVFOLD_LLAMA_PREFIX']} has no llama-cpp-python, which bench/peers.py reads texts with: unset "
                 "KVFOLD_LLAMA_PREFIX, and scripts/setup builds one")
    needs = [str(folder) for folder in sorted(cache.glob("llama-python-needs-*"))]
    return os.pathsep.join([str(ROOT / "python"), *needs, env["KVFOLD_LLAMA_PREFIX"], env["KVFOLD_PYTHON_EXTRAS"]])


def measure_kvfold(given):
    return results.evaluate(results.SMOL, given.context, [given.ratio], KVFOLD, given.text, results.SEEDS,
                            options=("-t", str(given.threads)))


def measure_presses(given, env):
    library = next(ROOT.glob("build/lib/libkvfold-head.*"))
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "presses.json"
        texts = [word for text in given.text for word in ("--text", text)]
        subprocess.run(
            [env["KVFOLD_PYTHON"], ROOT / "bench/presses.py", "--model", env["KVFOLD_MODEL_SMOL"], *texts, "--context",
             str(given.context), "--ratio", str(given.ratio), "--rounds", str(given.rounds), "--threads",
             str(given.threads), "--presses", ",".join(given.presses), "--json", out],
            cwd=ROOT, check=True,
            env={**os.environ, "PYTHONPATH": package_paths(env), "KVFOLD_HEAD_LIBRARY": str(library),
                 "TQDM_DISABLE": "1"})
        return json.loads(out.read_text())


def kvfold_rows(report):
    """{method, kl by text, top1, cells, share and seconds of compressing}."""
    rows = []
    for row in report["rows"]:
        kl = {}
        for run in report["runs"]:
            if run["method"] == row["method"]:
                kl.setdefault(run["text"], []).append(run["kl"])
        by_text = {text: statistics.fmean(of_seeds) for text, of_seeds in kl.items()}
        rows.append({"method": f"`{row['method']}`", "in": "kvfold", "kl": by_text, "top1": row["top1"],
                     "cells": row["cells_after"], "share": results.cost(row, report),
                     "seconds": row["study_s"] + row["solve_s"]})
    return rows


def press_rows(measured):
    """The same of presses, and what could not be measured: {name: why}."""
    rows, missing = [], {}
    for name in next(iter(measured["texts"].values()))["presses"]:
        by_text = {text: found["presses"][name] for text, found in measured["texts"].items()}
        errors = [f"{text}: {found['error']}" for text, found in by_text.items() if "error" in found]
        if errors:
            missing[name] = "; ".join(errors)
            continue
        rounds = [pair for found in by_text.values() for pair in zip(found["plain_s"], found["pressed_s"])]
        note = f" ({NOTES[name]})" if name in NOTES else ""
        rows.append({"method": f"`{name}`{note}", "in": "kvpress",
                     "kl": {text: found["kl"] for text, found in by_text.items()},
                     "top1": statistics.fmean(found["top1"] for found in by_text.values()),
                     "cells": statistics.fmean(found["cells"] for found in by_text.values()),
                     "share": statistics.median(pressed / plain - 1 for plain, pressed in rounds),
                     "seconds": statistics.median(pressed - plain for plain, pressed in rounds)})
    if not rows:
        sys.exit(f"no press could be measured: {missing}")
    return rows, missing


def check_cells(rows):
    """Caches of different sizes cannot be compared. A share of a cell is lost where a press counts over all heads."""
    wanted = rows[0]["cells"]
    for row in rows:
        if abs(row["cells"] - wanted) >= 1:
            sys.exit(f"{row['method']} keeps {row['cells']:g} cells, and {rows[0]['method']} {wanted:g}")


def about(context, kept, report, measured, how):
    noise = ", ".join(f"{found['noise']['kl']:.4f} ({text})" for text, found in measured["texts"].items())
    plain = statistics.median(seconds for found in measured["texts"].values() for row in found["presses"].values()
                              for seconds in row.get("plain_s", []))
    return (f"Written by `bench/peers.py`. {how} Every method keeps {kept:.0f} of {context} cells, as a mean over "
            "heads and layers. `AdaKVPress`, `CriticalAdaKVPress` and `KVzipPress` spread them unevenly, as cells of "
            "llama.cpp, which hold all heads, cannot; kvpress masks the others and frees nothing there. KL is against "
            "the full cache of the same program, in nats; between the full caches of both programs it is "
            f"{noise}. Seeds of kvfold's studies: {len(report['seeds'])}. Compression is kvfold's study and solve, by "
            "the clock, and what reading the text with a press takes longer than without one, both in turn and in "
            "seconds of the processor; KVzip reads the text a second time. The prefill took "
            f"{report['prefill_s']:.1f} s in llama.cpp, with the file's quantised weights, and {plain:.1f} s in "
            "transformers, in f32.")


def table(context, ratio, command, report, measured, how):
    """The section of docs/results.md. command, report: of kvfold; measured: of the presses."""
    rows, missing = press_rows(measured)
    rows = sorted(kvfold_rows(report) + rows, key=lambda row: geomean(row["kl"].values()))
    check_cells(rows)
    texts = list(measured["texts"])
    many = len(texts) > 1
    cells = [[row["method"], row["in"], *[f"{row['kl'][text]:.4f}" for text in texts],
              *([f"**{geomean(row['kl'].values()):.4f}**"] if many else []), f"{row['top1']:.1%}",
              f"{row['share']:.2f}", f"{row['seconds']:.1f}"] for row in rows]
    words = about(context, rows[0]["cells"], report, measured, how)
    for name, why in missing.items():
        words += f" Not measured: `{name}` ({why})."
    header = ["method", "of", *[f"KL {text}" for text in texts], *(["geometric mean"] if many else []), "top-1",
              "compression / prefill", "compression, s"]
    return section(f"Against the others, SmolLM2-135M-Instruct, {context} tokens, {ratio:g}x", words, header, cells,
                   command, "bench/peers.py --write")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-c", "--context", type=int, default=2048, help="tokens (default: %(default)s)")
    parser.add_argument("--ratio", type=float, default=8, help="cells before / after (default: %(default)s)")
    parser.add_argument("-f", "--text", action="append", help="several times for several texts (default: GPL-3)")
    parser.add_argument("--presses", type=lambda names: names.split(","), default=PRESSES,
                        help="names of kvpress, a comma between them (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of timing, for each text (default: %(default)s)")
    parser.add_argument("-t", "--threads", type=int, default=os.cpu_count(), help="of both programs")
    parser.add_argument("--json", type=pathlib.Path, default=ROOT / "build/peers.json", help="default: %(default)s")
    parser.add_argument("--write", action="store_true", help="put the table into docs/results.md")
    parser.add_argument("--dirty", action="store_true", help="with --write: though changes are not committed")
    parser.add_argument("--machine", default=results.processor(), help="what the table says it was measured on")
    given = parser.parse_args()
    given.text = given.text or ["/usr/share/common-licenses/GPL-3"]
    return given


def main():
    given = arguments()
    commit, dirty = results.git("rev-parse", "--short", "HEAD"), bool(results.git("status", "--porcelain"))
    if given.write and dirty and not given.dirty:
        sys.exit("changes are not committed: commit them, or write the table with --dirty")
    env = {**set_up("--kvpress"), **set_up("--print-env")}
    os.environ["KVFOLD_MODEL_SMOL"] = env["KVFOLD_MODEL_SMOL"]
    subprocess.run(["make", "build"], cwd=ROOT, check=True, stdout=sys.stderr)
    command, report = measure_kvfold(given)
    measured = measure_presses(given, env)
    versions = ", ".join(f"{name} {version}" for name, version in measured["versions"].items())
    how = (f"Commit {commit}{' with changes that are not committed' if dirty else ''}, "
           f"{datetime.date.today().isoformat()}; {given.machine}, {given.threads} threads, llama.cpp "
           f"{report['llama_cpp']}, {versions}.")
    text = table(given.context, given.ratio, command, report, measured, how)
    given.json.write_text(json.dumps({"how": how, "kvfold": {"command": command, **report}, "kvpress": measured,
                                      "table": text}, indent=1))
    print(text)
    if given.write:
        page = ROOT / "docs/results.md"
        page.write_text(with_marked(page.read_text(), SECTION, text))


if __name__ == "__main__":
    main()
