#include "preload/edits.h"

#include <algorithm>

namespace kvfold::preload {

namespace {

// Depths: of the cut, of the request that made it, and of eight behind it.
constexpr size_t kRemembered = 10;

} // namespace

// A text that keeps less than half of the former one is another text.
void Edits::note(Sequence& sequence, size_t same, size_t before) {
    if (2 * same >= before) sequence.depths.back() = std::max(sequence.depths.back(), before - same);
}

void Edits::cut(llama_seq_id seq_id, llama_pos pos, std::span<const llama_token> tokens) {
    if (static_cast<size_t>(pos) >= tokens.size()) return; // servers do so before each batch of a prompt
    Sequence& sequence = sequences_[seq_id];
    sequence.former.clear();
    if (pos > 0) {
        note(sequence, static_cast<size_t>(pos), tokens.size());
    } else {
        sequence.former.assign(tokens.begin(), tokens.end());
        sequence.same = 0;
    }
}

void Edits::decode(llama_seq_id seq_id, llama_pos pos, llama_token token, bool is_answer) {
    const auto found = sequences_.find(seq_id);
    if (found == sequences_.end()) return;
    Sequence& sequence = found->second;
    if (!is_answer && sequence.answers) {
        sequence.depths.push_back(0);
        if (sequence.depths.size() > kRemembered) sequence.depths.pop_front();
    }
    sequence.answers = is_answer;
    if (sequence.former.empty()) return;
    std::vector<llama_token>& former = sequence.former;
    size_t& same = sequence.same;
    const bool goes_on = static_cast<size_t>(pos) == same && token != LLAMA_TOKEN_NULL;
    if (goes_on && former[same] == token && ++same < former.size()) return;
    if (goes_on) note(sequence, same, former.size()); // images cannot be compared
    sequence.former.clear();
}

size_t Edits::reach(llama_seq_id seq_id) const {
    const auto found = sequences_.find(seq_id);
    return found == sequences_.end() ? 0 : *std::ranges::max_element(found->second.depths);
}

} // namespace kvfold::preload
