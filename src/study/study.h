// Study: make the model ask, in a scratch context, what it will ask later, and keep its queries.
#pragma once

#include "study/listen.h"
#include "study/scratch.h"
#include "study/sources.h"

#include <algorithm>

namespace kvfold {

enum class Source : uint8_t { tail, pseudo, repeat, recite, prefill };

// What to study, as shares of what is to be folded: of the whole context at first, of what is new when the
// rest is folded already.
struct StudyPlan {

    struct Part {
        Source source;
        float share; // tokens of this source / cells to fold; ignored by `prefill`
    };
    std::vector<Part> parts;
    // Tokens of all parts for each cell kept, and in all, at least: all parts grow alike to reach them.
    float tokens_a_cell = 0;
    size_t least_tokens = 0;
    size_t max_tokens_a_part = kMostHeard; // a bound on time and memory for very long contexts
    // Rows of the query matrix of one KV head: n; of more, an even choice is solved with, and the cost of
    // every stage of the solve grows with it. As many as 1365 tokens ask three query heads. 2048 cost 10 % on
    // prose and lost a name in a dialogue.
    Index max_queries = 4096;
    // Of the importance of all queries but those of drafts, what those of repeat and recite have, which ask
    // for single places, < 1; 0: each query counts alike. What few queries ask for is lost where many others
    // ask for something else.
    float places_share = 0;
    float draft_share = 0; // tokens of drafted self-study / cells to fold; 0 = none

    bool reads(Source source) const {
        return std::any_of(parts.begin(), parts.end(),
                           [&](const Part& part) { return part.source == source; });
    }
    bool reads_text() const { return !parts.empty(); } // else the sequence's tokens need not be known

    // Of each part, where a context has as many.
    size_t least_tokens_a_part = 1;
    // The same sources with so much of their tokens, but for the least that there are in all, and of each
    // part the least that is worth reading.
    StudyPlan scaled(float factor) const;

    // Tokens that a share comes to: at least one.
    size_t tokens_for(float share, size_t cells) const {
        const size_t least = std::clamp<size_t>(least_tokens_a_part, 1, std::max<size_t>(1, cells));
        return std::clamp<size_t>(static_cast<size_t>(share * static_cast<float>(cells)), least,
                                  std::max(least, max_tokens_a_part));
    }
};

struct FoldSize {
    size_t cells; // what the shares of a plan are shares of
    size_t kept;  // cells that they become
};

// The passages of all parts of a plan, drafts excepted. Repeat and recite, which ask for single places, have
// at most 5/4 tokens for each cell that is kept, whatever their share; pseudo reads what they leave. Seeded:
// the same seed gives the same passages. The newest tokens (`tail`) are read again where they stand if
// the sequence can go back to `back_to` or earlier for that, else behind it. pieces: what tokens say, for
// Source::recite. REQUIRES: two tokens of text in the context.
std::vector<Passage> plan_passages(const StudyPlan& plan, TokenSpan context, FoldSize fold, llama_pos back_to,
                                   const Pieces& pieces, std::mt19937_64& rng);

struct StudyTokens {
    size_t all = 0, newest = 0, drafted = 0; // newest: of all, those of Source::tail
};
// What a plan comes to on a text that is long enough.
StudyTokens tokens_of(const StudyPlan& plan, FoldSize fold);

// Of each token of the passages, as places_share says; empty: all alike.
std::vector<float> importance_of(const StudyPlan& plan, const std::vector<Passage>& passages);

// Appends the queries of `more`, which goes layer by layer: both at once would be twice the memory. REQUIRES:
// studies of the same layers.
void append_study(Study& study, Study more);

// The rows of the tokens that are wanted, of all readers. wanted: [tokens].
Study take_tokens(const Study& study, const std::vector<bool>& wanted);

} // namespace kvfold
