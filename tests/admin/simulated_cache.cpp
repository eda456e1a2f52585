#include "admin/simulated_cache.h"

#include <algorithm>
#include <cmath>

namespace kvfold::admin::testing {
namespace {

constexpr int kCells = 2048, kVirtualCells = 8192, kCellBytes = 23040;
constexpr int kLayers = 30, kBins = 64;
constexpr size_t kMostFolds = 50, kMostSamples = 600;

// Some number from 0 to 1 that always is the same for the same a and b.
double noise(int a, int b) {
    const double x = std::sin(a * 12.9898 + b * 78.233) * 43758.5453;
    return x - std::floor(x);
}

double speed_at(int cells, int second) { return 64 - 0.021 * cells + 3 * noise(second, 1); }

Json kept_pattern(int fold) {
    Json layers = Json::array();
    for (int layer = 0; layer < kLayers; ++layer) {
        Json bins = Json::array();
        for (int bin = 0; bin < kBins; ++bin) {
            const double peak = noise(bin / 2, fold) > 0.8 ? 0.35 : 0;
            const double recent = 0.25 * std::exp(-(kBins - bin) / 12.0) * (layer > 8 ? 1 : 0.3);
            const double share =
                0.03 + peak * (0.4 + noise(layer, bin)) + recent + 0.12 * noise(layer + 7, bin * fold);
            bins.push_back(std::min(1.0, share));
        }
        layers.push_back(bins);
    }
    return layers;
}

Json error(int code, const std::string& message) {
    return {{"error", {{"code", code}, {"message", message}}}};
}

bool is_lively(Scene scene) { return scene == Scene::lively || scene == Scene::draft; }

Json others_of(Scene scene) {
    if (scene != Scene::draft) return Json::array();
    const Json draft = {{"model", "llama 15M F16"},
                        {"cells", kCells},
                        {"virtual_cells", kVirtualCells},
                        {"used_cells", 1234},
                        {"folds", 3}};
    return Json::array({draft});
}

} // namespace

SimulatedCache::SimulatedCache(Scene scene, std::string model, int head_start_s)
    : scene_(scene), model_(std::move(model)), head_start_s_(head_start_s) {
    policy_ = {{"ratio", 8.0},    {"method", "refine"}, {"high_water", 0.75},
               {"keep_first", 4}, {"keep_last", 256},   {"automatic", true}};
    totals_ = {{"folds", 0},
               {"failures", 0},
               {"study_s", 0.0},
               {"solve_s", 0.0},
               {"swap_s", 0.0},
               {"waits", 0},
               {"wait_s", 0.0},
               {"rereads", 0},
               {"longest_pause_s", 0.0},
               {"tokens_decoded", 0},
               {"taken_back", 0},
               {"archive_bytes", 0},
               {"archive_budget", 2e9},
               {"recalls", 0},
               {"recall_s", 0.0}};
    if (is_lively(scene_))
        for (int i = 0; i < head_start_s_; ++i)
            second();
}

int SimulatedCache::cells_used() const {
    int cells = 0;
    for (const auto& [id, sequence] : sequences_)
        cells += sequence.cells();
    return cells;
}

void SimulatedCache::catch_up() {
    if (!is_lively(scene_)) return;
    const auto passed = std::chrono::steady_clock::now() - started_;
    const int due = head_start_s_ + static_cast<int>(std::chrono::duration<double>(passed).count());
    while (now_ < due)
        second();
}

// One second: prompts arrive, two of the sequences generate, and the fullest is folded when the cache is
// full.
void SimulatedCache::second() {
    ++now_;
    const auto add = [&](int id, int tokens) {
        sequences_[id].tokens += tokens;
        sequences_[id].live += tokens;
        totals_["tokens_decoded"] = totals_["tokens_decoded"].get<int>() + tokens;
    };
    if (now_ == 1) add(0, 420);
    if (now_ == 45) add(1, 310);
    if (now_ == 130) add(2, 190);
    if (now_ > 60 && now_ % 40 == 0) add(0, 120);
    const bool generating = now_ % 26 > 3;
    const int speed = static_cast<int>(speed_at(cells_used(), now_));
    if (generating) add(0, speed / 3);
    if (generating && sequences_.contains(1) && now_ % 3 != 0) add(1, speed / 5);
    if (generating && sequences_.contains(2) && now_ % 90 > 60) add(2, speed / 8);
    note_second(generating);

    if (cells_used() < kCells * policy_["high_water"].get<double>()) return;
    const auto fullest =
        std::max_element(sequences_.begin(), sequences_.end(),
                         [](const auto& a, const auto& b) { return a.second.live < b.second.live; });
    if (folds_.size() == 2 && totals_["failures"] == 0)
        fold(fullest->first, "self_study", 8,
             "no memory for a scratch context of 2304 cells; lower keep_last or the ratio");
    fold(fullest->first, folds_.size() % 4 == 3 ? "self_study" : "refine", policy_["ratio"], "");
}

void SimulatedCache::note_second(bool generating) {
    int tokens = 0;
    for (const auto& [id, sequence] : sequences_)
        tokens += sequence.tokens;
    const double speed = generating ? speed_at(cells_used(), now_) : 0;
    history_.push_back({{"t", now_}, {"tokens", tokens}, {"cells", cells_used()}, {"tok_s", speed}});
    if (history_.size() > kMostSamples) history_.erase(0);
    if (!folds_.empty() && generating && folds_.back()["error"] == "" &&
        folds_.back()["decode_after_tok_s"] == 0)
        folds_.back()["decode_after_tok_s"] = speed;
}

void SimulatedCache::fold(int id, const std::string& method, double ratio, const std::string& why_not) {
    Sequence& sequence = sequences_[id];
    const int before = sequence.cells(), keep = policy_["keep_last"];
    const int folded = std::max(0, sequence.live - keep);
    const double study = 0.4 + folded / 900.0, solve = 0.5 + folded / 1100.0,
                 swap = 0.02 + 0.02 * noise(now_, 2);
    Json entry = {{"t", now_},
                  {"id_slot", id},
                  {"method", method},
                  {"from", 4},
                  {"to", sequence.tokens - keep},
                  {"cells_before", before},
                  {"study_s", study},
                  {"solve_s", solve},
                  {"swap_s", swap},
                  {"figures", method == "self_study" ? Json{{"drafts thrown away", 1234}} : Json::object()},
                  {"error", why_not},
                  {"decode_before_tok_s", speed_at(cells_used(), now_)},
                  {"decode_after_tok_s", 0.0}};
    const auto count = [&](const char* name, double more) {
        totals_[name] = totals_[name].get<double>() + more;
    };
    if (why_not.empty()) {
        sequence.folded_tokens += folded;
        sequence.recalled = 16;
        sequence.folded_cells = static_cast<int>(std::lround((sequence.folded_cells + folded) / ratio));
        sequence.live -= folded;
        totals_["folds"] = totals_["folds"].get<int>() + 1;
        count("study_s", study);
        count("solve_s", solve);
        count("swap_s", swap);
        totals_["longest_pause_s"] = std::max(totals_["longest_pause_s"].get<double>(), 0.3 + swap);
        kept_ = {{"id_slot", id},
                 {"from", 4},
                 {"to", entry["to"]},
                 {"layers", kept_pattern(static_cast<int>(folds_.size()) + 1)}};
    } else {
        totals_["failures"] = totals_["failures"].get<int>() + 1;
    }
    entry["cells_after"] = sequence.cells();
    folds_.push_back(entry);
    if (folds_.size() > kMostFolds) folds_.erase(0);
}

Json SimulatedCache::state() const {
    Json state = {{"uptime_s", now_},  {"context", nullptr},        {"policy", policy_},
                  {"totals", totals_}, {"history", history_},       {"folds", folds_},
                  {"kept", kept_},     {"sequences", Json::array()}};
    state["totals"]["cells_used"] = cells_used();
    if (scene_ == Scene::passed_through || scene_ == Scene::asleep) {
        const bool freed = scene_ == Scene::asleep;
        state["context"] = {{"managed", false},
                            {"freed", freed},
                            {"reason", freed ? "it sleeps" : "its layers are <recurrent>"}};
    } else if (scene_ != Scene::no_model)
        state["context"] = {{"model", model_},          {"cells", kCells}, {"virtual_cells", kVirtualCells},
                            {"cell_bytes", kCellBytes}, {"n_seq_max", 4},  {"unified", true},
                            {"managed", true},          {"reason", ""},    {"others", others_of(scene_)}};
    for (const auto& [id, sequence] : sequences_)
        state["sequences"].push_back({{"id", id},
                                      {"tokens", sequence.tokens},
                                      {"cells", sequence.cells()},
                                      {"pinned", sequence.pinned},
                                      {"folded_cells", sequence.folded_cells},
                                      {"recalled_cells", sequence.recalled},
                                      {"folded_tokens", sequence.folded_tokens},
                                      {"live_cells", sequence.live},
                                      {"tokens_known", id != 2},
                                      {"folding", sequence.folding}});
    return state;
}

Json SimulatedCache::compact(const Json& request) {
    const int id = request["id_slot"];
    if (!sequences_.contains(id)) return error(404, "slot " + std::to_string(id) + " holds nothing");
    const std::string method = request.value("method", policy_["method"].get<std::string>());
    const double ratio = request.value("ratio", policy_["ratio"].get<double>());
    if (method == "keep_first")
        return error(400, "keep_first is a baseline; the simulation does not have it");
    const int before = sequences_[id].cells();
    fold(id, method, ratio, "");
    const int after = sequences_[id].cells();
    const int job = static_cast<int>(jobs_.size()) + 1;
    jobs_[job] = {{"success", true},
                  {"method", method},
                  {"compacted_tokens", after},
                  {"original_tokens", before},
                  {"compression_ratio", before / static_cast<double>(after)},
                  {"compaction_time_ms", 1300}};
    return {{"job", job}};
}

// Names that no method of kvfold has, so that the page cannot know them.
Json SimulatedCache::methods() {
    Json list = Json::array();
    for (const char* name : {"refine", "self_study", "select", "keep_first", "squeeze"})
        list.push_back({{"name", name}, {"advice", std::string("what ") + name + " is good for"}});
    return {{"methods", list}};
}

Json SimulatedCache::job(const Json& request) {
    const auto found = jobs_.find(request["job"].get<int>());
    if (found == jobs_.end()) return error(404, "no such job");
    return {{"done", true}, {"result", found->second}};
}

Result<Json> SimulatedCache::ask(const Json& request) {
    const std::lock_guard lock(mutex_);
    if (scene_ == Scene::lost) return fail(ErrorCode::io, "llama-server has ended with status 1");
    catch_up();
    const std::string op = request.at("op");
    if (op == "state") return state();
    if (op == "methods") return methods();
    if (op == "compact") return compact(request);
    if (op == "job") return job(request);
    for (const auto& [name, value] : request.items())
        if (policy_.contains(name)) policy_[name] = value;
    return Json{{"policy", policy_}};
}

void SimulatedProcesses::add(Scene scene, const std::string& model, int head_start_s) {
    const std::lock_guard lock(mutex_);
    caches_[++last_] = std::make_shared<SimulatedCache>(scene, model, head_start_s);
}

void SimulatedProcesses::end(int process) {
    const std::lock_guard lock(mutex_);
    caches_.erase(process);
}

Result<Json> SimulatedProcesses::ask(const Json& request) {
    const std::lock_guard lock(mutex_);
    if (request.at("op") == "processes" || request.at("op") == "states") {
        Json list = Json::array();
        for (const auto& [number, cache] : caches_) {
            KVFOLD_TRY(const Json state, cache->ask({{"op", "state"}}));
            Json entry = {{"pid", number},
                          {"program", "llama-server"},
                          {"file", cache->file()},
                          {"model", cache->model()}};
            if (request.at("op") == "states")
                entry["state"] = state;
            else
                entry.update({{"answers", true}, {"busy_s", 0.0}});
            list.push_back(entry);
        }
        return Json{{"processes", list}};
    }
    if (caches_.empty()) return fail(ErrorCode::llama, "no process has loaded llama.cpp yet");
    const int number = request.value("process", caches_.begin()->first);
    if (!caches_.contains(number)) return error(404, "no process " + std::to_string(number));
    KVFOLD_TRY(Json answer, caches_[number]->ask(request));
    if (answer.contains("job")) answer["process"] = number;
    return answer;
}

} // namespace kvfold::admin::testing
