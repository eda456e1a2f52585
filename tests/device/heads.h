// Synthetic heads on ggml's processor backend, or on the device that KVFOLD_TEST_DEVICE names.
#pragma once

#include "device/attention.h"
#include "device/solve_heads.h"
#include "reference/naive_head.h"
#include "reference/synthetic_head.h"
#include "solve/attention.h"
#include "solve/solve_head.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <vector>

namespace kvfold::device {

inline ggml_backend_dev_t test_device() {
    const char* const name = std::getenv("KVFOLD_TEST_DEVICE");
    static const bool loads_backends = [name] {
        if (name) ggml_backend_load_all();
        return true;
    }();
    (void)loads_backends;
    return name ? ggml_backend_dev_by_name(name) : ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
}

inline std::unique_ptr<Backend> test_backend(Operands operands = Operands::as_they_are) {
    auto backend = Backend::open(test_device(), /*threads=*/1, operands);
    if (!backend) throw std::runtime_error(backend.error().message);
    return *std::move(backend);
}

// A device may round what a processor does not.
inline bool device_rounds() { return std::getenv("KVFOLD_TEST_DEVICE") != nullptr; }

// The part by which a product of two operands may be wrong on the device.
inline float rounding(Operands operands = Operands::as_they_are) {
    if (operands != Operands::as_they_are || device_rounds()) return 1.0f / (1 << 10);
    return 1.0f / (1 << 20); // sums of some hundred floats
}

struct TestHeads {
    explicit TestHeads(reference::SyntheticSizes sizes, Index count = 2, float softcap = 0) {
        for (Index i = 0; i < count; ++i) {
            heads.push_back(reference::synthetic_head(sizes));
            ++sizes.seed;
        }
        for (const reference::SyntheticHead& head : heads)
            problems.push_back(head.problem(softcap));
    }

    std::vector<reference::SyntheticHead> heads; // not moved once problems refer to them
    std::vector<HeadProblem> problems;
};

inline Status upload(HeadTensors& held, const TestHeads& test) {
    return upload(held, pack_heads(test.problems, held.sizes, /*threads=*/1), 0);
}

inline Result<std::vector<CompactHead>> solve(Backend& backend, const TestHeads& test, const SolvePlan& plan,
                                              const SolveRequest& request) {
    KVFOLD_TRY(const PreparedHeads held, prepare_heads(test.problems, plan, request));
    return solve_heads(backend, held, plan, request);
}

// ||actual - wanted|| / ||wanted||
template <class A, class B> double relative(const A& actual, const B& wanted) {
    return (actual.template cast<double>() - wanted.template cast<double>()).norm() /
           wanted.template cast<double>().norm();
}

// The part of one head in what was read of a tensor, as rows of `width`.
inline Matrix head_of(const std::vector<float>& all, size_t head, Index rows, Index width) {
    return Eigen::Map<const Matrix>(&all[head * static_cast<size_t>(rows * width)], rows, width);
}

} // namespace kvfold::device
