#include "device/devices.h"

#include "base/format.h"
#include "base/mutex.h"

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <vector>

namespace kvfold {

Result<SolveOn> solve_on_named(std::string_view name) {
    const auto found = std::ranges::find(kSolveOnNames, name);
    if (found != kSolveOnNames.end()) return static_cast<SolveOn>(found - kSolveOnNames.begin());
    return fail(ErrorCode::invalid_argument, "nothing is solved on '{}'; give one of {}", name,
                joined(kSolveOnNames, ", "));
}

void add(SolvedOn& sum, const SolvedOn& more) {
    sum.layers += more.layers;
    sum.on_devices += more.on_devices;
    if (!more.device.empty()) sum.device = more.device;
    if (!more.why_not.empty()) sum.why_not = more.why_not;
}

std::string to_text(const SolvedOn& solved) {
    constexpr std::string_view kProcessor = "the processor";
    if (solved.layers == 0) return "";
    std::string text = solved.on_devices == 0 ? std::string(kProcessor) : solved.device;
    if (solved.on_devices > 0 && solved.on_devices < solved.layers)
        text += kvfold::format(" ({} layers) and {} ({})", solved.on_devices, kProcessor,
                               solved.layers - solved.on_devices);
    if (!solved.why_not.empty()) text += ": " + solved.why_not;
    return text;
}

namespace device {
namespace {

struct Open {
    ggml_backend_dev_t device;
    std::unique_ptr<Backend> idle; // null while it is leased
};

// Lives as long as the process: devices may be gone when static objects are destroyed.
struct Pool {
    std::mutex mutex;
    std::condition_variable given_back;
    std::vector<Open> open;
};

Pool& pool() {
    static Pool* const pool = new Pool;
    return *pool;
}

// For tests and experiments on a processor, which rounds nothing by itself.
Operands chosen_operands() {
    const char* const given = std::getenv("KVFOLD_ROUND_OPERANDS");
    const std::string_view name = given ? given : "";
    return name == "11" ? Operands::eleven_bits : name == "f16" ? Operands::halves : Operands::as_they_are;
}

} // namespace

ggml_backend_dev_t solving_device(SolveOn where, ggml_backend_dev_t holder) {
    if (where == SolveOn::processor) return nullptr;
    if (holder && !is_processor(holder)) return holder;
    return where == SolveOn::device ? ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU) : nullptr;
}

Result<Lease> Lease::of(ggml_backend_dev_t device) {
    Pool& all = pool();
    std::unique_lock lock(all.mutex);
    const auto is_of_device = [&](const Open& open) { return open.device == device; };
    for (;;) {
        const auto idle =
            std::ranges::find_if(all.open, [&](const Open& open) { return is_of_device(open) && open.idle; });
        if (idle != all.open.end()) return Lease(device, std::move(idle->idle));
        if (is_processor(device) || std::ranges::none_of(all.open, is_of_device)) break;
        all.given_back.wait(lock);
    }
    KVFOLD_TRY(auto backend, Backend::open(device, /*threads=*/1, chosen_operands()));
    all.open.push_back({device, nullptr});
    return Lease(device, std::move(backend));
}

Lease::Lease(ggml_backend_dev_t device, std::unique_ptr<Backend> backend)
    : device_(device), backend_(std::move(backend)) {}

Lease::Lease(Lease&& other) noexcept : device_(other.device_), backend_(std::move(other.backend_)) {}

Lease::~Lease() {
    if (!backend_) return;
    backend_->ask({});
    backend_->use_threads(1);
    Pool& all = pool();
    const std::lock_guard lock(all.mutex);
    const auto place = std::ranges::find_if(
        all.open, [&](const Open& open) { return open.device == device_ && !open.idle; });
    place->idle = std::move(backend_);
    all.given_back.notify_all(); // others wait for other devices
}

void release_memory() {
    Pool& all = pool();
    const std::lock_guard lock(all.mutex);
    for (Open& open : all.open)
        if (open.idle) open.idle->release_memory();
}

} // namespace device
} // namespace kvfold
