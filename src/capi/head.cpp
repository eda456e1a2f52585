// Attention matching for one head on plain arrays: nothing here calls llama.cpp.
#include "capi/answer.h"

#include "solve/kernels.h"
#include "solve/plans.h"

#include <cstddef>

namespace {

using namespace kvfold;
using namespace kvfold::capi;

constexpr size_t kLeastHead = sizeof(kvfold_head), kLeastResult = sizeof(kvfold_head_result);
static_assert(offsetof(kvfold_head, n_pinned) + sizeof(size_t) == sizeof(kvfold_head));
static_assert(offsetof(kvfold_head_result, mass_error) + sizeof(double) == sizeof(kvfold_head_result));
constexpr const char* kSetSize = "set it to the struct's sizeof first";

MatrixView rows_of(const float* data, size_t rows, size_t cols) {
    const auto width = static_cast<Index>(cols);
    return Eigen::Map<const Matrix, 0, Eigen::OuterStride<>>(data, static_cast<Index>(rows), width,
                                                             Eigen::OuterStride<>(width));
}

Status check_pointers(const kvfold_head& head, const kvfold_head_result& result) {
    KVFOLD_CHECK(check_pointer(head.keys, "keys"));
    KVFOLD_CHECK(check_pointer(head.values, "values"));
    KVFOLD_CHECK(check_pointer(head.queries, "queries"));
    if (head.n_pinned > 0) KVFOLD_CHECK(check_pointer(head.pinned, "pinned"));
    KVFOLD_CHECK(check_pointer(result.cells, "result.cells"));
    KVFOLD_CHECK(check_pointer(result.keys, "result.keys"));
    return check_pointer(result.values, "result.values");
}

Result<CompactHead> solve(const kvfold_head& head, size_t kept) {
    KVFOLD_TRY(const SolvePlan plan, find_plan(head.method ? head.method : "refine"));
    const HeadProblem problem = {rows_of(head.keys, head.n_cells, head.key_width),
                                 rows_of(head.values, head.n_cells, head.value_width),
                                 rows_of(head.queries, head.n_queries, head.key_width), head.scale,
                                 head.softcap};
    KVFOLD_TRY(const Kernels* kernels, chosen_kernels());
    return kernels->solve_head(problem, plan, {static_cast<Index>(kept), {head.pinned, head.n_pinned}, {}});
}

} // namespace

kvfold_error kvfold_head_solve(const kvfold_head* head, size_t kept, kvfold_head_result* result) {
    return answer([&]() -> Status {
        KVFOLD_TRY(const kvfold_head given, read_struct(head, kvfold_head{}, kLeastHead, "head", kSetSize));
        KVFOLD_CHECK(check_pointer(result, "result"));
        const size_t room = result->struct_size;
        KVFOLD_CHECK(check_size<kvfold_head_result>(room, kLeastResult, "result", kSetSize));
        kvfold_head_result found = {};
        std::memcpy(&found, result, std::min(room, sizeof found));
        KVFOLD_CHECK(check_pointers(given, found));
        KVFOLD_TRY(const CompactHead compact, solve(given, kept));
        std::copy(compact.kept.begin(), compact.kept.end(), found.cells);
        std::copy_n(compact.keys.data(), compact.keys.size(), found.keys);
        std::copy_n(compact.values.data(), compact.values.size(), found.values);
        found.absorb_residual = compact.absorb_residual;
        found.output_error = compact.output_error;
        found.mass_error = compact.mass_error;
        write_struct(result, found, room);
        return {};
    });
}
