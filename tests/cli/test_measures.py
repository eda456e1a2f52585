"""eval and bench: the shape of what they report, never how fast or how good."""
import json

from command import CommandTest, TEXTS


class Measures(CommandTest):
    def test_eval_reports_every_key_and_always_keep_last(self):
        done = self.with_model("eval", "-f", TEXTS / "manual.txt", "-c", 256, "--methods", "select", "--ratios", "4",
                               "--json", "e.json")
        self.assertEqual(done.returncode, 0, done.stderr)
        report = json.loads((self.folder / "e.json").read_text())
        self.assertLessEqual({"model", "context", "continuation", "noise_floor_kl", "prefill_s"}, set(report))
        self.assertEqual((report["context"], report["continuation"]), (256, 256))
        self.assertEqual({row["method"] for row in report["rows"]}, {"keep_last", "select"})
        for row in report["rows"]:
            self.assertLessEqual({"method", "cache", "ratio", "cells_before", "cells_after", "kl", "kl_first64", "top1", "dnll",
                                  "logit_cosine", "study_s", "solve_s", "swap_s", "bytes_before", "bytes_after",
                                  "peak_extra_mb"}, set(row))
            self.assertEqual((row["cells_before"], row["cells_after"]), (256, 64))
            self.assertGreaterEqual(row["kl"], 0)
        self.assertIn("(noise floor)", done.stdout)
        self.assertIn("keep_last", done.stdout)

    def test_eval_compares_caches_of_other_types_at_the_same_bytes(self):
        arguments = ("eval", "-f", TEXTS / "manual.txt", "-c", 256, "--methods", "keep_last", "--also", "q4_0")
        done = self.with_model(*arguments, "--ratios", 8, "--json", "e.json")
        self.assertEqual(done.returncode, 0, done.stderr)
        rows = json.loads((self.folder / "e.json").read_text())["rows"]
        self.assertEqual([(row["cache"], row["method"], row["cells_after"]) for row in rows],
                         [("f16", "keep_last", 32), ("q4_0", "full", 256), ("q4_0", "keep_last", 114)])
        f16, full, q4_0 = rows
        self.assertAlmostEqual(full["ratio"], 16 / 4.5, delta=0.01)
        self.assertAlmostEqual(q4_0["bytes_after"] / f16["bytes_after"], 1, delta=0.02)
        self.assertGreater(full["kl"], 0)  # against the f16 cache, not against itself
        self.assertLess(full["kl"], q4_0["kl"])
        self.assert_fails(self.with_model(*arguments, "--ratios", 2), 1, "ratio 2", "q4_0", "3.56")

    def test_eval_needs_text_enough_behind_the_offset(self):
        done = self.with_model("eval", "-f", TEXTS / "manual.txt", "-c", 256, "--offset", 1_000_000)
        self.assert_fails(done, 1, "--offset 1000000")

    def test_bench_reports_every_key(self):
        done = self.with_model("bench", "-c", 256, "--ratios", "1,4", "--rounds", 1, "--method", "select", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        report = json.loads(done.stdout)
        self.assertEqual([row["cells"] for row in report["rows"]], [256, 64])
        for row in report["rows"]:
            self.assertLessEqual({"ratio", "cells", "decode_tok_s", "speedup", "turn_ms"}, set(row))
        self.assertLessEqual({"stock_tok_s", "kvfold_tok_s", "overhead"}, set(report["baseline"]))
        self.assertIn("peak_extra_mb", report)
