#include "study/scratch.h"

#include "state/live_sequence.h"

#include <algorithm>

namespace kvfold {

namespace {

// The snapshot for a context with flash attention, which wants values a row a cell; a context
// without it keeps them transposed. Usually that is the snapshot itself, and then no copy is made.
Result<std::shared_ptr<const SequenceState>> in_scratch_layout(const SequenceState& snapshot) {
    const auto fits = [](const KvSection& section) {
        return section.values.empty() || !section.values.front().transposed;
    };
    if (std::all_of(snapshot.sections.begin(), snapshot.sections.end(), fits))
        return std::shared_ptr<const SequenceState>(std::shared_ptr<void>(), &snapshot); // owns nothing
    auto state = std::make_shared<SequenceState>(snapshot);
    for (KvSection& section : state->sections) {
        for (CacheTensor& values : section.values) {
            if (!values.transposed) continue;
            KVFOLD_TRY(values, from_float(to_float(values), values.type, /*transposed=*/false));
        }
    }
    return state;
}

} // namespace

Result<Scratch> Scratch::open(llama_model* model, const AttentionMap& map, const SequenceState& snapshot,
                              const ScratchParams& params, QueryTap* tap, const ProgressFn& progress) {
    const KvSection& cache = snapshot.sections.front();
    size_t cells = 0; // a compact global section can hold fewer than the window beside it
    for (const KvSection& section : snapshot.sections)
        cells = std::max(cells, section.cells.size());
    llama_context_params context = params.context;
    context.n_ctx = static_cast<uint32_t>(cells) + params.spare_cells;
    context.n_batch = context.n_ubatch = kScratchBatch;
    context.n_seq_max = params.sequences;
    context.n_outputs_max = params.sequences; // logits of a batch would take batch x vocabulary floats
    context.kv_unified = true;
    context.swa_full = false;
    context.embeddings = false;
    context.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_ENABLED;
    context.type_k = cache.keys.front().type;
    context.type_v = cache.values.front().type;
    context.cb_eval = tap ? QueryTap::callback : nullptr;
    context.cb_eval_user_data = tap;
    Scratch scratch;
    scratch.watch_ = std::make_unique<Watch>(Watch{progress});
    context.abort_callback = wants_to_stop;
    context.abort_callback_data = scratch.watch_.get();
    context.samplers = nullptr;
    context.n_samplers = 0;
    if (params.threads > 0) context.n_threads = context.n_threads_batch = params.threads;

    KVFOLD_TRY(scratch.ctx_, new_context(model, context, params.adapters));
    KVFOLD_TRY(scratch.state_, in_scratch_layout(snapshot));
    scratch.tap_ = tap;
    scratch.end_ = end_position(cache);
    scratch.rolls_back_ = !map.has_window && !map.has_recurrent;
    KVFOLD_CHECK(write_sequence(scratch.ctx_.get(), 0, *scratch.state_));
    return scratch;
}

bool Scratch::wants_to_stop(void* watch) {
    auto* self = static_cast<Watch*>(watch);
    return self->kept.keep([&] { return !goes_on(self->progress, self->stage, self->done); }, true);
}

Status Scratch::report(Stage stage, float done) {
    watch_->stage = stage;
    watch_->done = done;
    if (goes_on(watch_->progress, stage, done)) return {};
    return fail(ErrorCode::cancelled, "cancelled");
}

template <class Decode> Status Scratch::listening(const Decode& decode) {
    if (tap_) tap_->open(true);
    const Status status = decode();
    if (tap_) tap_->open(false);
    watch_->kept.rethrow();
    if (tap_) tap_->rethrow();
    return status;
}

Status Scratch::rewind() {
    if (rolls_back_ && !cut_ && llama_memory_seq_rm(llama_get_memory(ctx_.get()), 0, end_, -1)) return {};
    cut_ = false;
    return write_sequence(ctx_.get(), 0, *state_);
}

Status Scratch::rewind_to(llama_pos pos) {
    KVFOLD_CHECK(rewind());
    cut_ = true;
    if (!llama_memory_seq_rm(llama_get_memory(ctx_.get()), 0, pos, -1))
        return fail(ErrorCode::unsupported,
                    "this model keeps recurrent state, which cannot go back to an earlier "
                    "token: use a method that studies behind the sequence only");
    return {};
}

Status Scratch::prefill(std::span<const llama_token> tokens, llama_pos first_pos) {
    return listening([&] { return decode_tokens(ctx_.get(), tokens, first_pos, Outputs::none); });
}

Status Scratch::listen(std::span<const BatchToken> batch) {
    return listening([&] { return decode_batch(ctx_.get(), batch); });
}

} // namespace kvfold
