#include "preload/journal.h"

#include "fit/figures_json.h"

#include <algorithm>
#include <map>

namespace kvfold::preload {

namespace {

constexpr size_t kMostSamples = 600, kMostFolds = 50;
constexpr size_t kBins = 64; // of the region's positions in the map of kept cells
constexpr double kSmoothing = 0.2;
constexpr size_t kTokensAfter = 64; // of a fold, whose speed is what it brought

// [layers][bins]: share of a bin's positions that a layer kept, mean over its heads.
Json kept_by_layer(const std::vector<HeadReport>& heads, size_t region_size) {
    const size_t bins = std::min(kBins, region_size);
    std::map<int, std::vector<double>> layers;
    std::map<int, size_t> head_count;
    for (const HeadReport& head : heads) {
        auto& counts = layers[head.layer];
        counts.resize(bins);
        ++head_count[head.layer];
        for (const uint32_t cell : head.kept)
            counts[cell * bins / region_size] += 1;
    }
    Json rows = Json::array();
    for (auto& [layer, counts] : layers) {
        for (size_t bin = 0; bin < bins; ++bin) {
            const size_t first = (bin * region_size + bins - 1) / bins;
            const size_t last = ((bin + 1) * region_size + bins - 1) / bins;
            const auto positions = static_cast<double>((last - first) * head_count[layer]);
            counts[bin] = std::round(1000 * counts[bin] / std::max(1.0, positions)) / 1000;
        }
        rows.push_back(counts);
    }
    return rows;
}

} // namespace

void Journal::decoded(size_t tokens, double seconds, bool generation, bool beside_a_fold, size_t total_tokens,
                      size_t total_cells) {
    decoded_ += tokens;
    const double now = clock_.seconds();
    if (generation && seconds > 0) sample_speed(1 / seconds, beside_a_fold);
    constexpr double kInterval = 1;
    if (samples_.empty() || now - samples_.back().at >= kInterval) {
        samples_.push_back({now, generation ? speed_ : 0, total_tokens, total_cells});
        if (samples_.size() > kMostSamples) samples_.pop_front();
    }
}

void Journal::sample_speed(double tok_s, bool beside_a_fold) {
    const auto smooth = [&](double& speed) { speed += (speed == 0 ? 1 : kSmoothing) * (tok_s - speed); };
    smooth(speed_);
    if (beside_a_fold) return;
    smooth(undisturbed_);
    if (folds_.empty() || !folds_.back().record.error.empty()) return;
    Entry& fold = folds_.back();
    if (fold.tokens_after == kTokensAfter) return;
    const double seconds = fold.tokens_after == 0 ? 0 : fold.tokens_after / fold.after_tok_s;
    ++fold.tokens_after;
    fold.after_tok_s = fold.tokens_after / (seconds + 1 / tok_s);
}

void Journal::folded(FoldRecord record, size_t region_size) {
    if (record.error.empty()) {
        ++done_;
        study_s_ += record.report.study_s;
        solve_s_ += record.report.solve_s;
        add(solved_on_, record.report.solved_on);
        swap_s_ += record.report.swap_s;
        if (!record.report.heads.empty())
            kept_ = {{"id_slot", record.seq_id},
                     {"from", record.from},
                     {"to", record.to},
                     {"layers", kept_by_layer(record.report.heads, region_size)}};
    } else {
        ++failures_;
    }
    record.report.heads = {};
    folds_.push_back({std::move(record), clock_.seconds(), undisturbed_});
    if (folds_.size() > kMostFolds) folds_.pop_front();
    if (folds_.back().record.error.empty()) speed_ = undisturbed_ = 0;
}

Json Journal::totals(size_t cells_used) const {
    return {{"cells_used", cells_used},
            {"folds", done_},
            {"failures", failures_},
            {"study_s", study_s_},
            {"solve_s", solve_s_},
            {"layers_solved", solved_on_.layers},
            {"layers_on_devices", solved_on_.on_devices},
            {"swap_s", swap_s_},
            {"waits", waits_},
            {"wait_s", wait_s_},
            {"longest_pause_s", longest_wait_s_},
            {"tokens_decoded", decoded_},
            {"rereads", rereads_},
            {"taken_back", taken_back_},
            {"recalls", recalls_},
            {"recall_s", recall_s_}};
}

Json Journal::history() const {
    Json rows = Json::array();
    for (const Sample& s : samples_)
        rows.push_back({{"t", s.at}, {"tokens", s.tokens}, {"cells", s.cells}, {"tok_s", s.tok_s}});
    return rows;
}

Json Journal::folds() const {
    Json rows = Json::array();
    for (const Entry& e : folds_) {
        const CompactReport& report = e.record.report;
        rows.push_back({{"t", e.at},
                        {"id_slot", e.record.seq_id},
                        {"method", e.record.method},
                        {"from", e.record.from},
                        {"to", e.record.to},
                        {"cells_before", report.cells_before},
                        {"cells_after", report.cells_after},
                        {"study_s", report.study_s},
                        {"solve_s", report.solve_s},
                        {"solved_on", to_text(report.solved_on)},
                        {"swap_s", report.swap_s},
                        {"figures", figures_json<Json>(report.figures)},
                        {"error", e.record.error},
                        {"decode_before_tok_s", e.before_tok_s},
                        {"decode_after_tok_s", e.after_tok_s}});
    }
    return rows;
}

Json Journal::state(size_t cells_used) const {
    return {{"uptime_s", clock_.seconds()},
            {"totals", totals(cells_used)},
            {"history", history()},
            {"folds", folds()},
            {"kept", kept_}};
}

} // namespace kvfold::preload
