#include "cli/answer.h"

#include "cli/interrupt.h"
#include "model/chat_turn.h"

namespace kvfold::cli {

namespace {

struct SamplerDeleter {
    void operator()(llama_sampler* sampler) const { llama_sampler_free(sampler); }
};
using SamplerPtr = std::unique_ptr<llama_sampler, SamplerDeleter>;

SamplerPtr new_sampler(const SampleOptions& options) {
    SamplerPtr sampler(llama_sampler_chain_init(llama_sampler_chain_default_params()));
    if (options.temperature <= 0) {
        llama_sampler_chain_add(sampler.get(), llama_sampler_init_greedy());
        return sampler;
    }
    llama_sampler_chain_add(sampler.get(), llama_sampler_init_min_p(/*p=*/0.05f, /*min_keep=*/1));
    llama_sampler_chain_add(sampler.get(), llama_sampler_init_temp(options.temperature));
    llama_sampler_chain_add(sampler.get(), llama_sampler_init_dist(options.seed));
    return sampler;
}

// Writes pieces of text, without white space before the first word.
class Stream {
  public:
    void write(std::string_view piece) {
        if (!started_) piece.remove_prefix(std::min(piece.find_first_not_of(" \n\t"), piece.size()));
        started_ = started_ || !piece.empty();
        std::fwrite(piece.data(), 1, piece.size(), stdout);
        std::fflush(stdout);
    }
    bool started() const { return started_; }

  private:
    bool started_ = false;
};

Result<Stop> stream_answer(Session& session, bool one_line, const SampleOptions& options) {
    const SamplerPtr sampler = new_sampler(options);
    const llama_vocab* vocab = llama_model_get_vocab(session.model());
    Stream stream;
    for (int i = 0; i < options.max_tokens; ++i) {
        const llama_token next = llama_sampler_sample(sampler.get(), session.context(), -1);
        if (llama_vocab_is_eog(vocab, next)) return Stop::end_of_answer;
        const std::string piece = detokenize(session.model(), {&next, 1});
        if (const size_t end = piece.find('\n');
            one_line && end != std::string::npos &&
            (stream.started() || piece.find_first_not_of(" \n\t") < end)) {
            stream.write(piece.substr(0, end));
            return Stop::end_of_answer;
        }
        stream.write(piece);
        if (interrupted()) return Stop::interrupted;
        if (session.room() == 0) return Stop::context_full;
        const Status decoded = session.say(next);
        if (!decoded && decoded.error().code == ErrorCode::cancelled) return Stop::interrupted;
        KVFOLD_CHECK(decoded);
    }
    return Stop::length;
}

} // namespace

void add_sample_options(CLI::App& command, SampleOptions& options) {
    command
        .add_option("-n,--predict,--n-predict", options.max_tokens, "longest answer in tokens; default: 256")
        ->check(CLI::Range(1, 1 << 30))
        ->option_text("N");
    command
        .add_option("--temp", options.temperature, "temperature; default: 0, always the most likely token")
        ->check(CLI::Range(0.0, 100.0))
        ->option_text("X");
    command.add_option("--seed", options.seed, "seed of the sampling; default: 1")->option_text("N");
}

size_t cells_around_answer(const llama_model* model, const std::string& question) {
    const ChatTurn turn = make_turn(model, question, /*is_first=*/false);
    return tokenize(model, turn.opening, /*add_bos=*/false, /*special=*/true).size() +
           tokenize(model, turn.closing, /*add_bos=*/false, /*special=*/true).size();
}

Result<Stop> answer(Session& session, const std::string& question, const SampleOptions& options) {
    const llama_model* model = session.model();
    const bool is_first = session.tokens().empty();
    const ChatTurn turn = make_turn(model, question, is_first);
    const auto opening = tokenize(model, turn.opening, /*add_bos=*/is_first, /*special=*/true);
    KVFOLD_CHECK(session.read_prompt(opening));
    KVFOLD_TRY(const Stop stop, stream_answer(session, turn.one_line, options));
    std::fputs("\n", stdout);
    std::fflush(stdout);
    if (stop == Stop::interrupted) return stop;
    const auto closing = tokenize(model, turn.closing, /*add_bos=*/false, /*special=*/true);
    if (closing.size() <= session.room()) KVFOLD_CHECK(session.append(closing, Outputs::none));
    return stop;
}

} // namespace kvfold::cli
