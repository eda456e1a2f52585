// A cache that nobody has: sequences grow, the fullest is folded, speeds follow. For the dashboard's test and
// for looking at the page without a model.
#pragma once

#include "admin/control.h"

#include <chrono>
#include <map>
#include <mutex>

namespace kvfold::admin::testing {

enum class Scene {
    lively,         // four minutes in, going on in real time
    no_sequences,   // a context that holds nothing
    no_model,       // no context
    passed_through, // a context that kvfold leaves alone
    lost,           // nobody answers
};

class SimulatedCache : public Control {
  public:
    explicit SimulatedCache(Scene scene);
    Result<Json> ask(const Json& request) override;

  private:
    struct Sequence {
        int tokens = 0, folded_tokens = 0, folded_cells = 0, live = 0;
        int pinned = 4;
        bool folding = false;
        int cells() const { return pinned + folded_cells + live; }
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
    std::mutex mutex_;
    std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
    int now_ = 0; // seconds simulated
    std::map<int, Sequence> sequences_;
    Json policy_, history_ = Json::array(), folds_ = Json::array(), kept_;
    Json totals_;
    std::map<int, Json> jobs_;
};

} // namespace kvfold::admin::testing
