// The tap on real models: what it copies is what the attention nodes compute with.
#include "study/query_tap.h"

#include "study/model_sequence.h"

#include <ggml-backend.h>

#include <cmath>

namespace kvfold {
namespace {

using testing::ContextPtr;

constexpr Index kRead = 48;

// Stands between llama.cpp and the tap: counts what the tap asks for and copies what the nodes give.
struct Witness {
    QueryTap tap;
    int wanted = 0;
    std::vector<Matrix> outputs = {}; // [tokens, heads * dv] of each node the tap wanted, in graph order

    static bool callback(ggml_tensor* node, bool ask, void* witness) {
        auto* self = static_cast<Witness*>(witness);
        const bool answer = QueryTap::callback(node, ask, &self->tap);
        if (ask && answer) ++self->wanted;
        if (!ask) { // ggml: ne = [dv, heads, tokens]
            Matrix output(node->ne[2], node->ne[0] * node->ne[1]);
            ggml_backend_tensor_get(node, output.data(), 0, ggml_nbytes(node));
            self->outputs.push_back(std::move(output));
        }
        return answer;
    }
};

ContextPtr watched_context(const testing::StudiedModel& studied, Witness& witness) {
    llama_context_params params = llama_context_default_params();
    params.n_ctx = params.n_batch = params.n_ubatch = 256;
    params.n_threads = params.n_threads_batch = 1;
    params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_ENABLED;
    params.cb_eval = Witness::callback;
    params.cb_eval_user_data = &witness;
    return ContextPtr(llama_init_from_model(studied.model.get(), params));
}

// Causal attention in double precision: row i of q sees keys 0 .. i. -> [tokens, heads * dv]
Matrix naive_attention(const Matrix& q, const Matrix& k, const Matrix& v, const AttentionLayer& layer) {
    const Index d = layer.key_width, dv = layer.value_width, group = layer.heads / layer.kv_heads;
    Matrix output(q.rows(), layer.heads * dv);
    for (Index head = 0; head < layer.heads; ++head) {
        const Index kv = head / group;
        for (Index i = 0; i < q.rows(); ++i) {
            Eigen::VectorXd weights(i + 1);
            for (Index j = 0; j <= i; ++j)
                weights[j] = layer.scale * q.row(i)
                                               .segment(head * d, d)
                                               .cast<double>()
                                               .dot(k.row(j).segment(kv * d, d).cast<double>());
            if (layer.softcap > 0) weights = layer.softcap * (weights / layer.softcap).array().tanh();
            weights = (weights.array() - weights.maxCoeff()).exp();
            weights /= weights.sum();
            output.row(i).segment(head * dv, dv) =
                (weights.transpose() * v.block(0, kv * dv, i + 1, dv).cast<double>()).cast<float>();
        }
    }
    return output;
}

double relative_error(const Matrix& a, const Matrix& b) { return (a - b).norm() / a.norm(); }

class QueryTapOn : public ::testing::TestWithParam<const char*> {};

// Few tests with several steps each: loading the model takes most of the time.
TEST_P(QueryTapOn, QueriesAndCachedCellsGiveTheModelsAttention) {
    const testing::StudiedModel studied = testing::studied_model(GetParam());
    ASSERT_FALSE(studied.map.layers.empty());
    Witness witness{QueryTap(studied.map.layers, kRead)};
    const ContextPtr ctx = watched_context(studied, witness);
    ASSERT_TRUE(ctx);
    witness.tap.open(true);
    ASSERT_EQ(testing::decode(ctx.get(), testing::filler_tokens(studied.model.get(), kRead), 0), 0);
    const SequenceState state = testing::snapshot_of(ctx.get());
    const Study study = witness.tap.take();

    ASSERT_EQ(study.layers.size(), studied.map.layers.size());
    ASSERT_EQ(witness.outputs.size(), studied.map.layers.size());
    EXPECT_EQ(study.tokens(), kRead);
    for (size_t i = 0; i < studied.map.layers.size(); ++i) {
        const AttentionLayer& layer = studied.map.layers[i];
        SCOPED_TRACE(layer.layer);
        const Matrix& q = study.layers[i].rows;
        ASSERT_EQ(q.rows(), kRead);
        ASSERT_EQ(q.cols(), layer.heads * layer.key_width);
        const Matrix k = to_float(state.sections[0].keys[i]), v = to_float(state.sections[0].values[i]);
        ASSERT_EQ(k.cols(), layer.kv_heads * layer.key_width);
        // The model rounds queries, probabilities and sums to f16: 2^-11, and some of them add up.
        EXPECT_LT(relative_error(witness.outputs[i], naive_attention(q, k, v, layer)), 5e-3);

        AttentionLayer other = layer; // broken twins: another scale, queries of the neighbours
        other.scale *= 1.5f;
        EXPECT_GT(relative_error(witness.outputs[i], naive_attention(q, k, v, other)), 2e-2);
        Matrix shifted = q;
        shifted.topRows(kRead - 1) = q.bottomRows(kRead - 1);
        EXPECT_GT(relative_error(witness.outputs[i], naive_attention(shifted, k, v, layer)), 2e-2);
    }
}

TEST_P(QueryTapOn, DeclinesWhenClosedOrFullAndCountsItsRows) {
    const testing::StudiedModel studied = testing::studied_model(GetParam());
    ASSERT_FALSE(studied.map.layers.empty());
    Witness witness{QueryTap(studied.map.layers, kRead)};
    const ContextPtr ctx = watched_context(studied, witness);
    ASSERT_TRUE(ctx);
    const auto tokens = testing::filler_tokens(studied.model.get(), 30);
    ASSERT_EQ(testing::decode(ctx.get(), tokens, 0), 0);
    EXPECT_EQ(witness.wanted, 0);
    EXPECT_EQ(witness.tap.tokens_filled(), 0);

    witness.tap.open(true);
    ASSERT_EQ(testing::decode(ctx.get(), tokens, 30), 0);
    EXPECT_EQ(static_cast<size_t>(witness.wanted), studied.map.layers.size());
    EXPECT_EQ(witness.tap.tokens_filled(), 30);
    ASSERT_EQ(testing::decode(ctx.get(), tokens, 60), 0); // 60 rows are more than was announced
    EXPECT_EQ(witness.tap.tokens_filled(), 30);

    EXPECT_EQ(witness.tap.take().tokens(), 30);
    const int wanted = witness.wanted;
    ASSERT_EQ(testing::decode(ctx.get(), tokens, 90), 0); // nothing left to fill
    EXPECT_EQ(witness.wanted, wanted);
    EXPECT_EQ(witness.tap.tokens_filled(), 0);
}

INSTANTIATE_TEST_SUITE_P(Models, QueryTapOn, ::testing::Values("KVFOLD_PLAIN_MODEL", "KVFOLD_WINDOW_MODEL"),
                         [](const auto& info) { return std::string(info.param + sizeof "KVFOLD"); });

TEST(Probe, FindsEveryLayerOfSmolLM2) {
    const testing::StudiedModel studied = testing::studied_model("KVFOLD_PLAIN_MODEL");
    EXPECT_FALSE(studied.map.has_window);
    EXPECT_FALSE(studied.map.has_recurrent);
    ASSERT_EQ(studied.map.layers.size(), 30u);
    for (size_t i = 0; i < 30; ++i) {
        const AttentionLayer& layer = studied.map.layers[i];
        EXPECT_EQ(layer.layer, static_cast<int>(i));
        EXPECT_EQ(layer.heads, 9);
        EXPECT_EQ(layer.kv_heads, 3);
        EXPECT_EQ(layer.key_width, 64);
        EXPECT_EQ(layer.value_width, 64);
        EXPECT_FLOAT_EQ(layer.scale, 0.125f);
        EXPECT_EQ(layer.softcap, 0);
        EXPECT_EQ(layer.alibi, 0);
    }
}

TEST(Probe, FindsOnlyTheGlobalLayersOfGemma3) {
    const testing::StudiedModel studied = testing::studied_model("KVFOLD_WINDOW_MODEL");
    EXPECT_TRUE(studied.map.has_window);
    EXPECT_FALSE(studied.map.has_recurrent);
    ASSERT_EQ(studied.map.layers.size(), 3u); // every sixth of 18
    for (size_t i = 0; i < 3; ++i) {
        const AttentionLayer& layer = studied.map.layers[i];
        EXPECT_EQ(layer.layer, static_cast<int>(6 * i + 5));
        EXPECT_EQ(layer.heads, 4);
        EXPECT_EQ(layer.kv_heads, 1);
        EXPECT_EQ(layer.key_width, 256);
        EXPECT_EQ(layer.value_width, 256);
    }
}

} // namespace
} // namespace kvfold
