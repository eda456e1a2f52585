#!/usr/bin/env python3
"""Measures the tables of docs/results.md, and the README's table of cost and worth: some hours on two idle cores. Each
table names its commit.

    eval "$(scripts/setup --print-env)" && export KVFOLD_MODEL_SMOL KVFOLD_MODEL_GEMMA
    export KVFOLD_MODEL_OTHER=model.gguf    # optional: stands beside the two in the table of models
    bench/results.py growth speed           # builds, measures and prints two tables
    bench/results.py growth speed --write   # puts them into the file
    bench/results.py --write                # all tables; the README's rows with those that they are taken from
    bench/results.py models --texts chat.txt,german.txt --ratios 8 --seeds 1    # prints a smaller one
    bench/results.py advice     # what types of cache lose, for `kvfold advise`
    bench/results.py methods    # an experiment of its own: all methods, for docs/experiments/ and `kvfold methods`

Where changes are not committed the commit would not say what was measured, so such a tree is refused. With --dirty it
is measured all the same, and the table says so. An interrupted run goes on where it was: what each command measured
stays in build/results/COMMIT/.
"""

import argparse
import datetime
import functools
import hashlib
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import tempfile

import gguf_name
from pages import geomean, section, with_marked, wrapped

ROOT = pathlib.Path(__file__).resolve().parent.parent
CODE, MANUAL, PROSE = (f"bench/texts/{name}.txt" for name in ("code", "manual", "prose"))
LONG_TEXTS = [PROSE, "bench/texts/dialogue.txt", CODE, MANUAL, "/usr/share/common-licenses/GPL-3"]  # 4353 of Gemma's
SIX_TEXTS = [*LONG_TEXTS, "src/state/sequence_state.cpp"]
# Six kinds of English, German and French: what the models stand side by side on.
MODEL_TEXTS = [*LONG_TEXTS, *(f"bench/texts/{name}.txt" for name in ("chat", "german", "french"))]
TEXTS = [*SIX_TEXTS, *MODEL_TEXTS[len(LONG_TEXTS):], "bench/texts/countries.json", "bench/texts/zones.tab"]
# Few passages of one stand in another: where a text repeats itself, a full cache copies and a compact one cannot.
LICENCES = ["GPL-3", "GFDL-1.3", "LGPL-2.1", "MPL-1.1", "MPL-2.0", "CC0-1.0", "Artistic", "Apache-2.0"]
SMOL, GEMMA, OTHER = "$KVFOLD_MODEL_SMOL", "$KVFOLD_MODEL_GEMMA", "$KVFOLD_MODEL_OTHER"
RATIOS, MODEL_RATIOS, SEEDS = (4, 8, 32), (4, 8), (1, 2)
RECALLED = 16  # the default of `kvfold serve --recall`
FOLLOWING = ["fast", "balanced", "best"]  # the methods that follow the model
METHODS = ["keep_last", *FOLLOWING]
kept_folder = None  # of what the commands of this commit have measured; None: the tree is dirty


