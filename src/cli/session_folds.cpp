// What a session's folds replaced: recalled when asked, taken back, saved.
#include "cli/session.h"
#include "engine/archive_file.h"
#include "state/folded_region.h"
#include "state/live_sequence.h"

#include <algorithm>

namespace kvfold::cli {

namespace {

// Newest tokens of a prompt, which ask: their queries are held all at once.
constexpr size_t kMostAsking = 256;

} // namespace

Result<SequenceState> Session::read() const {
    KVFOLD_TRY(SequenceState state, read_sequence(ctx_.get(), 0));
    return recalled_at_ < 0 ? state : without_recalled(state, recalled_at_);
}

// A state without recalled cells, or whose caller says where they stand.
Status Session::put(const SequenceState& state) {
    KVFOLD_CHECK(write_sequence(ctx_.get(), 0, state));
    recalled_at_ = -1;
    cells_ = state.sections.front().cells.size();
    return {};
}

Status Session::drop_recalled() {
    if (recalled_at_ < 0) return {};
    KVFOLD_TRY(const SequenceState state, read());
    return put(state);
}

// The sequence holds the tokens that ask afterwards.
Result<KvSection> Session::choose(std::span<const llama_token> asking, std::span<const Recallable> sources,
                                  llama_pos place) {
    QueryTap tap(model_->map.layers, std::ssize(asking));
    const Listening listening(*tap_, tap);
    const Status decoded =
        decode_tokens(ctx_.get(), asking, static_cast<llama_pos>(tokens_.size()), Outputs::none);
    tap.rethrow();
    KVFOLD_CHECK(decoded);
    const Study asked = tap.take();
    KVFOLD_TRY(const Kernels* kernels, chosen_kernels());
    return kvfold::recall({model_->map, sources, asked, keeping_.recall, model_->threads(), *kernels}, place);
}

Status Session::recall(std::span<const llama_token> prompt) {
    const bool is_folded = cells_ != tokens_.size() || recalled_at_ >= 0;
    if (!tap_ || prompt.empty() || !is_folded) return {};
    KVFOLD_TRY(const SequenceState before, read());
    const KvSection& section = before.sections.front();
    const int32_t end = folded_region(sorted_positions(section)).end;
    const auto folds = keeping_.folds->history(section).each(end);
    const std::vector<Recallable> sources = recallable(folds);
    const llama_pos place = end - 2; // in the gap in front of the fold: they can be told from all others
    const size_t needed = section.cells.size() + keeping_.recall + prompt.size();
    if (sources.empty() || place < 0 || needed > llama_n_ctx(ctx_.get())) return drop_recalled();

    const auto asking = prompt.last(std::min(prompt.size(), kMostAsking));
    KVFOLD_CHECK(drop_recalled()); // what was recalled for another question is not asked
    const Result<KvSection> recalled = choose(asking, sources, place);
    KVFOLD_CHECK(put(recalled ? with_recalled(before, *recalled, place) : before));
    if (!recalled) return tl::unexpected(recalled.error());
    recalled_at_ = place;
    return {};
}

Status Session::unfold() {
    if (cells_ == 0 || !keeping_.folds) return fail(ErrorCode::invalid_argument, "nothing is folded");
    KVFOLD_TRY(const SequenceState now, read());
    KVFOLD_TRY(const SequenceState before, unfolded(now, *keeping_.folds, llama_n_ctx(ctx_.get())));
    return put(before);
}

Status Session::save_archive(const std::string& path) const {
    if (cells_ == 0 || !keeping_.folds) return fail(ErrorCode::invalid_argument, "nothing is folded");
    KVFOLD_TRY(const SequenceState state, read());
    const KvSection& section = state.sections.front();
    const auto stored = stored_folds(section, keeping_.folds->history(section), heads_by_cache(model_->map));
    if (!stored)
        return fail(ErrorCode::invalid_argument, "{}: what was folded is not kept, or nothing was", path);
    return write_archive_file(path, *stored);
}

} // namespace kvfold::cli
