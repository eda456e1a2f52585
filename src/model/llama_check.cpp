#include "model/llama_check.h"

#include "model/attention_node.h"
#include "model/llama_functions.h"

#include <ggml-cpp.h>
#include <llama.h>

#include <cstring>
#include <dlfcn.h>
#include <memory>

namespace kvfold {

namespace {

constexpr size_t kSpare = 512; // bytes by which a struct of another version may be longer

template <class... Args> tl::unexpected<Error> differs(fmt::format_string<Args...> format, Args&&... args) {
    return fail(ErrorCode::unsupported, "this llama.cpp ({}) is none that kvfold {} can work with: {}",
                llama_version_name(), KVFOLD_VERSION, kvfold::format(format, std::forward<Args>(args)...));
}

Status check_functions() {
    for (const char* name : kLlamaFunctions)
        if (dlsym(RTLD_DEFAULT, name) == nullptr) return differs("it has no {}", name);
    return {};
}

// The size of the struct that `make` returns as the library has it, by the last byte that it writes. Asked
// with two fillings: a byte of the struct can look like one of them.
template <class Struct> size_t written_size(Struct (*make)(), Struct& made) {
    struct alignas(16) Room {
        unsigned char bytes[sizeof(Struct) + kSpare];
    };
    size_t written = 0;
    for (const int filling : {0x00, 0xA5}) {
        alignas(Room) unsigned char room[sizeof(Room)];
        std::memset(room, filling, sizeof room);
        asm volatile(""
                     :
                     : "r"(room)
                     : "memory"); // the filling is read below, though an object is made over it
        // Larger than any register, so the caller passes the place: a longer struct needs only more room.
        new (room) Room(reinterpret_cast<Room (*)()>(reinterpret_cast<void (*)()>(make))());
        asm volatile("" : : "r"(room) : "memory");
        for (size_t i = 0; i < sizeof room; ++i)
            if (room[i] != filling) written = std::max(written, i + 1);
        std::memcpy(&made, room, sizeof made);
    }
    return (written + alignof(Struct) - 1) / alignof(Struct) * alignof(Struct);
}

template <class Struct> Status check_size(const char* name, Struct (*make)(), Struct& made) {
    const size_t size = written_size(make, made);
    if (size == sizeof(Struct)) return {};
    return differs("its {} has {} bytes, the one that kvfold was compiled for (llama.cpp {}) has {}", name,
                   size, compiled_llama_version(), sizeof(Struct));
}

Status check_context_params() {
    llama_context_params params;
    KVFOLD_CHECK(check_size("llama_context_params", llama_context_default_params, params));
    const bool same = params.n_ctx == 512 && params.n_batch == 2048 && params.n_ubatch == 512 &&
                      params.n_seq_max == 1 && params.yarn_ext_factor == -1.0f &&
                      params.type_k == GGML_TYPE_F16 && params.type_v == GGML_TYPE_F16 &&
                      params.cb_eval == nullptr && params.abort_callback == nullptr &&
                      params.samplers == nullptr && params.n_samplers == 0;
    return same ? Status() : differs("fields of its llama_context_params stand elsewhere");
}

Status check_model_params() {
    llama_model_params params;
    KVFOLD_CHECK(check_size("llama_model_params", llama_model_default_params, params));
    const bool same = params.devices == nullptr && params.tensor_split == nullptr && params.main_gpu == 0 &&
                      params.progress_callback == nullptr && params.kv_overrides == nullptr &&
                      !params.vocab_only && !params.no_alloc;
    return same ? Status() : differs("fields of its llama_model_params stand elsewhere");
}

llama_token g_token = 7;
llama_batch batch_of_one() { return llama_batch_get_one(&g_token, 1); }

Status check_batch() {
    llama_batch batch;
    KVFOLD_CHECK(check_size("llama_batch", batch_of_one, batch));
    const bool same = batch.n_tokens == 1 && batch.token == &g_token && batch.embd == nullptr &&
                      batch.pos == nullptr && batch.n_seq_id == nullptr && batch.seq_id == nullptr &&
                      batch.logits == nullptr;
    return same ? Status() : differs("fields of its llama_batch stand elsewhere");
}

Status check_types() {
    constexpr std::pair<ggml_type, std::string_view> kTypes[] = {
        {GGML_TYPE_F32, "f32"},   {GGML_TYPE_F16, "f16"},   {GGML_TYPE_BF16, "bf16"},
        {GGML_TYPE_Q8_0, "q8_0"}, {GGML_TYPE_Q4_0, "q4_0"}, {GGML_TYPE_Q4_1, "q4_1"},
        {GGML_TYPE_Q5_0, "q5_0"}, {GGML_TYPE_Q5_1, "q5_1"}, {GGML_TYPE_IQ4_NL, "iq4_nl"},
    };
    for (const auto& [type, name] : kTypes)
        if (name != ggml_type_name(type))
            return differs("its tensor type {} is {}, expected {}", static_cast<int>(type),
                           ggml_type_name(type), name);
    return {};
}

// A flash-attention node as llama.cpp's graphs have it, and what kvfold reads of one.
Status check_attention_node() {
    const ggml_init_params memory = {16 * ggml_tensor_overhead(), nullptr, /*no_alloc=*/true};
    const ggml_context_ptr ctx(ggml_init(memory));
    if (!ctx) return fail(ErrorCode::memory, "no memory for a tensor");
    ggml_tensor* q = ggml_new_tensor_3d(ctx.get(), GGML_TYPE_F32, 64, 3, 6);
    ggml_tensor* cache = ggml_new_tensor_3d(ctx.get(), GGML_TYPE_F16, 64, 256, 2);
    ggml_tensor* k = ggml_view_1d(ctx.get(), cache, 64, 0);
    ggml_tensor* v = ggml_new_tensor_3d(ctx.get(), GGML_TYPE_F16, 32, 256, 2);
    if (k->view_src != cache || cache->type != GGML_TYPE_F16 || cache->ne[0] != 64 || cache->ne[1] != 256 ||
        cache->ne[2] != 2 || ggml_get_name(cache) != cache->name)
        return differs("fields of its ggml_tensor stand elsewhere");
    const ggml_tensor* node = ggml_flash_attn_ext(ctx.get(), q, cache, v, nullptr, 0.5f, 0.0f, 30.0f);
    float parameters[3] = {};
    std::memcpy(parameters, node->op_params, sizeof parameters);
    if (node->src[kQuerySource] != q || node->src[kKeySource] != cache || node->src[kValueSource] != v ||
        parameters[0] != 0.5f || parameters[1] != 0.0f || parameters[2] != 30.0f)
        return differs("its attention nodes are made otherwise");
    if (!is_flash_attention(node)) return differs("its attention nodes are named {}", ggml_op_name(node->op));
    return {};
}

} // namespace

std::vector<LlamaCheck> check_llama_parts() {
    std::vector<LlamaCheck> checks = {{"functions", check_functions()}};
    if (!checks.front().result) return checks; // the others call them
    checks.push_back({"context parameters", check_context_params()});
    checks.push_back({"model parameters", check_model_params()});
    checks.push_back({"batches", check_batch()});
    checks.push_back({"tensor types", check_types()});
    checks.push_back({"attention nodes", check_attention_node()});
    return checks;
}

Status check_llama() {
    static const Status first = []() -> Status {
        for (LlamaCheck& check : check_llama_parts())
            KVFOLD_CHECK(std::move(check.result));
        return {};
    }();
    return first;
}

std::string llama_version_name() {
    // Since August 2026; older ones have no name for themselves.
    const auto version = reinterpret_cast<const char* (*)()>(dlsym(RTLD_DEFAULT, "llama_version"));
    return version ? version() : "of unknown version";
}

std::string_view compiled_llama_version() { return KVFOLD_LLAMA_VERSION; }

std::string library_of(const char* function) {
    Dl_info library;
    const void* address = dlsym(RTLD_DEFAULT, function);
    return address && dladdr(address, &library) ? library.dli_fname : "";
}

std::string untested_llama_warning() {
    const std::string version = llama_version_name();
    const std::string_view tested = KVFOLD_TESTED_LLAMA; // ",0.4.0,0.5.0,"
    if (tested.find("," + version + ",") != std::string_view::npos) return {};
    return kvfold::format(
        "llama.cpp {} is not among the versions that kvfold {} is tested with ({}); all checks "
        "of it passed",
        version, KVFOLD_VERSION, tested.substr(1, tested.size() - 2));
}

} // namespace kvfold
