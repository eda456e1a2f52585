"""Every public function of llama.cpp that may touch a context is wrapped, or excused here with its reason."""
import pathlib
import re
import unittest

from command import needed

ROOT = pathlib.Path(__file__).resolve().parents[2]
# What a function of a context, its memory, its batches or its adapters takes or gives.
CONCERNS = r"\b(llama_context|llama_memory_t|llama_batch|llama_batch_ext|llama_adapter_lora)\b"

READS_A_CONSTANT = "reads what does not change while the context lives"
MAKES_OR_FREES_A_PLAIN_BATCH = "its fields are read when it is decoded"
OF_THE_MODEL = "an adapter belongs to the model; contexts take it with llama_set_adapters_lora"
CALLS_THE_WRAPPED = "the deprecated name of a function that is wrapped, which it calls"
EXCUSED = {
    "llama_n_ubatch": READS_A_CONSTANT,
    "llama_n_seq_max": READS_A_CONSTANT,
    "llama_n_rs_seq": READS_A_CONSTANT,
    "llama_get_model": READS_A_CONSTANT,
    "llama_get_memory": READS_A_CONSTANT,
    "llama_pooling_type": READS_A_CONSTANT,
    "llama_context_default_params": "makes parameters, no context",
    "llama_n_threads": READS_A_CONSTANT,
    "llama_n_threads_batch": READS_A_CONSTANT,
    "llama_get_causal_attn": READS_A_CONSTANT,
    "llama_set_n_threads": "sets what the next decode takes; folds ask for it when they start",
    "llama_attach_threadpool": "sets what the next decode runs on",
    "llama_detach_threadpool": "sets what the next decode runs on",
    "llama_set_warmup": "sets how the next decode runs",
    "llama_set_abort_callback": "sets what the next decode asks",
    "llama_synchronize": "waits for the newest decode, which the wrapper does not leave before it is through",
    "llama_get_embeddings": "reads outputs of the newest decode by position in the whole: batches of embeddings keep theirs in one part",
    "llama_get_embeddings_seq": "reads pooled embeddings, of contexts that are not managed",
    "llama_batch_ext_init": "makes an empty batch",
    "llama_batch_get_one": MAKES_OR_FREES_A_PLAIN_BATCH,
    "llama_batch_init": MAKES_OR_FREES_A_PLAIN_BATCH,
    "llama_batch_free": MAKES_OR_FREES_A_PLAIN_BATCH,
    "llama_new_context_with_model": CALLS_THE_WRAPPED,
    "llama_get_state_size": CALLS_THE_WRAPPED,
    "llama_copy_state_data": CALLS_THE_WRAPPED,
    "llama_set_state_data": CALLS_THE_WRAPPED,
    "llama_load_session_file": CALLS_THE_WRAPPED,
    "llama_save_session_file": CALLS_THE_WRAPPED,
    "llama_adapter_lora_init": OF_THE_MODEL,
    "llama_adapter_lora_init_from_file_ptr": OF_THE_MODEL,
    "llama_adapter_lora_free": OF_THE_MODEL,
    "llama_adapter_meta_val_str": OF_THE_MODEL,
    "llama_adapter_meta_count": OF_THE_MODEL,
    "llama_adapter_meta_key_by_index": OF_THE_MODEL,
    "llama_adapter_meta_val_str_by_index": OF_THE_MODEL,
    "llama_adapter_get_alora_n_invocation_tokens": OF_THE_MODEL,
    "llama_adapter_get_alora_invocation_tokens": OF_THE_MODEL,
    "llama_perf_context": "reads times",
    "llama_perf_context_print": "prints times",
    "llama_perf_context_reset": "resets times",
    "llama_opt_init": "training: its contexts hold no text that goes on",
    "llama_opt_epoch": "training: its contexts hold no text that goes on",
}


def functions(header):
    """{name: declaration} of what llama.h exports."""
    text = re.sub(r"//[^\n]*|/\*.*?\*/", "", header, flags=re.DOTALL)
    text = re.sub(r"typedef[^;]*\(\s*\*[^;]*;", "", text)
    return {match[2]: match[0] for match in
            re.finditer(r"LLAMA_API\s+([^;]*?)\b(llama_\w+)\s*\([^;]*;", text, re.DOTALL)}


class Wrapped(unittest.TestCase):
    def setUp(self):
        self.header = functions((pathlib.Path(needed("KVFOLD_LLAMA_PREFIX")) / "include" / "llama.h").read_text())
        self.wrapped = set(re.findall(r"X\((llama_\w+)\)", (ROOT / "src/preload/real.h").read_text()))
        self.concerned = {name for name, text in self.header.items() if re.search(CONCERNS, text)}

    def test_every_function_of_a_context_is_wrapped_or_excused(self):
        self.assertGreater(len(self.concerned), 80)
        self.assertEqual(self.concerned - self.wrapped - set(EXCUSED), set())

    def test_nothing_is_excused_that_is_wrapped_or_gone(self):
        self.assertEqual(set(EXCUSED) & self.wrapped, set())
        self.assertEqual(set(EXCUSED) - set(self.header), set())
        self.assertEqual(self.wrapped - set(self.header), set())

    def test_a_function_that_is_neither_is_found(self):
        more = functions("LLAMA_API bool llama_memory_seq_swap(llama_memory_t mem, llama_seq_id a, llama_seq_id b);")
        self.assertEqual(set(more) - self.wrapped - set(EXCUSED), {"llama_memory_seq_swap"})


if __name__ == "__main__":
    unittest.main()
