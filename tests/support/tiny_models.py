"""Tiny random-weight GGUF models, one a kind of attention: enough for llama.cpp to load and decode.

    python3 tiny_models.py FOLDER     # writes FOLDER/NAME.gguf for every name in MODELS

Their weights mean nothing, so they show exactness and never quality. Shapes are numpy's, rows first: a matrix that
takes `width` numbers and gives `heads * HEAD` has the shape (heads * HEAD, width).
"""
import pathlib
import sys

from tiny_layers import (CONTEXT, DELTA, EXPERTS, FEW, FEW_HEADS, HEAD, HEADS, KV_HEADS, LAYERS, Q4_0, SOME_EXPERTS,
                         SSM, STATE, STATE_HEADS, TOKENS, WIDE, WIDTH, WINDOW, Weights, attention, delta_or_attention,
                         experts, feed_forward, gguf, head_norms, mamba1, mamba2, numpy, post_norms, write)


def make(path, layer, layers=LAYERS, tied=False):
    """layer(weights, index) makes one layer. tied: embedding and output are one, small beside what the layers add."""
    weights = Weights(path.stem)
    weights.matrix(0.5 if tied else WIDTH ** 0.5, token_embd=(len(TOKENS), WIDTH))
    weights.vector(4.0 if tied else 1.0, **{"output_norm.weight": WIDTH})
    if not tied:
        weights.matrix(2.0, output=(len(TOKENS), WIDTH))
    for index in range(layers):
        weights.prefix = f"blk.{index}."
        layer(weights, index)
    weights.prefix = ""
    return weights


def transformer(path, architecture, layer, settings=None, layers=LAYERS, tied=False):
    write(path, architecture, {"block_count": layers, **(settings or {})}, make(path, layer, layers, tied))


def llama_like(path, settings, architecture="llama", *norms, network=feed_forward, layers=LAYERS, tied=False, **shapes):
    """norms: each makes norms that a layer has beside the two."""
    def layer(weights, _):
        attention(weights, **shapes)
        network(weights)
        for norm in norms:
            norm(weights)
    transformer(path, architecture, layer, settings, layers, tied)


def mha(path):
    """As many KV heads as query heads."""
    llama_like(path, {"attention.head_count_kv": HEADS}, kv_heads=HEADS)


def mqa(path):
    """One KV head for all query heads."""
    llama_like(path, {"attention.head_count_kv": 1}, kv_heads=1)


def unequal_widths(path):
    """Keys twice as wide as values."""
    key = 2 * HEAD

    def layer(weights, _):
        attention(weights, key=key)
        head_norms(weights, key)
        weights.tensors[f"{weights.prefix}attn_qkv.weight"] = numpy.concatenate(
            [weights.tensors.pop(f"{weights.prefix}attn_{part}.weight") for part in "qkv"])
        weights.vector(1.0, post_attention_norm=WIDTH, post_ffw_norm=WIDTH)
        weights.norm("ffn_norm")
        weights.matrix(ffn_up=(2 * WIDE, WIDTH), ffn_down=(WIDTH, WIDE))
    transformer(path, "plamo3", layer, {"attention.key_length": key, "rope.dimension_count": key})


def all_window(path):
    """Every layer slides."""
    llama_like(path, {"attention.sliding_window": WINDOW, "attention.sliding_window_pattern": [True] * LAYERS,
                      "expert_feed_forward_length": WIDE}, "mimo2")


def qwen2(path):
    """Biases on queries, keys and values."""
    llama_like(path, FEW_HEADS, "qwen2", bias=True, **FEW)


def qwen3(path):
    """Queries and keys are normalised head by head."""
    llama_like(path, {}, "qwen3", head_norms)


def qwen2vl(path):
    """M-RoPE: a position has several parts."""
    llama_like(path, {"rope.dimension_sections": [4, 6, 6, 0], **FEW_HEADS}, "qwen2vl", **FEW)


def qwen3vl(path):
    """M-RoPE whose parts take turns."""
    llama_like(path, {"rope.dimension_sections": [6, 5, 5, 0]}, "qwen3vl", head_norms)


def olmoe(path):
    """A mixture of experts, queries and keys normalised as a whole."""
    llama_like(path, {**FEW_HEADS, "attention.head_count_kv": 2, **SOME_EXPERTS}, "olmoe",
               lambda weights: head_norms(weights, WIDTH), network=experts, heads=2, kv_heads=2)


def gemma2(path):
    """Logits are capped; every second layer slides."""
    llama_like(path, {"attention.sliding_window": WINDOW, "attn_logit_softcapping": 5.0,
                      "final_logit_softcapping": 30.0}, "gemma2", post_norms, layers=4, tied=True)


def gemma3(path):
    """Five layers of six slide."""
    llama_like(path, {"attention.sliding_window": WINDOW}, "gemma3", head_norms, post_norms, layers=7, tied=True)


