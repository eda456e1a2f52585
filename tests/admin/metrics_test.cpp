// The Prometheus text, to the letter.
#include "admin/fake_control.h"
#include "admin/metrics.h"

#include <set>
#include <sstream>

namespace kvfold::admin::testing {
namespace {

std::set<std::string> lines_of(const std::string& text) {
    std::set<std::string> lines;
    std::istringstream stream(text);
    for (std::string line; std::getline(stream, line);)
        EXPECT_TRUE(lines.insert(line).second) << "twice: " << line;
    return lines;
}

TEST_F(AdminTest, MetricsAreThereWithTheirTypes) {
    start();
    const auto answer = client().Get("/metrics");
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->status, 200);
    EXPECT_EQ(answer->get_header_value("Content-Type"), "text/plain; version=0.0.4; charset=utf-8");
    const auto lines = lines_of(answer->body);
    for (const char* line : {
             "# TYPE kvfold_cells gauge",
             "kvfold_cells{state=\"used\"} 950",
             "kvfold_cells{state=\"free\"} 1098",
             "kvfold_cells{state=\"virtual\"} 8192",
             "# TYPE kvfold_folds_total counter",
             "kvfold_folds_total 3",
             "kvfold_fold_failures_total 1",
             "kvfold_study_seconds_total 1.5",
             "kvfold_solve_seconds_total 2.25",
             "kvfold_swap_seconds_total 0.05",
             "kvfold_waits_total 5",
             "kvfold_wait_seconds_total 0.8",
             "# TYPE kvfold_longest_pause_seconds gauge",
             "kvfold_longest_pause_seconds 0.5",
             "kvfold_tokens_decoded_total 9000",
             "kvfold_rereads_total 2",
             "kvfold_sequence_tokens{id=\"0\"} 3000",
             "kvfold_sequence_tokens{id=\"2\"} 50",
             "kvfold_sequence_cells{id=\"0\"} 900",
             "kvfold_sequence_cells{id=\"2\"} 50",
             "kvfold_sequence_tokens_known{id=\"0\"} 1",
             "kvfold_sequence_tokens_known{id=\"2\"} 0",
         })
        EXPECT_TRUE(lines.contains(line)) << line << "\n" << answer->body;
}

TEST(Metrics, EverySampleFollowsItsHelpAndType) {
    std::istringstream stream(metrics_text(some_state()));
    std::string helped, typed;
    int samples = 0;
    for (std::string line; std::getline(stream, line);) {
        std::istringstream words(line);
        std::string first, second, third;
        words >> first >> second >> third;
        if (first == "#" && second == "HELP") {
            helped = third;
        } else if (first == "#" && second == "TYPE") {
            typed = third;
        } else {
            const std::string metric = first.substr(0, first.find('{'));
            EXPECT_EQ(metric, helped);
            EXPECT_EQ(metric, typed);
            ++samples;
        }
    }
    EXPECT_EQ(samples, 3 + 10 + 3 * 2);
}

TEST(Metrics, LargeCountsKeepTheirDigits) {
    Json state = some_state();
    state["totals"]["tokens_decoded"] = 123456789012;
    EXPECT_TRUE(lines_of(metrics_text(state)).contains("kvfold_tokens_decoded_total 123456789012"));
}

TEST(Metrics, WithoutAContextEverythingIsZero) {
    const auto lines = lines_of(metrics_text(Json::parse(R"({"context":null,"sequences":[],"totals":{}})")));
    EXPECT_TRUE(lines.contains("kvfold_cells{state=\"free\"} 0"));
    EXPECT_TRUE(lines.contains("kvfold_folds_total 0"));
    for (const std::string& line : lines)
        EXPECT_FALSE(line.starts_with("kvfold_sequence_")) << line;
}

TEST(Metrics, FieldsThatAreMissingOrOddAreNoReasonToFail) {
    EXPECT_TRUE(lines_of(metrics_text(Json::object())).contains("kvfold_waits_total 0"));
    EXPECT_TRUE(lines_of(metrics_text(Json::parse(R"({"totals":{"waits":"many"},"sequences":[1]})")))
                    .contains("kvfold_sequence_cells{id=\"0\"} 0"));
}

} // namespace
} // namespace kvfold::admin::testing
