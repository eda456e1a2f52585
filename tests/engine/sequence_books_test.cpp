// A SequenceLog against the cells themselves: random decodes, removals, copies and folds of sequences that
// share cells, as those of a unified cache do.
#include "engine/sequence_log.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

namespace kvfold {
namespace {

// What llama.cpp holds of a sequence: cells by their numbers, which sequences share.
struct Cells {
    std::map<int, llama_pos> at; // number of a cell -> its position

    std::vector<llama_pos> positions() const {
        std::vector<llama_pos> positions;
        for (const auto& [cell, pos] : at)
            positions.push_back(pos);
        std::sort(positions.begin(), positions.end());
        return positions;
    }
    size_t count(llama_pos p0, llama_pos p1) const {
        return static_cast<size_t>(std::ranges::count_if(
            at, [&](const auto& cell) { return cell.second >= p0 && cell.second < p1; }));
    }
    llama_pos end() const { return at.empty() ? 0 : positions().back() + 1; }
    void remove(llama_pos p0, llama_pos p1) {
        std::erase_if(at, [&](const auto& cell) { return cell.second >= p0 && cell.second < p1; });
    }
};

// Old mistakes, each of which the comparison must find.
struct RemovesNothingAmid : SequenceLog { // holes count as cells
    void remove(llama_pos p0, llama_pos p1) {
        if (p1 < 0 || p1 >= end()) SequenceLog::remove(p0, p1);
    }
};
struct FillsNoHoles : SequenceLog {
    void set(llama_pos pos, llama_token token) {
        if (pos >= end()) SequenceLog::set(pos, token);
    }
};
struct CopiesNoCutFold : SequenceLog {
    bool copy(const SequenceLog& from, llama_pos p0, llama_pos p1) {
        return SequenceLog::copy(from, p0, from.tears_fold(p0, p1) ? from.fold().begin : p1);
    }
};

constexpr size_t kSequences = 3;

template <class Log> class Play {
  public:
    explicit Play(uint32_t seed) : random_(seed) {}

    // Whether log and cells still agree after one random operation on a random sequence.
    bool step() {
        const size_t which = below(kSequences);
        switch (below(8)) {
        case 0:
        case 1:
        case 2:
            append(which);
            break;
        case 3:
            fill_hole(which);
            break;
        case 4:
            remove(which);
            break;
        case 5:
            cut(which);
            break;
        case 6:
            return copy(which, below(kSequences));
        default:
            fold(which);
        }
        return agree(which);
    }

  private:
    size_t below(size_t count) { return random_() % count; }
    llama_pos pos_below(llama_pos count) { return static_cast<llama_pos>(below(static_cast<size_t>(count))); }

    void decode(size_t which, llama_pos pos) {
        cells_[which].at[next_++] = pos;
        logs_[which].set(pos, pos);
    }

    // Text, or an image whose cells share a position.
    void append(size_t which) {
        const bool image = below(10) == 0;
        const llama_pos end = cells_[which].end();
        for (llama_pos i = 0; i < static_cast<llama_pos>(1 + below(12)); ++i)
            decode(which, image ? end : end + i);
    }

    void fill_hole(size_t which) {
        const llama_pos end = cells_[which].end();
        if (end == 0) return;
        const llama_pos pos = pos_below(end);
        const auto there = cells_[which].positions();
        const SequenceLog::Fold& fold = logs_[which].fold();
        const bool folded = pos >= fold.begin && pos < fold.end;
        if (!folded && !std::binary_search(there.begin(), there.end(), pos)) decode(which, pos);
    }

    void remove(size_t which) {
        const llama_pos end = cells_[which].end();
        if (end == 0) return;
        const llama_pos p0 = pos_below(end);
        remove(which, p0, p0 + 1 + static_cast<llama_pos>(below(20)));
    }
    void cut(size_t which) {
        const llama_pos end = cells_[which].end();
        remove(which, end - std::min(end, static_cast<llama_pos>(below(end > 300 ? 300 : 30))), -1);
    }
    void remove(size_t which, llama_pos p0, llama_pos p1) {
        if (logs_[which].tears_fold(p0, p1)) return;
        cells_[which].remove(p0, p1 < 0 ? cells_[which].end() : p1);
        logs_[which].remove(p0, p1);
    }

    // Into an empty sequence, or beside and onto what another holds.
    bool copy(size_t from, size_t to) {
        const llama_pos end = cells_[from].end();
        if (from == to || end == 0) return true;
        if (below(3) > 0) remove(to, 0, -1);
        const llama_pos p0 = below(2) == 0 ? 0 : pos_below(end);
        const llama_pos p1 = below(2) == 0 ? -1 : p0 + pos_below(end);
        for (const auto& [cell, pos] : cells_[from].at) {
            if (pos >= p0 && (p1 < 0 || pos < p1)) cells_[to].at[cell] = pos;
        }
        if (logs_[to].copy(logs_[from], p0, p1)) return agree(to);
        const bool careful = logs_[to].cells() >= cells_[to].at.size();
        learn(to);
        return careful && agree(to);
    }
    void learn(size_t which) {
        static_cast<SequenceLog&>(logs_[which]) = SequenceLog::from_positions(
            cells_[which].positions(),
            std::vector<llama_token>(static_cast<size_t>(cells_[which].end()), LLAMA_TOKEN_NULL));
    }

    // The cells from the head, or from an older fold, to the tail become a quarter of them, the last of which
    // stands at the end. An older fold that stays joins the new one.
    void fold(size_t which) {
        constexpr llama_pos kHead = 4;
        const llama_pos end = cells_[which].end();
        const SequenceLog::Fold old = logs_[which].fold();
        const llama_pos begin = below(4) == 0 ? kHead : std::max(kHead, old.end);
        const llama_pos last = end - 1 - static_cast<llama_pos>(below(30));
        const size_t in = cells_[which].count(begin, last);
        if (in < 8 || last <= old.end) return;
        cells_[which].remove(begin, last);
        for (size_t i = 0; i + 1 < in / 4; ++i)
            cells_[which].at[next_++] = begin + pos_below(last - begin);
        cells_[which].at[next_++] = last - 1;
        const llama_pos first = old.empty() ? begin : std::min(begin, old.begin);
        logs_[which].set_fold({first, last, static_cast<uint32_t>(cells_[which].count(first, last))});
    }

    bool agree(size_t which) const {
        const SequenceLog& log = logs_[which];
        if (log.cells() != cells_[which].at.size() || log.end() != cells_[which].end()) return false;
        const auto positions = cells_[which].positions();
        for (llama_pos pos = 0; pos < log.end(); ++pos) { // outside the fold a token is where a cell is
            if (pos >= log.fold().begin && pos < log.fold().end) continue;
            const bool there = std::binary_search(positions.begin(), positions.end(), pos);
            if (!there && log.tokens()[static_cast<size_t>(pos)] != LLAMA_TOKEN_NULL) return false;
        }
        return true;
    }

    std::mt19937 random_;
    int next_ = 0;
    Cells cells_[kSequences];
    Log logs_[kSequences];
};

// Operations until log and cells disagree, at most `most`.
template <class Log> size_t operations_until_wrong(size_t most) {
    constexpr size_t kGame = 500; // operations, so that no sequence grows long
    for (size_t done = 0; done < most;) {
        Play<Log> play(static_cast<uint32_t>(1 + done));
        for (size_t i = 0; i < kGame && done < most; ++i, ++done) {
            if (!play.step()) return done;
        }
    }
    return most;
}

TEST(SequenceLog, AgreesWithTheCellsAfterAnyOperations) {
    constexpr size_t kOperations = 200000;
    EXPECT_EQ(operations_until_wrong<SequenceLog>(kOperations), kOperations);
}

TEST(SequenceLog, MistakesInItsBooksAreFound) {
    constexpr size_t kFew = 2000;
    EXPECT_LT(operations_until_wrong<RemovesNothingAmid>(kFew), kFew);
    EXPECT_LT(operations_until_wrong<FillsNoHoles>(kFew), kFew);
    EXPECT_LT(operations_until_wrong<CopiesNoCutFold>(kFew), kFew);
}

TEST(SequenceLog, HolesThatGoWithTheEndAreCountedNoMore) {
    SequenceLog log;
    for (llama_pos pos = 0; pos < 100; ++pos)
        log.set(pos, pos);
    log.remove(10, 20);
    log.remove(10, 20);
    EXPECT_EQ(log.cells(), 90u);
    log.set(15, 7);
    EXPECT_EQ(log.cells(), 91u);
    log.remove(5, -1);
    EXPECT_EQ(log.cells(), 5u);
    EXPECT_EQ(log.end(), 5);
}

TEST(SequenceLog, ACopyThatCutsIntoTheFoldKnowsIt) {
    SequenceLog log;
    for (llama_pos pos = 0; pos < 100; ++pos)
        log.set(pos, pos);
    log.set_fold({4, 64, 10});
    SequenceLog copy;
    EXPECT_FALSE(copy.copy(log, 0, 30));
    EXPECT_EQ(copy.end(), 30);
    EXPECT_EQ(copy.cells(), 14u); // at most
    EXPECT_TRUE(copy.tears_fold(20, -1));
}

} // namespace
} // namespace kvfold