@functools.cache
def kvfold(*arguments):
    """Runs the command with --json and returns (what a reader would type, its JSON)."""
    typed = " ".join(["build/bin/kvfold", *arguments])
    kept = kept_folder and kept_folder / f"{hashlib.sha256(typed.encode()).hexdigest()[:16]}.json"
    if kept and kept.exists():
        return typed, json.loads(kept.read_text())
    print(typed, file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "out.json"
        subprocess.run([ROOT / "build/bin/kvfold", *map(os.path.expandvars, arguments), "--json", out], cwd=ROOT,
                       check=True, stdout=subprocess.DEVNULL)
        measured = out.read_text()
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(measured)
    return typed, json.loads(measured)


def evaluate(model, context, ratios, methods, texts=(), seeds=(1,), options=()):
    """One `kvfold eval`. Methods of one task and ratio must keep equally many cells: else they cannot be compared."""
    files = [word for text in texts for word in ("-f", text)]
    command, report = kvfold("eval", "-m", model, *options, *files, "-c", str(context), "--ratios",
                             ",".join(map(str, ratios)), "--methods", ",".join(methods), "--seeds",
                             ",".join(map(str, seeds)))
    cells = {}
    for row in report["rows"]:
        cells.setdefault((row["task"], row["ratio"]), {})[row["method"]] = row["cells_after"]
    for of, by_method in cells.items():
        if len(set(by_method.values())) != 1:
            sys.exit(f"{of}: the methods keep different numbers of cells: {by_method}")
    return command, report


def cost(row, report):
    """Study and solve, the prefill being 1."""
    return (row["study_s"] + row["solve_s"]) / report["prefill_s"]


def of_method(report, task="continuation"):
    return {row["method"]: row for row in report["rows"] if row["task"] == task}


def kept_cells(report):
    cells = {f"{row['cells_after']:.0f} of {row['cells_before']:.0f} cells" for row in report["rows"]}
    return " or ".join(sorted(cells))


def quality_report(ratio, model=SMOL, texts=SIX_TEXTS, seeds=SEEDS):
    return evaluate(model, 2048, [ratio], METHODS, texts, seeds)


def quality(title, measured):
    """KL by text and method, means over the seeds of the study, and geometric means over texts with their spread."""
    command, report = measured
    kl = {(run["method"], run["text"], run["seed"]): run["kl"] for run in report["runs"]}
    baseline = of_method(report)["keep_last"]
    rows = []
    for row in report["rows"]:
        method = row["method"]
        by_text = [f"{statistics.fmean(kl[method, text, seed] for seed in report['seeds']):.4f}"
                   for text in report["texts"]]
        by_seed = [geomean([kl[method, text, seed] for text in report["texts"]]) for seed in report["seeds"]]
        rows.append([f"`{method}`", *by_text, f"**{row['kl_geomean']:.4f}**",
                     f"{min(by_seed):.4f} - {max(by_seed):.4f}",
                     f"**{row['kl_geomean'] / baseline['kl_geomean']:.2f}**", f"{row['top1']:.1%}",
                     f"{cost(row, report):.2f}"])
    words = (f"KL in nats. Every method keeps {kept_cells(report)}. Seeds: {len(report['seeds'])}. "
             f"Noise floor: {report['noise_floor_kl']:.4f}. Prefill: {report['prefill_s']:.1f} s.")
    header = ["method", *report["texts"], "geometric mean", "by seed", "/ `keep_last`", "top-1",
              "study + solve / prefill"]
    return section(title, words, header, rows, command)


def models(texts=MODEL_TEXTS, ratios=MODEL_RATIOS, seeds=SEEDS):
    """Models side by side, on the same texts."""
    chosen = [model for model in (SMOL, GEMMA, OTHER) if model[1:] in os.environ]
    measured = {(model, ratio): quality_report(ratio, model, texts, seeds) for model in chosen for ratio in ratios}
    rows = [[f"{ratio:g}x", f"`{method}`", *[share_of_keep_last(measured[model, ratio][1], method) for model in chosen]]
            for ratio in ratios for method in METHODS]
    files = {model: os.path.expandvars(model) for model in chosen}
    names = [gguf_name.model_name(file) for file in files.values()]
    hashes = [f"{name} is {pathlib.Path(file).name}, SHA-256 {gguf_name.short_hash(file)}"
              for name, file in zip(names, files.values())]
    words = (f"KL over that of `keep_last`, and in parentheses KL in nats: geometric means over the texts. Texts: "
             f"{', '.join(pathlib.Path(text).name for text in texts)}. Seeds: {len(seeds)}. In Gemma only the "
             f"global layers are folded. {'; '.join(hashes)}.")
    if OTHER not in chosen:
        words += " `KVFOLD_MODEL_OTHER` was not set."
    return section("Models side by side, 2048 tokens", words, ["ratio", "method", *names], rows,
                   *[command for command, _ in measured.values()])


def share_of_keep_last(report, method):
    rows = of_method(report)
    kl = rows[method]["kl_geomean"]
    return f"{kl / rows['keep_last']['kl_geomean']:.2f} ({kl:.4f})"


def speed():
    command, report = kvfold("bench", "-m", SMOL, "-c", "7168", "--ratios", "1,4,8,16,64")
    rows = [[f"{row['ratio']:g}x", str(row["cells"]), f"{row['decode_tok_s']:.1f}",
             f"{row['decode_tok_s_min']:.1f} - {row['decode_tok_s_max']:.1f}", f"{row['speedup']:.2f}",
             f"{row['turn_ms']:.0f}", f"{row['bytes'] / 1e6:.1f}", f"{row['study_s']:.1f}", f"{row['solve_s']:.1f}",
             f"{row['peak_extra_mb']:.0f}"] for row in report["rows"]]
    base = report["baseline"]
    words = (f"Medians of {report['rounds']} interleaved rounds; prefill {report['prefill_s']:.1f} s. The full cache "
             f"in a context that kvfold never touched: {base['stock_tok_s']:.1f} tok/s "
             f"({base['stock_tok_s_min']:.1f} - {base['stock_tok_s_max']:.1f}). In one that kvfold read and put back: "
             f"{base['kvfold_tok_s']:.1f} "
             f"({base['kvfold_tok_s_min']:.1f} - {base['kvfold_tok_s_max']:.1f}), overhead {base['overhead']:+.1%}.")
    header = ["ratio", "cells", "decode tok/s", "min - max", "speedup", "next turn of 64 tokens, ms", "state, MB",
              "study, s", "solve, s", "peak extra memory, MB"]
    return section("Speed, SmolLM2-135M-Instruct, 7168 tokens", words, header, rows, command)


def growth():
    """Study and solve by length, at one kept cell in eight."""
    text = ROOT / "build/licences.txt"
    folder = pathlib.Path("/usr/share/common-licenses")
    text.write_text("".join((folder / name).read_text() for name in LICENCES))
    rows, commands = [], [f"(cd {folder} && cat {' '.join(LICENCES)}) > build/licences.txt"]
    for context in (4096, 16384, 30000):
        command, report = evaluate(GEMMA, context, [8], ["keep_last", "refine"], ["build/licences.txt"])
        commands.append(command)
        refine, thousands = of_method(report)["refine"], context / 1000
        seconds = [report["prefill_s"], refine["study_s"], refine["solve_s"], refine["study_s"] + refine["solve_s"]]
        rows.append([str(context), *[f"{each / thousands:.2f}" for each in seconds],
                     f"{refine['bytes_before'] / 1e6:.0f}", f"{refine['peak_extra_mb']:.0f}",
                     f"{of_method(report)['keep_last']['kl']:.4f}", f"{refine['kl']:.4f}",
                     f"{report['noise_floor_kl']:.4f}"])
    header = ["tokens", "prefill", "study", "solve", "study + solve", "state, MB", "peak extra memory, MB",
              "KL `keep_last`", "KL `refine`", "noise floor"]
    return section("Growth, Gemma 3 270M, 4096 to 30000 tokens, 8x",
                   "Times in seconds for each 1000 tokens of context.", header, rows, *commands)


def recall_report():
    return evaluate(SMOL, 1024, [8], METHODS, [PROSE, MANUAL], seeds=(1, 2),
                    options=("--tasks", "questions,copy", "--recall", f"0,{RECALLED}"))


def with_recall(method):
    """The name of its rows with cells recalled."""
    return f"{method} +{RECALLED}"


def recall():
    """Answers to questions about the context, and copies of it."""
    command, report = recall_report()
    rows = [[row["task"], f"`{row['method'].removesuffix(f' +{RECALLED}')}`", f"{row['cells_after']:.0f}",
             f"{row['exact']:.0%}", f"{row['nll'] - row['nll_full']:+.2f}", f"{row['kl']:.3f}"]
            for row in report["rows"]]
    full = [f"{task}: {row['exact_full']:.0%} exact, nll {row['nll_full']:.2f}."
            for task in ("questions", "copy") for row in [of_method(report, task)["keep_last"]]]
    words = (f"The full cache: {' '.join(full)} Where {RECALLED} cells more are kept, they are recalled from an "
             "archive for each question and as the answer goes on.")
    header = ["task", "method", "cells of 1024", "exact", "nll - full cache's", "KL"]
    return section("Recall, SmolLM2-135M-Instruct, 1024 tokens, 8x", words, header, rows, command)


def chat():
    """A conversation folded again and again: KL of what is said and recall of what was told first, by round, with the
    first 4 cells never folded and with all cells of what was told."""
    pinned, rows, folds, commands = 320, [], [], []
    figures = {"KL": lambda each: f"{each['kl']:.3f}", "exact": lambda each: f"{each['exact']:.0%}",
               "nll": lambda each: f"{each['nll']:.2f}", "cells": lambda each: f"{each['cells']:.0f}"}
    of_full = {"exact": lambda each: f"{each['exact_full']:.0%}", "nll": lambda each: f"{each['nll_full']:.2f}",
               "cells": lambda each: f"{each['cells_full']:.0f}"}
    for keep_first in (4, pinned):
        command, report = kvfold("eval", "-m", SMOL, "--tasks", "chat", "-c", "3072", "--ratios", "8", "--methods",
                                 "keep_last,refine", "--keep-first", str(keep_first))
        commands.append(command)
        for row in report["rows"]:
            folds.append(f"`{row['method']}` with {keep_first}: {sum(each['folds'] for each in row['rounds']):.0f}")
            rows += [[f"`{row['method']}`", str(keep_first), name, *map(figure, row["rounds"])]
                     for name, figure in figures.items()]
    rounds = report["rows"][0]["rounds"]
    rows += [["full cache", "", name, *map(figure, rounds)] for name, figure in of_full.items()]
    words = (f"KL of what the assistant says, and recall of eight facts told in the first {pinned} tokens. Folds in "
             f"all: {', '.join(folds)}.")
    header = ["", "never folded", "round", *[str(each["round"]) for each in rounds]]
    return section("A conversation folded again and again, SmolLM2-135M-Instruct", words, header, rows, *commands)


TABLES = {
    **{f"quality_{ratio}x": lambda ratio=ratio: quality(f"SmolLM2-135M-Instruct, 2048 tokens, {ratio}x",
                                                        quality_report(ratio)) for ratio in RATIOS},
    "quality_gemma": lambda: quality("Gemma 3 270M, 4096 tokens, 8x (its global layers)",
                                     evaluate(GEMMA, 4096, [8], METHODS, LONG_TEXTS)),
    "models": models,
    "speed": speed,
    "growth": growth,
    "recall": recall,
    "chat": chat,
}
OTHERS = ("methods", "advice")  # what is measured and is no table of docs/results.md
OF_README = ("quality_8x", "recall")  # what its rows are made of


def cost_and_worth():
    """The README's three rows."""
    _, continuation = quality_report(8)
    questions = of_method(recall_report()[1], "questions")
    rows = of_method(continuation)
    lines = [f"| method | study + solve / prefill | KL / `keep_last`'s | top-1 | facts answered (full cache "
             f"{questions['keep_last']['exact_full']:.0%}, `keep_last` {questions['keep_last']['exact']:.0%}) | with "
             f"{RECALLED} cells recalled |", "|" + " --- |" * 6]
    for method in FOLLOWING:
        share = rows[method]["kl_geomean"] / rows["keep_last"]["kl_geomean"]
        lines.append(f"| `{method}` | {cost(rows[method], continuation):.2f} | {share:.2f} | "
                     f"{rows[method]['top1']:.1%} | {questions[method]['exact']:.0%} | "
                     f"{questions[with_recall(method)]['exact']:.0%} |")
    return "\n".join(lines) + "\n"


def stamped(table, how):
    """The table's section with what it was measured on below its heading."""
    return table.replace("\n\n", f"\n\n{wrapped(how)}\n\n", 1)


def write_tables(names, how, commit):
    """One by one: an interrupted run leaves the tables that it has measured."""
    page, readme = ROOT / "docs/results.md", ROOT / "README.md"
    has_rows = bool(set(OF_README) & set(names))
    # Both or neither, or the rows would not be those of the tables.
    for name in dict.fromkeys([*names, *(OF_README if has_rows else ())]):
        table = stamped(TABLES[name](), how)
        if git("rev-parse", "--short", "HEAD") != commit:
            sys.exit(f"the commit changed during the run: {name} is not written")
        page.write_text(with_marked(page.read_text(), name, table))
    if has_rows:
        readme.write_text(with_marked(readme.read_text(), "cost and worth", cost_and_worth()))


FIGURES = """// Written by `bench/results.py methods`: not to be edited by hand.
// clang-format off
#pragma once

#include "method/measured.h"

#include <array>

namespace kvfold {{

inline constexpr std::string_view kMeasuredHow =
    "Measured on SmolLM2-135M-Instruct, 1024 tokens, 8x, 2 texts; see docs/experiments.";

inline constexpr std::array kMeasured = {{
{entries}
}};

}} // namespace kvfold
"""


def methods(how, today):
    """All methods. A method whose heads have budgets of their own takes up to twice the cells that its ratio says, so
    it is asked for twice the ratio, and the table says how many cells it took."""
    listed = json.loads(subprocess.run([ROOT / "build/bin/kvfold", "methods", "--json"], check=True, text=True,
                                       stdout=subprocess.PIPE).stdout)
    names = [method["name"] for method in listed if method["name"] != "nonuniform"]
    command, report = evaluate(SMOL, 1024, [8], names, [CODE, MANUAL])
    uneven_command, uneven = kvfold("eval", "-m", SMOL, "-f", CODE, "-f", MANUAL, "-c", "1024", "--ratios", "16",
                                    "--methods", "nonuniform")
    baseline = of_method(report)["keep_last"]
    measured = report["rows"] + [of_method(uneven)["nonuniform"]]
    if any(row["cells_after"] > baseline["cells_after"] for row in measured):
        sys.exit("a method takes more cells than the others: it cannot be compared with them")
    rows, entries = [], []
    for row in sorted(measured, key=lambda row: row["kl_geomean"]):
        relative = row["kl_geomean"] / baseline["kl_geomean"]
        rows.append([f"`{row['method']}`", f"{row['cells_after']:.0f}", f"{row['kl_geomean']:.4f}", f"{relative:.2f}",
                     f"{row['top1']:.1%}", f"{row['study_s']:.1f}", f"{row['solve_s']:.1f}",
                     f"{cost(row, report):.2f}"])
        entries.append(f'    Measured{{"{row["method"]}", {cost(row, report):.2f}, {relative:.2f}}},')
    header = ["method", "cells", "KL, geometric mean", "/ `keep_last`", "top-1", "study, s", "solve, s",
              "study + solve / prefill"]
    words = (f"{how} SmolLM2-135M-Instruct, 1024 tokens, 8x, code and manual. `nonuniform` takes up to twice the cells "
             f"that its ratio says, so it is asked for 16x. Noise floor: {report['noise_floor_kl']:.4f}. Prefill: "
             f"{report['prefill_s']:.1f} s.")
    text = section("All methods side by side", words, header, rows, command, uneven_command)
    (ROOT / f"docs/experiments/{today}-all-methods.md").write_text(text.removeprefix("#"))
    (ROOT / "src/method/measured_figures.h").write_text(FIGURES.format(entries="\n".join(entries)))


LOSSES = """// Written by `bench/results.py advice`: not to be edited by hand.
// clang-format off
#pragma once

#include "measure/advice.h"

#include <array>

namespace kvfold {{

inline constexpr std::string_view kLossesHow = "{how}";

inline constexpr std::array kCacheLosses = {{
{entries}
}};

}} // namespace kvfold
"""


def advice(commit):
    """What a cache of each type loses, whole and folded by the default method, at equal bytes."""
    types, method = ["q8_0", "q4_0"], "balanced"
    _, report = kvfold("eval", "-m", SMOL, "-f", TEXTS[0], "-f", TEXTS[3], "-c", "2048", "--ratios", "4,8,16",
                       "--methods", method, "--also", ",".join(types))
    losses = {"f16": {1.0: 0.0}}
    for row in report["rows"]:
        if row["method"] not in (method, "full"):
            continue
        losses.setdefault(row["cache"], {})[row["cells_before"] / row["cells_after"]] = row["kl_geomean"]
    entries = [f"    CacheLoss{{GGML_TYPE_{name.upper()}, {ratio:.4g}, {kl:.4f}}},"
               for name, measured in losses.items() for ratio, kl in sorted(measured.items())]
    how = f"Measured on SmolLM2-135M-Instruct, 2048 tokens, {method}, 2 texts, at commit {commit}."
    (ROOT / "src/measure/advice_figures.h").write_text(LOSSES.format(how=how, entries="\n".join(entries)))


def git(*arguments):
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def processor():
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*: (.*)", cpuinfo.read_text() if cpuinfo.exists() else "", re.MULTILINE)
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} processors"


