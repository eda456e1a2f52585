#include "measure/bench.h"

#include "base/timer.h"
#include "measure/peak_memory.h"
#include "state/live_sequence.h"

#include <algorithm>

namespace kvfold {

namespace {

constexpr int kWarmUpTokens = 2; // build the graph for a new shape and fill the processor's caches

// One cache to measure.
struct Lane {
    llama_context* ctx;
    const SequenceState* state; // put back before each measurement; null = the cache is never touched
    llama_pos next_pos;
    std::vector<double> decode_tok_s, turn_ms; // one a round
};

Spread spread(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    const size_t half = values.size() / 2;
    const double median = values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
    return {median, values.front(), values.back()};
}

class Bench {
  public:
    Bench(llama_model* model, const BenchRequest& request) : model_(model), request_(request) {}

    Result<BenchReport> run() {
        KVFOLD_TRY(stock_, prefilled_context("prefill (stock)"));
        KVFOLD_TRY(ours_, prefilled_context("prefill"));
        KVFOLD_TRY(full_, read_sequence(ours_.get(), 0));
        KVFOLD_CHECK(compact_all());
        open_lanes();
        KVFOLD_CHECK(verify_lanes());
        for (int round = 0; round < request_.rounds; ++round)
            KVFOLD_CHECK(measure_round(round));
        return finish();
    }

  private:
    Result<ContextPtr> prefilled_context(std::string_view name) {
        llama_context_params params = request_.context;
        const int behind = kWarmUpTokens + request_.decode_tokens + request_.turn_tokens;
        // Room for all rounds one behind the other: models with a recurrent state cannot go back.
        params.n_ctx =
            static_cast<uint32_t>(request_.tokens.size()) + static_cast<uint32_t>(behind * request_.rounds);
        KVFOLD_TRY(ContextPtr ctx, new_context(model_, params, request_.adapters));
        if (request_.full) {
            KVFOLD_CHECK(write_sequence(ctx.get(), 0, *request_.full));
            return ctx;
        }
        const Timer timer;
        const size_t batch = llama_n_batch(ctx.get());
        for (size_t done = 0; done < request_.tokens.size(); done += batch) {
            tell(name, static_cast<double>(done) / static_cast<double>(request_.tokens.size()));
            const auto chunk = request_.tokens.subspan(done, std::min(batch, request_.tokens.size() - done));
            KVFOLD_CHECK(decode_tokens(ctx.get(), chunk, static_cast<llama_pos>(done), Outputs::none));
        }
        llama_synchronize(ctx.get());
        report_.prefill_s = timer.seconds();
        return ctx;
    }

    Status compact_all() {
        for (const double ratio : request_.ratios) {
            BenchRow row;
            row.ratio = ratio;
            KVFOLD_CHECK(write_sequence(ours_.get(), 0, full_));
            CompactRequest compact;
            compact.method = request_.method;
            compact.budget.ratio = ratio;
            compact.tokens = request_.tokens;
            compact.context = request_.context;
            compact.adapters = request_.adapters;
            compact.seed = request_.seed;
            compact.solve_on = request_.solve_on;
            compact.progress = request_.progress;
            const PeakMemory memory;
            KVFOLD_TRY(row.report, compact_sequence(ours_.get(), 0, compact));
            row.peak_extra_bytes = memory.extra_bytes();
            row.cells = row.report.cells_after;
            report_.peak_extra_bytes = std::max(report_.peak_extra_bytes, row.peak_extra_bytes);
            KVFOLD_TRY(SequenceState state, read_sequence(ours_.get(), 0));
            states_.push_back(std::move(state));
            report_.rows.push_back(std::move(row));
        }
        return {};
    }

    // The two full caches first, then a lane a ratio.
    void open_lanes() {
        const auto end = static_cast<llama_pos>(request_.tokens.size());
        lanes_.push_back({stock_.get(), nullptr, end, {}, {}});
        lanes_.push_back({ours_.get(), &full_, end, {}, {}});
        for (const SequenceState& state : states_)
            lanes_.push_back({ours_.get(), &state, end, {}, {}});
    }

