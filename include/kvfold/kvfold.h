/*
 * kvfold: make the KV cache of a running llama.cpp context several times smaller while the model keeps
 * behaving almost as before (Attention Matching, arXiv 2602.16284). Valid C99.
 *
 *  1. Ownership. Every pointer stays the caller's, archives too. kvfold keeps none after a call returns. Strings
 *     that kvfold returns are static, except kvfold_last_error(), which lives until the next kvfold call of the
 *     thread.
 *  2. Errors. Calls that can fail return a kvfold_error; KVFOLD_OK is 0. kvfold_last_error() says on one line
 *     what was wrong and what to do. After a failure the sequence and the file are what they were before; only
 *     KVFOLD_ERROR_LOST says that a sequence is not. A newer library may return codes that are not listed here.
 *     kvfold never prints, aborts or exits, and no C++ exception leaves it.
 *  3. Threads. A llama_context may be used by one thread at a time, here as in llama.cpp: do not decode in a
 *     context while kvfold compacts, saves or loads a sequence of it. Calls on different contexts are
 *     independent, also of the same model.
 *  4. Memory. kvfold_sequence_compact holds up to three copies of the sequence's state, a second context of
 *     the same model with that sequence and as many more cells as the longest passage that is studied, and the
 *     reference queries. All is freed on return.
 *  5. Positions. A compacted sequence goes on at its last position + 1, as if nothing had happened. Keep the
 *     tokens of the whole sequence: prompt caches match by them, and the next compaction studies them. All cells
 *     but the newest ones stand at one position, so llama_memory_seq_pos_min(mem, seq) says how far back the
 *     sequence can be cut: llama_memory_seq_rm(mem, seq, p, -1) with p above it removes the tokens from p on, and
 *     with p up to it everything that was folded: then decode the sequence from its start, or call
 *     kvfold_sequence_unfold before the cut.
 *  6. Growth. A newer library serves programs that were compiled against an older header. The structs begin with
 *     struct_size, the size they had in that header, and new fields come at their ends. The library reads the
 *     fields of kvfold_compact_params and kvfold_head that struct_size covers and takes the defaults for those
 *     behind; it writes the fields of the other structs that struct_size covers and nothing behind. A newer program
 *     and an older library: what the library does not know must be zero in what it reads, and becomes zero in what
 *     it writes.
 *     A struct_size of no such header, or one that does not cover params up to context_params, report up to
 *     mass_error, or another struct whole, is KVFOLD_ERROR_INVALID_ARGUMENT.
 *  7. Not offered: folding a text while it is read, as kvfold compact does with the method chunked (which here
 *     folds a sequence that is decoded whole); the figures that only some methods have; encoders, recurrent
 *     models without attention, ALiBi models, MLA caches (KVFOLD_ERROR_UNSUPPORTED says which). Layers with a
 *     sliding window and recurrent layers stay as they are.
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
    KVFOLD_ERROR_INTERNAL = 8,         /* a bug in kvfold */
    KVFOLD_ERROR_NOT_FOUND = 9,        /* what was named does not exist: a fold in an archive */
    KVFOLD_ERROR_BUSY = 10,            /* something else is at work on it; no call returns it yet */
    KVFOLD_ERROR_LOST = 11,            /* llama.cpp refused the new cells and the old ones: compute them again */
    KVFOLD_ERROR_MEMORY = 12           /* no memory left */
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

/* What folds replaced, byte for byte, in host memory: for unfolding, and for folding anew. One archive may serve
 * many sequences and contexts, by one thread at a time. A fold is found by the cells that it made, so it never
 * serves another sequence, and copies of a sequence find it too. */
typedef struct kvfold_archive kvfold_archive;

