/*
 * kvfold: make the KV cache of a running llama.cpp context several times smaller while the model keeps
 * behaving almost as before (Attention Matching, arXiv 2602.16284). Valid C99.
 *
 *  1. Ownership. Every pointer stays the caller's. kvfold keeps none after a call returns. Strings that kvfold
 *     returns are static, except kvfold_last_error(), which lives until the next kvfold call of the thread.
 *  2. Errors. Calls that can fail return a kvfold_error; KVFOLD_OK is 0. kvfold_last_error() says on one line
 *     what was wrong and what to do. After a failure the sequence and the file are what they were before.
 *     kvfold never prints, aborts or exits, and no C++ exception leaves it.
 *  3. Threads. A llama_context may be used by one thread at a time, here as in llama.cpp: do not decode in a
 *     context while kvfold compacts, saves or loads a sequence of it. Calls on different contexts are
 *     independent, also of the same model.
 *  4. Memory. kvfold_sequence_compact holds up to three copies of the sequence's state, a second context of
 *     the same model with that sequence and 512 more cells, and the reference queries; all freed on return.
 *  5. Positions. A compacted sequence goes on at its last position + 1, as if nothing had happened. Keep the
 *     tokens of the whole sequence: prompt caches match by them, and the next compaction studies them.
 *  6. Not offered: encoders, recurrent models without attention, ALiBi models, MLA caches
 *     (KVFOLD_ERROR_UNSUPPORTED says which). Layers with a sliding window and recurrent layers stay as they are.
 */
#ifndef KVFOLD_H
#define KVFOLD_H

#include <llama.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define KVFOLD_API __attribute__((visibility("default")))
#else
#define KVFOLD_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum kvfold_error {
    KVFOLD_OK = 0,
    KVFOLD_ERROR_INVALID_ARGUMENT = 1, /* a request that makes no sense */
    KVFOLD_ERROR_UNSUPPORTED = 2,      /* the model, its cache or the method cannot do this */
    KVFOLD_ERROR_IO = 3,               /* the operating system refused a file */
    KVFOLD_ERROR_CORRUPT = 4,          /* bytes that are not what they claim to be */
    KVFOLD_ERROR_CANCELLED = 5,        /* the progress callback returned false */
    KVFOLD_ERROR_LLAMA = 6,            /* a call into llama.cpp failed */
    KVFOLD_ERROR_NUMERIC = 7,          /* NaN, infinity, or values too large for the cache's type */
    KVFOLD_ERROR_INTERNAL = 8          /* no memory left, or a bug in kvfold */
} kvfold_error;

typedef enum kvfold_stage {
    KVFOLD_STAGE_SNAPSHOT = 0,
    KVFOLD_STAGE_STUDY = 1,
    KVFOLD_STAGE_DRAFT = 2,
    KVFOLD_STAGE_SOLVE = 3,
    KVFOLD_STAGE_SWAP = 4
} kvfold_stage;

/* Asked often, never from two threads at once but not always from the caller's. done: 0..1 of the stage.
 * Returns false to cancel; the call then fails with KVFOLD_ERROR_CANCELLED within a fraction of a second. */
typedef bool (*kvfold_progress_callback)(kvfold_stage stage, float done, void * data);

typedef struct kvfold_compact_params {
    /* These change the result. */
    const char * method;     /* a name from kvfold_method_name; NULL = the default method */
    double       ratio;      /* cells before / cells after over the whole sequence; >= 1; default 8 */
    int32_t      keep_first; /* first cells kept verbatim (sinks, system prompt); >= 1; default 4 */
    int32_t      keep_last;  /* newest cells kept verbatim; >= 0; default -1: 32, or an eighth of the budget */
    uint64_t     seed;       /* of the study; the same seed gives the same cache; default 1 */
    /* How the context was created, for RoPE scaling and the like; NULL = llama_context_default_params(). */
    const struct llama_context_params * context_params;

    /* These change only the speed. */
    int32_t n_threads; /* for study and solve; default 0: as many as the context uses for batches */

    kvfold_progress_callback progress; /* default NULL */
    void *                   progress_data;
} kvfold_compact_params;

typedef struct kvfold_compact_report {
    size_t cells_before, cells_after;
    size_t bytes_before, bytes_after; /* of the sequence's state */
    size_t study_tokens;              /* tokens whose queries were studied */
    double snapshot_s, study_s, solve_s, swap_s;
    float  absorb_residual; /* mean over heads: RMS of scale q.g - 1; 0 when no bias was folded */
    float  output_error;  /* mean over heads: relative error of the attention output on the studied queries */
    float  mass_error;    /* mean over heads: RMS error of the log attention mass on the studied queries */
} kvfold_compact_report;

/* "MAJOR.MINOR.PATCH" of kvfold. */
KVFOLD_API const char * kvfold_version(void);

/* What went wrong in the thread's last failed call, on one line; "" before any failure. */
KVFOLD_API const char * kvfold_last_error(void);

/* The methods, the default first. name and advice of index >= kvfold_method_count() are NULL. */
KVFOLD_API size_t       kvfold_method_count(void);
KVFOLD_API const char * kvfold_method_name(size_t index);
KVFOLD_API const char * kvfold_method_advice(size_t index);

KVFOLD_API kvfold_compact_params kvfold_compact_default_params(void);

/* Compacts a sequence of ctx in place.
 * REQUIRES: tokens[i] is the token at position i, for every position of the sequence up to its last one (also
 *           those that an earlier compaction folded), LLAMA_TOKEN_NULL where no token stands (images, removed
 *           cells); may be NULL for the baselines keep_first and keep_last.
 *           After llama_memory_seq_add or _div, and after _seq_cp where sequences do not share one cache
 *           (kv_unified = false): one llama_decode, which is when llama.cpp rotates or copies the keys.
 * Effect:   the sequence has about cells / ratio cells; the context's logits are untouched.
 * report:   filled on success; may be NULL.
 * Failure:  the sequence is what it was. */
KVFOLD_API kvfold_error kvfold_sequence_compact(
    struct llama_context * ctx, llama_seq_id seq_id, const llama_token * tokens, size_t n_tokens,
    const kvfold_compact_params * params, kvfold_compact_report * report);

/* Writes a sequence and its tokens as a slot file, which llama-server and llama_state_seq_load_file restore.
 * Atomic: a file that was there stays until the new one is whole. */
KVFOLD_API kvfold_error kvfold_slot_save(
    struct llama_context * ctx, llama_seq_id seq_id, const char * path, const llama_token * tokens,
    size_t n_tokens);

/* Restores a slot file into a sequence. The file is checked to its last byte first.
 * n_tokens_out receives the number of its tokens also when capacity is too small for them
 * (KVFOLD_ERROR_INVALID_ARGUMENT, nothing loaded): call with capacity 0 to ask. */
KVFOLD_API kvfold_error kvfold_slot_load(
    struct llama_context * ctx, llama_seq_id seq_id, const char * path, llama_token * tokens_out,
    size_t capacity, size_t * n_tokens_out);

#ifdef __cplusplus
}
#endif

#endif
