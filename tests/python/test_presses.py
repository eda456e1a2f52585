"""What bench/presses.py measures, where torch and kvpress are installed here or in the folders of $KVFOLD_PYTHON_EXTRAS."""
import sys
import unittest

from test_kvpress import IS_THERE, MISSING

if IS_THERE:
    import torch
    from package import ROOT
    from transformers import LlamaConfig, LlamaForCausalLM

    sys.path.append(str(ROOT / "bench"))
    import presses

CONTEXT = 192


@unittest.skipUnless(IS_THERE, MISSING)
class Presses(unittest.TestCase):
    def setUp(self):
        torch.set_grad_enabled(False)
        self.addCleanup(torch.set_grad_enabled, True)
        torch.manual_seed(1)
        model = LlamaForCausalLM(LlamaConfig(
            vocab_size=256, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=1024, initializer_range=0.2)).eval()
        self.reader = presses.Reader(model, CONTEXT)
        self.tokens = torch.randint(0, 256, (CONTEXT + presses.PREDICTED + 1,)).tolist()
        self.full = self.reader.predictions(self.tokens, self.reader.read(self.tokens)[0])

    def distance(self, name, removed):
        cache, _ = self.reader.read(self.tokens, presses.make_press(name, removed))
        cells = presses.kept_cells(self.reader.model, cache)
        return cells, presses.compared(self.full, self.reader.predictions(self.tokens, cache))

    def test_the_full_cache_predicts_what_the_model_does_in_one_go(self):
        end = CONTEXT + presses.PREDICTED
        whole = self.reader.model(input_ids=torch.tensor([self.tokens[:end]])).logits[0, CONTEXT:].double()
        at_once = whole.log_softmax(-1)
        self.assertLess(presses.compared(at_once, self.full)["kl"], 1e-6)
        self.assertGreater(presses.compared(at_once.roll(1, 0), self.full)["kl"], 1e-3)  # each a token too late

    def test_cells_that_are_removed_and_cells_that_are_masked_count_alike(self):
        for name in ("SnapKVPress", "AdaKVPress", "CriticalAdaKVPress"):
            with self.subTest(press=name):
                cells, row = self.distance(name, 0.5)
                self.assertEqual(cells, CONTEXT / 2)
                self.assertGreater(row["kl"], 1e-3)

    def test_what_a_press_masked_does_not_stay(self):
        self.distance("AdaKVPress", 0.5)
        again = self.reader.predictions(self.tokens, self.reader.read(self.tokens)[0])
        self.assertLess(presses.compared(self.full, again)["kl"], 1e-6)

    def test_a_press_that_is_not_there_is_a_row_that_says_so(self):
        found = presses.measure_text(self.reader, self.full, self.tokens, ["GonePress", "SnapKVPress"], 0.5, 1)
        self.assertRegex(found["presses"]["GonePress"]["error"], "kvpress .* has no GonePress")
        self.assertEqual(found["presses"]["SnapKVPress"]["cells"], CONTEXT / 2)
        self.assertLess(found["noise"]["kl"], 1e-6)


if __name__ == "__main__":
    unittest.main()
