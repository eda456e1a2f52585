// The C API over the engine: turns Results into error codes and keeps exceptions inside.
#include "kvfold/kvfold.h"

#include "engine/compact.h"
#include "state/live_sequence.h"
#include "state/slot_file.h"

#include <exception>

namespace {

using namespace kvfold;

static_assert(static_cast<int>(ErrorCode::internal) == KVFOLD_ERROR_INTERNAL);
static_assert(static_cast<int>(Stage::swap) == KVFOLD_STAGE_SWAP);

thread_local std::string last_error;

kvfold_error report_error(const Error& error) {
    last_error = error.message;
    return static_cast<kvfold_error>(error.code);
}

// Runs a call that returns a Status; whatever it throws (no memory, a bug) becomes an error too.
template <class Call> kvfold_error guarded(Call&& call) {
    try {
        const Status status = call();
        return status ? KVFOLD_OK : report_error(status.error());
    } catch (const std::exception& exception) {
        return report_error({ErrorCode::internal, exception.what()});
    } catch (...) {
        return report_error({ErrorCode::internal, "unknown exception"});
    }
}

Result<CompactRequest> read_params(const kvfold_compact_params& params, TokenSpan tokens) {
    CompactRequest request;
    if (params.method) {
        KVFOLD_TRY(request.method, find_method(params.method));
    }
    request.budget = {params.ratio, params.keep_first, params.keep_last};
    request.tokens = tokens;
    if (params.context_params) request.context = *params.context_params;
    request.seed = params.seed;
    request.threads = params.n_threads;
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

kvfold_compact_report to_c(const CompactReport& report) {
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
    return c;
}

Status check_pointer(const void* pointer, const char* name) {
    if (pointer) return {};
    return fail(ErrorCode::invalid_argument, "{} is NULL", name);
}

Status check_seq_id(const llama_context* ctx, llama_seq_id seq_id) {
    KVFOLD_CHECK(check_pointer(ctx, "ctx"));
    if (seq_id >= 0 && static_cast<uint32_t>(seq_id) < llama_n_seq_max(ctx)) return {};
    return fail(ErrorCode::invalid_argument, "seq_id {} is not one of the context's {} sequences", seq_id,
                llama_n_seq_max(ctx));
}

} // namespace

const char* kvfold_version(void) { return KVFOLD_VERSION; }
const char* kvfold_last_error(void) { return last_error.c_str(); }

size_t kvfold_method_count(void) { return all_methods().size(); }

// The names are string literals: they end with a zero.
const char* kvfold_method_name(size_t index) {
    return index < all_methods().size() ? all_methods()[index]->name.data() : nullptr;
}

const char* kvfold_method_advice(size_t index) {
    return index < all_methods().size() ? all_methods()[index]->advice.data() : nullptr;
}

kvfold_compact_params kvfold_compact_default_params(void) {
    const CompactRequest request;
    kvfold_compact_params params = {};
    params.ratio = request.budget.ratio;
    params.keep_first = request.budget.keep_first;
    params.keep_last = request.budget.keep_last;
    params.seed = request.seed;
    return params;
}

kvfold_error kvfold_sequence_compact(llama_context* ctx, llama_seq_id seq_id, const llama_token* tokens,
                                     size_t n_tokens, const kvfold_compact_params* params,
                                     kvfold_compact_report* report) {
    return guarded([&]() -> Status {
        KVFOLD_CHECK(check_seq_id(ctx, seq_id));
        KVFOLD_CHECK(check_pointer(params, "params"));
        if (n_tokens > 0) KVFOLD_CHECK(check_pointer(tokens, "tokens"));
        KVFOLD_TRY(const CompactRequest request, read_params(*params, {tokens, n_tokens}));
        KVFOLD_TRY(const CompactReport done, compact_sequence(ctx, seq_id, request));
        if (report) *report = to_c(done);
        return {};
    });
}

kvfold_error kvfold_slot_save(llama_context* ctx, llama_seq_id seq_id, const char* path,
                              const llama_token* tokens, size_t n_tokens) {
    return guarded([&]() -> Status {
        KVFOLD_CHECK(check_seq_id(ctx, seq_id));
        KVFOLD_CHECK(check_pointer(path, "path"));
        if (n_tokens > 0) KVFOLD_CHECK(check_pointer(tokens, "tokens"));
        KVFOLD_TRY(SequenceState state, read_sequence(ctx, seq_id));
        return write_slot_file(path, {{tokens, tokens + n_tokens}, std::move(state)});
    });
}

kvfold_error kvfold_slot_load(llama_context* ctx, llama_seq_id seq_id, const char* path,
                              llama_token* tokens_out, size_t capacity, size_t* n_tokens_out) {
    return guarded([&]() -> Status {
        KVFOLD_CHECK(check_seq_id(ctx, seq_id));
        KVFOLD_CHECK(check_pointer(path, "path"));
        KVFOLD_CHECK(check_pointer(n_tokens_out, "n_tokens_out"));
        KVFOLD_TRY(const SlotFile slot, read_slot_file(path));
        *n_tokens_out = slot.tokens.size();
        if (capacity < slot.tokens.size())
            return fail(ErrorCode::invalid_argument, "{}: holds {} tokens, capacity is {}", path,
                        slot.tokens.size(), capacity);
        if (!slot.tokens.empty()) KVFOLD_CHECK(check_pointer(tokens_out, "tokens_out"));
        KVFOLD_CHECK(write_sequence(ctx, seq_id, slot.state));
        std::copy(slot.tokens.begin(), slot.tokens.end(), tokens_out);
        return {};
    });
}
