"""A document as `kvfold eval --json` writes it, made up: plausible curves, the same at every call.

    python3 sample.py > sample.json"""
import json
import math
import random

LAYERS, STRETCHES, REGION = 16, 64, 1788
TEXTS = ("prose.txt", "code.txt")
SEEDS = (1, 2)
RATIOS = (4, 8, 16, 32)
# method: KL at 8x, study and solve seconds at 8x
METHODS = {"keep_last": (0.211, 0, 0), "keep_random": (0.31, 0, 0), "select": (0.135, 0.9, 0.5), "solver": (0.106, 4.4, 1.5),
           "refine": (0.088, 4.4, 2.7), "omp": (0.081, 4.4, 9.5)}
TASKS = {"continuation": 1.0, "questions": 1.6, "memory": 1.2, "chat": 0.5}
BASELINES = ("keep_last", "keep_random")


def layers(method, chance):
    found = []
    for layer in range(LAYERS):
        kept = [REGION / 8 / STRETCHES * (0.2 + 3 * chance.random() ** 3 + (2.5 if stretch > 58 else 0)) for stretch in range(STRETCHES)]
        error = METHODS[method][0] * (0.4 + 1.8 * layer / LAYERS) * math.exp(chance.gauss(0, 0.15))
        found.append({"layer": layer, "output_error": error, "mass_error": error ** 2 * chance.uniform(0.8, 1.6),
                      "kept": [round(cells, 2) for cells in kept]})
    return found


def one_run(task, text, seed, method, ratio, chance):
    kl8, study, solve = METHODS[method]
    kl = kl8 * TASKS[task] * (ratio / 8) ** 0.7 * math.exp(chance.gauss(0, 0.2))
    run = {"task": task, "text": text, "offset": 0, "seed": seed, "cache": "f16", "method": method, "ratio": ratio,
           "cells_before": 2048, "cells_after": 2048 // ratio, "bytes_before": 47185920, "bytes_after": 47185920 // ratio,
           "kl": kl, "top1": 1 / (1 + kl), "dnll": kl / 2, "nll": 2.5 + kl / 2, "nll_full": 2.5, "study_s": study,
           "solve_s": solve * (8 / ratio) ** 0.5, "swap_s": 0.012, "peak_extra_mb": 118.0 + 4 * solve}
    if task != "continuation":
        run |= {"exact": 0.62 / (1 + 2 * kl), "exact_full": 0.62}
    if task == "questions":
        run["by_depth"] = [{"depth": d, "nll": 1 + kl * (2 - d), "nll_full": 1.1 - 0.3 * d, "exact": max(0, (0.5 + 0.3 * d) / (1 + 3 * kl)),
                            "exact_full": 0.55 + 0.3 * d} for d in (0.05, 0.25, 0.5, 0.75, 0.95)]
    if task == "memory":
        run |= {"f1": 0.7 / (1 + 2 * kl), "f1_full": 0.7}
        run["by_depth"] = [{"depth": d, "nll": 1 + kl * (2 - d), "nll_full": 1.1 - 0.3 * d, "exact": max(0, (0.4 + 0.3 * d) / (1 + 3 * kl)),
                            "exact_full": 0.5 + 0.3 * d, "f1": max(0, (0.5 + 0.3 * d) / (1 + 3 * kl)), "f1_full": 0.6 + 0.3 * d}
                           for d in (0.05, 0.35, 0.65, 0.95)]
    if task == "chat":
        run["rounds"] = [{"round": r, "kl": kl * (0.4 + 0.2 * r), "cells": 512 + 40 * (r % 3), "cells_full": 500 + 420 * r,
                          "exact": 1 / (1 + kl * r), "exact_full": 1, "nll": 0.1 + kl * r / 3, "nll_full": 0.1} for r in range(1, 9)]
    if method not in BASELINES:
        run["layers"] = layers(method, chance)
    return run


def mean_of(runs):
    """What eval makes of the runs of one row: entries of lists are averaged one by one."""
    first = runs[0]
    if isinstance(first, dict):
        return {key: mean_of([run[key] for run in runs]) for key in first}
    if isinstance(first, list):
        return [mean_of(list(entries)) for entries in zip(*runs)]
    return first if isinstance(first, str) else sum(runs) / len(runs)


def row_of(runs):
    left_out = ("text", "offset", "seed", "layers")
    row = mean_of([{key: value for key, value in run.items() if key not in left_out} for run in runs])
    kls = [run["kl"] for run in runs]
    return row | {"runs": len(runs), "kl_min": min(kls), "kl_max": max(kls), "kl_geomean": math.exp(sum(map(math.log, kls)) / len(kls))}


def full_rows(task):
    base = {"task": task, "method": "full", "runs": 4, "cells_before": 2048, "cells_after": 2048, "bytes_before": 47185920, "study_s": 0,
            "solve_s": 0, "swap_s": 0, "peak_extra_mb": None}
    for cache, ratio, kl in (("q8_0", 16 / 8.5, 0.006), ("q4_0", 16 / 4.5, 0.06)):
        kl *= TASKS[task]
        yield base | {"cache": cache, "ratio": ratio, "bytes_after": int(47185920 / ratio), "kl": kl, "kl_min": kl * 0.8, "kl_max": kl * 1.3,
                      "kl_geomean": kl, "top1": 1 / (1 + kl), "dnll": kl / 3, "nll": 2.5 + kl / 3, "nll_full": 2.5}


def document():
    chance, rows, runs = random.Random(1), [], []
    for task in TASKS:
        for method in METHODS:
            for ratio in RATIOS:
                own = [one_run(task, text, seed, method, ratio, chance) for text in TEXTS for seed in SEEDS]
                rows.append(row_of(own))
                runs += own
        rows += full_rows(task)
    return {"model": "SmolLM2-135M-Instruct", "command": "kvfold eval -m SmolLM2-135M-Instruct.Q4_1.gguf -c 2048 --ratios 4,8,16,32",
            "context": 2048, "threads": 2, "cache_type_k": "f16", "cache_type_v": "f16", "kvfold": "0.1.0", "llama_cpp": "0.0.0",
            "texts": list(TEXTS), "offsets": [0], "seeds": list(SEEDS), "prefill_s": 9.1, "noise_floor_kl": 0.0031,
            "noise_floors": {"continuation": 0.0031, "questions": 0.0042, "memory": 0.0038}, "rows": rows, "runs": runs}


if __name__ == "__main__":
    print(json.dumps(document()))
