#include "measure/chat.h"

#include "base/format.h"
#include "measure/chat_lane.h"
#include "measure/chat_script.h"

namespace kvfold {

namespace {

constexpr size_t kVirtual = 4;        // the conversation's context / its cells
constexpr size_t kRoundsAContext = 6; // rounds in a context
constexpr size_t kLeastContext = 768; // below it a turn fills the cells
constexpr size_t kLongestTurn = 192;  // tokens, with room to spare

// A lane, what it stands for, and how it did.
struct Contestant {
    ChatLane lane;
    const Method* method; // that it folds with; null: it never folds
    EvalRow row;
    std::vector<Score> speech; // of the round that runs
    int folds_before = 0;      // that round
};

Contestant contestant(ChatLane lane, const Method* method, const EvalCache& cache, double ratio) {
    EvalRow row{.task = std::string(tasks::chat.name),
                .cache = cache.name,
                .method = std::string(method ? method->name : kFullCache),
                .asked_ratio = ratio,
                .ratio = ratio};
    return {std::move(lane), method, std::move(row), {}, 0};
}

Score score_answers(const std::vector<Matrix>& full, const std::vector<Matrix>& answers,
                    const std::vector<Probe>& probes) {
    std::vector<Score> scores;
    for (size_t i = 0; i < full.size(); ++i)
        scores.push_back(score_answer(full[i], answers[i], probes[i].answer));
    return pool(scores);
}

// Tokens of the whole conversation, at most.
size_t length(size_t context, size_t rounds) { return rounds * context / kRoundsAContext + kLongestTurn; }

class Contest {
  public:
    Contest(llama_model* model, size_t context, const EvalRequest& request)
        : model_(model), context_(context), request_(request), script_(model, request.compact.seed) {}

    Result<std::vector<EvalRow>> run() {
        KVFOLD_CHECK(check_chat(model_, context_, request_.rounds));
        KVFOLD_CHECK(open_lanes());
        for (size_t round = 1; round <= request_.rounds; ++round) {
            tell(kvfold::format("round {} of {}", round, request_.rounds));
            while (full_->tokens() < round * context_ / kRoundsAContext)
                KVFOLD_CHECK(say_a_turn());
            KVFOLD_CHECK(end_round(static_cast<int>(round)));
        }
        std::vector<EvalRow> rows;
        for (Contestant& each : contestants_)
            rows.push_back(finished(each));
        return rows;
    }

  private:
    Status open_lanes() {
        KVFOLD_TRY(const std::vector<double> savings, savings_of_types(model_, request_));
        for (size_t i = 0; i < savings.size(); ++i) {
            const EvalCache& cache = request_.caches[i];
            const auto open = [&](size_t cells) {
                return ChatLane::open(model_, cache, request_.compact, cells, kLongestTurn);
            };
            KVFOLD_TRY(ChatLane full, open(length(context_, request_.rounds)));
            if (i == 0)
                full_ = std::move(full);
            else
                contestants_.push_back(contestant(std::move(full), nullptr, cache, savings[i]));
            const auto cells = static_cast<size_t>(static_cast<double>(context_ / kVirtual) * savings[i]);
            for (const double ratio : request_.ratios) {
                for (const Method* method : request_.methods) {
                    KVFOLD_TRY(ChatLane lane, open(cells));
                    lane.fold_with(*method, ratio / savings[i], request_.archive_bytes);
                    contestants_.push_back(contestant(std::move(lane), method, cache, ratio));
                }
            }
        }
        return {};
    }

    Status say_a_turn() {
        const Probe turn = script_.next();
        KVFOLD_TRY(const Matrix full, full_->say(turn));
        for (Contestant& each : contestants_) {
            KVFOLD_TRY(const Matrix logits, each.lane.say(turn));
            each.speech.push_back(score_answer(full, logits, turn.answer));
        }
        return {};
    }

    Status end_round(int number) {
        const std::vector<Probe>& probes = script_.recall();
        KVFOLD_TRY(const std::vector<Matrix> full, full_->ask(probes));
        for (Contestant& each : contestants_) {
            KVFOLD_TRY(const std::vector<Matrix> answers, each.lane.ask(probes));
            RoundScore round{.round = number};
            round.cells = static_cast<double>(each.lane.cells());
            round.cells_full = static_cast<double>(full_->cells());
            round.folds = each.lane.folds() - each.folds_before;
            round.speech = pool(each.speech);
            round.recall = round.once = score_answers(full, answers, probes);
            if (each.lane.cells() < full_->cells()) {
                KVFOLD_TRY(const std::vector<Matrix> once,
                           full_->ask_folded(probes, *each.method, each.lane.cells(), each.lane.newest()));
                round.once = score_answers(full, once, probes);
            }
            each.row.rounds.push_back(round);
            each.folds_before = each.lane.folds();
            each.speech.clear();
        }
        return {};
    }

    EvalRow finished(Contestant& each) const {
        EvalRow& row = each.row;
        row.report.cells_before = full_->cells();
        row.report.cells_after = each.lane.cells();
        row.report.bytes_before = full_->bytes();
        row.report.bytes_after = each.lane.bytes();
        row.report.study_s = each.lane.study_s();
        row.report.solve_s = each.lane.solve_s();
        row.report.swap_s = each.lane.swap_s();
        row.peak_extra_bytes = each.lane.peak_extra_bytes();
        std::vector<Score> speech, recall;
        for (const RoundScore& round : row.rounds) {
            speech.push_back(round.speech);
            recall.push_back(round.recall);
        }
        row.score = pool(recall);
        row.score.kl = pool(speech).kl;
        row.score.top1 = pool(speech).top1;
        return std::move(row);
    }

    void tell(std::string_view what) const {
        if (request_.step) request_.step(what);
    }

    llama_model* model_;
    size_t context_;
    const EvalRequest& request_;
    ChatScript script_;
    std::optional<ChatLane> full_; // of the first cache, never folded
    std::vector<Contestant> contestants_;
};

} // namespace

const TaskKind tasks::chat = {
    .name = "chat",
    .about = "recall what a long conversation began with, while it is folded again and again",
    .text_behind = 0,
    .needs_text = false,
    .asks = true,
    .make = nullptr,
};

Status check_chat(const llama_model* model, size_t context, size_t rounds) {
    if (context < kLeastContext)
        return fail(ErrorCode::invalid_argument, "chat needs a context of {} tokens; raise -c {}",
                    kLeastContext, context);
    const auto trained = static_cast<size_t>(llama_model_n_ctx_train(model));
    const size_t talked = length(context, rounds);
    if (talked > trained)
        return fail(ErrorCode::invalid_argument,
                    "chat talks for {} tokens, and the model was trained for {}; lower -c {} or --rounds {}",
                    talked, trained, context, rounds);
    return {};
}

Result<std::vector<EvalRow>> evaluate_chat(llama_model* model, size_t context, const EvalRequest& request) {
    return Contest(model, context, request).run();
}

} // namespace kvfold
