// A ggml device that solves, and memory on it.
#pragma once

#include "base/matrix.h"
#include "base/result.h"

#include <ggml-alloc.h>
#include <ggml-backend.h>

#include <functional>
#include <memory>
#include <string>

namespace kvfold::device {

// What becomes of the operands of a product before they are multiplied. Sums are always of single precision.
// Devices round as they like: those of 2020 and later keep 11 bits, some as halves with their small range.
// The processor does not, so tests and experiments ask it to.
enum class Operands { as_they_are, eleven_bits, halves };

// What graphs have computed: counted from their nodes.
struct Work {
    double product_flop = 0; // of matrix products
    double other_bytes = 0;  // that all other nodes read and write
    size_t graphs = 0, nodes = 0;
    double seconds = 0; // measured
};

// One backend instance: its own queue of work, so that decoding on the same device goes on. One thread at a
// time.
class Backend {
  public:
    // threads: of a processor's backend; other devices have none. Fails with unsupported for devices of which
    // ggml cannot tell what they compute (RPC, several devices as one); with memory when the device gives no
    // queue.
    static Result<std::unique_ptr<Backend>> open(ggml_backend_dev_t device, int threads,
                                                 Operands operands = Operands::as_they_are);
    ~Backend();
    Backend(const Backend&) = delete;
    Backend& operator=(const Backend&) = delete;

    ggml_backend_t get() const { return backend_; }
    ggml_gallocr_t working_memory() const { return working_; } // of one graph at a time
    Operands operands() const { return operands_; }
    std::string description() const;
    const Work& work() const { return work_; } // since it was opened
    void add_work(const Work& work);

    // Floats of logits that are worth holding at once: what stays in a processor's cache, or what keeps a
    // device busy.
    Index block_floats() const;

    size_t free_bytes() const; // that the device says it has

    // Asked before each graph: false stops what is solved, which fails with cancelled then. Empty: go on.
    void ask(std::function<bool()> goes_on) { goes_on_ = std::move(goes_on); }
    bool goes_on() const { return !goes_on_ || goes_on_(); }

    // Of the processor, for what it does for several heads between two graphs.
    void use_threads(int threads) { threads_ = threads; }
    int threads() const { return threads_; }

    void release_memory(); // REQUIRES: no graph is left

  private:
    Backend(ggml_backend_t backend, Operands operands);

    ggml_backend_t backend_;
    ggml_gallocr_t working_;
    Operands operands_;
    Work work_;
    std::function<bool()> goes_on_;
    int threads_ = 1;
};

bool is_processor(ggml_backend_dev_t device);

} // namespace kvfold::device