typedef struct kvfold_compact_params {
    size_t struct_size; /* in bytes, see 6; kvfold_compact_params_init sets it */

    /* These change the result. */
    const char * method;     /* a name from kvfold_method_name; NULL = the default method */
    double       ratio;      /* cells before / cells after over the whole sequence; finite, >= 1; default 8 */
    int32_t      keep_first; /* first cells kept verbatim (sinks, system prompt); >= 1; default 4 */
    int32_t      keep_last;  /* newest cells kept verbatim; >= 0; default -1: 32, or an eighth of what ratio and
                                keep_first leave when that is less */
    uint64_t     seed;       /* of the study; the same seed gives the same cache; default 1 */
    /* How the context was created, for RoPE scaling and the like; NULL = llama_context_default_params(). */
    const struct llama_context_params * context_params;

    /* These change only the speed. */
    int32_t n_threads; /* for study and solve; default 0: as many as the context uses for batches */

    kvfold_progress_callback progress; /* default NULL */
    void *                   progress_data;

    /* Gets what the fold replaces; what earlier folds replaced and it holds is folded anew, so that no cell is folded
     * twice: this changes the result. Default NULL: what is replaced is gone. */
    kvfold_archive * archive;

    /* Where the fold is solved: "auto": each layer on the device that holds its cache; "cpu"; "device": through ggml
     * also where that is the processor, and an error where a device cannot. What a method solves a second time with
     * other budgets or queries (nonuniform, on_policy) the processor solves. Default NULL: "auto". */
    const char * solve_on;
} kvfold_compact_params;

typedef struct kvfold_compact_report {
    size_t struct_size; /* in bytes, see 6; kvfold_compact_report_init sets it */
    size_t cells_before, cells_after;
    size_t bytes_before, bytes_after; /* of the sequence's state */
    size_t study_tokens;              /* tokens whose queries were studied */
    double snapshot_s, study_s, solve_s, swap_s; /* wall time of each part, in seconds */
    /* Means over the heads, on the studied queries, which some methods weigh by importance: figures of different
       methods are not of the same queries. 0 for the baselines, which study nothing. */
    float absorb_residual; /* RMS of scale q.g - 1; 0 when no bias was absorbed */
    float output_error;    /* relative error of the attention output */
    float mass_error;      /* RMS error of the log attention mass */
    const char * method;   /* the name of the method, that of the default for NULL; static */
    size_t layers_solved;  /* counted once a chunk */
    size_t layers_on_devices; /* of them, those that the device which holds their cache solved */
} kvfold_compact_report;

/* What a sequence holds, of the layers that see the whole context. */
typedef struct kvfold_sequence_info {
    size_t  struct_size;   /* in bytes, see 6: set it to sizeof(kvfold_sequence_info) */
    size_t  cells;
    size_t  folded_cells;  /* of them, those that hold what was folded; 0 = nothing was */
    int32_t folded_end;    /* positions in front of it are held by folded_cells: cut there or behind, or nowhere; with
                              sliding windows cut at llama_memory_seq_pos_min() + llama_model_n_swa() - 1 or behind, also
                              with swa_full, for a compaction keeps no more of a window than the model looks back on */
    int32_t end;           /* the position after the last */
} kvfold_sequence_info;

/* "MAJOR.MINOR.PATCH" of kvfold. */
KVFOLD_API const char * kvfold_version(void);

/* What went wrong in the thread's last failed call, on one line; "" before any failure. */
KVFOLD_API const char * kvfold_last_error(void);

/* The methods, the default first. name and advice of index >= kvfold_method_count() are NULL. */
KVFOLD_API size_t       kvfold_method_count(void);
KVFOLD_API const char * kvfold_method_name(size_t index);
KVFOLD_API const char * kvfold_method_advice(size_t index);

/* Fill a struct of struct_size bytes: with the defaults; with zeros.
 * Failure: KVFOLD_ERROR_INVALID_ARGUMENT for a NULL pointer or a size too small (see 6); nothing is written. */
KVFOLD_API kvfold_error kvfold_compact_params_init(kvfold_compact_params * params, size_t struct_size);
KVFOLD_API kvfold_error kvfold_compact_report_init(kvfold_compact_report * report, size_t struct_size);

