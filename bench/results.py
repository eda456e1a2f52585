#!/usr/bin/env python3
"""Runs the commands behind docs/results.md and writes it: about 40 minutes on two idle cores.

    make build && eval "$(scripts/setup --print-env)" && export KVFOLD_MODEL_SMOL KVFOLD_MODEL_GEMMA
    bench/results.py             # every section
    bench/results.py growth      # one of them; the others stay as they are
"""

import json
import os
import pathlib
import platform
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
TEXTS = ["bench/texts/prose.txt", "bench/texts/dialogue.txt", "bench/texts/code.txt", "bench/texts/manual.txt",
         "/usr/share/common-licenses/GPL-3"]
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


def quality(title, model, context, ratio, methods):
    """KL by text and method, geometric means, and times relative to the prefill."""
    command, report = kvfold("eval", "-m", model, *with_texts(TEXTS), "-c", context, "--ratios", ratio,
                             "--methods", ",".join(methods))
    means = {row["method"]: row for row in report["rows"]}
    kl = {(run["text"], run["method"]): run["kl"] for run in report["runs"]}
    rows = [[text] + [f"{kl[text, m]:.4f}" for m in methods] for text in report["texts"]]
    rows.append(["**geometric mean**"] + [f"**{means[m]['kl_geomean']:.4f}**" for m in methods])
    for base in ("keep_last", "select"):
        rows.append([f"relative to `{base}`"] +
                    [f"{means[m]['kl_geomean'] / means[base]['kl_geomean']:.2f}" for m in methods])
    rows.append(["top-1 agreement"] + [f"{means[m]['top1']:.1%}" for m in methods])
    rows.append(["solve, seconds"] + [f"{means[m]['solve_s']:.1f}" for m in methods])
    rows.append(["study + solve / prefill"] +
                [f"{(means[m]['study_s'] + means[m]['solve_s']) / report['prefill_s']:.2f}" for m in methods])
    header = ["KL, nats"] + [f"`{m}`" for m in methods]
    return (f"## {title}\n\n{table(header, rows)}\nNoise floor {report['noise_floor_kl']:.4f}.\n\n"
            f"```sh\n{command}\n```\n")


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
             f"{(r['study_s'] + r['solve_s']) / report['prefill_s']:.2f}"] for r in report["rows"]]
    header = ["method", "KL", "top-1", "study, s", "solve, s", "study + solve / prefill"]
    return (f"## {title}\n\n{table(header, rows)}\nNoise floor {report['noise_floor_kl']:.4f}; prefill "
            f"{report['prefill_s']:.1f} s.\n\n```sh\n{command}\n```\n")


def equal_bytes(title, model, context, texts, types, ratios, methods):
    """KL against the full f16 cache: geometric means over the texts of caches that take the same bytes."""
    command, report = kvfold("eval", "-m", model, *with_texts(texts), "-c", context,
                             "--ratios", ",".join(map(str, ratios)), "--methods", ",".join(methods),
                             "--also", ",".join(types))
    rows = [[row["cache"], f"`{row['method']}`" if row["method"] != "full" else "all cells",
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


FITS = ["keep_last", "select", "solver", "refine"]
SECTIONS = {
    "quality": lambda: quality("SmolLM2-135M-Instruct, 2048 tokens, 8x", SMOL, 2048, 8, FITS),
    "quality_gemma": lambda: quality("Gemma 3 270M, 4096 tokens, 8x (its global layers)", GEMMA, 4096, 8, FITS),
    "speed": lambda: speed("Speed, SmolLM2-135M-Instruct, 7168 tokens", SMOL, 7168, "1,4,8,16,64"),
    "long": lambda: long_context("SmolLM2-135M-Instruct, 6144 tokens, 8x, GPL-3", SMOL, 6144, TEXTS[-1]),
    "equal_bytes": lambda: equal_bytes("Compaction and quantisation, SmolLM2-135M-Instruct, 2048 tokens", SMOL, 2048,
                                       TEXTS[:4:3], ["q8_0", "q4_0"], [8, 15.06, 28.44], ["keep_last", "refine"]),
    "growth": lambda: growth("Gemma 3 270M, 4096 to 30000 tokens, 8x", GEMMA, [4096, 16384, 30000]),
}
INTRODUCTION = """# Results

Written by `bench/results.py`; each section names the commit that it was measured at. KL is the mean over the next 256
tokens of the divergence of the next-token distribution from that of the full cache; the noise floor is the full cache
with its cells in another order. `keep_last` keeps the first four and the newest cells. The texts are in
`bench/texts/`; GPL-3 and other licences are the copies in Debian's `/usr/share/common-licenses`.
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


def main(names):
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True,
                            check=True).stdout.strip()
    for name in names or SECTIONS:
        measured_at = f"Measured at commit {commit}, {platform.machine()}, {os.cpu_count()} processors."
        write_section(f"{SECTIONS[name]()}\n{measured_at}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
