#include "cli/eval_output.h"

#include "base/format.h"
#include "cli/terminal.h"
#include "fit/figures_json.h"

#include <algorithm>

namespace kvfold::cli {

namespace {

constexpr size_t kStretches = 64; // of the folded region, in which kept cells are counted

bool asks(const EvalRow& row) { return (*std::ranges::find(all_tasks(), row.task, &TaskKind::name))->asks; }

// Columns that not every block has: the spread of several runs, the share of right answers, and what a judge
// says of those that the cache writes itself.
struct Block {
    bool has_runs, has_answers;
    const Judge* judge; // or null
};

// The caches that are no method's stand in parentheses.
std::string shown_method(const EvalRow& row) {
    return row.method == kNoiseFloor || row.method == kFullCache ? "(" + row.method + ")" : row.method;
}

Table::Column method_column(std::span<const SummaryRow> rows, std::string_view title) {
    int width = 15;
    for (const SummaryRow& row : rows)
        width = std::max(width, static_cast<int>(shown_method(row.mean).size()));
    return {std::string(title), width, true};
}

// Of 120 columns: the JSON document has what is left out.
bool is_full_width(const Block& block) { return block.has_runs && block.judge; }

Table make_table(FILE* out, const Block& block, std::span<const SummaryRow> rows) {
    std::vector<Table::Column> columns = {
        method_column(rows, "method"), {"cache", 5, true}, {"ratio", 5}, {"cells", 6}, {"KL", 7}};
    if (block.has_runs) columns.push_back({"min - max", 15});
    if (!is_full_width(block)) columns.push_back({"top-1", 6});
    columns.push_back({"dNLL", 7});
    if (block.has_answers) columns.push_back({"exact", 6});
    if (block.judge) columns.push_back({std::string(block.judge->title), 6});
    columns.insert(columns.end(), {{"study", 7}, {"solve", 7}});
    if (!block.has_runs) columns.push_back({"swap", 7});
    columns.push_back({"state", 9});
    return {out, columns};
}

std::string percent(double share) { return kvfold::format("{:.1f}%", 100 * share); }

void print_row(const Table& table, const Block& block, const SummaryRow& row) {
    const EvalRow& mean = row.mean;
    const bool compacts = mean.method != kNoiseFloor && mean.method != kFullCache;
    std::vector<std::string> cells = {shown_method(mean), mean.cache, kvfold::format("{:.3g}x", mean.ratio),
                                      std::to_string(mean.report.cells_after),
                                      kvfold::format("{:.4f}", mean.score.kl)};
    if (block.has_runs) cells.push_back(kvfold::format("{:.4f} - {:.4f}", row.kl_min, row.kl_max));
    if (!is_full_width(block)) cells.push_back(percent(mean.score.top1));
    cells.push_back(kvfold::format("{:+.4f}", mean.score.dnll()));
    if (block.has_answers) cells.push_back(percent(mean.score.exact));
    if (block.judge) cells.push_back(percent(mean.score.written));
    std::vector<double> times = {mean.report.study_s, mean.report.solve_s};
    if (!block.has_runs) times.push_back(mean.report.swap_s);
    for (const double seconds : times)
        cells.push_back(compacts ? kvfold::format("{:.2f} s", seconds) : "");
    cells.push_back(megabytes(mean.report.bytes_after));
    table.print_row(cells);
}

// A line a cache: one figure of every round.
template <class Figure>
void print_rounds(FILE* out, std::span<const SummaryRow> rows, std::string_view title, Figure figure) {
    std::vector<Table::Column> columns = {method_column(rows, title), {"cache", 5, true}, {"ratio", 5}};
    for (const RoundScore& round : rows.front().mean.rounds)
        columns.push_back({std::to_string(round.round), 5});
    const Table table(out, columns);
    table.print_header();
    for (const SummaryRow& row : rows) {
        std::vector<std::string> cells = {shown_method(row.mean), row.mean.cache,
                                          kvfold::format("{:.3g}x", row.mean.ratio)};
        for (const RoundScore& round : row.mean.rounds)
            cells.push_back(figure(round));
        table.print_row(cells);
    }
}

// How a growing conversation wears: round by round.
void print_all_rounds(FILE* out, std::span<const SummaryRow> rows) {
    const auto kl = [](const RoundScore& round) { return kvfold::format("{:.3f}", round.speech.kl); };
    const auto exact = [](const RoundScore& round) {
        return kvfold::format("{:.0f}%", 100 * round.recall.exact);
    };
    const auto dnll = [](const Score& asked) { return kvfold::format("{:+.3f}", asked.dnll()); };
    const auto recalled = [&](const RoundScore& round) { return dnll(round.recall); };
    const auto recalled_once = [&](const RoundScore& round) { return dnll(round.once); };
    const auto cells = [](const RoundScore& round) { return kvfold::format("{:.0f}", round.cells); };
    print_rounds(out, rows, "KL in round", kl);
    print_rounds(out, rows, "exact", exact);
    print_rounds(out, rows, "dNLL", recalled);
    print_rounds(out, rows, "dNLL, one fold", recalled_once);
    print_rounds(out, rows, "cells", cells);
    const RoundScore& last = rows.front().mean.rounds.back();
    kvfold::print(out, "The full cache ends with {:.0f} cells. Folds:", last.cells_full);
    for (const SummaryRow& row : rows) {
        double folds = 0;
        for (const RoundScore& round : row.mean.rounds)
            folds += round.folds;
        kvfold::print(out, " {} {} {:.3g}x {:g}{}", row.mean.method, row.mean.cache, row.mean.ratio, folds,
                      &row == &rows.back() ? ".\n" : ",");
    }
}

// What the others are compared with, as a row of its own. any: of the first cache.
SummaryRow full_row(const EvalRow& any) {
    SummaryRow row;
    row.mean.cache = any.cache;
    row.mean.method = kFullCache;
    row.mean.report.cells_after = any.report.cells_before;
    row.mean.report.bytes_after = any.report.bytes_before;
    row.mean.score = any.score;
    row.mean.score.kl = 0;
    row.mean.score.top1 = 1;
    row.mean.score.nll = any.score.nll_full;
    row.mean.score.exact = any.score.exact_full;
    row.mean.score.written = any.score.written_full;
    return row;
}

void print_block(FILE* out, std::span<const SummaryRow> rows) {
    const EvalRow& first = rows.front().mean;
    const Block block{rows.front().runs > 1, asks(first), first.judge};
    const Score& score = first.score;
    kvfold::print(out, "{}", bold(out, first.task));
    if (block.has_runs) kvfold::print(out, ", means of {} runs", rows.front().runs);
    if (block.has_answers)
        kvfold::print(out, "; the full cache answers {} of {} exactly", percent(score.exact_full),
                      score.answers);
    if (block.judge) kvfold::print(out, ", with a nll of {:.4f}", score.nll_full);
    kvfold::print(out, "\n");
    const Table table = make_table(out, block, rows);
    table.print_header();
    if (block.judge) print_row(table, block, full_row(first));
    for (const SummaryRow& row : rows)
        if (row.mean.method != kNoiseFloor) print_row(table, block, row);
    for (const SummaryRow& row : rows)
        if (row.mean.method == kNoiseFloor) print_row(table, block, row);
    if (!first.rounds.empty()) print_all_rounds(out, rows);
    kvfold::print(out, "\n");
}

// The figure of what the cache writes itself, by the judge's name.
void add_written(OrderedJson& json, const Score& score, const Judge* judge) {
    if (!judge) return;
    json[std::string(judge->key)] = score.written;
    json[std::string(judge->key) + "_full"] = score.written_full;
}

OrderedJson score_json(const Score& score, bool with_answers) {
    OrderedJson json = {{"kl", score.kl},
                        {"top1", score.top1},
                        {"dnll", score.dnll()},
                        {"nll", score.nll},
                        {"nll_full", score.nll_full}};
    if (with_answers) {
        json["exact"] = score.exact;
        json["exact_full"] = score.exact_full;
    }
    return json;
}

OrderedJson depths_json(const std::vector<DepthScore>& depths, const Judge* judge) {
    OrderedJson list = OrderedJson::array();
    for (const DepthScore& each : depths) {
        list.push_back({{"depth", each.depth},
                        {"nll", each.score.nll},
                        {"nll_full", each.score.nll_full},
                        {"exact", each.score.exact},
                        {"exact_full", each.score.exact_full}});
        add_written(list.back(), each.score, judge);
    }
    return list;
}

OrderedJson rounds_json(const std::vector<RoundScore>& rounds) {
    OrderedJson list = OrderedJson::array();
    for (const RoundScore& each : rounds)
        list.push_back({{"round", each.round},
                        {"kl", each.speech.kl},
                        {"cells", each.cells},
                        {"cells_full", each.cells_full},
                        {"folds", each.folds},
                        {"exact", each.recall.exact},
                        {"exact_full", each.recall.exact_full},
                        {"nll", each.recall.nll},
                        {"nll_full", each.recall.nll_full},
                        {"kl_recall", each.recall.kl},
                        {"exact_once", each.once.exact},
                        {"nll_once", each.once.nll},
                        {"kl_once", each.once.kl}});
    return list;
}

OrderedJson row_json(const EvalRow& row) {
    const CompactReport& report = row.report;
    OrderedJson json = {{"task", row.task},
                        {"cache", row.cache},
                        {"method", row.method},
                        {"ratio", row.ratio},
                        {"cells_before", report.cells_before},
                        {"cells_after", report.cells_after},
                        {"bytes_before", report.bytes_before},
                        {"bytes_after", report.bytes_after}};
    json.update(score_json(row.score, asks(row)));
    add_written(json, row.score, row.judge);
    if (!row.by_depth.empty()) json["by_depth"] = depths_json(row.by_depth, row.judge);
    if (!row.rounds.empty()) json["rounds"] = rounds_json(row.rounds);
    json["effort"] = report.effort;
    json["study_s"] = report.study_s;
    json["solve_s"] = report.solve_s;
    json["solved_on"] = to_text(report.solved_on);
    json["swap_s"] = report.swap_s;
    json["peak_extra_mb"] = megabytes_json(row.peak_extra_bytes);
    json["figures"] = figures_json<OrderedJson>(report.figures);
    return json;
}

// The heads of one layer together. `heads`: all of one layer, none empty.
OrderedJson layer_json(std::span<const HeadReport> heads, size_t region_size) {
    const auto count = static_cast<double>(heads.size());
    double output_error = 0, mass_error = 0;
    std::vector<double> kept(kStretches, 0.0);
    for (const HeadReport& head : heads) {
        output_error += static_cast<double>(head.output_error) / count;
        mass_error += static_cast<double>(head.mass_error) / count;
        for (const uint32_t cell : head.kept)
            kept[cell * kStretches / region_size] += 1 / count;
    }
    return {{"layer", heads.front().layer},
            {"output_error", output_error},
            {"mass_error", mass_error},
            {"kept", kept}};
}

OrderedJson layers_json(const CompactReport& report) {
    OrderedJson layers = OrderedJson::array();
    const auto& heads = report.heads;
    for (auto begin = heads.begin(); begin != heads.end();) {
        const auto is_another = [&](const HeadReport& head) { return head.layer != begin->layer; };
        const auto end = std::find_if(begin, heads.end(), is_another);
        layers.push_back(layer_json({begin, end}, report.regions.region.size()));
        begin = end;
    }
    return layers;
}

OrderedJson run_json(const SuiteRow& run) {
    OrderedJson json = {{"task", run.row.task}};
    if (!run.text.empty()) {
        json["text"] = run.text;
        json["offset"] = run.offset;
    }
    json["seed"] = run.seed;
    json.update(row_json(run.row));
    json["prefill_s"] = run.row.prefill_s;
    if (!run.row.report.heads.empty()) json["layers"] = layers_json(run.row.report);
    return json;
}

OrderedJson summary_json(const SummaryRow& row) {
    OrderedJson json = row_json(row.mean);
    json["runs"] = row.runs;
    json["kl_min"] = row.kl_min;
    json["kl_max"] = row.kl_max;
    json["kl_geomean"] = row.kl_geomean;
    return json;
}

} // namespace

void print_summary(FILE* out, std::span<const SummaryRow> summary) {
    while (!summary.empty()) {
        const auto other = std::find_if(summary.begin(), summary.end(), [&](const SummaryRow& row) {
            return row.mean.task != summary.front().mean.task;
        });
        const auto count = static_cast<size_t>(other - summary.begin());
        print_block(out, summary.first(count));
        summary = summary.subspan(count);
    }
}

OrderedJson eval_json(std::span<const SummaryRow> summary, std::span<const SuiteRow> runs) {
    OrderedJson json = {{"noise_floor_kl", nullptr},
                        {"noise_floors", OrderedJson::object()},
                        {"rows", OrderedJson::array()},
                        {"runs", OrderedJson::array()}};
    for (const SummaryRow& row : summary) {
        if (row.mean.method != kNoiseFloor) {
            json["rows"].push_back(summary_json(row));
            continue;
        }
        json["noise_floors"][row.mean.task] = row.mean.score.kl;
        if (json["noise_floor_kl"].is_null()) json["noise_floor_kl"] = row.mean.score.kl;
    }
    for (const SuiteRow& run : runs)
        if (run.row.method != kNoiseFloor) json["runs"].push_back(run_json(run));
    return json;
}

} // namespace kvfold::cli
