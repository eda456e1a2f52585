// What folds replace, over the engine's archive.
#include "capi/archive.h"

#include "capi/sequence.h"
#include "engine/archive_file.h"
#include "engine/fold_once.h"
#include "state/live_sequence.h"

namespace {

using namespace kvfold;
using namespace kvfold::capi;

Status check_call(const kvfold_archive* archive, const llama_context* ctx, llama_seq_id seq_id) {
    KVFOLD_CHECK(check_pointer(archive, "archive"));
    return check_seq_id(ctx, seq_id);
}

} // namespace

kvfold_archive* kvfold_archive_init(size_t budget) {
    kvfold_archive* archive = nullptr;
    (void)answer([&]() -> Status {
        archive = new kvfold_archive(budget);
        return {};
    });
    return archive;
}

void kvfold_archive_free(kvfold_archive* archive) { delete archive; }

size_t kvfold_archive_bytes(const kvfold_archive* archive) { return archive ? archive->folds.bytes() : 0; }

kvfold_error kvfold_archive_save(const kvfold_archive* archive, llama_context* ctx, llama_seq_id seq_id,
                                 const char* path) {
    return answer([&]() -> Status {
        KVFOLD_CHECK(check_call(archive, ctx, seq_id));
        KVFOLD_CHECK(check_pointer(path, "path"));
        KVFOLD_TRY(const SequenceState state, read_sequence(ctx, seq_id));
        const KvSection& section = state.sections.front();
        KVFOLD_TRY(const AttentionMap map, probe_attention(model_of(ctx), llama_context_default_params()));
        const auto stored = stored_folds(section, archive->folds.history(section), heads_by_cache(map));
        if (!stored)
            return fail(ErrorCode::not_found, "the archive holds nothing of what sequence {} is folded from",
                        seq_id);
        return write_archive_file(path, *stored);
    });
}

kvfold_error kvfold_archive_load(kvfold_archive* archive, llama_context* ctx, llama_seq_id seq_id,
                                 const char* path) {
    return answer([&]() -> Status {
        KVFOLD_CHECK(check_call(archive, ctx, seq_id));
        KVFOLD_CHECK(check_pointer(path, "path"));
        KVFOLD_TRY(const SequenceState state, read_sequence(ctx, seq_id));
        KVFOLD_TRY(const StoredFolds stored, read_archive_file(path, state.sections.front()));
        return add(archive->folds, stored);
    });
}

kvfold_error kvfold_sequence_unfold(llama_context* ctx, llama_seq_id seq_id, const kvfold_archive* archive) {
    return answer([&]() -> Status {
        KVFOLD_CHECK(check_call(archive, ctx, seq_id));
        KVFOLD_TRY(const SequenceState state, read_sequence(ctx, seq_id));
        KVFOLD_TRY(const SequenceState before, unfolded(state, archive->folds, llama_n_ctx_seq(ctx)));
        return write_sequence(ctx, seq_id, before);
    });
}
