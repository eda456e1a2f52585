#include "preload/edits.h"

#include <algorithm>

namespace kvfold::preload {

namespace {

constexpr size_t kRemembered = 8; // requests: an edit now and then is expected once more

} // namespace

// A text that keeps less than half of the former one is another text.
void Edits::note(Sequence& sequence, size_t same, size_t before) {
    if (2 * same < before) return;
    sequence.depths.push_back(before - same);
    if (sequence.depths.size() > kRemembered) sequence.depths.pop_front();
}

void Edits::cut(llama_seq_id seq_id, llama_pos pos, std::span<const llama_token> tokens) {
    Sequence& sequence = sequences_[seq_id];
    if (pos > 0) {
        note(sequence, std::min(static_cast<size_t>(pos), tokens.size()), tokens.size());
        sequence.former.clear();
    } else if (!tokens.empty()) {
        sequence.former.assign(tokens.begin(), tokens.end());
        sequence.same = 0;
    }
}

void Edits::decode(llama_seq_id seq_id, llama_pos pos, llama_token token) {
    const auto found = sequences_.find(seq_id);
    if (found == sequences_.end() || found->second.former.empty()) return;
    Sequence& sequence = found->second;
    const bool goes_on = static_cast<size_t>(pos) == sequence.same;
    if (goes_on && sequence.former[sequence.same] == token && ++sequence.same < sequence.former.size()) return;
    note(sequence, sequence.same, sequence.former.size());
    sequence.former.clear();
}

size_t Edits::reach(llama_seq_id seq_id) const {
    const auto found = sequences_.find(seq_id);
    if (found == sequences_.end() || found->second.depths.empty()) return 0;
    return *std::ranges::max_element(found->second.depths);
}

} // namespace kvfold::preload
