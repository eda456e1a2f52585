"""The press for transformers, where torch and kvpress are installed here or in the folders of $KVFOLD_PYTHON_EXTRAS."""
import importlib.util
import os
import sys
import unittest

sys.path += [folder for folder in os.environ.get("KVFOLD_PYTHON_EXTRAS", "").split(os.pathsep) if folder]
IS_THERE = all(importlib.util.find_spec(name) for name in ("torch", "kvpress"))

if IS_THERE:
    import numpy
    import torch
    from package import kvfold
    from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

    from kvfold.kvpress import AttentionMatchingPress

TOKENS = 192


def rotate(rows, positions, base=10000.0):
    """RoPE as in the paper, with halves as transformers pairs them: rows [n, d]."""
    half = rows.shape[1] // 2
    angles = positions[:, None] * base ** (-numpy.arange(half) / half)
    a, b = rows[:, :half], rows[:, half:]
    return numpy.concatenate([a * numpy.cos(angles) - b * numpy.sin(angles), b * numpy.cos(angles) + a * numpy.sin(angles)], 1)


@unittest.skipUnless(IS_THERE, "torch and kvpress are not installed: pip install kvpress, and name the folder in "
                               "KVFOLD_PYTHON_EXTRAS")
class Press(unittest.TestCase):
    def setUp(self):
        torch.set_grad_enabled(False)
        self.addCleanup(torch.set_grad_enabled, True)
        torch.manual_seed(1)
        self.model = LlamaForCausalLM(LlamaConfig(
            vocab_size=256, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=1024, initializer_range=0.2)).eval()
        self.text = torch.randint(0, 256, (1, TOKENS))

    def read(self, press=None):
        cache = DynamicCache()
        if press is None:
            self.model(self.text, past_key_values=cache)
        else:
            with press(self.model):
                self.model(self.text, past_key_values=cache)
        return cache

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
        """With queries that numpy makes from the layer's own weights."""
        seen = []
        self.model.model.layers[0].self_attn.register_forward_pre_hook(
            lambda module, args, kwargs: seen.append(kwargs["hidden_states"].numpy()), with_kwargs=True)
        full = self.read().layers[0]
        weights = self.model.model.layers[0].self_attn.q_proj.weight.detach().numpy()
        taken = numpy.linspace(0, TOKENS - 1, 32).round().astype(int)
        rows = (seen[0][0][taken] @ weights.T).reshape(32, 4, 16)
        # select shows the cells, solver the closed forms; both sides' queries differ in their last bits.
        for method, tolerance in (("select", 0), ("solver", 1e-3)):
            compact = self.read(AttentionMatchingPress(0.75, method=method, n_queries=64)).layers[0]
            for head in range(2):
                queries = numpy.concatenate([rotate(rows[:, 2 * head + member], numpy.arange(TOKENS - 32, TOKENS))
                                             for member in range(2)])
                expected = kvfold.solve_head(full.keys[0, head, 4:-5].numpy(), full.values[0, head, 4:-5].numpy(),
                                             queries, 16 ** -0.5, TOKENS // 4 - 9, method=method)
                for got, wanted in ((compact.keys, expected.keys), (compact.values, expected.values)):
                    got, wanted = got[0, head, 4:-5].numpy(), numpy.asarray(wanted)
                    numpy.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance * abs(wanted).max())

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


if __name__ == "__main__":
    unittest.main()
