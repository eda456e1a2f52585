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
    for (
        const char* line : {
            "# TYPE kvfold_up gauge",
            "kvfold_up{process=\"123\",file=\"tiny\",model=\"llama 135M Q4_1\"} 1",
            "# TYPE kvfold_cells gauge",
            "kvfold_cells{process=\"123\",file=\"tiny\",model=\"llama 135M Q4_1\",state=\"used\"} 950",
            "kvfold_cells{process=\"123\",file=\"tiny\",model=\"llama 135M Q4_1\",state=\"free\"} 1098",
            "kvfold_cells{process=\"123\",file=\"tiny\",model=\"llama 135M Q4_1\",state=\"virtual\"} 8192",
            "# TYPE kvfold_folds_total counter",
            "kvfold_folds_total{process=\"123\",file=\"tiny\",model=\"llama 135M Q4_1\"} 3",
            "kvfold_fold_failures_total{process=\"123\",file=\"tiny\",model=\"llama 135M Q4_1\"} 1",
            "kvfold_study_seconds_total{process=\"123\",file=\"tiny\",model=\"llama 135M Q4_1\"} 1.5",
            "kvfold_solve_seconds_total{process=\"123\",file=\"tiny\",model=\"llama 135M Q4_1\"} 2.25",
            "kvfold_swap_seconds_total{process=\"123\",file=\"tiny\",model=\"llama 135M Q4_1\"} 0.05",
            "kvfold_waits_total{process=\"123\",file=\"tiny\",model=\"llama 135M Q4_1\"} 5",
            "kvfold_wait_seconds_total{process=\"123\",file=\"tiny\",model=\"llama 135M Q4_1\"} 0.8",
            "# TYPE kvfold_longest_pause_seconds gauge",
            "kvfold_longest_pause_seconds{process=\"123\",file=\"tiny\",model=\"llama 135M Q4_1\"} 0.5",
            "kvfold_tokens_decoded_total{process=\"123\",file=\"tiny\",model=\"llama 135M Q4_1\"} 9000",
            "kvfold_rereads_total{process=\"123\",file=\"tiny\",model=\"llama 135M Q4_1\"} 2",
            "kvfold_taken_back_total{process=\"123\",file=\"tiny\",model=\"llama 135M Q4_1\"} 7",
            "kvfold_recalls_total{process=\"123\",file=\"tiny\",model=\"llama 135M Q4_1\"} 11",
            "kvfold_recall_seconds_total{process=\"123\",file=\"tiny\",model=\"llama 135M Q4_1\"} 0.25",
            "kvfold_archive_bytes{process=\"123\",file=\"tiny\",model=\"llama 135M Q4_1\"} 800000",
            "# TYPE kvfold_archive_budget_bytes gauge",
            "kvfold_archive_budget_bytes{process=\"123\",file=\"tiny\",model=\"llama 135M Q4_1\"} 1000000",
            "kvfold_sequence_tokens{process=\"123\",file=\"tiny\",model=\"llama 135M Q4_1\",id=\"0\"} 3000",
            "kvfold_sequence_tokens{process=\"123\",file=\"tiny\",model=\"llama 135M Q4_1\",id=\"2\"} 50",
            "kvfold_sequence_cells{process=\"123\",file=\"tiny\",model=\"llama 135M Q4_1\",id=\"0\"} 900",
            "kvfold_sequence_cells{process=\"123\",file=\"tiny\",model=\"llama 135M Q4_1\",id=\"2\"} 50",
            "kvfold_sequence_tokens_known{process=\"123\",file=\"tiny\",model=\"llama 135M Q4_1\",id=\"0\"} 1",
            "kvfold_sequence_tokens_known{process=\"123\",file=\"tiny\",model=\"llama 135M Q4_1\",id=\"2\"} 0",
        })
        EXPECT_TRUE(lines.contains(line)) << line << "\n" << answer->body;
}

