#!/usr/bin/env python3
"""Runs the commands behind docs/results.md and writes it: about 15 minutes on two idle cores.

    make build && eval "$(scripts/setup --print-env)" && export KVFOLD_MODEL_SMOL KVFOLD_MODEL_GEMMA
    bench/results.py
"""

import json
import math
import os
import pathlib
import platform
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
TEXTS = ["bench/texts/prose.txt", "bench/texts/dialogue.txt", "bench/texts/code.txt", "bench/texts/manual.txt",
         "/usr/share/common-licenses/GPL-3"]
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


def geometric_mean(values):
    return math.exp(sum(map(math.log, values)) / len(values))


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def quality(title, model, context, ratio, methods):
    """KL by text and method, geometric means, and times relative to the prefill."""
    reports, command = {}, ""
    for text in TEXTS:
        command, reports[text] = kvfold("eval", "-m", model, "-f", text, "-c", context, "--ratios", ratio,
                                        "--methods", ",".join(methods))
    kl = {m: [row["kl"] for r in reports.values() for row in r["rows"] if row["method"] == m] for m in methods}
    rows = [[pathlib.Path(text).name] + [f"{kl[m][i]:.4f}" for m in methods] + [f"{r['noise_floor_kl']:.4f}"]
            for i, (text, r) in enumerate(reports.items())]
    means = {m: geometric_mean(kl[m]) for m in methods}
    rows.append(["**geometric mean**"] + [f"**{means[m]:.4f}**" for m in methods] + [""])
    for base in ("keep_last", "select"):
        rows.append([f"relative to `{base}`"] + [f"{means[m] / means[base]:.2f}" for m in methods] + [""])

    def over_texts(figure):
        return [f"{figure(m)}" for m in methods]

    def mean_of(m, value):
        values = [value(r, row) for r in reports.values() for row in r["rows"] if row["method"] == m]
        return sum(values) / len(values)

    rows.append(["top-1 agreement"] + over_texts(lambda m: f"{mean_of(m, lambda r, row: row['top1']):.1%}") + [""])
    rows.append(["solve, seconds"] + over_texts(lambda m: f"{mean_of(m, lambda r, row: row['solve_s']):.1f}") + [""])
    rows.append(["study + solve / prefill"] + over_texts(
        lambda m: f"{mean_of(m, lambda r, row: (row['study_s'] + row['solve_s']) / r['prefill_s']):.2f}") + [""])
    header = ["KL, nats"] + [f"`{m}`" for m in methods] + ["noise floor"]
    return f"## {title}\n\n{table(header, rows)}\nFor each text:\n\n```sh\n{command}\n```\n"


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


def main():
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True,
                            check=True).stdout.strip()
    fits = ["keep_last", "select", "solver", "refine"]
    sections = [
        "# Results\n",
        f"Written by `bench/results.py` at commit {commit}, {platform.machine()}, {os.cpu_count()} processors. KL is "
        "the mean over the next 256 tokens of the divergence of the next-token distribution from that of the full "
        "cache; the noise floor is the full cache with its cells in another order. `keep_last` keeps the first four "
        "and the newest cells. The texts are in `bench/texts/`; GPL-3 is the copy in Debian's "
        "`/usr/share/common-licenses`.\n",
    ]
    for measure in (
        lambda: quality("SmolLM2-135M-Instruct, 2048 tokens, 8x", SMOL, 2048, 8, fits),
        lambda: quality("Gemma 3 270M, 4096 tokens, 8x (its global layers)", GEMMA, 4096, 8, fits),
        lambda: speed("Speed, SmolLM2-135M-Instruct, 7168 tokens", SMOL, 7168, "1,4,8,16,64"),
        lambda: long_context("SmolLM2-135M-Instruct, 6144 tokens, 8x, GPL-3", SMOL, 6144, TEXTS[-1]),
    ):
        sections.append(measure())
        (ROOT / "docs/results.md").write_text("\n".join(sections))


if __name__ == "__main__":
    main()
