#include "study/study.h"

#include "study/read_passages.h"

#include <algorithm>
#include <iterator>

namespace kvfold {

namespace {

std::vector<llama_token> text_of(TokenSpan context) {
    std::vector<llama_token> text;
    std::copy_if(context.begin(), context.end(), std::back_inserter(text),
                 [](llama_token token) { return token != LLAMA_TOKEN_NULL; });
    return text;
}

// Places that are asked for and cannot all be kept crowd out the rest (docs/methods.md). Up to 8x this does
// not bind.
constexpr float kPlacesACell = 1.25f;

bool asks_for_places(Source source) { return source == Source::repeat || source == Source::recite; }

// What the shares of a plan are multiplied by for its tokens_a_cell and least_tokens.
float growth_of(const StudyPlan& plan, FoldSize fold) {
    float shares = 0;
    for (const StudyPlan::Part& part : plan.parts)
        shares += part.share;
    const float tokens = shares * static_cast<float>(fold.cells); // 0 where only drafts ask
    const float least =
        std::max(plan.tokens_a_cell * static_cast<float>(fold.kept), static_cast<float>(plan.least_tokens));
    return tokens < least ? least / tokens : 1;
}

// Of each part.
std::vector<size_t> tokens_of_parts(const StudyPlan& plan, FoldSize fold) {
    const float growth = growth_of(plan, fold);
    const auto places = static_cast<size_t>(kPlacesACell * static_cast<float>(fold.kept));
    std::vector<size_t> counts;
    size_t left = 0; // by those that ask for places
    for (const StudyPlan::Part& part : plan.parts) {
        const size_t count = plan.tokens_for(growth * part.share, fold.cells);
        counts.push_back(asks_for_places(part.source) ? std::clamp<size_t>(places, 1, count) : count);
        left += count - counts.back();
    }
    for (size_t i = 0; i < counts.size(); ++i) {
        if (plan.parts[i].source == Source::pseudo)
            counts[i] = std::min(plan.max_tokens_a_part, counts[i] + left);
    }
    return counts;
}

} // namespace

StudyTokens tokens_of(const StudyPlan& plan, FoldSize fold) {
    const std::vector<size_t> counts = tokens_of_parts(plan, fold);
    StudyTokens tokens;
    for (size_t i = 0; i < counts.size(); ++i) {
        tokens.all += counts[i];
        if (plan.parts[i].source == Source::tail) tokens.newest += counts[i];
    }
    if (plan.draft_share > 0) tokens.drafted = plan.tokens_for(plan.draft_share, fold.cells);
    tokens.all += tokens.drafted;
    return tokens;
}

StudyPlan StudyPlan::scaled(float factor) const {
    // With 16 or 32 `fast` answered two facts of five where it answers half with 64
    // (docs/experiments/2026-12-01-least-study.md).
    constexpr size_t kLeast = 64; // tokens
    StudyPlan plan = *this;
    if (factor < 1) plan.least_tokens_a_part = kLeast;
    for (Part& part : plan.parts)
        part.share *= factor;
    plan.tokens_a_cell *= factor;
    plan.draft_share *= factor;
    return plan;
}

std::vector<Passage> plan_passages(const StudyPlan& plan, TokenSpan context, FoldSize fold, llama_pos back_to,
                                   const Pieces& pieces, std::mt19937_64& rng) {
    const std::vector<llama_token> text = text_of(context);
    const auto behind = static_cast<llama_pos>(context.size());
    const auto passages_of = [&](Source source, size_t count) -> std::vector<Passage> {
        switch (source) {
        case Source::tail: {
            std::vector<Passage> newest = tail_passages(context, count);
            for (Passage& passage : newest) {
                if (passage.first_pos < back_to) passage.first_pos = behind;
            }
            return newest;
        }
        case Source::pseudo:
            return pseudo_passages(text, behind, count, rng);
        case Source::repeat:
            return repeat_passages(text, behind, count, rng);
        case Source::recite:
            return recite_passages(text, pieces, behind, count, rng);
        case Source::prefill:
            return prefill_passages(context);
        }
        return {};
    };
    std::vector<Passage> passages;
    const std::vector<size_t> counts = tokens_of_parts(plan, fold);
    for (size_t i = 0; i < counts.size(); ++i) {
        for (Passage& passage : passages_of(plan.parts[i].source, counts[i])) {
            passage.asks_for_place = asks_for_places(plan.parts[i].source);
            passages.push_back(std::move(passage));
        }
    }
    return passages;
}

std::vector<float> importance_of(const StudyPlan& plan, const std::vector<Passage>& passages) {
    size_t places = 0;
    for (const Passage& passage : passages)
        places += passage.asks_for_place ? passage.tokens.size() : 0;
    const size_t others = static_cast<size_t>(count_tokens(passages)) - places;
    if (plan.places_share == 0 || places == 0 || others == 0) return {};
    const float importance =
        plan.places_share / (1 - plan.places_share) * static_cast<float>(others) / static_cast<float>(places);
    std::vector<float> each;
    for (const Passage& passage : passages)
        each.insert(each.end(), passage.tokens.size(), passage.asks_for_place ? importance : 1);
    return each;
}

void append_study(Study& study, Study more) {
    if (!study.importance.empty() || !more.importance.empty()) {
        study.importance.resize(static_cast<size_t>(study.tokens()), 1);
        more.importance.resize(static_cast<size_t>(more.tokens()), 1);
        study.importance.insert(study.importance.end(), more.importance.begin(), more.importance.end());
    }
    for (size_t i = 0; i < study.layers.size(); ++i) {
        Matrix& rows = study.layers[i].rows;
        const Matrix added = std::move(more.layers[i].rows);
        rows.conservativeResize(rows.rows() + added.rows(), Eigen::NoChange);
        rows.bottomRows(added.rows()) = added;
    }
}

Study take_tokens(const Study& study, const std::vector<bool>& wanted) {
    Study taken;
    for (const LayerQueries& layer : study.layers) {
        std::vector<Index> rows;
        for (Index row = 0; row < layer.rows.rows(); ++row) {
            if (wanted[static_cast<size_t>(row / layer.readers)]) rows.push_back(row);
        }
        taken.layers.push_back({layer.rows(rows, Eigen::all), layer.readers});
    }
    for (size_t token = 0; token < study.importance.size(); ++token) {
        if (wanted[token]) taken.importance.push_back(study.importance[token]);
    }
    return taken;
}

} // namespace kvfold
