#include "measure/recalled_answer.h"

#include "engine/ask.h"
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
    RecallProblem problem{cache.map, cache.sources, asked, cache.count, cache.threads, *kernels};
    problem.kept = &cache.kept;
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
        const TokenSpan asking = prompt_.first(prompt_.size() - 1);
        if (asking.empty()) return {};
        const auto read_it = [&](TokenSpan part) -> Status {
            KVFOLD_CHECK(decode_tokens(cache_.ctx, part, pos_, Outputs::none));
            pos_ += static_cast<llama_pos>(part.size());
            return {};
        };
        KVFOLD_TRY(const Study asked, ask_while_reading(cache_.tap, cache_.map.layers, asking, read_it));
        KVFOLD_TRY(const SequenceState now, read_sequence(cache_.ctx, 0));
        return swap(cache_, now, asked);
    }

    // The logits behind the token, [1, vocabulary].
    Result<Matrix> read(llama_token token) {
        const bool is_answer = pos_ != cache_.end + static_cast<llama_pos>(prompt_.size()) - 1;
        const bool asks = cache_.every > 0 && is_answer && pace_.is_due(1);
        const auto read_it = [&] { return decode_tokens(cache_.ctx, {&token, 1}, pos_, Outputs::all); };
        Study said;
        if (asks) {
            KVFOLD_TRY(said, listen(cache_.tap, cache_.map.layers, 1, read_it));
        } else {
            KVFOLD_CHECK(read_it());
        }
        ++pos_;
        Matrix logits = newest_logits(cache_.ctx, 1);
        if (!asks) return logits;
        KVFOLD_TRY(const SequenceState now, read_sequence(cache_.ctx, 0));
        KVFOLD_CHECK(swap(cache_, now, said));
        pace_.asked();
        return logits;
    }

  private:
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
