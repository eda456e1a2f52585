"""eval's chat, which needs a chat template, a vocabulary of words and a context that the model was trained for."""
from test_measures import Measures


class Chat(Measures):
    def test_eval_folds_a_chat_again_and_again(self):
        shown, report = self.eval("--tasks", "chat", "-c", 768, "--rounds", 3, "--methods", "keep_last")
        row, = report["rows"]
        self.assertEqual((row["task"], row["method"]), ("chat", "keep_last"))
        self.assertEqual([each["round"] for each in row["rounds"]], [1, 2, 3])
        for each in row["rounds"]:
            self.assertLessEqual({"kl", "cells", "cells_full", "folds", "exact", "exact_full", "nll", "nll_full", "kl_recall", "exact_once", "nll_once", "kl_once"},
                                 set(each))
            self.assertLessEqual(each["cells"], 192)
        self.assertGreaterEqual(sum(each["folds"] for each in row["rounds"]), 2)
        self.assertIn("KL in round", shown)
        last = row["rounds"][-1]
        self.assertLess(last["cells"], last["cells_full"])
        self.assertNotEqual(last["nll_once"], last["nll"])
