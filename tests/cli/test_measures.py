"""eval and bench: the shape of what they report, never how fast or how good."""
import json
import math
import pathlib
import re

from command import CommandTest, TEXTS


class Measures(CommandTest):
    row_keys = {"task", "cache", "method", "ratio", "cells_before", "cells_after", "bytes_before", "bytes_after", "kl", "top1",
                "dnll", "nll", "nll_full", "study_s", "solve_s", "swap_s", "peak_extra_mb"}

    def eval(self, *arguments):
        done = self.with_model("eval", *arguments, "--json", "e.json")
        self.assertEqual(done.returncode, 0, done.stderr)
        for line in done.stdout.splitlines():
            self.assertLessEqual(len(line), 120, line)
        return done.stdout, json.loads((self.folder / "e.json").read_text())

    def test_eval_reports_every_key_and_always_keep_last(self):
        shown, report = self.eval("-f", TEXTS / "manual.txt", "-c", 256, "--methods", "select", "--ratios", "4")
        self.assertLessEqual({"model", "texts", "context", "seeds", "threads", "noise_floor_kl", "prefill_s", "runs"}, set(report))
        self.assertEqual((report["context"], report["texts"]), (256, ["manual.txt"]))
        self.assertEqual([row["method"] for row in report["rows"]], ["keep_last", "select"])
        for row, run in zip(report["rows"], report["runs"], strict=True):
            self.assertLessEqual(self.row_keys | {"runs", "kl_min", "kl_max", "kl_geomean"}, set(row))
            self.assertLessEqual(self.row_keys | {"text", "offset", "seed"}, set(run))
            self.assertEqual((row["task"], row["cells_before"], row["cells_after"]), ("continuation", 256, 64))
            self.assertEqual((row["runs"], row["kl"], row["kl_min"]), (1, run["kl"], run["kl"]))
            self.assertGreaterEqual(row["kl"], 0)
            self.assertNotIn("exact", row)
            self.assertEqual("layers" in run, run["method"] == "select")
        layers = report["runs"][1]["layers"]
        self.assertGreater(len(layers), 1)
        self.assertEqual([layer["layer"] for layer in layers], list(range(len(layers))))
        self.assertAlmostEqual(sum(layers[0]["kept"]), 64 - 4 - 7)  # without head and tail
        self.assertEqual(len(layers[0]["kept"]), 64)
        self.assertIn("(noise floor)", shown)
        self.assertIn("keep_last", shown)

    def test_eval_keeps_what_it_is_told_to_and_says_when_it_had_hindsight(self):
        shown, report = self.eval("-f", TEXTS / "manual.txt", "-c", 256, "--methods", "select", "--ratios", "4",
                                  "--keep-first", 10, "--keep-last", 6, "--hindsight", "judged")
        select = report["runs"][1]
        self.assertAlmostEqual(sum(select["layers"][0]["kept"]), 64 - 10 - 6)
        self.assertEqual(report["hindsight"], "judged")
        self.assertIn("A bound, not a result", shown)
        _, report = self.eval("-f", TEXTS / "manual.txt", "-c", 256, "--methods", "select", "--ratios", "4",
                              "--keep-first", 10, "--keep-last", 6)
        self.assertIsNone(report["hindsight"])
        self.assertGreater(report["runs"][1]["kl"], select["kl"])

    def test_eval_writes_its_document_as_a_report_too(self):
        (self.folder / "texts").mkdir()
        (self.folder / "texts" / "a text.txt").write_text((TEXTS / "manual.txt").read_text())
        arguments = ("-f", "texts/a text.txt", "-c", 256, "--methods", "keep_first,select", "--ratios", "4")
        _, document = self.eval(*arguments, "--html", "report.html")
        html = (self.folder / "report.html").read_text()
        self.assertEqual(json.loads(re.search(r'<script type="application/json"[^>]*>(.*?)</script', html)[1]), document)
        name = pathlib.Path(self.plain).name
        self.assertEqual(document["command"], f"kvfold eval --model {name} --threads 1 --file 'a text.txt' --ctx-size 256 "
                                              "--ratios 4 --methods keep_first,select")
        done = self.with_model("eval", *arguments, "--html", "nowhere/report.html")
        self.assert_fails(done, 1, "nowhere", "create it first")

    def test_eval_runs_several_tasks_texts_and_seeds(self):
        shown, report = self.eval("--tasks", "continuation,copy,questions", "-f", TEXTS / "manual.txt", "-f", TEXTS / "code.txt",
                                  "-c", 384, "--methods", "keep_random", "--seeds", "1,2", "--ratios", "4")
        self.assertEqual([(row["task"], row["method"], row["runs"]) for row in report["rows"]],
                         [(task, method, runs) for task, runs in (("continuation", 4), ("copy", 4), ("questions", 2))
                          for method in ("keep_last", "keep_random")])
        self.assertEqual(len(report["runs"]), 20)
        for row in report["rows"]:
            self.assertLessEqual(row["kl_min"], row["kl_geomean"])
            self.assertLessEqual(row["kl_geomean"], row["kl_max"])
            self.assertEqual("exact" in row and "exact_full" in row, row["task"] != "continuation")
            self.assertEqual("by_depth" in row, row["task"] == "questions")
        depths = report["rows"][-1]["by_depth"]
        self.assertEqual([depth["depth"] for depth in depths], [(i + 0.5) / 3 for i in range(3)])
        self.assertLessEqual({"nll", "nll_full", "exact", "exact_full"}, set(depths[0]))
        for words in ("means of 4 runs", "means of 2 runs", "the full cache answers"):
            self.assertIn(words, shown)

    def test_eval_shows_what_the_caches_write_beside_the_full_one(self):
        figures = {"memory": "f1", "code": "match", "tools": "match"}
        shown, report = self.eval("--tasks", ",".join(figures), "-c", 3000, "--methods", "keep_last", "--ratios", "4")
        self.assertEqual([row["task"] for row in report["rows"]], list(figures))
        for row in report["rows"]:
            key = figures[row["task"]]
            self.assertLessEqual({key, key + "_full", "exact", "nll_full"}, set(row))
            self.assertEqual({"f1", "match"} & set(row), {key})
            for depth in row["by_depth"]:
                self.assertLessEqual({key, key + "_full"}, set(depth))
                self.assertTrue(0 <= depth[key] <= 1)
        self.assertEqual(shown.count("(full) "), 3)
        for words in ("  F1", "  match", "F1: of the words", "match: calls", "with a nll of"):
            self.assertIn(words, shown)
        shown, _ = self.eval("--tasks", "memory", "-c", 3000, "--methods", "keep_last", "--ratios", "4", "--seeds", "1,2")
        self.assertIn("means of 2 runs", shown)

    def test_eval_says_what_to_do(self):
        manual = ("-f", TEXTS / "manual.txt")
        cases = {
            ("--tasks", "copy"): "copy reads a text; give one with -f",
            ("--tasks", "questions", "-c", 100): "raise -c 100",
            ("--tasks", "chat", "-c", 300): "raise -c 300",
            ("--tasks", "memory", "-c", 300): "memory needs a context of",
            ("--tasks", "code", "-c", 100): "code needs a context of",
            ("--tasks", "tools", "-c", 300): "tools needs a context of",
            (*manual, "-c", 256, "--ratios", "100"): "ratio 100",
            (*manual, "-c", 256, "--offset", 1_000_000): "offset 1000000",
            ("--tasks", "continuation,chat", *manual, "-c", 8000): "lower -c",
        }
        for arguments, words in cases.items():
            with self.subTest(arguments=arguments):
                self.assert_fails(self.with_model("eval", *arguments), 1, words)

    def test_eval_compares_caches_of_other_types_at_the_same_bytes(self):
        arguments = ("eval", "-f", TEXTS / "manual.txt", "-c", 256, "--methods", "keep_last", "--also", "q4_0")
        done = self.with_model(*arguments, "--ratios", 8, "--json", "e.json")
        self.assertEqual(done.returncode, 0, done.stderr)
        rows = json.loads((self.folder / "e.json").read_text())["rows"]
        self.assertEqual([(row["cache"], row["method"], row["cells_after"]) for row in rows],
                         [("f16", "keep_last", 32), ("q4_0", "full", 256), ("q4_0", "keep_last", 114)])
        f16, full, q4_0 = rows
        self.assertAlmostEqual(full["ratio"], 16 / 4.5, delta=0.01)
        self.assertAlmostEqual(q4_0["bytes_after"] / f16["bytes_after"], 1, delta=0.03)
        self.assertGreater(full["kl"], 0)  # against the f16 cache, not against itself
        self.assertLess(full["kl"], q4_0["kl"])
        self.assert_fails(self.with_model(*arguments, "--ratios", 2), 1, "ratio 2", "q4_0", "3.56")

    def test_a_saved_sequence_is_not_read_again(self):
        self.compact("-f", self.text(300), "-r", 1, "-o", "full.slot")
        manual = ("-f", TEXTS / "manual.txt", "--methods", "select", "--ratios", "4")
        _, saved = self.eval(*manual, "--session", "full.slot")
        _, read = self.eval(*manual, "-c", saved["context"])
        self.assertIsNone(saved["prefill_s"])
        for row, expected in zip(saved["rows"], read["rows"], strict=True):
            for key in ("method", "cells_before", "cells_after", "kl", "top1"):
                self.assertEqual(row[key], expected[key])
        done = self.with_model("bench", "--session", "full.slot", "--ratios", "1,4", "--rounds", 1, "--method", "select",
                               "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        bench = json.loads(done.stdout)
        self.assertEqual((bench["context"], bench["text"], bench["prefill_s"]), (saved["context"], "full.slot", 0))
        self.assertEqual([row["cells"] for row in bench["rows"]], [saved["context"], (saved["context"] + 2) // 4])

    def test_a_saved_sequence_must_be_full_and_of_the_text(self):
        self.compact("-f", self.text(300), "-r", 1, "-o", "full.slot")
        self.compact("--session", "full.slot", "--method", "keep_last", "-r", 4, "-o", "folded.slot")
        manual = ("-f", TEXTS / "manual.txt")
        cases = {
            (*manual, "--session", "folded.slot"): "folded before",
            ("-f", TEXTS / "code.txt", "--session", "full.slot"): "not the first ones of the text",
            (*manual, *manual, "--session", "full.slot"): "give the one text",
            (*manual, "--tasks", "continuation,questions", "--session", "full.slot"): "questions makes up its text",
        }
        for arguments, words in cases.items():
            with self.subTest(arguments=arguments):
                self.assert_fails(self.with_model("eval", *arguments), 1, words)

    def test_bench_reports_every_key(self):
        done = self.with_model("bench", "-c", 256, "--ratios", "1,4", "--rounds", 1, "--method", "select", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        report = json.loads(done.stdout)
        self.assertEqual([row["cells"] for row in report["rows"]], [256, 64])
        for row in report["rows"]:
            self.assertLessEqual({"ratio", "cells", "decode_tok_s", "speedup", "turn_ms"}, set(row))
        self.assertLessEqual({"stock_tok_s", "kvfold_tok_s", "overhead"}, set(report["baseline"]))
        self.assertIn("peak_extra_mb", report)

    def test_advise_names_a_cache_that_fits_and_how_to_serve_with_it(self):
        def advise(memory, context):
            done = self.with_model("advise", "--memory", memory, "--context", context, "--json")
            self.assertEqual(done.returncode, 0, done.stderr)
            return json.loads(done.stdout)

        roomy = advise("1G", "2k")
        self.assertEqual((roomy["context"], roomy["memory"]), (2048, 1 << 30))
        self.assertEqual((roomy["advice"][0]["cache"], roomy["advice"][0]["ratio"]), ("f16", 1))
        self.assertNotIn("--virtual", roomy["command"])
        full = roomy["advice"][0]["bytes"]
        narrow = advise(full // 8, 2048)
        for row in narrow["advice"]:
            self.assertLessEqual(row["bytes"], full // 8)
        by_cache = {row["cache"]: row for row in narrow["advice"]}
        self.assertEqual(by_cache["f16"]["ratio"], 8)
        self.assertEqual(by_cache["q8_0"]["ratio"], math.ceil(8 * 34 / 64))
        losses = [row["kl"] for row in narrow["advice"] if row["kl"] is not None]
        self.assertEqual(losses, sorted(losses))
        best = narrow["advice"][0]
        self.assertIn(f"--virtual {best['ratio']:g} ", narrow["command"])
        self.assertIn(f"-ctk {best['cache']} ", narrow["command"])
        shown = self.with_model("advise", "--memory", full // 8, "--context", 2048).stdout
        self.assertIn(narrow["command"], shown)
        too_little = self.with_model("advise", "--memory", full // 1000, "--context", 2048)
        self.assert_fails(too_little, 1, "more than any cache was measured with")