/* The same as values. Part of the caller, who knows how large the structs of this header are. */
static inline kvfold_compact_params kvfold_compact_default_params(void) {
    kvfold_compact_params params;
    kvfold_compact_params_init(&params, sizeof(params));
    return params;
}

static inline kvfold_compact_report kvfold_compact_empty_report(void) {
    kvfold_compact_report report;
    kvfold_compact_report_init(&report, sizeof(report));
    return report;
}

/* Whether kvfold can compact sequences of ctx: KVFOLD_ERROR_UNSUPPORTED says why not.
 * context_params: as in kvfold_compact_params. Takes a few milliseconds and a context of 32 cells; ctx is only asked
 * for its model. */
KVFOLD_API kvfold_error kvfold_context_check(
    struct llama_context * ctx, const struct llama_context_params * context_params);

/* Reads the sequence's state, so it takes about as long as llama_state_seq_get_data.
 * Failure: KVFOLD_ERROR_INVALID_ARGUMENT also for a sequence without cells; info is untouched. */
KVFOLD_API kvfold_error kvfold_sequence_inspect(
    struct llama_context * ctx, llama_seq_id seq_id, kvfold_sequence_info * info);

/* Compacts a sequence of ctx in place.
 * REQUIRES: tokens[i] is the token at position i, for every position of the sequence up to its last one (also
 *           those that an earlier compaction folded), LLAMA_TOKEN_NULL where no token stands (images, removed
 *           cells). NULL and 0 for the methods that read no text: keep_first, keep_last, keep_random and
 *           generation.
 *           After llama_memory_seq_add or _div, and after _seq_cp where sequences do not share one cache
 *           (kv_unified = false): one llama_decode, which is when llama.cpp rotates or copies the keys.
 * Effect:   the sequence has about cells / ratio cells; the context's logits are untouched. Cells that other
 *           sequences share (llama_memory_seq_cp) stay theirs: the sequence gets cells of its own, for which
 *           there must be room.
 * report:   filled on success, else untouched; may be NULL.
 * Failure:  the sequence is what it was (but see 2). */
KVFOLD_API kvfold_error kvfold_sequence_compact(
    struct llama_context * ctx, llama_seq_id seq_id, const llama_token * tokens, size_t n_tokens,
    const kvfold_compact_params * params, kvfold_compact_report * report);

/* An archive of at most budget bytes: the oldest folds go first, and one larger than all of it is not kept.
 * NULL: no memory is left. kvfold_archive_free takes NULL. kvfold_archive_bytes: what it holds now; 0 for NULL. */
KVFOLD_API kvfold_archive * kvfold_archive_init(size_t budget);
KVFOLD_API void             kvfold_archive_free(kvfold_archive * archive);
KVFOLD_API size_t           kvfold_archive_bytes(const kvfold_archive * archive);

/* Takes back the newest folds of a sequence, as many as the archive has and as fit into the cells of a sequence of
 * ctx: their original cells stand there again, and what came behind them stays. kvfold_sequence_inspect tells what is
 * folded then. The archive keeps what it has.
 * Failure:  KVFOLD_ERROR_INVALID_ARGUMENT where nothing is folded, or not even the newest fold has room;
 *           KVFOLD_ERROR_NOT_FOUND where the archive does not hold it; KVFOLD_ERROR_LLAMA where other sequences
 *           have the cells. The sequence is what it was (but see 2). */
KVFOLD_API kvfold_error kvfold_sequence_unfold(
    struct llama_context * ctx, llama_seq_id seq_id, const kvfold_archive * archive);

/* Writes what the archive holds of the sequence's folds as an archive file, and reads it into an archive. The file
 * belongs to the sequence as it is folded now: write it beside the slot file of kvfold_slot_save, and load it when
 * that one is restored. Another sequence's is refused. Atomic, as kvfold_slot_save.
 * Failure:  KVFOLD_ERROR_NOT_FOUND where the archive holds none of its folds; KVFOLD_ERROR_CORRUPT,
 *           KVFOLD_ERROR_UNSUPPORTED, KVFOLD_ERROR_INVALID_ARGUMENT for a file that is damaged, of another version, of
 *           another sequence, and for one that is larger than the archive's budget; nothing is loaded then. */
