"""Tiny random-weight GGUF models, one a kind of attention: enough for llama.cpp to load and decode.

    python3 tiny_models.py FOLDER     # writes FOLDER/NAME.gguf for every name in MODELS

Their weights mean nothing, so they show exactness and never quality. Shapes are numpy's, rows first: a matrix that
takes `width` numbers and gives `heads * HEAD` has the shape (heads * HEAD, width).
"""
import os
import pathlib
import sys
import zlib

CACHE = pathlib.Path(os.environ.get("KVFOLD_CACHE")
                     or pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "kvfold")
sys.path[:0] = [str(folder) for folder in CACHE.glob("gguf-*")]  # scripts/setup puts it there

import gguf  # noqa: E402
import numpy  # noqa: E402

WIDTH, WIDE, LAYERS, CONTEXT, WINDOW = 64, 128, 3, 2048, 64
HEADS, KV_HEADS, HEAD = 4, 2, 32  # a head is 32 wide: one block of the quantised cache types
EXPERTS = 4
SHARPNESS = 2.0  # of queries and keys, so that attention picks cells out instead of averaging all
LETTERS = [chr(code) for code in range(0x21, 0x7F)]
TOKENS = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", *LETTERS]


class Weights:
    """Named random tensors of one model."""

    def __init__(self, seed):
        self.random = numpy.random.default_rng(zlib.crc32(seed.encode()))
        self.tensors = {}

    def matrix(self, name, *shape, factor=1.0):
        self.tensors[f"{name}.weight"] = self.random.normal(0, factor / shape[-1] ** 0.5, shape)

    def norm(self, name, *shape):
        self.tensors[f"{name}.weight"] = self.random.normal(1, 0.1, shape)

    def vector(self, name, *shape, mean=0.0):
        """name is whole: some have no ending."""
        self.tensors[name] = self.random.normal(mean, 0.1, shape)


