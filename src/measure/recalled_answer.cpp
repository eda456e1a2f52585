#include "measure/recalled_answer.h"

#include "measure/forced_answer.h"
#include "model/context.h"
#include "state/folded_region.h"
#include "state/live_sequence.h"
#include "study/sources.h"

namespace kvfold {

namespace {

// Decodes tokens and takes their queries.
Result<Study> ask(const RecallingCache& cache, TokenSpan tokens, llama_pos pos, Outputs outputs) {
    QueryTap tap(cache.map.layers, std::ssize(tokens));
    const Listening listening(cache.tap, tap);
    const Status status = decode_tokens(cache.ctx, tokens, pos, outputs);
    tap.rethrow();
    KVFOLD_CHECK(status);
    return tap.take();
}

Status swap(const RecallingCache& cache, const SequenceState& now, const Study& asked) {
    KVFOLD_TRY(const Kernels* kernels, chosen_kernels());
    const RecallProblem problem{cache.map, cache.sources, asked, cache.count, cache.threads, *kernels};
    const int32_t place =
        sorted_positions(cache.compact.sections.front()).front() - 1; // in front of the fold
    KVFOLD_TRY(const KvSection recalled, recall(problem, place));
    return write_sequence(cache.ctx, 0, with_recalled(now, recalled, place));
}

} // namespace

Result<Matrix> recalled_answer(const RecallingCache& cache, const Probe& probe) {
    const TokenSpan prompt = probe.prompt;
    KVFOLD_TRY(const Study asked, ask(cache, prompt, cache.end, Outputs::none));
    KVFOLD_CHECK(swap(cache, cache.compact, asked));
    if (cache.every == 0) return forced_answer(cache.ctx, probe, static_cast<size_t>(cache.end));

    const std::vector<llama_token> judged = predicting_tokens(probe);
    KVFOLD_CHECK(decode_tokens(cache.ctx, prompt.first(prompt.size() - 1), cache.end, Outputs::none));
    Matrix logits(std::ssize(judged),
                  llama_vocab_n_tokens(llama_model_get_vocab(llama_get_model(cache.ctx))));
    for (size_t done = 0; done < judged.size(); done += cache.every) {
        const TokenSpan tokens = TokenSpan(judged).subspan(done, std::min(cache.every, judged.size() - done));
        const auto pos = cache.end + static_cast<llama_pos>(prompt.size() - 1 + done);
        KVFOLD_TRY(const Study spoken, ask(cache, tokens, pos, Outputs::all));
        logits.middleRows(static_cast<Index>(done), std::ssize(tokens)) =
            newest_logits(cache.ctx, tokens.size());
        if (done + tokens.size() == judged.size()) break;
        KVFOLD_TRY(const SequenceState now, read_sequence(cache.ctx, 0));
        KVFOLD_CHECK(swap(cache, now, spoken));
    }
    return logits;
}

} // namespace kvfold
