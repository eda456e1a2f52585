"""Tiny random GGUF models of kinds that kvfold must refuse: enough for llama.cpp to load and decode."""
import random
import struct

WIDTH, WIDE, LAYERS, HEADS, VOCABULARY, CONTEXT = 32, 64, 2, 2, 64, 128
ALIGNMENT = 32
U32, F32, BOOL, STRING = 4, 6, 7, 8


def _string(text):
    return struct.pack("<Q", len(text)) + text.encode()


def _value(value):
    if isinstance(value, bool):
        return struct.pack("<I?", BOOL, value)
    if isinstance(value, int):
        return struct.pack("<II", U32, value)
    if isinstance(value, float):
        return struct.pack("<If", F32, value)
    return struct.pack("<I", STRING) + _string(value)


def _write(path, architecture, settings, tensors):
    """settings: keys behind the architecture's name. tensors: name -> ggml dimensions, all f32."""
    rng = random.Random(1)
    settings = {"context_length": CONTEXT, "embedding_length": WIDTH, "block_count": LAYERS,
                "feed_forward_length": WIDE, "attention.head_count": HEADS, "vocab_size": VOCABULARY, **settings}
    keys = {"general.architecture": architecture, "tokenizer.ggml.model": "none",
            "tokenizer.ggml.token_type_count": 2, **{f"{architecture}.{key}": value for key, value in settings.items()}}
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys))
    head += b"".join(_string(key) + _value(value) for key, value in keys.items())
    data = b""
    for name, dimensions in tensors.items():
        head += _string(name) + struct.pack(f"<I{len(dimensions)}QIQ", len(dimensions), *dimensions, 0, len(data))
        count = 1
        for dimension in dimensions:
            count *= dimension
        data += struct.pack(f"<{count}f", *(rng.gauss(0, 0.1) for _ in range(count)))
        data += bytes(-len(data) % ALIGNMENT)
    path.write_bytes(head + bytes(-len(head) % ALIGNMENT) + data)


def _attention(layer):
    return {f"blk.{layer}.attn_{part}.weight": (WIDTH, WIDTH) for part in ("q", "k", "v", "output")}


def write_alibi_model(path):
    tensors = {"token_embd.weight": (WIDTH, VOCABULARY), "output_norm.weight": (WIDTH,)}
    for layer in range(LAYERS):
        tensors |= _attention(layer)
        tensors |= {f"blk.{layer}.{norm}.weight": (WIDTH,) for norm in ("attn_norm", "ffn_norm")}
        tensors |= {f"blk.{layer}.ffn_{part}.weight": (WIDTH, WIDE) for part in ("gate", "up")}
        tensors |= {f"blk.{layer}.ffn_down.weight": (WIDE, WIDTH)}
    _write(path, "refact", {"attention.layer_norm_rms_epsilon": 1e-5}, tensors)


def write_encoder_model(path):
    norms = ("attn_output_norm", "layer_output_norm")
    tensors = {"token_embd.weight": (WIDTH, VOCABULARY), "position_embd.weight": (WIDTH, CONTEXT),
               "token_types.weight": (WIDTH, 2), "token_embd_norm.weight": (WIDTH,), "token_embd_norm.bias": (WIDTH,)}
    for layer in range(LAYERS):
        tensors |= _attention(layer)
        tensors |= {f"blk.{layer}.{norm}.{part}": (WIDTH,) for norm in norms for part in ("weight", "bias")}
        tensors |= {f"blk.{layer}.ffn_up.weight": (WIDTH, WIDE), f"blk.{layer}.ffn_down.weight": (WIDE, WIDTH)}
    settings = {"attention.layer_norm_epsilon": 1e-5, "attention.causal": False, "pooling_type": 1}
    _write(path, "bert", settings, tensors)
