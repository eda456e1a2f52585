#include "cli/session.h"

#include "base/file.h"
#include "base/format.h"
#include "cli/interrupt.h"
#include "engine/layers.h"
#include "engine/read_in_chunks.h"
#include "model/llama_check.h"
#include "state/live_sequence.h"

#include <algorithm>
#include <charconv>
#include <thread>

namespace kvfold::cli {

namespace {

constexpr uint32_t kBatch = 512;

tl::unexpected<Error> of_another_model(const std::string& path, const LoadedModel& model,
                                       const std::string& why) {
    return fail(ErrorCode::invalid_argument, "{}: slot file of another model than {}: {}", path, model.name,
                why);
}

Status check_slot(const LoadedModel& model, const SlotFile& slot, const std::string& path) {
    const KvSection& section = slot.state.sections.front();
    if (section.cells.empty()) return fail(ErrorCode::invalid_argument, "{}: holds no cells", path);
    if (const std::string other = differs_in_layers(model.map, section); !other.empty())
        return of_another_model(path, model, other);
    if ((slot.state.sections.size() > 1) != model.map.has_window)
        return of_another_model(path, model,
                                model.map.has_window ? "it has no sliding-window part"
                                                     : "it has a sliding-window part, the model has none");
    if (slot.state.recurrent.empty() == model.map.has_recurrent)
        return of_another_model(path, model, "only one of them has a recurrent state");
    const Status tokens = check_tokens(slot, llama_vocab_n_tokens(llama_model_get_vocab(model.model.get())));
    return tokens ? tokens : fail(tokens.error().code, "{}: {}", path, tokens.error().message);
}

// "FILE:SCALE", or "FILE", whose scale is 1. A colon that no number follows belongs to the name.
std::pair<std::string, float> file_and_scale(const std::string& given) {
    const size_t colon = given.rfind(':');
    if (colon == std::string::npos) return {given, 1.0f};
    float scale = 0;
    const char *begin = given.data() + colon + 1, *end = given.data() + given.size();
    const auto [at, error] = std::from_chars(begin, end, scale);
    if (error != std::errc() || at != end) return {given, 1.0f};
    return {given.substr(0, colon), scale};
}

// A context for the cells of a state has the types and the layout that they have.
void take_types(llama_context_params& params, const KvSection& section) {
    params.type_k = section.keys.front().type;
    params.type_v = section.values.front().type;
    if (section.values.front().transposed) params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
}

} // namespace

uint32_t LoadedModel::trained_context() const {
    return static_cast<uint32_t>(llama_model_n_ctx_train(model.get()));
}

Result<LoadedModel> open_model(const ModelOptions& options) {
    LoadedModel loaded;
    loaded.name = file_name(options.path);
    loaded.solve_on = options.solve_on;
    KVFOLD_TRY(loaded.model, load_model(options.path, options.gpu_layers));
    if (const std::string warning = untested_llama_warning(); !warning.empty())
        kvfold::print(stderr, "kvfold: {}\n", warning);
    llama_context_params& params = loaded.params;
    params = llama_context_default_params();
    const int processors = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
    params.n_threads = params.n_threads_batch = options.threads > 0 ? options.threads : processors;
    params.n_batch = params.n_ubatch = kBatch;
    params.n_seq_max = 1;
    params.swa_full = false; // as llama-server, which has to restore what is saved here
    params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_ENABLED;
    params.type_k = cache_type(options.keys);
    params.type_v = cache_type(options.values);
    params.abort_callback = stop_on_interrupt;
    Result<AttentionMap> map = probe_attention(loaded.model.get(), params);
    if (!map) return fail(map.error().code, "{}: {}", options.path, map.error().message);
    loaded.map = std::move(*map);
    for (const std::string& lora : options.loras) {
        const auto [file, scale] = file_and_scale(lora);
        KVFOLD_CHECK(load_lora(loaded.model.get(), file, scale, loaded.adapters));
    }
    for (const std::string& vector : options.control_vectors) {
        const auto [file, scale] = file_and_scale(vector);
        KVFOLD_CHECK(load_control_vector(loaded.model.get(), file, scale, loaded.adapters));
    }
    return loaded;
}

Result<std::vector<llama_token>> read_text(const LoadedModel& model, const std::string& path) {
    KVFOLD_TRY(const std::vector<uint8_t> bytes, read_file(path));
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    if (text.find('\0') != std::string_view::npos)
        return fail(ErrorCode::corrupt, "{}: is not a text (it has zero bytes)", path);
    std::vector<llama_token> tokens = tokenize(model.model.get(), text, /*add_bos=*/true, /*special=*/true);
    if (text.empty() || tokens.empty()) return fail(ErrorCode::invalid_argument, "{}: holds no text", path);
    return tokens;
}

Result<SlotFile> read_slot_for(const LoadedModel& model, const std::string& path) {
    KVFOLD_TRY(SlotFile slot, read_slot_file(path));
    KVFOLD_CHECK(check_slot(model, slot, path));
    return slot;
}

Result<SlotFile> read_full_slot_for(LoadedModel& model, const std::string& path) {
    KVFOLD_TRY(SlotFile slot, read_slot_for(model, path));
    const KvSection& section = slot.state.sections.front();
    if (section.cells.size() != slot.text.tokens.size())
        return fail(ErrorCode::invalid_argument,
                    "{}: holds {} tokens in {} cells, so it was folded before; make one with compact -r 1",
                    path, slot.text.tokens.size(), section.cells.size());
    take_types(model.params, section);
    return slot;
}

Result<Session> Session::open(const LoadedModel& model, uint32_t cells, const Keeping& keeping) {
    Session session;
    session.model_ = &model;
    session.keeping_ = keeping;
    session.params_ = model.params;
    session.params_.n_ctx = cells;
    KVFOLD_CHECK(session.create_context());
    return session;
}

// params_ stays as the contexts of a study are made: what listens is of this one alone.
Status Session::create_context() {
    llama_context_params params = params_;
    params.cb_eval = &TapPlace::callback;
    params.cb_eval_user_data = tap_.get();
    KVFOLD_TRY(ctx_, new_context(model_->model.get(), params, model_->adapters));
    return {};
}

Result<Session> Session::restore(const LoadedModel& model, SlotFile slot, uint32_t cells, uint32_t free_cells,
                                 const Keeping& keeping) {
    const KvSection& section = slot.state.sections.front();
    size_t held = 0; // a sliding window is not folded and may hold more than the compact section
    for (const KvSection& each : slot.state.sections)
        held = std::max(held, each.cells.size());
    if (cells != 0 && cells < held)
        return fail(ErrorCode::invalid_argument, "the state holds {} cells, more than -c {}; raise -c", held,
                    cells);
    Session session;
    session.model_ = &model;
    session.keeping_ = keeping;
    session.params_ = model.params;
    session.params_.n_ctx = cells != 0 ? cells : static_cast<uint32_t>(held) + free_cells;
    take_types(session.params_, section);
    KVFOLD_CHECK(session.create_context());
    session.streams_ = section.streams;
    KVFOLD_CHECK(write_sequence(session.ctx_.get(), 0, slot.state));
    session.tokens_ = std::move(slot.text.tokens);
    session.media_ = std::move(slot.text.media);
    session.cells_ = section.cells.size();
    return session;
}

size_t Session::room() const {
    const size_t all = llama_n_ctx(ctx_.get());
    return all > cells_ ? all - cells_ : 0;
}

Status Session::check_fits(size_t tokens) const {
    if (tokens <= room()) return {};
    return fail(ErrorCode::invalid_argument,
                "{} more tokens do not fit into a context of {} cells, {} of them in use", tokens,
                llama_n_ctx(ctx_.get()), cells_);
}

Status Session::append(std::span<const llama_token> tokens, Outputs outputs) {
    KVFOLD_CHECK(check_fits(tokens.size()));
    KVFOLD_CHECK(decode(tokens, outputs));
    cells_ += tokens.size();
    return {};
}

Status Session::read_text(std::span<const llama_token> tokens, const Method& method, ProgressBar& bar) {
    KVFOLD_CHECK(check_fits(tokens.size()));
    Hearing hearing(*tap_, model_->map.layers, tokens.size());
    KVFOLD_CHECK(decode(tokens, Outputs::none, &bar, method.study.reads(Source::tail) ? &hearing : nullptr));
    cells_ += tokens.size();
    heard_ = hearing.take();
    return {};
}

// Behind the tokens that are there, and remembers them.
Status Session::decode(std::span<const llama_token> tokens, Outputs outputs, ProgressBar* bar,
                       Hearing* hearing) {
    heard_ = {}; // it is of the newest tokens no longer
    for (size_t done = 0; done < tokens.size(); done += kBatch) {
        if (bar) bar->show("prefill", static_cast<double>(done) / static_cast<double>(tokens.size()));
        const auto chunk = tokens.subspan(done, std::min<size_t>(kBatch, tokens.size() - done));
        const bool newest = done + chunk.size() == tokens.size();
        const auto pos = static_cast<llama_pos>(tokens_.size() + done);
        const auto decode_it = [&] {
            return decode_tokens(ctx_.get(), chunk, pos, newest ? outputs : Outputs::none);
        };
        Status status = hearing ? hearing->read(chunk.size(), decode_it) : decode_it();
        if (status && interrupted() && !newest) status = fail(ErrorCode::cancelled, "cancelled");
        if (!status) {
            llama_memory_seq_rm(llama_get_memory(ctx_.get()), 0, static_cast<llama_pos>(tokens_.size()), -1);
            return status;
        }
    }
    tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
    return {};
}

CompactRequest Session::request_for(const Method& method, const Budget& budget, uint64_t seed,
                                    ProgressBar& bar) const {
    CompactRequest request;
    request.method = &method;
    request.budget = budget;
    request.tokens = tokens_;
    if (!heard_.layers.empty()) request.heard = &heard_;
    request.context = params_;
    request.adapters = model_->adapters;
    request.seed = seed;
    request.threads = model_->threads();
    request.solve_on = model_->solve_on;
    request.progress = bar.for_compaction();
    request.kept = keeping_.folds;
    return request;
}

Result<CompactReport> Session::compact(const Method& method, const Budget& budget, uint64_t seed,
                                       ProgressBar& bar) {
    KVFOLD_CHECK(drop_recalled());
    Result<CompactReport> report = compact_sequence(ctx_.get(), 0, request_for(method, budget, seed, bar));
    bar.clear();
    if (report) cells_ = report->cells_after;
    return report;
}

Result<CompactReport> Session::read_in_chunks(std::span<const llama_token> tokens, const Method& method,
                                              const Budget& budget, uint64_t seed, ProgressBar& bar) {
    CompactRequest whole = request_for(method, budget, seed, bar);
    whole.tokens = tokens;
    const auto append = [&](TokenSpan more) { return decode(more, Outputs::none, &bar); };
    Result<CompactReport> report = kvfold::read_in_chunks(ctx_.get(), 0, whole, append);
    bar.clear();
    if (report) cells_ = report->cells_after;
    return report;
}

Status Session::save(const std::string& path, uint32_t streams) const {
    KVFOLD_TRY(SequenceState state, read());
    for (KvSection& section : state.sections) {
        section.streams = streams > 0 ? streams : streams_;
        section.stream = 0;
    }
    return write_slot_file(path, {{tokens_, media_}, std::move(state)});
}

} // namespace kvfold::cli
