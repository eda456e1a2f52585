// What the calls of the C API on a sequence have in common.
#pragma once

#include "capi/answer.h"

namespace kvfold::capi {

inline Status check_seq_id(const llama_context* ctx, llama_seq_id seq_id) {
    KVFOLD_CHECK(check_pointer(ctx, "ctx"));
    if (seq_id >= 0 && static_cast<uint32_t>(seq_id) < llama_n_seq_max(ctx)) return {};
    return fail(ErrorCode::invalid_argument, "seq_id {} is not one of the context's {} sequences", seq_id,
                llama_n_seq_max(ctx));
}

} // namespace kvfold::capi