def whole_numbers(words):
    return tuple(int(word) for word in words.split(","))


def chosen_texts(names):
    by_name = {pathlib.Path(text).name: text for text in TEXTS}
    for name in set(names.split(",")) - set(by_name):
        raise argparse.ArgumentTypeError(f"there is no text {name}; there are {', '.join(by_name)}")
    return [by_name[name] for name in names.split(",")]


def main():
    global kept_folder
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machine", default=processor(), help="what the files say they were measured on")
    parser.add_argument("--dirty", action="store_true", help="measure changes that are not committed; the files say so")
    parser.add_argument("tables", nargs="*", metavar="TABLE",
                        help=f"{', '.join([*TABLES, *OTHERS])}; default: {' '.join(TABLES)}")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/results.md and the README")
    parser.add_argument("--texts", type=chosen_texts, help="of the table of models: names, a comma between them")
    parser.add_argument("--ratios", type=whole_numbers, help="of the table of models (default: 4,8)")
    parser.add_argument("--seeds", type=whole_numbers, help="of the table of models (default: 1,2)")
    given = parser.parse_args()
    fewer = {name: getattr(given, name) for name in ("texts", "ratios", "seeds") if getattr(given, name)}
    names = given.tables or list(TABLES)
    if unknown := set(names) - set(TABLES) - set(OTHERS):
        parser.error(f"there is no table {', '.join(sorted(unknown))}")
    if fewer and (names != ["models"] or given.write):
        parser.error("--texts, --ratios and --seeds go with the table of models alone, and the file shows all")
    if set(names) & set(OTHERS) and (len(names) > 1 or given.write):
        parser.error(f"{' and '.join(OTHERS)} are measured alone, and write files of their own")
    missing = [name for name in (SMOL[1:], GEMMA[1:]) if name not in os.environ]
    if missing:
        sys.exit(f"{', '.join(missing)}: not set")
    commit = git("rev-parse", "--short", "HEAD")
    dirty = bool(git("status", "--porcelain", "--", ".", ":!docs/results.md", ":!README.md"))  # its own files
    if dirty and not given.dirty:
        sys.exit("changes are not committed: commit them, or measure them with --dirty")
    subprocess.run(["make", "build"], cwd=ROOT, check=True, stdout=sys.stderr)
    kept_folder = None if dirty else ROOT / "build/results" / commit
    today = datetime.date.today().isoformat()
    about = kvfold("bench", "-m", SMOL, "-c", "256", "--ratios", "1", "--rounds", "1")[1]
    how = (f"Measured at commit {commit}{' with changes that are not committed' if dirty else ''}, {today}; "
           f"{given.machine}, {about['threads']} threads, llama.cpp {about['llama_cpp']}.")
    if names == ["methods"]:
        methods(how, today)
    elif names == ["advice"]:
        advice(commit)
    elif given.write:
        write_tables(names, how, commit)
    else:
        for name in names:
            print(stamped(TABLES[name](**fewer), how), flush=True)


if __name__ == "__main__":
    main()
