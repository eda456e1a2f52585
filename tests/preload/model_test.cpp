// A managed context through random operations of a program, against what llama.cpp really holds: positions
// and cells of every sequence, the room that is left, to the cell, and the tokens that its cells were made
// of.
#include "base/format.h"
#include "preload/contents.h"
#include "preload/program.h"
#include "state/folded_region.h"
#include "state/live_sequence.h"
#include "support/llama_fixture.h"
#include "support/tiny_model.h"

#include <cstdlib>
#include <deque>
#include <mutex>
#include <thread>

namespace kvfold::preload {
namespace {

constexpr uint32_t kCells = 256, kSequences = 3;
constexpr size_t kRecalledCells = 6; // cells of each head
constexpr llama_pos kLongest = 180;  // positions of a sequence, about
constexpr size_t kArchive =
    100'000; // bytes: some hundred cells, so that many a cut finds what it needs, and others do not

struct Shape {
    const char* name;
    const char* model;
    bool unified;
    bool tells_tokens = false; // the first cache is of the first layer, whose values tell the token
};
[[maybe_unused]] void PrintTo(const Shape& shape, std::ostream* out) { *out << shape.name; }

size_t operations() {
    const char* asked = std::getenv("KVFOLD_OPERATIONS"); // of each shape
    return asked ? static_cast<size_t>(std::atoll(asked)) : 250;
}

class Operations : public ::testing::TestWithParam<Shape> {
  protected:
    void SetUp() override {
        model_ = testing::tiny_model(GetParam().model);
        ASSERT_TRUE(model_);
        ctx_ = testing::make_context(model_, {.n_ctx = kCells,
                                              .n_seq_max = kSequences,
                                              .unified = GetParam().unified,
                                              .watch = &TapPlace::callback,
                                              .watcher = tap_.get()});
        ASSERT_TRUE(ctx_);
        start(Policy{}); // folds when it is told to, and never else
        plain_ = llama_model_n_swa(model_.get()) <= 0 && !llama_model_is_hybrid(model_.get());
        if (GetParam().tells_tokens) rows_.emplace(model_);
        moves_ = plain_ && llama_memory_can_shift(llama_get_memory(ctx_.get())) &&
                 llama_model_rope_type(model_.get()) != LLAMA_ROPE_TYPE_MROPE;
    }

    void start(const Policy& policy) {
        llama_context_params params = llama_context_default_params();
        params.n_ctx = kCells;
        params.n_seq_max = kSequences;
        params.kv_unified = GetParam().unified;
        params.n_threads = params.n_threads_batch = 1;
        program_.reset();
        auto map = probe_attention(model_.get(), params);
        ASSERT_TRUE(map) << map.error().message;
        program_.emplace(ctx_.get(), model_.get(), params, policy, kArchive,
                         Recalling{kRecalledCells, *std::move(map), tap_, kWhateverItTakes});
    }

    template <class... Args> void tell(fmt::format_string<Args...> format, Args&&... args) {
        told_.push_back(kvfold::format(format, std::forward<Args>(args)...));
        if (told_.size() > 12) told_.pop_front();
    }

    size_t below(size_t count) { return random_() % count; }
    llama_pos pos_below(llama_pos count) { return static_cast<llama_pos>(below(static_cast<size_t>(count))); }
    llama_pos end(llama_seq_id seq_id) { return program_->end(seq_id); }
    std::vector<int32_t> positions(llama_seq_id seq_id) {
        const auto state = program_->read(seq_id);
        return state ? sorted_positions(state->sections.front()) : std::vector<int32_t>();
    }

