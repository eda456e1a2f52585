// A cache that nobody has: sequences grow, the fullest is folded, speeds follow. For the dashboard's test and
// for looking at the page without a model.
#pragma once

#include "admin/control.h"

#include <chrono>
#include <map>
#include <memory>
#include <mutex>

namespace kvfold::admin::testing {

enum class Scene {
    lively,         // four minutes in, going on in real time
    draft,          // as lively, beside a draft model's context
    no_sequences,   // a context that holds nothing
    no_model,       // no context
    passed_through, // a context that kvfold leaves alone
    asleep,         // the program has freed its context
    lost,           // nobody answers
};

class SimulatedCache : public Control {
  public:
    explicit SimulatedCache(Scene scene, std::string model = "llama 135M Q4_1", int head_start_s = 240);
    const std::string& model() const { return model_; }
    std::string file() const { return model_.substr(0, model_.find(' ')) + "-q4"; }
    Result<Json> ask(const Json& request) override;

  private:
    struct Sequence {
        int tokens = 0, folded_tokens = 0, folded_cells = 0, recalled = 0, live = 0;
        int pinned = 4;
        bool folding = false;
        int cells() const { return pinned + folded_cells + recalled + live; }
    };

    void catch_up();
    void second();
    void note_second(bool generating);
    void fold(int id, const std::string& method, double ratio, const std::string& error);
    int cells_used() const;
    Json state() const;
    Json compact(const Json& request);
    static Json methods();
    Json job(const Json& request);

    Scene scene_;
    std::string model_;
    int head_start_s_;
    std::mutex mutex_;
    std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
    int now_ = 0; // seconds simulated
    std::map<int, Sequence> sequences_;
    Json policy_, history_ = Json::array(), folds_ = Json::array(), kept_;
    Json totals_;
    std::map<int, Json> jobs_;
};

// The processes of a router, numbered from kFirstProcess on. Each has a cache and its own scene.
class SimulatedProcesses : public Control {
  public:
    static constexpr int kFirstProcess = 4001;

    void add(Scene scene, const std::string& model, int head_start_s);
    void end(int process);
    Result<Json> ask(const Json& request) override;

  private:
    std::mutex mutex_;
    std::map<int, std::shared_ptr<SimulatedCache>> caches_;
    int last_ = kFirstProcess - 1;
};

} // namespace kvfold::admin::testing