    // A lane whose cells did not come back would be fast, and wrong.
    Status verify_lanes() {
        for (size_t i = 1; i < lanes_.size(); ++i) {
            KVFOLD_CHECK(write_sequence(ours_.get(), 0, *lanes_[i].state));
            KVFOLD_TRY(const SequenceState held, read_sequence(ours_.get(), 0));
            const size_t cells = held.sections.front().cells.size();
            const size_t expected = i == 1 ? request_.tokens.size() : report_.rows[i - 2].cells;
            if (cells != expected)
                return fail(ErrorCode::internal, "a state of {} cells came back with {}", expected, cells);
        }
        return {};
    }

    // Every other round backwards, so that no lane always runs behind the same neighbour.
    Status measure_round(int round) {
        for (size_t i = 0; i < lanes_.size(); ++i) {
            const double done =
                (round + static_cast<double>(i) / static_cast<double>(lanes_.size())) / request_.rounds;
            tell("measure", done);
            KVFOLD_CHECK(measure(lanes_[round % 2 == 0 ? i : lanes_.size() - 1 - i]));
        }
        return {};
    }

    Status measure(Lane& lane) {
        if (lane.state) KVFOLD_CHECK(write_sequence(lane.ctx, 0, *lane.state));
        llama_pos pos = lane.next_pos;
        KVFOLD_CHECK(decode_singly(lane.ctx, kWarmUpTokens, pos));
        const Timer decode;
        KVFOLD_CHECK(decode_singly(lane.ctx, request_.decode_tokens, pos));
        lane.decode_tok_s.push_back(request_.decode_tokens / decode.seconds());
        const Timer turn;
        const auto tokens = request_.tokens.first(
            std::min<size_t>(request_.tokens.size(), static_cast<size_t>(request_.turn_tokens)));
        KVFOLD_CHECK(decode_tokens(lane.ctx, tokens, pos, Outputs::last));
        llama_synchronize(lane.ctx);
        lane.turn_ms.push_back(1000 * turn.seconds());
        pos += static_cast<llama_pos>(tokens.size());
        const bool rolls_back =
            lane.state || llama_memory_seq_rm(llama_get_memory(lane.ctx), 0, lane.next_pos, -1);
        if (!rolls_back) lane.next_pos = pos;
        return {};
    }

    Status decode_singly(llama_context* ctx, int count, llama_pos& pos) {
        for (int i = 0; i < count; ++i) {
            const auto token = request_.tokens.subspan(static_cast<size_t>(pos) % request_.tokens.size(), 1);
            KVFOLD_CHECK(decode_tokens(ctx, token, pos++, Outputs::last));
            llama_synchronize(ctx);
        }
        return {};
    }

    BenchReport finish() {
        report_.stock_tok_s = spread(lanes_[0].decode_tok_s);
        report_.kvfold_tok_s = spread(lanes_[1].decode_tok_s);
        report_.overhead = report_.stock_tok_s.median / report_.kvfold_tok_s.median - 1;
        for (size_t i = 0; i < report_.rows.size(); ++i) {
            BenchRow& row = report_.rows[i];
            row.decode_tok_s = spread(lanes_[i + 2].decode_tok_s);
            row.turn_ms = spread(lanes_[i + 2].turn_ms);
            row.speedup = row.decode_tok_s.median / report_.kvfold_tok_s.median;
        }
        return std::move(report_);
    }

    void tell(std::string_view what, double done) const {
        if (request_.step) request_.step(what, done);
    }

    llama_model* model_;
    const BenchRequest& request_;
    BenchReport report_;
    ContextPtr stock_, ours_;
    SequenceState full_;
    std::vector<SequenceState> states_; // as many as ratios; lanes_ points into it
    std::vector<Lane> lanes_;
};

} // namespace

Result<BenchReport> bench(llama_model* model, const BenchRequest& request) {
    return Bench(model, request).run();
}

} // namespace kvfold