def write(path, architecture, settings, weights):
    """settings: keys behind the architecture's name."""
    part = path.with_suffix(".part")
    writer = gguf.GGUFWriter(part, architecture)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(TOKENS)
    writer.add_token_scores([-float(i) for i in range(len(TOKENS))])
    kinds = gguf.TokenType
    writer.add_token_types([kinds.UNKNOWN, kinds.CONTROL, kinds.CONTROL] + [kinds.BYTE] * 256
                           + [kinds.NORMAL] * (len(TOKENS) - 259))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)
    writer.add_token_type_count(2)
    basics = {"context_length": CONTEXT, "embedding_length": WIDTH, "block_count": LAYERS, "feed_forward_length": WIDE,
              "attention.head_count": HEADS, "attention.head_count_kv": KV_HEADS, "attention.key_length": HEAD,
              "attention.value_length": HEAD, "rope.dimension_count": HEAD,
              "attention.layer_norm_rms_epsilon": 1e-5, "vocab_size": len(TOKENS)}
    for key, value in {**basics, **settings}.items():
        add = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string,
               list: writer.add_array}[type(value)]
        add(f"{architecture}.{key}", value)
    for name, tensor in weights.tensors.items():
        writer.add_tensor(name, tensor.astype(numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.replace(path)


def ends(weights, tied=False):
    """What stands before and behind the layers. tied: the output is the token embedding."""
    weights.matrix("token_embd", len(TOKENS), WIDTH, factor=1.0 if tied else WIDTH ** 0.5)
    weights.norm("output_norm", WIDTH)
    if not tied:
        weights.matrix("output", len(TOKENS), WIDTH, factor=2.0)


def attention(weights, block, heads=HEADS, kv_heads=KV_HEADS, key=HEAD, value=HEAD, queries=1):
    """queries: 2 where the query projection carries a gate as well."""
    weights.norm(f"{block}.attn_norm", WIDTH)
    weights.matrix(f"{block}.attn_q", queries * heads * key, WIDTH, factor=SHARPNESS)
    weights.matrix(f"{block}.attn_k", kv_heads * key, WIDTH, factor=SHARPNESS)
    weights.matrix(f"{block}.attn_v", kv_heads * value, WIDTH)
    weights.matrix(f"{block}.attn_output", WIDTH, heads * value)


def head_norms(weights, block, query=HEAD, key=HEAD):
    weights.norm(f"{block}.attn_q_norm", query)
    weights.norm(f"{block}.attn_k_norm", key)


def feed_forward(weights, block, norm="ffn_norm"):
    weights.norm(f"{block}.{norm}", WIDTH)
    for part in ("gate", "up"):
        weights.matrix(f"{block}.ffn_{part}", WIDE, WIDTH)
    weights.matrix(f"{block}.ffn_down", WIDTH, WIDE)


def experts(weights, block, norm="ffn_norm"):
    weights.norm(f"{block}.{norm}", WIDTH)
    weights.matrix(f"{block}.ffn_gate_inp", EXPERTS, WIDTH)
    for part in ("gate", "up"):
        weights.matrix(f"{block}.ffn_{part}_exps", EXPERTS, WIDE, WIDTH)
    weights.matrix(f"{block}.ffn_down_exps", EXPERTS, WIDTH, WIDE)


EXPERT_SETTINGS = {"expert_count": EXPERTS, "expert_used_count": 2}
SSM = {"ssm.conv_kernel": 4, "ssm.inner_size": 2 * WIDTH, "ssm.state_size": 16, "ssm.time_step_rank": 4,
       "ssm.group_count": 1}


def state_space(weights, block):
    """A Mamba 2 mixer."""
    inner, state, heads = SSM["ssm.inner_size"], SSM["ssm.state_size"], SSM["ssm.time_step_rank"]
    convolved = inner + 2 * state
    weights.norm(f"{block}.attn_norm", WIDTH)
    weights.matrix(f"{block}.ssm_in", inner + convolved + heads, WIDTH)
    weights.matrix(f"{block}.ssm_conv1d", convolved, SSM["ssm.conv_kernel"])
    weights.vector(f"{block}.ssm_conv1d.bias", convolved)
    weights.vector(f"{block}.ssm_dt.bias", heads)
    weights.vector(f"{block}.ssm_a", heads, 1, mean=-1.0)
    weights.vector(f"{block}.ssm_d", heads, 1)
    weights.norm(f"{block}.ssm_norm", 1, inner)
    weights.matrix(f"{block}.ssm_out", WIDTH, inner)


def transformer(path, architecture, layer, settings=None, layers=LAYERS, tied=False):
    """layer(weights, block, index) makes the tensors of one layer."""
    weights = Weights(path.stem)
    ends(weights, tied)
    for index in range(layers):
        layer(weights, f"blk.{index}", index)
    write(path, architecture, {"block_count": layers, **(settings or {})}, weights)


def llama_like(path, settings, architecture="llama", **shapes):
    def layer(weights, block, _):
        attention(weights, block, **shapes)
        feed_forward(weights, block)
    transformer(path, architecture, layer, settings)


def mha(path):
    """As many KV heads as query heads."""
    llama_like(path, {"attention.head_count_kv": HEADS}, kv_heads=HEADS)


def mqa(path):
    """One KV head for all query heads."""
    llama_like(path, {"attention.head_count_kv": 1}, kv_heads=1)


def unequal_widths(path):
    """Keys twice as wide as values; every second layer slides."""
    llama_like(path, {"attention.key_length": 2 * HEAD, "rope.dimension_count": 2 * HEAD,
                      "attention.sliding_window": WINDOW, "attention.sliding_window_pattern": [True, False, True],
                      "rope.freq_base_swa": 10000.0, "expert_feed_forward_length": WIDE},
               architecture="mimo2", key=2 * HEAD)


def qwen2(path):
    """Biases on queries, keys and values."""
    def layer(weights, block, _):
        attention(weights, block, heads=2, kv_heads=1)
        for part, heads in (("q", 2), ("k", 1), ("v", 1)):
            weights.vector(f"{block}.attn_{part}.bias", heads * HEAD)
        feed_forward(weights, block)
    transformer(path, "qwen2", layer, {"attention.head_count": 2, "attention.head_count_kv": 1})


def qwen3(path):
    """Queries and keys are normalised head by head."""
    def layer(weights, block, _):
        attention(weights, block)
        head_norms(weights, block)
        feed_forward(weights, block)
    transformer(path, "qwen3", layer)


def qwen2vl(path):
    """M-RoPE: a position has several parts."""
    narrow = WIDTH // HEADS * 2  # queries are as wide as the model
    def layer(weights, block, _):
        attention(weights, block, heads=2, kv_heads=1, key=narrow, value=narrow)
        feed_forward(weights, block)
    transformer(path, "qwen2vl", layer, {"attention.head_count": 2, "attention.head_count_kv": 1,
                                         "rope.dimension_sections": [4, 6, 6, 0]})


def olmoe(path):
    """A mixture of experts, queries and keys normalised as a whole."""
    def layer(weights, block, _):
        attention(weights, block, heads=2, kv_heads=2)
        head_norms(weights, block, query=2 * HEAD, key=2 * HEAD)
        experts(weights, block)
    transformer(path, "olmoe", layer, {"attention.head_count": 2, "attention.head_count_kv": 2, **EXPERT_SETTINGS})


def gemma2(path):
    """Logits are capped; every second layer slides."""
    def layer(weights, block, _):
        attention(weights, block)
        weights.norm(f"{block}.post_attention_norm", WIDTH)
        feed_forward(weights, block)
        weights.norm(f"{block}.post_ffw_norm", WIDTH)
    transformer(path, "gemma2", layer, {"attention.sliding_window": WINDOW, "attn_logit_softcapping": 5.0,
                                        "final_logit_softcapping": 30.0}, layers=4, tied=True)


def gemma3(path):
    """Five layers of six slide."""
    def layer(weights, block, _):
        attention(weights, block)
        head_norms(weights, block)
        weights.norm(f"{block}.post_attention_norm", WIDTH)
        feed_forward(weights, block)
        weights.norm(f"{block}.post_ffw_norm", WIDTH)
    transformer(path, "gemma3", layer, {"attention.sliding_window": WINDOW}, layers=7)


def gpt_oss(path):
    """Attention sinks: a logit a head that no cell has; every second layer slides; experts."""
    def layer(weights, block, _):
        attention(weights, block)
        for part, heads in (("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS)):
            weights.vector(f"{block}.attn_{part}.bias", heads * HEAD)
        weights.vector(f"{block}.attn_output.bias", WIDTH)
        weights.vector(f"{block}.attn_sinks.weight", HEADS, mean=2.0)
        experts(weights, block, norm="post_attention_norm")
        weights.vector(f"{block}.ffn_gate_inp.bias", EXPERTS)
        for part, width in (("gate", WIDE), ("up", WIDE), ("down", WIDTH)):
            weights.vector(f"{block}.ffn_{part}_exps.bias", EXPERTS, width)
    transformer(path, "gpt-oss", layer, {"attention.sliding_window": WINDOW, "expert_feed_forward_length": WIDE,
                                         **EXPERT_SETTINGS}, layers=4)


def granite_hybrid(path):
    """State space layers, and attention in every third."""
    def layer(weights, block, index):
        attention(weights, block) if index % 3 == 2 else state_space(weights, block)
        feed_forward(weights, block)
    heads = [KV_HEADS if index % 3 == 2 else 0 for index in range(6)]
    transformer(path, "granitehybrid", layer, {"attention.head_count_kv": heads, "attention.scale": HEAD ** -0.5,
                                               "residual_scale": 1.0, "embedding_scale": 1.0, "logit_scale": 1.0,
                                               **SSM}, layers=6)


def falcon_h1(path):
    """State space and attention side by side in every layer."""
    def layer(weights, block, _):
        state_space(weights, block)
        attention(weights, block)
        feed_forward(weights, block)
        norm = weights.tensors.pop(f"{block}.ffn_norm.weight")
        weights.tensors[f"{block}.ffn_norm"] = norm  # its name has no ending
    transformer(path, "falcon-h1", layer, SSM)


def qwen35(path):
    """Gated delta layers, attention in every fourth, with M-RoPE in turns."""
    heads, state = 4, 16
    inner = heads * state

    def layer(weights, block, index):
        if index % 4 == 3:
            attention(weights, block, queries=2)
            head_norms(weights, block)
        else:
            weights.norm(f"{block}.attn_norm", WIDTH)
            weights.matrix(f"{block}.attn_qkv", 3 * inner, WIDTH)
            weights.matrix(f"{block}.attn_gate", inner, WIDTH)
            weights.matrix(f"{block}.ssm_conv1d", 3 * inner, 4)
            weights.vector(f"{block}.ssm_dt.bias", heads)
            weights.vector(f"{block}.ssm_a", heads, mean=-1.0)
            weights.matrix(f"{block}.ssm_beta", heads, WIDTH)
            weights.matrix(f"{block}.ssm_alpha", heads, WIDTH)
            weights.norm(f"{block}.ssm_norm", state)
            weights.matrix(f"{block}.ssm_out", WIDTH, inner)
        feed_forward(weights, block, norm="post_attention_norm")
    transformer(path, "qwen35", layer, {"rope.dimension_sections": [6, 5, 5, 0], "ssm.conv_kernel": 4,
                                        "ssm.inner_size": inner, "ssm.state_size": state,
                                        "ssm.time_step_rank": heads, "ssm.group_count": heads}, layers=4)


def mla(path):
    """Multi-head latent attention: keys and values are views of one latent vector."""
    rank, rotated = 32, 16

    def layer(weights, block, _):
        weights.norm(f"{block}.attn_norm", WIDTH)
        weights.norm(f"{block}.attn_q_a_norm", rank)
        weights.norm(f"{block}.attn_kv_a_norm", rank)
        weights.matrix(f"{block}.attn_q_a", rank, WIDTH)
        weights.matrix(f"{block}.attn_q_b", HEADS * (HEAD + rotated), rank)
        weights.matrix(f"{block}.attn_kv_a_mqa", rank + rotated, WIDTH)
        weights.matrix(f"{block}.attn_k_b", HEADS, rank, HEAD)
        weights.matrix(f"{block}.attn_v_b", HEADS, HEAD, rank)
        weights.matrix(f"{block}.attn_output", WIDTH, HEADS * HEAD)
        feed_forward(weights, block)
    transformer(path, "deepseek2", layer, {
        "attention.head_count_kv": 1, "attention.key_length": rank + rotated, "attention.value_length": rank,
        "attention.key_length_mla": HEAD + rotated, "attention.value_length_mla": HEAD, "attention.q_lora_rank": rank,
        "attention.kv_lora_rank": rank, "rope.dimension_count": rotated, "leading_dense_block_count": LAYERS,
        "expert_feed_forward_length": WIDE, "expert_shared_count": 1, **EXPERT_SETTINGS})


def mamba(path):
    """State space layers alone: a state that does not grow."""
    inner, state, rank = 2 * WIDTH, 16, 4

    def layer(weights, block, _):
        weights.norm(f"{block}.attn_norm", WIDTH)
        weights.matrix(f"{block}.ssm_in", 2 * inner, WIDTH)
        weights.matrix(f"{block}.ssm_conv1d", inner, 4)
        weights.vector(f"{block}.ssm_conv1d.bias", inner)
        weights.matrix(f"{block}.ssm_x", rank + 2 * state, inner)
        weights.matrix(f"{block}.ssm_dt", inner, rank)
        weights.vector(f"{block}.ssm_dt.bias", inner)
        weights.vector(f"{block}.ssm_a", inner, state, mean=-1.0)
        weights.vector(f"{block}.ssm_d", inner)
        weights.matrix(f"{block}.ssm_out", WIDTH, inner)
    transformer(path, "mamba", layer, {"ssm.conv_kernel": 4, "ssm.inner_size": inner, "ssm.state_size": state,
                                       "ssm.time_step_rank": rank})


def alibi(path):
    """Attention falls off with the distance in positions, which folded cells do not have."""
    llama_like(path, {"attention.head_count_kv": HEADS, "attention.key_length": WIDTH // HEADS,
                      "attention.value_length": WIDTH // HEADS, "rope.dimension_count": WIDTH // HEADS},
               architecture="refact", kv_heads=HEADS, key=WIDTH // HEADS, value=WIDTH // HEADS)


def encoder(path):
    """Keeps no context."""
    weights = Weights(path.stem)
    weights.matrix("token_embd", len(TOKENS), WIDTH)
    weights.matrix("position_embd", CONTEXT, WIDTH)
    weights.matrix("token_types", 2, WIDTH)
    weights.norm("token_embd_norm", WIDTH)
    weights.vector("token_embd_norm.bias", WIDTH)
    for index in range(LAYERS):
        block = f"blk.{index}"
        attention(weights, block, kv_heads=HEADS, key=WIDTH // HEADS, value=WIDTH // HEADS)
        del weights.tensors[f"{block}.attn_norm.weight"]
        for norm in ("attn_output_norm", "layer_output_norm"):
            weights.norm(f"{block}.{norm}", WIDTH)
            weights.vector(f"{block}.{norm}.bias", WIDTH)
        weights.matrix(f"{block}.ffn_up", WIDE, WIDTH)
        weights.matrix(f"{block}.ffn_down", WIDTH, WIDE)
    write(path, "bert", {"attention.head_count_kv": HEADS, "attention.key_length": WIDTH // HEADS,
                         "attention.value_length": WIDTH // HEADS, "attention.layer_norm_epsilon": 1e-5,
                         "attention.causal": False, "pooling_type": 1}, weights)


MODELS = [mha, mqa, unequal_widths, qwen2, qwen3, qwen2vl, olmoe, gemma2, gemma3, gpt_oss, granite_hybrid, falcon_h1,
          qwen35, mla, mamba, alibi, encoder]

if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for model in MODELS:
        model(folder / f"{model.__name__}.gguf")
