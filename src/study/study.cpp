#include "study/study.h"

#include <algorithm>

namespace kvfold {

namespace {

std::vector<Passage> passages_of(Source source, size_t count, TokenSpan context, std::mt19937_64& rng) {
    switch (source) {
    case Source::tail:
        return tail_passages(context, count);
    case Source::pseudo:
        return pseudo_passages(context, count, rng);
    case Source::repeat:
        return repeat_passages(context, count, rng);
    case Source::prefill:
        return prefill_passages(context);
    }
    return {};
}

} // namespace

std::vector<Passage> plan_passages(const StudyPlan& plan, TokenSpan context, size_t cells,
                                   std::mt19937_64& rng) {
    std::vector<Passage> passages;
    for (const StudyPlan::Part& part : plan.parts) {
        for (Passage& passage : passages_of(part.source, plan.tokens_for(part.share, cells), context, rng))
            passages.push_back(std::move(passage));
    }
    return passages;
}

Index count_tokens(const std::vector<Passage>& passages) {
    Index count = 0;
    for (const Passage& passage : passages)
        count += static_cast<Index>(passage.tokens.size());
    return count;
}

void append_study(Study& study, const Study& more) {
    for (size_t i = 0; i < study.layers.size(); ++i) {
        Matrix& rows = study.layers[i].rows;
        const Matrix& added = more.layers[i].rows;
        rows.conservativeResize(rows.rows() + added.rows(), Eigen::NoChange);
        rows.bottomRows(added.rows()) = added;
    }
}

Status read_passages(Scratch& scratch, const std::vector<Passage>& passages) {
    const auto total = static_cast<float>(count_tokens(passages));
    size_t done = 0;
    for (const Passage& passage : passages) {
        KVFOLD_CHECK(scratch.report(Stage::study, static_cast<float>(done) / total));
        KVFOLD_CHECK(passage.first_pos < scratch.end() ? scratch.rewind_to(passage.first_pos)
                                                       : scratch.rewind());
        KVFOLD_CHECK(scratch.prefill(passage.tokens, passage.first_pos));
        done += passage.tokens.size();
    }
    return {};
}

} // namespace kvfold
