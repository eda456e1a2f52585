/* What an older kvfold.h may have looked like: its structs lack the newest fields, its list of codes is shorter.
 * Programs that were compiled against it must run with today's library. Never extended: that is its point. */
#ifndef KVFOLD_H
#define KVFOLD_H

#include <llama.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum kvfold_error { KVFOLD_OK = 0, KVFOLD_ERROR_CANCELLED = 5, KVFOLD_ERROR_INTERNAL = 8 } kvfold_error;

typedef struct kvfold_compact_params {
    size_t       struct_size;
    const char * method;
    double       ratio;
    int32_t      keep_first;
    int32_t      keep_last;
    uint64_t     seed;
    const struct llama_context_params * context_params;
} kvfold_compact_params;

typedef struct kvfold_compact_report {
    size_t struct_size;
    size_t cells_before, cells_after;
    size_t bytes_before, bytes_after;
    size_t study_tokens;
    double snapshot_s, study_s, solve_s, swap_s;
    float  absorb_residual, output_error, mass_error;
} kvfold_compact_report;

const char * kvfold_last_error(void);
kvfold_error kvfold_compact_params_init(kvfold_compact_params * params, size_t struct_size);
kvfold_error kvfold_compact_report_init(kvfold_compact_report * report, size_t struct_size);
kvfold_error kvfold_sequence_compact(
    struct llama_context * ctx, llama_seq_id seq_id, const llama_token * tokens, size_t n_tokens,
    const kvfold_compact_params * params, kvfold_compact_report * report);

#endif
