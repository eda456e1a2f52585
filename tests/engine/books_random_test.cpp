// Books against the cells themselves: random decodes, removals, copies, moves and folds of sequences that
// share cells, as those of a unified cache do. tests/preload compares them with what llama.cpp holds.
#include "engine/books.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

namespace kvfold {
namespace {

constexpr llama_seq_id kSequences = 4;

struct Cell {
    llama_pos pos;
    llama_token token;
    bool is_folded;
    std::set<llama_seq_id> owners;
};

// What llama.cpp does, as plainly as it can be said.
struct Cells {
    std::vector<Cell> all;

    std::vector<Cell> of(llama_seq_id seq_id) const {
        std::vector<Cell> found;
        for (const Cell& cell : all)
            if (cell.owners.contains(seq_id)) found.push_back(cell);
        std::ranges::stable_sort(found, {}, &Cell::pos);
        return found;
    }
    llama_pos end(llama_seq_id seq_id) const {
        const std::vector<Cell> cells = of(seq_id);
        return cells.empty() ? 0 : cells.back().pos + 1;
    }
    void sweep() {
        std::erase_if(all, [](const Cell& cell) { return cell.owners.empty(); });
    }
};

// Old mistakes, each of which the comparison must find.
struct CountsSharedCellsTwice : Books {
    size_t used(size_t) const {
        size_t cells = 0;
        for (const llama_seq_id seq_id : sequences())
            cells += this->cells(seq_id);
        return cells;
    }
};
struct RemovesForAll : Books {
    void remove(llama_seq_id, llama_pos p0, llama_pos p1) { Books::remove(-1, p0, p1); }
};
struct RemovesNothingAmid : Books {
    void remove(llama_seq_id seq_id, llama_pos p0, llama_pos p1) {
        if (p1 < 0 || p1 >= end(seq_id)) Books::remove(seq_id, p0, p1);
    }
};
struct KeepsOthersThatShare : Books {
    void keep(llama_seq_id seq_id) {
        for (const llama_seq_id other : sequences())
            if (other != seq_id && shared(other).empty()) remove(other, -1, -1);
    }
};
struct MovesOneOwnerOnly : Books {
    void add(llama_seq_id seq_id, llama_pos p0, llama_pos p1, llama_pos delta) {
        if (shared(seq_id).empty()) Books::add(seq_id, p0, p1, delta);
    }
};
struct FoldsForOneAlone : Books {
    using Books::fold;
    void fold(llama_seq_id seq_id, llama_pos last, size_t untouched, size_t cells) {
        if (shared(seq_id).empty()) Books::fold(seq_id, last, untouched, cells);
    }
};

template <class Log> class Play {
  public:
    explicit Play(uint32_t seed) : random_(seed) {}

    // Whether books and cells still agree after one random operation.
    bool step() {
        const auto which = static_cast<llama_seq_id>(below(kSequences));
        switch (below(10)) {
        case 0:
        case 1:
        case 2:
            append(which);
            break;
        case 3:
            remove_amid(which);
            break;
        case 4:
            cut(which);
            break;
        case 5:
        case 6:
            copy(which, static_cast<llama_seq_id>(below(kSequences)));
            break;
        case 7:
            if (below(20) == 0) keep(which);
            break;
        case 8:
            if (below(4) == 0) move(which);
            break;
        default:
            return fold();
        }
        return agree();
    }

  private:
    size_t below(size_t count) { return random_() % count; }
    llama_pos pos_below(llama_pos count) { return static_cast<llama_pos>(below(static_cast<size_t>(count))); }

    // Text, an image whose cells share a position, or a token that several sequences are given at once.
    void append(llama_seq_id which) {
        std::vector<llama_seq_id> owners = {which};
        const llama_pos end = cells_.end(which);
        if (below(6) == 0) {
            for (llama_seq_id other = 0; other < kSequences; ++other)
                if (other != which && cells_.end(other) == end) owners.push_back(other);
        }
        const bool image = below(10) == 0;
        for (llama_pos i = 0; i < static_cast<llama_pos>(1 + below(12)); ++i) {
            const llama_token token = image ? LLAMA_TOKEN_NULL : next_++;
            cells_.all.push_back({image ? end : end + i, token, false, {owners.begin(), owners.end()}});
            books_.decode(image || below(2) == 0 ? cells_.all.back().pos : -1, token, owners);
        }
    }

    void remove(llama_seq_id which, llama_pos p0, llama_pos p1) {
        if (tears(which, p0, p1)) return;
        for (Cell& cell : cells_.all)
            if (cell.pos >= p0 && (p1 < 0 || cell.pos < p1)) cell.owners.erase(which);
        cells_.sweep();
        books_.remove(which, p0, p1);
    }
    void remove_amid(llama_seq_id which) {
        const llama_pos end = cells_.end(which);
        if (end == 0) return;
        const llama_pos p0 = pos_below(end);
        remove(which, p0, p0 + 1 + static_cast<llama_pos>(below(20)));
    }
    void cut(llama_seq_id which) {
        const llama_pos end = cells_.end(which);
        remove(which, end - std::min(end, static_cast<llama_pos>(below(end > 300 ? 300 : 30))), -1);
    }

    void copy(llama_seq_id from, llama_seq_id to) {
        const llama_pos end = cells_.end(from);
        if (from == to || end == 0) return;
        if (below(3) > 0) remove(to, 0, -1);
        if (cells_.end(to) > 0) return; // two texts at one position have no meaning
        const llama_pos p1 = below(2) == 0 ? -1 : 1 + pos_below(end);
        for (Cell& cell : cells_.all)
            if (cell.owners.contains(from) && (p1 < 0 || cell.pos < p1)) cell.owners.insert(to);
        books_.copy(from, to, 0, p1);
        if (unsure_.contains(from)) unsure_.insert(to);
    }

    void keep(llama_seq_id which) {
        for (Cell& cell : cells_.all) {
            if (cell.owners.contains(which))
                cell.owners = {which};
            else
                cell.owners.clear();
        }
        cells_.sweep();
        books_.keep(which);
    }

    // As a program does when a context is full: what is behind what it removed moves up.
    void move(llama_seq_id which) {
        const llama_pos end = cells_.end(which), delta = end / 4;
        if (delta == 0 || tears(which, 0, delta)) return;
        remove(which, 0, delta);
        for (Cell& cell : cells_.all) {
            if (!cell.owners.contains(which) || cell.pos < delta) continue;
            cell.pos -= delta;
            unsure_.insert(cell.owners.begin(), cell.owners.end());
        }
        books_.add(which, delta, -1, -delta);
    }

    // Something of what can be folded becomes a quarter.
    bool fold() {
        const std::vector<Foldable> parts = books_.foldable(0);
        if (parts.empty()) return true;
        const Foldable part = parts[below(parts.size())];
        const std::vector<Cell> before = cells_.of(part.seq_id);
        if (part.all() != before.size() || part.untouched + part.cells > before.size()) return false;
        const std::set<llama_seq_id> owners = before[part.untouched].owners;
        for (size_t i = 0; i < part.cells; ++i)
            if (before[part.untouched + i].owners != owners) return false;
        if (part.cells < 8) return true;
        const size_t kept = below(part.cells / 2);
        const llama_pos last = before[part.untouched + part.cells - 1 - kept].pos;
        if (!books_.has_same_owners(part.seq_id, last, part.untouched)) return true; // an image on the border
        size_t seen = 0, gone = 0;
        for (const Cell& cell : before) {
            if (seen++ < part.untouched || cell.pos > last) continue;
            const auto same = [&](const Cell& other) {
                return other.pos == cell.pos && other.token == cell.token &&
                       other.is_folded == cell.is_folded && other.owners == cell.owners;
            };
            cells_.all.erase(std::ranges::find_if(cells_.all, same));
            ++gone;
        }
        const size_t left = std::max<size_t>(1, gone / 4);
        for (size_t i = 0; i < left; ++i)
            cells_.all.push_back({last, LLAMA_TOKEN_NULL, true, owners});
        books_.fold(part.seq_id, last, part.untouched, left);
        return agree();
    }

    // Whether a removal takes some of the positions that a folded cell holds and leaves some: those behind
    // the last plain cell before it, up to its own.
    bool tears(llama_seq_id which, llama_pos p0, llama_pos p1) const {
        llama_pos begin = 0;
        for (const Cell& cell : cells_.of(which)) {
            if (!cell.is_folded) {
                begin = cell.pos + 1;
                continue;
            }
            size_t taken = 0;
            for (llama_pos pos = begin; pos <= cell.pos; ++pos)
                taken += pos >= p0 && (p1 < 0 || pos < p1);
            if (taken > 0 && taken <= static_cast<size_t>(cell.pos - begin)) return true;
        }
        return false;
    }

    bool agree() {
        if (books_.used(0) != cells_.all.size()) return false;
        for (llama_seq_id which = 0; which < kSequences; ++which) {
            const std::vector<Cell> cells = cells_.of(which);
            if (books_.cells(which) != cells.size() || books_.end(which) != cells_.end(which)) return false;
            if (books_.holds(which) == cells.empty()) return false;
            llama_pos folded = 0;
            for (const Cell& cell : cells)
                if (cell.is_folded) folded = cell.pos + 1;
            if (books_.fold_of(which).end != folded) return false;
            std::vector<llama_token> tokens(static_cast<size_t>(cells_.end(which)), LLAMA_TOKEN_NULL);
            for (const Cell& cell : cells)
                tokens[static_cast<size_t>(cell.pos)] = cell.token;
            for (auto pos = static_cast<size_t>(folded); pos < tokens.size(); ++pos) {
                const llama_token token = books_.tokens(which)[pos];
                const bool may_be_unknown = unsure_.contains(which) && token == LLAMA_TOKEN_NULL;
                if (token != tokens[pos] && !may_be_unknown) return false;
            }
            const llama_pos p0 = pos_below(cells_.end(which) + 2), p1 = p0 + pos_below(30);
            if (books_.tears_fold(which, p0, p1) != tears(which, p0, p1)) return false;
        }
        return true;
    }

    std::mt19937 random_;
    llama_token next_ = 1;
    Cells cells_;
    std::set<llama_seq_id>
        unsure_; // sequences whose cells moved with another's: their tokens may be forgotten
    Log books_;
};

// Operations until books and cells disagree, at most `most`.
template <class Log> size_t operations_until_wrong(size_t most) {
    constexpr size_t kGame = 300; // operations, so that no sequence grows long
    for (size_t done = 0; done < most;) {
        Play<Log> play(static_cast<uint32_t>(1 + done));
        for (size_t i = 0; i < kGame && done < most; ++i, ++done) {
            if (!play.step()) return done;
        }
    }
    return most;
}

TEST(Books, AgreeWithTheCellsAfterAnyOperations) {
    constexpr size_t kOperations = 30000;
    EXPECT_EQ(operations_until_wrong<Books>(kOperations), kOperations);
}

TEST(Books, MistakesInThemAreFound) {
    constexpr size_t kFew = 5000;
    EXPECT_LT(operations_until_wrong<CountsSharedCellsTwice>(kFew), kFew);
    EXPECT_LT(operations_until_wrong<RemovesForAll>(kFew), kFew);
    EXPECT_LT(operations_until_wrong<RemovesNothingAmid>(kFew), kFew);
    EXPECT_LT(operations_until_wrong<KeepsOthersThatShare>(kFew), kFew);
    EXPECT_LT(operations_until_wrong<MovesOneOwnerOnly>(kFew), kFew);
    EXPECT_LT(operations_until_wrong<FoldsForOneAlone>(kFew), kFew);
}

} // namespace
} // namespace kvfold
