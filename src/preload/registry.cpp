#include "preload/registry.h"

#include "base/free_memory.h"
#include "base/limits.h"
#include "engine/archive_file.h"
#include "model/llama_check.h"
#include "model/probe.h"
#include "preload/environment.h"
#include "preload/heap.h"
#include "preload/log.h"
#include "preload/real.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <utility>

namespace kvfold::preload {

namespace {

// The settings of this process, taken out of the environment: programs that it starts are on their own.
Result<std::optional<launch::PreloadSettings>> take_settings() {
    const char* text = std::getenv(launch::kSettingsVariable);
    if (text == nullptr) return std::nullopt;
    const std::string json = text;
    ::unsetenv(launch::kSettingsVariable);
    leave_environment();
    KVFOLD_TRY(const launch::PreloadSettings settings, launch::from_json(json));
    return settings;
}

Result<Policy> policy_of(const launch::PreloadSettings& settings) {
    Policy policy;
    policy.automatic = settings.virtual_factor > 1 || settings.ratio.has_value();
    // Twice as far as the virtual size asks for, so that half of the cells stay for what is new.
    policy.ratio = settings.ratio.value_or(settings.virtual_factor > 1 ? 2.0 * settings.virtual_factor : 8.0);
    if (settings.method) {
        KVFOLD_TRY(policy.method, find_method(*settings.method));
    }
    if (settings.solve_on) {
        KVFOLD_TRY(policy.solve_on, solve_on_named(*settings.solve_on));
    }
    policy.high_water = settings.high_water.value_or(policy.high_water);
    policy.keep_first = settings.keep_first.value_or(policy.keep_first);
    policy.keep_last = settings.keep_last.value_or(policy.keep_last);
    return policy;
}

// From there on f16 cells were measured to lose more than q8_0 cells of the same memory
// (measure/advice_figures.h).
constexpr int kHighVirtual = 8;

// To a `factor`th of the cells, or as many as the sliding window needs.
void shrink(llama_context_params& params, uint32_t factor, uint32_t window, bool is_probe) {
    const uint32_t streams = params.kv_unified ? 1 : std::max(1u, params.n_seq_max);
    const uint32_t sharing = params.kv_unified ? std::max(1u, params.n_seq_max) : 1;
    uint32_t cells = std::max(1u, params.n_ctx / factor / streams); // of a stream
    // llama.cpp makes a sliding-window cache no larger than the other one, and positions go beyond that here.
    const uint32_t ubatch = std::min(params.n_ubatch == 0 ? params.n_batch : params.n_ubatch, params.n_batch);
    const uint32_t needed = window == 0 ? 0 : std::min(params.n_ctx / streams, window * sharing + ubatch);
    if (cells < needed) {
        if (!is_probe)
            log_info("{} cells instead of {}: the model's sliding window needs them", needed, cells);
        cells = needed;
    }
    params.n_ctx = cells * streams;
}

constexpr const char* kFreed = "the program has freed its context; a llama-server that sleeps does";

// For what the folds of a context replace.
size_t archive_bytes(const launch::PreloadSettings& settings) {
    constexpr size_t kMebibyte = 1 << 20;
    return settings.archive ? static_cast<size_t>(*settings.archive) * kMebibyte : default_archive_bytes();
}

} // namespace

Registry& Registry::get() {
    static Registry* const registry = new Registry; // never destroyed
    return *registry;
}

Registry::Registry() {
    const auto settings = take_settings();
    if (!settings) {
        log_error("{}; kvfold does nothing", settings.error().message);
        return;
    }
    if (!*settings) return; // preloaded by hand: nothing was asked for
    settings_ = **settings;
    const auto level = std::find(launch::kLogLevels.begin(), launch::kLogLevels.end(), settings_.log);
    set_log_level(static_cast<LogLevel>(level - launch::kLogLevels.begin()));
    const auto policy = policy_of(settings_);
    if (!policy) {
        log_error("{}; kvfold does nothing", policy.error().message);
        return;
    }
    policy_ = *policy;
    if (settings_.archive == 0 && settings_.archive_dir)
        log_warning("nothing is written to --archive-dir: --archive 0 keeps nothing to write");
    const Inside inside;
    Status fits = check_real();
    if (fits) fits = check_llama();
    if (!fits) {
        log_error("{}; kvfold does nothing", fits.error().message);
        return;
    }
    if (const std::string warning = untested_llama_warning(); !warning.empty()) log_warning("{}", warning);
    enabled_ = true;
    if (policy_.automatic) return_large_blocks();
}

void Registry::note_model(llama_model* model, const llama_model_params& params, const char* path) {
    const std::filesystem::path file = std::filesystem::path(path ? path : "").filename();
    const std::lock_guard lock(mutex_);
    without_weights_.erase(model); // an address can come back
    files_[model] = (file.extension() == ".gguf" ? file.stem() : file).string();
    if (model && (params.no_alloc || params.vocab_only)) without_weights_.insert(model);
}

// Whether it is to have fewer cells than the program asks for.
bool Registry::shrink_as_told(const llama_model* model, llama_context_params& params, bool is_probe) const {
    if (settings_.virtual_factor <= 1) return false;
    if (params.n_ctx == 0) params.n_ctx = static_cast<uint32_t>(llama_model_n_ctx_train(model));
    shrink(params, static_cast<uint32_t>(settings_.virtual_factor),
           static_cast<uint32_t>(std::max(0, llama_model_n_swa(model))), is_probe);
    return true;
}

// A program that watches the graph itself goes before: nothing is recalled then. folds: by itself; else a
// context is watched only, and nothing stands in its graph that nobody asked for.
void Registry::watch_queries(llama_context_params& params, bool folds, Plan& plan) const {
    const int wanted = settings_.recall.value_or(limits::kUsualRecall);
    const bool is_asked_for = settings_.recall.has_value();
    if (wanted == 0 || (!is_asked_for && !folds)) return;
    if (plan.sizes.archive_bytes == 0) {
        if (is_asked_for) log_warning("nothing is recalled: --archive 0 keeps nothing to recall");
        return;
    }
    if (params.cb_eval) {
        if (is_asked_for) log_warning("nothing is recalled: the program watches llama.cpp's graph itself");
        return;
    }
    plan.recalling.cells = static_cast<size_t>(wanted);
    plan.recalling.tap = std::make_shared<TapPlace>();
    params.cb_eval = &TapPlace::callback;
    params.cb_eval_user_data = plan.recalling.tap.get();
}

Registry::Plan Registry::prepare(llama_model* model, llama_context_params& params) {
    if (!enabled_) return {};
    Policy policy;
    bool is_first = false, is_probe = false;
    {
        const std::lock_guard lock(mutex_);
        policy = policy_;
        is_first = entries_.empty();
        is_probe = without_weights_.contains(model);
    }
    const bool generates = !params.embeddings && params.ctx_type == LLAMA_CONTEXT_TYPE_DEFAULT;
    if (is_probe)
        return {generates && shrink_as_told(model, params, is_probe) ? Verdict::probe : Verdict::pass, {}};
    const auto pass = [&](std::string reason) {
        log_info("context passed through: {}", reason);
        const std::lock_guard lock(mutex_);
        if (!entries_.empty()) return Plan();
        reason_ = std::move(reason);
        file_ = files_[model];
        return Plan();
    };
    if (!generates) return pass("it is not for generation from a context");
    const auto map = [&] { // without the lock: other contexts go on
        const Inside inside;
        return probe_attention(model, params);
    }();
    if (!map) return pass(map.error().message);
    Plan plan = {
        Verdict::manage,
        {.asked_batch = params.n_batch, .cell_bytes = bytes_of_cell(*map, params.type_k, params.type_v)}};
    plan.sizes.archive_bytes = archive_bytes(settings_);
    plan.sizes.archive_folder = settings_.archive_dir.value_or("");
    plan.recalling.map = *map;
    watch_queries(params, policy.automatic, plan);
    plan.sizes.virtual_factor = static_cast<uint32_t>(settings_.virtual_factor);
    shrink_as_told(model, params, is_probe);
    const uint32_t streams = params.kv_unified ? 1 : std::max(1u, params.n_seq_max);
    const uint32_t cells = params.n_ctx / streams;
    if (cells > 0 && settings_.recall && plan.recalling.cells >= cells)
        log_warning("nothing is recalled: {} cells have no room in {}; lower --recall", plan.recalling.cells,
                    cells);
    const Status fits = check_room(policy, cells);
    if (fits || params.n_ctx == 0) return plan;
    if (!is_first) return pass(fits.error().message); // the program can do without its folds
    log_error("{}", fits.error().message);
    return {Verdict::refuse, {}};
}

void Registry::manage(llama_context* ctx, llama_model* model, const llama_context_params& params,
                      const Plan& plan) {
    const std::lock_guard lock(mutex_);
    const Inside inside;
    const bool leads = entries_.empty();
    made_ = leads ? 1 : made_ + 1;
    ContextSizes sizes = plan.sizes;
    sizes.number = made_;
    if (!settings_.archive) sizes.archive_bytes = default_archive_bytes(); // of what its cells have left free
    const auto managed = std::make_shared<ManagedContext>(ctx, model, params, sizes, plan.recalling, policy_);
    if (leads && past_) managed->go_on(*std::exchange(past_, std::nullopt));
    reason_.clear();
    if (leads) file_ = files_[model];
    const auto trained = static_cast<uint32_t>(std::max(0, llama_model_n_ctx_train(model)));
    if (settings_.virtual_factor > 1 && trained > 0 && managed->told_n_ctx_seq() > trained)
        log_warning(
            "the model was trained for {} tokens, and {} are told: llama-server takes no more than the former, "
            "so only {} of {} cells are saved; give -c {}",
            trained, managed->told_n_ctx_seq(), trained - std::min(trained, managed->cells_of_a_sequence()),
            trained, trained);
    std::vector<char> name(256);
    llama_model_desc(model, name.data(), name.size());
    entries_.push_back({managed, llama_get_memory(ctx), name.data(), leads});
    if (settings_.virtual_factor > 1)
        log_info("{} cells serve as {}: folded {:g}x with {} when more than {:g} % are in use",
                 managed->cells(), managed->told_n_ctx(), policy_.ratio, policy_.method->name,
                 100 * policy_.high_water);
    else if (policy_.automatic)
        log_info("{} cells, folded {:g}x with {} when more than {:g} % are in use", managed->cells(),
                 policy_.ratio, policy_.method->name, 100 * policy_.high_water);
    else
        log_info("{} cells, watched only", managed->cells());
    if (settings_.virtual_factor >= kHighVirtual && params.type_k == GGML_TYPE_F16 &&
        can_have_cells(plan.recalling.map, GGML_TYPE_Q8_0))
        log_info(
            "q8_0 cells (-ctk q8_0 -ctv q8_0 -fa on) with half of --virtual keep more in the same memory: "
            "kvfold advise");
}

void Registry::release(llama_context* ctx) {
    std::shared_ptr<ManagedContext> gone;
    bool leads = false;
    {
        const std::lock_guard lock(mutex_);
        const auto entry = std::ranges::find(entries_, ctx, &Entry::ctx);
        if (entry == entries_.end()) return;
        leads = entry->leads;
        gone = std::move(entry->context);
        entries_.erase(entry);
    }
    const Policy policy = gone->policy();
    gone->close(); // the control thread may hold it still
    const std::lock_guard lock(mutex_);
    if (leads) {
        policy_ = policy;
        past_ = gone->journal();
    }
    if (entries_.empty()) reason_ = kFreed;
}

std::string Registry::file() const {
    const std::lock_guard lock(mutex_);
    return file_;
}

std::vector<Registry::Entry> Registry::entries() const {
    const std::lock_guard lock(mutex_);
    return entries_;
}

std::shared_ptr<ManagedContext> Registry::find(const llama_context* ctx) {
    if (Inside::now()) return nullptr;
    const std::lock_guard lock(mutex_);
    const auto entry = std::ranges::find(entries_, ctx, &Entry::ctx);
    return entry == entries_.end() ? nullptr : entry->context;
}

std::shared_ptr<ManagedContext> Registry::find(llama_memory_t memory) {
    if (Inside::now()) return nullptr;
    const std::lock_guard lock(mutex_);
    const auto entry = std::ranges::find(entries_, memory, &Entry::memory);
    return entry == entries_.end() ? nullptr : entry->context;
}

std::shared_ptr<ManagedContext> Registry::managed() {
    const std::lock_guard lock(mutex_);
    return entries_.empty() ? nullptr : entries_.front().context;
}

llama_pos Registry::pos_min(ManagedContext& asked, llama_seq_id seq_id, Original<llama_pos> original) {
    llama_pos smallest = asked.pos_min(seq_id, original);
    const std::vector<Entry> all = entries();
    if (smallest < 0 || all.size() < 2) return smallest;
    const std::vector<llama_token> tokens = asked.tokens(seq_id);
    for (const Entry& entry : all) {
        if (entry.context.get() == &asked) continue;
        const llama_pos first = entry.context->first_cut(seq_id, tokens);
        if (first > 0) smallest = std::max(smallest, first - 1 - asked.window());
    }
    return smallest;
}

// The locks of contexts are taken without this one's: a context holds its own while it decodes.
Json Registry::describe() {
    const std::vector<Entry> all = entries();
    if (all.empty()) {
        const std::lock_guard lock(mutex_);
        if (reason_.empty()) return nullptr;
        return {{"managed", false}, {"reason", reason_}, {"freed", reason_ == kFreed}, {"file", file_}};
    }
    Json about = all.front().context->describe();
    about.update(
        {{"model", all.front().model}, {"managed", true}, {"reason", ""}, {"others", Json::array()}});
    about["file"] = file();
    for (size_t i = 1; i < all.size(); ++i) {
        Json other = all[i].context->describe();
        const Json totals = all[i].context->state()["totals"];
        other.update(
            {{"model", all[i].model}, {"used_cells", totals["cells_used"]}, {"folds", totals["folds"]}});
        about["others"].push_back(std::move(other));
    }
    return about;
}

void Registry::hurry(bool is_so) {
    for (const Entry& entry : entries())
        entry.context->hurry(is_so);
}

double Registry::busy_s() const {
    double longest = 0;
    for (const Entry& entry : entries())
        longest = std::max(longest, entry.context->busy_s());
    return longest;
}

Status Registry::set_policy(const Policy& policy) {
    const std::vector<Entry> all = entries();
    if (all.empty()) return fail(ErrorCode::not_found, "there is no context");
    if (!policy.automatic && settings_.virtual_factor > 1)
        return fail(ErrorCode::invalid_argument,
                    "automatic: the program is told of {} times as many cells as there are, so kvfold has to "
                    "fold; start without --virtual to fold by hand",
                    settings_.virtual_factor);
    KVFOLD_CHECK(all.front().context->set_policy(policy));
    for (size_t i = 1; i < all.size(); ++i) {
        if (const Status status = all[i].context->set_policy(policy); !status)
            log_warning("context {} keeps its policy: {}", i + 1, status.error().message);
    }
    return {};
}

Json Registry::state() {
    if (const auto oldest = managed()) return oldest->state();
    const std::lock_guard lock(mutex_);
    Json state = past_.value_or(Journal()).state(/*cells_used=*/0);
    state.update({{"sequences", Json::array()}, {"used_cells", Json::array()}});
    return state;
}

} // namespace kvfold::preload