    void decode() {
        const auto which = static_cast<llama_seq_id>(below(kSequences));
        const auto count = static_cast<llama_pos>(1 + below(16));
        if (end(which) > kLongest) return;
        Batch batch(count);
        const std::vector<llama_token> tokens = say(batch, which, count);
        const size_t stream = GetParam().unified ? 0 : static_cast<size_t>(which);
        const size_t cells = GetParam().unified ? kCells : llama_n_ctx_seq(ctx_.get());
        tell("decode {} at {} of {}", count, end(which), which);
        const bool folds =
            admin_.joinable() || program_->is_folding(); // then there may be more room than a moment ago
        const bool has_room = used(stream) + static_cast<size_t>(count) <= cells;
        const int code = program_->decode(batch);
        copy_is_due_ = copy_is_due_ && code != 0;
        for (const llama_token token : tokens)
            if (code == 0) contents_.decode(which, token);
        // What the books say is in use is in use: to the cell, since llama.cpp finds room for exactly the
        // rest.
        if (folds) return;
        EXPECT_EQ(code, has_room ? 0 : 1) << used(stream) << " + " << count;
    }

    // Words of the sequence alone.
    std::vector<llama_token> say(Batch& batch, llama_seq_id which, llama_pos count) {
        constexpr size_t kWords = 10;
        if (end(which) == 0) topic_[which] = topics_++;
        std::vector<llama_token> tokens;
        for (llama_pos i = 0; i < count; ++i) {
            const size_t kind = (topic_[which] * kWords + below(kWords)) % kKinds;
            tokens.push_back(kFirstToken + static_cast<llama_token>(kind));
            batch.add(tokens.back(), end(which) + i, {which}, i + 1 == count);
        }
        return tokens;
    }

    // As a server decodes: of several sequences at once, an answer's token beside a prompt.
    void decode_together() {
        constexpr llama_pos kMost = 40;
        Batch batch(kMost * static_cast<llama_pos>(kSequences));
        std::map<llama_seq_id, std::vector<llama_token>> said;
        for (llama_seq_id which = 0; which < static_cast<llama_seq_id>(kSequences); ++which)
            if (below(2) == 0) said[which] = say(batch, which, below(2) == 0 ? 1 : 1 + pos_below(kMost));
        if (said.empty()) return;
        const int code = program_->decode(batch);
        tell("decode of {} sequences: {}", said.size(), code);
        copy_is_due_ = copy_is_due_ && code != 0;
        for (const auto& [which, tokens] : said)
            for (const llama_token token : tokens)
                if (code == 0) contents_.decode(which, token);
    }

    size_t used(size_t stream) { return program_->state()["used_cells"].at(stream).get<size_t>(); }

    void remove() {
        const auto which = static_cast<llama_seq_id>(below(kSequences));
        const llama_pos last = end(which);
        switch (below(4)) {
        case 0:
            cut(which, -1, -1);
            break;
        case 1:
            cut(which, last - std::min<llama_pos>(last, pos_below(20)), -1);
            break;
        case 2:
            if (last > 0) cut(which, pos_below(last), -1);
            break;
        default:
            if (last > 0) {
                const llama_pos p0 = pos_below(last);
                cut(which, p0, p0 + 1 + pos_below(10));
            }
        }
    }

    bool cut(llama_seq_id which, llama_pos p0, llama_pos p1) {
        const bool removed = program_->remove(which, p0, p1);
        tell("remove {}..{} of {}: {}", p0, p1, which, removed);
        if (removed) contents_.remove(which, p0, p1);
        return removed;
    }

    void copy() {
        const auto from = static_cast<llama_seq_id>(below(kSequences)),
                   to = static_cast<llama_seq_id>(below(kSequences));
        if (from == to || end(from) == 0) return;
        if (end(to) > 0) cut(to, -1, -1);
        const bool whole = !GetParam().unified || !plain_ || below(2) == 0;
        const llama_pos p1 = whole ? -1 : 1 + pos_below(end(from));
        tell("copy {} to {} up to {}", from, to, p1);
        program_->copy(from, to, -1, p1);
        contents_.copy(from, to, end(to));
        topic_[to] = topic_[from];
        copy_is_due_ = !GetParam().unified;
    }

    void move() {
        const auto which = static_cast<llama_seq_id>(below(kSequences));
        const llama_pos delta = end(which) / 4;
        if (!moves_ || delta == 0 || !cut(which, 0, delta)) return;
        tell("add {} from {} on in {}", -delta, delta, which);
        program_->add(which, delta, -1, -delta);
    }

