// Which device solves a layer, and the backends that the process has open on them.
#pragma once

#include "device/backend.h"

#include <array>
#include <mutex>
#include <string_view>

namespace kvfold {

enum class SolveOn {
    automatic, // the device that holds the layer's cache; what lies in the processor's memory it solves
               // itself, by Eigen
    processor, // all layers by Eigen
    device,    // all layers by ggml, those in the processor's memory too
};

// auto, cpu, device: in the order of SolveOn.
inline constexpr std::array<std::string_view, 3> kSolveOnNames = {"auto", "cpu", "device"};

// Fails with invalid_argument.
Result<SolveOn> solve_on_named(std::string_view name);

// Where the layers of a region were solved.
struct SolvedOn {
    size_t layers = 0, on_devices = 0; // of them, those that ggml solved
    std::string device;                // that solved the last of those
    std::string why_not;               // why the device of a layer did not solve it, where it should have
};

void add(SolvedOn& sum, const SolvedOn& more);

// "the processor", "CUDA0", "CUDA0 (16 layers) and the processor (4)", with the reason behind it where there
// is one.
std::string to_text(const SolvedOn& solved);

namespace device {

// The device that solves a layer whose cache `holder` holds (null: the processor's memory); null: Eigen does.
ggml_backend_dev_t solving_device(SolveOn where, ggml_backend_dev_t holder);

// A backend that nobody else uses meanwhile. A processor has one for each thread that asks, other devices
// have one, for which threads wait in turn: a second one would need as much memory again and would not be
// faster.
class Lease {
  public:
    // Fails as Backend::open does.
    static Result<Lease> of(ggml_backend_dev_t device);
    Lease(Lease&& other) noexcept;
    ~Lease();
    Lease& operator=(Lease&&) = delete;

    Backend& operator*() const { return *backend_; }

  private:
    Lease(ggml_backend_dev_t device, std::unique_ptr<Backend> backend);

    ggml_backend_dev_t device_;
    std::unique_ptr<Backend> backend_;
};

// Gives the working memory of all idle backends back; they stay open, which on some devices takes longer than
// a fold.
void release_memory();

} // namespace device
} // namespace kvfold
