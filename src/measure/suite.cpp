#include "measure/suite.h"

#include "base/format.h"
#include "measure/chat.h"

#include <algorithm>

namespace kvfold {

namespace {

// Tasks that share a context.
struct Sitting {
    std::string text;
    size_t offset = 0;
    uint64_t seed = 1;
    std::vector<Task> tasks;
};

// `count` tokens of the text from `offset` on, behind the model's own first token.
Result<std::vector<llama_token>> text_window(const llama_model* model, const SuiteText& text, size_t offset,
                                             size_t context, size_t behind) {
    const llama_vocab* vocab = llama_model_get_vocab(model);
    const std::vector<llama_token>& tokens = text.tokens;
    const bool has_bos =
        llama_vocab_get_add_bos(vocab) && !tokens.empty() && tokens.front() == llama_vocab_bos(vocab);
    const size_t left = tokens.size() - std::min(tokens.size(), offset);
    if (left < context + behind)
        return fail(ErrorCode::invalid_argument,
                    "{}: has {} tokens behind offset {}, but {} are needed (a context of {} and {} behind "
                    "it); give a "
                    "longer text or lower -c",
                    text.name, left, offset, context + behind, context, behind);
    std::vector<llama_token> window(tokens.begin(), tokens.begin() + (has_bos ? 1 : 0));
    const TokenSpan words =
        TokenSpan(tokens).subspan(window.size() + offset, context + behind - window.size());
    window.insert(window.end(), words.begin(), words.end());
    return window;
}

Status make_tasks(const TaskSource& source, const std::vector<const TaskKind*>& kinds,
                  std::vector<Task>& tasks) {
    for (const TaskKind* kind : kinds) {
        KVFOLD_TRY(Task task, kind->make(source));
        tasks.push_back(std::move(task));
    }
    return {};
}

Result<std::vector<Sitting>> plan_sittings(const llama_model* model, const SuiteRequest& request) {
    std::vector<const TaskKind*> reading, inventing;
    size_t behind = 0;
    for (const TaskKind* kind : request.kinds) {
        if (!kind->make) continue;
        (kind->needs_text ? reading : inventing).push_back(kind);
        behind = std::max(behind, kind->text_behind);
    }
    if (request.eval.hindsight == Hindsight::later) behind += kLaterTokens;
    std::vector<Sitting> sittings;
    for (const uint64_t seed : request.seeds) {
        for (const SuiteText& text : request.texts) {
            for (const size_t offset : request.offsets) {
                if (reading.empty()) continue;
                Sitting sitting{text.name, offset, seed, {}};
                KVFOLD_TRY(const auto tokens, text_window(model, text, offset, request.context, behind));
                KVFOLD_CHECK(make_tasks({model, tokens, request.context, seed}, reading, sitting.tasks));
                sittings.push_back(std::move(sitting));
            }
        }
        for (const TaskKind* kind : inventing) {
            Sitting sitting{"", 0, seed, {}};
            KVFOLD_CHECK(make_tasks({model, {}, request.context, seed}, {kind}, sitting.tasks));
            sittings.push_back(std::move(sitting));
        }
    }
    return sittings;
}

// As `request` asks, with the seed, telling what is done beside `where`.
EvalRequest for_run(const SuiteRequest& request, uint64_t seed, std::string where) {
    EvalRequest eval = request.eval;
    eval.compact.seed = seed;
    if (eval.step)
        eval.step = [step = eval.step, where = std::move(where)](std::string_view what) {
            step(kvfold::format("{}: {}", where, what));
        };
    return eval;
}

} // namespace

Result<std::vector<SuiteRow>> run_suite(llama_model* model, const SuiteRequest& request) {
    const bool chats = std::ranges::find(request.kinds, &tasks::chat) != request.kinds.end();
    if (chats) KVFOLD_CHECK(check_chat(model, request.context, request.eval.rounds));
    if (chats && request.eval.hindsight != Hindsight::none)
        return fail(ErrorCode::invalid_argument,
                    "the chat is folded while it is said: no hindsight; leave it out");
    KVFOLD_TRY(const std::vector<Sitting> sittings, plan_sittings(model, request));
    for (const Sitting& sitting : sittings)
        KVFOLD_CHECK(check_hindsight(sitting.tasks, request.eval));
    std::vector<SuiteRow> all;
    for (const Sitting& sitting : sittings) {
        const std::string where = sitting.text.empty() ? sitting.tasks.front().name : sitting.text;
        KVFOLD_TRY(std::vector<EvalRow> rows,
                   evaluate(model, sitting.tasks, for_run(request, sitting.seed, where)));
        for (EvalRow& row : rows)
            all.push_back({sitting.text, sitting.offset, sitting.seed, std::move(row)});
    }
    if (!chats) return all;
    for (const uint64_t seed : request.seeds) {
        KVFOLD_TRY(
            std::vector<EvalRow> rows,
            evaluate_chat(model, request.context, for_run(request, seed, std::string(tasks::chat.name))));
        for (EvalRow& row : rows)
            all.push_back({"", 0, seed, std::move(row)});
    }
    return all;
}

} // namespace kvfold