    void save_and_restore() {
        const auto from = static_cast<llama_seq_id>(below(kSequences)),
                   to = static_cast<llama_seq_id>(below(kSequences));
        if (end(from) == 0 || (knows_words_ && copy_is_due_))
            return; // llama.cpp would save what was there before
        tell("save {} and restore it as {}", from, to);
        const std::vector<uint8_t> bytes = program_->saved_state(from);
        program_->restore_state(bytes, to);
        contents_.copy(from, to, end(to));
        topic_[to] = topic_[from];
    }

    void unfold() {
        const auto which = static_cast<llama_seq_id>(below(kSequences));
        const auto cells = program_->managed().unfold(which);
        tell("unfold {}: {}", which, cells ? std::to_string(*cells) : cells.error().message);
    }

    void fold() {
        const auto which = static_cast<llama_seq_id>(below(kSequences));
        const auto job = program_->managed().compact(
            which, below(2) == 0 ? &methods::select : &methods::keep_last, 2 + static_cast<double>(below(3)));
        tell("fold {}: {}", which, job ? "begun" : job.error().message);
        if (job && below(2) == 0) program_->settle();
    }

    void step() {
        const size_t what = below(16);
        switch (what) {
        default:
            decode();
            break;
        case 8:
        case 9:
        case 10:
            remove();
            break;
        case 11:
            copy();
            break;
        case 12:
            if (below(8) == 0) program_->keep(static_cast<llama_seq_id>(below(kSequences)));
            break;
        case 13:
            if (below(3) == 0) move();
            break;
        case 14:
            save_and_restore();
            break;
        case 15:
            if (below(4) == 0)
                unfold();
            else
                fold();
        }
    }

    // Another thread asks what the admin interface may ask, folds included, until the end of the test.
    void ask_beside() {
        admin_ = std::jthread([this](const std::stop_token& stop) {
            std::mt19937 random(3);
            ManagedContext& managed = program_->managed();
            while (!stop.stop_requested()) {
                std::this_thread::sleep_for(std::chrono::microseconds(200));
                const std::lock_guard lock(asking_);
                const size_t what = random() % 8;
                if (what == 0) static_cast<void>(managed.set_policy(managed.policy()));
                if (what == 1) static_cast<void>(managed.job(random() % 50));
                if (what == 2)
                    static_cast<void>(managed.compact(static_cast<llama_seq_id>(random() % kSequences),
                                                      &methods::select, 2));
                if (what == 3)
                    static_cast<void>(managed.unfold(static_cast<llama_seq_id>(random() % kSequences)));
                if (what > 3) static_cast<void>(managed.state());
            }
        });
    }

    void expect_agreement() {
        const std::lock_guard lock(asking_); // no fold begins meanwhile
        program_->settle();
        const Json state = program_->state();
        std::map<llama_seq_id, Json> known;
        for (const Json& sequence : state["sequences"])
            known[sequence["id"].get<llama_seq_id>()] = sequence;
        for (llama_seq_id which = 0; which < static_cast<llama_seq_id>(kSequences); ++which) {
            const std::vector<int32_t> held = positions(which);
            ASSERT_EQ(known.contains(which), !held.empty()) << "sequence " << which;
            if (held.empty()) continue;
            ASSERT_EQ(known[which]["cells"].get<size_t>(), held.size()) << "sequence " << which;
            ASSERT_EQ(known[which]["tokens"].get<int32_t>(), held.back() + 1) << "sequence " << which;
            if (!knows_words_ || copy_is_due_) continue;
            ASSERT_EQ(foreign_in(which, contents_), "");
            const bool is_folded = known[which]["folded_tokens"] > 0;
            ASSERT_TRUE(is_folded || contents_.count(which) == held.size()) << "a hole in sequence " << which;
        }
    }

    std::string foreign_in(llama_seq_id which, const Contents& contents) {
        const auto state = program_->read(which);
        return state ? contents.foreign(which, state->sections.front(), *rows_) : "";
    }

