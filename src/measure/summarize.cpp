#include "measure/suite.h"

#include <algorithm>
#include <cmath>

namespace kvfold {

namespace {

constexpr double kLeastKl = 1e-9; // a cache that is as good as the full one has no logarithm

using Runs = std::vector<const EvalRow*>;

bool same_kind(const EvalRow& a, const EvalRow& b) {
    return a.task == b.task && a.cache == b.cache && a.method == b.method && a.asked_ratio == b.asked_ratio;
}

template <class Figure> double mean(const Runs& runs, Figure figure) {
    double sum = 0;
    for (const EvalRow* run : runs)
        sum += static_cast<double>(figure(*run));
    return sum / static_cast<double>(runs.size());
}

template <class Which> Score pooled(const Runs& runs, Which which) {
    std::vector<Score> scores;
    for (const EvalRow* run : runs)
        scores.push_back(which(*run));
    return pool(scores);
}

CompactReport mean_report(const Runs& runs) {
    const auto count = [&](auto figure) { return static_cast<size_t>(std::llround(mean(runs, figure))); };
    CompactReport report;
    report.cells_before = count([](const EvalRow& row) { return row.report.cells_before; });
    report.cells_after = count([](const EvalRow& row) { return row.report.cells_after; });
    report.bytes_before = count([](const EvalRow& row) { return row.report.bytes_before; });
    report.bytes_after = count([](const EvalRow& row) { return row.report.bytes_after; });
    report.effort = static_cast<float>(mean(runs, [](const EvalRow& row) { return row.report.effort; }));
    report.study_s = mean(runs, [](const EvalRow& row) { return row.report.study_s; });
    report.solve_s = mean(runs, [](const EvalRow& row) { return row.report.solve_s; });
    report.swap_s = mean(runs, [](const EvalRow& row) { return row.report.swap_s; });
    report.figures = runs.front()->report.figures; // of one method: the same names in all runs
    for (size_t i = 0; i < report.figures.size(); ++i)
        report.figures[i].value = mean(runs, [i](const EvalRow& row) { return row.report.figures[i].value; });
    return report;
}

RoundScore mean_round(const Runs& runs, size_t i) {
    RoundScore round;
    round.round = runs.front()->rounds[i].round;
    round.cells = mean(runs, [i](const EvalRow& row) { return row.rounds[i].cells; });
    round.cells_full = mean(runs, [i](const EvalRow& row) { return row.rounds[i].cells_full; });
    round.folds = mean(runs, [i](const EvalRow& row) { return row.rounds[i].folds; });
    round.speech = pooled(runs, [i](const EvalRow& row) { return row.rounds[i].speech; });
    round.recall = pooled(runs, [i](const EvalRow& row) { return row.rounds[i].recall; });
    round.once = pooled(runs, [i](const EvalRow& row) { return row.rounds[i].once; });
    return round;
}

// REQUIRES: runs of one kind: as many depths and rounds in each.
EvalRow mean_row(const Runs& runs) {
    const EvalRow& first = *runs.front();
    EvalRow row{.task = first.task, .cache = first.cache, .method = first.method};
    row.asked_ratio = first.asked_ratio;
    row.ratio = mean(runs, [](const EvalRow& run) { return run.ratio; });
    row.judge = first.judge;
    row.report = mean_report(runs);
    if (std::all_of(runs.begin(), runs.end(),
                    [](const EvalRow* run) { return run->peak_extra_bytes.has_value(); }))
        row.peak_extra_bytes =
            static_cast<size_t>(mean(runs, [](const EvalRow& run) { return *run.peak_extra_bytes; }));
    row.prefill_s = mean(runs, [](const EvalRow& run) { return run.prefill_s; });
    row.score = pooled(runs, [](const EvalRow& run) { return run.score; });
    for (size_t i = 0; i < first.by_depth.size(); ++i)
        row.by_depth.push_back({first.by_depth[i].depth,
                                pooled(runs, [i](const EvalRow& run) { return run.by_depth[i].score; })});
    for (size_t i = 0; i < first.rounds.size(); ++i)
        row.rounds.push_back(mean_round(runs, i));
    return row;
}

SummaryRow summary_of(const Runs& runs) {
    const auto kl = [](const EvalRow* row) { return row->score.kl; };
    const auto [least, most] = std::ranges::minmax(runs, {}, kl);
    const double geomean =
        std::exp(mean(runs, [](const EvalRow& row) { return std::log(std::max(kLeastKl, row.score.kl)); }));
    return {mean_row(runs), runs.size(), kl(least), kl(most), geomean};
}

} // namespace

std::vector<SummaryRow> summarize(std::span<const SuiteRow> rows) {
    std::vector<Runs> kinds;
    for (const SuiteRow& each : rows) {
        const auto found = std::find_if(kinds.begin(), kinds.end(),
                                        [&](const Runs& runs) { return same_kind(*runs.front(), each.row); });
        if (found == kinds.end())
            kinds.push_back({&each.row});
        else
            found->push_back(&each.row);
    }
    std::vector<SummaryRow> summary;
    for (const Runs& runs : kinds)
        summary.push_back(summary_of(runs));
    return summary;
}

} // namespace kvfold
