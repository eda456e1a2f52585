#include "engine/books.h"

#include "state/folded_region.h"

#include <algorithm>
#include <utility>

namespace kvfold {

namespace {

struct Range {
    llama_pos p0, p1;
    bool has(llama_pos pos) const { return pos >= p0 && pos < p1; }
};

Range closed(llama_pos p0, llama_pos p1) {
    return {std::max(p0, 0), p1 < 0 ? std::numeric_limits<llama_pos>::max() : p1};
}

} // namespace

void Books::decode(llama_pos pos, llama_token token, std::span<const llama_seq_id> owners, bool is_answer) {
    if (owners.empty() || !is_kept(owners.front()) || stream_of(owners.front()) >= streams_.size()) return;
    if (pos < 0) pos = end(owners.front());
    Cell cell{pos, {}, false, is_answer};
    for (const llama_seq_id seq_id : owners) {
        if (!is_kept(seq_id) || cell.owners[size_t(seq_id)]) continue;
        cell.owners.set(size_t(seq_id));
        ++sequences_[seq_id].cells;
        set_token(seq_id, pos, token);
    }
    cells_with(owners.front()).push_back(cell);
}

void Books::set_token(llama_seq_id seq_id, llama_pos pos, llama_token token) {
    std::vector<llama_token>& tokens = sequences_[seq_id].tokens;
    const auto at = static_cast<size_t>(pos);
    if (at >= tokens.size()) tokens.resize(at + 1, LLAMA_TOKEN_NULL);
    tokens[at] = token;
}

void Books::remove(llama_seq_id seq_id, llama_pos p0, llama_pos p1) {
    const Range range = closed(p0, p1);
    if (seq_id >= 0 && end(seq_id) <= range.p0) return;
    for (std::vector<Cell>& cells : streams_) {
        if (seq_id >= 0 && &cells != &cells_with(seq_id)) continue;
        for (Cell& cell : cells) {
            if (!range.has(cell.pos)) continue;
            if (seq_id < 0)
                cell.owners.reset();
            else
                cell.owners.reset(size_t(seq_id));
        }
    }
    for (auto& [id, sequence] : sequences_) {
        if (seq_id >= 0 && id != seq_id) continue;
        const auto size = static_cast<llama_pos>(sequence.tokens.size());
        for (llama_pos pos = range.p0; pos < std::min(range.p1, size); ++pos)
            sequence.tokens[static_cast<size_t>(pos)] = LLAMA_TOKEN_NULL;
        sequence.history.cut(range.p0);
    }
    recount();
}

void Books::copy(llama_seq_id from, llama_seq_id to, llama_pos p0, llama_pos p1) {
    if (from == to || !is_kept(to)) return;
    const Range range = closed(p0, p1);
    if (stream_of(from) != stream_of(to)) {
        cells_with(to).clear();
        sequences_.erase(to);
        for (Cell cell : cells_with(from)) {
            if (!cell.owners[size_t(from)]) continue;
            cell.owners = Owners().set(size_t(to));
            cells_with(to).push_back(cell);
        }
        if (holds(from)) sequences_[to] = sequences_[from];
        return;
    }
    if (!holds(from)) return;
    for (Cell& cell : cells_with(from)) {
        if (cell.owners[size_t(from)] && range.has(cell.pos)) cell.owners.set(size_t(to));
    }
    sequences_.try_emplace(to); // also where no token is known
    const std::vector<llama_token> tokens = this->tokens(from);
    // A fold comes with the tokens that it holds, also where the range begins inside of them.
    const Fold fold = fold_of(from);
    const bool comes_with_fold = !fold.empty() && range.has(fold.end - 1);
    const llama_pos first = comes_with_fold ? 0 : range.p0;
    sequences_[to].history = comes_with_fold ? history(from) : FoldHistory();
    for (llama_pos pos = first; pos < std::min(range.p1, static_cast<llama_pos>(tokens.size())); ++pos) {
        if (tokens[static_cast<size_t>(pos)] != LLAMA_TOKEN_NULL)
            set_token(to, pos, tokens[static_cast<size_t>(pos)]);
    }
    recount();
}

void Books::keep(llama_seq_id seq_id) {
    if (!is_kept(seq_id)) return;
    const Owners only = Owners().set(size_t(seq_id));
    for (Cell& cell : cells_with(seq_id))
        cell.owners &= only;
    recount();
}

void Books::add(llama_seq_id seq_id, llama_pos p0, llama_pos p1, llama_pos delta) {
    if (!holds(seq_id)) return;
    const Range range = closed(p0, p1);
    const Fold fold = fold_of(seq_id); // before it moves
    Owners moved;
    for (Cell& cell : cells_with(seq_id)) {
        if (!cell.owners[size_t(seq_id)] || !range.has(cell.pos)) continue;
        moved |= cell.owners;
        cell.pos += delta;
        if (cell.pos < 0) cell.owners.reset();
    }
    for (auto& [id, sequence] : sequences_) {
        if (!moved[size_t(id)]) continue;
        const std::vector<llama_token> before = std::exchange(sequence.tokens, {});
        sequence.history = {};
        if (id != seq_id) continue; // some of its cells moved under it, and others did not
        for (llama_pos pos = 0; pos < static_cast<llama_pos>(before.size()); ++pos) {
            const bool moves = range.has(pos < fold.end ? fold.end - 1 : pos);
            const llama_pos now = moves ? pos + delta : pos;
            const llama_token token = before[static_cast<size_t>(pos)];
            if (now >= 0 && token != LLAMA_TOKEN_NULL) set_token(id, now, token);
        }
    }
    recount();
}

void Books::divide(llama_seq_id seq_id, llama_pos p0, llama_pos p1, int divisor) {
    if (!holds(seq_id) || divisor == 0) return;
    const Range range = closed(p0, p1);
    Owners moved;
    for (Cell& cell : cells_with(seq_id)) {
        if (!cell.owners[size_t(seq_id)] || !range.has(cell.pos)) continue;
        moved |= cell.owners;
        cell.pos /= divisor;
    }
    for (auto& [id, sequence] : sequences_) { // several tokens share a position now
        if (!moved[size_t(id)]) continue;
        std::fill(sequence.tokens.begin(), sequence.tokens.end(), LLAMA_TOKEN_NULL);
        sequence.history = {};
    }
    recount();
}

void Books::clear() {
    for (std::vector<Cell>& cells : streams_)
        cells.clear();
    sequences_.clear();
}

void Books::learn(llama_seq_id seq_id, std::span<const llama_pos> positions, llama_pos fold_end,
                  std::vector<llama_token> tokens) {
    std::map<llama_pos, llama_token> answers; // that the model has written
    for (const Cell* cell : cells_of(seq_id))
        if (cell->is_answer) answers[cell->pos] = this->tokens(seq_id)[static_cast<size_t>(cell->pos)];
    remove(seq_id, -1, -1);
    if (positions.empty() || !is_kept(seq_id) || stream_of(seq_id) >= streams_.size()) return;
    tokens.resize(static_cast<size_t>(positions.back()) + 1, LLAMA_TOKEN_NULL);
    for (const llama_pos pos : positions) {
        const auto answer = answers.find(pos);
        const bool is_answer = answer != answers.end() && answer->second == tokens[static_cast<size_t>(pos)];
        cells_with(seq_id).push_back(
            {pos, Owners().set(size_t(seq_id)), pos + 1 == fold_end, is_answer && pos >= fold_end});
    }
    sequences_[seq_id] = {std::move(tokens), positions.size()};
}

void Books::fold(llama_seq_id seq_id, llama_pos last, size_t untouched, size_t cells,
                 std::shared_ptr<const ArchivedFold> replaced) {
    const std::vector<const Cell*> before = cells_of(seq_id);
    Owners owners;
    std::vector<bool> goes(cells_with(seq_id).size());
    for (size_t i = untouched; i < before.size() && before[i]->pos <= last; ++i) {
        owners = before[i]->owners;
        goes[static_cast<size_t>(before[i] - cells_with(seq_id).data())] = true;
    }
    std::vector<Cell> now;
    for (size_t i = 0; i < goes.size(); ++i) {
        if (!goes[i]) now.push_back(cells_with(seq_id)[i]);
    }
    now.insert(now.end(), cells, Cell{last, owners, true});
    cells_with(seq_id) = std::move(now);
    for (auto& [id, sequence] : sequences_) {
        if (owners[size_t(id)]) sequence.history.add(replaced);
    }
    recount();
}

void Books::recall(llama_seq_id seq_id, llama_pos pos, size_t cells) {
    const Owners owner = Owners().set(size_t(seq_id));
    cells_with(seq_id).insert(cells_with(seq_id).end(), cells, Cell{pos, owner, false, false, true});
    recount();
}

void Books::drop_recalled(llama_seq_id seq_id) {
    if (!holds(seq_id)) return;
    for (Cell& cell : cells_with(seq_id)) {
        if (cell.is_recalled) cell.owners.reset(size_t(seq_id));
    }
    recount();
}

void Books::recount() {
    std::map<llama_seq_id, llama_pos> ends;
    for (auto& [id, sequence] : sequences_)
        sequence.cells = 0;
    for (std::vector<Cell>& cells : streams_) {
        std::erase_if(cells, [](const Cell& cell) { return cell.owners.none(); });
        for (const Cell& cell : cells) {
            for (auto& [id, sequence] : sequences_) {
                if (!cell.owners[size_t(id)]) continue;
                ++sequence.cells;
                llama_pos& end = ends[id];
                end = std::max(end, cell.pos + 1);
            }
        }
    }
    std::erase_if(sequences_, [](const auto& each) { return each.second.cells == 0; });
    for (auto& [id, sequence] : sequences_)
        sequence.tokens.resize(static_cast<size_t>(ends[id]), LLAMA_TOKEN_NULL);
}

std::vector<llama_seq_id> Books::sequences() const {
    std::vector<llama_seq_id> ids;
    for (const auto& [id, sequence] : sequences_)
        ids.push_back(id);
    return ids;
}

llama_pos Books::end(llama_seq_id seq_id) const { return static_cast<llama_pos>(tokens(seq_id).size()); }

size_t Books::cells(llama_seq_id seq_id) const {
    const auto found = sequences_.find(seq_id);
    return found == sequences_.end() ? 0 : found->second.cells;
}

const std::vector<llama_token>& Books::tokens(llama_seq_id seq_id) const {
    static const std::vector<llama_token> none;
    const auto found = sequences_.find(seq_id);
    return found == sequences_.end() ? none : found->second.tokens;
}

bool Books::ends_with_answer(llama_seq_id seq_id) const {
    const std::vector<const Cell*> cells = cells_of(seq_id);
    return !cells.empty() && cells.back()->is_answer;
}

bool Books::knows_all_tokens(llama_seq_id seq_id) const {
    return std::ranges::find(tokens(seq_id), LLAMA_TOKEN_NULL) == tokens(seq_id).end();
}

const FoldHistory& Books::history(llama_seq_id seq_id) const {
    static const FoldHistory none;
    const auto found = sequences_.find(seq_id);
    return found == sequences_.end() ? none : found->second.history;
}

void Books::set_history(llama_seq_id seq_id, FoldHistory history) {
    if (holds(seq_id)) sequences_[seq_id].history = std::move(history);
}

size_t Books::used() const {
    size_t cells = 0;
    for (const std::vector<Cell>& stream : streams_)
        cells += stream.size();
    return cells;
}

size_t Books::used(size_t stream) const { return streams_[stream].size(); }

std::vector<const Books::Cell*> Books::cells_of(llama_seq_id seq_id) const {
    std::vector<const Cell*> found;
    if (!holds(seq_id)) return found;
    for (const Cell& cell : streams_[stream_of(seq_id)]) {
        if (cell.owners[size_t(seq_id)] && !cell.is_recalled) found.push_back(&cell);
    }
    if (!std::ranges::is_sorted(found, {}, &Cell::pos)) std::ranges::stable_sort(found, {}, &Cell::pos);
    return found;
}

Books::Fold Books::fold_of(llama_seq_id seq_id, llama_pos last) const {
    Fold fold;
    if (!holds(seq_id)) return fold;
    const std::vector<Cell>& cells = streams_[stream_of(seq_id)];
    for (const Cell& cell : cells) {
        if (cell.is_folded && cell.owners[size_t(seq_id)] && cell.pos <= last)
            fold.end = std::max(fold.end, cell.pos + 1);
    }
    for (const Cell& cell : cells)
        fold.cells += cell.owners[size_t(seq_id)] && cell.pos < fold.end;
    return fold;
}

Books::Recalled Books::recalled(llama_seq_id seq_id) const {
    Recalled recalled;
    if (!holds(seq_id)) return recalled;
    for (const Cell& cell : streams_[stream_of(seq_id)]) {
        if (!cell.is_recalled || !cell.owners[size_t(seq_id)]) continue;
        recalled.pos = cell.pos;
        ++recalled.cells;
        recalled.own += cell.owners.count() == 1;
    }
    return recalled;
}

bool Books::stands_at(llama_seq_id seq_id, llama_pos pos) const {
    return std::ranges::any_of(cells_of(seq_id), [&](const Cell* cell) { return cell->pos == pos; });
}

bool Books::tears_fold(llama_seq_id seq_id, llama_pos p0, llama_pos p1) const {
    const Range range = closed(p0, p1);
    llama_pos begin = 0; // of the positions that the next cell may hold
    for (const Cell* cell : cells_of(seq_id)) {
        const bool touches = range.p0 <= cell->pos && range.p1 > begin && range.p0 < range.p1;
        const bool takes_all = range.p0 <= begin && range.p1 > cell->pos;
        if (cell->is_folded && touches && !takes_all) return true;
        if (!cell->is_folded) begin = cell->pos + 1;
    }
    return false;
}

} // namespace kvfold
