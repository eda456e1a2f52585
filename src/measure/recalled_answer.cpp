#include "measure/recalled_answer.h"

#include "measure/forced_answer.h"
#include "measure/written_answer.h"
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

// A probe read token by token, which asks as it goes on.
class RecallingReader {
  public:
    RecallingReader(const RecallingCache& cache, const Probe& probe)
        : cache_(cache), prompt_(probe.prompt), pos_(cache.end), pace_(cache.every) {}

    // All of it but the last token, which asks meanwhile.
    Status read_prompt() {
        const size_t count = prompt_.size() - 1, heard = std::min(count, kHeardOfPrompt);
        if (heard == 0) return {};
        KVFOLD_CHECK(decode_tokens(cache_.ctx, prompt_.first(count - heard), pos_, Outputs::none));
        pos_ += static_cast<llama_pos>(count - heard);
        KVFOLD_TRY(const Study all, ask(prompt_.subspan(count - heard, heard), Outputs::none));
        pos_ += static_cast<llama_pos>(heard);
        KVFOLD_TRY(const SequenceState now, read_sequence(cache_.ctx, 0));
        return swap(cache_, now, queries_of_tokens(all, asking_tokens(heard)));
    }

    // The logits behind the token, [1, vocabulary].
    Result<Matrix> read(llama_token token) {
        const bool is_answer = pos_ != cache_.end + static_cast<llama_pos>(prompt_.size()) - 1;
        const bool asks = cache_.every > 0 && is_answer && pace_.is_due(1);
        std::optional<Study> said;
        if (asks) {
            KVFOLD_TRY(said, ask({&token, 1}, Outputs::all));
        } else {
            KVFOLD_CHECK(decode_tokens(cache_.ctx, {&token, 1}, pos_, Outputs::all));
        }
        ++pos_;
        Matrix logits = newest_logits(cache_.ctx, 1);
        if (!asks) return logits;
        KVFOLD_TRY(const SequenceState now, read_sequence(cache_.ctx, 0));
        KVFOLD_CHECK(swap(cache_, now, *said));
        pace_.asked();
        return logits;
    }

  private:
    Result<Study> ask(TokenSpan tokens, Outputs outputs) {
        return listen(cache_.tap, cache_.map.layers, std::ssize(tokens),
                      [&] { return decode_tokens(cache_.ctx, tokens, pos_, outputs); });
    }

    const RecallingCache& cache_;
    TokenSpan prompt_;
    llama_pos pos_; // of the next token
    AskingPace pace_;
};

} // namespace

Result<Matrix> recalled_answer(const RecallingCache& cache, const Probe& probe) {
    RecallingReader reader(cache, probe);
    KVFOLD_CHECK(reader.read_prompt());
    const std::vector<llama_token> judged = predicting_tokens(probe);
    Matrix logits(std::ssize(judged),
                  llama_vocab_n_tokens(llama_model_get_vocab(llama_get_model(cache.ctx))));
    for (size_t i = 0; i < judged.size(); ++i) {
        KVFOLD_TRY(const Matrix row, reader.read(judged[i]));
        logits.row(static_cast<Index>(i)) = row;
    }
    return logits;
}

Result<std::string> recalled_written_answer(const RecallingCache& cache, const Probe& probe) {
    RecallingReader reader(cache, probe);
    KVFOLD_CHECK(reader.read_prompt());
    return write_answer(llama_get_model(cache.ctx), probe,
                        [&](llama_token token) { return reader.read(token); });
}

} // namespace kvfold
