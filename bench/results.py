#!/usr/bin/env python3
"""Runs the commands behind docs/results.md and writes it: hours on two cores.

    make build && eval "$(scripts/setup --print-env)" && export KVFOLD_MODEL_SMOL KVFOLD_MODEL_GEMMA
    bench/results.py             # every section
    bench/results.py growth      # one of them; the others stay as they are
    bench/results.py --machine "one NVIDIA L4 and 8 processors" growth

Section "methods" writes src/method/measured_figures.h too, which `kvfold methods` shows.
"""

import argparse
import json
import math
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
TEXTS = ["bench/texts/prose.txt", "bench/texts/dialogue.txt", "bench/texts/code.txt", "bench/texts/manual.txt",
         "/usr/share/common-licenses/GPL-3", "src/state/sequence_state.cpp"]
# Few passages of one stand in another: where a text repeats itself, a full cache copies and a compact one cannot.
LICENCES = ["GPL-3", "GFDL-1.3", "LGPL-2.1", "MPL-1.1", "MPL-2.0", "CC0-1.0", "Artistic", "Apache-2.0"]
SMOL, GEMMA = "$KVFOLD_MODEL_SMOL", "$KVFOLD_MODEL_GEMMA"


def kvfold(*arguments):
    """Runs the command with --json and returns (what a reader would type, its JSON)."""
    typed = " ".join(["build/bin/kvfold", *map(str, arguments)])
    print(typed, file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "out.json"
        command = [os.path.expandvars(str(word)) for word in arguments]
        subprocess.run([ROOT / "build/bin/kvfold", *command, "--json", out], cwd=ROOT, check=True,
                       stdout=subprocess.DEVNULL)
        return typed, json.loads(out.read_text())


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def with_texts(texts):
    return [word for text in texts for word in ("-f", text)]


def method_cell(row):
    return f"`{row['method']}`" if row["method"] != "full" else "all cells"


def cost(row, report):
    """Study and solve, the prefill being 1."""
    return (row["study_s"] + row["solve_s"]) / report["prefill_s"]


def geomeans(report):
    """KL of each method, of a report of one ratio."""
    return {row["method"]: row["kl_geomean"] for row in report["rows"]}


def geomean(values):
    return math.exp(statistics.fmean(map(math.log, values)))


def quality(title, model, context, ratio, methods, texts=TEXTS, seeds=(1, 2), hindsight=None):
    """KL by text and method, means over the seeds of the study, and geometric means over texts with their spread."""
    options = ["--hindsight", hindsight] if hindsight else []
    command, report = kvfold("eval", "-m", model, *with_texts(texts), "-c", context, "--ratios", ratio, "--methods",
                             ",".join(methods), "--seeds", ",".join(map(str, seeds)), *options)
    kl = {(run["method"], run["text"], run["seed"]): run["kl"] for run in report["runs"]}
    means = geomeans(report)
    rows = []
    for row in report["rows"]:
        method = row["method"]
        by_text = [f"{statistics.fmean(kl[method, text, seed] for seed in seeds):.4f}" for text in report["texts"]]
        by_seed = [geomean([kl[method, text, seed] for text in report["texts"]]) for seed in seeds]
        rows.append([f"`{method}`", *by_text, f"**{means[method]:.4f}**", f"{min(by_seed):.4f} - {max(by_seed):.4f}",
                     f"**{means[method] / means['keep_last']:.2f}**", f"{row['top1']:.1%}",
                     f"{cost(row, report):.2f}"])
    header = ["method", *report["texts"], "geometric mean", "by seed", "/ `keep_last`", "top-1",
              "study + solve / prefill"]
    return (f"## {title}\n\n{table(header, rows)}\nKL in nats, means of {len(seeds)} seed(s); noise floor "
            f"{report['noise_floor_kl']:.4f}; prefill {report['prefill_s']:.1f} s.\n\n```sh\n{command}\n```\n")


FIGURES = """// Written by `bench/results.py methods`: not to be edited by hand.
// clang-format off
#pragma once

#include "method/measured.h"

#include <array>

namespace kvfold {{

inline constexpr std::string_view kMeasuredHow =
    "{how}";

inline constexpr std::array kMeasured = {{
{entries}
}};

}} // namespace kvfold
"""


def methods(title, model, context, ratio, texts):
    """All methods side by side, here and in the program."""
    listed = json.loads(subprocess.run([ROOT / "build/bin/kvfold", "methods", "--json"], check=True, text=True,
                                       stdout=subprocess.PIPE).stdout)
    names = [method["name"] for method in listed]
    command, report = kvfold("eval", "-m", model, *with_texts(texts), "-c", context, "--ratios", ratio, "--methods",
                             ",".join(names))
    means = geomeans(report)
    rows, entries = [], []
    for row in sorted(report["rows"], key=lambda row: row["kl_geomean"]):
        relative = means[row["method"]] / means["keep_last"]
        rows.append([f"`{row['method']}`", f"{row['kl_geomean']:.4f}", f"{relative:.2f}", f"{row['top1']:.1%}",
                     f"{row['study_s']:.1f}", f"{row['solve_s']:.1f}", f"{cost(row, report):.2f}"])
        entries.append(f'    Measured{{"{row["method"]}", {cost(row, report):.2f}, {relative:.2f}}},')
    name = title.split(",")[0]
    how = f"Measured on {name}, {context} tokens, {ratio}x, {len(texts)} texts; see docs/results.md."
    (ROOT / "src/method/measured_figures.h").write_text(FIGURES.format(entries="\n".join(entries), how=how))
    header = ["method", "KL, geometric mean", "/ `keep_last`", "top-1", "study, s", "solve, s",
              "study + solve / prefill"]
    return (f"## {title}\n\n{table(header, rows)}\nNoise floor {report['noise_floor_kl']:.4f}; prefill "
            f"{report['prefill_s']:.1f} s. `nonuniform` takes more cells than the ratio says.\n\n```sh\n{command}\n```\n")


def recall(title, model, context, texts, tasks, ratios, methods, types, seeds):
    """Answers to questions about the context, at equal bytes."""
    command, report = kvfold("eval", "-m", model, "--tasks", ",".join(tasks), *with_texts(texts), "-c", context,
                             "--ratios", ",".join(map(str, ratios)), "--methods", ",".join(methods),
                             "--also", ",".join(types), "--seeds", ",".join(map(str, seeds)))
    rows = [[row["task"], row["cache"], method_cell(row),
             f"{row['ratio']:.1f}x", f"{row['exact']:.0%}", f"{row['nll'] - row['nll_full']:+.2f}", f"{row['kl']:.3f}",
             str(row["runs"])] for row in sorted(report["rows"], key=lambda row: (row["task"], row["ratio"]))]
    full = {row["task"]: f"{row['task']} {row['exact_full']:.0%} exact, nll {row['nll_full']:.2f}"
            for row in report["rows"]}
    header = ["task", "cache", "method", "bytes", "exact", "nll - full cache's", "KL", "runs"]
    return (f"## {title}\n\nThe full f16 cache: {'; '.join(full.values())}. nll: nats a token of the answer.\n\n"
            f"{table(header, rows)}\n```sh\n{command}\n```\n")


def chat(title, model, context, methods, ratio, pinned):
    """A conversation folded again and again: KL of what is said, and recall of what was told first, by round; then the
    same with the first `pinned` cells never folded."""
    figures = {"KL": lambda each: f"{each['kl']:.3f}", "exact": lambda each: f"{each['exact']:.0%}",
               "nll": lambda each: f"{each['nll']:.2f}", "cells": lambda each: f"{each['cells']:.0f}",
               "folds": lambda each: f"{each['folds']:.0f}"}
    of_full = {"exact": lambda each: f"{each['exact_full']:.0%}", "nll": lambda each: f"{each['nll_full']:.2f}",
               "cells": lambda each: f"{each['cells_full']:.0f}"}
    rows, commands = [], []
    for keep_first in (4, pinned):
        command, report = kvfold("eval", "-m", model, "--tasks", "chat", "-c", context, "--ratios", ratio, "--methods",
                                 ",".join(methods), "--keep-first", keep_first)
        commands.append(command)
        rows += [[f"`{row['method']}`", str(keep_first), name, *map(figure, row["rounds"])]
                 for row in report["rows"] for name, figure in figures.items()]
    rounds = report["rows"][0]["rounds"]
    rows += [["full cache", "", name, *map(figure, rounds)] for name, figure in of_full.items()]
    header = ["", "never folded", "round", *[str(each["round"]) for each in rounds]]
    shell = "\n".join(commands)
    return (f"## {title}\n\nKL of what the assistant says, and recall of eight facts told in the first {pinned} tokens.\n\n"
            f"{table(header, rows)}\n```sh\n{shell}\n```\n")


def speed(title, model, context, ratios):
    command, report = kvfold("bench", "-m", model, "-c", context, "--ratios", ratios)
    rows = [[f"{row['ratio']:g}x", str(row["cells"]), f"{row['decode_tok_s']:.1f}",
             f"{row['decode_tok_s_min']:.1f} - {row['decode_tok_s_max']:.1f}", f"{row['speedup']:.2f}",
             f"{row['turn_ms']:.0f}", f"{row['bytes'] / 1e6:.1f}", f"{row['study_s']:.1f}", f"{row['solve_s']:.1f}",
             f"{row['peak_extra_mb']:.0f}"] for row in report["rows"]]
    base = report["baseline"]
    header = ["ratio", "cells", "decode tok/s", "min - max", "speedup", "next turn of 64 tokens, ms", "state, MB",
              "study, s", "solve, s", "peak extra memory, MB"]
    return (f"## {title}\n\n{table(header, rows)}\nMedians of {report['rounds']} interleaved rounds; prefill "
            f"{report['prefill_s']:.1f} s. The full cache in a context that kvfold never touched: "
            f"{base['stock_tok_s']:.1f} tok/s ({base['stock_tok_s_min']:.1f} - {base['stock_tok_s_max']:.1f}); in one "
            f"that kvfold read and put back: {base['kvfold_tok_s']:.1f} ({base['kvfold_tok_s_min']:.1f} - "
            f"{base['kvfold_tok_s_max']:.1f}), overhead {base['overhead']:+.1%}.\n\n```sh\n{command}\n```\n")


def long_context(title, model, context, text):
    command, report = kvfold("eval", "-m", model, "-f", text, "-c", context, "--ratios", 8, "--methods",
                             "keep_last,select,refine")
    rows = [[f"`{r['method']}`", f"{r['kl']:.4f}", f"{r['top1']:.1%}", f"{r['study_s']:.1f}", f"{r['solve_s']:.1f}",
             f"{cost(r, report):.2f}"] for r in report["rows"]]
    header = ["method", "KL", "top-1", "study, s", "solve, s", "study + solve / prefill"]
    return (f"## {title}\n\n{table(header, rows)}\nNoise floor {report['noise_floor_kl']:.4f}; prefill "
            f"{report['prefill_s']:.1f} s.\n\n```sh\n{command}\n```\n")


def equal_bytes(title, model, context, texts, types, ratios, methods):
    """KL against the full f16 cache: geometric means over the texts of caches that take the same bytes."""
    command, report = kvfold("eval", "-m", model, *with_texts(texts), "-c", context,
                             "--ratios", ",".join(map(str, ratios)), "--methods", ",".join(methods),
                             "--also", ",".join(types))
    rows = [[row["cache"], method_cell(row),
             f"{row['cells_before'] / row['cells_after']:.1f}x", f"{row['ratio']:.1f}x", f"{row['kl_geomean']:.4f}",
             f"{row['top1']:.1%}"] for row in sorted(report["rows"], key=lambda row: row["ratio"])]
    header = ["cache", "method", "cells", "bytes", "KL", "top-1"]
    return (f"## {title}\n\nAgainst the full f16 cache, geometric mean over {len(texts)} texts. Rows with the same `bytes` cost "
            f"the same memory.\n\n{table(header, rows)}\n```sh\n{command}\n```\n")


def growth(title, model, contexts):
    """Study and solve by length, at one kept cell in eight."""
    text = ROOT / "build/licences.txt"
    folder = pathlib.Path("/usr/share/common-licenses")
    text.write_text("".join((folder / name).read_text() for name in LICENCES))
    rows, command = [], ""
    for context in contexts:
        command, report = kvfold("eval", "-m", model, "-f", text.relative_to(ROOT), "-c", context, "--ratios", 8,
                                 "--methods", "keep_last,refine")
        kl = {row["method"]: row["kl"] for row in report["rows"]}
        row = report["rows"][-1]
        thousands = context / 1000
        rows.append([str(context), f"{report['prefill_s'] / thousands:.2f}", f"{row['study_s'] / thousands:.2f}",
                     f"{row['solve_s'] / thousands:.2f}", f"{(row['study_s'] + row['solve_s']) / thousands:.2f}",
                     f"{row['bytes_before'] / 1e6:.0f}", f"{row['peak_extra_mb']:.0f}",
                     f"{kl['keep_last']:.4f}", f"{kl['refine']:.4f}", f"{report['noise_floor_kl']:.4f}"])
    header = ["tokens", "prefill", "study", "solve", "study + solve", "state, MB", "peak extra memory, MB",
              "KL `keep_last`", "KL `refine`", "noise floor"]
    return (f"## {title}\n\nTimes in seconds for each 1000 tokens of context.\n\n{table(header, rows)}\n```sh\n"
            f"(cd /usr/share/common-licenses && cat {' '.join(LICENCES)}) > build/licences.txt\n{command}\n```\n")


PRESETS = ["keep_last", "select", "refine", "omp_refine"]
SECTIONS = {
    **{f"quality_{ratio}x": lambda ratio=ratio: quality(f"SmolLM2-135M-Instruct, 2048 tokens, {ratio}x", SMOL, 2048,
                                                        ratio, PRESETS) for ratio in (4, 8, 32)},
    **{f"bound_{ratio}x": lambda ratio=ratio: quality(f"SmolLM2-135M-Instruct, 2048 tokens, {ratio}x, with hindsight",
                                                      SMOL, 2048, ratio, ["keep_last", "refine", "omp_refine"],
                                                      seeds=(1,), hindsight="judged") for ratio in (4, 8, 32)},
    **{f"later_{ratio}x": lambda ratio=ratio: quality(f"SmolLM2-135M-Instruct, 2048 tokens, {ratio}x, knowing how the "
                                                      "text goes on behind what is judged", SMOL, 2048, ratio,
                                                      ["keep_last", "omp_refine"], hindsight="later")
       for ratio in (4, 8)},
    "quality_gemma": lambda: quality("Gemma 3 270M, 4096 tokens, 8x (its global layers)", GEMMA, 4096, 8, PRESETS,
                                     TEXTS[:5], seeds=(1,)),
    "methods": lambda: methods("SmolLM2-135M-Instruct, 1024 tokens, 8x, all methods", SMOL, 1024, 8, TEXTS[2:4]),
    "recall": lambda: recall("Recall, SmolLM2-135M-Instruct, 1024 tokens", SMOL, 1024, TEXTS[:4:3],
                             ["questions", "copy"], [4, 8],
                             ["keep_first", "keep_last", "keep_random", "select", "refine", "omp_refine"], ["q4_0"],
                             [1, 2]),
    "chat": lambda: chat("A conversation folded again and again, SmolLM2-135M-Instruct", SMOL, 3072,
                         ["keep_last", "refine"], 8, pinned=320),
    "speed": lambda: speed("Speed, SmolLM2-135M-Instruct, 7168 tokens", SMOL, 7168, "1,4,8,16,64"),
    "long": lambda: long_context("SmolLM2-135M-Instruct, 6144 tokens, 8x, GPL-3", SMOL, 6144, TEXTS[4]),
    "equal_bytes": lambda: equal_bytes("Compaction and quantisation, SmolLM2-135M-Instruct, 2048 tokens", SMOL, 2048,
                                       TEXTS[:4:3], ["q8_0", "q4_0"], [8, 15.06, 28.44], ["keep_last", "refine"]),
    "growth": lambda: growth("Gemma 3 270M, 4096 to 30000 tokens, 8x", GEMMA, [4096, 16384, 30000]),
}
INTRODUCTION = """# Results

Written by `bench/results.py`; each section names the commit that it was measured at. KL is the mean over the next 256
tokens of the divergence of the next-token distribution from that of the full cache; the noise floor is the full cache
with its cells in another order. `keep_last` keeps the first four and the newest cells. The texts are in
`bench/texts/`, `sequence_state.cpp` is kvfold's own; GPL-3 and other licences are the copies in Debian's
`/usr/share/common-licenses`.
"""


def write_section(section):
    """Into docs/results.md, in place of the section of the same title or behind the others."""
    path = ROOT / "docs/results.md"
    others = re.split(r"^(?=## )", path.read_text(), flags=re.MULTILINE)[1:]
    title = section.splitlines()[0]
    places = [i for i, other in enumerate(others) if other.splitlines()[0] == title]
    if places:
        others[places[0]] = section
    else:
        others.append(section)
    path.write_text("\n".join(part.rstrip("\n") + "\n" for part in [INTRODUCTION, *others]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machine", default=f"{platform.machine()}, {os.cpu_count()} processors",
                        help="what the sections say they were measured on")
    parser.add_argument("section", nargs="*", metavar="SECTION", choices=[*SECTIONS, []],  # []: none given
                        help=f"default: all of them, {', '.join(SECTIONS)}")
    given = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True,
                            check=True).stdout.strip()
    for name in given.section or SECTIONS:
        write_section(f"{SECTIONS[name]()}\nMeasured at commit {commit}, {given.machine}.\n")


if __name__ == "__main__":
    main()