    // The newest operations, and what llama.cpp holds after them.
    std::string history() {
        std::string text;
        for (const std::string& line : told_)
            text += line + "\n";
        for (llama_seq_id which = 0; which < static_cast<llama_seq_id>(kSequences); ++which)
            text += kvfold::format("{}: {}\n", which, joined(positions(which), " ", [](int32_t pos) {
                                       return std::to_string(pos);
                                   }));
        return text + to_text(program_->state()["sequences"]);
    }

    testing::ModelPtr model_;
    testing::ContextPtr ctx_;
    std::shared_ptr<TapPlace> tap_ = std::make_shared<TapPlace>(); // of ctx_
    std::optional<Program> program_;
    std::mt19937 random_{7};
    std::deque<std::string> told_;
    bool plain_ = true, moves_ = true;
    std::optional<TokenRows> rows_;
    bool knows_words_ = false; // contents_ has heard of all that was done
    Contents contents_;
    bool copy_is_due_ = false; // llama.cpp copies between streams at the next decode
    std::map<llama_seq_id, size_t> topic_;
    size_t topics_ = 0;
    std::mutex asking_;
    std::jthread admin_; // last: it uses the rest
};

TEST_P(Operations, LeaveTheBooksAsLlamaCppHasThem) {
    for (size_t i = 0; i < operations(); ++i) {
        step();
        if (below(3) == 0) expect_agreement(); // else the next one comes amid a fold that runs
        if (HasFailure()) FAIL() << "operation " << i << "\n" << history();
    }
    program_->settle();
}

// Folds begin by themselves, sequences grow past all cells, and cuts into a fold take it back or make it read
// again.
TEST_P(Operations, KeepTheWordsOfSequencesApart) {
    if (!rows_) GTEST_SKIP() << "its values do not tell the token";
    Policy policy;
    policy.automatic = true;
    policy.method = &methods::keep_last;
    policy.keep_last = 8;
    start(policy);
    knows_words_ = true;
    for (size_t i = 0; i < operations(); ++i) {
        switch (below(12)) {
        default:
            decode_together();
            break;
        case 8:
        case 9:
            remove();
            break;
        case 10:
            copy();
            break;
        case 11:
            save_and_restore();
        }
        if (below(3) == 0) expect_agreement();
        if (HasFailure()) FAIL() << "operation " << i << "\n" << history();
    }
    program_->settle();
}

// What was copied from one sequence to another is foreign to a model that has not heard of the copy.
TEST_P(Operations, AForeignTokenIsSeen) {
    if (!rows_ || !GetParam().unified) GTEST_SKIP() << "its values do not tell the token, or copies wait";
    while (end(0) < 40 || end(1) < 40)
        decode();
    ASSERT_EQ(foreign_in(0, contents_) + foreign_in(1, contents_), "");
    program_->remove(1, -1, -1);
    program_->copy(0, 1, -1, 20);
    EXPECT_EQ(foreign_in(0, contents_), "");
    EXPECT_NE(foreign_in(1, contents_), "");
}

TEST_P(Operations, LeaveTheBooksRightWhileTheAdminInterfaceAsks) {
    ask_beside();
    for (size_t i = 0; i < operations(); ++i) {
        step();
        if (below(8) == 0) expect_agreement();
        if (HasFailure()) FAIL() << "operation " << i << "\n" << history();
    }
}

INSTANTIATE_TEST_SUITE_P(Shapes, Operations,
                         ::testing::Values(Shape{"mha_unified", "mha", true, true},
                                           Shape{"mha_split", "mha", false, true},
                                           Shape{"gemma3_unified", "gemma3", true},
                                           Shape{"gemma3_split", "gemma3", false},
                                           Shape{"granite_hybrid", "granite_hybrid", true},
                                           Shape{"qwen2vl", "qwen2vl", true, true}),
                         [](const auto& info) { return std::string(info.param.name); });

} // namespace
} // namespace kvfold::preload
