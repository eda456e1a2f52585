#include "study/draft.h"

#include "model/model.h"

#include <algorithm>
#include <array>
#include <memory>

namespace kvfold {

namespace {

// The first continues the text itself; the others ask what readers of a text ask.
constexpr std::array kPrompts = {
    "",
    "Summarize the key facts of the text above.",
    "List the names, numbers and places that the text above mentions, and what they mean.",
    "Ask a question about a detail of the text above and answer it.",
    "Explain the text above in your own words.",
};

constexpr uint32_t kDraft = 32;                         // tokens, where there are not too many drafts then
constexpr uint32_t kFewestDrafts = 5, kMostDrafts = 32; // each prompt at least once
constexpr uint32_t kMostStates = 5;                     // of drafts, where the model is recurrent

struct SamplerDeleter {
    void operator()(llama_sampler* sampler) const { llama_sampler_free(sampler); }
};
using Sampler = std::unique_ptr<llama_sampler, SamplerDeleter>;

Sampler sampler_for(uint64_t seed) {
    Sampler sampler(llama_sampler_chain_init(llama_sampler_chain_default_params()));
    llama_sampler_chain_add(sampler.get(), llama_sampler_init_min_p(/*p=*/0.05f, /*min_keep=*/1));
    llama_sampler_chain_add(sampler.get(), llama_sampler_init_temp(0.8f));
    llama_sampler_chain_add(sampler.get(), llama_sampler_init_dist(static_cast<uint32_t>(seed)));
    return sampler;
}

std::vector<llama_token> prompt_tokens(const llama_model* model, const char* prompt) {
    if (!*prompt) return {};
    const ChatMessage message{"user", prompt};
    const std::string in_template = apply_chat_template(model, {&message, 1}, /*assistant_next=*/true);
    if (!in_template.empty()) return tokenize(model, in_template, /*add_bos=*/false, /*special=*/true);
    return tokenize(model, std::string("\n\n") + prompt + "\n", /*add_bos=*/false, /*special=*/false);
}

// What a draft begins with, and where.
struct Opening {
    std::vector<llama_token> tokens;
    llama_pos first_pos;
};

// A continuation begins with the newest token again, for its logits.
std::vector<Opening> openings(const llama_model* model, llama_token newest, llama_pos end) {
    std::vector<Opening> all;
    for (const char* prompt : kPrompts) {
        if (*prompt)
            all.push_back({prompt_tokens(model, prompt), end});
        else if (newest != LLAMA_TOKEN_NULL)
            all.push_back({{newest}, end - 1});
    }
    return all;
}

size_t tokens_of_openings(const llama_model* model) {
    size_t count = 0;
    for (const Opening& opening : openings(model, /*newest=*/0, /*end=*/1))
        count += opening.tokens.size();
    return count;
}

// A draft that is being written; `newest` is not decoded yet.
struct Writing {
    llama_seq_id seq_id;
    Sampler sampler;
    llama_token newest;
    llama_pos pos; // of `newest`
};

class Writer {
  public:
    Writer(Scratch& scratch, const llama_model* model, std::mt19937_64& rng)
        : scratch_(scratch), vocab_(llama_model_get_vocab(model)), rng_(rng) {}

    // Sequences first_seq, first_seq + step, ... up to `last` open alike.
    Status open(const Opening& opening, llama_seq_id first_seq, llama_seq_id last, llama_seq_id step) {
        llama_memory_t memory = llama_get_memory(scratch_.context());
        llama_memory_seq_cp(memory, 0, first_seq, -1, -1);
        if (opening.first_pos < scratch_.end() &&
            !llama_memory_seq_rm(memory, first_seq, opening.first_pos, -1))
            return fail(ErrorCode::llama, "a draft cannot go back to position {}", opening.first_pos);
        const auto count = static_cast<llama_pos>(opening.tokens.size());
        std::vector<BatchToken> batch;
        for (llama_pos i = 0; i < count; ++i)
            batch.push_back({opening.tokens[static_cast<size_t>(i)], opening.first_pos + i, first_seq,
                             /*output=*/i + 1 == count});
        KVFOLD_CHECK(scratch_.listen(batch));
        for (llama_seq_id seq_id = first_seq; seq_id <= last; seq_id += step) {
            if (seq_id != first_seq) llama_memory_seq_cp(memory, first_seq, seq_id, -1, -1);
            add(seq_id, count - 1, opening.first_pos + count);
        }
        return {};
    }

    bool done() const { return writing_.empty(); }

    // A token more of every draft.
    Status step() {
        std::vector<BatchToken> batch;
        for (const Writing& each : writing_)
            batch.push_back({each.newest, each.pos, each.seq_id, /*output=*/true});
        KVFOLD_CHECK(scratch_.listen(batch));
        std::vector<Writing> before = std::move(writing_);
        writing_.clear();
        for (size_t i = 0; i < before.size(); ++i) {
            before[i].newest = sample(before[i].sampler.get(), static_cast<int32_t>(i));
            ++before[i].pos;
            if (!llama_vocab_is_eog(vocab_, before[i].newest)) writing_.push_back(std::move(before[i]));
        }
        return {};
    }

  private:
    llama_token sample(llama_sampler* sampler, int32_t output) {
        return llama_sampler_sample(sampler, scratch_.context(), output);
    }

    void add(llama_seq_id seq_id, int32_t output, llama_pos pos) {
        Sampler sampler = sampler_for(rng_());
        const llama_token first = sample(sampler.get(), output);
        if (!llama_vocab_is_eog(vocab_, first)) writing_.push_back({seq_id, std::move(sampler), first, pos});
    }

    Scratch& scratch_;
    const llama_vocab* vocab_;
    std::mt19937_64& rng_;
    std::vector<Writing> writing_;
};

} // namespace

Drafts plan_drafts(size_t tokens, bool has_recurrent) {
    const auto wanted = static_cast<uint32_t>(tokens);
    const uint32_t most = has_recurrent ? kMostStates : kMostDrafts;
    const uint32_t count = std::clamp(wanted / kDraft, kFewestDrafts, most);
    return {count, std::max(1u, (wanted + count - 1) / count)};
}

uint32_t draft_sequences(const Drafts& drafts) { return 1 + drafts.count; }

uint32_t draft_cells(const llama_model* model, const Drafts& drafts) {
    return static_cast<uint32_t>(tokens_of_openings(model)) + drafts.count * drafts.tokens;
}

Status write_drafts(Scratch& scratch, const llama_model* model, llama_token newest, const Drafts& drafts,
                    std::mt19937_64& rng) {
    KVFOLD_CHECK(scratch.report(Stage::draft, 0));
    Writer writer(scratch, model, rng);
    const std::vector<Opening> all = openings(model, newest, scratch.end());
    const auto kinds = static_cast<llama_seq_id>(all.size()), last = static_cast<llama_seq_id>(drafts.count);
    for (llama_seq_id kind = 0; kind < std::min(kinds, last); ++kind)
        KVFOLD_CHECK(writer.open(all[static_cast<size_t>(kind)], 1 + kind, last, kinds));
    for (uint32_t written = 1; written < drafts.tokens && !writer.done(); ++written) {
        KVFOLD_CHECK(
            scratch.report(Stage::draft, static_cast<float>(written) / static_cast<float>(drafts.tokens)));
        KVFOLD_CHECK(writer.step());
    }
    return {};
}

} // namespace kvfold
