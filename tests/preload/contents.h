// Which tokens the cells of a sequence were made of, told by the values of the first layer: those depend on
// the token alone. Against it a naive model of what a program has done: a word of one sequence must never
// stand in another.
#pragma once

#include "state/live_sequence.h"
#include "support/llama_fixture.h"

#include <algorithm>
#include <set>

namespace kvfold::preload {

inline constexpr llama_token kFirstToken = 3, kKinds = 200;

// The first layer's values of tokens kFirstToken and up, one a row.
class TokenRows {
  public:
    explicit TokenRows(const testing::ModelPtr& model) : heads_(llama_model_n_head_kv(model.get())) {
        const testing::ContextPtr ctx = testing::make_context(model, {.n_ctx = 256});
        std::vector<llama_token> tokens(kKinds);
        for (llama_token i = 0; i < kKinds; ++i)
            tokens[static_cast<size_t>(i)] = kFirstToken + i;
        EXPECT_EQ(llama_decode(ctx.get(), llama_batch_get_one(tokens.data(), kKinds)), 0);
        const auto state = read_sequence(ctx.get(), 0);
        EXPECT_TRUE(state);
        if (state) rows_ = to_float(state->sections.front().values.front());
    }
    // Of each head, for a recalled cell is put together of several. Not necessarily equal: batches of other
    // sizes are rounded otherwise.
    std::vector<llama_token> nearest(const Matrix& rows, Index row) const {
        const Index width = rows_.cols() / heads_;
        std::vector<llama_token> tokens;
        for (Index head = 0; head < heads_; ++head) {
            Index best = 0;
            const auto known = rows_.middleCols(head * width, width);
            (known.rowwise() - rows.row(row).segment(head * width, width))
                .rowwise()
                .squaredNorm()
                .minCoeff(&best);
            tokens.push_back(kFirstToken + static_cast<llama_token>(best));
        }
        return tokens;
    }

  private:
    Index heads_;
    Matrix rows_;
};

class Contents {
  public:
    static constexpr llama_token kGone = -1;

    void decode(llama_seq_id seq_id, llama_token token) { of_[seq_id].tokens.push_back(token); }
    void remove(llama_seq_id seq_id, llama_pos p0, llama_pos p1) {
        auto& [tokens, folded] = of_[seq_id];
        const auto end = static_cast<llama_pos>(tokens.size());
        for (llama_pos pos = std::max(p0, 0); pos < end && (p1 < 0 || pos < p1); ++pos) {
            if (p1 >= 0) folded.insert(tokens[static_cast<size_t>(pos)]); // some cell may still tell of it
            tokens[static_cast<size_t>(pos)] = kGone;
        }
        while (!tokens.empty() && tokens.back() == kGone)
            tokens.pop_back();
        if (tokens.empty()) folded.clear();
    }
    void copy(llama_seq_id from, llama_seq_id to, llama_pos end) {
        of_[to] = of_[from];
        of_[to].tokens.resize(std::min(of_[to].tokens.size(), static_cast<size_t>(end)));
    }
    // Positions that a token stands at.
    size_t count(llama_seq_id seq_id) const {
        const auto found = of_.find(seq_id);
        if (found == of_.end()) return 0;
        return static_cast<size_t>(
            std::ranges::count_if(found->second.tokens, [](llama_token token) { return token != kGone; }));
    }
    // Empty, or what stands in a cell that no token of the sequence up to its position is. A folded cell
    // stands behind the position that it was.
    std::string foreign(llama_seq_id seq_id, const KvSection& section, const TokenRows& known) const {
        const auto found = of_.find(seq_id);
        const Matrix rows = to_float(section.values.front());
        for (size_t i = 0; i < section.cells.size(); ++i) {
            if (found == of_.end()) return kvfold::format("{} holds cells", seq_id);
            const auto& [tokens, folded] = found->second;
            const auto end =
                tokens.begin() + std::min<std::ptrdiff_t>(section.cells[i].pos + 1, std::ssize(tokens));
            for (const llama_token token : known.nearest(rows, static_cast<Index>(i)))
                if (std::find(tokens.begin(), end, token) == end && !folded.contains(token))
                    return kvfold::format("token {} at position {} of sequence {}", token,
                                          section.cells[i].pos, seq_id);
        }
        return {};
    }

  private:
    struct Sequence {
        std::vector<llama_token> tokens; // of each position
        std::set<llama_token> folded;    // removed amid the sequence
    };
    std::map<llama_seq_id, Sequence> of_;
};

} // namespace kvfold::preload