KVFOLD_API kvfold_error kvfold_archive_save(
    const kvfold_archive * archive, struct llama_context * ctx, llama_seq_id seq_id, const char * path);
KVFOLD_API kvfold_error kvfold_archive_load(
    kvfold_archive * archive, struct llama_context * ctx, llama_seq_id seq_id, const char * path);

/* Writes a sequence and its tokens as a slot file, which llama-server and llama_state_seq_load_file restore.
 * REQUIRES: tokens[i] is the token at position i, for every position of the sequence up to its last one: as
 *           many as that position + 1, each of the model's vocabulary. Else KVFOLD_ERROR_INVALID_ARGUMENT, and
 *           no file is written: the kvfold command would refuse it.
 * Atomic: a file that was there stays until the new one is whole. A file that is read-only, a folder or a
 * device is not replaced (KVFOLD_ERROR_IO). */
KVFOLD_API kvfold_error kvfold_slot_save(
    struct llama_context * ctx, llama_seq_id seq_id, const char * path, const llama_token * tokens,
    size_t n_tokens);

/* Restores a slot file into a sequence, whose own cells go. The file is checked to its last byte first.
 * n_tokens_out receives the number of its tokens also when capacity is too small for them
 * (KVFOLD_ERROR_INVALID_ARGUMENT, nothing loaded): call with capacity 0 to ask. */
KVFOLD_API kvfold_error kvfold_slot_load(
    struct llama_context * ctx, llama_seq_id seq_id, const char * path, llama_token * tokens_out,
    size_t capacity, size_t * n_tokens_out);

/* One KV head as arrays of f32, rows without gaps. T cells of width d and dv, and n queries. */
typedef struct kvfold_head {
    size_t struct_size;    /* in bytes, see 6: set it to sizeof(kvfold_head), and all else that is not used to zero */
    const float * keys;    /* [T, d] */
    const float * values;  /* [T, dv] */
    const float * queries; /* [n, d]: what will be asked of the head; of grouped queries those of all its query heads */
    size_t n_cells, key_width, value_width, n_queries; /* T, d, dv, n; each at least 1 */
    float  scale;          /* factor of the logits, > 0; often 1 / sqrt(d) */
    float  softcap;        /* logits become softcap * tanh(logits / softcap); 0 = off */
    const char *     method; /* "select", "solver", "omp", "refine" or "omp_refine"; NULL = "refine" */
    const uint32_t * pinned; /* cells that must be among those kept, rising */
    size_t           n_pinned;
} kvfold_head;

typedef struct kvfold_head_result {
    size_t struct_size; /* in bytes, see 6: set it to sizeof(kvfold_head_result) */
    uint32_t * cells;   /* [kept] rising: the cells that the rows came from */
    float *    keys;    /* [kept, d] */
    float *    values;  /* [kept, dv] */
    double absorb_residual, output_error, mass_error; /* as in kvfold_compact_report */
} kvfold_head_result;

/* Attention matching for one head, for caches that are not llama.cpp's: kept rows that answer the queries almost as
 * all cells do. Needs no context; calls are independent.
 * REQUIRES: the arrays of result are the caller's, of the shapes above; 1 <= kept <= T. kept = T copies the cells.
 * Failure:  KVFOLD_ERROR_INVALID_ARGUMENT; KVFOLD_ERROR_NUMERIC for NaN, infinity, or logits that overflow f32. Nothing
 *           is written. */
KVFOLD_API kvfold_error kvfold_head_solve(const kvfold_head * head, size_t kept, kvfold_head_result * result);

#ifdef __cplusplus
}
#endif

#endif
