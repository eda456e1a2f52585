// A sequence of a real model to compact, and how far one set of logits is from another.
#pragma once

#include "base/file.h"
#include "engine/compact.h"
#include "support/divergence.h"
#include "support/llama_fixture.h"
#include "support/snapshot.h"

#include <algorithm>

namespace kvfold::testing {

// With a small study, for tests of all but a method's quality.
inline Method quick(Method method) {
    method.study.least_tokens = 0;
    method.budget = 0; // the plans as written, which tests make smaller
    return method;
}

inline const Method& quick_method() {
    static const Method method = quick(default_method());
    return method;
}

inline CompactRequest request_for(const std::vector<llama_token>& tokens, double ratio,
                                  const Method& method = default_method()) {
    CompactRequest request;
    request.method = &method;
    request.budget.ratio = ratio;
    request.tokens = tokens;
    request.context = one_thread();
    request.threads = 1;
    return request;
}

// Bit for bit the same cells, from the same study.
inline void expect_same_compaction(const CompactState& a, const CompactState& b) {
    EXPECT_EQ(encode_sequence(a.state), encode_sequence(b.state));
    EXPECT_EQ(a.report.study_tokens, b.report.study_tokens);
    ASSERT_EQ(a.report.heads.size(), b.report.heads.size());
    for (size_t i = 0; i < a.report.heads.size(); ++i) {
        EXPECT_EQ(a.report.heads[i].kept, b.report.heads[i].kept);
        EXPECT_EQ(a.report.heads[i].output_error, b.report.heads[i].output_error);
    }
}

// What a fit strategy reports under this name.
inline double figure(const CompactReport& report, std::string_view name) {
    const auto found = std::ranges::find(report.figures, name, &Figure::name);
    EXPECT_NE(found, report.figures.end()) << "no figure " << name;
    return found == report.figures.end() ? 0 : found->value;
}

// The first tokens of a real text.
inline std::vector<llama_token> prose(const llama_model* model, size_t count) {
    const std::filesystem::path path =
        std::filesystem::path(__FILE__).parent_path() / "../../bench/texts/prose.txt";
    const auto bytes = read_file(path);
    EXPECT_TRUE(bytes) << bytes.error().message;
    if (!bytes) return {};
    auto tokens = tokenize(model, std::string(bytes->begin(), bytes->end()));
    EXPECT_GE(tokens.size(), count);
    tokens.resize(count);
    return tokens;
}

using LogitRows = std::vector<std::vector<float>>;

// Logits after each of the tokens, which are removed again; none when decoding fails.
inline LogitRows forced_logits(llama_context* ctx, const std::vector<llama_token>& tokens, llama_pos first,
                               llama_seq_id seq_id = 0) {
    LogitRows rows;
    const SequenceState before = snapshot_of(ctx, seq_id); // a window cannot be rolled back by position
    for (size_t i = 0; i < tokens.size(); ++i) {
        if (decode(ctx, {tokens[i]}, first + static_cast<llama_pos>(i), seq_id) != 0) return {};
        rows.push_back(last_logits(ctx));
    }
    EXPECT_TRUE(write_sequence(ctx, seq_id, before));
    return rows;
}

inline double mean_kl(const LogitRows& p, const LogitRows& q) {
    EXPECT_EQ(p.size(), q.size());
    double sum = 0;
    for (size_t i = 0; i < std::min(p.size(), q.size()); ++i)
        sum += kl_divergence(p[i], q[i]) / static_cast<double>(p.size());
    return sum;
}

} // namespace kvfold::testing
