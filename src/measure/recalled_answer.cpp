#include "measure/recalled_answer.h"

#include "measure/forced_answer.h"
#include "model/context.h"
#include "state/folded_region.h"
#include "state/live_sequence.h"
#include "study/listen.h"
#include "study/sources.h"

namespace kvfold {

namespace {

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
    const auto ask = [&](TokenSpan tokens, llama_pos pos, Outputs outputs) {
        return listen(cache.tap, cache.map.layers, std::ssize(tokens),
                      [&] { return decode_tokens(cache.ctx, tokens, pos, outputs); });
    };
    KVFOLD_TRY(const Study asked, ask(prompt, cache.end, Outputs::none));
    KVFOLD_CHECK(swap(cache, cache.compact, asked));
    if (cache.every == 0) return forced_answer(cache.ctx, probe, static_cast<size_t>(cache.end));

    const std::vector<llama_token> judged = predicting_tokens(probe);
    KVFOLD_CHECK(decode_tokens(cache.ctx, prompt.first(prompt.size() - 1), cache.end, Outputs::none));
    Matrix logits(std::ssize(judged),
                  llama_vocab_n_tokens(llama_model_get_vocab(llama_get_model(cache.ctx))));
    AskingPace pace(cache.every);
    for (size_t i = 0; i < judged.size(); ++i) {
        const TokenSpan token = TokenSpan(judged).subspan(i, 1);
        const auto pos = cache.end + static_cast<llama_pos>(prompt.size() - 1 + i);
        const bool asks = i > 0 && pace.is_due(1); // the first one is the prompt's last
        std::optional<Study> said;
        if (asks) {
            KVFOLD_TRY(said, ask(token, pos, Outputs::all));
        } else {
            KVFOLD_CHECK(decode_tokens(cache.ctx, token, pos, Outputs::all));
        }
        logits.row(static_cast<Index>(i)) = newest_logits(cache.ctx, 1);
        if (!asks) continue;
        KVFOLD_TRY(const SequenceState now, read_sequence(cache.ctx, 0));
        KVFOLD_CHECK(swap(cache, now, *said));
        pace.asked();
    }
    return logits;
}

} // namespace kvfold
