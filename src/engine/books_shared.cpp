// What of the books' cells can be folded at once, and what sequences share.
#include "engine/books.h"

#include <algorithm>
#include <utility>

namespace kvfold {

bool Books::is_first_owner(llama_seq_id seq_id, const Owners& owners) const {
    return std::ranges::none_of(
        sequences_, [&](const auto& each) { return each.first < seq_id && owners[size_t(each.first)]; });
}

std::vector<Foldable> Books::foldable_of(llama_seq_id seq_id) const {
    return parts_of(seq_id, cells_of(seq_id));
}

std::vector<Foldable> Books::parts_of(llama_seq_id seq_id, std::span<const Cell* const> cells) const {
    if (cells.empty()) return {};
    const Owners alone = Owners().set(size_t(seq_id));
    const auto is_shared = [&](const Cell* cell) { return cell->owners != alone; };
    const auto written = [](const Cell* cell) { return cell->is_answer; };
    const auto answer =
        static_cast<size_t>(std::find_if_not(cells.rbegin(), cells.rend(), written) - cells.rbegin());
    const auto part = [&](size_t first, size_t last) {
        Foldable found{
            seq_id, first, last - first, 0, cells.size() - last, std::ranges::any_of(cells, is_shared)};
        for (size_t i = first; i < last && cells[i]->is_folded; ++i)
            ++found.folded;
        if (first == 0 && found.folded > 0) {
            const llama_pos end = fold_of(seq_id).end;
            if (history(seq_id).first_cut(end) == 0) found.originals = static_cast<size_t>(end);
        }
        found.changing = answer;
        return found;
    };
    const auto differs = [&](const Cell* cell) { return cell->owners != cells.front()->owners; };
    std::vector<Foldable> parts = {
        part(0, static_cast<size_t>(std::ranges::find_if(cells, differs) - cells.begin()))};
    size_t own = cells.size(); // behind the last cell that others own too
    while (own > 0 && !is_shared(cells[own - 1]))
        --own;
    if (own > 0 && own < cells.size()) parts.push_back(part(own, cells.size()));
    return parts;
}

std::vector<Foldable> Books::foldable(size_t stream) const {
    std::vector<Foldable> all;
    for (const auto& [id, sequence] : sequences_) {
        if (stream_of(id) != stream) continue;
        const std::vector<const Cell*> cells = cells_of(id);
        for (const Foldable& part : parts_of(id, cells)) {
            if (part.untouched > 0 || is_first_owner(id, cells.front()->owners)) all.push_back(part);
        }
    }
    return all;
}

bool Books::has_same_owners(llama_seq_id seq_id, llama_pos last, size_t untouched) const {
    const std::vector<const Cell*> cells = cells_of(seq_id);
    for (size_t i = untouched; i < cells.size() && cells[i]->pos <= last; ++i) {
        if (cells[i]->owners != cells[untouched]->owners) return false;
    }
    return true;
}

std::map<llama_pos, std::pair<size_t, size_t>> Books::compared(llama_seq_id one, llama_seq_id other) const {
    std::map<llama_pos, std::pair<size_t, size_t>> at;
    for (const Cell& cell : streams_[stream_of(one)]) {
        if (cell.is_recalled) continue;
        const bool ours = cell.owners[size_t(one)], theirs = cell.owners[size_t(other)];
        if (ours && theirs) ++at[cell.pos].first;
        if (ours != theirs) ++at[cell.pos].second;
    }
    return at;
}

std::vector<Books::Shared> Books::shared(llama_seq_id seq_id) const {
    std::vector<Shared> ranges;
    for (const auto& [id, sequence] : sequences_) {
        if (id == seq_id || stream_of(id) != stream_of(seq_id)) continue;
        bool is_open = false;
        for (const auto& [pos, count] : compared(seq_id, id)) {
            const bool is_shared = count.first > 0 && count.second == 0;
            if (is_shared && is_open)
                ranges.back().p1 = pos + 1;
            else if (is_shared)
                ranges.push_back({id, pos, pos + 1});
            is_open = is_shared;
        }
    }
    return ranges;
}

bool Books::shares_by_position(llama_seq_id seq_id) const {
    return std::ranges::all_of(sequences_, [&](const auto& each) {
        if (each.first == seq_id || stream_of(each.first) != stream_of(seq_id)) return true;
        const auto is_mixed = [](const auto& at) { return at.second.first > 0 && at.second.second > 0; };
        return std::ranges::none_of(compared(seq_id, each.first), is_mixed);
    });
}

} // namespace kvfold
