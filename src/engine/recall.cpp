#include "engine/recall.h"

#include "base/no_throw.h"
#include "base/parallel.h"
#include "engine/scan_archive.h"
#include "fit/join_cells.h"

#include <algorithm>
#include <numeric>

namespace kvfold {

namespace {

// A cell of all that may be chosen: those of the first source, then those of the second.
using Choice = std::vector<uint32_t>; // of one head, rising

// What is said of a thing stands behind its name. With the cells behind and before those that are looked at,
// a third of the loss that remained at 24x was gone (docs/experiments/2026-11-30-recall.md). What is copied
// goes on there: behind, as many as tokens are said before the next asking. With two of them copies kept
// three quarters of their loss, with these a quarter (docs/experiments/2026-12-01-recall-ahead.md).
constexpr Index kBehind = AskingPace::kEvery, kBefore = 1;
constexpr float kCloser = 1e-3f; // of two beside the same cell the closer one counts this much more

// A cell counts as much as what it stands behind or before.
Vector with_neighbours(const Vector& scores) {
    Vector spread = scores;
    for (Index away = -kBefore; away <= kBehind; ++away) { // of a cell from what it stands behind
        const Index count = scores.size() - std::abs(away);
        if (count <= 0) continue;
        auto cells = spread.segment(std::max<Index>(0, away), count);
        const float share = 1 - kCloser * static_cast<float>(std::abs(away));
        cells = cells.cwiseMax(share * scores.segment(std::max<Index>(0, -away), count));
    }
    return spread;
}

// What a head kept says already what it has to say: counted in full it was put beside itself, and a quarter
// of what copies lose was lost to that (docs/experiments/2026-12-01-recalled-twice.md).
constexpr float kOfKept = 0.5f;

void count_less(Vector& scores, std::span<const Recallable> sources, const std::vector<int32_t>& kept) {
    Index at = 0;
    for (const Recallable& source : sources) {
        for (const uint32_t cell : source.cells) {
            if (std::ranges::binary_search(kept, source.originals.cells[cell].pos)) scores[at] *= kOfKept;
            ++at;
        }
    }
}

// The indices of the highest scores.
Choice highest(const Vector& scores, size_t count) {
    Choice order(static_cast<size_t>(scores.size()));
    std::iota(order.begin(), order.end(), 0u);
    const auto is_higher = [&](uint32_t a, uint32_t b) {
        return scores[a] != scores[b] ? scores[a] > scores[b] : a < b;
    };
    const auto end = order.begin() + static_cast<std::ptrdiff_t>(std::min(count, order.size()));
    std::partial_sort(order.begin(), end, order.end(), is_higher);
    order.erase(end, order.end());
    std::ranges::sort(order);
    return order;
}

Result<Choice> choose(const RecallProblem& problem, size_t layer, Index head,
                      const std::vector<int32_t>* kept) {
    Vector scores = scan_archive(problem, layer, head);
    if (!scores.allFinite())
        return fail(ErrorCode::numeric, "layer {}, KV head {}: keys or queries that are not finite",
                    problem.map.layers[layer].layer, head);
    if (kept) count_less(scores, problem.sources, *kept);
    return highest(with_neighbours(scores), problem.count);
}

// [layer][head]
Result<std::vector<std::vector<Choice>>> choose_all(const RecallProblem& problem) {
    std::vector<std::vector<Choice>> chosen;
    std::vector<std::pair<size_t, size_t>> jobs;
    for (const AttentionLayer& layer : problem.map.layers) {
        const auto heads = static_cast<size_t>(layer.kv_heads);
        for (size_t head = 0; head < heads; ++head)
            jobs.emplace_back(chosen.size(), head);
        chosen.emplace_back(heads);
    }
    const bool are_known = problem.kept && problem.kept->size() == jobs.size();
    KVFOLD_CHECK(try_parallel_for(jobs.size(), problem.threads, [&](size_t i) -> Status {
        const auto [layer, head] = jobs[i];
        const std::vector<int32_t>* kept = are_known ? &(*problem.kept)[i] : nullptr;
        KVFOLD_TRY(chosen[layer][head],
                   without_throwing([&] { return choose(problem, layer, static_cast<Index>(head), kept); }));
        return {};
    }));
    return chosen;
}

// What the heads of one layer chose, out of the tensors of all sources.
CacheTensor put_together(const RecallProblem& problem, std::vector<CacheTensor> KvSection::*part,
                         size_t cache, std::vector<Choice> chosen) {
    Choice wanted; // by any head
    for (const Choice& choice : chosen)
        wanted.insert(wanted.end(), choice.begin(), choice.end());
    std::ranges::sort(wanted);
    wanted.erase(std::ranges::unique(wanted).begin(), wanted.end());
    CacheTensor few; // those
    size_t begin = 0, at = 0;
    for (const Recallable& source : problem.sources) {
        std::vector<uint32_t> cells;
        for (; at < wanted.size() && wanted[at] < begin + source.cells.size(); ++at)
            cells.push_back(source.cells[wanted[at] - begin]);
        CacheTensor taken = take_cells((source.originals.*part)[cache], cells);
        if (begin == 0)
            few = std::move(taken);
        else
            append_cells(few, taken);
        begin += source.cells.size();
    }
    for (Choice& choice : chosen) {
        for (uint32_t& cell : choice)
            cell = static_cast<uint32_t>(std::ranges::lower_bound(wanted, cell) - wanted.begin());
    }
    return take_heads(few, chosen);
}

} // namespace

std::vector<Recallable> recallable(std::span<const std::shared_ptr<const ReplacedCells>> folds) {
    std::vector<Recallable> sources;
    for (const auto& fold : folds) {
        std::vector<uint32_t> cells = replaced_originals(*fold);
        const KeyBlocks* blocks = fold->blocks ? &*fold->blocks : nullptr;
        if (!cells.empty()) sources.push_back({fold->originals, std::move(cells), blocks});
    }
    return sources;
}

size_t count_cells(std::span<const Recallable> sources) {
    size_t count = 0;
    for (const Recallable& source : sources)
        count += source.cells.size();
    return count;
}

Result<KvSection> recall(const RecallProblem& problem, int32_t pos) {
    KVFOLD_TRY(const auto chosen, choose_all(problem));
    const Recallable& last = problem.sources.back();
    KvSection recalled = take_cells(last.originals, {});
    CellMeta meta = last.originals.cells[last.cells.back()];
    meta.pos = pos;
    recalled.cells.assign(std::min(problem.count, count_cells(problem.sources)), meta);
    for (size_t i = 0; i < chosen.size(); ++i) {
        const size_t cache = problem.map.layers[i].cache;
        recalled.keys[cache] = put_together(problem, &KvSection::keys, cache, chosen[i]);
        recalled.values[cache] = put_together(problem, &KvSection::values, cache, chosen[i]);
    }
    return recalled;
}

SequenceState without_recalled(const SequenceState& now, int32_t pos) {
    const KvSection& section = now.sections.front();
    std::vector<uint32_t> others;
    for (uint32_t cell = 0; cell < section.cells.size(); ++cell) {
        if (section.cells[cell].pos != pos) others.push_back(cell);
    }
    return with_first_section(now, take_cells(section, others));
}

SequenceState with_recalled(const SequenceState& now, const KvSection& recalled, int32_t pos) {
    SequenceState state = without_recalled(now, pos);
    append_cells(state.sections.front(), recalled);
    return state;
}

} // namespace kvfold
