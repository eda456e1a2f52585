// Every kind of attention that llama.cpp has, on tiny models of random weights (tiny_models.py): that compaction is
// exact where it must be. Quality is shown on real models only.
#include "engine/model_sequence.h"
#include "reference/naive_head.h"

namespace kvfold {
namespace {

using testing::ContextPtr;

constexpr size_t kTokens = 200;

class Tiny : public ::testing::TestWithParam<const char*> {
  protected:
    void SetUp() override {
        const char* folder = std::getenv("KVFOLD_TINY_MODELS");
        ASSERT_TRUE(folder) << "KVFOLD_TINY_MODELS is not set: the folder that tiny_models.py wrote";
        model_ = testing::load_model_file(std::string(folder) + "/" + GetParam() + ".gguf");
        ASSERT_TRUE(model_);
        ctx_ = testing::make_context(model_, {.n_ctx = 512});
        ASSERT_TRUE(ctx_);
        std::mt19937 random(7);
        for (size_t i = 0; i < kTokens + kNext; ++i) // bytes and letters of the vocabulary
            tokens_.push_back(static_cast<llama_token>(3 + random() % 340));
        next_.assign(tokens_.begin() + kTokens, tokens_.end());
        tokens_.resize(kTokens);
        ASSERT_EQ(testing::decode(ctx_.get(), tokens_, 0), 0);
    }

    static constexpr size_t kNext = 200;
    testing::ModelPtr model_;
    ContextPtr ctx_;
    std::vector<llama_token> tokens_, next_;
};

class Compactable : public Tiny {};

// Keys, values and queries of all heads, solved as the engine does and looked at in double precision.
TEST_P(Compactable, BlocksMatchTheOracle) {
    const SequenceState snapshot = testing::snapshot_of(ctx_.get());
    const KvSection& section = snapshot.sections[0];
    const auto map = probe_attention(model_.get(), llama_context_default_params());
    ASSERT_TRUE(map) << map.error().message;
    QueryTap tap(map->layers, 64);
    auto scratch = Scratch::open(model_.get(), *map, snapshot, {llama_context_default_params(), 1, 256}, &tap, {});
    ASSERT_TRUE(scratch) << scratch.error().message;
    ASSERT_TRUE(read_passages(*scratch, {{{next_.begin(), next_.begin() + 64}, kTokens}}));
    const Study study = tap.take();
    ASSERT_EQ(study.tokens(), 64);
    const auto regions = plan_regions(section, {.ratio = 2}, Method::Keep::fit);
    ASSERT_TRUE(regions) << regions.error().message;
    const auto solution = solve_layers(section, *regions, *map, study, methods::refine.solve, {}, {});
    ASSERT_TRUE(solution) << solution.error().message;

    size_t job = 0;
    std::vector<uint32_t> all(regions->folded);
    for (uint32_t i = 0; i < all.size(); ++i)
        all[i] = i;
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
            const auto quality = reference::naive_quality(problem, keys.cast<double>(), values.cast<double>());
            const HeadReport& report = solution->heads[job];
            // Values are rounded to f16 after the report was made: 2^-11 of values that may cancel.
            EXPECT_NEAR(report.output_error, quality.output_error, 0.01 * quality.output_error + 2e-3);
            EXPECT_NEAR(report.mass_error, quality.mass_error, 0.01 * quality.mass_error + 2e-3);
            EXPECT_LT(quality.output_error, 0.5);
            const auto negated = reference::naive_quality(problem, keys.cast<double>(), -values.cast<double>());
            EXPECT_GT(negated.output_error, 1); // broken twin
        }
    }
}

// Near ratio 1 the block still gives the full cache's logits; with its values negated it does not.
TEST_P(Compactable, NearRatioOneTheLogitsAreThoseOfTheFullCache) {
    const std::vector<llama_token> probe(next_.begin(), next_.begin() + 8);
    const SequenceState before = testing::snapshot_of(ctx_.get());
    const auto full = testing::forced_logits(ctx_.get(), probe, kTokens);
    const auto noise_ctx = testing::make_context(model_, {.n_ctx = 512, .flash_attention = false});
    ASSERT_TRUE(noise_ctx);
    ASSERT_EQ(testing::decode(noise_ctx.get(), tokens_, 0), 0);
    const double noise = testing::mean_kl(full, testing::forced_logits(noise_ctx.get(), probe, kTokens));
    const auto report = compact_sequence(ctx_.get(), 0, testing::request_for(tokens_, 1.006)); // one cell less
    ASSERT_TRUE(report) << report.error().message;
    ASSERT_EQ(report->cells_after + 1, report->cells_before);
    const SequenceState compact = testing::snapshot_of(ctx_.get());
    const double kl = testing::mean_kl(full, testing::forced_logits(ctx_.get(), probe, kTokens));

    SequenceState broken = compact;
    for (CacheTensor& values : broken.sections[0].values) {
        Matrix rows = to_float(values);
        rows.middleRows(static_cast<Index>(report->regions.head.size()), report->regions.folded) *= -1;
        values = from_float(rows, values.type, values.transposed).value();
    }
    ASSERT_TRUE(write_sequence(ctx_.get(), 0, broken));
    const double broken_kl = testing::mean_kl(full, testing::forced_logits(ctx_.get(), probe, kTokens));
    RecordProperty("kl", std::to_string(kl));
    RecordProperty("noise", std::to_string(noise));
    RecordProperty("broken", std::to_string(broken_kl));
    EXPECT_LT(kl, 10 * noise + 0.01);
    EXPECT_GT(broken_kl, 5 * kl);
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
    const std::vector<CellMeta>& cells = after.sections[0].cells;
    EXPECT_EQ(cells.size(), kTokens / 2);
    EXPECT_EQ(cells.front().pos, 0);
    EXPECT_EQ(cells.back().pos, static_cast<llama_pos>(kTokens) - 1);
    for (size_t i = 0; i + 1 < cells.size(); ++i)
        ASSERT_LT(cells[i].pos, cells[i + 1].pos);

    for (size_t i = 0; i < next_.size(); ++i) {
        ASSERT_EQ(testing::decode(ctx_.get(), {next_[i]}, static_cast<llama_pos>(kTokens + i)), 0);
        for (const float logit : testing::last_logits(ctx_.get()))
            ASSERT_TRUE(std::isfinite(logit)) << "token " << i;
    }
}

INSTANTIATE_TEST_SUITE_P(Models, Compactable,
                         ::testing::Values("mha", "mqa", "unequal_widths", "qwen2", "qwen3", "qwen2vl", "olmoe",
                                           "gemma2", "gemma3", "gpt_oss", "granite_hybrid", "falcon_h1", "qwen35"),
                         [](const auto& info) { return std::string(info.param); });

TEST(Latent, KeysAndValuesAreRefused) {
    const char* folder = std::getenv("KVFOLD_TINY_MODELS");
    ASSERT_TRUE(folder);
    const testing::ModelPtr model = testing::load_model_file(std::string(folder) + "/mla.gguf");
    ASSERT_TRUE(model);
    const auto map = probe_attention(model.get(), llama_context_default_params());
    ASSERT_FALSE(map);
    EXPECT_EQ(map.error().code, ErrorCode::unsupported);
    EXPECT_NE(map.error().message.find("MLA"), std::string::npos) << map.error().message;
}

} // namespace
} // namespace kvfold