def gpt_oss(path):
    """Attention sinks: a logit a head that no cell has; every second layer slides; experts."""
    def layer(weights, _):
        attention(weights, bias=True)
        weights.vector(2.0, **{"attn_sinks.weight": HEADS})
        experts(weights, norm="post_attention_norm")
        weights.vector(**{"attn_output.bias": WIDTH, "ffn_gate_inp.bias": EXPERTS})
        weights.vector(**{f"ffn_{part}_exps.bias": (EXPERTS, width)
                          for part, width in (("gate", WIDE), ("up", WIDE), ("down", WIDTH))})
    transformer(path, "gpt-oss", layer, {"attention.sliding_window": WINDOW, **SOME_EXPERTS}, layers=4)


def granite_hybrid(path):
    """Mamba 2 layers, and attention in every third."""
    def layer(weights, index):
        attention(weights) if index % 3 == 2 else mamba2(weights)
        feed_forward(weights)
    transformer(path, "granitehybrid", layer, {
        "attention.head_count_kv": [0, 0, KV_HEADS] * 2, "attention.scale": HEAD ** -0.5, "residual_scale": 1.0,
        "embedding_scale": 1.0, "logit_scale": 1.0, **SSM}, layers=6)


def jamba(path):
    """Mamba 1 layers, and attention without rotation in every third."""
    def layer(weights, index):
        if index % 3 == 2:
            attention(weights, **FEW)
        else:
            mamba1(weights)
            weights.norm("ssm_dt_norm", width=STATE_HEADS)
            weights.norm("ssm_b_norm", "ssm_c_norm", width=STATE)
        feed_forward(weights)
    transformer(path, "jamba", layer, {**FEW_HEADS, "attention.head_count_kv": [0, 0, 1] * 2, **SSM}, layers=6)


def falcon_h1(path):
    """Mamba 2 and attention side by side in every layer."""
    def layer(weights, _):
        mamba2(weights)
        attention(weights)
        feed_forward(weights)
        weights.tensors[f"{weights.prefix}ffn_norm"] = weights.tensors.pop(f"{weights.prefix}ffn_norm.weight")
    transformer(path, "falcon-h1", layer, SSM)


def qwen3next(path):
    """Gated delta and attention, experts beside one that all tokens share."""
    def layer(weights, index):
        delta_or_attention(weights, index, ssm_ba=2)
        experts(weights, norm="post_attention_norm")
        feed_forward(weights, norm="ffn_gate_inp_shexp", ending="_shexp")  # a gate of a norm's shape
    transformer(path, "qwen3next", layer, {**SOME_EXPERTS, **DELTA}, layers=4)


def qwen35(path):
    """Gated delta and attention, with M-RoPE in turns."""
    def layer(weights, index):
        delta_or_attention(weights, index, ssm_beta=1, ssm_alpha=1)
        feed_forward(weights, norm="post_attention_norm")
    transformer(path, "qwen35", layer, {"rope.dimension_sections": [6, 5, 5, 0], **DELTA}, layers=4)


def mla(path):
    """Multi-head latent attention: keys and values are views of one latent vector."""
    rank, rotated = 32, 16

    def layer(weights, _):
        weights.norm("attn_norm")
        weights.norm("attn_q_a_norm", "attn_kv_a_norm", width=rank)
        weights.matrix(attn_q_a=(rank, WIDTH), attn_q_b=(HEADS * (HEAD + rotated), rank),
                       attn_kv_a_mqa=(rank + rotated, WIDTH), attn_k_b=(HEADS, rank, HEAD),
                       attn_v_b=(HEADS, HEAD, rank), attn_output=(WIDTH, HEADS * HEAD))
        feed_forward(weights)
    transformer(path, "deepseek2", layer, {
        "attention.head_count_kv": 1, "attention.key_length": rank + rotated, "attention.value_length": rank,
        "attention.key_length_mla": HEAD + rotated, "attention.value_length_mla": HEAD, "attention.q_lora_rank": rank,
        "attention.kv_lora_rank": rank, "rope.dimension_count": rotated, "leading_dense_block_count": LAYERS,
        "expert_shared_count": 1, **SOME_EXPERTS})


def gemma3n(path):
    """The last layer reads the cache of an earlier one."""
    layers, streams, narrow, rank = 21, 4, 256, 64  # llama.cpp fixes these: the first twenty keep a cache of their own

    def layer(weights, _):
        attention(weights)
        head_norms(weights, mean=0.5)  # logits are not scaled down by the width
        feed_forward(weights)
        post_norms(weights)
        weights.norm("post_norm", "altup_correct_scale", "altup_router_norm", "laurel_post_norm")
        weights.matrix(inp_gate=(narrow, WIDTH), proj=(WIDTH, narrow), altup_correct_coef=(streams, streams),
                       altup_predict_coef=(streams * streams, streams), altup_router=(streams, WIDTH),
                       laurel_l=(rank, WIDTH), laurel_r=(WIDTH, rank))
    weights = make(path, layer, layers, tied=True)
    weights.norm("per_layer_proj_norm", width=narrow)
    weights.matrix(altup_proj=(streams - 1, WIDTH, WIDTH), altup_unembd_proj=(streams - 1, WIDTH, WIDTH),
                   per_layer_token_embd=(len(TOKENS), narrow * layers), per_layer_model_proj=(narrow * layers, WIDTH))
    write(path, "gemma3n", {"block_count": layers, "attention.sliding_window": WINDOW}, weights, kind=Q4_0)


