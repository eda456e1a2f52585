// Every kind of attention that llama.cpp has, on tiny models of random weights (tiny_models.py): that
// compaction is exact where it must be. Quality is shown on real models only.
#include "engine/fold_once.h"
#include "fit/solve_layers.h"
#include "reference/naive_head.h"
#include "support/positions.h"
#include "support/tiny_model.h"

#include <numeric>

namespace kvfold {
namespace {

using testing::ContextPtr;

constexpr size_t kTokens = 200;

using testing::random_tokens;
using testing::tiny_model;

class Tiny : public ::testing::TestWithParam<const char*> {
  protected:
    void SetUp() override {
        model_ = tiny_model(GetParam());
        ASSERT_TRUE(model_);
        ctx_ = testing::make_context(model_, {.n_ctx = 512});
        ASSERT_TRUE(ctx_);
        tokens_ = random_tokens(kTokens + kNext);
        next_.assign(tokens_.begin() + kTokens, tokens_.end());
        tokens_.resize(kTokens);
        ASSERT_EQ(testing::decode(ctx_.get(), tokens_, 0), 0);
    }

    static constexpr size_t kNext = 200;
    testing::ModelPtr model_;
    ContextPtr ctx_;
    std::vector<llama_token> tokens_, next_;
};

std::vector<uint32_t> all_cells(size_t count) {
    std::vector<uint32_t> cells(count);
    std::iota(cells.begin(), cells.end(), 0u);
    return cells;
}

class Compactable : public Tiny {
  protected:
    // The queries of 64 tokens behind the sequence.
    Study study_of(const SequenceState& snapshot, const AttentionMap& map) const {
        QueryTap tap(map.layers, 64);
        auto scratch = Scratch::open(model_.get(), map, snapshot, {testing::one_thread(), 1, 256}, &tap, {});
        EXPECT_TRUE(scratch) << scratch.error().message;
        const Status read =
            scratch ? scratch->prefill({next_.begin(), next_.begin() + 64}, kTokens) : Status{};
        EXPECT_TRUE(read);
        return tap.take();
    }
};

// Keys, values and queries of all heads, solved as the engine does and looked at in double precision.
TEST_P(Compactable, BlocksMatchTheOracle) {
    const SequenceState snapshot = testing::snapshot_of(ctx_.get());
    const KvSection& section = snapshot.sections[0];
    const auto map = probe_attention(model_.get(), testing::one_thread());
    ASSERT_TRUE(map) << map.error().message;
    const Study study = study_of(snapshot, *map);
    ASSERT_EQ(study.tokens(), 64);
    const auto regions = plan_regions(section, {.ratio = 2}, Keep::fit);
    ASSERT_TRUE(regions) << regions.error().message;
    const CompactRequest request;
    const auto solution =
        solve_layers(problem_of(model_.get(), *map, snapshot, *regions, plans_of(*request.method), request,
                                *usable_kernels().front()),
                     study, methods::refine.solve);
    ASSERT_TRUE(solution) << solution.error().message;

    size_t job = 0;
    const std::vector<uint32_t> all = all_cells(regions->folded);
    for (size_t i = 0; i < map->layers.size(); ++i) {
        const AttentionLayer& layer = map->layers[i];
        const Index d = layer.key_width, dv = layer.value_width, group = layer.heads / layer.kv_heads;
        for (Index head = 0; head < layer.kv_heads; ++head, ++job) {
            SCOPED_TRACE("layer " + std::to_string(layer.layer) + ", head " + std::to_string(head));
            const Matrix k = head_to_float(section.keys[i], regions->region, head * d, d);
            const Matrix v = head_to_float(section.values[i], regions->region, head * dv, dv);
            Matrix q(study.layers[i].rows.rows() * group, d);
            for (Index member = 0; member < group; ++member)
                q.middleRows(member * study.layers[i].rows.rows(), study.layers[i].rows.rows()) =
                    study.layers[i].rows.middleCols((head * group + member) * d, d);
            const HeadProblem problem{k, v, q, layer.scale, layer.softcap};
            const Matrix keys = head_to_float(solution->keys[i], all, head * d, d);
            const Matrix values = head_to_float(solution->values[i], all, head * dv, dv);
            const auto quality =
                reference::naive_quality(problem, keys.cast<double>(), values.cast<double>());
            const HeadReport& report = solution->heads[job];
            // Values are rounded to f16 after the report was made: 2^-11 of values that may cancel.
            EXPECT_NEAR(report.output_error, quality.output_error, 0.01 * quality.output_error + 2e-3);
            EXPECT_NEAR(report.mass_error, quality.mass_error, 0.01 * quality.mass_error + 2e-3);
            EXPECT_LT(quality.output_error, 0.5);
            const auto negated =
                reference::naive_quality(problem, keys.cast<double>(), -values.cast<double>());
            EXPECT_GT(negated.output_error, 1); // broken twin
        }
    }
}

// Every head's cells taken apart, "solved" for as many as there are, rounded and put together: not a bit
// differs.
TEST_P(Compactable, AsManyCellsAsThereAreAreTheFullCache) {
    const std::vector<llama_token> probe(next_.begin(), next_.begin() + 8);
    const auto full = testing::forced_logits(ctx_.get(), probe, kTokens);
    const SequenceState snapshot = testing::snapshot_of(ctx_.get());
    const auto map = probe_attention(model_.get(), testing::one_thread());
    ASSERT_TRUE(map) << map.error().message;
    Regions regions;
    regions.region = all_cells(kTokens);
    regions.folded = kTokens;
    const CompactRequest request;
    const auto solution =
        solve_layers(problem_of(model_.get(), *map, snapshot, regions, plans_of(*request.method), request,
                                *usable_kernels().front()),
                     study_of(snapshot, *map), methods::refine.solve);
    ASSERT_TRUE(solution) << solution.error().message;
    SequenceState compact = snapshot;
    compact.sections[0].keys = solution->keys;
    compact.sections[0].values = solution->values;
    EXPECT_EQ(encode_sequence(compact), encode_sequence(snapshot));

    SequenceState reordered = snapshot; // the noise floor
    const std::vector<uint32_t> cells = all_cells(kTokens);
    reordered.sections[0] =
        take_cells(snapshot.sections[0], std::vector<uint32_t>(cells.rbegin(), cells.rend()));
    const auto kl_of = [&](const SequenceState& state) {
        EXPECT_TRUE(write_sequence(ctx_.get(), 0, state));
        return testing::mean_kl(full, testing::forced_logits(ctx_.get(), probe, kTokens));
    };
    const double noise = kl_of(reordered) + 1e-6;
    EXPECT_LE(kl_of(compact), noise);
    EXPECT_GT(kl_of(testing::with_negated_values(compact, regions)), 10 * noise); // broken twin
}

TEST_P(Compactable, OneCellLessGivesTheFullLogits) {
    testing::expect_full_logits_with_one_cell_less(ctx_.get(), tokens_, {next_.begin(), next_.begin() + 8});
}

TEST_P(Compactable, WindowsRecurrentStateAndPositionsSurviveAndDecodingGoesOn) {
    const SequenceState before = testing::snapshot_of(ctx_.get());
    const auto report = compact_sequence(ctx_.get(), 0, testing::request_for(tokens_, 2));
    ASSERT_TRUE(report) << report.error().message;
    const SequenceState after = testing::snapshot_of(ctx_.get());
    EXPECT_EQ(after.recurrent, before.recurrent);
    ASSERT_EQ(after.sections.size(), before.sections.size());
    const auto others = [](SequenceState state) {
        state.sections.erase(state.sections.begin());
        return encode_sequence(state);
    };
    EXPECT_EQ(others(after), others(before));
    EXPECT_EQ(after.sections[0].cells.size(), kTokens / 2);
    testing::expect_stands_together_before(report->regions.tail.size(), kTokens, after.sections[0]);

    for (size_t i = 0; i < next_.size(); ++i) {
        ASSERT_EQ(testing::decode(ctx_.get(), {next_[i]}, static_cast<llama_pos>(kTokens + i)), 0);
        for (const float logit : testing::last_logits(ctx_.get()))
            ASSERT_TRUE(std::isfinite(logit)) << "token " << i;
    }
}

INSTANTIATE_TEST_SUITE_P(Models, Compactable,
                         ::testing::Values("mha", "mqa", "unequal_widths", "qwen2", "qwen3", "qwen2vl",
                                           "olmoe", "gemma2", "gemma3", "gemma3n", "gpt_oss",
                                           "granite_hybrid", "jamba", "falcon_h1", "qwen3vl", "qwen3next",
                                           "qwen35"),
                         [](const auto& info) { return std::string(info.param); });

struct CacheTypes {
    const char* name;
    testing::ContextOptions options;
};
[[maybe_unused]] void PrintTo(const CacheTypes& types, std::ostream* out) { *out << types.name; }

class InACacheOf : public ::testing::TestWithParam<CacheTypes> {};

// Keys are rounded to the type before the values are fitted, so the report's error is that of the cells which
// are stored, up to the rounding of the values.
TEST_P(InACacheOf, CompactCellsHaveTheTypesOfTheCache) {
    for (const char* name : {"mha", "unequal_widths", "granite_hybrid"}) {
        SCOPED_TRACE(name);
        const testing::ModelPtr model = tiny_model(name);
        testing::ContextOptions options = GetParam().options;
        options.n_ctx = 512;
        const ContextPtr ctx = testing::make_context(model, options);
        ASSERT_TRUE(ctx);
        const std::vector<llama_token> tokens = random_tokens(kTokens);
        ASSERT_EQ(testing::decode(ctx.get(), tokens, 0), 0);
        const auto report = compact_sequence(ctx.get(), 0, testing::request_for(tokens, 2));
        ASSERT_TRUE(report) << report.error().message;
        const SequenceState after = testing::snapshot_of(ctx.get());
        EXPECT_EQ(after.sections[0].cells.size(), kTokens / 2);
        for (const CacheTensor& keys : after.sections[0].keys)
            EXPECT_EQ(keys.type, options.type_k);
        for (const CacheTensor& values : after.sections[0].values) {
            EXPECT_EQ(values.type, options.type_v);
            EXPECT_EQ(values.transposed, !options.flash_attention);
        }
        for (const HeadReport& head : report->heads)
            EXPECT_LT(head.output_error, 0.5) << "layer " << head.layer << ", head " << head.head;
        ASSERT_EQ(testing::decode(ctx.get(), {tokens[3]}, kTokens), 0);
        for (const float logit : testing::last_logits(ctx.get()))
            ASSERT_TRUE(std::isfinite(logit));
    }
}

INSTANTIATE_TEST_SUITE_P(
    Types, InACacheOf,
    ::testing::Values(
        CacheTypes{"f32", {.type_k = GGML_TYPE_F32, .type_v = GGML_TYPE_F32}},
        CacheTypes{"f16", {.type_k = GGML_TYPE_F16, .type_v = GGML_TYPE_F16}},
        CacheTypes{"bf16", {.type_k = GGML_TYPE_BF16, .type_v = GGML_TYPE_BF16}},
        CacheTypes{"q8_0", {.type_k = GGML_TYPE_Q8_0, .type_v = GGML_TYPE_Q8_0}},
        CacheTypes{"q5_1", {.type_k = GGML_TYPE_Q5_1, .type_v = GGML_TYPE_Q5_1}},
        CacheTypes{"q4_0", {.type_k = GGML_TYPE_Q4_0, .type_v = GGML_TYPE_Q4_0}},
        CacheTypes{"q8_0_and_f16", {.type_k = GGML_TYPE_Q8_0, .type_v = GGML_TYPE_F16}},
        CacheTypes{"f16_and_q4_0", {.type_k = GGML_TYPE_F16, .type_v = GGML_TYPE_Q4_0}},
        CacheTypes{"plain_f32", {.flash_attention = false, .type_k = GGML_TYPE_F32, .type_v = GGML_TYPE_F32}},
        CacheTypes{"plain_q4_0_and_f16",
                   {.flash_attention = false, .type_k = GGML_TYPE_Q4_0, .type_v = GGML_TYPE_F16}}),
    [](const auto& info) { return std::string(info.param.name); });

// An image as a multimodal program gives it: `side` x `side` embeddings that share one temporal position.
int decode_image(llama_context* ctx, llama_pos pos, int side) {
    const int width = llama_model_n_embd(llama_get_model(ctx)), count = side * side;
    std::mt19937 random(3);
    std::normal_distribution<float> normal;
    std::vector<float> embeddings(static_cast<size_t>(count * width));
    for (float& value : embeddings)
        value = normal(random);
    std::vector<llama_pos> positions(static_cast<size_t>(4 * count),
                                     0); // t, y, x, unused: one behind the other
    std::vector<int32_t> seq_counts(static_cast<size_t>(count), 1);
    llama_seq_id sequence = 0;
    std::vector<llama_seq_id*> seq_ids(static_cast<size_t>(count), &sequence);
    std::vector<int8_t> outputs(static_cast<size_t>(count), 0);
    for (int i = 0; i < count; ++i) {
        positions[static_cast<size_t>(i)] = pos;
        positions[static_cast<size_t>(count + i)] = pos + i / side;
        positions[static_cast<size_t>(2 * count + i)] = pos + i % side;
    }
    return llama_decode(ctx, {count, nullptr, embeddings.data(), positions.data(), seq_counts.data(),
                              seq_ids.data(), outputs.data()});
}

class WithImages : public Tiny {};

TEST_P(WithImages, ImageCellsStayVerbatimAmidTheRegion) {
    constexpr llama_pos kImage = kTokens;
    constexpr int kSide = 4;
    ASSERT_EQ(decode_image(ctx_.get(), kImage, kSide), 0);
    ASSERT_EQ(testing::decode(ctx_.get(), {next_.begin(), next_.begin() + 80}, kImage + kSide), 0);
    std::vector<llama_token> tokens = tokens_;
    tokens.insert(tokens.end(), kSide, LLAMA_TOKEN_NULL);
    tokens.insert(tokens.end(), next_.begin(), next_.begin() + 80);

    const auto image_cells = [](const KvSection& section) {
        std::vector<uint32_t> cells;
        for (uint32_t i = 0; i < section.cells.size(); ++i) {
            if (is_embedding(section.cells[i])) cells.push_back(i);
        }
        return cells;
    };
    const SequenceState before = testing::snapshot_of(ctx_.get());
    ASSERT_EQ(image_cells(before.sections[0]).size(), static_cast<size_t>(kSide * kSide));
    const auto report = compact_sequence(ctx_.get(), 0, testing::request_for(tokens, 4));
    ASSERT_TRUE(report) << report.error().message;
    const SequenceState after = testing::snapshot_of(ctx_.get());
    EXPECT_EQ(after.sections[0].cells.size(), before.sections[0].cells.size() / 4);
    const KvSection &old_cells = before.sections[0], &new_cells = after.sections[0];
    const auto was = image_cells(old_cells), is = image_cells(new_cells);
    ASSERT_EQ(is.size(), was.size());
    for (size_t i = 0; i < is.size(); ++i) {
        EXPECT_EQ(new_cells.cells[is[i]].pos, new_cells.cells.front().pos); // with the folded cells around it
        EXPECT_EQ(new_cells.cells[is[i]].extra, old_cells.cells[was[i]].extra);
    }
    for (size_t layer = 0; layer < old_cells.keys.size(); ++layer) {
        EXPECT_EQ(take_cells(new_cells.keys[layer], is).bytes, take_cells(old_cells.keys[layer], was).bytes);
        EXPECT_EQ(take_cells(new_cells.values[layer], is).bytes,
                  take_cells(old_cells.values[layer], was).bytes);
    }
    const std::vector<uint32_t> text(was.size(), 20); // broken twin: other cells of the region do not stay
    EXPECT_NE(take_cells(new_cells.keys[0], text).bytes, take_cells(old_cells.keys[0], text).bytes);
    EXPECT_EQ(testing::decode(ctx_.get(), {next_[90]}, static_cast<llama_pos>(tokens.size())), 0);
}

INSTANTIATE_TEST_SUITE_P(Models, WithImages, ::testing::Values("qwen2vl", "qwen3vl", "qwen35"),
                         [](const auto& info) { return std::string(info.param); });

struct Refusal {
    const char* model;
    const char* reason;
};
[[maybe_unused]] void PrintTo(const Refusal& refusal, std::ostream* out) { *out << refusal.model; }

class Refused : public ::testing::TestWithParam<Refusal> {};

TEST_P(Refused, WithTheReason) {
    const testing::ModelPtr model = tiny_model(GetParam().model);
    ASSERT_TRUE(model);
    const auto map = probe_attention(model.get(), testing::one_thread());
    ASSERT_FALSE(map);
    EXPECT_EQ(map.error().code, ErrorCode::unsupported);
    EXPECT_NE(map.error().message.find(GetParam().reason), std::string::npos) << map.error().message;
}

INSTANTIATE_TEST_SUITE_P(Models, Refused,
                         ::testing::Values(Refusal{"mla", "MLA"}, Refusal{"mamba", "recurrent"},
                                           Refusal{"rwkv7", "recurrent"}, Refusal{"alibi", "ALiBi"},
                                           Refusal{"encoder", "encoder"}, Refusal{"all_window", "slides"}),
                         [](const auto& info) { return std::string(info.param.model); });

} // namespace
} // namespace kvfold
