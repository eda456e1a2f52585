// The C API over the engine: turns Results into error codes and keeps exceptions inside.
#include "kvfold/kvfold.h"

#include "capi/archive.h"
#include "capi/sequence.h"
#include "engine/compact.h"
#include "engine/fold_once.h"
#include "model/probe.h"
#include "state/folded_region.h"
#include "state/live_sequence.h"
#include "state/slot_file.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

namespace {

using namespace kvfold;
using namespace kvfold::capi;

static_assert(static_cast<int>(Stage::snapshot) == KVFOLD_STAGE_SNAPSHOT);
static_assert(static_cast<int>(Stage::study) == KVFOLD_STAGE_STUDY);
static_assert(static_cast<int>(Stage::draft) == KVFOLD_STAGE_DRAFT);
static_assert(static_cast<int>(Stage::solve) == KVFOLD_STAGE_SOLVE);
static_assert(static_cast<int>(Stage::swap) == KVFOLD_STAGE_SWAP);

// The shortest structs that are served. A struct must not end in padding: a later field could lie there,
// where older programs have anything.
constexpr size_t kLeastParams = offsetof(kvfold_compact_params, n_threads);
constexpr size_t kLeastReport = offsetof(kvfold_compact_report, method);
constexpr size_t kLeastInfo = sizeof(kvfold_sequence_info);
static_assert(offsetof(kvfold_compact_params, solve_on) + sizeof(char*) == sizeof(kvfold_compact_params));
static_assert(offsetof(kvfold_compact_report, layers_on_devices) + sizeof(size_t) == sizeof(kvfold_compact_report));
static_assert(offsetof(kvfold_sequence_info, end) + sizeof(int32_t) == sizeof(kvfold_sequence_info));

constexpr const char* kInitParams = "fill the struct with kvfold_compact_params_init first";

Status check_params_size(size_t size) {
    return check_size<kvfold_compact_params>(size, kLeastParams, "params", kInitParams);
}

Status check_report_size(size_t size) {
    return check_size<kvfold_compact_report>(size, kLeastReport, "report",
                                             "fill the struct with kvfold_compact_report_init first");
}

kvfold_compact_params default_params() {
    const CompactRequest request;
    kvfold_compact_params params = {};
    params.ratio = request.budget.ratio;
    params.keep_first = request.budget.keep_first;
    params.keep_last = request.budget.keep_last;
    params.seed = request.seed;
    return params;
}

// Those that the caller gives, else defaults with the threads of the context: more would spin while they
// wait.
llama_context_params params_of(llama_context* ctx, const llama_context_params* given) {
    if (given) return *given;
    llama_context_params params = llama_context_default_params();
    params.n_threads = params.n_threads_batch = llama_n_threads_batch(ctx);
    return params;
}

// params outlives the request.
Result<CompactRequest> read_params(const kvfold_compact_params& params, TokenSpan tokens) {
    CompactRequest request;
    if (params.method) {
        KVFOLD_TRY(request.method, find_method(params.method));
    }
    request.budget = {params.ratio, params.keep_first, params.keep_last};
    KVFOLD_CHECK(check(request.budget));
    request.tokens = tokens;
    request.seed = params.seed;
    request.threads = params.n_threads;
    if (params.solve_on) {
        KVFOLD_TRY(request.solve_on, solve_on_named(params.solve_on));
    }
    if (params.archive) request.kept = &params.archive->folds;
    if (params.progress) {
        request.progress = [&params](Stage stage, float done) {
            return params.progress(static_cast<kvfold_stage>(stage), done, params.progress_data);
        };
    }
    return request;
}

float mean_over_heads(const std::vector<HeadReport>& heads, float HeadReport::*figure) {
    float sum = 0;
    for (const HeadReport& head : heads)
        sum += head.*figure;
    return heads.empty() ? 0 : sum / static_cast<float>(heads.size());
}

// The method names are string literals: they end with a zero.
kvfold_compact_report to_c(const CompactReport& report, const Method& method) {
    kvfold_compact_report c = {};
    c.cells_before = report.cells_before;
    c.cells_after = report.cells_after;
    c.bytes_before = report.bytes_before;
    c.bytes_after = report.bytes_after;
    c.study_tokens = static_cast<size_t>(report.study_tokens);
    c.snapshot_s = report.snapshot_s;
    c.study_s = report.study_s;
    c.solve_s = report.solve_s;
    c.swap_s = report.swap_s;
    c.absorb_residual = mean_over_heads(report.heads, &HeadReport::absorb_residual);
    c.output_error = mean_over_heads(report.heads, &HeadReport::output_error);
    c.mass_error = mean_over_heads(report.heads, &HeadReport::mass_error);
    c.method = method.name.data();
    c.layers_solved = report.solved_on.layers;
    c.layers_on_devices = report.solved_on.on_devices;
    return c;
}

} // namespace

size_t kvfold_method_count(void) { return all_methods().size(); }

const char* kvfold_method_name(size_t index) {
    return index < all_methods().size() ? all_methods()[index]->name.data() : nullptr;
}

const char* kvfold_method_advice(size_t index) {
    return index < all_methods().size() ? all_methods()[index]->advice.data() : nullptr;
}

