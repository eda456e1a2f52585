"""What tiny models are made of: their sizes, random weights, the GGUF file, and the parts of their layers."""
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
HEADS, KV_HEADS, HEAD, EXPERTS = 4, 2, 32, 4  # a head is 32 wide: one block of the quantised cache types
SHARPNESS = 1.5  # of queries and keys, so that attention picks cells out instead of averaging all
TOKENS = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", *map(chr, range(0x21, 0x7F))]
F32, Q4_0 = gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.Q4_0
FEW, FEW_HEADS = {"heads": 2, "kv_heads": 1}, {"attention.head_count": 2, "attention.head_count_kv": 1}  # WIDTH in all
SOME_EXPERTS = {"expert_count": EXPERTS, "expert_used_count": 2, "expert_feed_forward_length": WIDE}
INNER, STATE, STATE_HEADS, KERNEL = 2 * WIDTH, 16, 4, 4
SSM = {"ssm.conv_kernel": KERNEL, "ssm.inner_size": INNER, "ssm.state_size": STATE,
       "ssm.time_step_rank": STATE_HEADS, "ssm.group_count": 1}
DELTA = {**SSM, "ssm.inner_size": STATE_HEADS * STATE, "ssm.group_count": STATE_HEADS}


class Weights:
    """Named random tensors of one model; `prefix` stands before the names while a layer is made."""

    def __init__(self, seed):
        self.random = numpy.random.default_rng(zlib.crc32(seed.encode()))
        self.prefix = ""
        self.tensors = {}

    def matrix(self, factor=1.0, **shapes):
        for name, shape in shapes.items():
            self.vector(0.0, factor / shape[-1] ** 0.5, **{f"{name}.weight": shape})

    def norm(self, *names, width=WIDTH):
        self.vector(1.0, **{f"{name}.weight": width for name in names})

    def biased_norm(self, *names):
        self.norm(*names)
        self.vector(**{f"{name}.bias": WIDTH for name in names})

    def vector(self, mean=0.0, spread=0.1, **shapes):
        """Names are whole: some have no ending."""
        for name, shape in shapes.items():
            self.tensors[self.prefix + name] = self.random.normal(mean, spread, shape).astype(numpy.float32)


def write(path, architecture, settings, weights, kind=F32):
    """settings: keys behind the architecture's name. kind: of the matrices whose rows are whole blocks."""
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
    writer.add_token_type_count(2)  # encoders ask for it
    basics = {"context_length": CONTEXT, "embedding_length": WIDTH, "block_count": LAYERS, "feed_forward_length": WIDE,
              "attention.head_count": HEADS, "attention.head_count_kv": KV_HEADS, "attention.key_length": HEAD,
              "attention.value_length": HEAD, "rope.dimension_count": HEAD,
              "attention.layer_norm_rms_epsilon": 1e-5, "vocab_size": len(TOKENS)}
    for key, value in {**basics, **settings}.items():
        add = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string,
               list: writer.add_array}[type(value)]
        add(f"{architecture}.{key}", value)
    for name, tensor in weights.tensors.items():
        own = kind if tensor.ndim > 1 and tensor.shape[-1] % 32 == 0 else F32
        writer.add_tensor(name, gguf.quants.quantize(tensor, own), raw_dtype=own)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.replace(path)


def attention(weights, heads=HEADS, kv_heads=KV_HEADS, key=HEAD, value=HEAD, queries=1, bias=False):
    """queries: 2 where the query projection carries a gate as well."""
    weights.norm("attn_norm")
    weights.matrix(SHARPNESS, attn_q=(queries * heads * key, WIDTH), attn_k=(kv_heads * key, WIDTH))
    weights.matrix(attn_v=(kv_heads * value, WIDTH), attn_output=(WIDTH, heads * value))
    if bias:
        weights.vector(**{"attn_q.bias": heads * key, "attn_k.bias": kv_heads * key, "attn_v.bias": kv_heads * value})


def head_norms(weights, width=HEAD, mean=SHARPNESS):
    weights.vector(mean, **{"attn_q_norm.weight": width, "attn_k_norm.weight": width})


def post_norms(weights):
    weights.norm("post_attention_norm", "post_ffw_norm")


def feed_forward(weights, norm="ffn_norm", ending=""):
    weights.norm(norm)
    weights.matrix(**{f"ffn_gate{ending}": (WIDE, WIDTH), f"ffn_up{ending}": (WIDE, WIDTH),
                      f"ffn_down{ending}": (WIDTH, WIDE)})


def experts(weights, norm="ffn_norm"):
    weights.norm(norm)
    weights.matrix(ffn_gate_inp=(EXPERTS, WIDTH), ffn_gate_exps=(EXPERTS, WIDE, WIDTH),
                   ffn_up_exps=(EXPERTS, WIDE, WIDTH), ffn_down_exps=(EXPERTS, WIDTH, WIDE))


def mamba1(weights):
    weights.norm("attn_norm")
    weights.matrix(ssm_in=(2 * INNER, WIDTH), ssm_conv1d=(INNER, KERNEL), ssm_x=(STATE_HEADS + 2 * STATE, INNER),
                   ssm_dt=(INNER, STATE_HEADS), ssm_out=(WIDTH, INNER))
    weights.vector(**{"ssm_conv1d.bias": INNER, "ssm_dt.bias": INNER, "ssm_d": INNER})
    weights.vector(-1.0, ssm_a=(INNER, STATE))


def mamba2(weights):
    convolved = INNER + 2 * STATE
    weights.norm("attn_norm")
    weights.norm("ssm_norm", width=(1, INNER))
    weights.matrix(ssm_in=(INNER + convolved + STATE_HEADS, WIDTH), ssm_conv1d=(convolved, KERNEL),
                   ssm_out=(WIDTH, INNER))
    weights.vector(**{"ssm_conv1d.bias": convolved, "ssm_dt.bias": STATE_HEADS, "ssm_d": (STATE_HEADS, 1)})
    weights.vector(-1.0, ssm_a=(STATE_HEADS, 1))


def delta_or_attention(weights, index, **mixers):
    """Gated attention in every fourth layer; mixers: how many numbers a head each gives in the others."""
    if index % 4 == 3:
        attention(weights, queries=2)
        return head_norms(weights)
    inner = STATE_HEADS * STATE
    weights.norm("attn_norm")
    weights.norm("ssm_norm", width=STATE)
    weights.matrix(attn_qkv=(3 * inner, WIDTH), attn_gate=(inner, WIDTH), ssm_conv1d=(3 * inner, KERNEL),
                   ssm_out=(WIDTH, inner), **{name: (count * STATE_HEADS, WIDTH) for name, count in mixers.items()})
    weights.vector(**{"ssm_dt.bias": STATE_HEADS})
    weights.vector(-1.0, ssm_a=STATE_HEADS)
