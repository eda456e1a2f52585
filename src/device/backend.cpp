#include "device/backend.h"

#include <string_view>

namespace kvfold::device {
namespace {

constexpr Index kProcessorBlock = Index{1} << 18; // floats: a block stays in the cache
constexpr Index kDeviceBlock = Index{1} << 26;    // 256 MiB

std::string_view kind_of(ggml_backend_dev_t device) {
    return ggml_backend_reg_name(ggml_backend_dev_backend_reg(device));
}

void set_threads(ggml_backend_t backend, ggml_backend_dev_t device, int threads) {
    using Set = void (*)(ggml_backend_t, int);
    const auto set = reinterpret_cast<Set>(ggml_backend_reg_get_proc_address(
        ggml_backend_dev_backend_reg(device), "ggml_backend_set_n_threads"));
    if (set) set(backend, threads);
}

} // namespace

bool is_processor(ggml_backend_dev_t device) {
    return ggml_backend_dev_type(device) == GGML_BACKEND_DEVICE_TYPE_CPU;
}

Result<std::unique_ptr<Backend>> Backend::open(ggml_backend_dev_t device, int threads, Operands operands) {
    // An RPC server is asked what it can compute, says yes to everything, and aborts on what it cannot.
    if (kind_of(device) == "RPC" || kind_of(device) == "Meta")
        return fail(ErrorCode::unsupported, "{} does not tell what it computes",
                    ggml_backend_dev_name(device));
    const ggml_backend_t backend = ggml_backend_dev_init(device, nullptr);
    if (!backend)
        return fail(ErrorCode::memory, "{} cannot be opened once more", ggml_backend_dev_name(device));
    set_threads(backend, device, threads);
    return std::unique_ptr<Backend>(new Backend(backend, operands));
}

Backend::Backend(ggml_backend_t backend, Operands operands)
    : backend_(backend), working_(ggml_gallocr_new(ggml_backend_get_default_buffer_type(backend))),
      operands_(operands) {}

Backend::~Backend() {
    ggml_gallocr_free(working_);
    ggml_backend_free(backend_);
}

void Backend::add_work(const Work& work) {
    work_.product_flop += work.product_flop;
    work_.other_bytes += work.other_bytes;
    work_.graphs += work.graphs;
    work_.nodes += work.nodes;
    work_.seconds += work.seconds;
}

void Backend::release_memory() {
    ggml_gallocr_free(working_);
    working_ = ggml_gallocr_new(ggml_backend_get_default_buffer_type(backend_));
}

std::string Backend::description() const { return ggml_backend_dev_name(ggml_backend_get_device(backend_)); }

Index Backend::block_floats() const {
    return is_processor(ggml_backend_get_device(backend_)) ? kProcessorBlock : kDeviceBlock;
}

size_t Backend::free_bytes() const {
    size_t free = 0, total = 0;
    ggml_backend_dev_memory(ggml_backend_get_device(backend_), &free, &total);
    return free;
}

} // namespace kvfold::device