TEST(Metrics, EverySampleFollowsItsHelpAndType) {
    const Json processes = {some_process(some_state(), 1), some_process(some_state(), 2),
                            some_process(nullptr, 3)};
    std::istringstream stream(metrics_text(processes));
    std::set<std::string> described;
    std::string helped, typed;
    int samples = 0;
    for (std::string line; std::getline(stream, line);) {
        std::istringstream words(line);
        std::string first, second, third;
        words >> first >> second >> third;
        if (first == "#" && second == "HELP") {
            helped = third;
            EXPECT_TRUE(described.insert(third).second) << third; // once, whatever the number of processes
        } else if (first == "#" && second == "TYPE") {
            typed = third;
        } else {
            const std::string metric = first.substr(0, first.find('{'));
            EXPECT_EQ(metric, helped);
            EXPECT_EQ(metric, typed);
            ++samples;
        }
    }
    EXPECT_EQ(samples, 3 + 2 * (3 + 17 + 3 * 2));
}

// The text of one process whose model has no name.
std::string text_of(const Json& state) { return metrics_text({{{"pid", 7}, {"state", state}}}); }

TEST(Metrics, LargeCountsKeepTheirDigits) {
    Json state = some_state();
    state["totals"]["tokens_decoded"] = 123456789012;
    EXPECT_TRUE(
        lines_of(text_of(state))
            .contains("kvfold_tokens_decoded_total{process=\"7\",file=\"\",model=\"\"} 123456789012"));
}

TEST(Metrics, WithoutAContextEverythingIsZero) {
    const auto lines = lines_of(text_of(valid_json(R"({"context":null,"sequences":[],"totals":{}})")));
    EXPECT_TRUE(lines.contains("kvfold_cells{process=\"7\",file=\"\",model=\"\",state=\"free\"} 0"));
    EXPECT_TRUE(lines.contains("kvfold_folds_total{process=\"7\",file=\"\",model=\"\"} 0"));
    for (const std::string& line : lines)
        EXPECT_FALSE(line.starts_with("kvfold_sequence_")) << line;
}

TEST(Metrics, FieldsThatAreMissingOrOddAreNoReasonToFail) {
    EXPECT_TRUE(lines_of(text_of(Json::object()))
                    .contains("kvfold_waits_total{process=\"7\",file=\"\",model=\"\"} 0"));
    EXPECT_TRUE(lines_of(text_of(valid_json(R"({"totals":{"waits":"many"},"sequences":[1],"context":[]})")))
                    .contains("kvfold_sequence_cells{process=\"7\",file=\"\",model=\"\",id=\"0\"} 0"));
    EXPECT_TRUE(lines_of(metrics_text(valid_json(R"([5,{"model":5,"state":{}}])")))
                    .contains("kvfold_up{process=\"0\",file=\"\",model=\"\"} 1"));
}

TEST(Metrics, AProcessThatDoesNotAnswerIsDownAndHidesNoOther) {
    Json other = some_state();
    other["totals"]["folds"] = 9;
    const auto lines = lines_of(metrics_text({some_process(nullptr, 1), some_process(other, 2)}));
    EXPECT_TRUE(lines.contains("kvfold_up{process=\"1\",file=\"tiny\",model=\"llama 135M Q4_1\"} 0"));
    EXPECT_TRUE(lines.contains("kvfold_up{process=\"2\",file=\"tiny\",model=\"llama 135M Q4_1\"} 1"));
    EXPECT_TRUE(
        lines.contains("kvfold_folds_total{process=\"2\",file=\"tiny\",model=\"llama 135M Q4_1\"} 9"));
    EXPECT_FALSE(
        lines.contains("kvfold_folds_total{process=\"1\",file=\"tiny\",model=\"llama 135M Q4_1\"} 0"));
}

TEST(Metrics, LabelsAreEscaped) {
    Json process = some_process(some_state());
    process["model"] = "a\"b\\c\nd{e}";
    EXPECT_TRUE(lines_of(metrics_text(Json::array({process})))
                    .contains(R"(kvfold_up{process="123",file="tiny",model="a\"b\\c\nd{e}"} 1)"));
}

} // namespace
} // namespace kvfold::admin::testing