kvfold_error kvfold_compact_params_init(kvfold_compact_params* params, size_t struct_size) {
    return answer([&]() -> Status {
        KVFOLD_CHECK(check_pointer(params, "params"));
        KVFOLD_CHECK(check_params_size(struct_size));
        write_struct(params, default_params(), struct_size);
        return {};
    });
}

kvfold_error kvfold_compact_report_init(kvfold_compact_report* report, size_t struct_size) {
    return answer([&]() -> Status {
        KVFOLD_CHECK(check_pointer(report, "report"));
        KVFOLD_CHECK(check_report_size(struct_size));
        write_struct(report, {}, struct_size);
        return {};
    });
}

kvfold_error kvfold_context_check(llama_context* ctx, const llama_context_params* context_params) {
    return answer([&]() -> Status {
        KVFOLD_CHECK(check_pointer(ctx, "ctx"));
        KVFOLD_CHECK(probe_attention(model_of(ctx), params_of(ctx, context_params)));
        return {};
    });
}

kvfold_error kvfold_sequence_inspect(llama_context* ctx, llama_seq_id seq_id, kvfold_sequence_info* info) {
    return answer([&]() -> Status {
        KVFOLD_CHECK(check_pointer(info, "info"));
        const size_t room = info->struct_size;
        KVFOLD_CHECK(check_size<kvfold_sequence_info>(room, kLeastInfo, "info",
                                                      "set it to sizeof(kvfold_sequence_info) first"));
        KVFOLD_CHECK(check_seq_id(ctx, seq_id));
        KVFOLD_TRY(const SequenceState state, read_sequence(ctx, seq_id));
        const std::vector<int32_t> positions = sorted_positions(state.sections.front());
        const FoldedRegion folded = folded_region(positions);
        kvfold_sequence_info found = {};
        found.cells = positions.size();
        found.folded_cells = folded.cells;
        found.folded_end = folded.end;
        found.end = positions.empty() ? 0 : positions.back() + 1;
        write_struct(info, found, room);
        return {};
    });
}

kvfold_error kvfold_sequence_compact(llama_context* ctx, llama_seq_id seq_id, const llama_token* tokens,
                                     size_t n_tokens, const kvfold_compact_params* params,
                                     kvfold_compact_report* report) {
    return answer([&]() -> Status {
        KVFOLD_TRY(const kvfold_compact_params whole,
                   read_struct(params, default_params(), kLeastParams, "params", kInitParams));
        if (n_tokens > 0) KVFOLD_CHECK(check_pointer(tokens, "tokens"));
        KVFOLD_TRY(CompactRequest request, read_params(whole, {tokens, n_tokens}));
        const size_t room = report ? report->struct_size : 0;
        if (report) KVFOLD_CHECK(check_report_size(room));
        KVFOLD_CHECK(check_seq_id(ctx, seq_id));
        request.context = params_of(ctx, whole.context_params);
        KVFOLD_TRY(const CompactReport done, compact_sequence(ctx, seq_id, request));
        if (report) write_struct(report, to_c(done, *request.method), room);
        return {};
    });
}

kvfold_error kvfold_slot_save(llama_context* ctx, llama_seq_id seq_id, const char* path,
                              const llama_token* tokens, size_t n_tokens) {
    return answer([&]() -> Status {
        KVFOLD_CHECK(check_seq_id(ctx, seq_id));
        KVFOLD_CHECK(check_pointer(path, "path"));
        if (n_tokens > 0) KVFOLD_CHECK(check_pointer(tokens, "tokens"));
        KVFOLD_TRY(SequenceState state, read_sequence(ctx, seq_id));
        const SlotFile slot = {{{tokens, tokens + n_tokens}, std::nullopt}, std::move(state)};
        const llama_vocab* vocabulary = llama_model_get_vocab(llama_get_model(ctx));
        KVFOLD_CHECK(check_tokens(slot, llama_vocab_n_tokens(vocabulary)));
        return write_slot_file(path, slot);
    });
}

kvfold_error kvfold_slot_load(llama_context* ctx, llama_seq_id seq_id, const char* path,
                              llama_token* tokens_out, size_t capacity, size_t* n_tokens_out) {
    return answer([&]() -> Status {
        KVFOLD_CHECK(check_seq_id(ctx, seq_id));
        KVFOLD_CHECK(check_pointer(path, "path"));
        KVFOLD_CHECK(check_pointer(n_tokens_out, "n_tokens_out"));
        KVFOLD_TRY(const SlotFile slot, read_slot_file(path));
        *n_tokens_out = slot.text.tokens.size();
        if (capacity < slot.text.tokens.size())
            return fail(ErrorCode::invalid_argument, "{}: holds {} tokens, capacity is {}", path,
                        slot.text.tokens.size(), capacity);
        if (!slot.text.tokens.empty()) KVFOLD_CHECK(check_pointer(tokens_out, "tokens_out"));
        KVFOLD_CHECK(write_sequence(ctx, seq_id, slot.state));
        std::copy(slot.text.tokens.begin(), slot.text.tokens.end(), tokens_out);
        return {};
    });
}
