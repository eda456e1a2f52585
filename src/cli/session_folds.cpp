// What a session's folds replaced: recalled when asked, taken back, saved.
#include "cli/session.h"
#include "engine/archive_file.h"
#include "engine/ask.h"
#include "state/folded_region.h"
#include "state/live_sequence.h"

#include <algorithm>

namespace kvfold::cli {

Result<SequenceState> Session::read() const {
    KVFOLD_TRY(SequenceState state, read_sequence(ctx_.get(), 0));
    return recalling_ ? without_recalled(state, recalling_->place) : state;
}

// A state without recalled cells, or whose caller says where they stand.
Status Session::put(const SequenceState& state) {
    KVFOLD_CHECK(write_sequence(ctx_.get(), 0, state));
    recalling_.reset();
    cells_ = state.sections.front().cells.size();
    return {};
}

Status Session::drop_recalled() {
    if (!recalling_) return {};
    KVFOLD_TRY(const SequenceState state, read());
    return put(state);
}

// nullopt: there is nothing to recall, or no place for it.
std::optional<Session::Recalling> Session::recalling_from(const KvSection& section) const {
    const std::vector<int32_t> positions = sorted_positions(section);
    const int32_t end = folded_region(positions).end;
    Recalling found;
    found.folds = keeping_.folds->history(section).each(end);
    found.sources = recallable(found.folds);
    found.place = place_of_recalled(end, llama_model_n_swa(model()));
    const bool has_place = found.place >= 0 && !std::ranges::binary_search(positions, found.place);
    if (found.sources.empty() || !has_place) return std::nullopt;
    return found;
}

Result<KvSection> Session::choose(const Recalling& from, const Study& asked) const {
    KVFOLD_TRY(const Kernels* kernels, chosen_kernels());
    RecallProblem problem{model_->map, from.sources, asked, keeping_.recall, model_->threads(), *kernels};
    problem.kept = &from.folds.back()->kept_keys;
    return kvfold::recall(problem, from.place);
}

Status Session::read_prompt(std::span<const llama_token> prompt) {
    KVFOLD_CHECK(drop_recalled()); // what was recalled for another question is not asked
    const auto append_it = [&] { return append(prompt, Outputs::last); };
    if (!keeping_.folds || keeping_.recall == 0 || prompt.size() < 2 || cells_ == tokens_.size())
        return append_it();
    KVFOLD_TRY(const SequenceState before, read());
    std::optional<Recalling> from = recalling_from(before.sections.front());
    if (!from || std::min(keeping_.recall, count_cells(from->sources)) + prompt.size() > room())
        return append_it();

    const size_t tokens = tokens_.size();
    Status done = recall_while_reading(prompt.first(prompt.size() - 1), *std::move(from));
    if (done) done = append(prompt.last(1), Outputs::last);
    if (done) return {};
    tokens_.resize(tokens);
    KVFOLD_CHECK(put(before));
    return done;
}

Status Session::recall_while_reading(std::span<const llama_token> tokens, Recalling from) {
    KVFOLD_TRY(const Study asked, ask_while_reading(*tap_, model_->map.layers, tokens, [&](TokenSpan part) {
                   return append(part, Outputs::none);
               }));
    KVFOLD_TRY(const KvSection recalled, choose(from, asked));
    KVFOLD_TRY(const SequenceState now, read());
    KVFOLD_CHECK(put(with_recalled(now, recalled, from.place)));
    from.recalled = {recalled.cells.size(), 1};
    recalling_ = std::move(from);
    return {};
}

Status Session::say(llama_token token) {
    const auto append_it = [&] { return append({&token, 1}, Outputs::last); };
    if (!recalling_ || llama_model_is_hybrid(model())) return append_it();
    Recalling& from = *recalling_;
    if (!from.pace.is_due(1)) return append_it();
    from.pace.asked();
    KVFOLD_TRY(const Study asked, listen(*tap_, model_->map.layers, 1, append_it));
    KVFOLD_TRY(const KvSection recalled, choose(from, asked));
    if (!llama_memory_seq_rm(llama_get_memory(ctx_.get()), 0, from.place, from.place + 1))
        return fail(ErrorCode::llama, "llama.cpp does not remove position {}", from.place);
    cells_ -= std::exchange(from.recalled.cells, 0);
    KVFOLD_CHECK(add_cells(ctx_.get(), 0, recalled, model_->map.version));
    from.recalled = {recalled.cells.size(), from.recalled.times + 1};
    cells_ += recalled.cells.size();
    return {};
}

Session::Recalled Session::recalled() const { return recalling_ ? recalling_->recalled : Recalled{}; }

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