def mamba(path):
    """Mamba 1 layers alone: a state that does not grow."""
    transformer(path, "mamba", lambda weights, _: mamba1(weights), SSM)


def rwkv7(path):
    """Linear attention alone: a state that does not grow."""
    rank = 8

    def layer(weights, _):
        weights.biased_norm("attn_norm", "attn_norm_2", "time_mix_ln")
        weights.vector(**{f"time_mix_{part}0.weight": WIDTH for part in "wav"})
        weights.matrix(**{f"time_mix_{part}1": (rank, WIDTH) for part in "wavg"},
                       **{f"time_mix_{part}2": (WIDTH, rank) for part in "wavg"},
                       **{f"time_mix_{part}": (WIDTH, WIDTH) for part in ("key", "value", "receptance", "output")},
                       channel_mix_key=(WIDE, WIDTH), channel_mix_value=(WIDTH, WIDE))
        weights.vector(0.5, **{f"time_mix_{part}.weight": WIDTH for part in ("k_k", "k_a", "r_k")},
                       **{"time_mix_lerp_fused.weight": (6, 1, 1, WIDTH), "channel_mix_lerp_k.weight": (1, 1, WIDTH)})
    weights = make(path, layer)
    weights.biased_norm("output_norm", "token_embd_norm")
    ranks = {f"attention.{part}_lora_rank": rank for part in ("decay", "iclr", "value_residual_mix", "gate")}
    write(path, "rwkv7", {"attention.head_count": 0, "attention.head_count_kv": 0, "wkv.head_size": HEAD,
                          "attention.layer_norm_epsilon": 1e-5, **ranks}, weights)


def alibi(path):
    """Attention falls off with the distance in positions, which folded cells do not have."""
    llama_like(path, {}, "refact")


def encoder(path):
    """Keeps no context."""
    def layer(weights, _):
        attention(weights, heads=2, kv_heads=2)
        del weights.tensors[f"{weights.prefix}attn_norm.weight"]
        weights.biased_norm("attn_output_norm", "layer_output_norm")
        weights.matrix(ffn_up=(WIDE, WIDTH), ffn_down=(WIDTH, WIDE))
    weights = make(path, layer, tied=True)
    del weights.tensors["output_norm.weight"]
    weights.biased_norm("token_embd_norm")
    weights.matrix(position_embd=(CONTEXT, WIDTH), token_types=(2, WIDTH))
    write(path, "bert", {**FEW_HEADS, "attention.head_count_kv": 2, "attention.layer_norm_epsilon": 1e-5,
                         "attention.causal": False, "pooling_type": 1}, weights)


def adapters(folder):
    """mha's LoRA adapter and control vector, and mha with the adapter merged into its weights: both compute the same."""
    rank = 4
    weights = make(pathlib.Path("mha"), lambda weights, _: (attention(weights, kv_heads=HEADS), feed_forward(weights)))
    lora = Weights("lora")
    for index in range(LAYERS):
        name = f"blk.{index}.attn_q.weight"
        lora.vector(**{f"{name}.lora_a": (rank, WIDTH), f"{name}.lora_b": (HEADS * HEAD, rank)})
        lora.tensors[f"{name}.lora_b"] *= 10
        weights.tensors[name] += lora.tensors[f"{name}.lora_b"] @ lora.tensors[f"{name}.lora_a"]
    write(folder / "mha_merged.gguf", "llama", {"block_count": LAYERS, "attention.head_count_kv": HEADS}, weights)
    control = Weights("control")
    control.vector(spread=2.0, **{f"direction.{index}": WIDTH for index in range(1, LAYERS)})
    for name, kind, tensors in (("mha_lora", "adapter", lora.tensors), ("mha_control", "controlvector", control.tensors)):
        writer = gguf.GGUFWriter(folder / f"{name}.part", "llama" if kind == "adapter" else "controlvector")
        writer.add_type(kind)
        writer.add_string("adapter.type", "lora")
        writer.add_float32("adapter.lora.alpha", rank)
        for tensor in tensors:
            writer.add_tensor(tensor, tensors[tensor])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        (folder / f"{name}.part").replace(folder / f"{name}.gguf")


COMPACTABLE = [mha, mqa, unequal_widths, qwen2, qwen3, qwen2vl, qwen3vl, olmoe, gemma2, gemma3, gemma3n, gpt_oss,
               granite_hybrid, jamba, falcon_h1, qwen3next, qwen35]
REFUSED = [mla, mamba, rwkv7, alibi, encoder, all_window]
MODELS = COMPACTABLE + REFUSED


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for model in MODELS:
        model(folder / f"{model.__name__}.gguf")
    adapters(folder)
