"""The press for transformers, where torch and kvpress are installed here or in the folders of $KVFOLD_PYTHON_EXTRAS."""
import importlib.util
import os
import pathlib
import sys
import unittest

sys.path += [folder for folder in os.environ.get("KVFOLD_PYTHON_EXTRAS", "").split(os.pathsep) if folder]
IS_THERE = all(importlib.util.find_spec(name) for name in ("torch", "kvpress"))

MISSING = "torch and kvpress are not installed: pip install kvpress, and name the folder in KVFOLD_PYTHON_EXTRAS"

if IS_THERE:
    import numpy
    import torch
    from command import TEXTS, needed
    from package import kvfold, open_llama
    from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

    from kvfold.kvpress import AttentionMatchingPress

TOKENS = 192


def parts(cache, layer):
    return cache.layers[layer].keys, cache.layers[layer].values


def rotate(rows, positions, base):
    """RoPE as in the paper, with halves as transformers pairs them: rows [n, d]."""
    half = rows.shape[1] // 2
    angles = positions[:, None] * base ** (-numpy.arange(half) / half)
    a, b = rows[:, :half], rows[:, half:]
    cos, sin = numpy.cos(angles), numpy.sin(angles)
    return numpy.concatenate([a * cos - b * sin, b * cos + a * sin], 1)


class PressTest(unittest.TestCase):
    """model: of transformers; text: [1, T] tokens."""
    model = text = None

    def setUp(self):
        torch.set_grad_enabled(False)
        self.addCleanup(torch.set_grad_enabled, True)

    def read(self, press=None):
        cache = DynamicCache()
        if press is None:
            self.model(self.text, past_key_values=cache)
        else:
            with press(self.model):
                self.model(self.text, past_key_values=cache)
        return cache

    def assert_heads_are_those_of_the_solver(self, layers, base, shift=0):
        """With queries that numpy makes from the layers' own weights. base: of RoPE; shift: of their positions."""
        config, tokens, seen = self.model.config, self.text.shape[1], {}
        kv_heads, groups = config.num_key_value_heads, config.num_attention_heads // config.num_key_value_heads
        first, last, count = 4, (tokens // 4 - 4) // 8, 32
        fitted = tokens // 4 - first - last
        taken = numpy.linspace(0, tokens - 1, count).round().astype(int)
        positions = numpy.arange(tokens - count, tokens) - shift

        def look(module, args, kwargs):
            seen.setdefault(module.layer_idx, kwargs["hidden_states"][0].numpy())

        for layer in layers:
            hook = self.model.model.layers[layer].self_attn.register_forward_pre_hook(look, with_kwargs=True)
            self.addCleanup(hook.remove)
        full = self.read()
        # select copies the cells that it takes. solver shows the closed forms: both sides' queries differ in their last
        # bits, which the least squares of a trained model make a thousand times larger.
        for method, tolerance in (("select", 0), ("solver", 1e-2)):
            compact = self.read(AttentionMatchingPress(0.75, method=method, n_queries=count * groups))
            for layer in layers:
                weights = self.model.model.layers[layer].self_attn.q_proj.weight.detach().numpy()
                rows = (seen[layer][taken] @ weights.T).reshape(count, kv_heads * groups, -1)
                width = rows.shape[-1]
                for head in range(kv_heads):
                    queries = numpy.concatenate([rotate(rows[:, groups * head + member], positions, base)
                                                 for member in range(groups)])
                    keys, values = (part[0, head, first:-last].numpy() for part in parts(full, layer))
                    expected = kvfold.solve_head(keys, values, queries, width ** -0.5, fitted, method=method)
                    for got, wanted in zip(parts(compact, layer), (expected.keys, expected.values)):
                        got, wanted = got[0, head, first:-last].numpy(), numpy.asarray(wanted)
                        error = numpy.linalg.norm(got - wanted) / numpy.linalg.norm(wanted)
                        self.assertLessEqual(error, tolerance, f"{method}, layer {layer}, head {head}")


@unittest.skipUnless(IS_THERE, MISSING)
class Press(PressTest):
    def setUp(self):
        super().setUp()
        torch.manual_seed(1)
        self.model = LlamaForCausalLM(LlamaConfig(
            vocab_size=256, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=1024, initializer_range=0.2)).eval()
        self.text = torch.randint(0, 256, (1, TOKENS))

    def next_logits(self, cache):
        positions = torch.tensor([[TOKENS, TOKENS + 1]])
        return self.model(torch.tensor([[7, 9]]), past_key_values=cache, position_ids=positions).logits[0]

    def test_every_layer_keeps_a_quarter(self):
        full, compact = self.read(), self.read(AttentionMatchingPress(0.75))
        for layer, before in zip(compact.layers, full.layers):
            self.assertEqual(layer.keys.shape, (1, 2, TOKENS // 4, 16))
            self.assertEqual(layer.values.shape, layer.keys.shape)
            self.assertTrue(torch.equal(layer.keys[:, :, :4], before.keys[:, :, :4]))
            self.assertTrue(torch.equal(layer.keys[:, :, -5:], before.keys[:, :, -5:]))
        same = self.read(AttentionMatchingPress(0.0))
        self.assertTrue(torch.equal(same.layers[1].keys, full.layers[1].keys))

    def test_a_head_is_what_the_solver_makes_of_it(self):
        self.assert_heads_are_those_of_the_solver([0, 1], base=1e4)

    def test_with_queries_of_other_positions_it_is_another(self):
        with self.assertRaisesRegex(AssertionError, "select, layer 0"):
            self.assert_heads_are_those_of_the_solver([0, 1], base=1e4, shift=64)

    def test_the_model_goes_on_nearer_to_the_full_cache_than_with_the_cells_as_they_are(self):
        full = self.next_logits(self.read())

        def distance(method):
            return (self.next_logits(self.read(AttentionMatchingPress(0.75, method=method))) - full).norm().item()

        self.assertLess(distance("refine"), distance("select"))

    def test_few_cells_and_a_ratio_that_makes_no_sense(self):
        self.assertEqual(self.read(AttentionMatchingPress(0.99)).layers[0].keys.shape[2], 1)
        for ratio in (-0.1, 1.0, 8):
            with self.assertRaisesRegex(ValueError, "compression_ratio"):
                AttentionMatchingPress(ratio)


@unittest.skipUnless(IS_THERE, MISSING)
class SmolLM2(PressTest):
    """Trained weights, as transformers reads them out of the GGUF file."""

    def test_heads_are_what_the_solver_makes_of_them(self):
        file = pathlib.Path(needed("KVFOLD_MODEL_SMOL"))
        self.model = LlamaForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32).eval()
        text = (TEXTS / "manual.txt").read_bytes()[:3000]
        self.text = torch.tensor([open_llama(file).tokenize(text)[:384]])
        self.assert_heads_are_those_of_the_solver([0, 14, 29], base=1e5)


if __name__ == "__main__":
    unittest.main()
