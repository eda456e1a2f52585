#include "cli/answer.h"
#include "cli/commands.h"
#include "engine/archive_file.h"

#include <limits>
#include <memory>

namespace kvfold::cli {

namespace {

struct AskOptions {
    ModelOptions model;
    SampleOptions sample;
    std::string state, archive, question;
    size_t recall = limits::kUsualRecall;
};

Status run_ask(const AskOptions& options) {
    KVFOLD_TRY(const LoadedModel model, open_model(options.model));
    KVFOLD_TRY(SlotFile slot, read_slot_for(model, options.state));
    KeptFolds folds(std::numeric_limits<size_t>::max());
    Keeping keeping;
    if (!options.archive.empty()) {
        KVFOLD_TRY(const StoredFolds stored, read_archive_file(options.archive, slot.state.sections.front()));
        KVFOLD_CHECK(add(folds, stored));
        size_t archived = 0;
        for (const auto& fold : stored.folds)
            archived += fold->originals.cells.size();
        keeping = {&folds, std::min(options.recall, archived)};
    }
    const size_t free = cells_around_answer(model.model.get(), options.question) +
                        static_cast<size_t>(options.sample.max_tokens) + keeping.recall;
    KVFOLD_TRY(Session session, Session::restore(model, std::move(slot), options.model.context,
                                                 static_cast<uint32_t>(free), keeping));
    KVFOLD_TRY(const Stop stop, answer(session, options.question, options.sample));
    if (stop == Stop::interrupted) return fail(ErrorCode::cancelled, "interrupted");
    if (stop == Stop::context_full)
        return fail(ErrorCode::llama, "the answer was cut: the context of {} cells is full; raise -c",
                    llama_n_ctx(session.context()));
    return {};
}

} // namespace

void add_ask(CLI::App& app, Command& chosen) {
    auto options = std::make_shared<AskOptions>();
    CLI::App* command = app.add_subcommand("ask", "Ask one question about a saved state");
    command->footer("The question becomes a user turn of the model's chat template behind the document, or\n"
                    "\"Question: ... Answer:\" when the model has none. The answer goes to standard output.\n"
                    "Cache types come from the state.");
    add_model_options(*command, options->model);
    command->add_option("-s,--state", options->state, "slot file, as compact writes it")
        ->required()
        ->option_text("STATE");
    CLI::Option* archive =
        command->add_option("--archive", options->archive, "what compact --archive wrote beside the state");
    archive->option_text("FILE");
    add_recall_option(*command, options->recall)->needs(archive);
    command->add_option("-p,--prompt", options->question, "the question")
        ->required()
        ->option_text("QUESTION");
    add_context_option(*command, options->model.context, "as many as needed");
    add_sample_options(*command, options->sample);
    command->callback([options, &chosen] { chosen = [options] { return run_ask(*options); }; });
}

} // namespace kvfold::cli
